//! How the client ends: exit codes, and what is said on standard error.

use jiff::tz::TimeZone;

use crate::wire::text::Speller;
use crate::wire::{Notice, Refusal};

/// An exit code.
#[allow(missing_docs, reason = "the line of a variant says it all")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Logged out in order.
    Ok = 0,
    /// Anything without a code of its own.
    Other = 1,
    /// Wrong arguments.
    Usage = 2,
    /// Nobody answers at that address and port.
    CannotConnect = 3,
    /// Unknown name, wrong password, no token.
    LoginRefused = 4,
    /// The name is locked after wrong passwords.
    LoginBlocked = 5,
    /// Logged in elsewhere.
    AlreadyOnline = 6,
    /// Silent for too long.
    TimedOut = 7,
    /// `client send`: the recipient cannot get the message.
    RecipientRefused = 8,
    /// Not a server of ours, or one that speaks another language.
    Protocol = 9,
    /// The server was stopped.
    Stopped = 10,
    /// `client get`: not registered, no such chunk, or chunks that nobody gives.
    NotFetched = 11,
    /// Ctrl-C, without an orderly log-out.
    Interrupted = 130,
}

/// The end of the program: its code, and for every code but 0 an error with a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The exit code.
    pub code: Code,
    /// What went wrong.
    pub error: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl End {
    /// An end that is an error.
    pub fn error(code: Code, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, error: error.into(), hint: hint.into() }
    }

    pub(super) fn ok() -> Self {
        Self::error(Code::Ok, "", "")
    }

    /// The end that a line of the server announces, if it announces one.
    pub(super) fn by(notice: &Notice) -> Option<Self> {
        Some(match notice {
            Notice::Goodbye => Self::ok(),
            Notice::TooManyNames => {
                Self::error(Code::LoginRefused, "three unknown names in a row", "ask for an account")
            }
            Notice::JustLocked { seconds: 0 } => {
                Self::error(Code::LoginBlocked, "three wrong passwords in a row", "start again")
            }
            Notice::JustLocked { seconds } | Notice::StillLocked { seconds } => {
                let hint = format!("wait {seconds} s, then try again");
                Self::error(Code::LoginBlocked, "the account is blocked after wrong passwords", hint)
            }
            Notice::AlreadyOnline { user, .. } => {
                let hint = "log out there first, or wait until that session times out";
                Self::error(Code::AlreadyOnline, format!("{user} is logged in elsewhere"), hint)
            }
            Notice::TimedOut { seconds } => {
                let hint = "log in again; messages wait for you";
                Self::error(Code::TimedOut, format!("logged out after {seconds} s without a command"), hint)
            }
            Notice::FellSilent { seconds } => {
                let error = format!("logged out after {seconds} s without a sign of life");
                Self::error(Code::TimedOut, error, "log in again; messages wait for you")
            }
            Notice::TakenOver => {
                let hint = "if that was not you, somebody else knows your password";
                Self::error(Code::AlreadyOnline, "logged in from another place", hint)
            }
            Notice::LoginTimedOut => {
                Self::error(Code::TimedOut, "the log-in took too long", "have name and password ready, then try again")
            }
            Notice::Stopping => Self::error(Code::Stopped, "the server was stopped", "try again later"),
            Notice::Full => Self::error(Code::Other, "the server is full", "try again later"),
            Notice::Crowded => Self::error(Code::Other, "too many connections wait to log in", "try again later"),
            Notice::TooSlow => {
                let hint = "log in again; what was not shown waits for you";
                Self::error(Code::Other, "the output was read too slowly", hint)
            }
            _ => return None,
        })
    }

    pub(super) fn cannot_connect(why: &str) -> Self {
        Self::error(Code::CannotConnect, why, "is the server running, and on this address and port?")
    }

    pub(super) fn no_greeting(why: &str) -> Self {
        let error = format!("the server did not answer the greeting: {why}");
        Self::error(Code::Protocol, error, "is this the port of a chinwag server?")
    }

    pub(super) fn not_understood(line: &str) -> Self {
        let line: String = line.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect();
        let error = format!("the server said what this client does not understand: {line}");
        Self::error(Code::Protocol, error, "is this the port of a chinwag server, and of the same version?")
    }

    pub(super) fn broken(why: &str) -> Self {
        Self::error(Code::Other, format!("the connection broke: {why}"), "log in again; what was stored still waits")
    }

    pub(super) fn given_up(millis: i64, why: &str) -> Self {
        let error = format!("the connection could not be had back for {} s: {why}", millis / 1000);
        Self::error(Code::Other, error, "log in again later; what was stored still waits")
    }

    pub(super) fn no_farewell(by_interrupt: bool) -> Self {
        let code = if by_interrupt { Code::Interrupted } else { Code::Other };
        Self::error(code, "the server did not confirm the log-out", "it will notice that you have left")
    }

    pub(super) fn no_output(why: &str) -> Self {
        Self::error(Code::Other, format!("the output cannot be written: {why}"), "what was not shown comes again")
    }

    pub(super) fn interrupted() -> Self {
        Self::error(Code::Interrupted, "interrupted", "")
    }

    pub(super) fn input_too_short(refused: bool, person: bool) -> Self {
        match (refused, person) {
            (true, _) => Self::error(Code::LoginRefused, "not logged in", "check name and password"),
            (false, true) => Self::ok(),
            (false, false) => {
                let hint = "the first two lines of the input are name and password";
                Self::error(Code::Other, "the input ended before the log-in", hint)
            }
        }
    }

    pub(super) fn not_resumed() -> Self {
        let error = "the session could not be resumed without the password";
        Self::error(Code::LoginRefused, error, "log in again; lines without an answer may have to be sent again")
    }

    /// The end of `client send` or `client get` which, or whose log-in, was refused.
    pub(super) fn refused(code: Code, refusal: Refusal) -> Self {
        Self::error(code, Self::spell(&Notice::Refused(refusal)), "nothing was sent")
    }

    /// The end of `client get` for which there is nothing to fetch.
    pub(super) fn not_fetched(refusal: Refusal) -> Self {
        Self::error(Code::NotFetched, Self::spell(&Notice::Refused(refusal)), "nothing was fetched")
    }

    pub(super) fn wrong_password(tries: u8) -> Self {
        Self::error(
            Code::LoginRefused,
            Self::spell(&Notice::WrongPassword { tries }),
            "check CHINWAG_PASSWORD or --password-file",
        )
    }

    /// The words of a notice without a time.
    fn spell(notice: &Notice) -> String {
        let mut bytes = Vec::new();
        Speller::new(TimeZone::UTC).spell(notice, &mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        text.trim_end().trim_start_matches("Error. ").to_owned()
    }
}

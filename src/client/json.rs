//! `--json`: every event as one object on a line of its own.
//!
//! Every object has `"event"`; the other fields by event. `user`, `from` and `to` are names.
//! Times (`sent`, `seen`, `since`) are RFC 3339 in UTC. `?` marks a field that may be missing.
//!
//! | event | fields |
//! |---|---|
//! | `welcome` | `user`: who we are |
//! | `said` | `number`: rises, unique in a store, 0 for a broadcast; `from`; `text`; `sent`; `road`: `live`, `mail` (stored before) or `again` (stored, perhaps repeated) |
//! | `said-general`, `said-group` | the same; with `group` |
//! | `waiting` | `count`: so many stored messages follow |
//! | `stored` | `to`; `seen`?: when he was last online |
//! | `some-skipped` | none: a broadcast did not reach somebody |
//! | `arrived`, `left` | `user` |
//! | `names` | `users`: a list; a long list comes in several objects |
//! | `nobody` | none: the list is empty |
//! | `blocked`, `unblocked`, `never-online` | `user` |
//! | `online` | `user`; `since`; `idle`: milliseconds |
//! | `offline` | `user`; `seen` |
//! | `help` | `command`?, `text`: as people read it |
//! | `refused` | `reason`: a word such as `invalid-user` or `mailbox-full`; `text`: as people read it |
//! | `done` | `line`: all answers to this line of the input have come, counted from 1 after the log-in |
//! | `new-user` | `user`: the name is free, the next line becomes its password |
//! | `wrong-password` | `tries`: so many are left |
//! | `locked`, `still-locked` | `seconds` |
//! | `already-online` | `user`; `idle`: milliseconds |
//! | `too-many-names`, `full`, `crowded`, `too-slow`, `login-timed-out`, `stopping`, `goodbye` | none: the server closes |
//! | `timed-out` | `seconds`: the server closes |
//! | `connection-lost` | `reason`: the client tries to get it back |
//! | `connection-back` | `after`: milliseconds |
//! | `password-again` | none: the session was not resumed |

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::state::Shown;
use crate::wire::control;
use crate::wire::text::Speller;
use crate::wire::{Letter, Notice, Road, Scope};

/// The object for one thing to be shown, if it has one.
pub(super) fn object(shown: &Shown) -> Option<String> {
    Some(match shown {
        Shown::Notice(notice, _) => of_notice(notice)?,
        Shown::Done(line) => Object::event("done").number("line", *line).close(),
        Shown::Lost(reason) => Object::event("connection-lost").text("reason", reason).close(),
        Shown::Back(millis) => Object::event("connection-back").number("after", *millis).close(),
        Shown::PasswordAgain => Object::event("password-again").close(),
    })
}

fn of_notice(notice: &Notice) -> Option<String> {
    // The tag of the control line is the name of the event.
    let mut line = Vec::new();
    control::encode(notice, &mut line);
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split_whitespace();
    let tag = words.next()?;
    let object = Object::event(tag);
    Some(match notice {
        Notice::Hello { .. } | Notice::Done(_) | Notice::Pong | Notice::AskName | Notice::AskPassword => return None,
        Notice::Said(Letter { number, from, text, sent, road, scope, .. }) => {
            let road = match road {
                Road::Live => "live",
                Road::Mail => "mail",
                Road::Again => "again",
            };
            let object = match scope {
                Scope::Plain | Scope::General => object,
                Scope::Group(group) => object.text("group", group.as_str()),
            };
            let object = object.number("number", *number).text("from", from.as_str()).text("text", text.as_str());
            object.time("sent", *sent).text("road", road).close()
        }
        Notice::Stored { to, seen } => {
            let object = object.text("to", to.as_str());
            seen.map_or_else(|| object.clone(), |seen| object.clone().time("seen", seen.wall)).close()
        }
        Notice::Waiting { count } => object.number("count", *count).close(),
        Notice::Names(users) => object.list("users", users.iter().map(|user| user.as_str())).close(),
        Notice::Online { user, since, idle } => {
            object.text("user", user.as_str()).time("since", since.wall).number("idle", *idle).close()
        }
        Notice::Offline { user, seen } => object.text("user", user.as_str()).time("seen", seen.wall).close(),
        Notice::AlreadyOnline { user, idle } => object.text("user", user.as_str()).number("idle", *idle).close(),
        Notice::Welcome { user, .. }
        | Notice::Arrived(user)
        | Notice::Left(user)
        | Notice::Blocked(user)
        | Notice::Unblocked(user)
        | Notice::NeverOnline(user)
        | Notice::NewUser(user) => object.text("user", user.as_str()).close(),
        Notice::WrongPassword { tries } => object.number("tries", *tries).close(),
        Notice::JustLocked { seconds } | Notice::StillLocked { seconds } | Notice::TimedOut { seconds } => {
            object.number("seconds", *seconds).close()
        }
        Notice::Refused(_) => object.text("reason", words.next()?).text("text", &in_words(notice)).close(),
        Notice::Help(command) => object.text("command", command.name).text("text", &in_words(notice)).close(),
        Notice::HelpAll => object.text("text", &in_words(notice)).close(),
        _ => object.close(),
    })
}

fn in_words(notice: &Notice) -> String {
    let mut bytes = Vec::new();
    Speller::new(TimeZone::UTC).spell(notice, &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end().trim_start_matches("Error. ").to_owned()
}

/// An object that is being written.
#[derive(Debug, Clone)]
struct Object(String);

impl Object {
    fn event(name: &str) -> Self {
        Self("{".to_owned()).text("event", name)
    }

    fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        self.string(value);
        self
    }

    fn number(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    fn time(self, key: &str, wall: i64) -> Self {
        let time = Timestamp::from_millisecond(wall).unwrap_or_default().to_string();
        self.text(key, &time)
    }

    fn list<'a>(mut self, key: &str, values: impl Iterator<Item = &'a str>) -> Self {
        self.key(key);
        self.0.push('[');
        for (at, value) in values.enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            self.string(value);
        }
        self.0.push(']');
        self
    }

    fn close(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn key(&mut self, key: &str) {
        if !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.string(key);
        self.0.push(':');
    }

    /// A string as RFC 8259 wants it: quotes, backslashes and control characters escaped.
    fn string(&mut self, value: &str) {
        self.0.push('"');
        for c in value.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\t' => self.0.push_str("\\t"),
                '\0'..='\x1f' => {
                    let _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                _ => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ago;
    use crate::wire::Refusal;
    use crate::wire::name::{Text, UserName};

    fn hans() -> UserName {
        UserName::parse("\"h\\").expect("a name")
    }

    #[test]
    fn strings_are_escaped_and_times_are_utc() {
        let letter = Letter {
            number: 7,
            from: hans(),
            text: Text::harmless("a \"b\"\t\\ \u{e9}"),
            sent: 1_700_000_000_123,
            road: Road::Mail,
            scope: Scope::Plain,
            receipt: false,
        };
        assert_eq!(
            object(&Shown::Notice(Notice::Said(letter), 0)).as_deref(),
            Some(concat!(
                r#"{"event":"said","number":7,"from":"\"h\\","text":"a \"b\"\t\\ é","#,
                r#""sent":"2023-11-14T22:13:20.123Z","road":"mail"}"#
            ))
        );
    }

    #[test]
    fn events_are_named_as_on_the_wire() {
        let json = |notice| object(&Shown::Notice(notice, 0)).unwrap_or_default();
        assert_eq!(json(Notice::Names(vec![hans(), hans()])), r#"{"event":"names","users":["\"h\\","\"h\\"]}"#);
        assert_eq!(json(Notice::Goodbye), r#"{"event":"goodbye"}"#);
        assert_eq!(json(Notice::Stored { to: hans(), seen: None }), r#"{"event":"stored","to":"\"h\\"}"#);
        let seen = Some(Ago { wall: 0, millis: 5 });
        assert!(json(Notice::Stored { to: hans(), seen }).ends_with(r#","seen":"1970-01-01T00:00:00Z"}"#));
        let refused = json(Notice::Refused(Refusal::InvalidUser(Text::harmless("x"))));
        assert_eq!(refused, r#"{"event":"refused","reason":"invalid-user","text":"Invalid user x"}"#);
        assert!(json(Notice::HelpAll).contains("\\nbroadcast <text>"));
        assert_eq!(json(Notice::Pong), "");
        assert_eq!(object(&Shown::Done(3)).as_deref(), Some(r#"{"event":"done","line":3}"#));
    }
}

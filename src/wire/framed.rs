//! The framed dialect (Columbia W4119): bytes cut into frames, and what stands in a frame.
//!
//! A frame is its length, four bytes with the highest first, and so many bytes of UTF-8. Fields
//! are separated by bars; the last field keeps its bars. Both directions stand here side by side,
//! for the server and for our client.

use std::fmt;

use super::Request;

/// Longest frame, in bytes without its length; a longer one is refused before room is made for it.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Longest text of a user, in bytes as others are shown it; a longer one is refused. So a push and
/// a control line have room for it with its sender and its time.
pub const TEXT_BYTES_MAX: usize = 60_000;

/// Bytes of the length before every frame.
const LENGTH_BYTES: usize = 4;

/// The first frame of a log-in, alone in it.
pub const LOG_IN: &str = "LIN";

/// Cuts frames out of bytes that arrive in any portions; holds at most one started frame.
#[derive(Debug, Default)]
pub struct FrameCutter {
    length: [u8; LENGTH_BYTES],
    /// How much of the length has come.
    known: usize,
    body: Vec<u8>,
}

/// A length over [`FRAME_BYTES_MAX`]: what follows is not a frame, and nothing after it is either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl FrameCutter {
    /// Takes the next frame from the front of `input`; `None` once `input` is used up.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Result<Vec<u8>, TooLong>> {
        while self.known < LENGTH_BYTES {
            let (&byte, rest) = input.split_first()?;
            *input = rest;
            self.length[self.known] = byte;
            self.known += 1;
        }
        let length = u32::from_be_bytes(self.length) as usize;
        if length > FRAME_BYTES_MAX {
            return Some(Err(TooLong));
        }
        // Room is made for what has come, not for what was announced.
        let (part, rest) = input.split_at(input.len().min(length - self.body.len()));
        self.body.extend_from_slice(part);
        *input = rest;
        if self.body.len() < length {
            return None;
        }
        self.known = 0;
        Some(Ok(std::mem::take(&mut self.body)))
    }

    /// Whether the input may end here: not in the middle of a frame.
    pub fn is_between(&self) -> bool {
        self.known == 0
    }
}

/// Appends `text` as one frame; what is over the limit is cut off.
pub fn encode(text: &str, out: &mut Vec<u8>) {
    let text = &text[..text.floor_char_boundary(FRAME_BYTES_MAX)];
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// What the first frame of a connection asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// `LIN`: names and passwords follow, two frames for each try.
    LogIn,
    /// Anything else, with the proof that a logged-in user asks.
    Act {
        /// Who asks.
        user: &'a str,
        /// What he was given at log-in.
        token: &'a str,
        /// What for.
        act: Act<'a>,
    },
}

// By hand, so that no log line can ever show a token or a text.
impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogIn => f.write_str("LogIn"),
            Self::Act { user, .. } => f.debug_struct("Act").field("user", user).finish_non_exhaustive(),
        }
    }
}

/// What a logged-in user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act<'a> {
    /// `HEY`: he is still there.
    Alive,
    /// Something that a line can ask for as well.
    Request(Request<'a>),
}

/// Why a connection does not get what it wants. [`super::text`] knows the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The length of a frame is over the limit, as that of any typed text is.
    TooLong,
    /// The connection ended inside a frame.
    CutShort,
    /// No whole frame within the time for it.
    TooSlow,
    /// A frame that is not UTF-8.
    NotUtf8,
    /// No such request.
    UnknownRequest,
    /// A request without the fields that it needs.
    MissingFields,
    /// The token belongs to nobody of that name, or not any more.
    NotLoggedIn,
    /// Nobody can be reached at that address and port.
    BadAddress,
    /// The address is not the one that the request came from.
    ForeignAddress,
    /// Too many tries on one connection.
    TooManyTries,
    /// The server stops, or cannot take one more connection.
    Unavailable,
}

/// Reads the first frame of a connection.
pub fn parse(frame: &[u8]) -> Result<Asked<'_>, Fault> {
    let frame = std::str::from_utf8(frame).map_err(|_| Fault::NotUtf8)?;
    if frame == LOG_IN {
        return Ok(Asked::LogIn);
    }
    let mut fields = frame.splitn(4, '|');
    let kind = fields.next().unwrap_or_default();
    if !["MSG", "BRD", "ONL", "BLC", "OUT", "GET", "ALL", "DNY", "HEY"].contains(&kind) {
        return Err(Fault::UnknownRequest);
    }
    let (Some(user), Some(token)) = (fields.next(), fields.next()) else { return Err(Fault::MissingFields) };
    let act = parse_act(kind, fields.next().unwrap_or_default()).ok_or(Fault::MissingFields)?;
    Ok(Asked::Act { user, token, act })
}

/// What `kind` asks for with this data; `None` if the data does not fit.
fn parse_act<'a>(kind: &str, data: &'a str) -> Option<Act<'a>> {
    let pair = || data.split_once('|');
    let request = match (kind, data) {
        ("MSG", _) => {
            let (to, text) = pair().filter(|(to, text)| !to.is_empty() && !text.trim().is_empty())?;
            Request::Message { to, text }
        }
        ("BRD", text) if !text.trim().is_empty() => Request::Broadcast { text },
        ("ONL", "") => Request::WhoElse,
        ("BLC", _) => match pair()? {
            ("1", user) => Request::Block { user },
            ("0", user) => Request::Unblock { user },
            _ => return None,
        },
        ("OUT", "") => Request::Logout,
        ("HEY", "") => return Some(Act::Alive),
        ("GET", user) => Request::GetAddress { user },
        ("ALL", user) => Request::Allow { user },
        ("DNY", user) => Request::Deny { user },
        _ => return None,
    };
    Some(Act::Request(request))
}

impl Asked<'_> {
    /// The frame, as a client writes it; `None` for what this dialect has no words for.
    pub fn spell(&self) -> Option<String> {
        let Self::Act { user, token, act } = self else { return Some(LOG_IN.to_owned()) };
        let (kind, data) = match *act {
            Act::Alive => ("HEY", String::new()),
            Act::Request(request) => match request {
                Request::Message { to, text } => ("MSG", format!("{to}|{text}")),
                Request::Broadcast { text } => ("BRD", text.to_owned()),
                Request::WhoElse => ("ONL", String::new()),
                Request::Block { user } => ("BLC", format!("1|{user}")),
                Request::Unblock { user } => ("BLC", format!("0|{user}")),
                Request::Logout => ("OUT", String::new()),
                Request::GetAddress { user } => ("GET", user.to_owned()),
                Request::Allow { user } => ("ALL", user.to_owned()),
                Request::Deny { user } => ("DNY", user.to_owned()),
                _ => return None,
            },
        };
        Some(format!("{kind}|{user}|{token}|{data}"))
    }
}

/// What the server says on the connection of a request, before it closes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: what follows from the request is pushed.
    Nothing,
    /// The name and the password are right; the token is the next frame.
    LoggedIn {
        /// Known to this client alone.
        token: u128,
    },
    /// They are not; so many tries are left.
    WrongPassword {
        /// How many.
        tries: u8,
    },
    /// They are not for the third time: no log-in for so long, in milliseconds.
    JustLocked {
        /// How long.
        millis: i64,
    },
    /// No log-in for so much longer, in milliseconds.
    StillLocked {
        /// How long.
        millis: i64,
    },
    /// `GET`: he has been asked.
    Okay,
    /// `GET`: he cannot be found.
    Fail,
    /// It is not done, and why.
    Refused(Fault),
}

// By hand, so that no log line can ever show a token.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedIn { .. } => f.write_str("LoggedIn"),
            other => f.write_str(&other.words()),
        }
    }
}

impl Answer {
    /// Appends the frames of the answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => {}
            Self::LoggedIn { token } => {
                encode(&self.words(), out);
                encode(&format!("{token:032x}"), out);
            }
            _ => encode(&self.words(), out),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::LoggedIn { .. } => "LOGIN_OKAY".to_owned(),
            Self::WrongPassword { tries } => format!("LOGIN_FAILED|{tries}"),
            Self::JustLocked { millis } => format!("JUST_PENNED|{}.{:03}", millis / 1000, millis % 1000),
            Self::StillLocked { millis } => format!("PENNED|{}.{:03}", millis / 1000, millis % 1000),
            Self::Okay => "OKAY".to_owned(),
            Self::Fail => "FAIL".to_owned(),
            Self::Refused(fault) => super::text::fault(*fault),
        }
    }
}

/// An answer as a client reads it: ours, or that of the original server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The token is the next frame.
    LoggedIn,
    /// So many tries are left.
    WrongPassword {
        /// As the server wrote it.
        tries: &'a str,
    },
    /// Locked by this try for so many seconds.
    JustLocked {
        /// As the server wrote it.
        seconds: &'a str,
    },
    /// Locked for so many more seconds.
    StillLocked {
        /// As the server wrote it.
        seconds: &'a str,
    },
    /// He has been asked.
    Okay,
    /// He cannot be found.
    Fail,
    /// Why it is not done.
    Error(&'a str),
}

/// Reads an answer.
pub fn parse_reply(frame: &str) -> Reply<'_> {
    match frame.split_once('|') {
        Some(("LOGIN_FAILED", tries)) => Reply::WrongPassword { tries },
        Some(("JUST_PENNED", seconds)) => Reply::JustLocked { seconds },
        Some(("PENNED", seconds)) => Reply::StillLocked { seconds },
        _ if frame == "LOGIN_OKAY" => Reply::LoggedIn,
        _ if frame == "OKAY" => Reply::Okay,
        _ if frame == "FAIL" => Reply::Fail,
        _ => Reply::Error(frame),
    }
}

/// One frame that the server, or another client, pushes to a client's own port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push<'a> {
    /// `ADR|name|host|port`: where somebody takes private messages.
    Address {
        /// Who.
        user: &'a str,
        /// An address.
        host: &'a str,
        /// A port there.
        port: u16,
    },
    /// Anything else, to be shown as it is.
    Text(&'a str),
}

/// Reads a push.
pub fn parse_push(frame: &str) -> Push<'_> {
    let address = || {
        let (user, rest) = frame.strip_prefix("ADR|")?.split_once('|')?;
        let (host, port) = rest.split_once('|')?;
        Some(Push::Address { user, host, port: port.parse().ok()? })
    };
    address().unwrap_or(Push::Text(frame))
}

/// What a pushed text says, for who does not want to show it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPush<'a> {
    /// `[hans]: hi`, behind `[time] ` if it has waited.
    Said {
        /// Who says it.
        from: &'a str,
        /// What.
        text: &'a str,
        /// What the server says of the time.
        waited: Option<&'a str>,
    },
    /// `<hans>: hi`, from another client.
    Private {
        /// Who says it.
        from: &'a str,
        /// What.
        text: &'a str,
    },
    /// Something else.
    Other,
}

/// Reads a pushed text. A name has no blanks, so it cannot hold what ends it, nor can a group's
/// text with brackets in it pass for somebody's.
pub fn read_text(text: &str) -> TextPush<'_> {
    if let Some((from, text)) = said(text, '[', "]: ") {
        return TextPush::Said { from, text, waited: None };
    }
    if let Some((from, text)) = said(text, '<', ">: ") {
        return TextPush::Private { from, text };
    }
    let waited = || {
        let (waited, rest) = text.strip_prefix('[')?.split_once("] ")?;
        let (from, text) = said(rest, '[', "]: ")?;
        (waited.starts_with(|c: char| c.is_ascii_digit()) && waited.contains(' ')).then_some(TextPush::Said {
            from,
            text,
            waited: Some(waited),
        })
    };
    waited().unwrap_or(TextPush::Other)
}

/// Who says what, in these brackets.
fn said<'a>(text: &'a str, open: char, close: &str) -> Option<(&'a str, &'a str)> {
    let (from, text) = text.strip_prefix(open)?.split_once(close)?;
    (!from.is_empty() && !from.contains(' ')).then_some((from, text))
}

impl Push<'_> {
    /// The frame, as the server writes it. No text begins like an address: the original client
    /// looks at its first three letters, and a user may have them for a name.
    pub fn spell(&self) -> String {
        match self {
            Self::Address { user, host, port } => format!("ADR|{user}|{host}|{port}"),
            Self::Text(text) if text.starts_with("ADR") => format!(" {text}"),
            Self::Text(text) => (*text).to_owned(),
        }
    }
}

/// A text of several lines as one line: everybody is shown lines, whatever his dialect.
pub fn flatten(text: &str) -> String {
    text.trim_end_matches(['\r', '\n']).replace("\r\n", " ").replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(text, &mut bytes);
        bytes
    }

    fn answered(answer: Answer) -> Vec<u8> {
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        bytes
    }

    fn act(act: Act<'_>) -> Asked<'_> {
        Asked::Act { user: "hans", token: "0123abcdef", act }
    }

    #[test]
    fn a_pushed_text_is_read_as_it_was_meant() {
        let said = |from, text, waited| TextPush::Said { from, text, waited };
        for (line, meant) in [
            ("[hans]: hi", said("hans", "hi", None)),
            ("[a]b]: [c]: d", said("a]b", "[c]: d", None)),
            ("[[02/03/26]: hi", said("[02/03/26", "hi", None)),
            ("[21/11/26 05:33:37] [hans]: hi", said("hans", "hi", Some("21/11/26 05:33:37"))),
            ("[21/11/26 05:33:37, perhaps repeated] [h]: ", said("h", "", Some("21/11/26 05:33:37, perhaps repeated"))),
            ("<hans>: [yoda]: hi", TextPush::Private { from: "hans", text: "[yoda]: hi" }),
            ("[friends/hans] see [1]: it", TextPush::Other),
            ("[friends/hans] [yoda]: hi", TextPush::Other),
            ("[seen by luke]", TextPush::Other),
            ("[GENERAL] [02/03/26 09:00:00] hans: hi", TextPush::Other),
            ("[]: hi", TextPush::Other),
            ("yoda has logged on.", TextPush::Other),
            ("", TextPush::Other),
        ] {
            assert_eq!(read_text(line), meant, "{line}");
        }
    }

    #[test]
    fn every_request_as_bytes() {
        let requests: [(Asked<'_>, &[u8]); 11] = [
            (Asked::LogIn, b"\0\0\0\x03LIN"),
            (
                act(Act::Request(Request::Message { to: "yoda", text: "a|b ü" })),
                b"\0\0\0\x1fMSG|hans|0123abcdef|yoda|a|b \xc3\xbc",
            ),
            (act(Act::Request(Request::Broadcast { text: "|hi|" })), b"\0\0\0\x18BRD|hans|0123abcdef||hi|"),
            (act(Act::Request(Request::WhoElse)), b"\0\0\0\x14ONL|hans|0123abcdef|"),
            (act(Act::Request(Request::Block { user: "luke" })), b"\0\0\0\x1aBLC|hans|0123abcdef|1|luke"),
            (act(Act::Request(Request::Unblock { user: "luke" })), b"\0\0\0\x1aBLC|hans|0123abcdef|0|luke"),
            (act(Act::Request(Request::Logout)), b"\0\0\0\x14OUT|hans|0123abcdef|"),
            (act(Act::Request(Request::GetAddress { user: "luke" })), b"\0\0\0\x18GET|hans|0123abcdef|luke"),
            (act(Act::Request(Request::Allow { user: "luke" })), b"\0\0\0\x18ALL|hans|0123abcdef|luke"),
            (act(Act::Request(Request::Deny { user: "luke" })), b"\0\0\0\x18DNY|hans|0123abcdef|luke"),
            (act(Act::Alive), b"\0\0\0\x14HEY|hans|0123abcdef|"),
        ];
        for (request, bytes) in requests {
            assert_eq!(framed(&request.spell().expect("it has words")), bytes, "{}", bytes.escape_ascii());
            assert_eq!(parse(&bytes[4..]), Ok(request));
        }
    }

    #[test]
    fn every_answer_as_bytes() {
        let answers: [(Answer, &[u8]); 9] = [
            (Answer::Nothing, b""),
            (Answer::LoggedIn { token: 0xabc }, b"\0\0\0\x0aLOGIN_OKAY\0\0\0\x2000000000000000000000000000000abc"),
            (Answer::WrongPassword { tries: 2 }, b"\0\0\0\x0eLOGIN_FAILED|2"),
            (Answer::JustLocked { millis: 60_000 }, b"\0\0\0\x12JUST_PENNED|60.000"),
            (Answer::StillLocked { millis: 19_920 }, b"\0\0\0\x0dPENNED|19.920"),
            (Answer::StillLocked { millis: 7 }, b"\0\0\0\x0cPENNED|0.007"),
            (Answer::Okay, b"\0\0\0\x04OKAY"),
            (Answer::Fail, b"\0\0\0\x04FAIL"),
            (Answer::Refused(Fault::NotLoggedIn), b"\0\0\0\x34Error. You are not logged in here, or not any longer"),
        ];
        for (answer, bytes) in answers {
            assert_eq!(answered(answer).escape_ascii().to_string(), bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn answers_as_a_client_reads_them() {
        assert_eq!(parse_reply("LOGIN_OKAY"), Reply::LoggedIn);
        assert_eq!(parse_reply("LOGIN_FAILED|2"), Reply::WrongPassword { tries: "2" });
        assert_eq!(parse_reply("JUST_PENNED|59.9999"), Reply::JustLocked { seconds: "59.9999" });
        assert_eq!(parse_reply("PENNED|19.92"), Reply::StillLocked { seconds: "19.92" });
        assert_eq!((parse_reply("OKAY"), parse_reply("FAIL")), (Reply::Okay, Reply::Fail));
        assert_eq!(parse_reply("Error. No|"), Reply::Error("Error. No|"));
    }

    #[test]
    fn every_push_as_bytes() {
        let address = Push::Address { user: "luke", host: "127.0.0.1", port: 5001 };
        assert_eq!(framed(&address.spell()), b"\0\0\0\x17ADR|luke|127.0.0.1|5001");
        assert_eq!(parse_push("ADR|luke|127.0.0.1|5001"), address);
        assert_eq!(framed(&Push::Text("[hans]: hi").spell()), b"\0\0\0\x0a[hans]: hi");
        assert_eq!(parse_push("[hans]: hi"), Push::Text("[hans]: hi"));
        for odd in ["ADR", "ADR|luke|127.0.0.1", "ADR|luke|127.0.0.1|99999", "ADR|luke|127.0.0.1|1|2"] {
            assert_eq!(parse_push(odd), Push::Text(odd));
            assert_eq!(Push::Text(odd).spell(), format!(" {odd}"));
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_told_apart() {
        for frame in ["", "lin", "LIN|", "hello", "XYZ|a|b|c", "|||"] {
            assert_eq!(parse(frame.as_bytes()), Err(Fault::UnknownRequest), "{frame}");
        }
        for frame in [
            "MSG",
            "MSG|u",
            "MSG|u|t",
            "MSG|u|t|",
            "MSG|u|t|to",
            "MSG|u|t|to|",
            "MSG|u|t|to| ",
            "MSG|u|t||text",
            "BRD|u|t|",
            "ONL|u",
            "ONL|u|t|x",
            "OUT|u|t|x",
            "HEY|u|t|x",
            "BLC|u|t|2|v",
            "BLC|u|t|1",
        ] {
            assert_eq!(parse(frame.as_bytes()), Err(Fault::MissingFields), "{frame}");
        }
        assert_eq!(parse(b"MSG|u|t|v|\xff"), Err(Fault::NotUtf8));
        // The bar before no data may be left out.
        assert_eq!(parse(b"HEY|u|t"), parse(b"HEY|u|t|"));
    }

    #[test]
    fn a_length_is_checked_before_there_is_room_for_it() {
        let mut cutter = FrameCutter::default();
        assert_eq!(cutter.next(&mut &b"\0\x01\0\x01"[..]), Some(Err(TooLong)));
        assert_eq!(cutter.body.capacity(), 0);
        let mut cutter = FrameCutter::default();
        assert_eq!(cutter.next(&mut &b"\0\x01\0\0abc"[..]), None);
        assert!(cutter.body.capacity() < 100 && !cutter.is_between());
        assert_eq!(FrameCutter::default().next(&mut &b"hello"[..]), Some(Err(TooLong)), "typed text");
    }

    #[test]
    fn several_lines_become_one() {
        assert_eq!(flatten("one\r\ntwo\nthree\n\n"), "one two three");
        assert_eq!(flatten(" kept  as typed "), " kept  as typed ");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(texts in prop::collection::vec(".{0,40}", 0..8), size in 1usize..50) {
            let all: Vec<u8> = texts.iter().flat_map(|text| framed(text)).collect();
            let mut cutter = FrameCutter::default();
            let mut seen = Vec::new();
            for mut portion in all.chunks(size) {
                while let Some(frame) = cutter.next(&mut portion) {
                    seen.push(String::from_utf8(frame.expect("short")).expect("UTF-8"));
                }
            }
            prop_assert!(cutter.is_between());
            prop_assert_eq!(seen, texts);
        }
    }
}

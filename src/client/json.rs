//! `--json`: every event as one object on a line of its own.
//!
//! Every object has `"event"`; the other fields by event. `user`, `from`, `to` and `by` are names,
//! `users` is a list of names.
//! Times (`sent`, `seen`, `since`) are RFC 3339 in UTC. `?` marks a field that may be missing.
//!
//! | event | fields |
//! |---|---|
//! | `welcome` | `user`: who we are |
//! | `said` | `number`: rises, unique in a store, 0 for a broadcast; `from`; `text`; `sent`; `road`: `live`, `mail` (stored before) or `again` (stored, perhaps repeated) |
//! | `said-general`, `said-group` | the same: said in general mode, or to `group` |
//! | `waiting` | `count`: so many stored messages follow |
//! | `stored` | `to`; `seen`?: when he was last online |
//! | `stored-in-group` | `group`; `users`: who has got it; `away`: a list of objects with `user` and `seen`?, for whom it is stored |
//! | `some-skipped`, `some-full` | none: somebody does not get a text to many, because he blocks us or his mailbox is full |
//! | `sent` | none: the server has accepted the text |
//! | `delivered`, `seen` | `users`: some of the readers or all; `more`: how many are not named; `texts`: how many texts they have all got |
//! | `seen-meanwhile` | `user`; `texts`: how many he saw while we were away; `sent`, `seen`: when the last of them was |
//! | `receipts-dropped` | `max`: more readers than this saw texts meanwhile, not all are told |
//! | `arrived`, `left` | `user` |
//! | `names` | `users`; a long list comes in several objects |
//! | `nobody` | none: the list is empty |
//! | `blocked`, `unblocked`, `never-online` | `user` |
//! | `online` | `user`; `since`; `idle`: milliseconds |
//! | `offline` | `user`; `seen` |
//! | `receipts` | `on`: true or false |
//! | `groups` | `groups`: a list of objects with `group`, `owned` (true or false), `members` (how many); a long list comes in several objects |
//! | `no-groups` | none: we are in no group |
//! | `members` | `owner`; `users`: all members |
//! | `group-created`, `group-added`, `group-removed` | `group`; `by`: who did it; `users`: with whom, or whom |
//! | `group-renamed` | `group`; `by`; `name`: the new one |
//! | `group-owned` | `group`; `by`; `user`: the new owner |
//! | `group-left`, `group-deleted` | `group`; `by` |
//! | `mode` | `mode`: `command`, `general`, `direct` or `group` |
//! | `ask` | `question`: `group` (create one?), `group-name` or `group-members` |
//! | `address` | `user`: he may be written to privately |
//! | `asks-address`, `asks-private` | `user`: wants to write privately, or a private session; answered by `allow` or `deny` |
//! | `request-sent`, `declined` | `user`: is asked, has said no |
//! | `allowed`, `denied` | `user`: is told |
//! | `registered` | `file`; `chunks`: how many |
//! | `available` | `file`; `bytes`; `chunks`: how many; who has them follows |
//! | `has` | `file`; `user`; `chunks`: such as `0-2 5`, several objects of a user add up |
//! | `not-available` | `file`; `of-chunks`: whether only these chunks were looked for |
//! | `help` | `command`?, `text`: as people read it |
//! | `refused` | `reason`: a word such as `invalid-user` or `mailbox-full`; `text`: as people read it |
//! | `done` | `line`: all answers to this line of the input have come, counted from 1 after the log-in |
//! | `new-user` | `user`: the name is free, the next line becomes its password |
//! | `wrong-password` | `tries`: so many are left |
//! | `locked`, `still-locked` | `seconds` |
//! | `already-online` | `user`; `idle`: milliseconds |
//! | `too-many-names`, `full`, `crowded`, `too-slow`, `login-timed-out`, `stopping`, `goodbye` | none: the server closes |
//! | `timed-out` | `seconds`: the server closes |
//! | `private` | `from`; `text`; `sent`: when it came, straight from his client |
//! | `private-started` | `user`; `by-user`: true if he has started it |
//! | `private-ended` | `user`; `stopped`: by one of the two; else the connection is gone |
//! | `unannounced` | `address`; `count`: so many connections that nobody had announced were refused, the last from there |
//! | `file-failed` | `file`; `reason`: a word such as `no-such-file`, `taken` or `disk-full`; `text`: as people read it |
//! | `files-offered` | `files`: an earlier run has offered them, and they are offered again |
//! | `file-withdrawn` | `file`, `reason`, `text`: as `file-failed`; it is not offered any more |
//! | `file-have`, `file-gaps` | `file`; `chunks`: asked for, and here already; or to be had from nobody |
//! | `file-progress` | `file`; `percent`; `bytes`: so many have come; `rate`: bytes per second; `left`: milliseconds; `users`: who has sent some |
//! | `holder-dropped` | `user`; `reason`: `unreachable`, `left`, `stalled` or `lied` |
//! | `file-part`, `file-here` | the end of a download: `file`; `bytes`; `millis`; `from`: a list of objects with `user` and `chunks` (how many); then `have` and `of` (chunks that are here, and that there are), or `sha256` |
//! | `not-listening` | `reason`: nobody can begin a private session with us |
//! | `connection-lost` | `reason`: the client tries to get it back |
//! | `connection-back` | `after`: milliseconds |
//! | `password-again` | none: the session was not resumed |
//!
//! `client framed`, `client direct` and `client udp` have these. `came` is when it came here.
//!
//! | event | fields |
//! |---|---|
//! | `said` | `from`; `text`; `came`; `waited`?: since when, and whether it is perhaps repeated, as a framed server writes it |
//! | `private` | `from`; `text`; `came`: straight from his framed client |
//! | `pushed` | `text`; `came`: any other line of a framed server |
//! | `news` | `text`: something has happened to the connection, the name, the room and the like |
//! | `answer` | `text`: to a command |
//! | `refused` | `text`: why a line cannot be carried out |

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::state::sharing::{Fetched, Report};
use super::state::told::Told;
use super::state::{PeerNotice, Shown};
use crate::wire::chunks::ChunkSet;
use crate::wire::control;
use crate::wire::framed::{self, TextPush};
use crate::wire::name::{FileName, UserName};
use crate::wire::text::Speller;
use crate::wire::{Letter, Membership, News, Notice, Readers, Road, Scope};

/// The object for one thing to be shown, if it has one.
pub(super) fn object(shown: &Shown) -> Option<String> {
    Some(match shown {
        Shown::Notice(notice, _) => of_notice(notice)?,
        Shown::Done(line) => Object::event("done").value("line", *line).close(),
        Shown::Lost(reason) => Object::event("connection-lost").text("reason", reason).close(),
        Shown::Back(millis) => Object::event("connection-back").value("after", *millis).close(),
        Shown::PasswordAgain => Object::event("password-again").close(),
        Shown::Peer(notice, wall) => of_peers(notice, *wall),
        Shown::Files(report, _) => of_files(report)?,
    })
}

fn of_peers(notice: &PeerNotice, wall: i64) -> String {
    match notice {
        PeerNotice::Said { from, text } => {
            let object = Object::event("private").text("from", from.as_str()).text("text", text.as_str());
            object.time("sent", wall).close()
        }
        PeerNotice::Started { with, by_him } => {
            Object::event("private-started").text("user", with.as_str()).value("by-user", *by_him).close()
        }
        PeerNotice::Ended { with, stopped } => {
            Object::event("private-ended").text("user", with.as_str()).value("stopped", *stopped).close()
        }
        PeerNotice::Unannounced { from, count } => {
            Object::event("unannounced").text("address", &from.to_string()).value("count", *count).close()
        }
        PeerNotice::Hindered(why) => {
            Object::event("refused").text("reason", why.word()).text("text", &why.to_string()).close()
        }
        PeerNotice::NotListening(why) => Object::event("not-listening").text("reason", why).close(),
    }
}

fn of_files(report: &Report) -> Option<String> {
    let text = report.to_string();
    let text = text.trim_start_matches("Error. ");
    let event = |name: &str, file: &FileName| Object::event(name).text("file", file.as_str());
    let list = |object: Object, key: &str, chunks: &ChunkSet| object.list(key, chunks.iter().map(|it| it.to_string()));
    let fetched = |name: &str, fetched: &Fetched| {
        let Fetched { file, bytes, millis, from } = fetched;
        let from = from
            .iter()
            .map(|(user, chunks)| Object::new().text("user", user.as_str()).value("chunks", *chunks).close());
        event(name, file).value("bytes", *bytes).value("millis", *millis).list("from", from)
    };
    Some(
        match report {
            Report::Failed(file, trouble) => {
                event("file-failed", file).text("reason", trouble.word()).text("text", text)
            }
            Report::Again(files) => {
                Object::event("files-offered").list("files", files.iter().map(|file| quoted(file.as_str())))
            }
            Report::Withdrawn(file, trouble) => {
                event("file-withdrawn", file).text("reason", trouble.word()).text("text", text)
            }
            Report::UnderWay(file) => event("file-failed", file).text("reason", "under-way").text("text", text),
            Report::TooMany(_) => Object::event("refused").text("reason", "too-many-files").text("text", text),
            Report::HaveChunks(file, chunks) => list(event("file-have", file), "chunks", chunks),
            Report::Progress(progress) => {
                let object = event("file-progress", &progress.file).value("percent", progress.percent);
                let object =
                    object.value("bytes", progress.bytes).value("rate", progress.rate).value("left", progress.left);
                object.users(&progress.from)
            }
            Report::Moved { .. } => return None,
            Report::Dropped(user, why) => {
                Object::event("holder-dropped").text("user", user.as_str()).text("reason", why.word())
            }
            Report::Gaps(file, chunks) => list(event("file-gaps", file), "chunks", chunks),
            Report::Part { fetched: it, have, of } => fetched("file-part", it).value("have", *have).value("of", *of),
            Report::Here(it, digest) => fetched("file-here", it).text("sha256", &digest.to_string()),
        }
        .close(),
    )
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
        // Between the programs, and secrets.
        Notice::Peer { .. } | Notice::Expect { .. } | Notice::NoPeer { .. } => return None,
        Notice::Manifest { .. } | Notice::ChunkHashes { .. } | Notice::Holder { .. } => return None,
        Notice::ManifestEnd(_) | Notice::HoldersEnd(_) => return None,
        Notice::Registered { file, chunks } => object.text("file", file.as_str()).value("chunks", *chunks).close(),
        Notice::Available { file, bytes, chunks } => {
            object.text("file", file.as_str()).value("bytes", *bytes).value("chunks", *chunks).close()
        }
        Notice::Has { file, user, chunks } => {
            object.text("file", file.as_str()).text("user", user.as_str()).text("chunks", &chunks.to_string()).close()
        }
        Notice::NotAvailable { file, of_chunks } => {
            object.text("file", file.as_str()).value("of-chunks", *of_chunks).close()
        }
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
            let object = object.value("number", *number).text("from", from.as_str()).text("text", text.as_str());
            object.time("sent", *sent).text("road", road).close()
        }
        Notice::Stored { to, seen } => {
            let object = object.text("to", to.as_str());
            seen.map_or_else(|| object.clone(), |seen| object.clone().time("seen", seen.wall)).close()
        }
        Notice::Waiting { count } => object.value("count", *count).close(),
        Notice::StoredInGroup { group, here, away } => {
            let away = away.iter().map(|(user, seen)| {
                let object = Object::new().text("user", user.as_str());
                seen.iter().fold(object, |object, seen| object.time("seen", seen.wall)).close()
            });
            object.text("group", group.as_str()).users(here).list("away", away).close()
        }
        Notice::Delivered(Readers { names, more, texts }) | Notice::Seen(Readers { names, more, texts }) => {
            object.users(names).value("more", *more).value("texts", *texts).close()
        }
        Notice::SeenMeanwhile { by, texts, sent, seen } => {
            object.text("user", by.as_str()).value("texts", *texts).time("sent", *sent).time("seen", *seen).close()
        }
        Notice::ReceiptsDropped { max } => object.value("max", *max).close(),
        Notice::Receipts { on } => object.value("on", *on).close(),
        Notice::Groups(groups) => {
            let groups = groups.iter().map(|Membership { group, owned, members }| {
                Object::new().text("group", group.as_str()).value("owned", *owned).value("members", *members).close()
            });
            object.list("groups", groups).close()
        }
        Notice::Members { owner, members } => object.text("owner", owner.as_str()).users(members).close(),
        Notice::Group { group, by, news } => {
            let object = object.text("group", group.as_str()).text("by", by.as_str());
            let object = match news {
                News::Created(users) | News::Added(users) | News::Removed(users) => object.users(users),
                News::Renamed(name) => object.text("name", name.as_str()),
                News::Owned(user) => object.text("user", user.as_str()),
                News::Left | News::Deleted => object,
            };
            object.close()
        }
        Notice::Mode(_) => object.text("mode", words.next()?).close(),
        Notice::Asked(_) => object.text("question", words.next()?).close(),
        Notice::Names(users) => object.users(users).close(),
        Notice::Online { user, since, idle } => {
            object.text("user", user.as_str()).time("since", since.wall).value("idle", *idle).close()
        }
        Notice::Offline { user, seen } => object.text("user", user.as_str()).time("seen", seen.wall).close(),
        Notice::AlreadyOnline { user, idle } => object.text("user", user.as_str()).value("idle", *idle).close(),
        Notice::Welcome { user, .. }
        | Notice::Arrived(user)
        | Notice::Left(user)
        | Notice::Blocked(user)
        | Notice::Unblocked(user)
        | Notice::NeverOnline(user)
        | Notice::Address { user, .. }
        | Notice::AsksAddress(user)
        | Notice::AsksPrivate(user)
        | Notice::RequestSent(user)
        | Notice::Allowed(user)
        | Notice::Declined(user)
        | Notice::Denied(user)
        | Notice::NewUser(user) => object.text("user", user.as_str()).close(),
        Notice::WrongPassword { tries } => object.value("tries", *tries).close(),
        Notice::JustLocked { seconds }
        | Notice::StillLocked { seconds }
        | Notice::TimedOut { seconds }
        | Notice::FellSilent { seconds } => object.value("seconds", *seconds).close(),
        Notice::Refused(_) => object.text("reason", words.next()?).text("text", &in_words(notice)).close(),
        Notice::Help(command) => object.text("command", command.name).text("text", &in_words(notice)).close(),
        Notice::HelpAll => object.text("text", &in_words(notice)).close(),
        _ => object.close(),
    })
}

/// What the clients without a line port show.
pub(super) fn told(told: &Told) -> String {
    match told {
        Told::Said { from, text, when } => said("said", from.as_str(), text.as_str(), *when).close(),
        Told::Pushed { text, when } => match framed::read_text(text) {
            TextPush::Said { from, text, waited } => {
                let object = said("said", from, text, *when);
                waited.map_or_else(|| object.clone(), |waited| object.clone().text("waited", waited)).close()
            }
            TextPush::Private { from, text } => said("private", from, text, *when).close(),
            TextPush::Other => Object::event("pushed").text("text", text).time("came", *when).close(),
        },
        Told::News(text) => Object::event("news").text("text", text).close(),
        Told::Answer(text) => Object::event("answer").text("text", text).close(),
        Told::Refused(text) => Object::event("refused").text("text", text).close(),
    }
}

fn said(event: &str, from: &str, text: &str, came: i64) -> Object {
    Object::event(event).text("from", from).text("text", text).time("came", came)
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
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn event(name: &str) -> Self {
        Self::new().text("event", name)
    }

    fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        self.0.push_str(&quoted(value));
        self
    }

    /// A number, or true or false.
    fn value(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    fn time(self, key: &str, wall: i64) -> Self {
        let time = Timestamp::from_millisecond(wall).unwrap_or_default().to_string();
        self.text(key, &time)
    }

    fn users(self, users: &[UserName]) -> Self {
        self.list("users", users.iter().map(|user| quoted(user.as_str())))
    }

    /// Of values that are written already.
    fn list(mut self, key: &str, values: impl Iterator<Item = String>) -> Self {
        self.key(key);
        self.0.push('[');
        for (at, value) in values.enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            self.0.push_str(&value);
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
        self.0.push_str(&quoted(key));
        self.0.push(':');
    }
}

/// A string as RFC 8259 wants it: quotes, backslashes and control characters escaped.
fn quoted(value: &str) -> String {
    let mut quoted = String::from('"');
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\x1f' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
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
    fn what_has_no_line_port_is_told_in_objects_too() {
        let pushed = |text: &str| told(&Told::Pushed { text: text.to_owned(), when: 0 });
        let came = r#""came":"1970-01-01T00:00:00Z""#;
        for (told, object) in [
            (told(&Told::said("anna", "a \"b\"", 0)), format!(r#""said","from":"anna","text":"a \"b\"",{came}"#)),
            (pushed("[hans]: hi"), format!(r#""said","from":"hans","text":"hi",{came}"#)),
            (
                pushed("[21/11/26 05:33:37] [hans]: hi"),
                format!(r#""said","from":"hans","text":"hi",{came},"waited":"21/11/26 05:33:37""#),
            ),
            (pushed("<hans>: psst"), format!(r#""private","from":"hans","text":"psst",{came}"#)),
            (pushed("yoda is offline."), format!(r#""pushed","text":"yoda is offline.",{came}"#)),
            (told(&Told::News("Connected".to_owned())), r#""news","text":"Connected""#.to_owned()),
            (told(&Told::Answer("lab".to_owned())), r#""answer","text":"lab""#.to_owned()),
            (told(&Told::Refused("No\n".to_owned())), r#""refused","text":"No\n""#.to_owned()),
        ] {
            assert_eq!(told, format!(r#"{{"event":{object}}}"#));
        }
    }

    #[test]
    fn events_are_named_as_on_the_wire() {
        let json = |notice| object(&Shown::Notice(notice, 0)).unwrap_or_default();
        assert_eq!(json(Notice::Names(vec![hans(), hans()])), r#"{"event":"names","users":["\"h\\","\"h\\"]}"#);
        for (line, object) in [
            (
                "said-group g 0 live 0 a hi",
                r#""group":"g","number":0,"from":"a","text":"hi","sent":"1970-01-01T00:00:00Z","road":"live"}"#,
            ),
            (
                "stored-in-group g 1 a b 0 5 c - -",
                r#""group":"g","users":["a"],"away":[{"user":"b","seen":"1970-01-01T00:00:00Z"},{"user":"c"}]}"#,
            ),
            ("some-full", "}"),
            ("sent", "}"),
            ("seen 2 7 a b", r#""users":["a","b"],"more":7,"texts":2}"#),
            (
                "seen-meanwhile a 3 0 1000",
                r#""user":"a","texts":3,"sent":"1970-01-01T00:00:00Z","seen":"1970-01-01T00:00:01Z"}"#,
            ),
            ("receipts-dropped 1000", r#""max":1000}"#),
            ("receipts on", r#""on":true}"#),
            (
                "groups g owner 2 h member 3",
                r#""groups":[{"group":"g","owned":true,"members":2},{"group":"h","owned":false,"members":3}]}"#,
            ),
            ("no-groups", "}"),
            ("members a a b", r#""owner":"a","users":["a","b"]}"#),
            ("group-created g a", r#""group":"g","by":"a","users":[]}"#),
            ("group-removed g a b", r#""group":"g","by":"a","users":["b"]}"#),
            ("group-renamed g a h", r#""group":"g","by":"a","name":"h"}"#),
            ("group-owned g a b", r#""group":"g","by":"a","user":"b"}"#),
            ("group-left g a", r#""group":"g","by":"a"}"#),
            ("mode general", r#""mode":"general"}"#),
            ("address a 127.0.0.1 40000 7 abc", r#""user":"a"}"#),
            ("asks-private a", r#""user":"a"}"#),
            ("registered f 10", r#""file":"f","chunks":10}"#),
            ("available f 7 10", r#""file":"f","bytes":7,"chunks":10}"#),
            ("has f a 0-2 5", r#""file":"f","user":"a","chunks":"0-2 5"}"#),
            ("not-available f chunks", r#""file":"f","of-chunks":true}"#),
            ("ask group-name", r#""question":"group-name"}"#),
        ] {
            let tag = line.split(' ').next().unwrap_or_default();
            let comma = if object == "}" { "" } else { "," };
            let wanted = format!(r#"{{"event":"{tag}"{comma}{object}"#);
            assert_eq!(json(control::decode(line).expect(line)), wanted);
        }
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

//! The words of a typed line made into a [`Request`]; usage and help from the same table.

use super::Request;

/// One command: what may be typed, and what `help` says of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// The first word of the line.
    pub name: &'static str,
    /// A second word for the same, or nothing.
    pub alias: &'static str,
    /// What follows the name.
    pub arguments: &'static str,
    /// One line for the list.
    pub summary: &'static str,
    /// The rule behind it, for `help <command>`.
    pub rule: &'static str,
    /// A line as one would type it.
    pub example: &'static str,
}

/// Every command that the server carries out, in the order of the help list.
pub static COMMANDS: [Command; 9] = [
    Command {
        name: "message",
        alias: "",
        arguments: "<user> <text>",
        summary: "send a text to one user",
        rule: "If the user is away the text is stored and comes at the next log-in. Spaces in the text stay as typed.",
        example: "message luke are you there?",
    },
    Command {
        name: "broadcast",
        alias: "",
        arguments: "<text>",
        summary: "send a text to everybody who is online",
        rule: "Users who have blocked you do not get it, users who are away do not get it later.",
        example: "broadcast the lab closes at six",
    },
    Command {
        name: "whoelse",
        alias: "online",
        arguments: "",
        summary: "list who else is online",
        rule: "One name per line, sorted, without your own.",
        example: "whoelse",
    },
    Command {
        name: "whoelsesince",
        alias: "",
        arguments: "<seconds>",
        summary: "list who else was online at any moment of the last seconds",
        rule: "Users who have left since are listed too, however long ago they came.",
        example: "whoelsesince 300",
    },
    Command {
        name: "block",
        alias: "",
        arguments: "<user>",
        summary: "refuse what this user sends, and hide from him that you come and go",
        rule: "The user is told only when he writes to you. You may still write to him.",
        example: "block vader",
    },
    Command {
        name: "unblock",
        alias: "",
        arguments: "<user>",
        summary: "take a block back",
        rule: "What was refused meanwhile does not come later.",
        example: "unblock vader",
    },
    Command {
        name: "status",
        alias: "",
        arguments: "<user>",
        summary: "tell whether a user is online, since when, or when he left",
        rule: "Times are those of the server's clock and zone.",
        example: "status luke",
    },
    Command {
        name: "help",
        alias: "",
        arguments: "[command]",
        summary: "this list, or one command with its rule and an example",
        rule: "Every command may also be typed with a slash before it.",
        example: "help block",
    },
    Command {
        name: "logout",
        alias: "leave",
        arguments: "",
        summary: "leave; messages wait for you",
        rule: "The end of your input and a lost connection do the same.",
        example: "logout",
    },
];

/// Commands of the assignment that need the client program at the user's end.
pub(super) const FOR_CLIENT: [&str; 5] = ["startprivate", "private", "stopprivate", "register", "download"];

/// Why a line is no request.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseError<'a> {
    /// Nothing but blanks.
    Empty,
    /// The first word is no command.
    Unknown(&'a str),
    /// A command with the wrong number or kind of arguments.
    Usage(&'static Command),
}

/// Reads one line. Words match whole and in their case; one leading slash is accepted.
pub fn parse(line: &str) -> Result<Request<'_>, ParseError<'_>> {
    let line = line.trim_start_matches(BLANKS);
    let (word, rest) = first_word(line);
    let bare = word.strip_prefix('/').unwrap_or(word);
    if word.is_empty() {
        return Err(ParseError::Empty);
    }
    if let Some(command) = find(bare) {
        return request(command, rest).ok_or(ParseError::Usage(command));
    }
    match FOR_CLIENT.iter().find(|&&name| name == bare) {
        Some(word) => Ok(Request::ForClient { word }),
        None => Err(ParseError::Unknown(word)),
    }
}

/// The command of that name or alias.
pub fn find(word: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == word || (command.alias == word && !word.is_empty()))
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Splits after the first word and the one blank behind it.
fn first_word(text: &str) -> (&str, &str) {
    // By bytes: both blanks are ASCII, and every message goes through here twice.
    match memchr::memchr2(b' ', b'\t', text.as_bytes()) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, ""),
    }
}

fn request<'a>(command: &'static Command, rest: &'a str) -> Option<Request<'a>> {
    if command.name == "message" {
        let (to, text) = first_word(rest.trim_start_matches(BLANKS));
        return (!is_blank(text)).then_some(Request::Message { to, text });
    }
    let words = rest.trim_matches(BLANKS);
    let one_word = (!words.is_empty() && !words.contains(BLANKS)).then_some(words);
    match command.name {
        "broadcast" => (!is_blank(rest)).then_some(Request::Broadcast { text: rest }),
        "whoelse" => words.is_empty().then_some(Request::WhoElse),
        "whoelsesince" => Some(Request::WhoElseSince { millis: seconds(one_word?)? }),
        "block" => Some(Request::Block { user: one_word? }),
        "unblock" => Some(Request::Unblock { user: one_word? }),
        "status" => Some(Request::Status { user: one_word? }),
        "help" if words.is_empty() => Some(Request::Help { topic: None }),
        "help" => Some(Request::Help { topic: Some(one_word?) }),
        "logout" => words.is_empty().then_some(Request::Logout),
        _ => None,
    }
}

fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte == b'\t')
}

/// Whole seconds in milliseconds; digits only, and more than fits is the longest time there is.
fn seconds(word: &str) -> Option<i64> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().unwrap_or(i64::MAX).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_match_whole_and_in_their_case() {
        assert_eq!(parse("whoelse"), Ok(Request::WhoElse));
        assert_eq!(parse("/whoelse  "), Ok(Request::WhoElse));
        assert_eq!(parse("online"), Ok(Request::WhoElse));
        assert_eq!(parse("whoelsesince 5"), Ok(Request::WhoElseSince { millis: 5000 }));
        assert_eq!(parse("Whoelse"), Err(ParseError::Unknown("Whoelse")));
        assert_eq!(parse("whoelses"), Err(ParseError::Unknown("whoelses")));
        assert_eq!(parse("//logout"), Err(ParseError::Unknown("//logout")));
        assert_eq!(parse("/"), Err(ParseError::Unknown("/")));
        assert_eq!(parse(" \t"), Err(ParseError::Empty));
        assert_eq!(parse("/leave"), Ok(Request::Logout));
        assert_eq!(parse("private luke hi"), Ok(Request::ForClient { word: "private" }));
    }

    #[test]
    fn text_after_the_one_space_is_kept() {
        assert_eq!(parse("message luke  two  spaces "), Ok(Request::Message { to: "luke", text: " two  spaces " }));
        assert_eq!(parse("message   luke \ta\tb"), Ok(Request::Message { to: "luke", text: "\ta\tb" }));
        assert_eq!(parse("broadcast  hi"), Ok(Request::Broadcast { text: " hi" }));
    }

    #[test]
    fn wrong_arguments_are_a_usage_error_of_that_command() {
        let usage = |line| match parse(line) {
            Err(ParseError::Usage(command)) => command.name,
            other => panic!("{line:?} gave {other:?}"),
        };
        for line in ["message", "message luke", "message luke ", "message luke  \t"] {
            assert_eq!(usage(line), "message");
        }
        for line in ["broadcast", "broadcast   "] {
            assert_eq!(usage(line), "broadcast");
        }
        for line in ["whoelsesince", "whoelsesince x", "whoelsesince -1", "whoelsesince +1", "whoelsesince 1 2"] {
            assert_eq!(usage(line), "whoelsesince");
        }
        assert_eq!(usage("whoelse now"), "whoelse");
        assert_eq!(usage("logout now"), "logout");
        assert_eq!(usage("block"), "block");
        assert_eq!(usage("block a b"), "block");
    }

    #[test]
    fn a_huge_time_is_ever() {
        assert_eq!(parse("whoelsesince 99999999999999999999999"), Ok(Request::WhoElseSince { millis: i64::MAX }));
        assert_eq!(parse("whoelsesince 9223372036854775807"), Ok(Request::WhoElseSince { millis: i64::MAX }));
    }

    #[test]
    fn every_example_is_a_legal_line() {
        for command in &COMMANDS {
            assert!(parse(command.example).is_ok(), "{}", command.example);
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "[/a-z \t0-9é]{0,40}") {
            let _ = parse(&line);
        }
    }
}

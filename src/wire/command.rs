//! The words of a typed line made into a [`Request`]; usage and help from the same table.

use super::{GroupAct, GroupVerb, Mode, Request};

/// One command: what may be typed, and what `help` says of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// The first word of the line, or the first two.
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
    /// Only who uses the client program can do it.
    pub needs_client: bool,
}

/// Every command, in the order of the help list.
pub static COMMANDS: [Command; 39] = [
    Command {
        name: "message",
        alias: "",
        arguments: "<user> <text>",
        summary: "send a text to one user",
        rule: "If the user is away the text is stored and comes at the next log-in. Spaces in the text stay as typed.",
        example: "message luke are you there?",
        needs_client: false,
    },
    Command {
        name: "broadcast",
        alias: "",
        arguments: "<text>",
        summary: "send a text to everybody who is online",
        rule: "Users who have blocked you do not get it, users who are away do not get it later.",
        example: "broadcast the lab closes at six",
        needs_client: false,
    },
    Command {
        name: "whoelse",
        alias: "online",
        arguments: "",
        summary: "list who else is online",
        rule: "One name per line, sorted, without your own.",
        example: "whoelse",
        needs_client: false,
    },
    Command {
        name: "whoelsesince",
        alias: "",
        arguments: "<seconds>",
        summary: "list who else was online at any moment of the last seconds",
        rule: "Users who have left since are listed too, however long ago they came.",
        example: "whoelsesince 300",
        needs_client: false,
    },
    Command {
        name: "block",
        alias: "",
        arguments: "<user>",
        summary: "refuse what this user sends, and hide from him that you come and go",
        rule: "The user is told only when he writes to you. You may still write to him.",
        example: "block vader",
        needs_client: false,
    },
    Command {
        name: "unblock",
        alias: "",
        arguments: "<user>",
        summary: "take a block back",
        rule: "What was refused meanwhile does not come later.",
        example: "unblock vader",
        needs_client: false,
    },
    Command {
        name: "status",
        alias: "",
        arguments: "<user>",
        summary: "tell whether a user is online, since when, or when he left",
        rule: "Times are those of the server's clock and zone.",
        example: "status luke",
        needs_client: false,
    },
    Command {
        name: "receipts",
        alias: "",
        arguments: "[on|off]",
        summary: "be told what becomes of your texts, or not, or ask",
        rule: "Sent, delivered to his connection, seen by him. From netcat the last two are one. Always on in the chat modes.",
        example: "receipts on",
        needs_client: false,
    },
    Command {
        name: "groups",
        alias: "",
        arguments: "",
        summary: "list the groups you are in",
        rule: "One per line, sorted, with the number of members; yours are marked.",
        example: "groups",
        needs_client: false,
    },
    Command {
        name: "group",
        alias: "",
        arguments: "<form> <group> ...",
        summary: "all about one group: help group shows the forms",
        rule: "Group names are made as user names, but without a slash; a group and a user may have the same name.",
        example: "group send friends who brings the cable?",
        needs_client: false,
    },
    Command {
        name: "group create",
        alias: "",
        arguments: "<group> [user...]",
        summary: "create a group that you own, with these members",
        rule: "The members are told. Names that nobody has are skipped, with a line each.",
        example: "group create friends luke yoda",
        needs_client: false,
    },
    Command {
        name: "group add",
        alias: "",
        arguments: "<group> <user...>",
        summary: "make users members of your group",
        rule: "Only the owner may. Who has blocked you is not added.",
        example: "group add friends r2d2",
        needs_client: false,
    },
    Command {
        name: "group kick",
        alias: "",
        arguments: "<group> <user...>",
        summary: "take members out of your group",
        rule: "Only the owner may. He cannot kick himself.",
        example: "group kick friends r2d2",
        needs_client: false,
    },
    Command {
        name: "group rename",
        alias: "",
        arguments: "<group> <new>",
        summary: "give your group another name",
        rule: "Only the owner may. The name must be free.",
        example: "group rename friends rebels",
        needs_client: false,
    },
    Command {
        name: "group owner",
        alias: "",
        arguments: "<group> <user>",
        summary: "hand your group over to another member",
        rule: "Only the owner may. You stay a member.",
        example: "group owner friends luke",
        needs_client: false,
    },
    Command {
        name: "group members",
        alias: "",
        arguments: "<group>",
        summary: "list who is in a group",
        rule: "Only members may. One name per line, sorted; the owner is marked.",
        example: "group members friends",
        needs_client: false,
    },
    Command {
        name: "group send",
        alias: "",
        arguments: "<group> <text>",
        summary: "send a text to all other members",
        rule: "Only members may. It is stored for who is away, and you hear for whom.",
        example: "group send friends who brings the cable?",
        needs_client: false,
    },
    Command {
        name: "group leave",
        alias: "",
        arguments: "<group>",
        summary: "be no member any more",
        rule: "The owner cannot while others remain. If he is alone, the group is deleted.",
        example: "group leave friends",
        needs_client: false,
    },
    Command {
        name: "group delete",
        alias: "",
        arguments: "<group>",
        summary: "delete your group",
        rule: "Only the owner may. Texts that wait for members still come.",
        example: "group delete friends",
        needs_client: false,
    },
    Command {
        name: "/general",
        alias: "",
        arguments: "",
        summary: "general mode: every line goes to everybody",
        rule: "It waits for who is away and has been here before. A line with / in front is a command; //x sends /x.",
        example: "/general",
        needs_client: false,
    },
    Command {
        name: "/direct",
        alias: "",
        arguments: "",
        summary: "direct mode: user~text goes to one user",
        rule: "The first ~ ends the name; what follows is kept as typed.",
        example: "/direct",
        needs_client: false,
    },
    Command {
        name: "/group",
        alias: "",
        arguments: "",
        summary: "group mode: create a group by question and answer; group~text goes to its members",
        rule: "Without arguments; with them it is the command group.",
        example: "/group",
        needs_client: false,
    },
    Command {
        name: "/exit",
        alias: "",
        arguments: "",
        summary: "leave the mode, back to the one before",
        rule: "/leave leaves the server, in every mode.",
        example: "/exit",
        needs_client: false,
    },
    Command {
        name: "/add",
        alias: "",
        arguments: "[group] <user...>",
        summary: "as group add, for the group last created or used",
        rule: "The first of several words is the group if it names one of yours.",
        example: "/add r2d2",
        needs_client: false,
    },
    Command {
        name: "/kick",
        alias: "",
        arguments: "[group] <user...>",
        summary: "as group kick, for the group last created or used",
        rule: "The first of several words is the group if it names one of yours.",
        example: "/kick r2d2",
        needs_client: false,
    },
    Command {
        name: "/rename",
        alias: "",
        arguments: "[group] <new>",
        summary: "as group rename, for the group last created or used",
        rule: "With two words the first is the group.",
        example: "/rename rebels",
        needs_client: false,
    },
    Command {
        name: "/members",
        alias: "",
        arguments: "[group]",
        summary: "as group members, for the group last created or used",
        rule: "With a word it is that group.",
        example: "/members",
        needs_client: false,
    },
    Command {
        name: "startprivate",
        alias: "",
        arguments: "<user>",
        summary: "begin a private session: from client to client, past the server",
        rule: "The other needs the client program too. Either side may write and end it; a block does not end it.",
        example: "startprivate luke",
        needs_client: true,
    },
    Command {
        name: "private",
        alias: "",
        arguments: "<user> <text>",
        summary: "send a text past the server",
        rule: "Over your private session, or to an address that getaddress has brought. It is never stored.",
        example: "private luke meet me at the ship",
        needs_client: true,
    },
    Command {
        name: "stopprivate",
        alias: "",
        arguments: "<user>",
        summary: "end a private session",
        rule: "The other is told.",
        example: "stopprivate luke",
        needs_client: true,
    },
    Command {
        name: "getaddress",
        alias: "",
        arguments: "<user>",
        summary: "ask a user whether you may write to him privately",
        rule: "He is asked once. What he allows holds until he blocks you or the server stops.",
        example: "getaddress luke",
        needs_client: true,
    },
    Command {
        name: "allow",
        alias: "",
        arguments: "<user>",
        summary: "say yes to a user who asked for your address or for a private session",
        rule: "A request ends when either of you leaves.",
        example: "allow hans",
        needs_client: true,
    },
    Command {
        name: "deny",
        alias: "",
        arguments: "<user>",
        summary: "say no to a user who asked for your address or for a private session",
        rule: "He is told.",
        example: "deny hans",
        needs_client: true,
    },
    Command {
        name: "register",
        alias: "",
        arguments: "<file> <chunks>",
        summary: "offer a file of your folder to everybody, in so many chunks",
        rule: "The server learns its name, size and checksums, others fetch it from you.",
        example: "register ship.bin 10",
        needs_client: true,
    },
    Command {
        name: "searchFile",
        alias: "",
        arguments: "<file>",
        summary: "list who is online and has chunks of a file, and which",
        rule: "Chunks are counted from 0.",
        example: "searchFile ship.bin",
        needs_client: false,
    },
    Command {
        name: "searchChunk",
        alias: "",
        arguments: "<file> <chunk...>",
        summary: "list who is online and has one of these chunks, and which of them",
        rule: "Chunks are counted from 0.",
        example: "searchChunk ship.bin 3 7",
        needs_client: false,
    },
    Command {
        name: "download",
        alias: "",
        arguments: "<file> [chunk...]",
        summary: "fetch the chunks of a file that you lack, or these, from those who have them",
        rule: "Every chunk is checked, and others can fetch it from you then. Nothing is overwritten.",
        example: "download ship.bin",
        needs_client: true,
    },
    Command {
        name: "help",
        alias: "",
        arguments: "[command]",
        summary: "this list, or one command with its rule and an example",
        rule: "Every command may also be typed with a slash before it.",
        example: "help block",
        needs_client: false,
    },
    Command {
        name: "logout",
        alias: "leave",
        arguments: "",
        summary: "leave; messages wait for you",
        rule: "The end of your input and a lost connection do the same.",
        example: "logout",
        needs_client: false,
    },
];

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
    if word == "/group" && is_blank(rest) {
        return Ok(Request::Enter(Mode::Group));
    }
    if bare == "group" {
        return group_request(rest);
    }
    let command = find(word).or_else(|| find(bare)).ok_or(ParseError::Unknown(word))?;
    request(command, rest).ok_or(ParseError::Usage(command))
}

/// The command of that name or alias.
pub fn find(word: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == word || (command.alias == word && !word.is_empty()))
}

/// Whether `command` is one form of `general`, as `group create` is of `group`.
pub fn is_form(command: &Command, general: &Command) -> bool {
    command.name.strip_prefix(general.name).is_some_and(|form| form.starts_with(' '))
}

/// The words of a list of names.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(BLANKS).filter(|word| !word.is_empty())
}

/// What separates words.
pub const BLANKS: [char; 2] = [' ', '\t'];

/// Splits after the first word and the one blank behind it.
pub fn first_word(text: &str) -> (&str, &str) {
    // By bytes: both blanks are ASCII, and every message goes through here twice.
    match memchr::memchr2(b' ', b'\t', text.as_bytes()) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, ""),
    }
}

/// `group <form> <group> ...`: the form is part of the command's name.
fn group_request(rest: &str) -> Result<Request<'_>, ParseError<'_>> {
    let (form, rest) = first_word(rest.trim_start_matches(BLANKS));
    let of_form = |command: &&Command| command.name.strip_prefix("group ") == Some(form);
    let Some(command) = COMMANDS.iter().find(of_form) else {
        return Err(find("group").map_or(ParseError::Unknown("group"), ParseError::Usage));
    };
    let (group, rest) = first_word(rest.trim_start_matches(BLANKS));
    let act = if group.is_empty() { None } else { group_act(form, rest) };
    act.map(|act| Request::Group { group, act }).ok_or(ParseError::Usage(command))
}

fn group_act<'a>(form: &str, rest: &'a str) -> Option<GroupAct<'a>> {
    let words = rest.trim_matches(BLANKS);
    let some_words = (!words.is_empty()).then_some(words);
    let one_word = some_words.filter(|words| !words.contains(BLANKS));
    match form {
        "create" => Some(GroupAct::Create { users: words }),
        "add" => Some(GroupAct::Add { users: some_words? }),
        "kick" => Some(GroupAct::Kick { users: some_words? }),
        "rename" => Some(GroupAct::Rename { to: one_word? }),
        "owner" => Some(GroupAct::Owner { user: one_word? }),
        "send" => (!is_blank(rest)).then_some(GroupAct::Send { text: rest }),
        "members" => words.is_empty().then_some(GroupAct::Members),
        "leave" => words.is_empty().then_some(GroupAct::Leave),
        "delete" => words.is_empty().then_some(GroupAct::Delete),
        _ => None,
    }
}

fn request<'a>(command: &'static Command, rest: &'a str) -> Option<Request<'a>> {
    if let "message" | "private" = command.name {
        let (to, text) = first_word(rest.trim_start_matches(BLANKS));
        let request =
            if command.name == "message" { Request::Message { to, text } } else { Request::Private { to, text } };
        return (!is_blank(text)).then_some(request);
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
        "receipts" => match words {
            "" => Some(Request::Receipts { on: None }),
            "on" => Some(Request::Receipts { on: Some(true) }),
            "off" => Some(Request::Receipts { on: Some(false) }),
            _ => None,
        },
        "groups" => words.is_empty().then_some(Request::Groups),
        "/general" => words.is_empty().then_some(Request::Enter(Mode::General)),
        "/direct" => words.is_empty().then_some(Request::Enter(Mode::Direct)),
        "/exit" => words.is_empty().then_some(Request::Exit),
        "/add" => (!words.is_empty()).then_some(Request::InGroup { verb: GroupVerb::Add, words }),
        "/kick" => (!words.is_empty()).then_some(Request::InGroup { verb: GroupVerb::Kick, words }),
        "/rename" => {
            (1..=2).contains(&self::words(words).count()).then_some(Request::InGroup { verb: GroupVerb::Rename, words })
        }
        "/members" => (!words.contains(BLANKS)).then_some(Request::InGroup { verb: GroupVerb::Members, words }),
        "startprivate" => Some(Request::StartPrivate { user: one_word? }),
        "stopprivate" => Some(Request::StopPrivate { user: one_word? }),
        "getaddress" => Some(Request::GetAddress { user: one_word? }),
        "allow" => Some(Request::Allow { user: one_word? }),
        "deny" => Some(Request::Deny { user: one_word? }),
        "searchFile" => Some(Request::SearchFile { file: one_word? }),
        "register" | "searchChunk" | "download" => file_request(command.name, words),
        "help" if words.is_empty() => Some(Request::Help { topic: None }),
        // Two words only where they are one name, as in `help group create`.
        "help" => one_word.or(find(words).map(|_| words)).map(|topic| Request::Help { topic: Some(topic) }),
        "logout" => words.is_empty().then_some(Request::Logout),
        _ => None,
    }
}

/// A file and what stands behind its name.
fn file_request<'a>(name: &str, words: &'a str) -> Option<Request<'a>> {
    let (file, rest) = first_word(words);
    let chunks = rest.trim_start_matches(BLANKS);
    match name {
        "register" => {
            let chunks = count(chunks).filter(|&chunks| chunks > 0)?;
            Some(Request::Register { file, chunks })
        }
        "searchChunk" => (!chunks.is_empty()).then_some(Request::SearchChunk { file, chunks }),
        _ => (!file.is_empty()).then_some(Request::Download { file, chunks }),
    }
}

/// Digits only; more than fits is the most there is.
fn count(word: &str) -> Option<u32> {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| word.parse().unwrap_or(u32::MAX))
}

/// Whether a text says nothing.
pub fn is_blank(text: &str) -> bool {
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
        assert_eq!(parse("searchfile a"), Err(ParseError::Unknown("searchfile")));
    }

    #[test]
    fn files_and_what_is_wanted_of_them() {
        assert_eq!(parse("private luke  hi "), Ok(Request::Private { to: "luke", text: " hi " }));
        assert_eq!(parse("register a.bin 10"), Ok(Request::Register { file: "a.bin", chunks: 10 }));
        let huge = Request::Register { file: "a", chunks: u32::MAX };
        assert_eq!(parse("/register  a \t 99999999999 "), Ok(huge));
        assert_eq!(parse("searchChunk a 1  x"), Ok(Request::SearchChunk { file: "a", chunks: "1  x" }));
        assert_eq!(parse("download a"), Ok(Request::Download { file: "a", chunks: "" }));
        assert_eq!(parse("download a  3 4 "), Ok(Request::Download { file: "a", chunks: "3 4" }));
        for line in
            ["register a", "register a 0", "register a -1", "register a 1 2", "register a x", "searchFile", "download"]
        {
            assert!(matches!(parse(line), Err(ParseError::Usage(_))), "{line}");
        }
        for line in ["private luke", "private luke  ", "startprivate", "allow a b", "searchFile a b", "searchChunk a "]
        {
            assert!(matches!(parse(line), Err(ParseError::Usage(_))), "{line}");
        }
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
        assert_eq!(usage("help block unblock"), "help");
        assert_eq!(usage("receipts perhaps"), "receipts");
        assert_eq!(usage("group"), "group");
        assert_eq!(usage("/group nonsense"), "group");
        assert_eq!(usage("group create"), "group create");
        for line in ["group rename g", "group rename g a b"] {
            assert_eq!(usage(line), "group rename");
        }
        assert_eq!(usage("group send g  "), "group send");
        assert_eq!(usage("group leave g now"), "group leave");
        assert_eq!(usage("/rename a b c"), "/rename");
    }

    #[test]
    fn a_slash_alone_makes_the_mode() {
        assert_eq!(parse("/group"), Ok(Request::Enter(Mode::Group)));
        assert_eq!(parse(" /group "), Ok(Request::Enter(Mode::Group)));
        let create = |users| Ok(Request::Group { group: "g", act: GroupAct::Create { users } });
        assert_eq!(parse("/group create g"), create(""));
        assert_eq!(parse("group  create  g  luke yoda "), create("luke yoda"));
        assert_eq!(parse("group send g  hi "), Ok(Request::Group { group: "g", act: GroupAct::Send { text: " hi " } }));
        assert_eq!(parse("/members"), Ok(Request::InGroup { verb: GroupVerb::Members, words: "" }));
        assert_eq!(parse("general"), Err(ParseError::Unknown("general")));
        assert_eq!(parse("add luke"), Err(ParseError::Unknown("add")));
        assert_eq!(parse("help group create"), Ok(Request::Help { topic: Some("group create") }));
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

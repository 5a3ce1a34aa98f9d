//! What the Tab key offers: commands, users who are still here, one's groups. And the prompt,
//! which tells in which mode all this is meant.

use std::collections::BTreeSet;

use crate::wire::Mode;
use crate::wire::command::{self, BLANKS, COMMANDS, words};
use crate::wire::name::{FileName, GroupName, UserName};

/// What the typing thread knows of the talk.
#[derive(Debug)]
pub struct Known {
    /// What a line means.
    pub mode: Mode,
    /// In group mode, the group last used.
    pub last_group: Option<GroupName>,
    /// Who can be written to.
    pub users: BTreeSet<UserName>,
    /// The groups one is in.
    pub groups: BTreeSet<GroupName>,
    /// With whom there is a private session.
    pub partners: BTreeSet<UserName>,
    /// Files that somebody has registered.
    pub files: BTreeSet<FileName>,
    /// Files in the folder of this client.
    pub own_files: Vec<FileName>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            mode: Mode::Command,
            last_group: None,
            users: BTreeSet::new(),
            groups: BTreeSet::new(),
            partners: BTreeSet::new(),
            files: BTreeSet::new(),
            own_files: Vec::new(),
        }
    }
}

impl Known {
    /// Somebody is here, or not.
    pub fn user(&mut self, user: UserName, here: bool) {
        if here {
            self.users.insert(user)
        } else {
            self.users.remove(&user)
        };
    }

    /// One is in this group, or not.
    pub fn group(&mut self, group: GroupName, is_in: bool) {
        if is_in {
            self.groups.insert(group)
        } else {
            self.groups.remove(&group)
        };
    }

    /// There is a private session with somebody, or no more.
    pub fn partner(&mut self, user: UserName, is_one: bool) {
        if is_one {
            self.partners.insert(user)
        } else {
            self.partners.remove(&user)
        };
    }

    /// Somebody has registered this file.
    pub fn file(&mut self, file: FileName) {
        self.files.insert(file);
    }

    /// Whether what completes this line may be in the folder of this client.
    pub fn needs_own_files(line: &str) -> bool {
        words(line).next().is_some_and(|word| word.strip_prefix('/').unwrap_or(word) == "register")
    }

    /// `> ` with the mode before it.
    pub fn prompt(&self) -> String {
        match (self.mode, &self.last_group) {
            (Mode::Command, _) => "> ".to_owned(),
            (Mode::General, _) => "general> ".to_owned(),
            (Mode::Direct, _) => "direct> ".to_owned(),
            (Mode::Group, None) => "group> ".to_owned(),
            (Mode::Group, Some(group)) => format!("group {group}> "),
        }
    }

    /// Where the word before `at` begins, and the words it can become: each with a space behind,
    /// or with a tilde where a text follows it.
    pub fn complete(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let head = line.get(..at).unwrap_or(line);
        let start = head.rfind(BLANKS).map_or(0, |blank| blank + 1);
        let (before, word) = head.split_at(start);
        let before: Vec<&str> = words(before).collect();
        let is_command = self.mode == Mode::Command || head.starts_with('/');
        let (offered, end) = match (is_command, &before[..]) {
            (true, []) => (commands(word.starts_with('/')), ' '),
            (true, before) => (self.arguments(before), ' '),
            (false, []) => (self.addressees(), '~'),
            (false, _) => (Vec::new(), ' '),
        };
        let found: BTreeSet<String> = offered.into_iter().filter(|name| name.starts_with(word)).collect();
        (start, found.into_iter().map(|name| format!("{name}{end}")).collect())
    }

    /// Whom a text can be for. The first tilde ends the name.
    fn addressees(&self) -> Vec<String> {
        let names = match self.mode {
            Mode::Direct => self.names("user"),
            Mode::Group => self.names("group"),
            Mode::Command | Mode::General => Vec::new(),
        };
        names.into_iter().filter(|name| !name.contains('~')).collect()
    }

    /// What the word behind these words can be.
    fn arguments(&self, before: &[&str]) -> Vec<String> {
        let bare = before[0].strip_prefix('/').unwrap_or(before[0]);
        let (name, at) = match (bare, before) {
            ("group", [_]) | ("help", [_, "group"]) => return forms(),
            ("group", [_, form, arguments @ ..]) => (format!("group {form}"), arguments.len()),
            _ => (before[0].to_owned(), before.len() - 1),
        };
        let Some(command) = command::find(&name).or_else(|| command::find(bare)) else { return Vec::new() };
        let arguments: Vec<&str> = command.arguments.split(' ').collect();
        let last = arguments.last().filter(|last| last.contains("..."));
        let argument = match arguments.get(at).or(last) {
            // The name of a new group is not known.
            Some(&"<group>") if name == "group create" => return Vec::new(),
            Some(argument) => *argument,
            None => return Vec::new(),
        };
        if at == 0 && command.name == "register" {
            return self.own_files.iter().map(|file| file.as_str().to_owned()).collect();
        }
        // With whom there is a session, rather than everybody who is here.
        if at == 0 && (command.name == "stopprivate" || (command.name == "private" && !self.partners.is_empty())) {
            return self.partners.iter().map(|user| user.as_str().to_owned()).collect();
        }
        let mut names = self.names(argument);
        // This one may be left out.
        if argument == "[group]" {
            names.extend(arguments.get(at + 1).into_iter().flat_map(|next| self.names(next)));
        }
        names
    }

    /// What can stand for an argument such as `<user...>`.
    fn names(&self, argument: &str) -> Vec<String> {
        match argument.trim_matches(['<', '>', '[', ']', '.']) {
            "user" => self.users.iter().map(|user| user.as_str().to_owned()).collect(),
            "file" => self.files.iter().map(|file| file.as_str().to_owned()).collect(),
            "group" => self.groups.iter().map(|group| group.as_str().to_owned()).collect(),
            "command" => commands(false).into_iter().chain(commands(true)).collect(),
            "on|off" => ["on", "off"].map(str::to_owned).to_vec(),
            _ => Vec::new(),
        }
    }
}

/// The same for the clients that do not talk to the line port: a prompt, and the commands with
/// what can follow each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// What stands before the line that is typed.
    pub prompt: String,
    /// First words, and the words that can follow.
    pub commands: Vec<(&'static str, Vec<String>)>,
}

impl Offer {
    /// Where the word before `at` begins, and the words it can become, each with a space behind.
    pub fn complete(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let head = line.get(..at).unwrap_or(line);
        let start = head.rfind(BLANKS).map_or(0, |blank| blank + 1);
        let (before, word) = head.split_at(start);
        let offered: Vec<&str> = match words(before).collect::<Vec<_>>()[..] {
            [] if !word.is_empty() => self.commands.iter().map(|(command, _)| *command).collect(),
            [first] => {
                let command = self.commands.iter().find(|(command, _)| *command == first);
                command.into_iter().flat_map(|(_, following)| following.iter().map(String::as_str)).collect()
            }
            _ => Vec::new(),
        };
        let found: BTreeSet<&str> = offered.into_iter().filter(|name| name.starts_with(word)).collect();
        (start, found.into_iter().map(|name| format!("{name} ")).collect())
    }
}

/// The first words of commands, with a slash or as most are typed.
fn commands(slashed: bool) -> Vec<String> {
    let names = COMMANDS.iter().flat_map(|command| [command.name, command.alias]);
    let names = names.filter(|name| !name.is_empty() && !name.contains(' '));
    if slashed {
        names.map(|name| format!("/{}", name.strip_prefix('/').unwrap_or(name))).collect()
    } else {
        names.filter(|name| !name.starts_with('/')).map(str::to_owned).collect()
    }
}

/// What can follow `group`.
fn forms() -> Vec<String> {
    COMMANDS.iter().filter_map(|command| command.name.strip_prefix("group ")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(mode: Mode, line: &str) -> (usize, String) {
        let mut known = Known { mode, ..Known::default() };
        for user in ["hans", "hanna", "yoda", "y~"] {
            known.user(UserName::parse(user).expect("a name"), true);
        }
        for group in ["study", "sports"] {
            known.group(GroupName::parse(group).expect("a name"), true);
        }
        let file = |name| FileName::parse(name).expect("a name");
        known.files = ["a.bin", "b.bin"].map(file).into();
        known.own_files = ["mine.bin", "my.txt"].map(file).into();
        let (start, found) = known.complete(line, line.len());
        (start, found.join("|"))
    }

    #[test]
    fn commands_first_then_what_belongs_there() {
        for (line, start, found) in [
            ("who", 0, "whoelse |whoelsesince "),
            ("/log", 0, "/logout "),
            ("/g", 0, "/general |/getaddress |/group |/groups "),
            ("gr", 0, "group |groups "),
            ("ex", 0, ""),
            ("message ha", 8, "hanna |hans "),
            ("searchF", 0, "searchFile "),
            ("private ha", 8, "hanna |hans "),
            ("register ha", 9, ""),
            ("/block  yo", 8, "yoda "),
            ("message hans ha", 13, ""),
            ("broadcast ha", 10, ""),
            ("help wh", 5, "whoelse |whoelsesince "),
            ("help /di", 5, "/direct "),
            ("help group k", 11, "kick "),
            ("receipts o", 9, "off |on "),
            ("group s", 6, "send "),
            ("/group s", 7, "send "),
            ("group send s", 11, "sports |study "),
            ("group send study s", 17, ""),
            ("group create s", 13, ""),
            ("group create new ha", 17, "hanna |hans "),
            ("group add study hans yo", 21, "yoda "),
            ("group rename st", 13, "study "),
            ("group rename study s", 19, ""),
            ("group nonsense s", 15, ""),
            ("/kick s", 6, "sports |study "),
            ("/kick yo", 6, "yoda "),
            ("/add study yo", 11, "yoda "),
            ("/add yoda han", 10, "hanna |hans "),
            ("/members sp", 9, "sports "),
            ("register m", 9, "mine.bin |my.txt "),
            ("register mine.bin ", 18, ""),
            ("/download a", 10, "a.bin "),
            ("download a.bin ", 15, ""),
            ("searchFile ", 11, "a.bin |b.bin "),
            ("xyz", 0, ""),
        ] {
            assert_eq!(offered(Mode::Command, line), (start, found.to_owned()), "{line}");
        }
    }

    #[test]
    fn an_offer_is_commands_and_what_follows_them() {
        let commands = vec![("cmd:request", vec!["anna".to_owned(), "Bernd".to_owned()]), ("cmd:groups", Vec::new())];
        let offer = Offer { prompt: "> ".to_owned(), commands };
        for (line, start, found) in [
            ("cmd:", 0, "cmd:groups |cmd:request "),
            ("", 0, ""),
            ("cmd:request a", 12, "anna "),
            ("cmd:request ", 12, "Bernd |anna "),
            ("cmd:request anna B", 17, ""),
            ("cmd:groups a", 11, ""),
            ("hello a", 6, ""),
        ] {
            let (at, words) = offer.complete(line, line.len());
            assert_eq!((at, &*words.join("|")), (start, found), "{line}");
        }
    }

    #[test]
    fn in_a_mode_the_first_word_is_who_gets_the_text() {
        for (mode, line, start, found) in [
            (Mode::General, "who", 0, ""),
            (Mode::General, "/who", 0, "/whoelse |/whoelsesince "),
            (Mode::General, "//who", 0, ""),
            (Mode::Direct, "h", 0, "hanna~|hans~"),
            (Mode::Direct, "y", 0, "yoda~"),
            (Mode::Direct, "hans~yo", 0, ""),
            (Mode::Direct, "hans~are yo", 9, ""),
            (Mode::Direct, "/message yo", 9, "yoda "),
            (Mode::Group, "st", 0, "study~"),
            (Mode::Group, "ha", 0, ""),
            (Mode::Group, "/add ha", 5, "hanna |hans "),
        ] {
            assert_eq!(offered(mode, line), (start, found.to_owned()), "{line}");
        }
    }
}

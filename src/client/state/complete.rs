//! What the Tab key offers: commands, and users who are still here.

use crate::wire::command::COMMANDS;

/// Where the word before `at` begins, and the words it can become, each with a space behind.
pub fn complete<'a>(line: &str, at: usize, present: impl Iterator<Item = &'a str>) -> (usize, Vec<String>) {
    let head = line.get(..at).unwrap_or(line);
    let start = head.rfind([' ', '\t']).map_or(0, |blank| blank + 1);
    let (before, word) = head.split_at(start);
    let mut words = before.split([' ', '\t']).filter(|word| !word.is_empty());
    let found = match (words.next(), words.next()) {
        (None, _) => {
            let (slash, bare) = word.strip_prefix('/').map_or(("", word), |bare| ("/", bare));
            commands(bare).map(|name| format!("{slash}{name} ")).collect()
        }
        (Some(command), None) => second(command.strip_prefix('/').unwrap_or(command), word, present),
        _ => Vec::new(),
    };
    (start, found)
}

fn second<'a>(command: &str, word: &str, present: impl Iterator<Item = &'a str>) -> Vec<String> {
    if command == "help" {
        return commands(word).map(|name| format!("{name} ")).collect();
    }
    let takes_user = COMMANDS.iter().any(|known| known.name == command && known.arguments.starts_with("<user>"));
    if !takes_user {
        return Vec::new();
    }
    present.filter(|user| user.starts_with(word)).map(|user| format!("{user} ")).collect()
}

fn commands(begin: &str) -> impl Iterator<Item = &'static str> {
    let names = COMMANDS.iter().flat_map(|command| [command.name, command.alias]);
    let mut found: Vec<_> = names.filter(|name| !name.is_empty() && name.starts_with(begin)).collect();
    found.sort_unstable();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::complete;

    fn offered(line: &str) -> (usize, Vec<String>) {
        complete(line, line.len(), ["hans", "hanna", "yoda"].into_iter())
    }

    #[test]
    fn commands_first_then_users_where_a_user_belongs() {
        assert_eq!(offered("who"), (0, vec!["whoelse ".into(), "whoelsesince ".into()]));
        assert_eq!(offered("/log"), (0, vec!["/logout ".into()]));
        assert_eq!(offered("message ha"), (8, vec!["hans ".into(), "hanna ".into()]));
        assert_eq!(offered("/block  y"), (8, vec!["yoda ".into()]));
        assert_eq!(offered("message hans ha"), (13, vec![]));
        assert_eq!(offered("broadcast ha"), (10, vec![]));
        assert_eq!(offered("help wh"), (5, vec!["whoelse ".into(), "whoelsesince ".into()]));
        assert_eq!(offered("xyz").1, Vec::<String>::new());
    }
}

//! The old spellings of the Basel programs: long options with one dash, which no option of ours
//! has. They are rewritten before the arguments are read.

use std::ffi::OsString;

/// The programs of ours that have these options.
const PROGRAMS: [&str; 2] = ["direct", "udp"];

/// How an option was spelled, and how it is.
const OPTIONS: [(&str, &str); 5] =
    [("-ip", "--ip"), ("-port", "--port"), ("-p", "--port"), ("-myport", "--myport"), ("-mp", "--myport")];

/// The arguments of a process as they are spelled now; those of other programs are left alone.
pub fn modern(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|program| PROGRAMS.iter().any(|ours| program == ours)) {
        arguments[2..].iter_mut().for_each(rewrite);
    }
    arguments
}

/// `-ip` and `-ip=localhost`.
fn rewrite(argument: &mut OsString) {
    let Some(text) = argument.to_str() else { return };
    for (old, new) in OPTIONS {
        match text.strip_prefix(old) {
            Some("") => return *argument = new.into(),
            Some(value) if value.starts_with('=') => return *argument = format!("{new}{value}").into(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let arguments = modern(line.split(' ').map(OsString::from));
        arguments.iter().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn old_options_are_rewritten_where_they_belong_and_only_whole() {
        for (old, new) in [
            ("client direct -ip localhost -port 2020 -myport 2021", "--ip localhost --port 2020 --myport 2021"),
            ("client udp -p 1234 -ip localhost -mp 5678", "--port 1234 --ip localhost --myport 5678"),
            ("server udp -ip=localhost -port=2020", "--ip=localhost --port=2020"),
            ("client direct 4000 --ip x -i -ports -P", "4000 --ip x -i -ports -P"),
        ] {
            let program = old.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
            assert_eq!(rewritten(old), format!("{program} {new}"));
        }
        for other in
            ["client send 127.0.0.1 4000 --user hans yoda -ip", "client -p", "server 4000 60 120 -p udp", "client"]
        {
            assert_eq!(rewritten(other), other);
        }
    }
}

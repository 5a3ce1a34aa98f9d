//! Rules of the house that a machine can check.

use std::path::{Path, PathBuf};

/// What the mind and the words must not touch, and how it would be spelled.
const IMPURE: [&str; 26] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::net::Tcp",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::thread",
    "std::sync::mpsc",
    "std::io::Read",
    "std::io::stdin",
    "crossbeam_channel",
    "Instant",
    "SystemTime",
    "Zoned::now",
    "Timestamp::now",
    "TimeZone::system",
    "getrandom",
    "Mutex",
    "RwLock",
    "Atomic",
    "rusqlite",
    "socket2",
    "rustix",
    "log::",
];

/// Files that may print, each to its own user.
const PRINTERS: [&str; 4] = ["src/args.rs", "src/bin/server.rs", "src/bin/client.rs", "src/client/screen.rs"];

struct Source {
    path: String,
    text: String,
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

#[test]
fn the_mind_and_the_words_are_pure() {
    let mut rooms = sources("src/wire");
    rooms.extend(sources("src/client/state"));
    rooms.extend(sources("src/server/state"));
    for source in rooms {
        let code = code(&source.text);
        for word in IMPURE {
            assert!(!code.contains(word), "{} mentions {word}", source.path);
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for source in sources("src").iter().chain(&sources("tests")) {
        assert!(source.text.starts_with("//! "), "{}", source.path);
    }
}

#[test]
fn printing_happens_only_where_it_belongs() {
    for source in sources("src") {
        let code = code(&source.text);
        let prints = ["println!", "print!", "eprintln!", "eprint!", "stdout()", "stderr()"];
        if prints.iter().any(|word| code.contains(word)) {
            assert!(PRINTERS.contains(&source.path.as_str()), "{} prints", source.path);
        }
    }
}

#[test]
fn only_the_clock_asks_the_time() {
    for source in sources("src").into_iter().filter(|source| source.path != "src/clock.rs") {
        let code = code(&source.text);
        assert!(!code.contains("Instant::now") && !code.contains("SystemTime::now"), "{}", source.path);
    }
}

#[test]
fn nothing_is_left_for_later() {
    for source in sources("src").iter().chain(&sources("tests")) {
        for word in [
            "TO".to_owned() + "DO",
            "FIX".to_owned() + "ME",
            "to".to_owned() + "do!(",
            "unimpl".to_owned() + "emented!(",
        ] {
            assert!(!source.text.contains(&word), "{} has a {word}", source.path);
        }
    }
}

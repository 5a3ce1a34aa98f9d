//! Files between real clients: registered, fetched from many, served on; and holders who lie.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use chinwag::client::state::handshake::Acceptor;
use chinwag::wire::Ticket;
use chinwag::wire::chunks::{Digest, span};
use chinwag::wire::name::FileName;
use chinwag::wire::peer::{Frame, FrameReader};
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::client::program;
use crate::dice::Dice;
use crate::programs::{Ended, House, Program, Server};
use crate::socket::PATIENCE;

pub(crate) const ACCOUNTS: &str = "hans a\nyoda a\nluke a\nvader a\nleia a\n";

/// A client with a folder for files.
pub(crate) struct Sharer {
    pub(crate) program: Program,
    pub(crate) place: TempDir,
}

impl Sharer {
    pub(crate) fn log_in(server: &Server, name: &str) -> Self {
        Self::log_in_at(server, name, tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn log_in_at(server: &Server, name: &str, place: TempDir) -> Self {
        Self::log_in_on(&server.port().to_string(), name, place)
    }

    pub(crate) fn log_in_on(port: &str, name: &str, place: TempDir) -> Self {
        let dir = place.path().to_str().expect("UTF-8");
        let mut program = Program::spawn(program(place.path(), &[port, "--dir", dir]));
        program.type_in(&format!("{name} a\n"));
        program.wait_for(&format!("Welcome to chinwag, {name}! Type help for the commands"));
        Self { program, place }
    }

    /// Logs in, and offers a file of these bytes.
    pub(crate) fn offering(server: &Server, name: &str, bytes: &[u8], chunks: u32) -> Self {
        let mut sharer = Self::log_in(server, name);
        fs::write(sharer.file("a.bin"), bytes).expect("written");
        sharer.program.type_in(&format!("register a.bin {chunks}\n"));
        sharer
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn has(&self, bytes: &[u8]) -> bool {
        fs::read(self.file("a.bin")).is_ok_and(|read| read == bytes)
    }

    /// The lines up to one that contains this.
    pub(crate) fn lines_until(&mut self, wanted: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.program.read_line();
            assert_ne!(line, "", "{wanted:?} never came after {lines:?}");
            let is_it = line.contains(wanted);
            lines.push(line);
            if is_it {
                return lines;
            }
        }
    }

    pub(crate) fn last_line_until(&mut self, wanted: &str) -> String {
        self.lines_until(wanted).pop().expect("a line")
    }
}

/// Runs `client get` in this folder.
pub(crate) fn get(server: &Server, name: &str, place: &TempDir, what: &[&str]) -> Ended {
    let port = server.port().to_string();
    let dir = place.path().to_str().expect("UTF-8");
    let arguments = [&["get", "127.0.0.1", &port, "--user", name, "--dir", dir][..], what].concat();
    let mut command = program(place.path(), &arguments);
    command.env("CHINWAG_PASSWORD", "a");
    Program::spawn(command).leave()
}

pub(crate) fn bytes(count: usize) -> Vec<u8> {
    let mut dice = Dice(count as u64);
    (0..count).map(|_| dice.roll(256) as u8).collect()
}

fn in_hex(bytes: &[u8]) -> String {
    Digest(Sha256::digest(bytes).into()).to_string()
}

#[test]
fn three_clients_share_one_file() {
    let (house, all) = (House::new(ACCOUNTS), bytes(1_000_003));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 10);
    hans.lines_until("a.bin is registered, 10 chunks");
    let mut yoda = Sharer::offering(&server, "yoda", &all, 10);
    yoda.lines_until("a.bin is already registered, you serve it too");
    let mut luke = Sharer::log_in(&server, "luke");
    luke.program.type_in("download a.bin\n");
    let line = luke.last_line_until("SHA-256");
    assert!(line.contains("5 from hans, 5 from yoda"), "both serve: {line}");
    assert!(line.ends_with(&in_hex(&all)), "{line}");
    assert!(luke.has(&all));
    assert!(!luke.file("a.bin.part").exists());
    // Now the third has it all, and the others are away.
    for sharer in [hans, yoda] {
        assert_eq!(sharer.program.leave().code, Some(0));
    }
    luke.lines_until("yoda logged out");
    let vader = tempfile::tempdir().expect("a folder");
    let got = get(&server, "vader", &vader, &["a.bin"]);
    assert_eq!(got.code, Some(0), "{}", got.stderr);
    assert!(got.stdout.contains("chunks: 10 from luke, SHA-256"), "{}", got.stdout);
    assert!(fs::read(vader.path().join("a.bin")).expect("there") == all);
}

#[test]
fn who_has_a_part_serves_that() {
    let (house, all) = (House::new(ACCOUNTS), bytes(100_000));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 10);
    hans.lines_until("registered");
    let mut luke = Sharer::log_in(&server, "luke");
    luke.program.type_in("download a.bin 3 8 3 12\n");
    luke.lines_until("Error. a.bin has no chunk 12");
    luke.lines_until("2 from hans, 2 of 10 chunks are here");
    luke.program.type_in("download a.bin 3\n");
    luke.lines_until("a.bin: chunk 3: you already have it");
    assert_eq!(hans.program.leave().code, Some(0));
    luke.lines_until("hans logged out");
    let place = tempfile::tempdir().expect("a folder");
    let got = get(&server, "vader", &place, &["a.bin"]);
    assert_eq!(got.code, Some(11));
    assert!(got.stderr.starts_with("error: a.bin: chunks 0-2 4-7 9: no online holder\n"), "{}", got.stderr);
    assert!(got.stdout.ends_with("chunks: 2 from luke, 2 of 10 chunks are here\n"), "{}", got.stdout);
    assert!(!place.path().join("a.bin").exists(), "it is not whole");
}

#[test]
fn a_holder_killed_in_the_middle_is_replaced() {
    let (house, all) = (House::new(ACCOUNTS), bytes(48 << 20));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 96);
    hans.lines_until("is registered");
    let mut yoda = Sharer::offering(&server, "yoda", &all, 96);
    yoda.lines_until("registered");
    let mut luke = Sharer::log_in(&server, "luke");
    luke.program.type_in("download a.bin\n");
    luke.lines_until("a.bin: 10 %");
    hans.program.signal(Signal::KILL);
    let line = luke.last_line_until("SHA-256");
    assert!(luke.has(&all), "{line}");
}

#[test]
fn a_download_goes_on_after_a_crash() {
    let (house, all) = (House::new(ACCOUNTS), bytes(1_000_000));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 10);
    hans.lines_until("registered");
    let mut luke = Sharer::log_in(&server, "luke");
    luke.program.type_in("download a.bin 1 2 5 7\n");
    luke.lines_until("4 of 10 chunks are here");
    luke.program.signal(Signal::KILL);
    let Sharer { program, place } = luke;
    assert_eq!(program.leave().signal, Some(Signal::KILL.as_raw()));
    hans.lines_until("luke logged out");
    // One of them was not written to the end.
    let part = place.path().join("a.bin.part");
    let mut torn = fs::read(&part).expect("there");
    torn[250_000..300_000].fill(0);
    fs::write(&part, torn).expect("written");
    let got = get(&server, "luke", &place, &["a.bin"]);
    assert!(got.stdout.contains("chunks: 7 from hans, SHA-256"), "{got:?}");
    assert!(fs::read(place.path().join("a.bin")).expect("there") == all);
    let again = get(&server, "luke", &place, &["a.bin"]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), "a.bin: you already have it\n"));
}

#[test]
fn odd_sizes_and_many_files_at_once_come_out_of_a_pipe() {
    let house = House::new(ACCOUNTS);
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::log_in(&server, "hans");
    let files = [("empty", 0, 3), ("short", 3, 7), ("one", 1, 1), ("long", 700_001, 1000)];
    for (name, size, chunks) in files {
        fs::write(hans.file(name), bytes(size)).expect("written");
        hans.program.type_in(&format!("register {name} {chunks}\n"));
        hans.lines_until(&format!("{name} is registered, {chunks} chunk"));
    }
    let luke = Sharer::log_in(&server, "luke");
    let Sharer { mut program, place } = luke;
    program.type_in("download empty\ndownload short\ndownload one\ndownload long\nlogout\n");
    let left = program.leave();
    assert_eq!(left.code, Some(0), "{left:?}");
    for (name, size, _) in files {
        assert!(fs::read(place.path().join(name)).expect(name) == bytes(size), "{name}");
        assert!(left.stdout.contains(&in_hex(&bytes(size))), "{name}: {}", left.stdout);
    }
    assert!(left.stdout.ends_with("Goodbye\n"), "the log-out waits: {}", left.stdout);
}

#[test]
fn whoever_has_blocked_the_asker_does_not_serve_him() {
    let (house, all) = (House::new(ACCOUNTS), bytes(10_000));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 4);
    hans.lines_until("registered");
    hans.program.type_in("block luke\n");
    hans.lines_until("luke is blocked");
    let place = tempfile::tempdir().expect("a folder");
    let refused = get(&server, "luke", &place, &["a.bin"]);
    assert_eq!(refused.code, Some(11), "{refused:?}");
    assert!(refused.stderr.starts_with("error: a.bin: chunks 0-3: no online holder"), "{}", refused.stderr);
    assert_eq!(get(&server, "yoda", &place, &["a.bin"]).code, Some(0));
}

#[test]
fn exit_codes_of_get() {
    let (house, all) = (House::new(ACCOUNTS), bytes(10_000));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 4);
    hans.lines_until("registered");
    let place = tempfile::tempdir().expect("a folder");
    fs::write(place.path().join("a.bin"), "mine").expect("written");
    for (what, code, error) in [
        (&["b.bin"][..], 11, "error: b.bin is not registered\n"),
        (&["../a.bin"], 11, "error: "),
        (&["a.bin"], 1, "error: a.bin: another file of that name is there, and stays as it is\n"),
        (&["a.bin", "x"], 2, "error: "),
    ] {
        let got = get(&server, "luke", &place, what);
        assert_eq!((got.code, got.stdout.as_str()), (Some(code), ""), "{what:?}: {got:?}");
        assert!(got.stderr.starts_with(error), "{}", got.stderr);
    }
    assert_eq!(fs::read(place.path().join("a.bin")).expect("there"), b"mine");
    assert_eq!(
        fs::read_dir(place.path())
            .expect("a folder")
            .filter(|entry| {
                entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".part"))
            })
            .count(),
        0,
        "no remains"
    );
}

#[test]
fn hostile_names_stay_outside() {
    let mut dice = Dice(1);
    let pieces = ["..", "/", "\\", "a", ".", "\0", "\u{202e}", "\x1b", " ", "nul", "com1", ".part", "\n", "~", "etc"];
    let mut refused = 0;
    for _ in 0..2000 {
        let name: String = (0..1 + dice.pick(5)).map(|_| pieces[dice.pick(pieces.len())]).collect();
        let Some(file) = FileName::parse(&name) else {
            refused += 1;
            continue;
        };
        let path = PathBuf::from("folder").join(file.as_str());
        assert_eq!(path.parent(), Some(std::path::Path::new("folder")), "{name:?}");
        assert!(!name.starts_with('.') && !name.ends_with(".part") && !name.contains(['/', '\\', '\0', '\x1b']));
    }
    assert!(refused >= 500, "{refused}");
    let house = House::new(ACCOUNTS);
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::log_in(&server, "hans");
    std::os::unix::fs::symlink("/etc/passwd", hans.file("link")).expect("linked");
    fs::create_dir(hans.file("folder")).expect("made");
    for (line, answer) in [
        ("register ../Credentials.txt 3", "Error. "),
        ("register /etc/passwd 3", "Error. "),
        ("register .hidden 3", "Error. "),
        ("download nul", "Error. "),
        ("download x.part", "Error. "),
        ("register link 3", "Error. link: not a plain file"),
        ("register folder 3", "Error. folder: not a plain file"),
        ("register gone 3", "Error. gone: no such file"),
        ("register gone 70000", "Error. "),
    ] {
        hans.program.type_in(&format!("{line}\n"));
        let got = hans.program.read_line();
        assert!(got.starts_with(answer), "{line}: {got}");
    }
}

/// What a liar does with a chunk that he is asked for.
#[derive(Clone, Copy)]
enum Lie {
    Flips,
    Truncates,
    Swaps,
    Adds,
}

/// Logs in as our client would, offers the file with its true hashes, and lies to one who comes.
fn lie(server: &Server, name: &str, all: &[u8], chunks: u32, lie: Lie) -> std::thread::JoinHandle<()> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut stream = TcpStream::connect(server.addresses[0]).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    let piece = |chunk| {
        let place = span(all.len() as u64, chunks, chunk);
        all[place.start as usize..place.end as usize].to_vec()
    };
    let pieces: Vec<Vec<u8>> = (0..chunks).map(piece).collect();
    let hashes: Vec<String> = pieces.iter().map(|piece| in_hex(piece)).collect();
    let port = listener.local_addr().expect("bound").port();
    let (size, digest, hashes) = (all.len(), in_hex(all), hashes.join(" "));
    let script = format!(
        "HELLO chinwag/1\nLOGIN {name} 0\na\nPORT {port}\nREGISTER a.bin {chunks} {size} {digest}\nCHUNK-HASH 0 {hashes}\n"
    );
    stream.write_all(script.as_bytes()).expect("it reads");
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
    let mut next = move |tag: &str| loop {
        let line = lines.next().expect("a line").expect("in time");
        if line.split(' ').next() == Some(tag) {
            return line;
        }
    };
    next("refused");
    std::thread::spawn(move || {
        let _stream = stream;
        let expect = next("expect");
        let words: Vec<&str> = expect.split(' ').collect();
        let secret = u128::from_str_radix(words[3], 16).expect("hexadecimal");
        let ticket = Ticket { number: words[2].parse().expect("a number"), secret };
        let (peer, _) = listener.accept().expect("somebody comes");
        lie_to(peer, &ticket, &pieces, lie);
    })
}

fn lie_to(mut peer: TcpStream, ticket: &Ticket, pieces: &[Vec<u8>], lie: Lie) {
    peer.set_read_timeout(Some(PATIENCE)).expect("an option");
    let mut reader = FrameReader::default();
    let mut acceptor = None;
    let mut bytes = [0; 4096];
    loop {
        while let Some(frame) = reader.next_frame().expect("frames") {
            let answer = match frame {
                Frame::Hello(hello) => {
                    let it = acceptor.insert(Acceptor::new(hello, *ticket, [7; 16]));
                    it.proof().bytes()
                }
                Frame::Answer { .. } => {
                    assert!(acceptor.as_ref().is_some_and(|acceptor| acceptor.check(&frame)));
                    reader.proven();
                    continue;
                }
                Frame::Want { chunk, .. } => {
                    let mut piece = pieces[chunk as usize].clone();
                    let head = |chunk, bytes: &[u8]| Frame::Chunk { chunk, bytes: bytes.len() as u64 }.bytes();
                    match lie {
                        Lie::Flips => {
                            piece[7] ^= 1;
                            [head(chunk, &piece), piece].concat()
                        }
                        Lie::Truncates => {
                            piece.truncate(100);
                            [head(chunk, &piece), piece].concat()
                        }
                        Lie::Swaps => {
                            let other = (chunk + 1) % pieces.len() as u32;
                            let piece = &pieces[other as usize];
                            [head(other, piece), piece.clone()].concat()
                        }
                        Lie::Adds => [head(chunk, &piece), piece, b"and more".to_vec()].concat(),
                    }
                }
                other => panic!("{other:?}"),
            };
            // Who has noticed does not read any more.
            if peer.write_all(&answer).is_err() {
                return;
            }
        }
        match peer.read(&mut bytes) {
            Ok(count) if count > 0 => reader.push(&bytes[..count]),
            _ => return,
        }
    }
}

#[test]
fn liars_are_named_and_the_file_is_right() {
    let (house, all) = (House::new(ACCOUNTS), bytes(400_000));
    for lies in [[Lie::Flips, Lie::Truncates], [Lie::Swaps, Lie::Adds]] {
        let server = house.serve(&["--ephemeral"]);
        let mut hans = Sharer::offering(&server, "hans", &all, 40);
        hans.lines_until("registered");
        let liars = ["vader", "leia"].into_iter().zip(lies);
        let liars: Vec<_> = liars.map(|(name, how)| lie(&server, name, &all, 40, how)).collect();
        let mut luke = Sharer::log_in(&server, "luke");
        luke.program.type_in("download a.bin\n");
        let lines = luke.lines_until("SHA-256");
        for name in ["vader", "leia"] {
            let named = format!("{name} sent wrong bytes and is not asked again");
            assert!(lines.iter().any(|line| line.contains(&named)), "{lines:?}");
        }
        assert!(!lines.iter().any(|line| line.contains("hans sent wrong")), "{lines:?}");
        assert!(luke.has(&all));
        liars.into_iter().for_each(|liar| liar.join().expect("no panic"));
    }
}

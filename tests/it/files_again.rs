//! Files over restarts: of the client that offers them, of the server that knows who has them, and
//! of both.

use std::fs;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client_links::Link;
use crate::crowd::now;
use crate::files::{ACCOUNTS, Sharer, bytes, get};
use crate::programs::{House, Server};
use crate::socket::PATIENCE;

impl Sharer {
    /// Ends the client in order and starts it again in the same folder.
    fn again(self, server: &Server, name: &str) -> Self {
        let Self { program, place } = self;
        assert_eq!(program.leave().code, Some(0));
        Self::log_in_at(server, name, place)
    }

    fn ask(&mut self, line: &str, answer: &str) -> String {
        self.program.type_in(&format!("{line}\n"));
        self.last_line_until(answer)
    }

    /// Asks again and again: what the client says for itself, nobody is told.
    fn ask_until(&mut self, line: &str, answer: &str) {
        let end = now() + PATIENCE;
        loop {
            // What follows an answer is read up to a line that is always one.
            self.program.type_in(&format!("{line}\nreceipts\n"));
            let lines = self.lines_until("Receipts are off");
            if lines.iter().any(|line| line.starts_with(answer)) {
                return;
            }
            assert!(now() < end, "{answer:?} never came after {lines:?}");
        }
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_client_that_is_started_again_offers_what_it_did() {
    let (house, all) = (House::new(ACCOUNTS), bytes(100_000));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 10);
    hans.lines_until("a.bin is registered, 10 chunks");
    let mut hans = hans.again(&server, "hans");
    assert_eq!(hans.program.read_line(), "-- Offered again: a.bin");
    let place = folder();
    let got = get(&server, "luke", &place, &["a.bin"]);
    assert!(got.stdout.contains("chunks: 10 from hans, SHA-256"), "{got:?}");
    assert!(fs::read(place.path().join("a.bin")).expect("there") == all);
    // In another folder he has nothing, and the server knows that.
    assert_eq!(hans.program.leave().code, Some(0));
    let mut hans = Sharer::log_in(&server, "hans");
    hans.ask("searchFile a.bin", "a.bin is not available: nobody online has it");
}

#[test]
fn what_has_changed_meanwhile_is_told_and_not_offered() {
    let (house, all) = (House::new(ACCOUNTS), bytes(100_000));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 10);
    hans.lines_until("a.bin is registered");
    for name in ["changed", "gone", "longer"] {
        fs::write(hans.file(name), &all[..1000]).expect("written");
        hans.ask(&format!("register {name} 4"), "is registered, 4 chunks");
    }
    let Sharer { program, place } = hans;
    assert_eq!(program.leave().code, Some(0));
    let path = |name: &str| place.path().join(name);
    fs::write(path("changed"), &all[1..1001]).expect("written");
    fs::write(path("longer"), &all[..1001]).expect("written");
    fs::remove_file(path("gone")).expect("it was there");
    let mut hans = Sharer::log_in_at(&server, "hans", place);
    let told = hans.lines_until("-- Offered again: ");
    let wanted = [
        "-- changed is no longer offered: it has changed",
        "-- gone is no longer offered: no such file",
        "-- longer is no longer offered: it has changed",
        "-- Offered again: a.bin",
    ];
    assert_eq!(told, wanted);
    for name in ["changed", "gone", "longer"] {
        hans.ask(&format!("searchFile {name}"), &format!("{name} is not available: nobody online has it"));
    }
    hans.ask("searchFile a.bin", "hans [0-9]");
    // It is told once: the next run knows nothing of these.
    let mut hans = hans.again(&server, "hans");
    assert_eq!(hans.program.read_line(), "-- Offered again: a.bin");
}

#[test]
fn what_changes_while_it_is_offered_is_withdrawn() {
    let (house, all) = (House::new(ACCOUNTS), bytes(100_000));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 10);
    hans.lines_until("registered");
    fs::write(hans.file("a.bin"), bytes(100_001)).expect("written");
    let got = get(&server, "luke", &folder(), &["a.bin"]);
    assert!(got.stderr.starts_with("error: a.bin: chunks 0-9: no online holder\n"), "{got:?}");
    hans.lines_until("-- a.bin is no longer offered: it has changed");
    hans.ask("searchFile a.bin", "a.bin is not available: nobody online has it");
}

#[test]
fn a_part_is_offered_again_and_goes_on() {
    let (house, all) = (House::new(ACCOUNTS), bytes(100_000));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 10);
    hans.lines_until("registered");
    let mut luke = Sharer::log_in(&server, "luke");
    luke.ask("download a.bin 1 4 7", "3 of 10 chunks are here");
    let mut luke = luke.again(&server, "luke");
    luke.lines_until("-- Offered again: a.bin");
    // The server, which answers him, has heard before what he has.
    luke.ask("searchChunk a.bin 4", "luke [4]");
    hans.ask("searchChunk a.bin 4", "luke [4]");
    assert_eq!(hans.program.leave().code, Some(0));
    luke.lines_until("hans logged out");
    let place = folder();
    let got = get(&server, "vader", &place, &["a.bin"]);
    assert!(got.stdout.ends_with("chunks: 3 from luke, 3 of 10 chunks are here\n"), "{got:?}");
}

/// The server knows nothing of files after its restart, and none of the clients was told to do
/// anything. Of one file only a part is left, with somebody who has not all of it.
#[test]
fn after_a_restart_of_the_server_everything_is_known_again() {
    let (house, all) = (House::new(ACCOUNTS), bytes(100_000));
    let server = house.serve(&[]);
    let links = [1, 2].map(|seed| Link::new(server.addresses[0], seed, 0));
    let mut hans = Sharer::log_in_on(&links[0].port(), "hans", folder());
    fs::write(hans.file("a.bin"), &all).expect("written");
    hans.ask("register a.bin 10", "a.bin is registered");
    let mut yoda = Sharer::offering(&server, "yoda", &all[..5000], 5);
    yoda.lines_until("registered");
    fs::rename(yoda.file("a.bin"), yoda.file("b.bin")).expect("renamed");
    yoda.ask("register b.bin 5", "b.bin is registered");
    let mut luke = Sharer::log_in_on(&links[1].port(), "luke", folder());
    luke.ask("download b.bin 1 3", "2 of 5 chunks are here");
    server.kill();
    for sharer in [&mut hans, &mut luke] {
        sharer.lines_until("-- Connection lost (");
    }
    // He will not come back.
    yoda.program.signal(Signal::KILL);
    let server = house.serve(&[]);
    links.iter().for_each(|link| link.move_to(server.addresses[0]));
    for sharer in [&mut hans, &mut luke] {
        sharer.lines_until("-- Connected again after ");
    }
    hans.ask_until("searchFile a.bin", "hans [0-9]");
    luke.ask_until("searchFile b.bin", "luke [1 3]");
    let place = folder();
    let got = get(&server, "vader", &place, &["a.bin"]);
    assert!(got.stdout.contains("chunks: 10 from hans, SHA-256"), "{got:?}");
    assert!(fs::read(place.path().join("a.bin")).expect("there") == all);
    let got = get(&server, "vader", &place, &["b.bin"]);
    assert!(got.stdout.ends_with("chunks: 2 from luke, 2 of 5 chunks are here\n"), "{got:?}");
    // And when both have been restarted, the client comes first.
    server.kill();
    let Sharer { program, place } = hans;
    program.signal(Signal::KILL);
    let server = house.serve(&[]);
    let mut hans = Sharer::log_in_at(&server, "hans", place);
    hans.lines_until("-- Offered again: a.bin");
    hans.ask("searchFile a.bin", "hans [0-9]");
}

/// Three downloads are under way when the server is killed. It comes back before the only holder
/// does, and the downloads neither end nor lose him.
#[test]
fn downloads_outlive_a_restart_of_the_server() {
    let (house, all) = (House::new(ACCOUNTS), bytes(24 << 20));
    let server = house.serve(&[]);
    let links = [1, 2].map(|seed| Link::new(server.addresses[0], seed, 0));
    let mut hans = Sharer::log_in_on(&links[0].port(), "hans", folder());
    for name in ["a.bin", "b.bin", "c.bin"] {
        fs::write(hans.file(name), &all).expect("written");
        hans.ask(&format!("register {name} 24"), &format!("{name} is registered"));
    }
    let mut luke = Sharer::log_in_on(&links[1].port(), "luke", folder());
    luke.program.type_in("download a.bin\ndownload b.bin\ndownload c.bin\n");
    luke.lines_until("a.bin: 10 %");
    hans.program.halt();
    server.kill();
    luke.lines_until("-- Connection lost (");
    let server = house.serve(&[]);
    links[1].move_to(server.addresses[0]);
    luke.lines_until("-- Connected again after ");
    // The server knows the files from luke alone, who has parts of them; hans is not back.
    luke.ask_until("searchFile a.bin", "luke [");
    hans.program.signal(Signal::CONT);
    let mut told = luke.lines_until("SHA-256");
    told.extend(luke.lines_until("SHA-256"));
    told.extend(luke.lines_until("SHA-256"));
    assert!(!told.iter().any(|line| line.contains("no online holder")), "{told:?}");
    for name in ["a.bin", "b.bin", "c.bin"] {
        assert!(fs::read(luke.file(name)).expect(name) == all, "{name}");
    }
    links[0].move_to(server.addresses[0]);
    hans.lines_until("-- Connected again after ");
    luke.ask_until("searchFile c.bin", "hans [0-23]");
}

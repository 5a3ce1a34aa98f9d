//! Downloads while something fails: a holder who stalls, a disk that is full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, geteuid};

use crate::client::program;
use crate::files::{ACCOUNTS, Sharer, bytes};
use crate::programs::{House, Program, Server};

/// hans is halted when a tenth has come. On a machine that is busy with other things he may have
/// given all he was asked for by then; so there are three who try.
#[test]
fn a_holder_who_stalls_is_named_and_another_serves() {
    let (house, all) = (House::new(ACCOUNTS), bytes(48 << 20));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 96);
    hans.lines_until("is registered");
    let mut yoda = Sharer::offering(&server, "yoda", &all, 96);
    yoda.lines_until("registered");
    let mut named = 0;
    for name in ["luke", "vader", "leia"] {
        let mut other = Sharer::log_in(&server, name);
        other.program.type_in("download a.bin\n");
        other.lines_until("a.bin: 10 %");
        hans.program.halt();
        let told = other.lines_until("SHA-256");
        assert!(other.has(&all), "{told:?}");
        assert!(
            !told.iter().any(|line| line.contains("yoda stopped") || line.contains("no online holder")),
            "{told:?}"
        );
        let stalled = "-- hans stopped sending: nothing came for 10 s";
        named += told.iter().filter(|line| *line == stalled).count();
        if named > 0 {
            break;
        }
        hans.program.signal(Signal::CONT);
    }
    assert_eq!(named, 1, "he is named once");
}

/// A client whose folder is a file system of its own, so large, which nobody else sees.
fn log_in_on_small_disk(server: &Server, name: &str, place: &Path, bytes: u64) -> Program {
    let port = server.port().to_string();
    let disk = place.join("disk");
    fs::create_dir(&disk).expect("a folder");
    let mut command = Command::new("unshare");
    let mount = format!("mount -t tmpfs -o size={bytes} none \"$1\" && shift && exec \"$@\"");
    let client = program(place, &[]);
    command.args(["-m", "sh", "-c", &mount, "sh"]).arg(&disk).arg(client.get_program());
    command.arg(&port).arg("--dir").arg(&disk);
    command.env("XDG_STATE_HOME", place).env("TZ", "UTC").env_remove("NO_COLOR");
    let mut program = Program::spawn(command);
    program.type_in(&format!("{name} a\n"));
    program.wait_for(&format!("Welcome to chinwag, {name}! Type help for the commands"));
    program
}

/// Where the folder of such a client is for us.
fn seen_from_outside(program: &Program, place: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", program.pid().as_raw_nonzero()));
    root.join(place.strip_prefix("/").expect("absolute")).join("disk")
}

#[test]
fn a_full_disk_ends_a_download_that_goes_on_when_there_is_room() {
    let can_mount = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !geteuid().is_root() || !can_mount {
        return println!("skipped a_full_disk_ends_a_download_that_goes_on_when_there_is_room: it needs root, unshare");
    }
    const MIB: usize = 1 << 20;
    let (house, all) = (House::new(ACCOUNTS), bytes(6 * MIB));
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::offering(&server, "hans", &all, 12);
    hans.lines_until("is registered");
    fs::write(hans.file("b.bin"), bytes(9 * MIB)).expect("written");
    hans.program.type_in("register b.bin 3\n");
    hans.lines_until("is registered");
    let place = tempfile::tempdir().expect("a folder");
    let mut luke = log_in_on_small_disk(&server, "luke", place.path(), 8 << 20);
    let disk = seen_from_outside(&luke, place.path());
    // What cannot fit is not begun.
    luke.type_in("download b.bin\n");
    assert_eq!(luke.read_line(), "Error. b.bin: it takes 9.00 MiB, 8.00 MiB are free");
    assert_eq!(fs::read_dir(&disk).expect("a folder").count(), 0);
    // Somebody else takes the room meanwhile.
    luke.type_in("download a.bin 0 5\n");
    luke.read_up_to("a.bin: 1.00 MiB in ");
    fs::write(disk.join("other"), vec![1; 5 * MIB]).expect("there is room");
    luke.type_in("download a.bin\n");
    luke.wait_for("Error. a.bin: the disk is full; what has come stays for the next download");
    let names = || -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> =
            fs::read_dir(&disk).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [disk.join("a.bin.part"), disk.join("other")], "nothing has the final name");
    fs::remove_file(disk.join("other")).expect("it is there");
    luke.type_in("download a.bin\n");
    let line = luke.read_up_to("a.bin: ");
    let fetched: u32 =
        line.split_once("chunks: ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).expect("a number");
    assert!(line.contains("SHA-256") && fetched <= 10, "what was there is not fetched again: {line}");
    assert!(fs::read(disk.join("a.bin")).expect("there") == all);
    assert_eq!(names(), [disk.join("a.bin")]);
}

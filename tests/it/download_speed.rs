//! A download next to `nc` copying the same file, in turns: `make download`. Every run of the tests
//! does a small one, for what holds at any size: the bytes are right, and the memory of both sides
//! does not depend on them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use tempfile::TempDir;

use crate::crowd::{median, memory, now};
use crate::files::{ACCOUNTS, Sharer, bytes};
use crate::programs::{House, has_netcat};

const MIB: usize = 1 << 20;

/// Memory that either side may need, whatever the size of the file.
const MEMORY_MAX: usize = 24 * MIB;

/// What `make download` asks for, or what every run of the tests does.
fn asked<T: FromStr>(name: &str, small: T) -> T {
    let asked = std::env::var(format!("CHINWAG_DOWNLOAD_{name}")).ok();
    asked.map_or(small, |text| text.parse().unwrap_or_else(|_| panic!("{name}: what is {text:?}?")))
}

/// A file in which no two MiB are alike.
fn write_file(path: &Path, mib: usize) {
    let (mut file, mut piece) = (File::create(path).expect("a file"), bytes(MIB));
    for number in 0..mib {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&piece).expect("there is room");
    }
}

/// Has `nc` copy a file; in how many seconds, without and with a sync of the copy, which a download
/// has too.
fn copy(from: &Path, to: &Path) -> [f64; 2] {
    let mut receiver = Command::new("nc");
    receiver.args(["-l", "-v", "-n", "127.0.0.1", "0"]).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut receiver = receiver.stdout(File::create(to).expect("a file")).spawn().expect("nc starts");
    let mut line = String::new();
    let mut notes = BufReader::new(receiver.stderr.take().expect("a pipe"));
    notes.read_line(&mut line).expect("a line");
    let port = line.split_whitespace().last().expect("Listening on 127.0.0.1 and a port");
    let mut sender = Command::new("nc");
    sender.args(["-N", "127.0.0.1", port]).stdin(File::open(from).expect("a file"));
    let start = now();
    let sent = sender.status().expect("nc runs");
    assert!(sent.success() && receiver.wait().expect("it was started").success(), "{line}");
    let copied = start.elapsed().as_secs_f64();
    let copy = File::open(to).expect("a file");
    copy.sync_all().expect("synced");
    let synced = start.elapsed().as_secs_f64();
    assert_eq!(copy.metadata().expect("a file").len(), from.metadata().expect("a file").len());
    fs::remove_file(to).expect("it is there");
    [copied, synced]
}

#[test]
fn a_download_beside_netcat() {
    if !has_netcat("a_download_beside_netcat") {
        return;
    }
    let (mib, rounds, chunks) = (asked("MIB", 64), asked("ROUNDS", 1), asked("CHUNKS", 64));
    let folder = asked("FOLDER", std::env::temp_dir());
    let place = || TempDir::new_in::<PathBuf>(folder.clone()).expect("a folder");
    let (house, spare) = (House::within(&folder, ACCOUNTS), place());
    let server = house.serve(&["--ephemeral"]);
    let mut hans = Sharer::log_in_at(&server, "hans", place());
    let file = hans.file("a.bin");
    write_file(&file, mib);
    hans.program.type_in(&format!("register a.bin {chunks}\n"));
    hans.lines_until("a.bin is registered");
    let [mut plain, mut synced, mut ours] = [const { Vec::new() }; 3];
    let mut most = 0;
    for _ in 0..rounds {
        let [copied, with_sync] = copy(&file, &spare.path().join("copy"));
        plain.push(copied);
        synced.push(with_sync);
        let mut luke = Sharer::log_in_at(&server, "luke", place());
        let start = now();
        luke.program.type_in("download a.bin\n");
        let line = luke.last_line_until("SHA-256");
        ours.push(start.elapsed().as_secs_f64());
        assert!(line.contains(&format!("chunks: {chunks} from hans, SHA-256")), "{line}");
        assert_eq!(luke.file("a.bin").metadata().expect("it is here").len(), (mib * MIB) as u64);
        most = most.max(memory(luke.program.pid(), "VmHWM"));
        assert_eq!(luke.program.leave().code, Some(0));
    }
    println!();
    for round in 0..rounds {
        println!("| {} | {:.2} s | {:.2} s | {:.2} s |", round + 1, plain[round], synced[round], ours[round]);
    }
    let [plain, synced, ours] = [plain, synced, ours].map(median);
    println!("| median | {plain:.2} s | {synced:.2} s | {ours:.2} s |");
    println!("| speed of the download, of nc = 1 | {:.2} | {:.2} | |", plain / ours, synced / ours);
    let most = [most, memory(hans.program.pid(), "VmHWM")];
    println!("| memory of who fetches, who serves | | | {:.1}, {:.1} MiB |", in_mib(most[0]), in_mib(most[1]));
    assert!(most.iter().all(|bytes| *bytes <= MEMORY_MAX), "{most:?} bytes");
}

fn in_mib(bytes: usize) -> f64 {
    bytes as f64 / MIB as f64
}

//! Disks that fail: a sync that is refused, no room, a cut of the power. What is acknowledged is
//! on the disk, the sender of everything else is told, and service goes on.
//!
//! Needs strace, or root for a file system of its own; without them the tests are skipped.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::crowd::now;
use crate::programs::{ACCOUNTS, House, mail};
use crate::socket::{Client, PATIENCE};

/// Stops a file system where it stands, as a loss of power does: EXT4_IOC_SHUTDOWN, nothing flushed.
const CUT: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

const STORED: &str = "message stored";
const REFUSED: &str = "Error. Not stored: the disk refused";

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// An ext4 file system in a file, mounted; gone when dropped.
pub(crate) struct Disk {
    root: PathBuf,
    folder: TempDir,
}

impl Disk {
    /// `None` where nobody may mount; says so.
    pub(crate) fn mounted(test: &str, bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Self { root: folder.path().join("root"), folder };
        fs::create_dir(&disk.root).expect("a folder");
        let image = disk.folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("a sparse file");
        let made = succeeds(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let python = succeeds(Command::new("python3").arg("--version"));
        if !geteuid().is_root() || !made || !python || !disk.mount() {
            println!("skipped {test}: it needs root, mkfs.ext4, loop devices and python3");
            return None;
        }
        Some(disk)
    }

    /// The root of the file system.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    fn mount(&self) -> bool {
        succeeds(Command::new("mount").args(["-o", "loop"]).arg(self.folder.path().join("image")).arg(self.path()))
    }

    fn unmount(&self) -> bool {
        succeeds(Command::new("umount").arg(self.path()))
    }

    /// Writes out what there is, for a beginning that survives.
    pub(crate) fn sync(&self) {
        assert!(succeeds(Command::new("sync").arg("-f").arg(self.path())));
    }

    /// From now on nothing that is written reaches the disk.
    pub(crate) fn cut_power(&self) {
        assert!(succeeds(Command::new("python3").args(["-c", CUT]).arg(self.path())), "the cut fails");
    }

    /// What is really on the disk, after everybody has closed his files.
    pub(crate) fn remount(&self) {
        // The kernel may still be letting go of a process that was killed.
        let is_done = |act: &dyn Fn() -> bool| {
            let start = now();
            while !act() {
                if start.elapsed() > PATIENCE {
                    return false;
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
            true
        };
        assert!(is_done(&|| self.unmount()) && is_done(&|| self.mount()), "the disk does not come back");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

/// Whether strace can be put around a program; says so if a test must be skipped.
pub(crate) fn has_strace(test: &str) -> bool {
    let inject = ["-e", "trace=fsync", "-e", "inject=fsync:retval=0"];
    let has = succeeds(
        Command::new("strace").args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null"]).args(inject).arg("true"),
    );
    if !has {
        println!("skipped {test}: strace is not installed or not allowed");
    }
    has
}

/// Sends one numbered message after the other until `enough`: the numbers that were stored.
fn send_until(client: &mut Client, to: &str, from: usize, enough: impl Fn(&[bool]) -> bool) -> Vec<(String, bool)> {
    let mut answers: Vec<bool> = Vec::new();
    while !enough(&answers) {
        let number = from + answers.len();
        assert!(answers.len() < 1000, "the disk does not do what it should");
        let answer = client.ask(&format!("message {to} {number:04} {}", "x".repeat(1000)));
        let [answer] = &answer[..] else { panic!("{answer:?}") };
        assert!(answer.ends_with(STORED) || answer == REFUSED, "{answer}");
        answers.push(answer.ends_with(STORED));
    }
    answers.into_iter().enumerate().map(|(at, stored)| (format!("{:04}", from + at), stored)).collect()
}

fn stored(answers: &[(String, bool)]) -> Vec<&str> {
    answers.iter().filter(|(_, stored)| *stored).map(|(number, _)| number.as_str()).collect()
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    if !has_strace("after_a_failed_sync_nothing_is_acknowledged") {
        return;
    }
    let house = House::new(ACCOUNTS);
    let server = house.serve_traced("error=EIO:when=20+");
    let mut hans = server.client("hans");
    let last = |answers: &[bool]| answers.len() > 40 && !answers[answers.len() - 40];
    let answers = send_until(&mut hans, "yoda", 0, last);
    let good = answers.iter().take_while(|(_, stored)| *stored).count();
    assert!(good > 2, "{good} stored before the first failure");
    assert_eq!(stored(&answers).len(), good, "an acknowledgement after a failed sync");
    // All else goes on.
    let luke = server.client("luke");
    assert_eq!(hans.ask("message luke hi"), ["luke logged in"]);
    drop(luke);
    server.kill();
    let got = mail(&house.serve(&[]), "yoda");
    assert_eq!(got[..good], stored(&answers));
}

#[test]
fn when_syncs_succeed_again_so_does_storing() {
    if !has_strace("when_syncs_succeed_again_so_does_storing") {
        return;
    }
    let house = House::new(ACCOUNTS);
    let server = house.serve_traced("error=EIO:when=20..40");
    let mut hans = server.client("hans");
    let recovered = |answers: &[bool]| answers.contains(&false) && answers.ends_with(&[true; 10]);
    let answers = send_until(&mut hans, "yoda", 0, recovered);
    assert!(answers[0].1, "it worked at first");
    let ended = server.stop();
    assert!(ended.stderr.contains("NOT stored: disk I/O error"), "{}", ended.stderr);
    assert_eq!(mail(&house.serve(&[]), "yoda"), stored(&answers), "all that was acknowledged, and nothing else");
}

/// Takes all room there is, to the last byte.
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).expect("a file");
    for size in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn a_full_disk_is_an_answer_to_the_sender() {
    let Some(disk) = Disk::mounted("a_full_disk_is_an_answer_to_the_sender", 16 << 20) else { return };
    let house = House::within(disk.path(), ACCOUNTS);
    let ballast = disk.path().join("ballast");
    let server = house.serve(&[]);
    let mut hans = server.client("hans");
    let mut answers = send_until(&mut hans, "yoda", 0, |answers| answers.len() == 20);
    assert_eq!(stored(&answers).len(), 20);

    fill(&ballast);
    answers.extend(send_until(&mut hans, "yoda", 20, |answers| answers.ends_with(&[false; 10])));
    let mut luke = server.client("luke");
    assert_eq!(hans.ask("message luke hi"), ["luke logged in"]);
    assert_eq!(luke.ask("message hans hi"), ["hans: hi"]);
    assert_eq!(hans.look(), ["luke: hi"]);

    fs::remove_file(&ballast).expect("there");
    let next = answers.len();
    answers.extend(send_until(&mut hans, "yoda", next, |answers| answers.ends_with(&[true; 5])));
    drop((hans, luke));
    let _ = server.stop();

    fill(&ballast);
    let ended = house.run(&["0", "60", "120"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.starts_with("error: chinwag.db: not writable: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("full"), "{}", ended.stderr);
    fs::remove_file(&ballast).expect("there");
    assert_eq!(mail(&house.serve(&[]), "yoda"), stored(&answers));
}

/// What waits can still be read when nothing can be written.
#[test]
fn a_full_disk_delivers_what_it_has() {
    let Some(disk) = Disk::mounted("a_full_disk_delivers_what_it_has", 16 << 20) else { return };
    let house = House::within(disk.path(), ACCOUNTS);
    let server = house.serve(&[]);
    let mut hans = server.client("hans");
    let answers = send_until(&mut hans, "yoda", 0, |answers| answers.len() == 100);
    fill(&disk.path().join("ballast"));
    let (mut yoda, lines) = server.log_in("yoda");
    assert_eq!(lines.len(), 2 + stored(&answers).len(), "{:?}", lines.last());
    assert_eq!(yoda.ask("whoelse"), ["hans"]);
    fs::remove_file(disk.path().join("ballast")).expect("there");
    yoda.send("logout");
    yoda.read_to_end();
    assert_eq!(yoda.take_lines(), ["Goodbye"]);
    let _ = server.stop();
    assert_eq!(mail(&house.serve(&[]), "yoda"), [""; 0], "forgotten once there was room");
}

//! The two servers as processes: started, asked what they use, and ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::time::ClockId;
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;

use crate::Result;
use crate::load::{PATIENCE, USERS};

/// The two columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// What chinwag is compared with: the floor where there is no other.
    Yardstick,
    Chinwag,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Yardstick => Self::Chinwag,
            Self::Chinwag => Self::Yardstick,
        }
    }
}

/// A server at work; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    cpu: ClockId,
    stderr: File,
    _folder: TempDir,
}

/// What a server occupies.
pub(crate) struct Footprint {
    /// Resident memory in KiB.
    pub(crate) memory: f64,
    pub(crate) threads: f64,
    pub(crate) descriptors: f64,
}

impl Server {
    pub(crate) fn floor() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(crate::floor::ARGUMENT);
        Self::start(command, folder()?)
    }

    /// The server as it is installed; `durable` with a store on the disk.
    pub(crate) fn chinwag(durable: bool) -> Result<Self> {
        let folder = folder()?;
        let accounts: String = (0..USERS).map(|n| format!("u{n} secret\n")).collect();
        fs::write(folder.path().join("Credentials.txt"), accounts)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        command.args(["0", "60", "3600"]).current_dir(folder.path()).env_remove("RUST_LOG");
        if !durable {
            command.arg("--ephemeral");
        }
        Self::start(command, folder)
    }

    /// Starts a program that says first where it listens.
    fn start(mut command: Command, folder: TempDir) -> Result<Self> {
        let stderr = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr.try_clone()?);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let cpu = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(child.id())?))?;
        let mut server = Self { child, address: ([0; 4], 0).into(), cpu, stderr, _folder: folder };
        let line = server.first_line()?;
        let address = line.strip_prefix("listening on ").and_then(|address| address.trim_end().parse().ok());
        server.address = address.ok_or_else(|| format!("{command:?} does not start: {line}{}", server.complaints()))?;
        Ok(server)
    }

    fn first_line(&mut self) -> Result<String> {
        let stdout = self.child.stdout.as_mut().ok_or("no standard output")?;
        poll(&mut [PollFd::new(stdout, PollFlags::IN)], Some(&PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(line)
    }

    /// What it has written to standard error.
    pub(crate) fn complaints(&mut self) -> String {
        let mut text = String::new();
        // What cannot be read is of no use in an error message either.
        let _ = self.stderr.rewind().and_then(|()| self.stderr.read_to_string(&mut text));
        text
    }

    /// The CPU time of all its threads, those that have ended included, in nanoseconds.
    pub(crate) fn cpu(&self) -> Result<u64> {
        nanos(self.cpu)
    }

    pub(crate) fn footprint(&self) -> Result<Footprint> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(process.join("status"))?;
        let number = |key: &str| -> Result<f64> {
            let value = status.lines().find_map(|line| line.strip_prefix(key)).ok_or("a line of status is missing")?;
            Ok(value.trim_end_matches("kB").trim().parse()?)
        };
        let descriptors = fs::read_dir(process.join("fd"))?.count() as f64;
        Ok(Footprint { memory: number("VmRSS:")?, threads: number("Threads:")?, descriptors })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On the disk of the build, since `/tmp` may be memory.
fn folder() -> Result<TempDir> {
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR"))?;
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

pub(crate) fn nanos(clock: ClockId) -> Result<u64> {
    let now = clock.now()?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}

//! Two network namespaces with a wire between them, for tests that need another machine: one that
//! has its own addresses, drops what comes, or moves.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many have been laid: each has names of its own.
static LAID: AtomicU32 = AtomicU32::new(0);

/// Two namespaces with a wire between them; gone when dropped.
pub(crate) struct Wire {
    pub(crate) names: [String; 2],
}

/// The addresses of the two ends.
pub(crate) const WIRED: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

impl Wire {
    /// `None`, with the reason printed, where this may not be done.
    pub(crate) fn lay(test: &str) -> Option<Self> {
        let number = LAID.fetch_add(1, Ordering::Relaxed);
        let wire = Self { names: ["a", "b"].map(|end| format!("chinwag-{}-{number}{end}", std::process::id())) };
        let [a, b] = &wire.names;
        let laid = wire
            .ip(&["netns", "add", a])
            .and_then(|()| wire.ip(&["netns", "add", b]))
            .and_then(|()| {
                wire.ip(&["link", "add", "wire0", "netns", a, "type", "veth", "peer", "name", "wire0", "netns", b])
            })
            .and_then(|()| {
                wire.names.iter().zip(WIRED).try_for_each(|(name, address)| {
                    wire.ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "wire0"])?;
                    wire.ip(&["-n", name, "link", "set", "lo", "up"])?;
                    wire.ip(&["-n", name, "link", "set", "wire0", "up"])
                })
            });
        if let Err(why) = &laid {
            println!("skipped {test}: no network namespaces here: {why}");
        }
        laid.ok().map(|()| wire)
    }

    /// Runs `ip`, of which only the arguments are given.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output.status.success().then_some(()).ok_or(why)
    }

    /// The same command at one end of the wire.
    pub(crate) fn at(&self, end: usize, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &self.names[end]]).arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        there
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            // One that was not made cannot be taken away.
            let _ = self.ip(&["netns", "delete", name]);
        }
    }
}

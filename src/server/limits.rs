//! How many clients this machine can hold, and what runs out first.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that are not clients: store, listeners, standard streams, the spare one.
const DESCRIPTORS_RESERVED: u64 = 24;

/// Memory maps that are not clients' stacks: the program, its libraries, the heap.
const MAPS_RESERVED: u64 = 500;

/// Memory maps of one thread: its stack, the signal stack, and a guard before each.
const MAPS_PER_THREAD: u64 = 4;

/// Threads that are not readers, and room for other processes.
const THREADS_RESERVED: u64 = 64;

/// How many clients fit, and why not more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Connections at a time.
    pub clients: usize,
    /// The limit that runs out first.
    pub limited_by: &'static str,
}

/// Raises the limit on descriptors as far as it goes and counts what the machine allows.
pub fn capacity() -> Capacity {
    let proc = |name: &str| read_number(&Path::new("/proc/sys").join(name));
    smallest([
        ("open files (ulimit -n)", descriptors().map(|n| n.saturating_sub(DESCRIPTORS_RESERVED))),
        ("vm.max_map_count", proc("vm/max_map_count").map(|n| n.saturating_sub(MAPS_RESERVED) / MAPS_PER_THREAD)),
        ("kernel.pid_max", proc("kernel/pid_max").map(|n| n.saturating_sub(THREADS_RESERVED))),
        ("kernel.threads-max", proc("kernel/threads-max").map(|n| n.saturating_sub(THREADS_RESERVED))),
        ("processes (ulimit -u)", getrlimit(Resource::Nproc).current.map(|n| n.saturating_sub(THREADS_RESERVED))),
        ("pids.max of the cgroup", cgroup_threads().map(|n| n.saturating_sub(THREADS_RESERVED))),
    ])
}

/// The smallest of the limits that there are; at least one client.
fn smallest(limits: impl IntoIterator<Item = (&'static str, Option<u64>)>) -> Capacity {
    let known = limits.into_iter().filter_map(|(name, limit)| limit.map(|limit| (limit, name)));
    let (limit, limited_by) = known.min().unwrap_or((u64::MAX, "nothing"));
    Capacity { clients: usize::try_from(limit).unwrap_or(usize::MAX).max(1), limited_by }
}

/// The limit on open files, raised to what may be had; `None` if there is none.
fn descriptors() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current;
    limit.current = limit.maximum;
    // Refused in some sandboxes; then the soft limit is what there is.
    if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { soft }
}

/// The smallest `pids.max` of the groups this process is in; `None` if there is none.
fn cgroup_threads() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(|line| threads_of_group(line, Path::new("/sys/fs/cgroup"))).min()
}

/// The smallest `pids.max` from the group that `line` names up to the root.
fn threads_of_group(line: &str, root: &Path) -> Option<u64> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let root = match controllers {
        "" => root.to_path_buf(),
        _ if controllers.split(',').any(|name| name == "pids") => root.join("pids"),
        _ => return None,
    };
    let group = Path::new(path.trim_start_matches('/'));
    group.ancestors().filter_map(|group| read_number(&root.join(group).join("pids.max"))).min()
}

/// A file that holds one number; `None` for "max" and whatever else.
fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_counts_and_is_named() {
        let capacity = smallest([("a", Some(500)), ("b", None), ("c", Some(20))]);
        assert_eq!(capacity, Capacity { clients: 20, limited_by: "c" });
        assert_eq!(smallest([("a", Some(0))]).clients, 1);
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("pids/user/session");
        fs::create_dir_all(&inner).expect("folders");
        fs::write(inner.join("pids.max"), "max\n").expect("a file");
        fs::write(root.path().join("pids/user/pids.max"), "300\n").expect("a file");
        assert_eq!(threads_of_group("8:pids:/user/session", root.path()), Some(300));
        assert_eq!(threads_of_group("7:cpu:/user/session", root.path()), None);
        assert_eq!(threads_of_group("nonsense", root.path()), None);
        fs::write(root.path().join("pids.max"), "77\n").expect("a file");
        assert_eq!(threads_of_group("0::/", root.path()), Some(77));
    }
}

//! What a message costs in things that can be counted, with a bound each: wake-ups and system
//! calls. How fast the machine is has no part in it. `tests/allocations.rs` counts allocations.

use std::fs;
use std::io::{ErrorKind, Read};
use std::process::Command;
use std::time::Duration;

use chinwag::clock::Clock;

use crate::programs::{ACCOUNTS, House, Server};
use crate::socket::Client;

const TIMES: usize = 1000;

/// Two users of a server.
struct Pair {
    server: Server,
    hans: Client,
    yoda: Client,
}

impl Pair {
    fn on(server: Server) -> Self {
        let [mut hans, mut yoda] = [server.connect(), server.connect()];
        hans.log_in("hans", "falcon");
        yoda.log_in("yoda", "wise");
        for client in [&mut hans, &mut yoda] {
            client.fence();
            client.take_lines();
        }
        Self { server, hans, yoda }
    }

    /// hans writes `in_flight` messages at once, so many times; each time yoda reads them all.
    fn talk(&mut self, times: usize, in_flight: usize) {
        let lines = vec!["message yoda are you there?"; in_flight].join("\n");
        let bytes = "hans: are you there?\n".len() * in_flight;
        for _ in 0..times {
            self.hans.send(&lines);
            self.yoda.read_until(|all| all.len() == bytes);
            self.yoda.take_lines();
        }
    }
}

/// How often threads of a process have gone to sleep by themselves, each time to be woken again.
fn wake_ups(process: rustix::process::Pid) -> usize {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let of_one = |thread: fs::DirEntry| -> usize {
        let status = fs::read_to_string(thread.path().join("status")).expect("no thread ends meanwhile");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.and_then(|count| count.trim().parse().ok()).expect("a number")
    };
    threads.map(|thread| of_one(thread.expect("a thread"))).sum()
}

/// The sender's reader and the hub; a third thread in the way would be one wake-up more.
#[test]
fn a_message_wakes_two_threads() {
    let house = House::new(ACCOUNTS);
    let mut pair = Pair::on(house.serve(&["--ephemeral"]));
    pair.talk(TIMES, 1);
    let before = wake_ups(pair.server.pid());
    pair.talk(TIMES, 1);
    let count = wake_ups(pair.server.pid()) - before;
    assert!(2 * count <= 5 * TIMES, "{count} wake-ups for {TIMES} messages");
}

/// Whoever asks for anything by time, per client or for all, would be seen here.
#[test]
fn idle_clients_wake_nobody() {
    const CLIENTS: usize = 200;
    let accounts: String = (0..CLIENTS).map(|n| format!("u{n} secret\n")).collect();
    let house = House::new(accounts);
    let server = house.serve(&["--ephemeral"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.log_in(&format!("u{n}"), "secret");
    }
    clients.iter_mut().for_each(Client::fence);
    let before = wake_ups(server.pid());
    // The one wait for a while in these tests: what must not happen has no other end.
    let mut quiet = &clients[CLIENTS - 1].stream;
    quiet.set_read_timeout(Some(Duration::from_secs(1))).expect("an option");
    let read = quiet.read(&mut [0; 100]);
    assert_eq!(read.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "nobody says anything");
    let count = wake_ups(server.pid()) - before;
    // Few things are due by the second, and none of them for each client.
    assert!(count <= CLIENTS / 10, "{count} wake-ups in a second with {CLIENTS} idle clients");
}

/// System calls of a server from its start to its stop, with so much talk in between. Not counted
/// are those by which threads wait for one another: how long a thread looks for work before it
/// sleeps is the machine's mood, and the wake-ups are counted above.
fn system_calls(times: usize, in_flight: usize) -> usize {
    let house = House::new(ACCOUNTS);
    let server = house.command(&["0", "60", "120", "--ephemeral"]);
    let summary = house.path().join("calls");
    let mut command = Command::new("strace");
    // With -D the server is our child and is ended as such; strace is a child of the server.
    command
        .args(["-D", "-f", "-c", "-e", "trace=!futex,sched_yield", "-o"])
        .arg(&summary)
        .arg(server.get_program())
        .args(server.get_args());
    command.current_dir(house.path()).env_remove("RUST_LOG");
    let mut pair = Pair::on(Server::started(command));
    pair.talk(times, in_flight);
    pair.server.stop();
    // strace sums up when the server has ended.
    let clock = Clock::start();
    loop {
        let text = fs::read_to_string(&summary).expect("strace has made the file");
        if let Some(calls) = total(&text) {
            return calls;
        }
        assert!(clock.now().elapsed < 20_000, "no summary: {text}");
        std::thread::yield_now();
    }
}

/// The number of calls in the last line of a summary by strace.
fn total(summary: &str) -> Option<usize> {
    let line = summary.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

fn can_trace(test: &str) -> bool {
    let traced = Command::new("strace").args(["-f", "-c", "true"]).output();
    let can = traced.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: {test}: strace is not installed or may not trace: {traced:?}");
    }
    can
}

/// One read and one send, for sixteen messages at once as for one.
#[test]
fn a_message_is_two_system_calls_and_so_are_sixteen_at_once() {
    if !can_trace("a_message_is_two_system_calls_and_so_are_sixteen_at_once") {
        return;
    }
    let around = system_calls(0, 1);
    for in_flight in [1, 16] {
        let calls = system_calls(TIMES, in_flight) - around;
        assert!(10 * calls <= 21 * TIMES, "{calls} system calls for {TIMES} times {in_flight} messages");
    }
}

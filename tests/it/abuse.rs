//! Clients that misbehave, and what the others notice. Every run of the tests plays small
//! versions, in which only behaviour and memory are judged, and times by ten times their bound.
//! `make abuse` plays the full ones (`CHINWAG_ABUSE=full`) and prints a row per figure.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, nice, prlimit};

use crate::crowd::{
    Crowd, MARK, Member, PASSWORD, Pair, Talker, accounts, allow_descriptors, descriptors, median, memory, now, p50,
    p99, processor, user,
};
use crate::programs::{House, Server};
use crate::socket::{Client, PATIENCE};

const FULL: &str = "Error. The server is full, try again later";
const CROWDED: &str = "Error. Too many connections wait to log in, this one was closed";

/// Memory that output for one client may take: 256 KiB of it, and the room to grow of its queue.
const WAITING_BYTES_MAX: usize = 320 * 1024;

/// Memory that the allocator may keep for itself, and the stacks of a few threads.
const SLACK_BYTES: usize = 4 * 1024 * 1024;

/// What the kernel lets the server have where memory is measured; at more it would kill it.
const MEMORY_LIMIT_BYTES: usize = 256 * 1024 * 1024;

fn is_full() -> bool {
    std::env::var_os("CHINWAG_ABUSE").is_some_and(|size| size == "full")
}

/// The first for `make abuse`, the second for every run of the tests.
fn size<T>(full: T, small: T) -> T {
    if is_full() { full } else { small }
}

fn row(case: &str, figure: impl Display, bound: impl Display, is_met: bool) {
    // The test runner may be in the middle of a line.
    println!("\n| {case} | {figure} | {bound} | {} |", if is_met { "yes" } else { "no" });
}

/// Shows a figure that holds on every machine.
fn show(case: &str, figure: usize, bound: usize, unit: &str) {
    row(case, format_args!("{figure} {unit}"), format_args!("{bound} {unit}"), figure <= bound);
    assert!(figure <= bound, "{case}: {figure} instead of {bound}");
}

/// Shows a time; it may be ten times its bound, for the machine is shared.
fn show_time(case: &str, figure: f64, bound: f64, unit: &str) {
    row(case, format_args!("{figure:.2} {unit}"), format_args!("{bound} {unit}"), figure <= bound);
    assert!(figure <= 10.0 * bound, "{case}: {figure} instead of {bound}");
}

/// Shows how much longer something takes under abuse, in rounds that take turns: noise hits both
/// alike. Both are told in seconds. The ratio of small ones says nothing; only a long wait is wrong.
fn show_slowdown(
    case: &str,
    rounds: usize,
    bound: f64,
    mut without: impl FnMut() -> f64,
    mut with: impl FnMut() -> f64,
) {
    let (mut quiet, mut loud) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        quiet.push(without());
        loud.push(with());
    }
    let (quiet, loud) = (median(quiet), median(loud));
    let ratio = loud / quiet;
    let figure = format_args!("{ratio:.2} x ({:.0} us for {:.0} us)", loud * 1e6, quiet * 1e6);
    row(case, figure, format_args!("{bound} x"), ratio <= bound);
    assert!(loud < size(60.0, 2.0), "{case}: {loud} s");
}

/// Whether this process may have so many descriptors; says so if a test must be skipped.
fn has_descriptors(test: &str, wanted: u64) -> bool {
    let has = allow_descriptors(wanted);
    if !has {
        println!("\nskipped: {test}: fewer than {wanted} descriptors (ulimit -n)");
    }
    has
}

const fn mib(bytes: usize) -> usize {
    bytes.div_ceil(1024 * 1024)
}

/// A server in which a talker broadcasts to many receivers, some of which never read.
struct FanOut {
    server: Server,
    talker: Talker,
    readers: Crowd,
    deaf: Vec<(String, Client)>,
    /// Memory before anything was said.
    memory: usize,
    texts: usize,
}

impl FanOut {
    fn new(house: &House, readers: usize, deaf: usize) -> Self {
        let server = house.serve(&[]);
        let address = server.addresses[0];
        let mut talker = Talker::log_in(address, "ping");
        let deaf = (readers..readers + deaf).map(|number| {
            let (name, mut client) = (user(number), Client::deaf(address));
            client.send(&format!("{name} {PASSWORD}"));
            talker.wait_for(&format!("{name} logged in"));
            talker.say(&format!("message {name} keep this for {name}"));
            (name, client)
        });
        let deaf = deaf.collect();
        let readers = Crowd::log_in(address, 0, readers);
        let memory = memory(server.pid(), "VmRSS");
        Self { server, talker, readers, deaf, memory, texts: 0 }
    }

    /// Says one text to all; how long it took until everybody who reads had read it.
    fn broadcast(&mut self, bytes: usize) -> Duration {
        self.texts += 1;
        let (texts, line) = (self.texts, format!("broadcast {}{MARK}", "x".repeat(bytes)));
        let mut reached = 0;
        let start = now();
        self.talker.say(&line);
        self.readers.read_until(|readers| {
            // From the first whom it had not reached: looking at all each time would be measured
            // too. The welcome counts as one mark.
            while reached < readers.members.len() && readers.members[reached].marks > texts {
                reached += 1;
            }
            reached == readers.members.len()
        });
        start.elapsed()
    }

    fn growth(&self) -> usize {
        memory(self.server.pid(), "VmHWM").saturating_sub(self.memory)
    }

    /// Goes on until everybody who never reads has been cut off.
    fn cut_off_the_deaf(&mut self) {
        // Twice what an outbox and a socket hold.
        for _ in 0..120 {
            self.broadcast(8000);
        }
        for _ in 0..self.deaf.len() {
            self.talker.wait_for(" logged out");
        }
    }
}

/// Shows what each of those who never read costs; the allocator keeps a little for itself.
fn show_growth(when: &str, bytes: usize, deaf: usize) {
    let bound = WAITING_BYTES_MAX + SLACK_BYTES / deaf;
    show(&format!("memory of each of {deaf}, {when}"), bytes / deaf / 1024, bound / 1024, "KiB");
}

/// Times of `texts` broadcasts to so many readers, and how far memory grew. The few of a small run
/// are long, so that what the deaf do not read does pile up.
fn fan_out(house: &House, readers: usize, deaf: usize, texts: usize) -> (Vec<Duration>, usize) {
    let mut hall = FanOut::new(house, readers, deaf);
    let times = (0..texts).map(|_| hall.broadcast(size(1000, 8000))).collect();
    (times, hall.growth())
}

#[test]
fn receivers_that_never_read_delay_nobody() {
    let (readers, deaf) = size((900, 100), (180, 20));
    if !has_descriptors("receivers_that_never_read_delay_nobody", 2048) {
        return;
    }
    let house = House::new(accounts(readers + deaf));
    let texts = size(400, 50);
    let growth = Cell::new(0);
    show_slowdown(
        &format!("broadcast to {readers} who read, p99, while {deaf} never read"),
        size(5, 1),
        1.2,
        || p99(fan_out(&house, readers, 0, texts).0),
        || {
            let (times, grown) = fan_out(&house, readers, deaf, texts);
            growth.set(growth.get().max(grown));
            p99(times)
        },
    );
    show_growth("while they read nothing", growth.get(), deaf);
}

#[test]
fn receivers_that_never_read_do_not_lower_the_rate() {
    let (readers, deaf) = (100, 5);
    let house = House::new(accounts(readers + deaf));
    let texts = size(2000, 50);
    let total = |deaf| fan_out(&house, readers, deaf, texts).0.iter().sum::<Duration>().as_secs_f64();
    let case = format!("time for {texts} texts to {readers} who read, while {deaf} hang");
    show_slowdown(&case, size(15, 1), 1.05, || total(0), || total(deaf));
}

#[test]
fn receivers_that_never_read_are_cut_off_and_lose_no_message() {
    let (readers, deaf) = size((900, 100), (180, 20));
    if !has_descriptors("receivers_that_never_read_are_cut_off_and_lose_no_message", 2048) {
        return;
    }
    let house = House::new(accounts(readers + deaf));
    let mut hall = FanOut::new(&house, readers, deaf);
    hall.cut_off_the_deaf();
    let grown = hall.growth();
    let names: Vec<String> = hall.deaf.iter().map(|(name, _)| name.clone()).collect();
    for name in &names {
        hall.talker.say(&format!("message {name} and this"));
        hall.talker.wait_for("message stored");
    }
    drop(hall.deaf);
    // What was sent to a connection comes back when the server has seen it break, which may be
    // later than a log-in over another.
    let start = now();
    while sessions(&hall.server) > readers + 1 {
        assert!(start.elapsed() < PATIENCE, "a session does not end");
        hall.talker.say("receipts");
        hall.talker.wait_for("Receipts are off");
    }
    let kept = names.iter().filter(|name| {
        let shown = hall.server.script(&format!("{name}\n{PASSWORD}\nlogout\n"));
        let texts: Vec<&str> =
            shown.lines().filter_map(|line| line.split_once("] ping: ").map(|(_, text)| text)).collect();
        texts == [&format!("keep this for {name}"), "and this"]
    });
    show(&format!("of {deaf} who never read have lost a message"), deaf - kept.count(), 0, "");
    show_growth("until they are cut off", grown, deaf);
}

/// How many connections have a thread in the server.
fn sessions(server: &Server) -> usize {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let names = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name == "session\n").count()
}

/// Logs in, and out again; how long the log-in took.
fn log_in_and_out(server: &Server, number: usize) -> Duration {
    let start = now();
    let mut talker = Talker::log_in(server.addresses[0], &user(number));
    let time = start.elapsed();
    talker.say("logout");
    talker.wait_for("Goodbye");
    time
}

#[test]
fn half_open_log_ins_delay_nobody_and_end_at_the_deadline() {
    let (count, timeout, log_ins) = size((5000, "120", 300), (300, "3", 50));
    if !has_descriptors("half_open_log_ins_delay_nobody_and_end_at_the_deadline", count as u64 + 64) {
        return;
    }
    let house = House::new(accounts(log_ins));
    let server = house.serve_timed(timeout, &[]);
    let second = Duration::from_secs(1);
    let deadline = Duration::from_secs(timeout.parse::<u64>().expect("a number").min(30));
    let gone = Cell::new(Duration::ZERO);
    let log_all_in = || p99((0..log_ins).map(|number| log_in_and_out(&server, number)).collect());
    show_slowdown(&format!("log-in, p99, among {count} half-open ones"), size(3, 1), 2.0, log_all_in, || {
        let start = now();
        let mut crowd = Crowd::new();
        for _ in 0..count {
            crowd.connect(server.addresses[0]);
        }
        crowd.read_until(|crowd| crowd.members.iter().all(|member| !member.last_line().is_empty()));
        let opened = start.elapsed();
        let result = log_all_in();
        while crowd.members.iter().any(|member| !member.closed) {
            // Every other one sends a byte a second, which is no line ever.
            for member in crowd.members.iter_mut().step_by(2).filter(|member| !member.closed) {
                member.say("x");
            }
            crowd.read_for(second.min(deadline / 10));
            assert!(start.elapsed() < 3 * deadline, "some are still there");
        }
        for member in &crowd.members {
            let last = member.last_line();
            let said = last.ends_with("You timed out before logging in") || last.ends_with(CROWDED);
            assert!(said, "an end without a reason: {last:?}");
        }
        gone.set(gone.get().max(start.elapsed().saturating_sub(opened)));
        result
    });
    let bound = (deadline + 2 * second).as_secs_f64();
    show_time("until the last half-open one is gone", gone.get().as_secs_f64(), bound, "s");
}

/// Limits a process that runs; the limit that it had.
fn limit_descriptors(pid: Pid, soft: Option<u64>) -> Option<u64> {
    let limit = prlimit(Some(pid), Resource::Nofile, Rlimit { current: soft, maximum: Some(64) });
    limit.expect("it is ours").current
}

#[test]
fn exhausted_descriptors_cost_little_and_are_recovered_from() {
    let (count, time) = size((200, 10), (20, 1));
    let time = Duration::from_secs(time);
    let house = House::new(accounts(1));
    // With the limit from the start, the capacity keeps the server away from it; so the limit
    // falls when the server runs, as if it had leaked descriptors.
    let server = house.serve_under("ulimit -n 64; export RUST_LOG=warn", &[]);
    let (pid, address) = (server.pid(), server.addresses[0]);
    let mut pair = Pair::log_in(address);
    let before = limit_descriptors(pid, Some(descriptors(pid)));
    let (used, start) = (processor(pid), now());
    let mut crowd = Crowd::new();
    let mut refused = 0;
    while let Some(left) = time.checked_sub(start.elapsed()) {
        // Whoever is refused is followed by another.
        let refusals = crowd.members.iter().filter(|member| member.closed);
        refused += refusals.inspect(|member| assert_eq!(member.last_line(), FULL)).count();
        crowd.forget_closed();
        while crowd.members.len() < count {
            crowd.connect(address);
        }
        pair.chat();
        crowd.read_for(left.min(Duration::from_millis(100)));
    }
    assert!(refused > 0, "nobody was turned away");
    let stored = pair.ask("message u0 hi", "message stored");
    assert!(stored.starts_with("u0 is offline"), "{stored}");
    let used = (processor(pid) - used).as_secs_f64() / start.elapsed().as_secs_f64();
    show_time("processor time without descriptors", used * 100.0, 5.0, "% of a core");
    drop(crowd);
    limit_descriptors(pid, before);
    let start = now();
    drop(Talker::log_in(address, "u0"));
    show_time("log-in after descriptors are there again", start.elapsed().as_secs_f64() * 1e3, 200.0, "ms");
    let logged = server.stop().stderr.lines().count();
    show("lines in the log", logged, 20, "");
}

/// A control group around one process; removed when dropped.
struct Cage(PathBuf);

impl Cage {
    /// Puts a process under this controller (`pids`, `memory`); `None` where that is not possible.
    fn around(pid: Pid, controller: &str) -> Option<Self> {
        let group = PathBuf::from(format!("/sys/fs/cgroup/{controller}/chinwag-{}", pid.as_raw_nonzero()));
        fs::create_dir(&group).ok()?;
        let group = Self(group);
        fs::write(group.0.join("cgroup.procs"), pid.as_raw_nonzero().to_string()).ok()?;
        Some(group)
    }

    fn set(&self, what: &str, value: usize) {
        fs::write(self.0.join(what), value.to_string()).expect("a limit");
    }

    fn get(&self, what: &str) -> usize {
        let text = fs::read_to_string(self.0.join(what)).expect("a number");
        text.trim().parse().expect("a number")
    }

    fn allow_threads(&self, more: usize) {
        self.set("pids.max", self.get("pids.current") + more);
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Stays behind if a process is still in it.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn exhausted_threads_are_refused_politely() {
    let more = 5;
    let house = House::new(accounts(1));
    let server = house.serve(&[]);
    let Some(group) = Cage::around(server.pid(), "pids") else {
        return println!("\nskipped: exhausted_threads_are_refused_politely: no pids cgroup that can be written");
    };
    let mut pair = Pair::log_in(server.addresses[0]);
    group.allow_threads(more);
    let mut crowd = Crowd::new();
    for _ in 0..size(200, 20) {
        crowd.connect(server.addresses[0]);
        pair.chat();
    }
    // A prompt may come later than a refusal: its thread is still to begin.
    let is_taken = |member: &Member| member.last_line() == "Username: ";
    crowd.read_until(|crowd| crowd.members.iter().all(|member| member.closed || is_taken(member)));
    let taken = crowd.members.iter().filter(|member| is_taken(member)).count();
    let polite = crowd.members.iter().filter(|member| member.last_line() == FULL).count();
    show("refused for want of a thread, and not told", crowd.members.len() - taken - polite, 0, "");
    assert_eq!(taken, more);
    group.allow_threads(more);
    drop(Talker::log_in(server.addresses[0], "u0"));
    drop(pair);
    drop(server.stop());
}

#[test]
fn a_full_server_refuses_politely_and_those_inside_chat_on() {
    let (inside, connects) = size((1000, 12_000_usize), (40, 500));
    if !has_descriptors("a_full_server_refuses_politely_and_those_inside_chat_on", (inside + connects + 64) as u64) {
        return;
    }
    let house = House::new(accounts(inside));
    // 24 descriptors are not for clients.
    let server = house.serve_under(&format!("ulimit -n {}", inside + 2 + 24), &[]);
    let address = server.addresses[0];
    let mut pair = Pair::log_in(address);
    let insiders = Crowd::log_in(address, 0, inside).in_background();
    let mut crowd = Crowd::new();
    let start = now();
    for number in 0..connects {
        crowd.connect(address);
        if number.is_multiple_of(100) {
            pair.chat();
        }
    }
    crowd.read_until(|crowd| crowd.members.iter().all(|member| member.closed));
    let time = start.elapsed().as_secs_f64();
    let polite = crowd.members.iter().filter(|member| member.last_line() == FULL).count();
    show(&format!("of {connects} connects to a full server were not told"), connects - polite, 0, "");
    show_time(&format!("to turn {connects} away"), time, 12.0, "s");
    pair.chat();
    assert!(insiders.end().members.iter().all(|member| !member.closed), "somebody inside was thrown out");
}

#[test]
fn guesses_over_fresh_connections_are_counted_together() {
    let guesses = size(300, 60);
    let house = House::new(accounts(1));
    let server = house.serve(&[]);
    let mut crowd = Crowd::new();
    for number in 0..guesses {
        crowd.connect(server.addresses[0]).say(&format!("u0 guess{number}\n"));
    }
    // A guess that was looked at and was not the last one is asked for another.
    let answered = |line: &str| line.ends_with("Password: ") || line.contains("blocked");
    crowd.read_until(|crowd| crowd.members.iter().all(|member| answered(&member.last_line())));
    let refused = |member: &&crate::crowd::Member| member.last_line().contains("Account blocked after failed logins");
    let evaluated = guesses - crowd.members.iter().filter(refused).count();
    show(&format!("of {guesses} guesses were evaluated"), evaluated, 3, "");
    let right = server.script(&format!("u0 {PASSWORD}\n"));
    assert!(right.contains("Account blocked after failed logins"), "{right}");
}

/// What members of a crowd send over and over, as fast as it is taken.
struct Flood {
    lines: Vec<u8>,
    /// Where in the lines each member is.
    at: Vec<usize>,
    /// Bytes that were taken from all of them.
    taken: usize,
}

impl Flood {
    fn new(members: usize, lines: &str) -> Self {
        let lines = format!("{lines}\n").repeat(1 + 64 * 1024 / lines.len());
        Self { lines: lines.into_bytes(), at: vec![0; members], taken: 0 }
    }

    /// Sends what is taken at once, and reads what is answered.
    fn go_on(&mut self, crowd: &mut Crowd) {
        for (at, member) in self.at.iter_mut().zip(&mut crowd.members) {
            let taken = member.push(&self.lines[*at..]);
            *at = (*at + taken) % self.lines.len();
            self.taken += taken;
        }
        crowd.read_for(Duration::from_millis(1));
    }
}

/// Floods from a thread of its own while `meanwhile` runs.
fn while_flooding<T>(crowd: &mut Crowd, flood: &mut Flood, meanwhile: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    // On a busy machine his thread may get no turn before all is over.
    flood.go_on(crowd);
    thread::scope(|scope| {
        let flooder = scope.spawn(|| {
            // Elsewhere he would flood with a processor of his own: the lowest priority keeps what
            // he costs here out of the figure.
            let _ = nice(19);
            while !is_over.load(Ordering::Relaxed) {
                flood.go_on(crowd);
            }
        });
        let result = meanwhile();
        is_over.store(true, Ordering::Relaxed);
        flooder.join().expect("it floods");
        result
    })
}

#[test]
fn one_flooder_delays_nobody() {
    let messages = size(3000, 200);
    let house = House::new(accounts(3));
    let unstored: &[&str] = &["--ephemeral"];
    // Each of them is on the disk before he reads that it is stored.
    let stored: &[&str] = &["--mailbox-max", "1000000000"];
    for (what, line, options) in [
        ("commands", "help nothing", unstored),
        ("messages", "message u1 you will read this, and this, and this", unstored),
        ("messages to a full mailbox", "message u2 you will read this, and this, and this", unstored),
        ("messages that are stored", "message u2 you will read this, and this, and this", stored),
        ("broadcasts", "broadcast hear me", unstored),
    ] {
        let server = house.serve(options);
        let pair = RefCell::new(Pair::log_in(server.addresses[0]));
        let _target = Crowd::log_in(server.addresses[0], 1, 1).in_background();
        let mut flooder = Crowd::log_in(server.addresses[0], 0, 1);
        let mut flood = Flood::new(1, line);
        let flooded = Cell::new(Duration::ZERO);
        show_slowdown(
            &format!("message, p99, while one floods with {what}"),
            size(5, 1),
            1.5,
            || p99(pair.borrow_mut().times(messages)),
            || {
                let start = now();
                let times = while_flooding(&mut flooder, &mut flood, || pair.borrow_mut().times(messages));
                flooded.set(flooded.get() + start.elapsed());
                p99(times)
            },
        );
        let lines = flood.taken / (line.len() + 1);
        let rate = lines as f64 / flooded.get().as_secs_f64();
        row("lines a second that he got rid of", format_args!("{rate:.0}"), "", lines > messages);
        assert!(lines > messages, "{lines} lines are no flood");
    }
}

#[test]
fn memory_stays_bounded_whatever_is_sent() {
    let (flooders, deaf, absent, seconds) = size((50, 200, 10, 10), (10, 20, 2, 1));
    let house = House::new(accounts(flooders + deaf + absent));
    let server = house.serve(&[]);
    let (pid, address) = (server.pid(), server.addresses[0]);
    let cage = Cage::around(pid, "memory");
    match &cage {
        Some(cage) => cage.set("memory.limit_in_bytes", MEMORY_LIMIT_BYTES),
        None => println!("\nskipped: the limit of memory_stays_bounded_whatever_is_sent: no memory cgroup"),
    }
    let before = memory(pid, "VmRSS");
    let mut talker = Talker::log_in(address, "ping");
    let _deaf: Vec<Client> = (flooders..flooders + deaf)
        .map(|number| {
            let mut client = Client::deaf(address);
            client.send(&format!("{} {PASSWORD}", user(number)));
            talker.wait_for(&format!("{} logged in", user(number)));
            client
        })
        .collect();
    for number in flooders + deaf..flooders + deaf + absent {
        for _ in 0..1000 {
            talker.say(&format!("message {} {}", user(number), "x".repeat(900)));
        }
        for _ in 0..1000 {
            talker.wait_for("message stored");
        }
    }
    drop(talker);
    let mut crowd = Crowd::log_in(address, 0, flooders);
    let lines = [
        format!("broadcast {}", "x".repeat(100)),
        format!("message {} {}", user(flooders), "x".repeat(8000)),
        format!("message {} {}", user(flooders + deaf), "x".repeat(900)),
        "whoelse".to_owned(),
        "x".repeat(7000),
    ];
    let mut flood = Flood::new(flooders, &lines.join("\n"));
    let start = now();
    while start.elapsed() < Duration::from_secs(seconds) {
        flood.go_on(&mut crowd);
    }
    let peak = memory(pid, "VmHWM");
    show(&format!("memory with {flooders} flooders and {deaf} who never read"), mib(peak), 200, "MiB");
    // What one may cost: its own output, and what it has sent and was not yet taken.
    let bound = before + (flooders + deaf) * 2 * WAITING_BYTES_MAX + 8 * SLACK_BYTES;
    assert!(peak < bound, "{} MiB instead of {}", mib(peak), mib(bound));
    drop(crowd);
    // It is still there, and still itself.
    drop(Talker::log_in(address, "pong"));
    if let Some(cage) = &cage {
        let used = cage.get("memory.max_usage_in_bytes");
        row("most of its memory limit that the server used, the kernel's part included", mib(used), "256 MiB", true);
    }
    drop(server.stop());
}

#[test]
fn a_stop_tells_everybody_and_keeps_what_was_acknowledged() {
    let (clients, senders) = size((1000, 50), (50, 5));
    let house = House::new(accounts(clients + senders));
    let server = house.serve(&[]);
    let address = server.addresses[0];
    let mut crowd = Crowd::log_in(address, 0, clients);
    // Each sender writes to somebody who is absent. After the welcome, what marks an answer is
    // the bracket in "is offline (never online yet), message stored".
    let send = |crowd: &mut Crowd, number: usize| {
        for sender in 0..senders {
            crowd.members[sender].say(&format!("message {} number {number}\n", user(clients + sender)));
        }
        if number.is_multiple_of(20) {
            crowd.members[senders].say(&format!("broadcast number {number}\n"));
        }
    };
    let (rounds, burst) = size((800, 100), (80, 20));
    for number in 0..rounds {
        send(&mut crowd, number);
        crowd.read_for(Duration::from_millis(1));
    }
    for number in rounds..rounds + burst {
        send(&mut crowd, number);
    }
    let crowd = crowd.in_background();
    let start = now();
    drop(server.stop());
    show_time(&format!("stop with {clients} clients and traffic in flight"), start.elapsed().as_secs_f64(), 5.0, "s");
    let mut crowd = crowd.end();
    crowd.read_until(|crowd| crowd.members.iter().all(|member| member.closed));
    let told = crowd.members.iter().filter(|member| member.last_line() == "The server is stopping, goodbye").count();
    show(&format!("of {clients} clients were not told"), clients - told, 0, "");

    let server = house.serve(&[]);
    let (mut acknowledged, mut lost) = (0, 0);
    for sender in 0..senders {
        let shown = server.script(&format!("{}\n{PASSWORD}\nlogout\n", user(clients + sender)));
        let texts: Vec<&str> =
            shown.lines().filter_map(|line| line.split_once(": number ").map(|(_, text)| text)).collect();
        let want: Vec<String> = (0..texts.len()).map(|number| number.to_string()).collect();
        assert_eq!(texts, want, "{}", user(sender));
        let answers = crowd.members[sender].marks - 1;
        acknowledged += answers;
        lost += answers.saturating_sub(texts.len());
    }
    assert!(acknowledged >= senders * rounds / 2, "{acknowledged} acknowledged");
    show(&format!("of {acknowledged} acknowledged messages were lost"), lost, 0, "");
}

#[test]
fn ten_thousand_clients_log_in_and_cost_nothing_while_idle() {
    let count = size(10_000, 200);
    if !has_descriptors("ten_thousand_clients_log_in_and_cost_nothing_while_idle", count as u64 + 64) {
        return;
    }
    let house = House::new(accounts(count));
    let server = house.serve(&["--ephemeral"]);
    let (pid, address) = (server.pid(), server.addresses[0]);
    let mut pair = Pair::log_in(address);
    let start = now();
    let crowd = Crowd::log_in(address, 0, count);
    show_time(&format!("until {count} have connected and logged in"), start.elapsed().as_secs_f64(), 5.0, "s");
    let crowd = crowd.in_background();
    pair.ask("whoelse", &user(count - 1));
    let crowd = crowd.end();
    let used = processor(pid);
    Crowd::new().read_for(Duration::from_secs(size(10, 1)));
    let used = processor(pid) - used;
    show("processor time while idle", used.as_millis() as usize, 10, "ms");

    let empty = house.serve(&["--ephemeral"]);
    let mut alone = Pair::log_in(empty.addresses[0]);
    let messages = size(3000, 200);
    show_slowdown(
        &format!("message, median, among {count} who are idle"),
        size(5, 1),
        1.1,
        || p50(alone.times(messages)),
        || p50(pair.times(messages)),
    );
    drop(crowd);
}

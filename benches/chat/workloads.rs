//! What is measured: each workload starts a fresh server, brings it into its state, and returns
//! one figure per row of the table.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::Result;
use crate::load::{Heard, Load, STORED, TEXT, WELCOME};
use crate::servers::{Server, Side, nanos};

/// Bytes of a text, its line end included.
const TEXT_BYTES: usize = 64;

/// Before a measurement and during it, in nanoseconds.
const WARM_UP_NANOS: u64 = 150_000_000;
const MEASURED_NANOS: u64 = 500_000_000;

/// Log-ins that are under way at a time.
const LOGINS_AT_ONCE: usize = 32;

const PAIRS: usize = 50;

/// Messages that each sender leaves for an absent user; his mailbox holds 1,000.
const STORED_PER_USER: usize = 800;

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) rows: &'static [Row],
    /// One figure per row.
    pub(crate) run: fn(Side) -> Result<Vec<f64>>,
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

const fn less(what: &'static str, unit: &'static str) -> Row {
    Row { what, unit, better: Better::Less }
}

const fn more(what: &'static str, unit: &'static str) -> Row {
    Row { what, unit, better: Better::More }
}

pub(crate) const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "direct-16",
        about: "50 pairs, each with 16 messages on their way from one to the other",
        rows: &[less("direct, 16 in flight", "µs CPU/message"), more("direct, 16 in flight", "messages/s")],
        run: |side| direct(side, 16),
    },
    Workload {
        name: "direct-1",
        about: "the same with one message on its way",
        rows: &[less("direct, 1 in flight", "µs CPU/message"), more("direct, 1 in flight", "messages/s")],
        run: |side| direct(side, 1),
    },
    Workload {
        name: "ping-pong",
        about: "two users answer each other; server and clients on one CPU, so that it has no choice of wake-ups",
        rows: &[less("ping-pong, p50", "µs"), less("ping-pong, p99", "µs")],
        run: ping_pong,
    },
    Workload {
        name: "fan-out-100",
        about: "one user writes to 100, 4 texts on their way",
        rows: &[less("fan-out to 100", "µs CPU/delivery"), more("fan-out to 100", "deliveries/s")],
        run: |side| fan_out(side, 100),
    },
    Workload {
        name: "fan-out-1000",
        about: "the same to 1,000",
        rows: &[less("fan-out to 1,000", "µs CPU/delivery"), more("fan-out to 1,000", "deliveries/s")],
        run: |side| fan_out(side, 1000),
    },
    Workload {
        name: "log-ins",
        about: "2,000 users connect, log in and leave, 32 at a time",
        rows: &[less("log-ins", "µs CPU/log-in")],
        run: log_ins,
    },
    Workload {
        name: "idle",
        about: "what each of 1,000 users occupies who only listens",
        rows: &[
            less("per idle client", "KiB"),
            less("per idle client", "threads"),
            less("per idle client", "descriptors"),
        ],
        run: idle,
    },
    Workload {
        name: "absent",
        about: "50 users write to 50 who are away, 16 on their way each, durable; then those log in, all at once",
        rows: &[more("to absent users, stored (*)", "messages/s"), more("the same, delivered (*)", "messages/s")],
        run: absent,
    },
];

/// Whom a client writes to.
#[derive(Debug, Clone, Copy)]
enum To {
    User(usize),
    All,
}

/// One server, its clients, and what they say.
struct Bench {
    server: Server,
    load: Load,
    is_floor: bool,
}

/// What was counted in a stretch of time.
struct Figures {
    /// Microseconds of the server's CPU for each.
    cpu: f64,
    per_second: f64,
}

impl Bench {
    /// Runs `measure` on a server; an error says what that server had to say.
    fn on<T>(server: Result<Server>, is_floor: bool, measure: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut bench = Self { server: server?, load: Load::new()?, is_floor };
        measure(&mut bench).map_err(|error| format!("{error}\n{}", bench.server.complaints()).trim_end().into())
    }

    /// Runs it on the floor, or on chinwag without a store.
    fn on_side<T>(side: Side, measure: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        match side {
            Side::Yardstick => Self::on(Server::floor(), true, measure),
            Side::Chinwag => Self::on(Server::chinwag(false), false, measure),
        }
    }

    /// Logs in users in order of number, each to write to `to`.
    fn log_in(&mut self, users: impl Iterator<Item = (usize, To)>) -> Result<()> {
        let mut heard = Vec::new();
        let mut waiting = 0;
        for (user, to) in users {
            self.connect(user, to)?;
            waiting += 1;
            while waiting == LOGINS_AT_ONCE {
                waiting -= self.welcomed(&mut heard)?;
            }
        }
        while waiting > 0 {
            waiting -= self.welcomed(&mut heard)?;
        }
        self.load.settle()
    }

    fn connect(&mut self, user: usize, to: To) -> Result<()> {
        let line = match to {
            _ if !self.is_floor => format!("u{user} secret\n"),
            To::User(other) => format!("u{user} u{other}\n"),
            To::All => format!("u{user} *\n"),
        };
        self.load.connect(self.server.address, &line)
    }

    fn welcomed(&mut self, heard: &mut Vec<Heard>) -> Result<usize> {
        self.hear(WELCOME, heard)?;
        Ok(heard.iter().map(|heard| heard.marks).sum())
    }

    /// Waits for what comes; here nobody leaves.
    fn hear(&mut self, mark: u8, heard: &mut Vec<Heard>) -> Result<()> {
        self.load.wait(mark, heard)?;
        match heard.iter().find(|heard| heard.ended) {
            Some(heard) => Err(format!("the server closed the connection of client {}", heard.client).into()),
            None => Ok(()),
        }
    }

    /// The line that carries a text.
    fn line(&self, to: To) -> Vec<u8> {
        let mut line = match to {
            _ if self.is_floor => String::new(),
            To::User(other) => format!("message u{other} "),
            To::All => "broadcast ".to_owned(),
        };
        line.push(char::from(TEXT));
        line.push_str(&"x".repeat(TEXT_BYTES - 2));
        line.push('\n');
        line.into_bytes()
    }

    /// Counts what `react` counts for a while that begins after the warm-up.
    fn for_a_while(&mut self, mut react: impl FnMut(&mut Load, Heard) -> Result<usize>) -> Result<Figures> {
        let begin = now()?;
        let mut start = None;
        let mut count = 0;
        let mut heard = Vec::new();
        loop {
            self.hear(TEXT, &mut heard)?;
            for &heard in &heard {
                count += react(&mut self.load, heard)?;
            }
            let now = now()?;
            match start {
                None if now > begin + WARM_UP_NANOS => {
                    start = Some((now, self.server.cpu()?));
                    count = 0;
                }
                Some((at, cpu)) if now > at + MEASURED_NANOS => {
                    return Ok(figures(count, now - at, self.server.cpu()? - cpu));
                }
                _ => {}
            }
        }
    }

    /// Waits for so many marks.
    fn until(
        &mut self,
        total: usize,
        mark: u8,
        mut react: impl FnMut(&mut Load, Heard) -> Result<()>,
    ) -> Result<Figures> {
        let (begin, cpu) = (now()?, self.server.cpu()?);
        let mut count = 0;
        let mut heard = Vec::new();
        while count < total {
            self.hear(mark, &mut heard)?;
            for &heard in &heard {
                count += heard.marks;
                react(&mut self.load, heard)?;
            }
        }
        Ok(figures(count, now()? - begin, self.server.cpu()? - cpu))
    }
}

fn figures(count: usize, nanos: u64, cpu: u64) -> Figures {
    let count = count as f64;
    Figures { cpu: cpu as f64 / 1e3 / count, per_second: count * 1e9 / nanos as f64 }
}

fn now() -> Result<u64> {
    nanos(ClockId::CLOCK_MONOTONIC)
}

fn direct(side: Side, window: usize) -> Result<Vec<f64>> {
    Bench::on_side(side, |bench| {
        // Even numbers write, each to the next odd one.
        bench.log_in((0..2 * PAIRS).map(|n| (n, To::User(n ^ 1))))?;
        let lines: Vec<_> = (0..2 * PAIRS).map(|n| bench.line(To::User(n ^ 1)).repeat(window)).collect();
        let bytes = |sender: usize, count| &lines[sender][..lines[sender].len() / window * count];
        for sender in (0..2 * PAIRS).step_by(2) {
            bench.load.send(sender, &lines[sender])?;
        }
        let figures = bench.for_a_while(|load, heard| {
            load.send(heard.client ^ 1, bytes(heard.client ^ 1, heard.marks))?;
            Ok(heard.marks)
        })?;
        Ok(vec![figures.cpu, figures.per_second])
    })
}

fn ping_pong(side: Side) -> Result<Vec<f64>> {
    let _pinned = Pinned::to_one_cpu()?;
    Bench::on_side(side, |bench| {
        bench.log_in((0..2).map(|n| (n, To::User(n ^ 1))))?;
        let lines: Vec<_> = (0..2).map(|n| bench.line(To::User(n ^ 1))).collect();
        let mut times = Vec::new();
        let mut sent = now()?;
        bench.load.send(0, &lines[0])?;
        let figures = bench.for_a_while(|load, heard| {
            let now = now()?;
            times.push((now - sent) as f64 / 1e3);
            sent = now;
            load.send(heard.client, &lines[heard.client])?;
            Ok(heard.marks)
        })?;
        // What came in the warm-up is at the front.
        let measured = (figures.per_second * MEASURED_NANOS as f64 / 1e9) as usize;
        let times = times.split_off(times.len().saturating_sub(measured));
        Ok(vec![quantile(times.clone(), 0.5), quantile(times, 0.99)])
    })
}

fn fan_out(side: Side, receivers: usize) -> Result<Vec<f64>> {
    const WINDOW: usize = 4;
    Bench::on_side(side, |bench| {
        bench.log_in((0..=receivers).map(|n| (n, To::All)))?;
        let line = bench.line(To::All);
        bench.load.send(0, &line.repeat(WINDOW))?;
        let mut delivered = 0;
        let figures = bench.for_a_while(|load, heard| {
            let whole = delivered / receivers;
            delivered += heard.marks;
            load.send(0, &line.repeat(delivered / receivers - whole))?;
            Ok(heard.marks)
        })?;
        Ok(vec![figures.cpu, figures.per_second])
    })
}

fn log_ins(side: Side) -> Result<Vec<f64>> {
    const COUNT: usize = 2000;
    Bench::on_side(side, |bench| {
        let mut heard = Vec::new();
        let cpu = bench.server.cpu()?;
        let mut gone = 0;
        while gone < COUNT {
            while bench.load.len() < COUNT.min(gone + LOGINS_AT_ONCE) {
                bench.connect(bench.load.len(), To::User(0))?;
            }
            bench.load.wait(WELCOME, &mut heard)?;
            for heard in &heard {
                if heard.marks > 0 {
                    bench.load.end(heard.client)?;
                }
                gone += usize::from(heard.ended);
            }
        }
        Ok(vec![(bench.server.cpu()? - cpu) as f64 / 1e3 / COUNT as f64])
    })
}

fn idle(side: Side) -> Result<Vec<f64>> {
    const WARM: usize = 16;
    const COUNT: usize = 1000;
    Bench::on_side(side, |bench| {
        bench.log_in((0..WARM).map(|n| (n, To::User(0))))?;
        let before = bench.server.footprint()?;
        bench.log_in((WARM..WARM + COUNT).map(|n| (n, To::User(0))))?;
        let after = bench.server.footprint()?;
        let each = |before: f64, after: f64| (after - before) / COUNT as f64;
        Ok(vec![
            each(before.memory, after.memory),
            each(before.threads, after.threads),
            each(before.descriptors, after.descriptors),
        ])
    })
}

/// Here the yardstick is the same durable server with receivers who are present.
fn absent(side: Side) -> Result<Vec<f64>> {
    const WINDOW: usize = 16;
    const TOTAL: usize = PAIRS * STORED_PER_USER;
    Bench::on(Server::chinwag(true), false, |bench| {
        bench.log_in((0..PAIRS).map(|n| (n, To::User(PAIRS + n))))?;
        let receivers = (PAIRS..2 * PAIRS).map(|n| (n, To::User(n - PAIRS)));
        // Present receivers show that a text has arrived, absent ones are spoken for by the server.
        let mark = match side {
            Side::Yardstick => TEXT,
            Side::Chinwag => STORED,
        };
        if side == Side::Yardstick {
            bench.log_in(receivers.clone())?;
        }
        let lines: Vec<_> = (0..PAIRS).map(|n| bench.line(To::User(PAIRS + n))).collect();
        let mut left = [STORED_PER_USER - WINDOW; PAIRS];
        for (sender, line) in lines.iter().enumerate() {
            bench.load.send(sender, &line.repeat(WINDOW))?;
        }
        let taken = bench.until(TOTAL, mark, |load, heard| {
            let sender = heard.client % PAIRS;
            let count = heard.marks.min(left[sender]);
            left[sender] -= count;
            load.send(sender, &lines[sender].repeat(count))
        })?;
        if side == Side::Yardstick {
            return Ok(vec![taken.per_second; 2]);
        }
        for (user, to) in receivers {
            bench.connect(user, to)?;
        }
        let delivered = bench.until(TOTAL, TEXT, |_, _| Ok(()))?;
        Ok(vec![taken.per_second, delivered.per_second])
    })
}

/// The value below which so much of all lies.
pub(crate) fn quantile(mut all: Vec<f64>, part: f64) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get((all.len() as f64 * part) as usize).or(all.last()).copied().unwrap_or(f64::NAN)
}

/// This process and those that it starts are on one CPU as long as this lives.
struct Pinned {
    before: CpuSet,
}

impl Pinned {
    fn to_one_cpu() -> Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        let mut one = CpuSet::new();
        one.set((0..CpuSet::count()).find(|&cpu| before.is_set(cpu) == Ok(true)).ok_or("no CPU to run on")?)?;
        sched_setaffinity(this, &one)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What was allowed before is allowed now.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

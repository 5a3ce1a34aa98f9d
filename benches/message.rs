//! What the state thread spends on one message between two users who are here: a line cut and
//! decided, and the letter spelled. No socket, no channel; `cargo bench`.

use std::hint::black_box;

use chinwag::server::ids::ConnId;
use chinwag::server::state::{Effect, Event, Remembered, Rules, State};
use chinwag::wire::line::{Line, LineCutter};
use chinwag::wire::name::UserName;
use chinwag::wire::text::Speller;
use chinwag::wire::time::Moment;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const START: Moment = Moment { elapsed: 0, wall: 0 };

/// A state with `users` users, all logged in on connections of the same number.
fn crowd(users: u64) -> (State, Vec<Effect>) {
    let accounts = (0..users).filter_map(|n| Some((UserName::parse(&format!("u{n}")).ok()?, "secret".to_owned())));
    let rules =
        Rules { block: 0, timeout: 1_000_000, allow_new_users: false, hide_blockers: false, lobby_max: usize::MAX };
    let mut state = State::new(rules, accounts, Remembered::default(), START, || 7);
    let mut effects = Vec::new();
    for n in 0..users {
        state.handle(START, Event::Opened(ConnId(n), [127, 0, 0, 1].into()), &mut effects);
        state.handle(START, Event::Line(ConnId(n), format!("u{n} secret").as_bytes()), &mut effects);
        effects.clear();
    }
    (state, effects)
}

fn message(bench: &mut Criterion) {
    let (mut state, mut effects) = crowd(100);
    let speller = Speller::new(jiff::tz::TimeZone::UTC);
    let mut cutter = LineCutter::default();
    let mut out = Vec::new();
    // Sixteen lines are what a busy client has in flight.
    let input = "message u1 are you there? it is late\n".repeat(16);
    let mut millis = 0;
    let mut group = bench.benchmark_group("present");
    group.throughput(Throughput::Elements(16));
    group.bench_function("message", |bencher| {
        bencher.iter(|| {
            // The clock goes on, or the sender would run out of lines.
            millis += 1;
            let now = Moment { elapsed: millis, wall: millis };
            let mut bytes = input.as_bytes();
            while let Some(Line::Whole(line)) = cutter.next(&mut bytes) {
                state.handle(now, Event::Line(ConnId(0), line), &mut effects);
            }
            for effect in effects.drain(..) {
                if let Effect::Send(_, notice) = effect {
                    speller.spell(&notice, &mut out);
                }
            }
            state.handle(now, Event::Flushed, &mut effects);
            black_box(&out);
            out.clear();
        });
    });
}

fn broadcast(bench: &mut Criterion) {
    let (mut state, mut effects) = crowd(1000);
    let mut millis = 0;
    let mut group = bench.benchmark_group("present");
    group.throughput(Throughput::Elements(999));
    group.bench_function("broadcast to 999", |bencher| {
        bencher.iter(|| {
            millis += 1;
            let now = Moment { elapsed: millis, wall: millis };
            state.handle(now, Event::Line(ConnId(0), b"broadcast the lab closes at six"), &mut effects);
            black_box(&effects);
            effects.clear();
        });
    });
}

criterion_group!(benches, message, broadcast);
criterion_main!(benches);

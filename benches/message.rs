//! What the state thread spends on one message between users who are here: a line cut and
//! decided, and the letter spelled. No socket, no channel; `cargo bench --bench message`.

mod crowd;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crowd::Crowd;

fn message(bench: &mut Criterion) {
    let mut crowd = Crowd::new(100);
    // Sixteen lines are what a busy client has in flight.
    let lines = "message u1 are you there? it is late\n".repeat(16);
    let mut group = bench.benchmark_group("present");
    group.throughput(Throughput::Elements(16));
    group.bench_function("message", |bencher| {
        bencher.iter(|| {
            black_box(crowd.say(0, lines.as_bytes()));
        });
    });
}

fn broadcast(bench: &mut Criterion) {
    let mut crowd = Crowd::new(1000);
    let mut group = bench.benchmark_group("present");
    group.throughput(Throughput::Elements(999));
    group.bench_function("broadcast to 999", |bencher| {
        bencher.iter(|| {
            black_box(crowd.say(0, b"broadcast the lab closes at six\n"));
        });
    });
}

criterion_group!(benches, message, broadcast);
criterion_main!(benches);

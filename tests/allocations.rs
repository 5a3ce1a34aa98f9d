//! How often the pure part of a message asks for memory. A test binary of its own: it counts by
//! way of another allocator, which nobody else should have to run with.

#[path = "../benches/crowd/mod.rs"]
mod crowd;

use allocation_counter::measure;
use crowd::Crowd;

const ROUNDS: u64 = 1000;

/// Allocations in so many rounds of the same lines, after as many to warm up.
fn allocations(crowd: &mut Crowd, lines: &str, answer: &str) -> u64 {
    let mut rounds = || {
        for _ in 0..ROUNDS {
            assert_eq!(crowd.say(0, lines.as_bytes()), answer.as_bytes());
        }
    };
    rounds();
    measure(rounds).count_total
}

#[test]
fn a_message_between_present_users_is_one_allocation() {
    for in_flight in [1, 16] {
        let lines = "message u1 are you there? it is late\n".repeat(in_flight);
        let answer = "u0: are you there? it is late\n".repeat(in_flight);
        let count = allocations(&mut Crowd::new(100), &lines, &answer);
        let messages = ROUNDS * in_flight as u64;
        println!("{in_flight} in flight: {count} allocations for {messages} messages");
        assert!(count <= messages, "{in_flight} in flight: {count} allocations for {messages} messages");
    }
}

#[test]
fn a_broadcast_allocates_as_often_for_many_as_for_few() {
    let count = |users| allocations(&mut Crowd::new(users), "broadcast hello\n", "u0: hello\n");
    let (few, many) = (count(10), count(1000));
    println!("to 9: {few}, to 999: {many} allocations for {ROUNDS} broadcasts");
    assert_eq!(few, many);
}

//! How often the pure part of a message asks for memory, how much what users share may take, and
//! that a wrong password costs the same for every name. A test binary of its own: it counts by way
//! of another allocator, which nobody else should have to run with.

#[path = "../benches/crowd/mod.rs"]
mod crowd;

use allocation_counter::measure;
use chinwag::server::ids::ConnId;
use chinwag::server::state::{
    Ask, CHUNKS_TOTAL_MAX, Effect, Event, HOLDINGS_BYTES_MAX, MAILBOX_MESSAGES_MAX, Remembered, Rules, State,
};
use chinwag::wire::chunks::{CHUNKS_MAX, HASHES_PER_LINE_MAX};
use chinwag::wire::name::UserName;
use chinwag::wire::time::Moment;
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

fn rules() -> Rules {
    Rules {
        block: 0,
        timeout: 1_000_000,
        heartbeat_timeout: 30_000,
        allow_new_users: false,
        hide_blockers: false,
        ask_private: false,
        mailbox_max: MAILBOX_MESSAGES_MAX,
        lobby_max: usize::MAX,
    }
}

/// A state with users `u0`, `u1` and so on, each at our client.
fn at_our_client(users: u64) -> State {
    let name = |number| UserName::parse(&format!("u{number}")).expect("legal");
    let accounts = (0..users).map(|number| (name(number), "p".to_owned()));
    let remembered = Remembered { first_number: 1 << 40, ..Remembered::default() };
    let mut state = State::new(rules(), accounts, remembered, NOW, || 7);
    for number in 0..users {
        state.handle(NOW, Event::Opened(ConnId(number), [127, 0, 0, 1].into()), &mut Vec::new());
        for line in ["HELLO chinwag/1 line", &format!("LOGIN u{number} 0"), "p"] {
            tell(&mut state, number, line);
        }
    }
    state
}

const NOW: Moment = Moment { elapsed: 0, wall: 0 };

/// A line from a user; the answer is not kept.
fn tell(state: &mut State, user: u64, line: &str) {
    state.handle(NOW, Event::Line(ConnId(user), line.as_bytes()), &mut Vec::new());
}

/// Hashes but for the last line, as it was begun to register a file.
fn hashes() -> Vec<String> {
    let words = vec!["5c".repeat(32); HASHES_PER_LINE_MAX].join(" ");
    let starts = (0..CHUNKS_MAX).step_by(HASHES_PER_LINE_MAX);
    starts.map(|first| format!("CHUNK-HASH {first} {words}")).collect()
}

#[test]
fn unfinished_manifests_take_no_more_than_all_files_may() {
    let bound = u64::from(CHUNKS_TOTAL_MAX) * 32;
    // Twice as many users as can do it at the same time.
    let users = 2 * u64::from(CHUNKS_TOTAL_MAX / CHUNKS_MAX);
    let mut state = at_our_client(users);
    let lines = hashes();
    let used = measure(|| {
        for user in 0..users {
            tell(&mut state, user, &format!("REGISTER f{user} {CHUNKS_MAX} 7 {}", "5c".repeat(32)));
            lines[..lines.len() - 1].iter().for_each(|line| tell(&mut state, user, line));
        }
    });
    println!("{} bytes at most, {bound} for all hashes", used.bytes_max);
    assert!(used.bytes_max > bound / 2, "the test has done nothing");
    assert!(used.bytes_max <= bound + bound / 8, "{} bytes, {bound} allowed", used.bytes_max);
}

#[test]
fn the_lists_of_holders_take_no_more_than_they_may() {
    let bound = HOLDINGS_BYTES_MAX as u64;
    let files = u64::from(CHUNKS_TOTAL_MAX / CHUNKS_MAX);
    // The last chunk alone makes a set as large as it can be: twice as many as there is room for.
    let users = 2 * bound / (u64::from(CHUNKS_MAX) / 8) / files;
    let mut state = at_our_client(users);
    for file in 0..files {
        tell(&mut state, file, &format!("REGISTER f{file} {CHUNKS_MAX} 7 {}", "5c".repeat(32)));
        hashes().iter().for_each(|line| tell(&mut state, file, line));
    }
    let used = measure(|| {
        for (user, file) in (0..users).flat_map(|user| (0..files).map(move |file| (user, file))) {
            tell(&mut state, user, &format!("HAVE f{file} {}", CHUNKS_MAX - 1));
        }
    });
    println!("{} bytes at most, {bound} allowed", used.bytes_max);
    assert!(used.bytes_max > bound / 2, "the test has done nothing");
    assert!(used.bytes_max <= bound + bound / 8, "{} bytes, {bound} allowed", used.bytes_max);
}

/// Framed clients try a wrong password for each of these names, four times: two misses, the
/// lockout, and one more. What they are answered, name by name, as bytes.
fn wrong_log_ins(state: &mut State, names: &[String], answers: &mut [Vec<u8>]) {
    let mut effects = Vec::with_capacity(4);
    for (name, answers) in names.iter().zip(answers) {
        for number in 0..4 {
            let ask = Ask::LogIn { name: name.as_bytes(), password: b"not the password" };
            state.handle(NOW, Event::Asked(ConnId(1000 + number), [127, 0, 0, 1].into(), ask), &mut effects);
            for effect in effects.drain(..) {
                let Effect::Answer(_, answer) = effect else { panic!("{effect:?}") };
                answer.encode(answers);
            }
        }
    }
}

/// Whether a name exists is not to be seen: neither from the answers, nor from what they cost. Time
/// is no measure here; but who does something else for one of the two asks for other memory.
#[test]
fn a_wrong_password_costs_the_same_for_a_name_that_does_not_exist() {
    const NAMES: usize = 500;
    let rules = Rules { block: 60_000, ..rules() };
    let known: Vec<String> = (0..NAMES).map(|number| format!("known{number:04}")).collect();
    let accounts = known.iter().map(|name| (UserName::parse(name).expect("legal"), "the password".to_owned()));
    let remembered = Remembered { first_number: 1 << 40, ..Remembered::default() };
    let mut state = State::new(rules, accounts, remembered, NOW, || 7);
    let room = || -> Vec<Vec<u8>> { (0..NAMES).map(|_| Vec::with_capacity(256)).collect() };
    // As in a server that has seen many names: the oldest is forgotten for every new one.
    for round in 0..40 {
        let others: Vec<String> = (0..NAMES).map(|number| format!("round{round:02}-{number:04}")).collect();
        wrong_log_ins(&mut state, &others, &mut room());
    }
    let mut counted = |names: &[String]| {
        let mut answers = room();
        let count = measure(|| wrong_log_ins(&mut state, names, &mut answers));
        (count.count_total, count.bytes_total, answers)
    };
    let strangers: Vec<String> = (0..NAMES).map(|number| format!("other{number:04}")).collect();
    let (of_known, bytes_of_known, answers) = counted(&known);
    let (of_strangers, bytes_of_strangers, answers_to_strangers) = counted(&strangers);
    println!("{NAMES} names, 4 tries each: {of_known} allocations if known, {of_strangers} if not");
    println!("{bytes_of_known} bytes if known, {bytes_of_strangers} if not");
    assert!(answers.iter().all(|it| *it == answers[0]) && answers == answers_to_strangers, "the same bytes");
    let text = String::from_utf8_lossy(&answers[0]).into_owned();
    for answer in ["LOGIN_FAILED|2", "LOGIN_FAILED|1", "JUST_PENNED|60.000", "PENNED|60.000"] {
        assert!(text.contains(answer), "{text:?}");
    }
    assert!(of_known > 0, "both are counted somewhere");
    // The tree of the names by age splits its nodes every now and then.
    assert!(of_known.abs_diff(of_strangers) <= of_known / 20, "{of_known} and {of_strangers} allocations");
    assert!(bytes_of_known.abs_diff(bytes_of_strangers) <= bytes_of_known / 20);
}

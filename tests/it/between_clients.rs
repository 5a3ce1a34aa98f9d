//! Introductions and shared files at their limits, on the pure state: too many lines for a
//! transcript.

use chinwag::server::state::{
    CHUNKS_OF_ONE_USER_MAX, CHUNKS_TOTAL_MAX, FILES_MAX, FILES_OF_ONE_USER_MAX, REQUESTS_MAX,
};
use chinwag::wire::chunks::{CHUNKS_MAX, ChunkSet, HASHES_PER_LINE_MAX, RANGES_PER_LINE_MAX};
use chinwag::wire::line::LINE_BYTES_MAX;
use chinwag::wire::{Notice, control};

use crate::play::{Act, Setup, Stage};
use crate::pure::Pure;

/// Output that waits for a client before its own lines wait; no page may come near it.
const PAGE_BYTES_MAX: usize = 128 * 1024;

fn setup(ask_private: bool) -> Setup {
    Setup { ask_private, ..Setup::default() }
}

/// Accounts `u0`, `u1` and so on.
fn crowd(users: usize, ask_private: bool) -> Pure {
    let accounts = (0..users).map(|number| (format!("u{number}"), "secret".to_owned()));
    Pure::with_accounts(&setup(ask_private), accounts)
}

fn say(stage: &mut Pure, name: char, line: &str) -> Vec<String> {
    stage.perform(&Act::Send(name, line.to_owned()))
}

/// What only `name` is told.
fn answers(stage: &mut Pure, name: char, line: &str) -> Vec<String> {
    let prefix = format!("{name}< ");
    let seen = say(stage, name, line);
    seen.iter().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
}

/// A client of a number that is none of the ASCII ones.
fn client(number: usize) -> char {
    char::from_u32(0x4e00 + u32::try_from(number).expect("few")).expect("a character")
}

/// Our client logs in, as `u<number>`, and can be dialled.
fn enter(stage: &mut Pure, number: usize) -> char {
    let name = client(number);
    say(stage, name, "HELLO chinwag/1 line");
    say(stage, name, &format!("LOGIN u{number} 0"));
    say(stage, name, "secret");
    say(stage, name, "PORT 40000");
    name
}

const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Begins to register a file; what is answered.
fn begin(stage: &mut Pure, name: char, file: &str, chunks: u32) -> Vec<String> {
    answers(stage, name, &format!("REGISTER {file} {chunks} 7 {DIGEST}"))
}

/// The hashes of a file, in lines.
fn hashes(chunks: u32) -> impl Iterator<Item = String> {
    let step = u32::try_from(HASHES_PER_LINE_MAX).expect("few");
    (0..chunks).step_by(HASHES_PER_LINE_MAX).map(move |first| {
        let words = vec![DIGEST; (chunks - first).min(step) as usize].join(" ");
        format!("CHUNK-HASH {first} {words}")
    })
}

/// Registers a file; the last answer.
fn register(stage: &mut Pure, name: char, file: &str, chunks: u32) -> String {
    let refused = begin(stage, name, file, chunks);
    if let Some(refused) = refused.first() {
        return refused.clone();
    }
    let last = hashes(chunks).map(|line| answers(stage, name, &line)).last().unwrap_or_default();
    last.first().cloned().unwrap_or_default()
}

#[test]
fn so_many_requests_wait_for_one_user_and_void_ones_make_room() {
    for (ask_private, verb) in [(false, "getaddress"), (true, "startprivate")] {
        let mut stage = crowd(REQUESTS_MAX + 3, ask_private);
        let host = enter(&mut stage, 0);
        for number in 1..=REQUESTS_MAX {
            let asker = enter(&mut stage, number);
            assert_eq!(answers(&mut stage, asker, &format!("{verb} u0")), ["request-sent u0"], "{number}");
        }
        let late = enter(&mut stage, REQUESTS_MAX + 1);
        let refused = format!("refused requests-full u0 {REQUESTS_MAX}");
        assert_eq!(answers(&mut stage, late, &format!("{verb} u0")), [&*refused]);
        // Who waits already may ask again.
        assert_eq!(answers(&mut stage, client(1), &format!("{verb} u0")), ["request-sent u0"]);
        // The request of one who has gone is void.
        say(&mut stage, client(7), "logout");
        assert_eq!(answers(&mut stage, late, &format!("{verb} u0")), ["request-sent u0"]);
        let later = enter(&mut stage, REQUESTS_MAX + 2);
        assert_eq!(answers(&mut stage, later, &format!("{verb} u0")), [&*refused]);
        assert_eq!(answers(&mut stage, host, "deny u7"), ["refused no-request u7"]);
        // An answer makes room too.
        assert_eq!(answers(&mut stage, host, "deny u8"), ["denied u8"]);
        assert_eq!(answers(&mut stage, later, &format!("{verb} u0")), ["request-sent u0"]);
    }
}

/// How often `name` is told to expect somebody.
fn expects(seen: &[String], name: char) -> usize {
    seen.iter().filter(|line| line.starts_with(&format!("{name}< expect "))).count()
}

#[test]
fn nobody_is_flooded_with_tickets() {
    for line in ["startprivate u1", "DIAL u1 file", "PORT 40000"] {
        let mut stage = crowd(2, false);
        let (flooder, host) = (enter(&mut stage, 0), enter(&mut stage, 1));
        register(&mut stage, host, "a", 1);
        say(&mut stage, flooder, "getaddress u1");
        say(&mut stage, host, "allow u0");
        // The budget fills up again.
        stage.perform(&Act::Pass(1000));
        let at_once: usize = (0..500)
            .map(|_| {
                let seen = say(&mut stage, flooder, line);
                expects(&seen, host)
            })
            .sum();
        assert!((90..=101).contains(&at_once), "{at_once} at once by {line}");
        // The others are not lost: they come slowly.
        let later = expects(&stage.perform(&Act::Pass(1000)), host);
        assert!((90..=101).contains(&later), "{later} in the next second by {line}");
        let rest = expects(&stage.perform(&Act::Pass(5000)), host);
        assert_eq!(at_once + later + rest, 500);
    }
}

#[test]
fn a_user_registers_so_many_files_and_the_server_knows_so_many() {
    let users = FILES_MAX / FILES_OF_ONE_USER_MAX;
    let mut stage = crowd(users + 1, false);
    for number in 0..users {
        let name = enter(&mut stage, number);
        for file in 0..FILES_OF_ONE_USER_MAX {
            let file = format!("f{number}-{file}");
            assert_eq!(register(&mut stage, name, &file, 1), format!("registered {file} 1"));
        }
        let refused = format!("refused owns-too-many-files {FILES_OF_ONE_USER_MAX}");
        assert_eq!(register(&mut stage, name, "one-more", 1), refused);
        // Somebody else's file is none of one's own.
        assert_eq!(register(&mut stage, name, "f0-0", 1), "refused already-registered f0-0 same");
    }
    let late = enter(&mut stage, users);
    assert_eq!(register(&mut stage, late, "one-more", 1), format!("refused files-full {FILES_MAX}"));
}

#[test]
fn a_user_registers_so_many_chunks() {
    let mut stage = crowd(1, false);
    let name = enter(&mut stage, 0);
    for file in 0..CHUNKS_OF_ONE_USER_MAX / CHUNKS_MAX {
        let file = format!("f{file}");
        assert_eq!(register(&mut stage, name, &file, CHUNKS_MAX), format!("registered {file} {CHUNKS_MAX}"));
    }
    let refused = format!("refused owns-too-many-chunks {CHUNKS_OF_ONE_USER_MAX}");
    assert_eq!(register(&mut stage, name, "one-more", 1), refused);
}

#[test]
fn what_is_begun_takes_its_room_until_it_ends() {
    let users = usize::try_from(CHUNKS_TOTAL_MAX / CHUNKS_MAX).expect("few");
    let mut stage = crowd(users + 1, false);
    for number in 0..users {
        let name = enter(&mut stage, number);
        // Beginning again is no second time.
        for file in ["first", "second"] {
            assert_eq!(begin(&mut stage, name, file, CHUNKS_MAX), [""; 0]);
        }
    }
    let late = enter(&mut stage, users);
    let refused = format!("refused chunks-full {CHUNKS_TOTAL_MAX}");
    assert_eq!(begin(&mut stage, late, "small", 1), [&*refused]);
    // By a log-out, by a break, by hashes that do not fit.
    say(&mut stage, client(0), "logout");
    assert_eq!(begin(&mut stage, late, "large", CHUNKS_MAX), [""; 0]);
    assert_eq!(begin(&mut stage, late, "large", CHUNKS_MAX), [""; 0]);
    let other = enter(&mut stage, 0);
    assert_eq!(begin(&mut stage, other, "small", 1), [&*refused]);
    stage.perform(&Act::Cut(client(1)));
    assert_eq!(begin(&mut stage, other, "large", CHUNKS_MAX), [""; 0]);
    let again = enter(&mut stage, 1);
    assert_eq!(begin(&mut stage, again, "small", 1), [&*refused]);
    let wrong = format!("CHUNK-HASH 5 {DIGEST}");
    assert_eq!(answers(&mut stage, client(2), &wrong), ["refused bad-manifest second"]);
    assert_eq!(begin(&mut stage, again, "small", 1), [""; 0]);
}

/// The notices behind lines such as `c< holder ...`.
fn notices(seen: &[String]) -> Vec<Notice> {
    seen.iter().map(|line| control::decode(line).expect("a control line")).collect()
}

/// A server on which `u0` has registered a file of all the chunks there can be, and `u1` has every
/// other one. `u2` asks.
fn scattered() -> (Pure, char) {
    let mut stage = crowd(3, false);
    let (owner, other, asker) = (enter(&mut stage, 0), enter(&mut stage, 1), enter(&mut stage, 2));
    register(&mut stage, owner, "a", CHUNKS_MAX);
    let chunks: Vec<u32> = (0..CHUNKS_MAX).step_by(2).collect();
    for chunks in chunks.chunks(64) {
        let words: Vec<String> = chunks.iter().map(u32::to_string).collect();
        let line = format!("HAVE a {}", words.join(" "));
        assert!(line.len() <= LINE_BYTES_MAX);
        assert_eq!(say(&mut stage, other, &line), [""; 0]);
    }
    (stage, asker)
}

/// What is listed of each holder, and that no line is too long.
fn listed(seen: &[Notice]) -> Vec<(String, ChunkSet)> {
    let mut all: Vec<(String, ChunkSet)> = Vec::new();
    for notice in seen {
        let (Notice::Holder { user, chunks, .. } | Notice::Has { user, chunks, .. }) = notice else { continue };
        assert!(chunks.ranges(0).count() <= RANGES_PER_LINE_MAX);
        match all.last_mut().filter(|(last, _)| last == user.as_str()) {
            Some((_, sum)) => sum.add(chunks),
            None => all.push((user.as_str().to_owned(), chunks.clone())),
        }
    }
    all
}

#[test]
fn a_long_manifest_and_scattered_holders_come_in_lines_that_add_up() {
    let (mut stage, asker) = scattered();
    let whole = [
        ("u0".to_owned(), ChunkSet::first(CHUNKS_MAX)),
        ("u1".to_owned(), (0..CHUNKS_MAX).step_by(2).collect::<ChunkSet>()),
    ];
    for line in ["WANT a", "HOLDERS a", "searchFile a"] {
        let seen = notices(&answers(&mut stage, asker, line));
        assert_eq!(listed(&seen), whole, "{line}");
        let mut next = 0;
        for notice in &seen {
            let Notice::ChunkHashes { first, hashes, .. } = notice else { continue };
            assert_eq!(*first, next);
            next += u32::try_from(hashes.len()).expect("few");
        }
        assert_eq!(next, if line == "WANT a" { CHUNKS_MAX } else { 0 });
        let ends = seen.iter().filter(|notice| matches!(notice, Notice::ManifestEnd(_) | Notice::HoldersEnd(_)));
        assert_eq!(ends.count(), usize::from(line != "searchFile a"));
        // The answer to the next line comes behind all of it.
        assert_eq!(answers(&mut stage, asker, "PING"), ["pong"]);
    }
}

#[test]
fn a_list_waits_for_who_does_not_read() {
    let (mut stage, asker) = scattered();
    stage.perform(&Act::Stall(asker));
    let mut seen = answers(&mut stage, asker, "WANT a");
    let bytes: usize = seen.iter().map(|line| line.len() + 1).sum();
    assert!(bytes > 0 && bytes < PAGE_BYTES_MAX, "{bytes} bytes at once");
    assert_eq!(answers(&mut stage, asker, "PING"), [""; 0]);
    let prefix = format!("{asker}< ");
    let drained = stage.perform(&Act::Drain(asker));
    seen.extend(drained.iter().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)));
    assert_eq!(seen.pop().as_deref(), Some("pong"));
    assert_eq!(seen.last().map(String::as_str), Some("manifest-end a"));
    assert_eq!(listed(&notices(&seen)).len(), 2);
}

#[test]
fn what_our_client_asks_for_again_is_not_sent_twice_after_a_dead_link() {
    for (line, goes_on) in [("WANT a", false), ("HOLDERS a", false), ("searchFile a", true)] {
        let (mut stage, asker) = scattered();
        stage.perform(&Act::Stall(asker));
        let mut seen = notices(&answers(&mut stage, asker, line));
        say(&mut stage, 'r', "HELLO chinwag/1 line");
        // The third log-in has got the third token.
        let resumed = notices(&answers(&mut stage, 'r', &format!("RESUME u2 {:032x} 0", 3)));
        assert!(matches!(resumed[0], Notice::Welcome { .. }), "{resumed:?}");
        // A typed line is not asked again once it is done, so the rest of its answer comes.
        assert_eq!(resumed.len() > 1, goes_on, "{line}");
        if goes_on {
            seen.extend(resumed);
        } else {
            seen = notices(&answers(&mut stage, 'r', line));
        }
        assert_eq!(listed(&seen).iter().map(|(_, chunks)| chunks.len()).sum::<u32>(), CHUNKS_MAX / 2 * 3, "{line}");
    }
}

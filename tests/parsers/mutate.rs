//! Inputs made from good ones by damage, reproducibly; and the smallest input that still fails.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use allocation_counter::measure;

/// Inputs that come from one seed.
const SEED_INPUTS: u64 = 1000;

/// Memory that a parser may use, beyond twice the length of its input, in bytes.
pub(crate) const MEMORY_BYTES_MAX: u64 = 64 * 1024;

/// One of so many inputs gets a word that is longer than any limit.
const LONG_EVERY: u64 = 512;

/// Bytes that have a meaning somewhere.
const SPECIALS: [&[u8]; 34] = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\t",
    b" ",
    b"  ",
    b"\x1b[2J",
    b"\x7f",
    b"\xff",
    b"\xff\xfa",
    b"\xff\xf0",
    b"\xff\xfb\x1f",
    b"\xff\xff",
    b"\xc3",
    b"\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf",
    b"\xc2\x9b",
    b"\xe2\x80\xae",
    b"\xe2\x80\xa8",
    b"\xe2\x81\xa6",
    b"\xf3\xa0\x80\x81",
    b"\xc3\xbc",
    b":",
    b"#",
    b".",
    b"/",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"+1",
    b"340282366920938463463374607431768211456",
];

/// A reproducible stream of numbers (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give overlapping streams.
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `sides`, which is not 0.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        // The remainder is smaller than a usize.
        (self.next() % sides as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.roll(among.len())]
    }
}

/// Makes `input` a damaged copy of something in the corpus; now and then a good one.
pub(crate) fn mutate(dice: &mut Dice, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    input.clear();
    input.extend_from_slice(dice.pick::<Vec<u8>>(corpus));
    for _ in 0..dice.roll(4) {
        let at = dice.roll(input.len() + 1);
        let end = at + dice.roll((input.len() - at).min(16) + 1);
        match dice.roll(8) {
            0 | 1 if at < input.len() => input[at] ^= 1 << dice.roll(8),
            2 => drop(input.drain(at..end)),
            3 => input.extend_from_within(at..end),
            4 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            5 => {
                // The beginning of one and the end of another.
                let other = dice.pick(corpus);
                input.truncate(at);
                input.extend_from_slice(&other[dice.roll(other.len() + 1)..]);
            }
            6 if at < input.len() => input[at] = dice.next().to_le_bytes()[0],
            _ => drop(input.splice(at..at, dice.pick(&SPECIALS).iter().copied())),
        }
    }
    if dice.next().is_multiple_of(LONG_EVERY) {
        let at = dice.roll(input.len() + 1);
        let length = 1 << dice.roll(15);
        input.splice(at..at, std::iter::repeat_n(b'x', length));
    }
}

/// How many inputs a test tries; `CHINWAG_PARSER_INPUTS` asks for another number.
pub(crate) fn inputs(normal: u64) -> u64 {
    match std::env::var("CHINWAG_PARSER_INPUTS") {
        Ok(number) => number.parse().expect("CHINWAG_PARSER_INPUTS is a number"),
        Err(_) => normal,
    }
}

/// Runs `check` on many inputs, on all cores, in bounded memory. A failure is told with its seed
/// and made small.
pub(crate) fn torture(count: u64, corpus: &[Vec<u8>], check: impl Fn(&[u8]) + Sync) {
    torture_any(count, corpus, |input| frugally(input.len(), || check(input)));
}

/// Does `work` on so many bytes of input, in bounded memory.
pub(crate) fn frugally<T>(input: usize, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let bytes = measure(|| result = Some(work())).bytes_max;
    assert!(bytes <= 2 * input as u64 + MEMORY_BYTES_MAX, "{bytes} bytes for {input} of input");
    result.expect("it was done")
}

/// The same for a check that may take what it likes.
pub(crate) fn torture_any(count: u64, corpus: &[Vec<u8>], check: impl Fn(&[u8]) + Sync) {
    let seeds = inputs(count).div_ceil(SEED_INPUTS);
    let next = AtomicU64::new(0);
    let failure = thread::scope(|scope| {
        let work = || {
            let mut input = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return None;
                }
                let mut dice = Dice::new(seed);
                let all = AssertUnwindSafe(|| {
                    for _ in 0..SEED_INPUTS {
                        mutate(&mut dice, corpus, &mut input);
                        check(&input);
                    }
                });
                if catch_unwind(all).is_err() {
                    next.store(seeds, Ordering::Relaxed);
                    return Some((seed, input));
                }
            }
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().expect("panics are caught")).min()
    });
    if let Some((seed, input)) = failure {
        let (small, why) = shrink(&input, &check);
        panic!("seed {seed}: {why}\n  input  {}\n  shrunk {}", input.escape_ascii(), small.escape_ascii());
    }
}

/// The shortest input that can be reached by leaving parts out and still fails, and why it does.
fn shrink(input: &[u8], check: &impl Fn(&[u8])) -> (Vec<u8>, String) {
    let failure = |input: &[u8]| {
        let panic = catch_unwind(AssertUnwindSafe(|| check(input))).err()?;
        let said = panic.downcast_ref::<String>().cloned();
        Some(said.or_else(|| panic.downcast_ref::<&str>().map(|&said| said.to_owned())).unwrap_or_default())
    };
    // Hundreds of tries would say the same.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let mut small = input.to_vec();
    let mut size = small.len();
    while size > 0 {
        let mut at = 0;
        while at < small.len() {
            let mut less = small.clone();
            less.drain(at..(at + size).min(small.len()));
            if failure(&less).is_some() {
                small = less;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    let why = failure(&small).unwrap_or_else(|| "it does not fail again".to_owned());
    set_hook(hook);
    (small, why)
}

/// A torture that finds nothing proves something only if it finds what is there.
#[test]
fn a_planted_fault_is_found_and_shrunk() {
    let corpus = [b"message yoda hello".to_vec(), b"whoelsesince 5".to_vec()];
    let faulty = |input: &[u8]| assert!(!input.windows(4).any(|part| part == b"\x1b[2J"), "planted");
    let panic = catch_unwind(|| torture(1_000_000, &corpus, faulty)).expect_err("it is found");
    let said = panic.downcast_ref::<String>().expect("a sentence");
    assert!(said.contains("planted") && said.ends_with(r"shrunk \x1b[2J"), "{said}");

    let greedy = |input: &[u8]| {
        let hoard = Vec::<u8>::with_capacity(if input.contains(&0xff) { 1 << 20 } else { 0 });
        assert!(hoard.is_empty());
    };
    let panic = catch_unwind(|| torture(1_000_000, &corpus, greedy)).expect_err("it is found");
    let said = panic.downcast_ref::<String>().expect("a sentence");
    assert!(said.contains("1048576 bytes for") && said.ends_with(r"shrunk \xff"), "{said}");
}

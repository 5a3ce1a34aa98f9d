//! The seeded simulation: both minds in a world that a number plays, watched by a model.
//!
//! `CHINWAG_SIMULATION_SEEDS` says how many seeds, `CHINWAG_SIMULATION_FIRST` where they begin.

#[path = "../it/dice.rs"]
mod dice;
mod disk;
mod faults;
mod framed;
mod generator;
mod model;
#[allow(dead_code, reason = "the other stages need more of it")]
#[path = "../it/play.rs"]
mod play;
mod run;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use faults::{FAULTS, Fault};
use model::{RULES, Reached};
use play::{Play, Setup};
use run::{Script, play_seed};
use world::World;

/// Seeds that are played when nobody asks for more.
const SEEDS: u64 = 10_000;

/// Seeds within which a planted fault is found.
const SEEDS_PER_FAULT: u64 = 1_000;

/// Between two words on how far it has come, in seeds.
const SEEDS_PER_WORD: u64 = 50_000;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// Plays seeds on all cores until one breaks a rule: the lowest of those found, with its script.
fn play_seeds(first: u64, count: u64, fault: Option<Fault>) -> Option<(u64, Script, String)> {
    play_and_count(first, count, fault, &|_| ())
}

/// The same; `count` hears which rules each seed has come to.
fn play_and_count(
    first: u64,
    count: u64,
    fault: Option<Fault>,
    hear: &(dyn Fn(Reached) + Sync),
) -> Option<(u64, Script, String)> {
    let next = AtomicU64::new(first);
    let found = Mutex::new(None::<(u64, Script, String)>);
    let end = AtomicU64::new(first + count);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end.load(Ordering::Relaxed) {
            return;
        }
        if seed > first && (seed - first).is_multiple_of(SEEDS_PER_WORD) {
            println!("{} of {count} seeds", seed - first);
        }
        match play_seed(seed, fault) {
            Ok(reached) => hear(reached),
            Err((script, trouble)) => {
                end.fetch_min(seed, Ordering::Relaxed);
                let mut found = found.lock().expect("no panic");
                if found.as_ref().is_none_or(|(lowest, ..)| seed < *lowest) {
                    *found = Some((seed, script, trouble));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    found.into_inner().expect("no panic")
}

/// Every rule, on every seed. A seed that fails is printed as a short transcript. How many seeds
/// have come to each rule of groups, receipts, modes and framed users is printed too; none may be
/// out of reach.
#[test]
fn no_seed_breaks_a_rule() {
    let (first, count) = (number("CHINWAG_SIMULATION_FIRST", 0), number("CHINWAG_SIMULATION_SEEDS", SEEDS));
    let counts: Vec<AtomicU64> = RULES.iter().map(|_| AtomicU64::new(0)).collect();
    let hear = |reached: Reached| {
        for ((rule, _), seeds) in RULES.iter().zip(&counts) {
            seeds.fetch_add(u64::from(reached.has(*rule)), Ordering::Relaxed);
        }
    };
    if let Some((seed, script, _)) = play_and_count(first, count, None, &hear) {
        let script = script.minimise(None);
        let trouble = script.play(None).expect("it is still broken");
        panic!("seed {seed}: {trouble}\n\n{}", script.write(&trouble, None));
    }
    for ((_, what), seeds) in RULES.iter().zip(&counts) {
        let seeds = seeds.load(Ordering::Relaxed);
        println!("{seeds:8} of {count} seeds: {what}");
        assert!(seeds > 0 || count < SEEDS, "no seed comes to this: {what}");
    }
}

/// The simulator is a stage like the others: what it shows must be what they show.
#[test]
fn every_transcript_is_played_by_the_simulator() {
    for name in play::names::<Setup>() {
        let play: Play = Play::load(&name);
        let mut world = World::recorded(&play.setup, None);
        world.tokens_repeat = true;
        play.perform(&mut world, |line| Some(line.to_owned()), true);
        world.finish();
        assert_eq!(world.model.trouble(), None, "{name}");
    }
}

/// Each is found, and what is found is printed.
#[test]
fn every_planted_fault_is_found() {
    let is_missed = |(fault, what): &&(Fault, &str)| match play_seeds(0, SEEDS_PER_FAULT, Some(*fault)) {
        Some((seed, _, trouble)) => {
            println!("{what}: seed {seed}: {trouble}");
            false
        }
        None => true,
    };
    let missed: Vec<&str> = FAULTS.iter().filter(is_missed).map(|(_, what)| *what).collect();
    assert!(missed.is_empty(), "not found: {missed:#?}");
    assert_eq!(play_seeds(0, SEEDS_PER_FAULT, None).map(|(seed, _, trouble)| (seed, trouble)), None);
}

/// What is printed can be saved and played: it shows the fault, and nothing without it.
#[test]
fn a_printed_script_is_a_transcript_that_shows_the_fault() {
    for fault in [Fault::BlockedAfterOffline, Fault::SeenForgotten, Fault::ResentAnew, Fault::PageShort] {
        let (_, script, _) = play_seeds(0, SEEDS_PER_FAULT, Some(fault)).expect("it is found");
        let script = script.minimise(Some(fault));
        let trouble = script.play(Some(fault)).expect("it is still there");
        let play: Play = Play::parse("printed".into(), &script.write(&trouble, Some(fault)));
        let read = Script { setup: play.setup.clone(), acts: play.acts() };
        assert_eq!(read, script);
        assert_eq!((read.play(Some(fault)), read.play(None)), (Some(trouble), None));
    }
}

//! One seed played, a failing script made shorter, and written down as a transcript.

use std::fmt::Write as _;

use crate::faults::Fault;
use crate::generator::{self, Generator, Random};
use crate::model::Reached;
use crate::play::{Act, Setup, Stage};
use crate::world::World;

/// Acts between the beginning and the epilogue.
pub(crate) const ACTS: usize = 1000;

/// What happens, and what the server is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) setup: Setup,
    pub(crate) acts: Vec<Act>,
}

/// Plays a seed: which rules it has come to. If one is broken: the script that did it, and which.
pub(crate) fn play_seed(seed: u64, fault: Option<Fault>) -> Result<Reached, (Script, String)> {
    let mut random = Random::new(seed);
    let setup = generator::setup(&mut random);
    let mut world = World::new(&setup, fault);
    let mut generator = Generator::new(random);
    let mut acts = Vec::with_capacity(ACTS + 64);
    let mut epilogue = generator::epilogue().into_iter();
    while world.model.trouble().is_none() {
        let next = if acts.len() < ACTS { Some(generator.next(&world)) } else { epilogue.next() };
        let Some(act) = next else { break };
        world.act(&act);
        acts.push(act);
    }
    world.finish();
    match world.model.trouble() {
        Some(trouble) => Err((Script { setup, acts }, trouble.to_owned())),
        None => Ok(world.model.reached()),
    }
}

impl Script {
    /// The rule that the script breaks, if it does.
    pub(crate) fn play(&self, fault: Option<Fault>) -> Option<String> {
        let mut world = World::new(&self.setup, fault);
        for act in &self.acts {
            world.act(act);
            if world.model.trouble().is_some() {
                break;
            }
        }
        world.finish();
        world.model.trouble().map(str::to_owned)
    }

    /// A shortest script that breaks a rule: without any act of it, none is broken. Leaves out
    /// ever smaller pieces (Zeller's delta debugging).
    pub(crate) fn minimise(mut self, fault: Option<Fault>) -> Self {
        let mut size = self.acts.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            let before = self.acts.len();
            while at < self.acts.len() {
                let end = (at + size).min(self.acts.len());
                let shorter = Self { setup: self.setup.clone(), acts: [&self.acts[..at], &self.acts[end..]].concat() };
                if shorter.play(fault).is_some() { self = shorter } else { at = end }
            }
            size = if size > 1 { size / 2 } else { usize::from(self.acts.len() < before) };
        }
        self
    }

    /// The script as a transcript, with what is seen.
    pub(crate) fn write(&self, comment: &str, fault: Option<Fault>) -> String {
        let mut world = World::recorded(&self.setup, fault);
        let mut text = format!("# {comment}\n{}\n", self.setup);
        for act in &self.acts {
            let _ = writeln!(text, "{act}");
            for line in world.perform(act) {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

//! The hub's input: a bounded channel, and a bell beside it for a hub that sleeps.
//!
//! The channel could wake its receiver itself, but before it lets him sleep it waits actively for
//! two microseconds and gives way four times, on every message of a quiet server. Here the hub gives
//! way once, and then sleeps.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::hub::Input;

/// An inbox for up to `inputs_max` inputs; then whoever has another one waits.
pub(super) fn inbox(inputs_max: usize) -> (ToHub, Inbox) {
    let (sender, inputs) = bounded(inputs_max);
    let bell = Arc::new(Bell::default());
    (ToHub { inputs: sender, bell: Arc::clone(&bell) }, Inbox { inputs, bell })
}

/// The way to the hub, for every thread that has something for it.
#[derive(Debug, Clone)]
pub(super) struct ToHub {
    inputs: Sender<Input>,
    bell: Arc<Bell>,
}

/// The hub's end.
#[derive(Debug)]
pub(super) struct Inbox {
    inputs: Receiver<Input>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Bell {
    /// The hub sleeps, or is about to; who takes this away has to wake it.
    is_set: AtomicBool,
    hub: OnceLock<Thread>,
}

/// The hub has ended; that is the only way in which sending to it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HubGone;

impl ToHub {
    /// Waits while the inbox is full.
    pub(super) fn send(&self, input: Input) -> Result<(), HubGone> {
        self.inputs.send(input).map_err(|_| HubGone)?;
        // The hub sets the bell and then looks into the channel once more; here it is the other way
        // round. With a fence between the two on either side, one of them sees what the other did.
        fence(Ordering::SeqCst);
        if self.bell.is_set.load(Ordering::Relaxed)
            && self.bell.is_set.swap(false, Ordering::Relaxed)
            && let Some(hub) = self.bell.hub.get()
        {
            hub.unpark();
        }
        Ok(())
    }

    /// How many inputs wait.
    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }
}

impl Inbox {
    /// The next input, if there is one.
    pub(super) fn take(&self) -> Option<Input> {
        self.inputs.try_recv().ok()
    }

    /// The next input; `None` if none has come within `limit`, and sometimes earlier. Only one
    /// thread may wait, always the same.
    pub(super) fn wait(&self, limit: Duration) -> Option<Input> {
        let waiting = self.take();
        if waiting.is_some() {
            return waiting;
        }
        // On a busy processor a reader with the next input is often the next to run.
        thread::yield_now();
        self.bell.hub.get_or_init(thread::current);
        self.bell.is_set.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let input = self.take().or_else(|| {
            thread::park_timeout(limit);
            self.take()
        });
        self.bell.is_set.store(false, Ordering::Relaxed);
        input
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::server::ids::ConnId;

    /// Longer than the test takes.
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn no_input_is_slept_through() {
        const SENDERS: u64 = 3;
        const TIMES: u64 = 20_000;
        let (to_hub, inbox) = inbox(SENDERS as usize);
        let (answer, answers) = bounded(SENDERS as usize);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (to_hub, answers) = (to_hub.clone(), answers.clone());
                thread::spawn(move || {
                    for time in 0..TIMES {
                        // Each comes a little earlier or later within what the hub does before it sleeps.
                        (0..(time * (sender + 1)) % 509).for_each(|_| std::hint::spin_loop());
                        to_hub.send(Input::Flushed(ConnId(sender), true)).expect("it is there");
                        answers.recv().expect("so is the other channel");
                    }
                })
            })
            .collect();
        let clock = Clock::start();
        let mut heard = 0;
        while heard < SENDERS * TIMES {
            if inbox.wait(LONG).is_some() {
                heard += 1;
                answer.send(()).expect("somebody waits for it");
            }
            assert!(clock.now().elapsed < 20_000, "an input was slept through");
        }
        senders.into_iter().for_each(|sender| sender.join().expect("it ends"));
    }

    #[test]
    fn a_wait_has_a_limit_and_a_sender_hears_of_the_end() {
        let (to_hub, inbox) = inbox(1);
        assert!(inbox.wait(Duration::from_millis(1)).is_none());
        assert!(to_hub.send(Input::Stop).is_ok());
        assert_eq!(to_hub.len(), 1);
        assert!(matches!(inbox.wait(LONG), Some(Input::Stop)));
        drop(inbox);
        assert!(to_hub.send(Input::Stop).is_err());
    }
}

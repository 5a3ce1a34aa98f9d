//! The only file that asks the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::wire::time::Moment;

/// Reads the monotonic and the wall clock together.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose `elapsed` begins at zero.
    #[allow(clippy::disallowed_methods, reason = "this file is the one that may ask")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks now, in milliseconds.
    #[allow(clippy::disallowed_methods, reason = "this file is the one that may ask")]
    pub fn now(&self) -> Moment {
        // A wall clock before 1970 is a broken machine; zero keeps the chat going.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Moment { elapsed: millis(self.start.elapsed()), wall: millis(wall) }
    }

    /// The instant at which `elapsed` will be reached, for waits with a limit.
    pub fn at(&self, elapsed: i64) -> Instant {
        self.start + Duration::from_millis(u64::try_from(elapsed).unwrap_or(0))
    }

    /// How long it is until `elapsed` will be reached; nothing if it has been.
    pub fn until(&self, elapsed: i64) -> Duration {
        Duration::from_millis(u64::try_from(elapsed).unwrap_or(0)).saturating_sub(self.start.elapsed())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

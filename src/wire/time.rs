//! When something happened, as a value that somebody else read from the clocks.

/// One reading of both clocks.
///
/// Rules use `elapsed`, which never jumps; people and the store are shown `wall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since this server started; negative for what an earlier run remembered.
    pub elapsed: i64,
    /// Milliseconds since 1970, UTC.
    pub wall: i64,
}

impl Moment {
    /// Places a stored wall time on this run's monotonic scale.
    pub fn recall(self, wall: i64) -> Self {
        let age = self.wall.saturating_sub(wall).max(0);
        Self { elapsed: self.elapsed.saturating_sub(age), wall }
    }

    /// Milliseconds from `earlier` to this moment, never negative.
    pub fn since(self, earlier: Self) -> i64 {
        self.elapsed.saturating_sub(earlier.elapsed).max(0)
    }
}

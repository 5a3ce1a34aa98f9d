//! What may be sent to whom: the sender's address of a datagram proves nothing, so nobody gets
//! much more than seems to come from him. Otherwise a forged address would make the server flood
//! whoever has that address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::login::source;

/// How much more may go to a source than came from it, in bytes: at once, and again as much in
/// every [`REFILL_MILLIS`]. So it is at most twice as much in any minute, 4 KiB. What is beyond is
/// dropped and counted. Loopback is exempt: nobody can forge it from outside.
pub const DEBT_BYTES_MAX: i64 = 2 * 1024;

/// The time in which a whole debt is forgotten, in milliseconds.
pub const REFILL_MILLIS: i64 = 60_000;

/// Counted for every datagram that goes out, in bytes, beyond what is in it: its UDP and IPv4
/// headers. Those that come in are not credited, so that the bound holds however one counts.
pub const HEADER_BYTES: i64 = 28;

/// Sources with a debt. At the limit, those that have none yet get no answers.
pub const SOURCES_MAX: usize = 4096;

/// What every source has got beyond what it sent.
#[derive(Debug, Default)]
pub(super) struct Budget {
    debts: BTreeMap<IpAddr, Debt>,
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    /// In bytes times [`REFILL_MILLIS`], so that nothing is lost by rounding.
    owed: i64,
    /// When it was that much.
    at: i64,
}

impl Debt {
    /// What is left of it now.
    fn left(self, now: i64) -> i64 {
        (self.owed - (now - self.at).saturating_mul(DEBT_BYTES_MAX)).max(0)
    }
}

impl Budget {
    /// So many bytes came from there.
    pub(super) fn came(&mut self, now: i64, from: IpAddr, bytes: usize) {
        if let Some(debt) = self.debts.get_mut(&source(from)) {
            *debt = Debt { owed: (debt.left(now) - scaled(bytes, 0)).max(0), at: now };
        }
    }

    /// Whether these datagrams may all go there; if so they count as sent.
    pub(super) fn spend(&mut self, now: i64, to: IpAddr, bytes: usize, datagrams: usize) -> bool {
        if to.is_loopback() {
            return true;
        }
        let to = source(to);
        let owed = self.debts.get(&to).map_or(0, |debt| debt.left(now)) + scaled(bytes, datagrams);
        if owed > DEBT_BYTES_MAX * REFILL_MILLIS {
            return false;
        }
        if !self.debts.contains_key(&to) && self.debts.len() >= SOURCES_MAX {
            return false;
        }
        self.debts.insert(to, Debt { owed, at: now });
        true
    }

    /// Forgets whoever owes nothing any more.
    pub(super) fn sweep(&mut self, now: i64) {
        self.debts.retain(|_, debt| debt.left(now) > 0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.debts.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.debts.len()
    }
}

/// Bytes as they are kept in a debt. A datagram is short, and a list of them is bounded.
fn scaled(bytes: usize, datagrams: usize) -> i64 {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let headers = HEADER_BYTES.saturating_mul(i64::try_from(datagrams).unwrap_or(i64::MAX));
    bytes.saturating_add(headers).min(i64::MAX / (4 * REFILL_MILLIS)).saturating_mul(REFILL_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn what_came_pays_for_what_goes_and_time_for_the_rest() {
        let mut budget = Budget::default();
        assert!(budget.spend(0, AWAY, 2000 - 28, 1));
        assert!(!budget.spend(0, AWAY, 49 - 28, 1), "one byte too much");
        assert!(budget.spend(0, AWAY, 48 - 28, 1));
        budget.came(0, AWAY, 100);
        assert!(budget.spend(0, AWAY, 100 - 28, 1));
        assert!(!budget.spend(0, AWAY, 0, 1));
        assert!(budget.spend(REFILL_MILLIS / 2, AWAY, 1024 - 28, 1), "half of it is forgotten");
        assert!(!budget.spend(REFILL_MILLIS / 2, AWAY, 0, 1));
        budget.came(REFILL_MILLIS / 2, AWAY, 1_000_000);
        assert!(!budget.spend(REFILL_MILLIS / 2, AWAY, 2049 - 28, 1), "what came is no savings");
    }

    #[test]
    fn loopback_is_free_and_the_table_is_bounded() {
        let mut budget = Budget::default();
        assert!(budget.spend(0, "::1".parse().expect("an address"), 1 << 40, 1));
        assert!(budget.is_empty());
        for n in 0..=SOURCES_MAX {
            let source = IpAddr::from([10, 0, u8::try_from(n / 256).unwrap_or(0), n.to_le_bytes()[0]]);
            assert_eq!(budget.spend(0, source, 8, 1), n < SOURCES_MAX);
        }
        budget.sweep(REFILL_MILLIS);
        assert!(budget.is_empty());
    }
}

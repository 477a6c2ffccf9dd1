//! How many different clients: an estimate in one kilobyte that keeps no address (HyperLogLog, Flajolet et al. 2007).

/// Registers; the standard error is 1.04 / √1024, about 3 %.
const REGISTERS: usize = 1024;
const INDEX_BITS: u32 = REGISTERS.trailing_zeros();

/// What was seen so far. Empty until the first client, since most models never get one.
#[derive(Debug, Default)]
pub(super) struct Clients(Vec<u8>);

impl Clients {
    /// Notes a client by the hash of its address.
    pub(super) fn add(&mut self, hash: u64) {
        self.0.resize(REGISTERS, 0);
        let at = (hash >> (64 - INDEX_BITS)) as usize;
        // The marker bit bounds the rank where all other bits are 0.
        let rank = ((hash << INDEX_BITS) | 1 << (INDEX_BITS - 1)).leading_zeros() as u8 + 1;
        self.0[at] = self.0[at].max(rank);
    }

    pub(super) fn absorb(&mut self, other: &Clients) {
        if !other.0.is_empty() {
            self.0.resize(REGISTERS, 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// How many, roughly; exact while there are few.
    pub(super) fn count(&self) -> u64 {
        if self.0.is_empty() {
            return 0;
        }
        let registers = REGISTERS as f64;
        let empty = self.0.iter().filter(|rank| **rank == 0).count();
        let sum: f64 = self.0.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let few = raw <= 2.5 * registers && 0 < empty;
        let estimate = match few {
            true => registers * (registers / empty as f64).ln(),
            false => raw,
        };
        estimate.round() as u64
    }
}

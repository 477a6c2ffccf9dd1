//! What the property tests of this module share.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// The same cases in every run; `PROPTEST_CASES` asks for more of them.
pub(super) fn fixed() -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(40114),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

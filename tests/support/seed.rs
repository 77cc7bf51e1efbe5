//! The seed of a test that draws: printed, so that a failure can be played again with `TROUPE_SEED`.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// A generator from `TROUPE_SEED`, or from a fresh seed; either way the seed is printed.
#[must_use]
pub fn seeded(test: &str) -> (u64, StdRng) {
    let given = std::env::var("TROUPE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    #[expect(clippy::print_stderr, reason = "the seed belongs to the test's own output")]
    {
        eprintln!("{test}: TROUPE_SEED={seed} plays this run again");
    }
    (seed, StdRng::seed_from_u64(seed))
}

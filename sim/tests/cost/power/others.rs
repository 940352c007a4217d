//! The laws of others with their published constants.

use overbook_sim::check::Check;
use overbook_sim::power::simple::{Batch, Phases, SimpleLaw, Utilisation};
use overbook_sim::units::Watts;

pub(super) struct Others;

impl Others {
    /// Splitwise-sim (`power_model.py`), Vidur-Energy, and the fleet simulator of vLLM's semantic router, for the H100.
    pub(super) fn h100() -> [(&'static str, SimpleLaw); 3] {
        let phases = Phases { idle: Watts(75.0), prompt: Watts(700.0), token: Watts(380.0) };
        let mfu = Utilisation { idle: Watts(60.0), most: Watts(700.0), saturation: 0.45, exponent: 0.7 };
        let batch = Batch { idle: Watts(75.0), least: Watts(300.0), rise: Watts(300.0), middle: 4.2, slope: 1.0 };
        [
            ("phases", SimpleLaw::Phases(phases)),
            ("utilisation", SimpleLaw::Utilisation(mfu)),
            ("batch", SimpleLaw::Batch(batch)),
        ]
    }

    /// The same for the A100; the curve over the batch is mostly a projection there, by its authors.
    pub(super) fn a100() -> [(&'static str, SimpleLaw); 3] {
        let phases = Phases { idle: Watts(63.0), prompt: Watts(400.0), token: Watts(250.0) };
        let mfu = Utilisation { idle: Watts(100.0), most: Watts(400.0), saturation: 0.45, exponent: 0.7 };
        let batch = Batch { idle: Watts(63.0), least: Watts(175.0), rise: Watts(210.0), middle: 2.5, slope: 1.0 };
        [
            ("phases", SimpleLaw::Phases(phases)),
            ("utilisation", SimpleLaw::Utilisation(mfu)),
            ("batch", SimpleLaw::Batch(batch)),
        ]
    }
}

#[test]
fn their_constants_keep_the_rules() {
    for (name, law) in Others::h100().into_iter().chain(Others::a100()) {
        let mut found = Vec::new();
        law.check(&mut Check::new(name, &mut found));
        assert!(found.is_empty(), "{found:?}");
    }
}

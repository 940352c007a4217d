//! Calibration of an executor whose cost is known.

use std::time::Duration;

use overbook_engine::calibrate::{CalibrateError, ShapePlan, calibrate};
use overbook_engine::executor::{Capacity, Executor, Rehearsal};
use overbook_sim::calibrate::steps::{fit_steps, noise};

fn plan() -> ShapePlan {
    ShapePlan {
        max_seqs: 8,
        max_tokens: 64,
        max_model_len: 256,
        blocks: 200,
        block_tokens: 16,
        repeat_for: Duration::ZERO,
        repeats: (3, 3),
        host_for: Duration::from_secs(5),
        ..ShapePlan::default()
    }
}

fn build(plan: &ShapePlan) -> Box<dyn Executor> {
    let capacity = Capacity::unbounded(plan.blocks, plan.block_tokens, plan.max_model_len, 500);
    Box::new(Rehearsal::new(capacity, Duration::from_micros(300), Duration::from_micros(7)))
}

#[test]
fn a_known_cost_is_found() {
    let plan = plan();
    let calibration = calibrate(&plan, &mut || Ok(build(&plan)), &mut |_| true).expect("measures");
    let (form, errors) = fit_steps(&calibration.samples);
    let all = errors.last().expect("errors over all");
    assert!(all.p95_percent < 0.5, "{errors:?}");
    assert!((form.step_us - 307.0).abs() < 1.0, "{form:?}");
    assert!(noise(&calibration.samples) < 1e-9 && calibration.anchors.iter().all(|anchor| anchor.drift() < 1e-9));
    assert!(calibration.anchors[0].times_us.len() > 3);
    assert!(calibration.host.base.0.0 + calibration.host.per_seq.0.0 > 0, "the driver takes some time");
}

#[test]
fn an_interrupted_calibration_says_so() {
    let plan = plan();
    let stopped = calibrate(&plan, &mut || Ok(build(&plan)), &mut |at| at.done < 5);
    assert!(matches!(stopped, Err(CalibrateError::Interrupted)));
}

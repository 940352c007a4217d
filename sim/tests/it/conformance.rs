//! What every scheduler must do, run over every variant of [`SchedulerSpec`]: plan nothing impossible, keep the laws, make
//! progress, repeat itself, and certify no horizon that it does not keep.

use overbook_sim::cluster::Effort;
use overbook_sim::policy::{QueueOrder, SchedulerSpec, StaticSpec, VllmSpec};

use crate::world::How;
use crate::world_random::world;

const WORLDS: u64 = 60;

/// Settings worth trying of a variant. A new variant does not compile until it has some here, and a line in [`every_variant`].
fn settings(variant: &SchedulerSpec) -> Vec<(&'static str, SchedulerSpec)> {
    match variant {
        SchedulerSpec::Vllm(_) => {
            let plain = VllmSpec::default();
            let sync = VllmSpec { async_scheduling: false, ..plain.clone() };
            let cramped = VllmSpec { max_num_batched_tokens: 48, max_num_seqs: 5, ..plain.clone() };
            let urgent = VllmSpec { policy: QueueOrder::Priority, ..plain.clone() };
            let reckless = VllmSpec { scheduler_reserve_full_isl: false, max_num_batched_tokens: 64, ..sync.clone() };
            let whole = VllmSpec { enable_chunked_prefill: false, max_num_batched_tokens: 2048, ..sync.clone() };
            let held = VllmSpec { prefill_schedule_interval: 5, watermark: 0.05, ..plain.clone() };
            let capped = VllmSpec {
                long_prefill_token_threshold: 40,
                long_prefill_token_threshold_adaptive: true,
                enable_prefix_caching: false,
                ..reckless.clone()
            };
            let all = [
                ("vllm", plain),
                ("vllm, depth 1", sync),
                ("vllm, small budget, few places", cramped),
                ("vllm, priority", urgent),
                ("vllm, no gate", reckless),
                ("vllm, whole prompts", whole),
                ("vllm, prefill held, watermark", held),
                ("vllm, long prompts capped", capped),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::Vllm(spec))).into()
        }
        SchedulerSpec::Static(_) => {
            let all = [("static, 1", 1), ("static, 4", 4), ("static, 64", 64)];
            all.map(|(name, batch_size)| (name, SchedulerSpec::Static(StaticSpec { batch_size }))).into()
        }
    }
}

fn every_variant() -> Vec<(&'static str, SchedulerSpec)> {
    [SchedulerSpec::Vllm(VllmSpec::default()), SchedulerSpec::Static(StaticSpec::default())]
        .iter()
        .flat_map(settings)
        .collect()
}

#[test]
fn every_scheduler_conforms() {
    for (name, spec) in every_variant() {
        let mut effort = Effort::default();
        let mut preempted = 0;
        for seed in 0..WORLDS {
            let mut world = world(seed);
            world.set_scheduler(spec.clone());
            let steps = world.run(How { audit: true, ..How::STEPS });
            let jumps = world.run(How::JUMPS);
            let again = world.run(How::JUMPS);
            assert_eq!(steps.difference(&jumps), None, "horizons kept: world {seed}, {name}");
            assert_eq!(jumps.rows.steps, again.rows.steps, "deterministic: world {seed}, {name}");
            assert_eq!(jumps.difference(&again), None, "deterministic: world {seed}, {name}");
            assert_eq!(jumps.rows.requests.len(), world.arrivals.len(), "progress: world {seed}, {name}");
            effort.add(&jumps.result.effort);
            preempted += jumps.result.summary.work.preemptions;
        }
        let (steps, plans) = (effort.steps, effort.plans);
        eprintln!("conformance: {WORLDS} worlds, {steps} steps, {plans} plans, {preempted} preemptions: {name}");
        assert!(steps > plans, "{name} never jumps");
    }
}

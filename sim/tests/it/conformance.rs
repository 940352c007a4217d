//! What every scheduler must do, run over every variant of [`SchedulerSpec`]: plan nothing impossible, keep the laws, make
//! progress, repeat itself, and certify no horizon that it does not keep.

use overbook_sim::fleet::Effort;
use overbook_sim::lengths::{HistorySpec, LengthSpec, NoisyOracleSpec, QuantileSpec};
use overbook_sim::partitioners::{ControllerSpec, PartitionSpec, Shares};
use overbook_sim::schedulers::{
    AggressiveSpec, BatchSpec, Capacity, ConservativeSpec, EdfSpec, FairSpec, FastserveSpec, LightllmMainSpec, LtrSpec,
    OnLate, OrcaSpec, PastFutureSpec, PreemptionMode, SarathiSpec, SchedulePolicy, SchedulerSpec, SemiPdSpec,
    SglangSpec, SjfSpec, StaticSpec, TrtllmSpec, Victim, VllmSpec, VllmV0Spec, VtcSpec,
};
use overbook_sim::serving::QueueOrder;
use overbook_sim::time::Span;
use overbook_sim::units::{Bytes, Duration};

use crate::world::{How, MS};
use crate::world_random::world;

const WORLDS: u64 = 60;

/// Settings worth trying of a variant. A new variant does not compile until it has some here, and a line in [`every_variant`].
#[expect(clippy::too_many_lines, reason = "a list of settings")]
fn settings(variant: &SchedulerSpec) -> Vec<(&'static str, SchedulerSpec)> {
    match variant {
        SchedulerSpec::Vllm(_) => {
            let plain = VllmSpec::default();
            let sync = VllmSpec { async_scheduling: false, ..plain.clone() };
            let cramped = VllmSpec { max_num_batched_tokens: 48, max_num_seqs: 5, ..plain.clone() };
            let least = VllmSpec { preemption_victim: Some(Victim::LeastComputed), ..cramped.clone() };
            let most = VllmSpec { preemption_victim: Some(Victim::MostComputed), ..sync.clone() };
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
                ("vllm, least computed goes", least),
                ("vllm, most computed goes", most),
                ("vllm, priority", urgent),
                ("vllm, no gate", reckless),
                ("vllm, whole prompts", whole),
                ("vllm, prefill held, watermark", held),
                ("vllm, long prompts capped", capped),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::Vllm(spec))).into()
        }
        SchedulerSpec::VllmV0(_) => {
            let plain = VllmV0Spec::default();
            let few = VllmV0Spec { max_num_seqs: 4, watermark: 0.0, ..plain.clone() };
            let kept = VllmV0Spec { victim: Victim::MostComputed, watermark: 0.0, ..plain.clone() };
            let mode = PreemptionMode::Swap;
            let swaps = VllmV0Spec { preemption_mode: mode, watermark: 0.0, ..plain.clone() };
            let cramped = VllmV0Spec { swap_space: Bytes(20), victim: Victim::LastAdmitted, ..swaps.clone() };
            let all = [
                ("vllm-v0", plain),
                ("vllm-v0, few places", few),
                ("vllm-v0, largest victim", kept),
                ("vllm-v0, swap", swaps),
                ("vllm-v0, swap of 20 blocks", cramped),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::VllmV0(spec))).into()
        }
        SchedulerSpec::Sglang(_) => {
            let plain = SglangSpec::default();
            let serial = SglangSpec { enable_overlap_schedule: false, enable_radix_cache: false, ..plain.clone() };
            let small = SglangSpec { chunked_prefill_size: Some(40), max_running_requests: 6, ..plain.clone() };
            let bold = SglangSpec { schedule_conservativeness: 0.05, ..serial.clone() };
            let mixed = SglangSpec { enable_mixed_chunk: true, chunked_prefill_size: Some(64), ..bold.clone() };
            let whole = SglangSpec { chunked_prefill_size: None, max_prefill_tokens: 300, ..bold.clone() };
            let order = SchedulePolicy::Lpm;
            let prefixes = SglangSpec { schedule_policy: order, max_running_requests: 6, ..plain.clone() };
            let longest = SglangSpec { schedule_policy: SchedulePolicy::Lof, ..bold.clone() };
            let all = [
                ("sglang, lpm, few places", prefixes.clone()),
                ("sglang, lpm, bold", SglangSpec { schedule_conservativeness: 0.05, ..prefixes }),
                ("sglang, lof", longest),
                ("sglang", plain),
                ("sglang, depth 1", serial),
                ("sglang, small chunks, few places", small),
                ("sglang, bold", bold.clone()),
                ("sglang, bold, depth 2", SglangSpec { enable_overlap_schedule: true, ..bold }),
                ("sglang, mixed", mixed.clone()),
                ("sglang, mixed, depth 2", SglangSpec { enable_overlap_schedule: true, ..mixed }),
                ("sglang, whole prompts", whole),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::Sglang(spec))).into()
        }
        SchedulerSpec::Trtllm(_) => {
            let plain = TrtllmSpec::default();
            let full = TrtllmSpec { capacity_scheduler_policy: Capacity::MaxUtilization, ..plain.clone() };
            let chunks = TrtllmSpec { max_num_tokens: 60, enable_chunked_context: true, ..full.clone() };
            let few =
                TrtllmSpec { max_num_tokens: 60, enable_chunked_context: true, max_batch_size: 5, ..plain.clone() };
            let all = [
                ("trtllm, no evict", plain),
                ("trtllm, max utilization", full),
                ("trtllm, max utilization, chunks", chunks),
                ("trtllm, no evict, chunks, few places", few),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::Trtllm(spec))).into()
        }
        SchedulerSpec::Sarathi(_) => {
            let plain = SarathiSpec::default();
            let small = SarathiSpec { chunk_size: 24, watermark: 0.0, ..plain.clone() };
            let few = SarathiSpec { chunk_size: 64, max_num_seqs: 5, victim: Victim::LeastComputed, ..plain.clone() };
            let last = SarathiSpec { victim: Victim::LastAdmitted, watermark: 0.0, ..plain.clone() };
            let all =
                [("sarathi", plain), ("sarathi, 24", small), ("sarathi, few places", few), ("sarathi, lifo", last)];
            all.map(|(name, spec)| (name, SchedulerSpec::Sarathi(spec))).into()
        }
        SchedulerSpec::Orca(_) => {
            let all = [("orca", 128), ("orca, 3", 3)];
            all.map(|(name, max_batch_size)| (name, SchedulerSpec::Orca(OrcaSpec { max_batch_size }))).into()
        }
        SchedulerSpec::SemiPd(_) => {
            let plain = SemiPdSpec::default();
            let apart = Shares { prefill: 60, decode: 40 };
            let apart = SemiPdSpec { partition: PartitionSpec::Static(apart), ..plain.clone() };
            let eager = ControllerSpec {
                ttft: Duration(Span(3 * MS)),
                tpot: Duration(Span(MS)),
                window: 3,
                preparation: Duration(Span(20 * MS)),
                ..ControllerSpec::default()
            };
            let paper = SemiPdSpec { partition: PartitionSpec::Paper(eager.clone()), ..plain.clone() };
            let small = SemiPdSpec { max_prefill_tokens: 40, max_num_seqs: 4, watermark: 0.0, ..paper.clone() };
            let released = SemiPdSpec { partition: PartitionSpec::Released(eager), watermark: 0.0, ..plain.clone() };
            let whole = SemiPdSpec { enable_chunked_prefill: false, ..plain.clone() };
            let all = [
                ("semi-pd", plain),
                ("semi-pd, apart", apart),
                ("semi-pd, paper", paper),
                ("semi-pd, paper, chunks, few places", small),
                ("semi-pd, released", released),
                ("semi-pd, whole prompts", whole),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::SemiPd(spec))).into()
        }
        SchedulerSpec::Static(_) => {
            let all = [("static, 1", 1), ("static, 4", 4), ("static, 64", 64)];
            all.map(|(name, batch_size)| (name, SchedulerSpec::Static(StaticSpec { batch_size }))).into()
        }
        SchedulerSpec::PastFuture(_) => {
            let short = HistorySpec { window: 10, initial: 40 };
            let plain = PastFutureSpec { lengths: LengthSpec::History(short), ..PastFutureSpec::default() };
            let quick = PastFutureSpec { router_max_wait_tokens: 2, max_admissions: Some(1), ..plain.clone() };
            let bold = PastFutureSpec { reserved: 0.0, maximum_lists: 1, running_max_req_size: 6, ..plain.clone() };
            let with = |lengths| PastFutureSpec { lengths, reserved: 0.0, ..plain.clone() };
            let all = [
                ("past-future", PastFutureSpec::default()),
                ("past-future, one at a time", quick),
                ("past-future, bold, few places", bold),
                (
                    "past-future, quantile",
                    with(LengthSpec::Quantile(QuantileSpec { quantile: 0.5, window: 9, initial: 40 })),
                ),
                ("past-future, noisy oracle", with(LengthSpec::NoisyOracle(NoisyOracleSpec { sigma: 1.0 }))),
                ("past-future, oracle", with(LengthSpec::Oracle)),
                ("past-future, limits", with(LengthSpec::Max)),
                ("past-future, short history", plain),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::PastFuture(spec))).into()
        }
        SchedulerSpec::Aggressive(_) => {
            let plain = AggressiveSpec::default();
            let slow = AggressiveSpec { used_max: 1.0, filled_max: 0.99, router_max_wait_tokens: 10, ..plain.clone() };
            let few = AggressiveSpec { running_max_req_size: 5, max_admissions: Some(1), ..plain.clone() };
            let all = [("aggressive", plain), ("aggressive, 99 %, every 10", slow), ("aggressive, few places", few)];
            all.map(|(name, spec)| (name, SchedulerSpec::Aggressive(spec))).into()
        }
        SchedulerSpec::Conservative(_) => {
            let plain = ConservativeSpec::default();
            let over = ConservativeSpec { overcommit: 1.6, ..plain.clone() };
            let fixed = ConservativeSpec { max_new_tokens: Some(50), router_max_wait_tokens: 10, ..plain.clone() };
            let all = [("conservative", plain), ("conservative, overcommitted", over), ("conservative, 50", fixed)];
            all.map(|(name, spec)| (name, SchedulerSpec::Conservative(spec))).into()
        }
        SchedulerSpec::LightllmMain(_) => {
            let plain = LightllmMainSpec::default();
            let bold = LightllmMainSpec { router_token_ratio: 0.7, router_max_new_token_len: 30, ..plain.clone() };
            let fair = LightllmMainSpec { fair: Some(FairSpec::default()), ..plain.clone() };
            let lcf = FairSpec { lift: false, foreseen: true, fair_weights: vec![2.0, 1.0], ..FairSpec::default() };
            let lcf = LightllmMainSpec { fair: Some(lcf), router_max_wait_tokens: 10, ..plain.clone() };
            let all = [
                ("lightllm-main", plain),
                ("lightllm-main, short until busy", bold),
                ("lightllm-main, fair", fair),
                ("lightllm-main, least counter first, outputs foreseen", lcf),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::LightllmMain(spec))).into()
        }
        SchedulerSpec::Edf(_) => {
            let plain = EdfSpec::default();
            let tight = EdfSpec { ttft: Duration(Span(40 * MS)), ..plain.clone() };
            let few = BatchSpec { max_num_seqs: 5, max_num_batched_tokens: 64, watermark: 0.0 };
            let strict = EdfSpec { on_late: OnLate::Reject, batch: few, ..tight.clone() };
            let kept = EdfSpec {
                on_late: OnLate::Keep,
                class_ttft: vec![Duration(Span(300 * MS)), Duration(Span(MS))],
                ..plain.clone()
            };
            let all = [
                ("edf", plain),
                ("edf, tight", tight),
                ("edf, late rejected, few places", strict),
                ("edf, kept", kept),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::Edf(spec))).into()
        }
        SchedulerSpec::Vtc(_) => {
            let plain = VtcSpec::default();
            let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 32, watermark: 0.0 };
            let weighted = VtcSpec { fair_weights: vec![1.0, 3.7], batch: few, ..plain.clone() };
            let roomy = BatchSpec { watermark: 0.0, ..BatchSpec::default() };
            let dear = VtcSpec { input_price: 3, output_price: 1, batch: roomy, ..plain.clone() };
            let all = [("vtc", plain), ("vtc, weighted, few places", weighted), ("vtc, dear prompts", dear)];
            all.map(|(name, spec)| (name, SchedulerSpec::Vtc(spec))).into()
        }
        SchedulerSpec::Sjf(_) => {
            let plain = SjfSpec::default();
            let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 48, watermark: 0.0 };
            let noisy = LengthSpec::NoisyOracle(NoisyOracleSpec::default());
            let guessed = SjfSpec { lengths: noisy, batch: few, ageing: 250.0 };
            let learning = SjfSpec { lengths: LengthSpec::History(HistorySpec::default()), ..plain.clone() };
            let told = SjfSpec { lengths: LengthSpec::Oracle, ..plain.clone() };
            let all = [
                ("sjf, limits", plain),
                ("sjf, noisy oracle, ageing, few places", guessed),
                ("sjf, history", learning),
                ("sjf, oracle", told),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::Sjf(spec))).into()
        }
        SchedulerSpec::Ltr(_) => {
            let plain = LtrSpec { lengths: LengthSpec::Oracle, ..LtrSpec::default() };
            let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 48, watermark: 0.0 };
            let guarded = LtrSpec { starv: 9, period: 3, batch: few, ..plain.clone() };
            let dropped = LtrSpec { preemption_mode: PreemptionMode::Recompute, starv: 40, ..plain.clone() };
            let noisy = LengthSpec::NoisyOracle(NoisyOracleSpec::default());
            let roomy = BatchSpec { watermark: 0.0, ..BatchSpec::default() };
            let cramped =
                LtrSpec { swap_space: Bytes(20), lengths: noisy, starv: 0, batch: roomy, ..LtrSpec::default() };
            let all = [
                ("ltr", plain),
                ("ltr, few places, starvation", guarded),
                ("ltr, recompute", dropped),
                ("ltr, swap of 20 blocks", cramped),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::Ltr(spec))).into()
        }
        SchedulerSpec::Fastserve(_) => {
            let plain = FastserveSpec::default();
            let few = BatchSpec { max_num_seqs: 4, max_num_batched_tokens: 48, watermark: 0.0 };
            let starved = Duration(Span(200 * MS));
            let guarded = FastserveSpec { starvation_threshold: starved, batch: few, ..plain.clone() };
            let roomy = BatchSpec { watermark: 0.0, ..BatchSpec::default() };
            let naive = FastserveSpec { skip_join: false, quantum_ratio: 4, batch: roomy, ..plain.clone() };
            let dropped = FastserveSpec { preemption_mode: PreemptionMode::Recompute, ..naive.clone() };
            let all = [
                ("fastserve", plain),
                ("fastserve, few places, starvation", guarded),
                ("fastserve, naive", naive),
                ("fastserve, recompute", dropped),
            ];
            all.map(|(name, spec)| (name, SchedulerSpec::Fastserve(spec))).into()
        }
    }
}

pub fn every_variant() -> Vec<(&'static str, SchedulerSpec)> {
    let variants = [
        SchedulerSpec::Vllm(VllmSpec::default()),
        SchedulerSpec::VllmV0(VllmV0Spec::default()),
        SchedulerSpec::Sglang(SglangSpec::default()),
        SchedulerSpec::Trtllm(TrtllmSpec::default()),
        SchedulerSpec::Sarathi(SarathiSpec::default()),
        SchedulerSpec::Orca(OrcaSpec::default()),
        SchedulerSpec::SemiPd(SemiPdSpec::default()),
        SchedulerSpec::Static(StaticSpec::default()),
        SchedulerSpec::PastFuture(PastFutureSpec::default()),
        SchedulerSpec::Aggressive(AggressiveSpec::default()),
        SchedulerSpec::Conservative(ConservativeSpec::default()),
        SchedulerSpec::LightllmMain(LightllmMainSpec::default()),
        SchedulerSpec::Edf(EdfSpec::default()),
        SchedulerSpec::Vtc(VtcSpec::default()),
        SchedulerSpec::Sjf(SjfSpec::default()),
        SchedulerSpec::Ltr(LtrSpec::default()),
        SchedulerSpec::Fastserve(FastserveSpec::default()),
    ];
    variants.iter().flat_map(settings).collect()
}

#[test]
fn every_scheduler_conforms() {
    for (name, spec) in every_variant() {
        let mut effort = Effort::default();
        let (mut preempted, mut swapped) = (0, 0);
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
            swapped += jumps.result.summary.tokens.swapped;
        }
        let (steps, plans) = (effort.steps, effort.plans);
        eprintln!(
            "conformance: {WORLDS} worlds, {steps} steps, {plans} plans, {preempted} preemptions, {swapped} tokens swapped: {name}"
        );
        assert_eq!(swapped > 0, spec.swap_space().is_some(), "{name} swaps if it says so");
        assert!(steps > plans, "{name} never jumps");
    }
}

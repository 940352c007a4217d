//! Retention on the emulated GPU: survivors and logits beside the CPU engine's, and what must not change.

use overbook_engine::config::{Config, Family};
use overbook_engine::cuda::check::retained::{check, specifications};
use overbook_engine::cuda::check::whole::Script;
use overbook_engine::cuda::{CudaExecutor, Model, Retained};
use overbook_engine::device::{CudaDevice, Device as _};
use overbook_engine::executor::{Bans, Batch, Begin, Executor as _, Lanes, Sampling, Sequence, Shrink, TableChange};
use overbook_engine::retention::{Extras, Retention};
use overbook_engine::weights::Loud;
use overbook_sim::kv::retention::policies::{ExpectedAttention, RKv, SnapKv, StreamingLlm};
use overbook_sim::kv::retention::{RetentionPolicy, RetentionSpec};

use crate::emulator::emulated;
use crate::mix;

const SOURCE: Loud = Loud { seed: 3, factor: 8.0 };

fn config() -> Config {
    let tiny = Config::preset("tiny").expect("a preset");
    Config { family: Family::Qwen3, layers: 2, hidden: 64, intermediate: 96, heads: 4, kv_heads: 2, vocab: 256, ..tiny }
}

#[test]
fn survivors_are_the_cpu_engines_at_every_step() {
    emulated("retained::survivors_are_the_cpu_engines_at_every_step", &[], || {
        let model = Model::load(0, config(), &SOURCE).expect("a model");
        let script = Script { prompts: [5, 33, 17, 40], later: 28, decodes: 6 };
        for spec in specifications() {
            let checks = check("small", &model, &SOURCE, &spec, &script).expect("both run");
            for check in &checks {
                println!("{check:?}");
                assert!(check.passed(), "{check:?}");
            }
            let cuts = &checks[1];
            assert!(cuts.tokens >= 60 && cuts.ties * 20 <= cuts.tokens, "{cuts:?}");
        }
    });
}

fn streaming(model: &Model, budget: u32) -> std::sync::Arc<Retained> {
    let spec = RetentionSpec::strict(RetentionPolicy::StreamingLlm(StreamingLlm { sinks: 4 }), budget);
    let retention = Retention::new(&spec, model.config(), &Extras::default()).expect("a retention");
    Retained::new(model, retention, 0).expect("on the GPU")
}

#[test]
fn policies_that_the_gpu_lacks_are_refused_by_name() {
    emulated("retained::policies_that_the_gpu_lacks_are_refused_by_name", &[], || {
        let model = Model::load(0, config(), &SOURCE).expect("a model");
        let mut device = CudaDevice::of(model.clone()).expect("a device");
        let mut refused =
            |policy| device.retain(&RetentionSpec::strict(policy, 64), 0).map_err(|error| error.to_string());
        let earlier = "it looks at queries of earlier steps, which the GPU does not keep; use `--on cpu`";
        let snap = refused(RetentionPolicy::SnapKv(SnapKv::default())).unwrap_err();
        assert_eq!(snap, format!("the CUDA engine has no `snap-kv`: {earlier}"));
        let r_kv = refused(RetentionPolicy::RKv(RKv::default())).unwrap_err();
        assert_eq!(r_kv, format!("the CUDA engine has no `r-kv`: {earlier}"));
        let expected = refused(RetentionPolicy::ExpectedAttention(ExpectedAttention::default())).unwrap_err();
        assert!(expected.contains("`expected-attention`: it needs mean and covariance"), "{expected}");
        assert!(refused(RetentionPolicy::Oracle).unwrap_err().contains("`oracle`"));
        assert_eq!(refused(RetentionPolicy::Full), Ok(()));
        // Everything else is there.
        for policy in RetentionPolicy::all() {
            let lacks = ["snap-kv", "r-kv", "expected-attention", "oracle", "full"].contains(&policy.name());
            assert_eq!(Retained::can(&policy).is_err(), lacks, "{}", policy.name());
        }
        let mut capacity = mix::capacity(config().vocab, 16);
        capacity.lanes = Lanes::Two { prefill: 50, decode: 50 };
        let two = CudaExecutor::retaining(model.clone(), capacity, Some(streaming(&model, 8)), false, &mut |_| true);
        let told = two.map(|_| ()).unwrap_err().to_string();
        assert_eq!(told, "`streaming-llm` needs a scheduler with one lane: tokens go between steps of one queue");
    });
}

#[test]
fn steps_that_cannot_be_are_refused() {
    emulated("retained::steps_that_cannot_be_are_refused", &[], || {
        let model = Model::load(0, config(), &SOURCE).expect("a model");
        let capacity = mix::capacity(config().vocab, 16);
        let told = |retained: Option<&std::sync::Arc<Retained>>, batch: Batch| {
            let retained = retained.cloned();
            let executor = CudaExecutor::retaining(model.clone(), capacity, retained, false, &mut |_| true);
            let mut executor = executor.expect("an executor");
            let begin = Begin { seat: 0, prompt: vec![1; 10], sampling: Sampling::GREEDY, bans: Bans::default() };
            let tables = vec![TableChange { seat: 0, from: 0, blocks: vec![0, 1, 2, 3] }];
            let sequences = vec![Sequence { seat: 0, past: 0, tokens: 10, samples: true }];
            let first = Batch { begins: vec![begin], tables, sequences, ..Batch::default() };
            executor.submit(0, first).expect("submits");
            executor.wait(0).expect("computes");
            executor.submit(0, batch).unwrap_err().to_string()
        };
        let shrink = |seat, budget| Batch { shrinks: vec![Shrink { seat, budget }], ..Batch::default() };
        let gap =
            Batch { sequences: vec![Sequence { seat: 0, past: 12, tokens: 1, samples: true }], ..Batch::default() };
        let eight = streaming(&model, 8);
        let kept = Some(&eight);
        assert!(told(kept, gap).starts_with("sequence in seat 0 goes on at position 12, and has computed 10"));
        assert_eq!(told(kept, shrink(0, 4)), "a budget of 4 for `streaming-llm`, which needs 5 at least");
        let nothing = "the budget of seat 3 shrinks, and nothing of it is computed";
        assert_eq!(told(kept, shrink(3, 6)), nothing);
        assert_eq!(told(None, shrink(0, 6)), "the budget of seat 0 shrinks, and it keeps everything");
    });
}

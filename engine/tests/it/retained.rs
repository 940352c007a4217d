//! Retention on the emulated GPU: survivors and logits beside the CPU engine's, and what must not change.

use overbook_engine::config::{Config, Family};
use overbook_engine::cuda::Model;
use overbook_engine::cuda::check::retained::{check, specifications};
use overbook_engine::cuda::check::whole::Script;
use overbook_engine::weights::Loud;

use crate::emulator::emulated;

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
            assert!(cuts.tokens > 100 && cuts.ties * 20 <= cuts.tokens, "{cuts:?}");
        }
    });
}

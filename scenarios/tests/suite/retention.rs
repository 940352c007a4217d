//! Budgets of slots: what they need of a model, a scheduler and a table of measured answers.

use super::{LEAST, resolve, told};

/// What is wrong with a scenario; nothing, if it is right.
fn said(text: &str) -> String {
    resolve(text).err().map_or_else(String::new, |problems| told(&problems).join("\n"))
}

const KEPT: &str = "engine: { retention: { policy: { trim-kv: {} }, budget: 1024 } }\n";

#[test]
fn schedulers_and_models_that_do_not_keep_slots_are_refused_with_the_place() {
    let told = said(&format!("{LEAST}{KEPT}scheduler: sglang\n"));
    assert!(told.contains("`retention` cannot be combined with this scheduler"), "{told}");
    let latent = format!("{LEAST}{KEPT}").replace("llama-3.1-8b", "deepseek-v2-lite");
    let told = said(&latent);
    assert!(told.contains("DeepSeek-V2-Lite has one latent vector for all heads"), "{told}");
}

#[test]
fn a_quality_that_nobody_measured_is_refused_with_what_there_is() {
    let of = |quality: &str| said(&format!("{LEAST}{KEPT}slo: {{ quality: {quality} }}\n"));
    assert!(
        of("{ task: MMLU }").contains("no row has the task `MMLU`; known are `AIME24`"),
        "{}",
        of("{ task: MMLU }")
    );
    let told = of("{ task: GSM8K }");
    assert!(told.contains("no row has `GSM8K` with the model") && told.contains("`Qwen3-4B`"), "{told}");
    assert_eq!(of("{ task: GSM8K, model: Qwen3-4B, at_least: 0.99 }"), "");
    assert!(of("{ task: GSM8K, model: Qwen3-4B, at_least: 3 }").contains("is 3; a share"));
}

#[test]
fn a_table_of_ones_own_needs_a_source_for_every_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.csv");
    let head = "model,task,policy,evicts,budget,score,full,samples,kind,source\n";
    let of = |rows: &str| {
        std::fs::write(&path, format!("{head}{rows}")).expect("a file");
        let quality = format!("slo: {{ quality: {{ task: Recall, table: {} }} }}\n", path.display());
        said(&format!("{LEAST}{KEPT}{quality}"))
    };
    assert_eq!(of("llama-3.1-8b,Recall,trim-kv,throughout,1024,50,90,8,own-run,my notebook\n"), "");
    let told = of("llama-3.1-8b,Recall,trim-kv,throughout,1024,50,90,8,own-run,\n");
    assert!(told.contains("line 2 has no source"), "{told}");
    assert!(of("llama-3.1-8b,Recall,trim-kv,throughout,1024,50,90,8,hearsay,x\n").contains("of the kind `hearsay`"));
}

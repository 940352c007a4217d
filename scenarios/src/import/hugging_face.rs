//! Names of models on Hugging Face and in the catalog.

use overbook_sim::hardware::model::WeightDtype;

/// Catalog name and the repository that its shape was read from.
const REPOSITORIES: &[(&str, &str)] = &[
    ("codellama-34b", "codellama/CodeLlama-34b-Instruct-hf"),
    ("deepseek-v2-lite", "deepseek-ai/DeepSeek-V2-Lite"),
    ("deepseek-v3", "deepseek-ai/DeepSeek-V3"),
    ("gemma-3-12b", "google/gemma-3-12b-it"),
    ("gemma-3-27b", "google/gemma-3-27b-it"),
    ("gpt-oss-120b", "openai/gpt-oss-120b"),
    ("gpt-oss-20b", "openai/gpt-oss-20b"),
    ("llama-13b", "huggyllama/llama-13b"),
    ("llama-2-13b", "meta-llama/Llama-2-13b-hf"),
    ("llama-2-70b", "meta-llama/Llama-2-70b-hf"),
    ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
    ("llama-3-70b", "meta-llama/Meta-Llama-3-70B"),
    ("llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
    ("llama-3.1-405b", "meta-llama/Llama-3.1-405B"),
    ("llama-3.1-70b", "meta-llama/Llama-3.1-70B"),
    ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
    ("llama-3.2-1b", "meta-llama/Llama-3.2-1B"),
    ("llama-3.2-3b", "meta-llama/Llama-3.2-3B"),
    ("llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct"),
    ("llama-4-scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    ("llama-7b", "huggyllama/llama-7b"),
    ("minimax-m2.5", "MiniMaxAI/MiniMax-M2.5"),
    ("mistral-7b", "mistralai/Mistral-7B-v0.3"),
    ("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1"),
    ("nemotron-nano-12b-v2", "nvidia/NVIDIA-Nemotron-Nano-12B-v2"),
    ("nemotron-nano-9b-v2", "nvidia/NVIDIA-Nemotron-Nano-9B-v2"),
    ("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct"),
    ("qwen2.5-14b", "Qwen/Qwen2.5-14B-Instruct"),
    ("qwen2.5-32b", "Qwen/Qwen2.5-32B-Instruct"),
    ("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen3-0.6b", "Qwen/Qwen3-0.6B"),
    ("qwen3-1.7b", "Qwen/Qwen3-1.7B"),
    ("qwen3-14b", "Qwen/Qwen3-14B"),
    ("qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B"),
    ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B"),
    ("qwen3-32b", "Qwen/Qwen3-32B"),
    ("qwen3-4b", "Qwen/Qwen3-4B"),
    ("qwen3-8b", "Qwen/Qwen3-8B"),
    ("qwen3-coder-30b-a3b", "Qwen/Qwen3-Coder-30B-A3B-Instruct"),
    ("qwen3-coder-480b-a35b", "Qwen/Qwen3-Coder-480B-A35B-Instruct"),
    ("qwen3.5-397b-a17b", "Qwen/Qwen3.5-397B-A17B"),
    ("qwq-32b", "Qwen/QwQ-32B"),
];

/// Models of another name with the shape, vocabulary and context of one in the catalog.
const ALIASES: &[(&str, &str)] = &[
    ("deepseek-r1", "deepseek-v3"),
    ("deepseek-v3.1", "deepseek-v3"),
    ("deepseek-r1-distill-llama-70b", "llama-3.3-70b"),
    ("deepseek-r1-distill-llama-8b", "llama-3.1-8b"),
    ("qwq-32b-preview", "qwen2.5-32b"),
];

/// Endings that do not change the shape, and the number format that some of them state.
const ENDINGS: &[(&str, Option<WeightDtype>)] = &[
    ("-instruct", None),
    ("-chat", None),
    ("-base", None),
    ("-hf", None),
    ("-thinking", None),
    ("-2507", None),
    ("-0324", None),
    ("-0528", None),
    ("-bf16", None),
    ("-fp8", Some(WeightDtype::Fp8)),
    ("-fp8-dynamic", Some(WeightDtype::Fp8)),
    ("-awq", Some(WeightDtype::Int4)),
    ("-awq-int4", Some(WeightDtype::Int4)),
    ("-gptq-int4", Some(WeightDtype::Int4)),
    ("-quantized.w4a16", Some(WeightDtype::Int4)),
];

/// The Hugging Face repository of a model of the catalog.
pub fn repository(catalog: &str) -> Option<&'static str> {
    REPOSITORIES.iter().find(|(name, _)| *name == catalog).map(|(_, repository)| *repository)
}

/// The catalog's name for a model on Hugging Face, and the number format of its weights where the name or the usual
/// checkpoint decides it. Instruction-tuned and quantised variants have the shape of their base.
pub fn catalog_name(model: &str) -> Option<(&'static str, Option<WeightDtype>)> {
    let mut name = plain(model);
    let mut weights = None;
    while let Some((rest, stated)) =
        ENDINGS.iter().find_map(|(ending, stated)| Some((name.strip_suffix(ending)?.to_owned(), *stated)))
    {
        (name, weights) = (rest, weights.or(stated));
    }
    // "Mistral-7B-Instruct-v0.3": the version stands behind the variant.
    let name = name.replace("-instruct-v", "-v");
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name.as_str(), |(_, catalog)| *catalog);
    let same = |repository: &str| {
        let known = plain(repository);
        known == name || ["-hf", "-instruct"].iter().any(|ending| known.strip_suffix(ending) == Some(name))
    };
    let (catalog, _) = REPOSITORIES.iter().find(|(catalog, repository)| *catalog == name || same(repository))?;
    Some((*catalog, weights.or_else(|| published(catalog))))
}

/// The number format of checkpoints that are published in one only: gpt-oss in MXFP4, DeepSeek-V3 and MiniMax-M2.5 in fp8.
pub(crate) fn published(catalog: &str) -> Option<WeightDtype> {
    match catalog {
        "gpt-oss-20b" | "gpt-oss-120b" => Some(WeightDtype::Mxfp4),
        "deepseek-v3" | "minimax-m2.5" => Some(WeightDtype::Fp8),
        _ => None,
    }
}

/// The name behind the owner, in lower case, without `Meta-` in front.
fn plain(model: &str) -> String {
    let name = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model).to_lowercase();
    name.strip_prefix("meta-").map_or(name.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    #[test]
    fn every_model_has_the_repository_that_its_origin_names() {
        let catalog = Catalog::embedded();
        // The engine's own presets are nowhere else.
        let names = catalog.model_names().filter(|name| !["small", "tiny"].contains(name));
        for name in names.clone() {
            let repository = repository(name).expect(name);
            let source = catalog.model(name).expect(name).origin.source;
            assert!(source.starts_with(&format!("config.json of {repository} on ")), "{name}: {source}");
            assert_eq!(catalog_name(repository).expect(name).0, name);
            assert_eq!(catalog_name(name).expect(name).0, name);
        }
        assert_eq!(REPOSITORIES.len(), names.count());
    }

    #[test]
    fn variants_have_the_shape_of_their_base() {
        for (model, name, weights) in [
            ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b", None),
            ("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8-dynamic", "llama-3.1-70b", Some(WeightDtype::Fp8)),
            ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b", None),
            ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b", None),
            ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b", None),
            ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b", None),
            ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b", Some(WeightDtype::Int4)),
            ("deepseek-ai/DeepSeek-R1", "deepseek-v3", Some(WeightDtype::Fp8)),
            ("deepseek-ai/DeepSeek-R1-0528", "deepseek-v3", Some(WeightDtype::Fp8)),
            ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3.3-70b", None),
            ("Qwen/QwQ-32B", "qwq-32b", None),
            ("Qwen/QwQ-32B-AWQ", "qwq-32b", Some(WeightDtype::Int4)),
            // The preview has the base's context.
            ("Qwen/QwQ-32B-Preview", "qwen2.5-32b", None),
            ("openai/gpt-oss-20b", "gpt-oss-20b", Some(WeightDtype::Mxfp4)),
        ] {
            assert_eq!(catalog_name(model), Some((name, weights)), "{model}");
        }
        // Another vocabulary and a sliding window: not the same shape.
        assert_eq!(catalog_name("mistralai/Mistral-7B-v0.1"), None);
        assert_eq!(catalog_name("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"), None);
        assert_eq!(catalog_name("acme/unknown"), None);
    }
}

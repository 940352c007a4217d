//! What the words of `runs.csv` mean: columns, GPUs, versions, numbers inside descriptions.

/// The column of a metric of [`overbook_sim::results::summary::Summary::metric`], and what turns its unit into the metric's.
pub(super) fn column_of(metric: &str) -> Option<(String, f64)> {
    let same = |column: &str| Some((column.to_owned(), 1.0));
    match metric {
        "request_throughput" => same("req_per_s"),
        "output_throughput" => same("output_tok_per_s"),
        "total_token_throughput" => same("total_tok_per_s"),
        "makespan" => same("duration_s"),
        "running_mean" | "running_max" | "waiting_mean" | "waiting_max" | "kv_usage_mean" | "kv_usage_max"
        | "preemptions" | "prefix_hit_rate" => same(metric),
        _ => {
            let (latency, statistic) = metric.rsplit_once('_')?;
            let known = ["mean", "p50", "p90", "p95", "p99"].contains(&statistic);
            let latency = match latency {
                "ttft" | "tpot" | "itl" if known => latency,
                "e2el" if known => "e2e",
                _ => return None,
            };
            Some((format!("{latency}_{statistic}_ms"), 1e-3))
        }
    }
}

/// Beginnings of how GPUs are called, and their names in the catalog; the first that fits counts.
const GPUS: [(&str, &str); 14] = [
    ("rtx 4090", "rtx-4090"),
    ("rtx pro 6000 96gb", "rtx-pro-6000"),
    ("rtx pro 6000 max-q", "rtx-pro-6000-max-q"),
    ("a10g", "a10g"),
    ("a100 80gb", "a100-80"),
    ("a100 sxm 80gb", "a100-80"),
    ("a100-sxm4-80gb", "a100-80"),
    ("a100 40gb", "a100-40"),
    ("h100 64gb", "h100-64"),
    ("h100 80gb", "h100"),
    ("h200 141gb", "h200"),
    ("h200", "h200"),
    ("b200", "b200"),
    ("l40s", "l40s"),
];

/// The catalog's name of a GPU.
pub(super) fn gpu(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    if name == "h100" {
        return Some("h100");
    }
    GPUS.iter().find(|(known, _)| name.starts_with(known)).map(|&(_, catalog)| catalog)
}

/// A model's name without what was said about it: `huggyllama/llama-7b (dummy weights)`, `fine-tuned Qwen/…`,
/// `dummy-llama-13b`.
pub(super) fn model(name: &str) -> &str {
    let name = name.split(" (").next().unwrap_or(name).trim();
    let name = name.rsplit(' ').next().unwrap_or(name);
    name.strip_prefix("dummy-").unwrap_or(name)
}

/// The first two parts of a version such as `0.15.1`.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split_whitespace().next()?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The value of a `key value` pair in a list that `;` separates.
pub(super) fn setting<'a>(list: &'a str, key: &str) -> Option<&'a str> {
    list.split(';').find_map(|part| part.trim().strip_prefix(key)).map(str::trim)
}

/// The first whole number of at least 1 that stands alone in a text (`random dataset, exactly 512`).
pub(super) fn number(text: &str) -> Option<u32> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',' || c == ';' || c == '(');
    words.filter_map(|word| word.parse().ok()).find(|&number| number >= 1)
}

/// The number behind `mean` in a description (`mean 615.1 (histogram …)`).
pub(super) fn mean(text: &str) -> Option<f64> {
    let number = text.strip_prefix("mean ")?.split_whitespace().next()?.parse().ok()?;
    (number > 0.0_f64).then_some(number)
}

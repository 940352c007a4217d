//! A server's own view of its load: samples of its `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use overbook_sim::time::Time;
use tokio::sync::watch;

use super::pool::Pool;
use crate::driver::Clock;

/// Time between two scrapes.
const EVERY: Duration = Duration::from_millis(500);

/// One scrape; what a server does not state is zero. Counters are since the server's start, gauges are summed over its engines.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Scrape {
    /// When it was asked for.
    pub at: Time,
    /// Requests in batches.
    pub running: f64,
    /// Requests that wait.
    pub waiting: f64,
    /// Share of the KV cache in use, the fullest engine's.
    pub kv_usage: f64,
    /// Preemptions.
    pub preemptions: f64,
    /// Prompt tokens.
    pub prompt_tokens: f64,
    /// Output tokens.
    pub generation_tokens: f64,
    /// Steps of the engines that put something out: of a prompt of several steps the last one.
    pub steps: f64,
    /// Tokens of these steps; prompts count whole in the step that ends them.
    pub step_tokens: f64,
    /// Requests that have ended, and the time that they waited for their first step and from there to their first token [s].
    pub ended: f64,
    /// Time in the queue, all of them [s].
    pub queued_s: f64,
    /// Time from their first step to their first token, all of them [s].
    pub prefilled_s: f64,
    /// KV blocks of all engines that requests can have.
    pub blocks: f64,
    /// Tokens per block.
    pub block_tokens: f64,
    /// Engines behind the one address.
    pub engines: f64,
}

/// The value of a label.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    // Its name may be the end of another's: vLLM has `block_size` and `hash_block_size`.
    let starts = |at: usize| at == 0 || labels[..at].ends_with([',', ' ']);
    let (at, found) = labels.match_indices(&format!("{name}=\"")).find(|(at, _)| starts(*at))?;
    labels[at + found.len()..].split('"').next()
}

impl Scrape {
    /// Reads Prometheus' text format; `None` if it has none of vLLM's or SGLang's metrics.
    pub(super) fn read(text: &str, at: Time) -> Option<Scrape> {
        let mut scrape = Scrape { at, ..Scrape::default() };
        let mut any = false;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let (vllm, sglang) = (name.strip_prefix("vllm:"), name.strip_prefix("sglang:"));
            let Some(name) = vllm.or(sglang) else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            any = true;
            match name {
                "num_requests_running" | "num_running_reqs" => {
                    scrape.running += value;
                    scrape.engines += 1.0;
                }
                "num_requests_waiting" | "num_queue_reqs" => scrape.waiting += value,
                "kv_cache_usage_perc" | "gpu_cache_usage_perc" | "token_usage" => {
                    scrape.kv_usage = scrape.kv_usage.max(value);
                }
                "num_preemptions_total" => scrape.preemptions += value,
                "prompt_tokens_total" => scrape.prompt_tokens += value,
                "generation_tokens_total" => scrape.generation_tokens += value,
                "iteration_tokens_total_count" => scrape.steps += value,
                "iteration_tokens_total_sum" => scrape.step_tokens += value,
                "request_queue_time_seconds_sum" => scrape.queued_s += value,
                "request_prefill_time_seconds_sum" => scrape.prefilled_s += value,
                "request_prefill_time_seconds_count" => scrape.ended += value,
                "cache_config_info" => {
                    let number = |names: [&str; 2]| {
                        let told = names.into_iter().find_map(|name| label(labels, name)?.parse::<f64>().ok());
                        told.unwrap_or(0.0)
                    };
                    // vLLM's number includes its null block, which nobody gets.
                    let blocks = number(["num_gpu_blocks", "num_pages"]);
                    scrape.blocks += if vllm.is_some() { (blocks - 1.0).max(0.0) } else { blocks };
                    scrape.block_tokens = number(["block_size", "page_size"]);
                }
                _ => {}
            }
        }
        any.then_some(scrape)
    }
}

/// One scrape, if the server has any.
pub(super) async fn scrape(pool: &Pool, clock: Clock) -> Option<Scrape> {
    let at = clock.now();
    let (status, body) = pool.call(Method::GET, "/metrics", Bytes::new()).await.ok()?;
    let text = String::from_utf8_lossy(&body);
    status.is_success().then(|| Scrape::read(&text, at)).flatten()
}

/// Scrapes from time zero until it is stopped, and once more then.
pub(super) async fn watch(pool: Arc<Pool>, clock: Clock, mut stop: watch::Receiver<bool>) -> Vec<Scrape> {
    let mut scrapes = Vec::new();
    let mut ticks = tokio::time::interval_at(clock.instant(Time::ZERO).into(), EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let stopped = async { drop(stop.wait_for(|&stop| stop).await) };
        let goes_on = tokio::select! {
            _ = ticks.tick() => true,
            () = stopped => false,
        };
        if !goes_on {
            break;
        }
        scrapes.extend(scrape(&pool, clock).await);
    }
    scrapes.extend(scrape(&pool, clock).await);
    scrapes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vllms_text_is_read() {
        let text = "# HELP vllm:num_requests_running x\nvllm:num_requests_running{engine=\"0\"} 3.0\n\
                    vllm:num_requests_running{engine=\"1\"} 2.0\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n\
                    vllm:iteration_tokens_total_bucket{le=\"1.0\"} 9\nvllm:iteration_tokens_total_count{} 12\n\
                    vllm:iteration_tokens_total_sum{} 1.2e3\nother 5\n\
                    vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"100\"} 1.0\n\
                    vllm:request_queue_time_seconds_sum{} 0.5\nvllm:request_prefill_time_seconds_sum{} 2.5\n\
                    vllm:request_prefill_time_seconds_count{} 10\n";
        let scrape = Scrape::read(text, Time(7)).expect("metrics");
        let want = Scrape {
            at: Time(7),
            running: 5.0,
            kv_usage: 0.25,
            steps: 12.0,
            step_tokens: 1200.0,
            ended: 10.0,
            queued_s: 0.5,
            prefilled_s: 2.5,
            blocks: 99.0,
            block_tokens: 16.0,
            engines: 2.0,
            ..Scrape::default()
        };
        assert_eq!(scrape, want);
        assert_eq!(Scrape::read("go_goroutines 5\n", Time(0)), None);
    }

    /// Recorded from `vllm serve` 0.32 before and after a prompt of 5 with 6 tokens, and one of 1,900 with one, in steps of 512.
    #[test]
    fn a_real_vllm_counts_steps_with_output_alone() {
        let read = |text| Scrape::read(text, Time(0)).expect("metrics");
        let before = read(include_str!("../../tests/data/vllm-0.32/metrics-before.txt"));
        let after = read(include_str!("../../tests/data/vllm-0.32/metrics-after.txt"));
        let more = |of: fn(&Scrape) -> f64| of(&after) - of(&before);
        // Six steps of the first, and of the four of the second the last: with 5 + 6 and 1,900 + 1 tokens.
        assert_eq!((more(|s| s.steps), more(|s| s.step_tokens)), (7.0, 11.0 + 1901.0));
        assert_eq!((more(|s| s.ended), more(|s| s.prompt_tokens), more(|s| s.generation_tokens)), (2.0, 1905.0, 7.0));
        assert!((more(|s| s.queued_s) - 0.000_106).abs() < 1e-6 && (more(|s| s.prefilled_s) - 1.4661).abs() < 1e-4);
        // 2,048 blocks, of which the null block is nobody's.
        assert_eq!((after.blocks, after.block_tokens, after.engines), (2047.0, 32.0, 1.0));
    }

    #[test]
    fn sglangs_text_is_read() {
        let text = "sglang:num_running_reqs{model_name=\"m\"} 4.0\nsglang:num_queue_reqs{} 1\nsglang:token_usage{} 0.5\n\
                    sglang:cache_config_info{page_size=\"1\",num_pages=\"4096\"} 1.0\n";
        let scrape = Scrape::read(text, Time(7)).expect("metrics");
        let want = Scrape {
            at: Time(7),
            running: 4.0,
            waiting: 1.0,
            kv_usage: 0.5,
            blocks: 4096.0,
            block_tokens: 1.0,
            engines: 1.0,
            ..Scrape::default()
        };
        assert_eq!(scrape, want);
    }
}

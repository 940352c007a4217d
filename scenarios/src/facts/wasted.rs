//! Why requests came to nothing, or work was done twice, in words.

use overbook_sim::results::rows::Outcome;
use overbook_sim::results::summary::Summary;

use crate::Point;

/// A larger share of tokens computed again is worth a word.
const RECOMPUTED: f64 = 0.2;

/// What a reader of rejections and of recomputed tokens should know.
pub fn wasted(point: &Point, summary: &Summary) -> Vec<String> {
    [rejected(point, summary), recomputed(point, summary)].into_iter().flatten().collect()
}

/// Requests that are longer than a sequence may be are rejected as they come; where nothing else rejects, it was that.
fn rejected(point: &Point, summary: &Summary) -> Option<String> {
    let count = summary.count(Outcome::Rejected);
    if count == 0 || point.scenario.fleet.controllers.early_rejection.is_some() {
        return None;
    }
    let longest = point.limits().ok()?.0.max_model_len;
    let why = match (point.scenario.engine.max_model_len, point.scenario.engine.kv_tokens) {
        (None, Some(pool)) if u64::from(longest) <= pool && longest < point.model.context => {
            format!("engine.kv_tokens holds no more; the model's context is {}", point.model.context)
        }
        (None, _) => "the model's context".to_owned(),
        (Some(_), _) => "engine.max_model_len".to_owned(),
    };
    Some(format!(
        "{count} requests were rejected: prompt and a token of output are more than the {longest} tokens of a sequence ({why})"
    ))
}

fn recomputed(point: &Point, summary: &Summary) -> Option<String> {
    let tax = summary.metric("recompute_tax").filter(|tax| *tax > RECOMPUTED)?;
    Some(format!(
        "{:.0} % of all tokens were computed again after preemptions: {} lets requests drive each other out of the KV pool",
        tax * 100.0,
        point.scenario.scheduler.name()
    ))
}

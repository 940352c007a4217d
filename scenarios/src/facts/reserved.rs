//! Memory that a scheduler reserves for each request, and how many requests that leaves room for.

use overbook_sim::results::summary::Summary;

use crate::point::Point;
use crate::scenario::MaxNewTokens;
use crate::world::WorldError;

/// What each request has reserved on a replica, and for how many that is enough.
pub(super) struct Reserved {
    /// Tokens of each; of the output alone where prompts differ and their mean is not known.
    tokens: u64,
    /// What the tokens are, and the settings that they come from.
    what: String,
    /// Requests that the pool holds so.
    requests: u64,
    /// Requests that the scheduler itself would run at once.
    seats: u32,
}

impl Reserved {
    /// `None` where nothing is reserved, or what a request will truly use. Without the mean of the prompts, a bound.
    pub(super) fn of(kind: &Point, prompt: Option<f64>) -> Result<Option<Reserved>, WorldError> {
        let scheduler = &kind.scenario.scheduler;
        let needs = scheduler.needs();
        let Some(reserve) = needs.reserves else { return Ok(None) };
        let (limits, _) = kind.limits()?;
        let output = match (reserve.output, kind.scenario.workload.max_new_tokens) {
            (Some(output), _) => Some((output, format!("scheduler.{}.max_new_tokens", scheduler.name()))),
            (None, MaxNewTokens::Context) => None,
            (None, MaxNewTokens::True) => return Ok(None),
            (None, MaxNewTokens::Fixed(limit)) => Some((limit, "workload.max_new_tokens".to_owned())),
        };
        let (tokens, what) = match (output, prompt) {
            (None, _) => (
                u64::from(limits.max_model_len),
                "its prompt and output up to engine.max_model_len, as workload.max_new_tokens is context".to_owned(),
            ),
            (Some((output, from)), None) => (u64::from(output), format!("of output ({from}) and those of its prompt")),
            (Some((output, from)), Some(prompt)) => {
                let whole = u64::from(output) + prompt.round() as u64;
                (whole, format!("a mean prompt and {output} of output, {from}"))
            }
        };
        // The last output token is never computed.
        let blocks = (tokens - 1).div_ceil(u64::from(limits.block_tokens)).max(1);
        let promised = reserve.overcommit * limits.blocks as f64;
        Ok(Some(Reserved { tokens, what, requests: (promised / blocks as f64) as u64, seats: needs.max_seqs }))
    }

    /// Whether it is the pool that says how many requests run at once.
    fn binds(&self) -> bool {
        self.requests < u64::from(self.seats)
    }
}

/// The fact: what each request reserves.
pub(super) fn fact(kind: &Point) -> Result<String, WorldError> {
    let Some(Reserved { tokens, what, requests, seats }) = Reserved::of(kind, None)? else {
        return Ok("nothing".to_owned());
    };
    let all = requests.min(u64::from(seats));
    Ok(format!("{tokens} tokens ({what}): at most {all} requests at once on a replica"))
}

/// What to say of a run whose requests waited for memory that others had reserved: not the scheduler's own limit, but what each
/// reserves said how many ran at once. `None` where that was not so.
pub fn reservation(point: &Point, summary: &Summary) -> Option<String> {
    let started = summary.queue_time.count();
    if summary.load.waiting_max == 0 || started == 0 {
        return None;
    }
    let prompt = summary.tokens.prompt as f64 / started as f64;
    let bound = |kind: &Point| Reserved::of(kind, Some(prompt)).ok().flatten().filter(Reserved::binds);
    let bounds = point.kinds().iter().filter_map(bound);
    let Reserved { tokens, what, requests, seats } =
        bounds.filter(|bound| u64::from(summary.load.running_max) >= bound.requests).min_by_key(|one| one.requests)?;
    let scheduler = point.scenario.scheduler.name();
    Some(format!(
        "{scheduler} reserves {tokens} tokens a request ({what}), so a replica's KV pool holds {requests} requests at once, not the \
         {seats} that the scheduler would run; the others wait. A smaller workload.max_new_tokens or engine.max_model_len reserves less"
    ))
}

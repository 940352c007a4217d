//! Ranges of the schedulers of LightLLM's router, and of length models.

use overbook_sim::lengths::LengthSpec;
use overbook_sim::schedulers::lightllm::Intake;
use overbook_sim::schedulers::{AggressiveSpec, ConservativeSpec, LightllmMainSpec, PastFutureSpec};

use super::{Check, Problem};
use crate::yaml::join;

impl Check<'_> {
    fn intake(&mut self, intake: Intake) {
        self.positive("running_max_req_size", intake.running_max_req_size);
        self.positive("router_max_wait_tokens", intake.router_max_wait_tokens);
        if let Some(tokens) = intake.batch_max_tokens {
            self.positive("batch_max_tokens", tokens);
        }
        if let Some(requests) = intake.max_admissions {
            self.positive("max_admissions", requests);
        }
    }

    pub(super) fn lengths(&mut self, key: &str, lengths: &LengthSpec) {
        let key = |name: &str| join(key, name);
        match lengths {
            LengthSpec::History(history) => self.window(&key("history.window"), history.window),
            LengthSpec::Quantile(quantile) => {
                self.window(&key("quantile.window"), quantile.window);
                self.share(&key("quantile.quantile"), quantile.quantile);
            }
            LengthSpec::NoisyOracle(noise) => {
                let sigma = noise.sigma;
                let message = format!("is {sigma}; it must be from 0 to 10");
                self.that((0.0..=10.0).contains(&sigma), &key("noisy-oracle.sigma"), message);
            }
            LengthSpec::Max | LengthSpec::Oracle => {}
        }
    }

    /// Half of it is filled at first, and may not be empty.
    fn window(&mut self, key: &str, requests: u32) {
        self.range(key, u64::from(requests), 2, 1_000_000);
    }
}

pub(super) fn past_future(spec: &PastFutureSpec, list: &mut Vec<Problem>) {
    let mut check = Check { prefix: "scheduler.past-future", list };
    check.intake(spec.intake());
    check.lengths("lengths", &spec.lengths);
    let reserved = spec.reserved;
    let message = format!("is {reserved}; it must be at least 0 and below 1");
    check.that((0.0..1.0).contains(&reserved), "reserved", message);
    check.range("maximum_lists", u64::from(spec.maximum_lists), 1, 1000);
}

pub(super) fn aggressive(spec: &AggressiveSpec, list: &mut Vec<Problem>) {
    let mut check = Check { prefix: "scheduler.aggressive", list };
    check.intake(spec.intake());
    check.share("used_max", spec.used_max);
    check.share("filled_max", spec.filled_max);
}

pub(super) fn conservative(spec: &ConservativeSpec, list: &mut Vec<Problem>) {
    let mut check = Check { prefix: "scheduler.conservative", list };
    check.intake(spec.intake());
    let ratio = spec.overcommit;
    let message = format!("is {ratio}; it must be at least 1");
    check.that(ratio >= 1.0 && ratio.is_finite(), "overcommit", message);
    if let Some(tokens) = spec.max_new_tokens {
        check.positive("max_new_tokens", tokens);
    }
}

pub(super) fn lightllm_main(spec: &LightllmMainSpec, list: &mut Vec<Problem>) {
    let mut check = Check { prefix: "scheduler.lightllm-main", list };
    check.intake(spec.intake());
    check.share("router_token_ratio", spec.router_token_ratio);
    check.positive("router_max_new_token_len", spec.router_max_new_token_len);
    if let Some(fair) = &spec.fair {
        check.shares("fair.", fair.input_price, fair.output_price, &fair.fair_weights);
    }
}

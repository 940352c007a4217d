//! A profile of a deployment that was probed from outside: fits, and what could not be identified.

use overbook_sim::calibrate::inferred::{client_range_us, client_time_us, without_client};
use overbook_sim::calibrate::steps::{StepErrors, StepSample, fit_steps};
use overbook_sim::calibrate::{ProfiledEngine, StepProfile};
use overbook_sim::cost::steps::StepForm;
use overbook_sim::cost::{HostCost, Jitter};
use overbook_sim::hardware::gpu::OriginKind;
use overbook_sim::hardware::model::WeightDtype;
use overbook_sim::time::Span;
use overbook_sim::units::Duration;

use super::Probed;
use crate::calibrate::profile::{hull, noise, rounded, short};
use crate::calibrate::{Anchor, Described};

/// What the probes of a deployment say of its steps.
#[derive(Clone, Debug)]
pub struct Inferred<'a> {
    probed: &'a Probed,
    /// The steps, without the time of the client.
    pub steps: Vec<StepSample>,
    /// Time between client and engine [µs].
    pub client_us: f64,
    /// What could not be identified, in words.
    pub unidentified: Vec<String>,
    form: StepForm,
    form_errors: Vec<StepErrors>,
}

impl Probed {
    /// Fits step costs and the client's time to what was seen.
    pub fn infer(&self) -> Inferred<'_> {
        // The server's own clock is better than a fit, which takes what it cannot explain for the client's.
        let client_us = self.away_us.map_or_else(|| client_time_us(&self.steps), |(middle, _)| middle.max(0.0));
        let steps = without_client(self.steps.clone(), client_us);
        let (form, form_errors) = fit_steps(&steps);
        let mut unidentified = self.unidentified.clone();
        let range = self.away_us.map(|(_, [low, high])| (low, high)).or_else(|| client_range_us(&self.steps, &form));
        if let Some((low, high)) = range.filter(|(low, _)| *low <= 0.0) {
            let (low, high) = (low / 1e3, high / 1e3);
            unidentified.push(format!(
                "whether there is client time at all: half of the single prompts lie {low:+.1} to {high:+.1} ms from what their steps take"
            ));
        }
        let lost = self.steps.len() - steps.len();
        if lost > 0 {
            unidentified
                .push(format!("{lost} prompts that took less than the client time that was found; they were left out"));
        }
        Inferred { probed: self, steps, client_us, unidentified, form, form_errors }
    }

    /// What a profile says of the engine; weights, and blocks where the server does not state them, are what the scenario says.
    pub fn engine(&self, weights: WeightDtype, block_tokens: u32) -> ProfiledEngine {
        let told = self.metrics.map(|(_, after)| after.block_tokens as u32).filter(|tokens| *tokens > 0);
        ProfiledEngine {
            name: self.found.version.clone().unwrap_or_else(|| "an engine that does not tell its version".to_owned()),
            executor: format!("{} behind HTTP", self.found.model),
            threads: None,
            weights: format!("{weights}, as the scenario says"),
            block_tokens: told.unwrap_or(block_tokens),
        }
    }
}

impl Inferred<'_> {
    /// The profile.
    pub fn profile(&self, described: Described) -> StepProfile {
        let Described { name, model, engine, hardware, measured, samples } = described;
        StepProfile {
            version: 1,
            name,
            kind: OriginKind::Inferred,
            model,
            engine,
            hardware,
            measured,
            samples,
            noise: noise(&self.steps, &self.probed.anchors, self.probed.pressure),
            anchors: self.probed.anchors.iter().map(Anchor::time).collect(),
            hull: hull(&self.steps),
            host: HostCost::ZERO,
            client_time: Some(Duration(Span(self.client_us.round() as u64 * 1000))),
            form: rounded(self.form.clone()),
            form_errors: self.form_errors.iter().cloned().map(short).collect(),
            table: None,
            table_errors: Vec::new(),
            jitter: Jitter::of(self.probed.ratios.clone()),
            power: None,
            unidentified: self.unidentified.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use overbook_sim::calibrate::inferred::SeenStep;

    use super::super::super::Found;
    use super::super::super::payload::Asking;
    use super::*;
    use crate::calibrate::profile::tests::{described, samples};

    /// Decodes as they are, prompts with so many microseconds of the client's on top.
    fn probed(client_us: f64) -> Probed {
        let seen = samples().into_iter().map(|mut sample| {
            let awaited = sample.kind == "prefill";
            sample.device_us += if awaited { client_us } else { 0.0 };
            SeenStep { sample, awaited }
        });
        Probed {
            found: Found { model: "tiny".into(), version: None, max_model_len: None, asking: Asking::Tokens },
            steps: seen.collect(),
            anchors: Vec::new(),
            ratios: Vec::new(),
            away_us: None,
            planned_ahead: None,
            probes: (3, 3),
            requests: 9,
            metrics: None,
            pressure: None,
            unidentified: vec!["the host".into()],
            warnings: Vec::new(),
        }
    }

    #[test]
    fn the_clients_time_is_told_from_the_steps() {
        let probed = probed(5000.0);
        let inferred = probed.infer();
        assert!((inferred.client_us - 5000.0).abs() < 100.0, "{}", inferred.client_us);
        assert_eq!(inferred.unidentified, ["the host"]);
        let profile = inferred.profile(described());
        assert_eq!(profile.kind, OriginKind::Inferred);
        let told = profile.client_time.unwrap().0.0;
        assert!(told.is_multiple_of(1000) && told.abs_diff(5_000_000) < 100_000, "whole microseconds, {told} ns");
        assert!((profile.form.step_us - 100.0).abs() < 5.0, "{:?}", profile.form);
    }

    #[test]
    fn the_servers_own_clock_comes_before_the_fit() {
        let told = Probed { away_us: Some((4_912.0, [4_900.0, 5_100.0])), ..probed(5000.0) };
        assert!((told.infer().client_us - 4_912.0).abs() < 1e-9);
        assert_eq!(told.infer().unidentified, ["the host"]);
        let unsure = Probed { away_us: Some((100.0, [-300.0, 500.0])), ..probed(5000.0) };
        assert!(unsure.infer().unidentified.iter().any(|text| text.contains("-0.3 to +0.5 ms")));
    }

    #[test]
    fn where_there_may_be_no_client_time_the_profile_says_so() {
        let unidentified = probed(0.0).infer().unidentified;
        assert!(unidentified.iter().any(|text| text.starts_with("whether there is client time")), "{unidentified:?}");
    }

    #[test]
    fn what_the_server_does_not_tell_is_the_scenarios() {
        let engine = probed(0.0).engine(WeightDtype::Bf16, 16);
        assert_eq!(engine.name, "an engine that does not tell its version");
        assert_eq!((engine.block_tokens, engine.threads), (16, None));
        assert_eq!(engine.weights, "bf16, as the scenario says");
    }
}

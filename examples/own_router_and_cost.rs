//! A router and a cost model of one's own: `cargo run --release --example own_router_and_cost`

#![allow(clippy::print_stdout, reason = "a program prints")]

use overbook::{
    Cost, CostModel, DecodeCost, DecodeParts, Error, Experiment, FleetView, Options, Outcome, Parts, RequestInfo,
    Router, StepCost, StepShape,
};

/// Long prompts to the last replica, short ones to the least loaded of the others: short requests never wait behind long ones.
#[derive(Debug)]
struct LongPromptsApart {
    long_tokens: u32,
}

impl Router for LongPromptsApart {
    fn route(&mut self, request: RequestInfo<'_>, fleet: FleetView<'_>) -> usize {
        let last = fleet.len() - 1;
        if request.prompt_tokens >= self.long_tokens {
            return last;
        }
        (0..last).min_by_key(|&at| fleet.replica(at).outstanding).unwrap_or(last)
    }
}

/// A straight line, as one may fit to the log of one's own engine. Decode steps of one batch size are affine in the context, so
/// that the simulator may jump over them.
struct Line {
    step_us: f64,
    token_us: f64,
    context_ns: f64,
}

impl CostModel for Line {
    fn step(&mut self, shape: &StepShape<'_>) -> StepCost {
        let past: u64 = shape.prefill.iter().map(|part| u64::from(part.past)).sum();
        let DecodeCost { base, per_context, host, .. } = self.decode(shape.tokens() as u32, 0);
        StepCost { device: Cost(base.0 + per_context.0 * (shape.decode_context + past)), host }
    }

    fn decode(&mut self, seqs: u32, _: u64) -> DecodeCost {
        DecodeCost {
            base: Cost::from_us(self.step_us + self.token_us * f64::from(seqs)),
            per_context: Cost::from_ns(self.context_ns),
            valid_below: u64::MAX,
            host: Cost::from_us(0.0),
        }
    }

    // What binds these steps was not measured. Only studies of clocks ask; this says that all of it follows them.
    fn parts(&mut self, shape: &StepShape<'_>) -> Parts {
        Parts::compute(self.step(shape).device)
    }

    fn decode_parts(&mut self, seqs: u32, context: u64) -> DecodeParts {
        DecodeParts::all(self.decode(seqs, context), Parts::compute)
    }
}

const MIXED: &str = "
version: 1
name: mixed
model: llama-3.1-8b
gpu: h100
workload:
  generate: { arrivals: { poisson: { rate: 30/s } }, lengths: burstgpt, requests: 5000 }
fleet: { replicas: 3, router: least-outstanding }
";

fn main() -> Result<(), Error> {
    let line = |_: &overbook::Point| -> Box<dyn CostModel> {
        Box::new(Line { step_us: 9000.0, token_us: 25.0, context_ns: 60.0 })
    };
    let named = Experiment::from_text("mixed", MIXED).with_cost("a line fitted to our log", line);
    let apart =
        named.clone().with_router("long prompts apart", |_seed| Box::new(LongPromptsApart { long_tokens: 1500 }));
    print("least-outstanding", &named.run(&Options::default())?);
    let outcome = apart.run(&Options::default())?;
    print("long prompts apart", &outcome);
    println!("trust: {}", outcome.trust.map_or_else(String::new, |trust| trust.to_string()));
    Ok(())
}

fn print(name: &str, outcome: &Outcome) {
    let ms = |metric: &str| outcome.metric(metric).unwrap_or(f64::NAN) * 1e3;
    println!(
        "{name:<19} TTFT p50 {:>6.1} ms, p99 {:>7.1} ms; TPOT p99 {:.1} ms",
        ms("ttft_p50"),
        ms("ttft_p99"),
        ms("tpot_p99")
    );
}

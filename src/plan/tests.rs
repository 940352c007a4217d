#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use overbook_scenarios::scenario::{PlanMode, PlanObjective};
use overbook_sim::counter;

use super::*;

/// Two shapes of GPU for chats at some rate.
const CHATS: &str = "
version: 1
name: chats
model: llama-3.1-8b
workload:
  generate: { arrivals: { poisson: { rate: 30/s } }, lengths: { fixed: { prompt: 1000, output: 120 } }, requests: 400 }
engine: { max_model_len: 4096 }
slo: { ttft_p99: 500ms, tpot_p99: 30ms }
plan: { gpus: [h100, l40s], prices: { h100: 2.5/gpu-h, l40s: 1/gpu-h }, tensor_parallel: [1, 2], gpus_most: 12, seeds: 2 }
";

fn planned(text: &str, jobs: usize) -> Result<PlanOutcome, Error> {
    let jobs = std::num::NonZeroUsize::new(jobs);
    Experiment::from_text("chats", text).plan(&Options { jobs, ..Options::default() }, "again", &|_| ())
}

/// Every size of every shape, tried: the least that a fleet costs which holds.
fn exhaustive(text: &str) -> Option<f64> {
    let (base, planned) = Experiment::from_text("chats", text).to_plan().unwrap();
    let shapes = space::shapes(&planned, &Said::by(base.source())).unwrap();
    let candidates: Vec<Candidate> =
        shapes.into_iter().map(|shape| Candidate::new(shape, &base, &planned.spec)).collect();
    let options = Options::default();
    let first = candidates.iter().find_map(|one| one.built.as_ref().ok()).unwrap().clone();
    let promises = Promises::of(&first);
    let requests = Requests::read(&first, &planned.spec, &promises, &options).unwrap().unwrap();
    let bench = Bench { promises: &promises, policies: base.policies(), options: &options, power_most: None };
    let hunt = Hunt { base: &base, candidates, bench, load: &requests.load, fails_at: None, interrupted: false };
    let mut least: Option<f64> = None;
    for (at, candidate) in hunt.candidates.iter().enumerate().filter(|(_, one)| one.built.is_ok()) {
        let most = candidate.gpus_most;
        let sizes: Vec<Size> = match candidate.shape.mode {
            PlanMode::Together => (1..=most).map(Size::Together).collect(),
            PlanMode::Apart => {
                (1..most).flat_map(|prefill| (1..most).map(move |decode| Size::Apart(prefill, decode))).collect()
            }
        };
        for size in sizes.into_iter().filter(|size| candidate.weight.gpus(*size) <= most) {
            // What it draws at least, where watts are to be spared, says enough of fleets that draw more.
            let at_least = candidate.cost(size);
            if least.is_none_or(|least| at_least < least) {
                let trial = hunt.attempt(at, size).unwrap();
                let watts = trial.watts().map(|watts| watts.peak);
                let within = planned.spec.power_most.is_none_or(|most| watts.is_some_and(|peak| peak <= most.0));
                let cost = if candidate.weight.objective == PlanObjective::Kw {
                    watts.map(|w| w / 1e3)
                } else {
                    Some(at_least)
                };
                if let Some(cost) =
                    cost.filter(|cost| within && trial.held() && least.is_none_or(|least| *cost < least))
                {
                    least = Some(cost);
                }
            }
        }
    }
    least
}

/// A small space that differs from the others in load, lengths, promises and prices.
fn small_space(number: u64) -> String {
    let pick = |purpose: u64, of: &[&str]| of[(counter::draw(number, purpose) % of.len() as u64) as usize].to_owned();
    let changes = [
        ("30/s", pick(0, &["9/s", "35/s", "80/s", "160/s", "320/s"])),
        ("prompt: 1000", pick(1, &["prompt: 200", "prompt: 900", "prompt: 2500"])),
        ("output: 120", pick(2, &["output: 40", "output: 120", "output: 300"])),
        ("ttft_p99: 500ms", pick(3, &["ttft_p99: 300ms", "ttft_p90: 1s", "ttft_mean: 400ms"])),
        (
            "tpot_p99: 30ms",
            pick(
                4,
                &[
                    "tpot_p99: 9ms",
                    "tpot_p99: 25ms",
                    "tpot_p90: 60ms",
                    "goodput: { ttft: 1s, tpot: 40ms, share: 0.95 }",
                    "e2el_p99: 4s",
                ],
            ),
        ),
        ("requests: 400", "requests: 150".to_owned()),
        ("h100: 2.5", pick(5, &["h100: 2.5", "h100: 1.1", "h100: 6"])),
        ("gpus_most: 12", "gpus_most: 6".to_owned()),
    ];
    changes.iter().fold(CHATS.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[test]
fn the_pruned_answer_is_that_of_exhaustive_search_on_twenty_small_spaces() {
    let mut answers = Vec::new();
    for number in 0..20 {
        let text = small_space(number);
        let found = planned(&text, 2).unwrap().plan;
        let cost = found.answer.as_ref().and_then(|fleet| fleet.usd_per_hour);
        assert_eq!(cost, exhaustive(&text), "space {number}: {text}\n{}", found.ledger_csv());
        answers.extend(cost);
    }
    answers.sort_by(f64::total_cmp);
    answers.dedup();
    assert!(answers.len() >= 5, "the spaces are no test: answers cost {answers:?}");
    // No number of replicas makes a step shorter.
    let impossible = CHATS.replace("tpot_p99: 30ms", "tpot_p99: 3ms").replace("gpus_most: 12", "gpus_most: 4");
    assert_eq!((planned(&impossible, 2).unwrap().plan.answer, exhaustive(&impossible)), (None, None));
}

#[test]
fn the_pruned_answer_is_that_of_exhaustive_search_where_the_sides_differ() {
    let mixed = |text: &str| {
        text.replace("tensor_parallel: [1, 2]", "tensor_parallel: [1, 2], mixed: true, modes: [together, apart]")
            .replace("gpus_most: 6", "gpus_most: 5")
    };
    let (mut wins, mut answers) = (0, Vec::new());
    for number in 20..30 {
        let text = mixed(&small_space(number));
        let found = planned(&text, 2).unwrap().plan;
        let cost = found.answer.as_ref().and_then(|fleet| fleet.usd_per_hour);
        assert_eq!(cost, exhaustive(&text), "space {number}: {text}\n{}", found.ledger_csv());
        wins += usize::from(found.answer.as_ref().is_some_and(|fleet| fleet.decode_gpu.is_some()));
        answers.extend(cost);
    }
    answers.sort_by(f64::total_cmp);
    answers.dedup();
    assert!(answers.len() >= 3, "the spaces are no test: answers cost {answers:?}");
    // Prompts are long and few tokens follow them: what computes them well is not what is cheap to decode on.
    assert!(wins >= 1, "no mixed fleet wins anywhere");
}

/// Servers of two kinds, whose watts the catalog knows.
fn in_servers(more: &str) -> String {
    let plan = format!(
        "plan: {{ servers: [dgx-h100, dgx-h200], tensor_parallel: [1, 2], modes: [together], gpus_most: 24, seeds: 2{more} }}"
    );
    let end = CHATS.find("plan:").unwrap();
    CHATS[..end].replace("rate: 30/s", "rate: 150/s") + &plan + "\n"
}

#[test]
fn servers_and_watts_are_spared_and_watts_are_a_limit() {
    let of = |more: &str| {
        let text = in_servers(more);
        (planned(&text, 2).unwrap().plan, exhaustive(&text))
    };
    let (fewest, least) = of("");
    let fleet = fewest.answer.unwrap();
    assert_eq!(least, Some(f64::from(fleet.gpus)));
    let power = fleet.power.unwrap();
    assert!(power.gpus_mean_kw < power.servers_mean_kw && power.servers_mean_kw <= power.servers_peak_kw, "{power:?}");
    assert!(fewest.sentence.contains("on average") && fewest.sentence.contains("at their peak"), "{}", fewest.sentence);
    let (servers, least) = of(", objective: servers");
    assert_eq!(servers.answer.unwrap().servers.map(f64::from), least);
    let (watts, least) = of(", objective: kw");
    let peak = watts.answer.unwrap().power.unwrap().servers_peak_kw;
    assert_eq!(Some(peak), least);
    assert!(peak <= power.servers_peak_kw, "{peak} of {power:?}");
    // No fleet draws less: a limit below the least leaves none, and says so; one above it is kept.
    let (none, least) = of(&format!(", power_most: {}W", (peak * 1e3 - 1.0).floor()));
    assert_eq!((none.answer, least), (None, None));
    assert!(none.ledger.iter().any(|row| row.outcome == "lost" && row.reason.starts_with("peak ")), "reasons");
    let (some, least) = of(&format!(", power_most: {}W", (peak * 1e3 + 1.0).ceil()));
    let fleet = some.answer.unwrap();
    assert_eq!(least, Some(f64::from(fleet.gpus)));
    assert!(fleet.power.unwrap().servers_peak_kw <= peak + 0.002);
    assert!(some.headroom[0].factor <= fewest.headroom[0].factor + 0.5);
}

#[test]
fn the_peak_of_a_day_is_taken_on_demand_where_that_is_cheaper() {
    // Three hours of 2, 40 and 6 requests a second.
    let dir = std::env::temp_dir().join(format!("overbook-plan-hours-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut rows = String::from("arrival_s,prompt_tokens,output_tokens\n");
    for (hour, every_ms) in [(0u32, 3000u32), (1, 120), (2, 1000)] {
        for number in 0..3_600_000 / every_ms {
            let at = f64::from(hour) * 3600.0 + f64::from(number * every_ms) / 1e3;
            writeln!(rows, "{at:.3},1500,150").unwrap();
        }
    }
    let log = dir.join("log.csv");
    std::fs::write(&log, rows).unwrap();
    let text = |on_demand: &str| {
        format!(
            "version: 1\nname: hours\nmodel: llama-3.1-8b\ngpu: l40s\nworkload: {{ trace: {{ path: {}, columns: {{ arrival: \
             arrival_s, prompt: prompt_tokens, output: output_tokens, unit: s }} }} }}\nengine: {{ max_model_len: 4096 }}\nslo: {{ \
             ttft_p99: 1s, tpot_p99: 60ms }}\nplan: {{ price: 1/gpu-h, on_demand: {on_demand}/gpu-h, tensor_parallel: [1], modes: \
             [together], gpus_most: 16, seeds: 2 }}\n",
            log.display()
        )
    };
    let found = |on_demand: &str| planned(&text(on_demand), 2).unwrap().plan;
    let (cheap, dear) = (found("1.2"), found("3.5"));
    let (split, all) = (cheap.split.unwrap(), dear.split.unwrap());
    let needed = &split.sides[0].needed;
    assert_eq!((split.hours, needed.len()), (3, 3));
    assert!(needed[0] <= needed[2] && needed[2] < needed[1], "{needed:?}");
    assert_eq!(Some(needed[1]), cheap.answer.map(|fleet| fleet.gpus), "the busiest hour needs the answer");
    assert_eq!(split.sides[0].reserved, needed[0], "only what all hours need is worth a price 1.2 times as low");
    assert_eq!(all.sides[0].on_demand, 0, "at 3.5 times the price a third of the hours is worth reserving");
    let by_hand = f64::from(split.sides[0].reserved)
        + needed.iter().map(|n| f64::from(n - split.sides[0].reserved)).sum::<f64>() / 3.0 * 1.2;
    assert!((split.usd_per_month - by_hand * 730.0).abs() < 1e-6, "{split:?}");
    assert!(cheap.sentence.contains("on demand for"), "{}", cheap.sentence);
    let short = planned(&CHATS.replace("seeds: 2", "seeds: 2, on_demand: 4/gpu-h"), 1).unwrap_err();
    assert!(short.is_input() && short.to_string().contains("no two hours"), "{short}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_answer_is_the_same_for_any_number_of_threads() {
    let all: Vec<(String, String, String)> = [1, 2, 5]
        .map(|jobs| {
            let plan = planned(CHATS, jobs).unwrap().plan;
            (plan.json(), plan.ledger_csv(), plan.html().unwrap())
        })
        .into();
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

#[test]
fn a_fleet_that_loses_all_it_has_does_not_survive() {
    let small = CHATS.replace("30/s", "4/s").replace("tensor_parallel: [1, 2]", "tensor_parallel: [1], survive: 1");
    let fleet = planned(&small, 2).unwrap().plan.answer.unwrap();
    let replicas: Vec<u32> = fleet.replicas.split(" + ").map(|side| side.parse().unwrap()).collect();
    assert!(replicas.iter().all(|side| *side >= 2), "{}", fleet.replicas);
    let relaxed = small.replace(", survive: 1", "");
    // Without the loss one replica of a kind is enough.
    let relaxed = planned(&relaxed, 2).unwrap().plan.answer.unwrap().replicas;
    assert!(relaxed.split(" + ").all(|side| side == "1"), "{relaxed}");
}

#[test]
fn what_too_few_requests_cannot_show_is_told() {
    let plan = planned(CHATS, 2).unwrap().plan;
    let told = &plan.requests.iter().find(|(what, _)| what == "Not seen").unwrap().1;
    // 400 requests at 30 a second last 13 s, in which a queue may grow by 0.5 s.
    assert!(told.contains("up to 3.") && told.contains("% at 1×"), "{told}");
}

#[test]
fn the_answer_holds_and_one_replica_less_does_not() {
    let outcome = planned(CHATS, 2).unwrap();
    let (plan, point) = (&outcome.plan, outcome.point.unwrap());
    let fleet = plan.answer.as_ref().unwrap();
    let run = |replicas: u32| {
        let answer =
            Experiment::from_text("answer", &point.scenario.to_yaml()).set("fleet.replicas", replicas).unwrap();
        answer.run(&Options::default()).unwrap()
    };
    let replicas = point.scenario.fleet.replicas;
    assert!(run(replicas).keeps_targets(), "{fleet:?}");
    if point.scenario.fleet.controllers.disaggregation.is_none() && replicas > 1 {
        assert!(!run(replicas - 1).keeps_targets(), "{fleet:?}");
    }
    assert_eq!(fleet.usd_per_month, fleet.usd_per_hour.map(|usd| usd * 730.0));
    let rows: Vec<_> = plan.ledger.iter().filter(|row| row.outcome == "answer").collect();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].gpus, &rows[0].replicas), (Some(fleet.gpus), &fleet.replicas));
    assert!(
        plan.sentence.contains("keep the promises") && plan.sentence.contains("twice the rate"),
        "{}",
        plan.sentence
    );
}

#[test]
fn every_fleet_is_in_the_ledger_once_and_each_that_lost_says_why() {
    let plan = planned(CHATS, 2).unwrap().plan;
    // One to twelve GPUs together, and all pairs of sides; with TP 2 half as many replicas. Two steps of vLLM and two GPUs.
    let fleets = 2 * 2 * (12 + 12 * 11 / 2 + 6 + 6 * 5 / 2);
    assert_eq!(plan.ledger.iter().map(|row| row.fleets).sum::<u64>(), fleets);
    assert!(plan.ledger.iter().all(|row| !row.reason.is_empty()), "{}", plan.ledger_csv());
    let ruled_out: u64 = plan.stages.iter().map(|stage| stage.ruled_out).sum();
    let kept = plan.ledger.iter().filter(|row| row.outcome != "lost").count() as u64;
    assert_eq!(ruled_out + kept, fleets);
}

#[test]
fn a_fleet_that_must_survive_a_loss_is_not_smaller() {
    let (today, sure) = (planned(CHATS, 2), planned(&CHATS.replace("seeds: 2", "seeds: 2, survive: 1"), 2));
    let (today, sure) = (today.unwrap().plan, sure.unwrap().plan);
    let cost = |plan: &Plan| plan.answer.as_ref().unwrap().usd_per_hour;
    assert!(cost(&sure) >= cost(&today));
    // What is left of it after the loss has less room than what is there today.
    let room = |plan: &Plan| plan.headroom[0].factor;
    assert!(room(&sure) < room(&today), "{} and {}", room(&sure), room(&today));
    assert_ne!(sure.answer.as_ref().unwrap().kept, today.answer.as_ref().unwrap().kept);
}

#[test]
fn headroom_is_where_the_answer_ends() {
    let outcome = planned(&CHATS.replace("seeds: 2", "seeds: 3, growth: [1, 2]"), 2).unwrap();
    let one = &outcome.plan.headroom[0];
    assert!(one.low <= one.factor && one.factor <= one.high && one.seeds.len() >= 3, "{one:?}");
    let kept =
        |at: f64| outcome.plan.curve.iter().filter(|point| (point.factor - at).abs() < 0.01).all(|point| point.kept);
    assert!(kept(0.25) && kept(1.0) && !outcome.plan.curve.last().unwrap().kept);
    let grown = &outcome.plan.growth;
    assert!(grown[1].gpus > grown[0].gpus, "{grown:?}");
    assert!(!outcome.plan.binding.is_empty());
}

#[test]
fn what_cannot_be_planned_is_refused_with_its_place() {
    for (from, to, told) in [
        ("slo: { ttft_p99: 500ms, tpot_p99: 30ms }", "", "a plan needs promises"),
        ("l40s: 1/gpu-h }", "}", "`h100` has a price and `l40s` has none"),
        ("h100, l40s]", "h100, l40]", "no GPU is called `l40`"),
        ("gpus_most: 12", "axes: { scheduler: [vllm, vlm] }", "`vllm`"),
        (
            "engine:",
            "fleet: { controllers: { autoscale: { min: 1, target: { outstanding: 4 }, start_up: 1min } } }\nengine:",
            "autoscale",
        ),
        ("tensor_parallel: [1, 2]", "tensor_parallel: [3]", "tensor_parallel"),
        ("tensor_parallel: [1, 2]", "objective: servers", "counts servers, and those of"),
        ("tensor_parallel: [1, 2]", "objective: kw", "counts watts, and those of"),
        ("tensor_parallel: [1, 2]", "power_most: 9kW", "plan: { servers: [dgx-h100, dgx-h200] }"),
        (
            "tensor_parallel: [1, 2]",
            "on_demand_prices: { h100: 4/gpu-h }",
            "`h100` has a price on demand and `l40s` has none",
        ),
        ("prices: { h100: 2.5/gpu-h, l40s: 1/gpu-h }", "on_demand: 4/gpu-h", "no price of reserved GPUs"),
        ("prices: { h100: 2.5/gpu-h, l40s: 1/gpu-h }", "objective: usd", "GPUs have no price"),
    ] {
        let text = CHATS.replace(from, to);
        assert_ne!(text, CHATS, "{from}");
        let error = planned(&text, 1).unwrap_err();
        assert!(error.is_input() && error.to_string().contains(told), "{to}: {error}");
    }
}

#[test]
fn prices_are_those_of_the_scenario_where_the_plan_has_none() {
    let prices = "prices: { h100: 2.5/gpu-h, l40s: 1/gpu-h }, ";
    let bare = CHATS.replace(prices, "");
    let elsewhere = format!("{bare}economics: {{ prices: {{ h100: 2.5/gpu-h, l40s: 1/gpu-h }} }}\n");
    let of = |text: &str| planned(text, 2).unwrap().plan.answer.unwrap();
    let (own, shared) = (of(CHATS), of(&elsewhere));
    assert_eq!((own.usd_per_hour, own.usd_per_mtoken), (shared.usd_per_hour, shared.usd_per_mtoken));
    // An hour in which it serves costs twice as much where it serves half of the time.
    let half = of(&elsewhere.replace("economics: {", "economics: { utilization: 0.5,"));
    assert_eq!(half.usd_per_hour, own.usd_per_hour.map(|usd| 2.0 * usd));
    assert_eq!(of(&bare).usd_per_hour, None);
}

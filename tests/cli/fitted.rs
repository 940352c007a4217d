//! `overbook trace fit | generate | stats --by`: a generator fitted, run, written and fitted again.

use crate::cli::home::{Home, Ran};

/// A scenario with two bursty hours and two classes.
const BURSTY: &str = "\
version: 1
name: bursty
workload:
  generate:
    arrivals: { profile: { rates: [0.5/s, 2/s], window: 1h, shape: 0.4 } }
    lengths:
      classes:
        - class: chat/web
          share: 3
          prompt: { log-normal: { median: 300, sigma: 0.8, max: 8000 } }
          output: { log-normal: { median: 100, sigma: 0.5, max: 2000 } }
        - { class: chat/api, share: 1, prompt: { zipf: { exponent: 1.1, max: 1023 } }, output: { fixed: 7 } }
    duration: 2h
model: llama-3.1-8b
gpu: h200
";

fn bursty() -> Home {
    let home = Home::new();
    home.write("bursty.yaml", BURSTY);
    home
}

/// The figure at a place of the line that starts so.
fn figure(ran: &Ran, line: &str, word: usize) -> f64 {
    let found = ran.out.lines().find_map(|text| text.trim().strip_prefix(line));
    let found = found.unwrap_or_else(|| panic!("no `{line}` in\n{}", ran.out));
    let word = found.split_whitespace().nth(word).unwrap_or_else(|| panic!("{found}"));
    word.trim_end_matches("/s,").trim_end_matches("/s").parse().unwrap_or_else(|_| panic!("{found}"))
}

#[test]
fn a_fit_is_a_scenario_whose_requests_fit_again() {
    let home = bursty();
    home.overbook("trace generate bursty.yaml --out t.parquet --seed 7").ends(0);
    let first = home.overbook("trace fit t.parquet --out fit.yaml").ends(0);
    assert!((figure(&first, "gamma ", 0) / 0.4 - 1.0).abs() < 0.1, "{}", first.out);
    assert!(
        first.out.contains("<- used") && first.out.contains("rank correlation of prompt and output"),
        "{}",
        first.out
    );
    assert!(first.err.contains("model and gpu are placeholders"), "{}", first.err);
    let text = home.text("fit.yaml");
    assert!(text.starts_with("# Workload fitted by `overbook trace fit` to t.parquet.\n"), "{text}");
    assert!(text.contains("class: chat/web") && text.contains("name: t-fitted"), "{text}");
    home.overbook("check fit.yaml").ends(0);
    let ran = home.overbook("run fit.yaml --no-rows --no-report --out r").ends(0);
    assert!(ran.out.contains("finished"), "{}", ran.out);
    home.overbook("trace generate fit.yaml --out again.csv").ends(0);
    let again = home.overbook("trace fit again.csv --lengths log-normal").ends(0);
    for line in ["gamma ", "weibull "] {
        assert!((figure(&first, line, 0) / figure(&again, line, 0) - 1.0).abs() < 0.1, "{line}\n{}", again.out);
    }
    // Without a file, the workload follows what is printed.
    assert!(again.out.contains("\nworkload:\n  generate:\n") && again.out.contains("log-normal:"), "{}", again.out);
}

#[test]
fn the_fit_of_a_scenario_is_told_beside_the_scenario() {
    let home = bursty();
    let ran = home.overbook("trace fit bursty.yaml --window 2h --gaps weibull").ends(0);
    assert!(ran.out.contains("weibull:"), "{}", ran.out);
    for line in ["mean rate [1/s]", "prompt tokens mean", "output tokens p50"] {
        let (trace, generated) = (figure(&ran, line, 0), figure(&ran, line, 1));
        assert!((generated / trace - 1.0).abs() < 0.12, "{line}: {}", ran.out);
    }
    assert_eq!(ran.out, home.overbook("trace fit bursty.yaml --window 2h --gaps weibull").ends(0).out);
}

#[test]
fn bounds_of_a_generator_and_of_a_trace() {
    let home = bursty();
    let rows = |file: &str| home.text(file).lines().count() - 1;
    home.overbook("trace generate bursty.yaml --out a.csv --requests 20000").ends(0);
    assert_eq!(rows("a.csv"), 20_000, "more than the scenario asks for");
    home.overbook("trace convert a.csv --out b.csv --requests 300").ends(0);
    assert_eq!(rows("b.csv"), 300);
    home.overbook("trace generate bursty.yaml --out c.csv --duration 10min").ends(0);
    assert!((100..600).contains(&rows("c.csv")), "{}", rows("c.csv"));
    home.overbook("trace generate bursty.yaml --out d.csv --seed 1").ends(0);
    home.overbook("trace generate bursty.yaml --out e.csv --seed 2").ends(0);
    assert_ne!(home.text("d.csv"), home.text("e.csv"));
}

#[test]
fn groups_of_requests() {
    let home = bursty();
    let ran = home.overbook("trace stats bursty.yaml --by class,model,log-type,hour-of-day").ends(0);
    let line = |name: &str| figure(&ran, name, 0);
    let (web, api) = (line("chat/web "), line("chat/api "));
    assert!((line("chat ") - web - api).abs() < 0.5 && web > 2.0 * api, "{}", ran.out);
    assert!((line("web ") - web).abs() < 0.5, "{}", ran.out);
    assert!((line("00:00 ") + line("01:00 ") - web - api).abs() < 0.5 && line("01:00 ") > 2.0 * line("00:00 "));
    assert!(ran.out.contains("prompt p99") && ran.out.contains("output max"), "{}", ran.out);
}

/// Two scrapes a minute apart: 120 requests of 11 to 20 and of 6 to 10 tokens.
fn scrapes() -> String {
    let scrape = |(requests, prompt, output): (u32, u32, u32)| {
        let histogram = |name: &str, [low, high]: [u32; 2], sum: u32| {
            let name = format!("vllm:request_{name}_tokens");
            let bucket = |le: String, count: u32| format!("{name}_bucket{{model_name=\"m\",le=\"{le}\"}} {count}.0\n");
            let buckets =
                [bucket(format!("{low}.0"), 0), bucket(format!("{high}.0"), requests), bucket("+Inf".into(), requests)];
            buckets.concat() + &format!("{name}_sum{{model_name=\"m\"}} {sum}.0\n")
        };
        let success = format!("vllm:request_success_total{{finished_reason=\"stop\",model_name=\"m\"}} {requests}.0\n");
        histogram("prompt", [10, 20], prompt) + &histogram("generation", [5, 10], output) + &success
    };
    [(0, 0, 0), (120, 1800, 960)].map(scrape).concat()
}

#[test]
fn metrics_become_a_scenario() {
    let home = Home::new();
    home.write("metrics.txt", scrapes());
    let ran = home.overbook("trace fit --prometheus metrics.txt --every 1min --out m.yaml").ends(0);
    assert!(ran.out.contains("120 in 60.000 s, 2.0000/s"), "{}", ran.out);
    assert!(
        ran.out.contains("mean 15.0, fitted 15.") && ran.out.contains("running, mean      not scraped"),
        "{}",
        ran.out
    );
    assert!(home.text("m.yaml").contains("poisson:") && home.text("m.yaml").contains("# From metrics:"));
    home.overbook("check m.yaml").ends(0);
    // The same from stdin, and as two files.
    let mut command = home.command(["trace", "fit", "--every", "1min", "--prometheus", "-"]);
    command.stdin(std::fs::File::open(home.path("metrics.txt")).expect("opens"));
    let piped = Ran::of(&command.output().expect("the program starts")).ends(0);
    assert!(piped.out.starts_with(&ran.out), "{}", piped.out);
    let text = scrapes();
    let (cut, _) = text
        .rmatch_indices("vllm:request_prompt_tokens_bucket{model_name=\"m\",le=\"10.0\"}")
        .next()
        .expect("a bucket");
    home.write("1.txt", &text[..cut]);
    home.write("2.txt", &text[cut..]);
    let two = home.overbook("trace fit --every 1min --prometheus 1.txt 2.txt").ends(0);
    assert!(two.out.starts_with(&ran.out), "{}", two.out);
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let home = bursty();
    home.write("metrics.txt", scrapes());
    home.write("there.yaml", "x");
    home.write("one.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n5,10,10\n");
    for (command, word) in [
        ("trace fit one.csv", "needs at least 2 requests at different times, found 1"),
        ("trace fit bursty.yaml --window 1ms", "choose a longer window"),
        ("trace fit bursty.yaml --out there.yaml", "--force"),
        ("trace fit nowhere.csv", "nowhere.csv"),
        ("trace fit --prometheus metrics.txt", "--every 15s"),
        ("trace fit --prometheus nowhere.txt", "cannot read nowhere.txt"),
        ("trace fit --prometheus one.csv --every 1s", "one.csv:1: expected"),
        ("trace fit --prometheus metrics.txt --every 1min --lengths zipf", "are for requests"),
        ("trace fit", "<SOURCE>"),
        ("trace stats bursty.yaml --by colour", "hour-of-day"),
        ("trace generate bursty.yaml --out x.csv --duration 5", "needs a unit"),
    ] {
        let told = home.refused(command.split_whitespace());
        assert!(told.contains(word), "{command}: {told}");
    }
}

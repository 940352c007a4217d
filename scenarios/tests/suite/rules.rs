//! Every rule on the settings of a policy, with the words that users read: `rules.txt` holds settings and, indented below each,
//! what is wrong with them, or the commands that come nearest to them. It is a record: words that change are changed on purpose.

use overbook_scenarios::Scenario;
use overbook_scenarios::export::serve_flags;
use serde_json::{Value, json};

use super::LEAST;

/// A scenario that is right, but for these settings.
fn scenario(key: &str, settings: &Value) -> Scenario {
    let mut value = json!({
        "version": 1,
        "name": "rules",
        "workload": { "generate": { "arrivals": { "poisson": { "rate": "20/s" } }, "lengths": "burstgpt", "requests": 9 } },
        "model": "llama-3.1-8b",
        "gpu": "h200",
    });
    if key == "disaggregated" {
        value["scheduler"] = settings.clone();
        value["fleet"] = json!({ "replicas": 2, "controllers": { "disaggregation": { "prefill": 1 } } });
    } else {
        value[key] = settings.clone();
    }
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{key} {settings}: {error}"))
}

/// A scheduler written as its name alone has the default settings.
fn written_out(settings: Value) -> Value {
    match settings {
        Value::String(name) => json!({ name: {} }),
        settings => settings,
    }
}

/// What is said of a line of the record.
fn said(line: &str) -> Vec<String> {
    let (what, settings) = line.split_once(' ').unwrap();
    let settings: Value = serde_json::from_str(settings).unwrap();
    let stated = |key: &str, settings: &Value| {
        let problems = scenario(key, settings).problems();
        problems.into_iter().map(|(path, message)| format!("{path} {message}")).collect()
    };
    match what {
        "export" => {
            let flags = serve_flags(&scenario("scheduler", &written_out(settings)));
            [vec![flags.vllm, flags.sglang], flags.notes].concat()
        }
        "resolved" => super::problems(&format!("{LEAST}scheduler: {settings}\n")),
        "disaggregated" => stated(what, &written_out(settings)),
        key => stated(key, &settings),
    }
}

#[test]
fn every_rule_in_its_words() {
    let recorded = include_str!("rules.txt");
    let mut lines = recorded.lines().peekable();
    let mut settings = 0;
    while let Some(line) = lines.next() {
        let words: Vec<&str> = std::iter::from_fn(|| lines.next_if(|line| line.starts_with(' '))).collect();
        let found: Vec<String> = said(line).into_iter().map(|words| format!("  {words}")).collect();
        assert_eq!(found, words, "{line}");
        settings += 1;
    }
    assert!(settings > 160, "{settings} settings");
}

//! The scenario as text, with a comment for every decision.

use std::path::{Path, PathBuf};

use overbook_scenarios::import::Served;
use overbook_scenarios::yaml;
use overbook_traces::{Choice, Guess, LeaveOut, Lines, Usage};
use serde_json::{Map, Value, json};

/// What a scenario is made of.
pub(super) struct Draft<'a> {
    pub(super) name: String,
    pub(super) served: &'a Served,
    pub(super) gpu: &'a str,
    pub(super) requests: Requests<'a>,
}

/// Where the requests are from.
pub(super) enum Requests<'a> {
    /// A log.
    Log {
        guess: &'a Guess,
        /// Where it is, from the scenario's folder.
        path: PathBuf,
        /// Classes that are played; all without it.
        keep: Option<&'a Vec<String>>,
    },
    /// Sums of requests.
    Usage(&'a Usage),
    /// Nowhere: a load to begin with.
    Placeholder,
}

/// What becomes of sums of requests.
pub(super) fn of_usage(usage: &Usage) -> String {
    let Usage { requests, window, rates, mean_tokens: (prompt, output) } = usage;
    format!(
        "the log is an export of usage: {requests} requests in {} windows of {window}; they are drawn anew at the rate of each window, and all have the \
         mean lengths, {prompt:.0} and {output:.0} tokens: real ones differ, and tails will be longer",
        rates.len()
    )
}

/// The kinds of rows that are left out, and where they stand.
pub(super) fn left_out(guess: &Guess) -> Vec<(String, &Lines)> {
    let left_out = &guess.left_out;
    let no_request = format!("rows that are no requests to an engine ({})", left_out.no_request_why);
    let kinds = [
        ("rows with empty cells".to_owned(), &left_out.empty),
        ("rows that cannot be read".to_owned(), &left_out.invalid),
        ("rows without output tokens (failed, or nothing was generated)".to_owned(), &left_out.failed),
        (no_request, &left_out.no_request),
    ];
    kinds.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
}

impl Draft<'_> {
    /// The text.
    pub(super) fn text(&self) -> String {
        let mut page = Page::default();
        page.remark(0, "Written by `overbook init`. `overbook check` looks it over, `overbook run` simulates it; `overbook schema` has all settings.");
        page.set(0, "version", &json!(1));
        page.set(0, "name", &json!(self.name));
        if let Some(seed) = self.served.seed {
            page.set(0, "seed", &json!(seed));
        }
        page.line(0, "workload:");
        match &self.requests {
            Requests::Log { guess, path, keep } => trace(&mut page, guess, path, *keep),
            Requests::Usage(usage) => {
                page.remark(2, &of_usage(usage));
                page.set(2, "generate", &json!(usage.workload()));
            }
            Requests::Placeholder => {
                page.remark(2, "A placeholder: no log was given. `overbook init --log requests.csv` plays one.");
                let generate =
                    json!({ "arrivals": { "poisson": { "rate": "10/s" } }, "lengths": "burstgpt", "requests": 1000 });
                page.set(2, "generate", &generate);
            }
        }
        self.server(&mut page);
        page.0
    }

    fn server(&self, page: &mut Page) {
        let served = self.served;
        if served.said != served.model {
            page.remark(0, &format!("Served as {}.", served.said));
        }
        page.set(0, "model", &json!(served.model));
        page.set(0, "gpu", &json!(self.gpu));
        for (key, part) in [("fleet", &served.fleet), ("engine", &served.engine)] {
            if !part.is_empty() {
                self.part(page, key, part);
            }
        }
        page.line(0, "scheduler:");
        self.flags(page, &format!("scheduler.{}.", served.kind), 2);
        page.set(2, served.kind, &Value::Object(served.scheduler.clone()));
        page.remark(0, "Promises to your users, to be judged by, as in:");
        page.remark(0, "slo: { ttft_p99: 2s, tpot_p99: 50ms }");
        if !served.unmodelled.is_empty() {
            page.remark(0, "NOT in this scenario, although it changes the figures:");
            for (flag, what) in &served.unmodelled {
                page.remark(0, &format!("  {flag}: {what}"));
            }
        }
        if !served.notes.is_empty() {
            page.remark(0, "Notes on the command:");
            served.notes.iter().for_each(|text| page.remark(0, &format!("  {text}")));
        }
    }

    fn part(&self, page: &mut Page, key: &str, part: &Map<String, Value>) {
        self.flags(page, &format!("{key}."), 0);
        page.set(0, key, &Value::Object(part.clone()));
    }

    /// The flags that a part of the scenario is from.
    fn flags(&self, page: &mut Page, prefix: &str, indent: usize) {
        let of_part = self.served.used.iter().filter(|(_, field)| field.starts_with(prefix));
        let flags: Vec<&str> = of_part.map(|(flag, _)| flag.as_str()).collect();
        if !flags.is_empty() {
            page.remark(indent, &format!("From {}.", flags.join(" ")));
        }
    }
}

/// What a scenario says of a log.
fn trace(page: &mut Page, guess: &Guess, log: &Path, keep: Option<&Vec<String>>) {
    let trace = &guess.trace;
    page.line(2, "trace:");
    page.set(4, "path", &json!(log));
    for Choice { taken, instead } in &guess.choices {
        let instead = instead.as_ref().map_or_else(String::new, |option| format!(" (otherwise `{option}`)"));
        page.remark(4, &format!("{taken}{instead}"));
    }
    for doubt in &guess.doubts {
        page.remark(4, &format!("Doubtful: {doubt}"));
    }
    if let Some(columns) = &trace.columns {
        page.set(4, "columns", &json!(columns));
    }
    if let Some(arrivals) = &trace.arrivals {
        page.remark(
            4,
            if guess.replaced {
                "Drawn arrivals replace the times of the log (`--rate`); leave `arrivals` out to play the log's own."
            } else {
                "The log has no times; these are drawn."
            },
        );
        page.set(4, "arrivals", &json!(arrivals));
    }
    if let Some(keep) = keep {
        page.remark(4, "Other classes are not this model's; leave the line out to send all requests here.");
        page.set(4, "keep", &json!({ "class": keep }));
    }
    if trace.sort {
        page.remark(4, &format!("{} rows were earlier than a row above them.", guess.counts.out_of_order));
        page.set(4, "sort", &json!(true));
    }
    if trace.leave_out != LeaveOut::Nothing {
        page.set(4, "leave_out", &json!(trace.leave_out));
    }
    for (what, lines) in left_out(guess) {
        page.remark(4, &format!("{} {what} are left out: {lines}.", lines.len()));
    }
}

/// A page of YAML.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        self.0.extend(std::iter::repeat_n(' ', indent));
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A comment; what the log or the command say cannot end its line.
    fn remark(&mut self, indent: usize, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.line(indent, &format!("# {text}"));
    }

    fn set(&mut self, indent: usize, key: &str, value: &Value) {
        let mut map = Map::new();
        map.insert(key.to_owned(), value.clone());
        for line in yaml::emit(&Value::Object(map)).lines() {
            self.line(indent, line);
        }
    }
}

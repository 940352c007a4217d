//! Populations of clients against ServeGen's files, read here by other means.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use overbook_sim::time::Span;
use overbook_sim::units::{Duration, Rate};
use overbook_sim::workload::arrival::{Arrival, Workload};
use overbook_traces::{LengthSpec, MissingLengths, PopulationClasses, PopulationSpec, TraceError, Window};
use serde_json::Value;

use overbook_test_groups::{in_clone, whole, whole_files};

use crate::{drain, file, unpacked};

const SECOND: u64 = 1_000_000_000;
const RATES: &str = "servegen/client_rates.csv.zst";
const LENGTHS: &str = "servegen/length_pmfs.jsonl.zst";

/// A row of the rate file.
#[derive(Clone)]
struct RateRow {
    client: u32,
    start_s: u64,
    rate: f64,
    cv: String,
    pattern: String,
    shape: f64,
    scale: String,
}

impl RateRow {
    /// CV of the gaps by the shape.
    fn cv_of_shape(&self) -> f64 {
        if self.pattern == "Gamma" {
            return 1.0 / self.shape.sqrt();
        }
        let moment = |n: f64| ln_gamma(1.0 + n / self.shape);
        ((moment(2.0) - 2.0 * moment(1.0)).exp() - 1.0).sqrt()
    }
}

/// Lanczos' approximation, g = 7.
fn ln_gamma(x: f64) -> f64 {
    const C: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let series = C.iter().zip(1u32..).fold(0.999_999_999_999_809_9, |sum, (c, i)| sum + c / (x + f64::from(i)));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + series.ln()
}

fn rates(path: &Path, workload: &str) -> Vec<RateRow> {
    let text = unpacked(path);
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let rows = rows.filter(|row| row[0] == workload).map(|row| RateRow {
        client: row[1].parse().expect("a number"),
        start_s: row[2].parse().expect("seconds"),
        rate: row[3].parse().expect("a rate"),
        cv: row[4].to_owned(),
        pattern: row[5].to_owned(),
        shape: row[6].parse().expect("a shape"),
        scale: row[7].to_owned(),
    });
    rows.collect()
}

/// By client, window and field: pairs of value and probability as written.
type Lengths = BTreeMap<(u32, u64, String), Vec<(f64, f64)>>;

fn lengths(path: &Path, workload: &str) -> Lengths {
    let mut all = Lengths::new();
    for line in unpacked(path).lines().filter(|line| line.contains(&format!("\"workload\":\"{workload}\""))) {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let number = |key: &str| row[key].as_u64().expect("a number");
        let pmf = row["pmf"].as_object().expect("an object");
        let pairs = pmf.iter().map(|(value, p)| (value.parse().expect("a value"), p.as_f64().expect("a share")));
        let field = row["field"].as_str().expect("a name").to_owned();
        all.insert((number("client") as u32, number("window_start_s"), field), pairs.collect());
    }
    all
}

/// Mean and variance.
fn moments(pmf: &[(f64, f64)]) -> (f64, f64) {
    let sum: f64 = pmf.iter().map(|(_, p)| p).sum();
    let mean = pmf.iter().map(|(value, p)| value * p).sum::<f64>() / sum;
    (mean, pmf.iter().map(|(value, p)| (value - mean).powi(2) * p).sum::<f64>() / sum)
}

/// Where a file of ServeGen's clients lies: `in_clone` (m-small from 36,000 s to 43,200 s, mm-image to 3,600 s) or `whole`.
type Files = fn(&str) -> PathBuf;

/// `workload`, by client, over these seconds.
fn clients(files: Files, workload: &str, from_s: u64, to_s: u64) -> PopulationSpec {
    let mut spec = PopulationSpec::new(files(RATES), files(LENGTHS));
    spec.workload = Some(workload.to_owned());
    spec.window = Window { from: Some(seconds(from_s)), to: Some(seconds(to_s)) };
    spec.classes = PopulationClasses::Client;
    spec
}

fn seconds(s: u64) -> Duration {
    Duration(Span(s * SECOND))
}

/// Arrivals with the number of their client.
fn play(spec: &PopulationSpec, seed: u64) -> Vec<(u32, Arrival)> {
    let mut population = spec.population(seed).expect("opens");
    let arrivals = drain(&mut population).expect("generates");
    let id = |name: &String| name.rsplit('/').next().expect("a name").parse().expect("a number");
    let ids: Vec<u32> = population.classes().iter().map(id).collect();
    assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
    arrivals.into_iter().map(|arrival| (ids[usize::from(arrival.class.0)], arrival)).collect()
}

fn error(spec: &PopulationSpec) -> String {
    let error: TraceError = spec.population(1).err().expect("an error");
    error.to_string()
}

#[test]
fn requests_per_window_and_client_are_those_of_the_file() {
    counts_are_those_of_the_file(in_clone, "m-small", 36_000, 43_200);
}

fn requests_per_window_and_client_are_those_of_the_whole_file() {
    counts_are_those_of_the_file(whole, "deepseek-r1", 43_200, 50_400);
    counts_are_those_of_the_file(whole, "m-small", 129_600, 136_800);
}

fn counts_are_those_of_the_file(files: Files, workload: &str, from: u64, to: u64) {
    let runs = 10u32;
    let mut spec = clients(files, workload, from, to);
    let rows = rates(&spec.rates, workload);
    let rows: Vec<&RateRow> = rows.iter().filter(|row| (from..to).contains(&row.start_s)).collect();
    spec.missing_lengths = MissingLengths::Pool;
    // As recorded, the large workload at a tenth.
    let recorded = rows.iter().map(|row| row.rate).sum::<f64>() / ((to - from) / 600) as f64;
    let factor = if workload == "m-small" { 0.02 } else { 1.0 };
    spec.rate = (workload == "m-small").then_some(Rate(recorded * factor));
    let mut counts: BTreeMap<(u32, u64), f64> = BTreeMap::new();
    for seed in 0..runs {
        for (client, arrival) in play(&spec, u64::from(seed)) {
            *counts.entry((client, from + arrival.at.0 / SECOND / 600 * 600)).or_default() += 1.0;
        }
    }
    let (mut total, mut expected_total, mut checked) = (0.0, 0.0, 0);
    let mut windows: BTreeMap<u64, (f64, f64, f64)> = BTreeMap::new();
    for row in rows {
        let count = counts.remove(&(row.client, row.start_s)).unwrap_or(0.0);
        let expected = row.rate * factor * 600.0 * f64::from(runs);
        // Variance of a stationary renewal count: mean times CV², plus a constant per run; Poisson's at least.
        let cv2 = row.cv_of_shape().powi(2).max(1.0);
        let variance = expected * cv2 + f64::from(runs) * (1.0 + cv2 * cv2);
        assert!((count - expected).abs() <= 6.0 * variance.sqrt(), "{} at {}", row.client, row.start_s);
        let window = windows.entry(row.start_s).or_default();
        *window = (window.0 + count, window.1 + expected, window.2 + variance);
        (total, expected_total, checked) = (total + count, expected_total + expected, checked + 1);
    }
    // No client sends in a window in which the file has no rate.
    assert_eq!(counts.len(), 0, "{workload}: {counts:?}");
    for (start, (count, expected, variance)) in windows {
        assert!((count - expected).abs() <= 5.0 * variance.sqrt(), "{workload} at {start}: {count} for {expected}");
    }
    assert!(checked > 100 && (total / expected_total - 1.0).abs() < 0.02, "{workload}: {total} {expected_total}");
}

#[test]
fn gaps_have_the_shape_of_the_file() {
    let mut spec = clients(in_clone, "m-small", 0, 86_400);
    spec.missing_lengths = MissingLengths::Pool;
    let rows = rates(&spec.rates, "m-small");
    let mut gaps: BTreeMap<(u32, u64), Vec<f64>> = BTreeMap::new();
    let mut before: BTreeMap<u32, u64> = BTreeMap::new();
    spec.window = Window { from: Some(seconds(36_000)), to: Some(seconds(37_800)) };
    for (client, arrival) in play(&spec, 11) {
        let at = 36_000 * SECOND + arrival.at.0;
        let window = at / SECOND / 600 * 600;
        if let Some(before) = before.insert(client, at).filter(|before| before / SECOND / 600 * 600 == window) {
            gaps.entry((client, window)).or_default().push((at - before) as f64 / 1e9);
        }
    }
    let mut checked = [0, 0];
    for row in rows {
        let Some(gaps) = gaps.get(&(row.client, row.start_s)).filter(|gaps| gaps.len() > 4_000) else { continue };
        let (mean, variance) = moments(&gaps.iter().map(|&gap| (gap, 1.0)).collect::<Vec<_>>());
        let (cv, expected) = (variance.sqrt() / mean, row.cv_of_shape());
        let name = format!("client {} at {}: CV {cv} for {expected}", row.client, row.start_s);
        // Heavy tails need more than a window's gaps for their CV.
        if expected < 2.0 {
            assert!((cv / expected - 1.0).abs() < 0.1, "{name}");
            assert!((mean * row.rate - 1.0).abs() < 6.0 * expected / (gaps.len() as f64).sqrt(), "{name}: {mean}");
            checked[usize::from(row.pattern == "Weibull")] += 1;
        }
    }
    assert!(checked[0] >= 3 && checked[1] >= 1, "{checked:?}");
}

fn lengths_have_the_means_of_the_file() {
    let mut spec = clients(whole, "m-small", 122_400, 136_800);
    spec.missing_lengths = MissingLengths::Drop;
    spec.rate = Some(Rate(20.0));
    let pmfs = lengths(&spec.lengths.clone().expect("given"), "m-small");
    let mut sums: BTreeMap<(u32, u64), [f64; 3]> = BTreeMap::new();
    for (client, arrival) in play(&spec, 5) {
        // Windows of six hours; the part that is played lies on both sides of 129 600 s.
        let window = (122_400 + arrival.at.0 / SECOND) / 21_600 * 21_600;
        let [n, prompt, output] = sums.entry((client, window)).or_default();
        *n += 1.0;
        *prompt += f64::from(arrival.prompt_tokens);
        *output += f64::from(arrival.output_tokens);
    }
    let mut checked = 0;
    for (&(client, window), &[n, prompt, output]) in sums.iter().filter(|(_, sums)| sums[0] > 300.0) {
        for (field, sum) in [("input_tokens", prompt), ("output_tokens", output)] {
            let (mean, variance) = moments(&pmfs[&(client, window, field.to_owned())]);
            let error = 5.0 * (variance / n).sqrt() + 1e-3 * mean;
            assert!((sum / n - mean).abs() < error, "{client} at {window}, {field}: {} for {mean}", sum / n);
            checked += 1;
        }
    }
    let windows: std::collections::BTreeSet<u64> = sums.keys().map(|&(_, window)| window).collect();
    assert!(checked >= 20 && windows.len() == 2, "{checked} {windows:?}");
}

#[test]
fn attachments_are_part_of_the_prompt() {
    prompts_have_attachments(&clients(in_clone, "mm-image", 0, 3_600), 0, 6);
}

fn attachments_are_part_of_the_prompt_six_hours_long() {
    prompts_have_attachments(&clients(whole, "mm-image", 43_200, 64_800), 43_200, 10);
}

/// Mean prompts of at least so many clients against the lengths of the window that starts then [s].
fn prompts_have_attachments(spec: &PopulationSpec, start_s: u64, clients: usize) {
    let pmfs = lengths(&spec.lengths.clone().expect("given"), "mm-image");
    let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for (client, arrival) in play(spec, 5) {
        let (n, prompt) = sums.entry(client).or_default();
        (*n, *prompt) = (*n + 1.0, *prompt + f64::from(arrival.prompt_tokens));
    }
    let mut checked = 0;
    for (&client, &(n, prompt)) in sums.iter().filter(|(_, (n, _))| *n > 1_000.0) {
        let of = |field: &str| moments(&pmfs[&(client, start_s, field.to_owned())]);
        let (mut mean, mut variance) = of("text_tokens");
        for part in ["image", "audio", "video"] {
            let ((count, count_variance), (tokens, tokens_variance)) =
                (of(&format!("{part}_count")), of(&format!("{part}_tokens")));
            mean += count * tokens;
            variance += count * tokens_variance + count_variance * tokens * tokens;
        }
        let error = 5.0 * (variance / n).sqrt() + 1e-3 * mean;
        assert!((prompt / n - mean).abs() < error, "{client}: {} for {mean}", prompt / n);
        checked += 1;
    }
    assert!(checked >= clients, "{checked}");
}

fn clients_without_lengths_are_counted_over_the_whole_file() {
    let mut spec = clients(whole, "m-small", 0, 1_209_600);
    let text = error(&spec);
    assert!(text.contains("no lengths for 5 of 43 clients, with 56.8 % of the requests: "), "{text}");
    // No lengths at all.
    spec.workload = Some("m-large".to_owned());
    spec.window = Window { from: Some(seconds(36_000)), to: Some(seconds(43_200)) };
    spec.rate = Some(Rate(20.0));
    spec.missing_lengths = MissingLengths::Draw(LengthSpec::Fixed { prompt: 77, output: 7 });
    assert!(play(&spec, 3).len() > 100_000);
    spec.missing_lengths = MissingLengths::Pool;
    let text = error(&spec);
    assert!(text.contains("no lengths for 68 of 68 clients, with 100.0 % of the requests"), "{text}");
}

#[test]
fn clients_without_lengths_are_named_dropped_pooled_or_drawn() {
    let mut spec = clients(in_clone, "m-small", 36_000, 43_200);
    let text = error(&spec);
    assert!(text.contains("no lengths for 4 of 24 clients, with 55.0 % of the requests: "), "{text}");
    assert!(text.contains("length_pmfs.jsonl.zst: ") && text.contains("`missing_lengths`"), "{text}");
    spec.rate = Some(Rate(5.0));
    let pmfs = lengths(&spec.lengths.clone().expect("given"), "m-small");
    let with: std::collections::BTreeSet<u32> = pmfs.keys().map(|(client, ..)| *client).collect();
    let mean_of = |arrivals: &[(u32, Arrival)], own: bool| {
        let of: Vec<_> = arrivals.iter().filter(|(client, _)| with.contains(client) == own).collect();
        (of.len(), of.iter().map(|(_, a)| f64::from(a.prompt_tokens)).sum::<f64>() / of.len() as f64)
    };
    spec.missing_lengths = MissingLengths::Drop;
    let dropped = play(&spec, 3);
    assert!(dropped.iter().all(|(client, _)| with.contains(client)));
    // The wanted rate is that of the others.
    assert!((dropped.len() as f64 / 36_000.0 - 1.0).abs() < 0.05, "{}", dropped.len());
    spec.missing_lengths = MissingLengths::Pool;
    spec.rate = Some(Rate(20.0));
    let pooled = play(&spec, 3);
    assert!((pooled.len() as f64 / 144_000.0 - 1.0).abs() < 0.05, "{}", pooled.len());
    let ((own, own_mean), (missing, missing_mean)) = (mean_of(&pooled, true), mean_of(&pooled, false));
    assert!(
        own > 10_000 && missing > 10_000 && (missing_mean / own_mean - 1.0).abs() < 0.05,
        "{own_mean} {missing_mean}"
    );
    spec.missing_lengths = MissingLengths::Draw(LengthSpec::Fixed { prompt: 77, output: 7 });
    let drawn = play(&spec, 3);
    assert!(drawn.iter().zip(&pooled).all(|(a, b)| a.1.at == b.1.at));
    assert!(drawn.iter().all(|(client, a)| with.contains(client) || (a.prompt_tokens, a.output_tokens) == (77, 7)));
    // No lengths at all.
    spec.missing_lengths = MissingLengths::Pool;
    spec.lengths = None;
    assert_eq!(spec.problems().len(), 1);
}

#[test]
fn equal_seeds_make_equal_requests_whatever_part_is_played() {
    let mut spec = clients(in_clone, "mm-image", 0, 3_600);
    let one = play(&spec, 1);
    assert!(one.len() > 10_000 && one == play(&spec, 1) && one != play(&spec, 2));
    spec.window = Window { from: Some(seconds(1_200)), to: Some(seconds(2_400)) };
    let part = play(&spec, 1);
    let same = one.iter().filter(|(_, a)| (1_200..2_400).contains(&(a.at.0 / SECOND)));
    let same: Vec<_> = same.map(|(client, a)| (*client, a.at.0 - 1_200 * SECOND)).collect();
    assert!(part.iter().map(|(client, a)| (*client, a.at.0)).eq(same));
    spec.requests = Some(7);
    assert_eq!(play(&spec, 1), part[..7]);
    spec.classes = PopulationClasses::Workload;
    assert_eq!(spec.population(1).expect("opens").classes(), ["mm-image"]);
}

/// Writes a workload of the two files in ServeGen's own layout.
fn folder(root: &Path, spec: &PopulationSpec, workload: &str) -> PathBuf {
    let folder = root.join(workload);
    fs::create_dir(&folder).expect("made");
    let mut by_client: BTreeMap<u32, BTreeMap<u64, RateRow>> = BTreeMap::new();
    for row in rates(&spec.rates, workload) {
        by_client.entry(row.client).or_default().insert(row.start_s, row);
    }
    let pmfs = lengths(&spec.lengths.clone().expect("given"), workload);
    for (client, rows) in by_client {
        let line = |start: u64| match rows.get(&start) {
            Some(RateRow { rate, cv, pattern, shape, scale, .. }) => {
                format!("{start},{rate},{cv},{pattern},{shape},{scale}\n")
            }
            None => format!("{start},0,0,,0,0\n"),
        };
        let csv: String = (0..86_400).step_by(600).map(line).collect();
        fs::write(folder.join(format!("chunk-{client}-trace.csv")), csv).expect("written");
        let mut dataset = serde_json::Map::new();
        for ((_, start, field), pairs) in pmfs.iter().filter(|((id, ..), _)| *id == client) {
            let pairs: Vec<String> = pairs.iter().map(|(value, p)| format!("{value}: {p}")).collect();
            dataset.entry(start.to_string()).or_insert_with(|| Value::Object(serde_json::Map::new()))[field] =
                Value::from(format!("{{{}}}", pairs.join(", ")));
        }
        let text = Value::Object(dataset).to_string();
        fs::write(folder.join(format!("chunk-{client}-dataset.json")), text).expect("written");
    }
    folder
}

#[test]
fn servegens_own_folders_give_the_same_requests() {
    let spec = clients(in_clone, "mm-image", 0, 3_600);
    let root = tempfile::tempdir().expect("a folder");
    let folder = folder(root.path(), &spec, "mm-image");
    let own = PopulationSpec { rates: folder.clone(), lengths: Some(folder.clone()), workload: None, ..spec.clone() };
    assert!(play(&own, 9) == play(&spec, 9));
    let wrong = PopulationSpec { workload: Some("m-small".to_owned()), ..own.clone() };
    assert!(error(&wrong).contains("a folder is one workload, and this one is called `mm-image`"));
    // A client whose length file is missing, as a Git LFS pointer, or without a distribution.
    let dataset = folder.join("chunk-3-dataset.json");
    fs::remove_file(&dataset).expect("removed");
    assert!(error(&own).contains("no lengths for 1 of 18 clients, with "), "{}", error(&own));
    fs::write(&dataset, "version https://git-lfs.github.com/spec/v1\n").expect("written");
    assert!(error(&own).contains("chunk-3-dataset.json:1:1: expected value; help: "), "{}", error(&own));
    fs::write(&dataset, "{\"0\": {\"text_tokens\": \"{}\", \"output_tokens\": \"{5: 1.0}\"}}").expect("written");
    assert!(error(&own).contains("no lengths for 1 of 18 clients"), "{}", error(&own));
    fs::write(&dataset, "{\"0\": {\"text_tokens\": \"[5]\"}}").expect("written");
    assert!(error(&own).contains("window 0, field `text_tokens`: expected a dictionary like {9: 0.25, 12: 0.75}"));
    let empty = tempfile::tempdir().expect("a folder");
    let empty = PopulationSpec { rates: empty.path().to_owned(), ..own };
    assert!(error(&empty).contains("there is no `chunk-N-trace.csv` in this folder"));
}

#[test]
fn bad_files_say_where() {
    const HEADER: &str = "workload,client,window_start_s,rate_rps,cv,pattern,param1,param2\n";
    const GOOD: &str = "a,0,0,1.5,1,Gamma,0.9,1\n";
    let pmf = |field: &str, pmf: &str| {
        format!("{{\"workload\":\"a\",\"client\":0,\"window_start_s\":0,\"field\":\"{field}\",\"pmf\":{pmf}}}\n")
    };
    let both = pmf("input_tokens", "{\"10\":0.5,\"20\":0.5}") + &pmf("output_tokens", "{\"0\":1.0}");
    let says = |rates: &str, lengths: &str, change: &dyn Fn(&mut PopulationSpec), parts: &[&str]| {
        let (rates, lengths) = (file(rates), file(lengths));
        let mut spec = PopulationSpec::new(rates.path(), lengths.path());
        change(&mut spec);
        let text = error(&spec);
        assert!(text.contains("; help: ") && parts.iter().all(|part| text.contains(part)), "{parts:?} in {text}");
    };
    let row = |row: &str, parts: &[&str]| says(&format!("{HEADER}{row}\n"), &both, &|_| {}, parts);
    row("a,x,0,1,1,Gamma,1,1", &[":2: column `client`: expected a client's number from 0 to 65535, found `x`"]);
    row("a,0,300,1,1,Gamma,1,1", &[":2: column `window_start_s`: expected a multiple of 600 s, found `300`"]);
    row("a,0,0,-1,1,Gamma,1,1", &[":2: column `rate_rps`: expected a rate from 0 to 10^9 requests/s, found `-1`"]);
    row("a,0,0,1,1,Pareto,1,1", &[":2: column `pattern`: expected `Gamma` or `Weibull`, found `Pareto`"]);
    row("a,0,0,1,1,Gamma,nan,1", &[":2: column `param1`: expected the shape of a Gamma distribution"]);
    row("a,0,0,1,1,Weibull,0.01,1", &[":2: column `param1`: expected the shape of a Weibull distribution"]);
    row("a,0,0,1,1,Gamma", &[":2: expected 8 fields as in the header, found 6"]);
    row(
        &format!("{GOOD}{GOOD}"),
        &[":3: column `window_start_s`: expected a later window than in the client's row before"],
    );
    row("a,0,0,0,0,,0,0", &["no client sends anything in the window"]);
    row(&format!("{GOOD}b,0,0,1,1,Gamma,1,1"), &["it has several workloads: a, b; help: name one"]);
    says(HEADER, &both, &|_| {}, &["there is a header and no rows"]);
    says("a,b\n", &both, &|_| {}, &[":1: the header `a,b` lacks workload, client, window_start_s"]);
    let rates = format!("{HEADER}{GOOD}");
    says(&rates, &both, &|spec| spec.workload = Some("m".into()), &["no workload is called `m`; it has a"]);
    let late = |spec: &mut PopulationSpec| spec.window.to = Some(seconds(601));
    says(&rates, &both, &late, &["the rates end after 600 s, the window goes beyond"]);
    says(&rates, "{\"workload\":\"a\"}\n", &|_| {}, &[":1:", "missing field `client`"]);
    says(&rates, &(both.clone() + "{\"x\n"), &|_| {}, &[":3:"]);
    says(&rates, &pmf("input_tokens", "{\"x\":1}"), &|_| {}, &[":1:", "`x` is no number"]);
    says(
        &rates,
        &pmf("input_tokens", "{\"5\":0.4}"),
        &|_| {},
        &["client 0, window 0 s, field `input_tokens`", "sum to 1, found 0.4"],
    );
    says(
        &rates,
        &pmf("input_tokens", "{\"5\":1}"),
        &|_| {},
        &["field `output_tokens`: expected this field, found none"],
    );
    // What is right: an output of 0 is the shortest there is.
    let (rates, lengths) = (file(rates), file(both));
    let spec = PopulationSpec::new(rates.path(), lengths.path());
    let arrivals = drain(&mut *spec.open(1).expect("opens")).expect("generates");
    assert!(arrivals.iter().all(|a| [10, 20].contains(&a.prompt_tokens) && a.output_tokens == 1));
}

#[test]
fn problems_name_their_place() {
    let mut spec = PopulationSpec::new("", "");
    spec.rate = Some(Rate(0.0));
    spec.requests = Some(0);
    spec.window = Window { from: Some(seconds(2)), to: Some(seconds(1)) };
    spec.missing_lengths = MissingLengths::Draw(LengthSpec::Fixed { prompt: 0, output: 1 });
    let paths: Vec<String> = spec.problems().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["rates", "lengths", "rate", "requests", "window.to", "missing_lengths.draw.fixed.prompt"]);
    assert!(matches!(spec.open(1), Err(TraceError::Spec(_))));
    let form = serde_json::json!({
        "rates": "r.csv", "lengths": "l.jsonl", "workload": "m-small", "window": {"to": "1d"}, "rate": "20/s",
        "missing_lengths": {"draw": "burstgpt"}, "classes": "client", "requests": 5,
    });
    let spec: PopulationSpec = serde_json::from_value(form.clone()).expect("reads");
    assert_eq!((serde_json::to_value(&spec).expect("writes"), spec.problems()), (form, vec![]));
}

whole_files!(
    requests_per_window_and_client_are_those_of_the_whole_file,
    lengths_have_the_means_of_the_file,
    attachments_are_part_of_the_prompt_six_hours_long,
    clients_without_lengths_are_counted_over_the_whole_file,
);

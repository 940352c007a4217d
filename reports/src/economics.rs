//! Energy per token, carbon and money: lines on the terminal, a table of the page, an entry of `summary.json`. All are empty where nothing
//! is stated and no watts are counted.

use overbook_sim::results::economics::KWH;
use overbook_sim::results::summary::Summary;

use crate::format::number;
use crate::json::Json;
use crate::table::Table;

/// Dollars, to three digits.
fn dollars(usd: f64) -> String {
    format!("${}", number(usd))
}

/// Kilowatt-hours of a million tokens, where one takes so many joules: 10⁶ ÷ 3.6·10⁶.
fn kwh_per_mtoken(joules: f64) -> f64 {
    joules * 1e6 / KWH
}

/// The lines on the terminal: (heading, text).
pub(crate) fn lines(summary: &Summary) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some((gpu, server, facility)) = summary.joules_per_token() {
        let both = |joules: f64| format!("{} ({})", number(joules), number(kwh_per_mtoken(joules)));
        let facility = facility.map_or(String::new(), |joules| format!(", facility {}", both(joules)));
        let told =
            format!("J per output token (kWh per million): GPUs {}, servers {}{facility}", both(gpu), both(server));
        lines.push(("energy", told));
    }
    if let Some(grams) = summary.carbon_grams() {
        let each = summary.metric("carbon_per_mtoken");
        let each = each.map_or(String::new(), |each| format!(", {} g per million output tokens", number(each)));
        lines.push(("carbon", format!("{} kg{each}", number(grams / 1e3))));
    }
    if let (Some(money), Some(output)) = (summary.money(), summary.cost_per_mtoken_output()) {
        let energy = if money.energy > 0.0 { format!(" and {} energy", dollars(money.energy)) } else { String::new() };
        let mut told = format!(
            "{} of GPUs{energy}: {} per million output tokens (all of it on them)",
            dollars(money.hardware),
            dollars(output)
        );
        if let Some((input, output)) = summary.break_even() {
            told = format!("{told}; pays at {} in, {} out", dollars(input), dollars(output));
        }
        lines.push(("money", told));
    }
    lines
}

/// The page's table.
pub(crate) fn table(summary: &Summary) -> Table {
    let mut table = Table {
        title: "Energy, carbon, money".to_owned(),
        header: ["Figure", "GPUs", "Servers", "Facility"].map(str::to_owned).into(),
        rows: Vec::new(),
        note: String::new(),
    };
    let mut add = |name: String, cells: [Option<String>; 3]| {
        table.rows.push([name].into_iter().chain(cells.map(Option::unwrap_or_default)).collect());
    };
    let energy = ["energy_gpu_kwh", "energy_server_kwh", "energy_facility_kwh"].map(|name| summary.metric(name));
    if energy[0].is_some() {
        add("Energy [kWh]".to_owned(), energy.map(|kwh| kwh.map(number)));
    }
    if let Some((gpu, server, facility)) = summary.joules_per_token() {
        let joules = [Some(gpu), Some(server), facility];
        add("J per output token".to_owned(), joules.map(|joules| joules.map(number)));
        add("kWh per million output tokens".to_owned(), joules.map(|joules| joules.map(|j| number(kwh_per_mtoken(j)))));
    }
    let money = summary.money();
    let total = |value: Option<f64>| [None, None, value.map(number)];
    if let Some(grams) = summary.carbon_grams() {
        add("Carbon dioxide [kg]".to_owned(), total(Some(grams / 1e3)));
        add("g per million output tokens".to_owned(), total(summary.metric("carbon_per_mtoken")));
    }
    if let Some(usd) = summary.energy_cost() {
        let beside = money.is_none_or(|money| money.energy > 0.0);
        let name = if beside { "Energy [$]" } else { "Energy [$], held by the rent" };
        add(name.to_owned(), total(Some(usd)));
    }
    if let Some(money) = money {
        add("GPU hours [$]".to_owned(), [Some(number(money.hardware)), None, None]);
        add("All of it [$]".to_owned(), total(Some(money.total())));
        add("$ per million tokens, prompt and output".to_owned(), total(summary.metric("cost_per_mtoken")));
        add("$ per million output tokens, all on them".to_owned(), total(summary.cost_per_mtoken_output()));
    }
    if let Some((input, output)) = summary.break_even() {
        add("$ per million prompt tokens, to break even".to_owned(), total(Some(input)));
        add("$ per million output tokens, to break even".to_owned(), total(Some(output)));
    }
    for line in summary.sensitivities() {
        let (less, more) = line.usd;
        let told = format!("{} to {}", number(less), number(more));
        add(format!("$ per million output tokens with −20 % and +20 % of: {}", line.of), [None, None, Some(told)]);
    }
    "Facility: servers × PUE. Tokens are those of finished requests; energy is that of the whole run. What is not stated is left out, and nothing stands in its place \
                  (docs/metrics.md)."
        .clone_into(&mut table.note);
    table
}

fn object(entries: Vec<(&str, Json)>) -> Json {
    Json::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn float(value: Option<f64>) -> Json {
    value.map_or(Json::Null, Json::Float)
}

/// The entry of `summary.json`: money, where a price of GPUs is known.
pub(crate) fn entry(summary: &Summary) -> Option<Json> {
    let economics = summary.economics.as_deref()?;
    let money = summary.money();
    let of = |name: &str| float(summary.metric(name));
    let lines = summary.sensitivities();
    let sensitivity = lines.iter().map(|line| {
        object(vec![
            ("of", line.of.into()),
            ("less_20_percent", Json::Float(line.usd.0)),
            ("more_20_percent", Json::Float(line.usd.1)),
        ])
    });
    Some(object(vec![
        ("gpu_hours", of("gpu_hours")),
        ("usd_per_gpu_hour", float(economics.gpu_hour)),
        ("utilization", Json::Float(economics.utilization)),
        ("usd_per_kwh", float(economics.energy)),
        ("pue", float(economics.pue)),
        ("hardware_usd", float(money.map(|money| money.hardware))),
        ("energy_usd", float(money.map(|money| money.energy))),
        ("total_usd", float(money.map(|money| money.total()))),
        ("usd_per_mtoken", of("cost_per_mtoken")),
        ("usd_per_mtoken_output", of("cost_per_mtoken_output")),
        ("break_even_input_usd_per_mtoken", of("break_even_input")),
        ("break_even_output_usd_per_mtoken", of("break_even_output")),
        ("carbon_g_per_mtoken_output", of("carbon_per_mtoken")),
        ("usd_per_mtoken_output_sensitivity", Json::List(sensitivity.collect())),
    ]))
}

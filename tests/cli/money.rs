//! What a run costs: the price of tokens with and without watts, carbon by the hour, and prices that make no sense.

use serde_json::Value;

use super::home::{Home, SMALL};

/// A row of two servers with watts.
const POWERED: &str = "\
version: 1
name: small
workload:
  generate:
    arrivals: { poisson: { rate: 1/s } }
    lengths: { fixed: { prompt: 200, output: 50 } }
    duration: 90min
model: llama-3.1-8b
fleet: { server: dgx-h100, replicas: 2, tensor_parallel: 8, row: {} }
";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, not {value}"))
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs(), "{a} is not {b}");
}

#[test]
fn tokens_have_a_price_without_watts() {
    let home = Home::new();
    home.write("small.yaml", format!("{SMALL}economics: {{ price: 3/gpu-h, utilization: 0.6, output_weight: 4 }}\n"));
    let told = home.overbook("run small.yaml --out a --no-rows").ends(0).out;
    assert!(told.contains("per million output tokens") && told.contains("pays at $"), "{told}");
    let summary = home.json("a/summary.json");
    let economics = &summary["economics"];
    let total = number(&economics["gpu_hours"]) * 3.0 / 0.6;
    near(number(&economics["total_usd"]), total);
    // 300 requests of 200 and 50 tokens.
    near(number(&economics["usd_per_mtoken_output"]), total / 0.015);
    near(number(&economics["usd_per_mtoken"]), total / 0.075);
    let input = number(&economics["break_even_input_usd_per_mtoken"]);
    near(number(&economics["break_even_output_usd_per_mtoken"]), 4.0 * input);
    near(input * 0.06 + 4.0 * input * 0.015, total);
    assert_eq!((&economics["carbon_g_per_mtoken_output"], &economics["pue"]), (&Value::Null, &Value::Null));
    let sensitivity = economics["usd_per_mtoken_output_sensitivity"].as_array().expect("a list");
    assert_eq!(sensitivity.len(), 2, "{sensitivity:?}");
    let page = home.text("a/report.html");
    assert!(page.contains("Energy, carbon, money") && page.contains("−20 % and +20 % of: utilization"));
}

#[test]
fn energy_and_carbon_go_by_the_facility_and_the_hour() {
    let home = Home::new();
    home.write("grid.csv", "hour,g_per_kwh\n0,100\n1,500\n");
    let capex =
        "capex: { usd_per_gpu: 40000, years: 5 }, energy: 0.1/kWh, pue: 1.25, carbon: { file: { path: grid.csv } }";
    home.write("row.yaml", format!("{POWERED}economics: {{ {capex} }}\n"));
    home.overbook("run row.yaml --out a --no-rows").ends(0);
    let summary = home.json("a/summary.json");
    let (power, economics) = (&summary["power"], &summary["economics"]);
    let servers = number(&power["energy_kwh"]["servers"]);
    near(number(&power["energy_kwh"]["facility"]), servers * 1.25);
    near(number(&economics["energy_usd"]), servers * 1.25 * 0.1);
    near(number(&economics["hardware_usd"]), number(&economics["gpu_hours"]) * 40_000.0 / (5.0 * 8760.0));
    // Between all of it in the clean hour and all in the other one.
    let carbon = number(&power["carbon_kg"]) * 1e3 / (servers * 1.25);
    assert!(carbon > 150.0 && carbon < 300.0, "{carbon} g/kWh");
    home.write("flat.yaml", format!("{POWERED}economics: {{ pue: 1.25, carbon: {{ g_per_kwh: 200 }} }}\n"));
    home.overbook("run flat.yaml --out b --no-rows").ends(0);
    near(number(&home.json("b/summary.json")["power"]["carbon_kg"]), servers * 1.25 * 0.2);
}

#[test]
fn senseless_prices_are_refused_with_their_place() {
    let home = Home::new();
    let told = |text: &str, economics: &str| {
        home.write("wrong.yaml", format!("{text}economics: {{ {economics} }}\n"));
        home.refused(["run", "wrong.yaml", "--out", "x"])
    };
    home.write("grid.csv", "hour,g_per_kwh\n0,100\n1,lots\n");
    let grid = told(POWERED, "pue: 1.2, carbon: { file: { path: grid.csv } }");
    assert!(grid.contains("grid.csv:3:3: `lots` is no number of grams"), "{grid}");
    let missing = told(POWERED, "pue: 1.2, carbon: { file: { path: nowhere.csv } }");
    assert!(missing.contains("there is no file"), "{missing}");
    let bare = told(SMALL, "price: 3");
    assert!(bare.contains("wrong.yaml:12") && bare.contains("2.5/gpu-h"), "{bare}");
    let without = told(SMALL, "price: 3/gpu-h, energy: 0.1/kWh");
    assert!(without.contains("`energy` has no effect where watts are not counted"), "{without}");
    let overhead = told(POWERED, "energy: 0.1/kWh");
    assert!(overhead.contains("needs `economics.pue`"), "{overhead}");
    let unknown = told(SMALL, "prices: { h300: 3/gpu-h }");
    assert!(unknown.contains("no GPU is called `h300`"), "{unknown}");
    let hours = told(POWERED, "pue: 1.2, carbon: { hourly: [1, 2] }");
    assert!(hours.contains("has 2 values; a day has 24 hours"), "{hours}");
}

#[test]
fn a_cap_needs_spans_as_short_as_its_device() {
    let home = Home::new();
    home.write("row.yaml", format!("{POWERED}power: power-cap\n"));
    let told = home.refused(["run", "row.yaml", "--out", "x"]);
    assert!(told.contains("`resolution` is 1s, too long for `power-cap`") && told.contains("at most 250ms"), "{told}");
    home.overbook(
        "run row.yaml --out a --no-rows --set fleet.row.resolution=250ms --set workload.generate.duration=5min",
    )
    .ends(0);
}

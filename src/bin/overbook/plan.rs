//! `overbook plan`: the cheapest fleet that keeps the promises of a scenario.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use overbook::{Experiment, Options, PlanOutcome, Status};
use overbook_reports::RunDir;
use overbook_reports::manifest::Start;
use overbook_reports::plan::LEDGER;
use overbook_scenarios::export::kubernetes;

use crate::check::experiment;
use crate::cli::{Globals, ScenarioArgs};
use crate::facts;
use crate::output::{DONE, Failure, GATE_FAILED, INTERRUPTED, note, print};
use crate::place;
use crate::run::quote;
use crate::watch::catch_interrupts;

#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// GPU types to choose from, e.g. `h100,h200` (`plan.gpus`).
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub(crate) gpus: Vec<String>,
    /// Servers to choose from in place of GPUs, e.g. `dgx-h100,dgx-h200`: then servers and watts are counted (`plan.servers`).
    #[arg(long, value_delimiter = ',', value_name = "NAMES", conflicts_with = "gpus")]
    pub(crate) servers: Vec<String>,
    /// What the fleet shall have the least of: `usd`, `gpus`, `servers` or `kw` (`plan.objective`).
    #[arg(long, value_name = "WHAT")]
    pub(crate) objective: Option<String>,
    /// What its servers may draw at their peak, e.g. `40kW` (`plan.power_most`).
    #[arg(long, value_name = "WATTS", allow_hyphen_values = true)]
    pub(crate) power_most: Option<String>,
    /// Where prompts and decodes are apart, each side may have GPUs and parallelism of its own (`plan.mixed`).
    #[arg(long)]
    pub(crate) mixed: bool,
    /// What an hour of a GPU costs on demand, beside `--price` of one that is reserved: `4/gpu-h`, or `h100=4/gpu-h` for one type
    /// (`plan.on_demand`, `plan.on_demand_prices`).
    #[arg(long, value_name = "[GPU=]PRICE", allow_hyphen_values = true)]
    pub(crate) on_demand: Vec<String>,
    /// What an hour of a GPU costs: `2.5/gpu-h` for all types, or `h100=2.5/gpu-h` for one; may be given several times (`plan.price`,
    /// `plan.prices`).
    #[arg(long, value_name = "[GPU=]PRICE", allow_hyphen_values = true)]
    pub(crate) price: Vec<String>,
    /// GPUs that may split a copy of the model, e.g. `1,2,4` (`plan.tensor_parallel`).
    #[arg(long, value_delimiter = ',', value_name = "COUNTS")]
    pub(crate) tensor_parallel: Vec<String>,
    /// Multiples of the load for which the fleet is also sized, e.g. `2,4` (`plan.growth`).
    #[arg(long, value_delimiter = ',', value_name = "FACTORS", allow_hyphen_values = true)]
    pub(crate) growth: Vec<String>,
    /// Replicas that may be lost in the middle of the busiest stretch: 0 or 1 (`plan.survive`).
    #[arg(long, value_name = "N")]
    pub(crate) survive: Option<String>,
    /// Directory for plan.json, plan.md, load.csv, ledger.csv (and .parquet), report.html and the files that start the answer [default: runs/NAME-plan-HASH].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Replace an existing directory.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print plan.json instead of the summary.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 3 if no fleet keeps the promises, or if it is too close to call.
    #[arg(long)]
    pub(crate) gate: bool,
    /// Show no progress.
    #[arg(long)]
    pub(crate) no_progress: bool,
    /// Fleets that are tried at once [default: one per processor].
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
}

pub(crate) fn run(args: &PlanArgs, globals: &Globals) -> Result<u8, Failure> {
    let experiment = changed(args, globals)?;
    let name = experiment.name().unwrap_or("plan").to_owned();
    let default = || PathBuf::from(format!("runs/{name}-plan-{}", &experiment.text_hash()[..8]));
    let (out, force) = args.out.clone().map_or_else(|| (default(), true), |out| (out, args.force));
    let dir = place::run_dir(&out, force)?;
    let start = Start::now();
    let options = Options { jobs: args.jobs, cancel: catch_interrupts(), ..Options::default() };
    let speaks = !globals.quiet && !args.no_progress;
    let found = experiment.plan(&options, &command(args), &|news| {
        if speaks {
            note(news);
        }
    });
    let outcome = found.map_err(|error| Failure::of(error, globals))?;
    let code = code(args, &outcome);
    write_files(&dir, &outcome)?;
    let plan = &outcome.plan;
    let traces = outcome.point.as_ref().map_or_else(Vec::new, |point| point.scenario.inputs());
    let seed = outcome.point.as_ref().map_or(0, |point| point.scenario.seed);
    let manifest =
        start.manifest(&facts::BUILD, facts::command(), (experiment.text_hash(), seed), &traces, (plan.status, code));
    dir.finish(&manifest).map_err(anyhow::Error::new)?;
    print(&if args.json { plan.json() } else { plan.terminal() })?;
    if !args.json {
        print(&format!("results: {}", out.display()))?;
    }
    if speaks {
        let cpu = start.cpu_s().map_or_else(|| "–".to_owned(), |cpu| format!("{cpu:.1}"));
        note(&format!("{} ledger rows in {cpu} CPU s", plan.ledger.len()));
    }
    Ok(code)
}

fn code(args: &PlanArgs, outcome: &PlanOutcome) -> u8 {
    let plan = &outcome.plan;
    match plan.status {
        Status::Interrupted => INTERRUPTED,
        _ if args.gate && (plan.answer.is_none() || plan.too_close_to_call) => GATE_FAILED,
        _ => DONE,
    }
}

/// The scenario with the flags of the command line in its `plan:`.
fn changed(args: &PlanArgs, globals: &Globals) -> Result<Experiment, Failure> {
    let mut experiment = experiment(&args.scenario, globals)?;
    let lists = [
        ("gpus", &args.gpus),
        ("servers", &args.servers),
        ("tensor_parallel", &args.tensor_parallel),
        ("growth", &args.growth),
    ];
    for (key, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
        experiment = experiment.set_yaml(&format!("plan.{key}"), &format!("[{}]", values.join(", ")));
    }
    for (prices, of_all, of_one) in
        [(&args.price, "price", "prices"), (&args.on_demand, "on_demand", "on_demand_prices")]
    {
        for price in prices {
            experiment = match price.split_once('=') {
                Some((gpu, price)) => experiment.set_yaml(&format!("plan.{of_one}.{}", gpu.trim()), price),
                None => experiment.set_yaml(&format!("plan.{of_all}"), price),
            };
        }
    }
    let single =
        [("survive", &args.survive), ("objective", &args.objective), ("power_most", &args.power_most)].into_iter();
    for (key, value) in single.filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        experiment = experiment.set_yaml(&format!("plan.{key}"), value);
    }
    if args.mixed {
        experiment = experiment.set_yaml("plan.mixed", "true");
    }
    Ok(experiment)
}

fn write_files(dir: &RunDir, outcome: &PlanOutcome) -> Result<(), Failure> {
    let plan = &outcome.plan;
    let write = |name: &str, contents: String| dir.write(name, contents).map_err(anyhow::Error::new);
    write("plan.json", plan.json())?;
    write("ledger.csv", plan.ledger_csv())?;
    dir.write(LEDGER, plan.ledger_parquet().map_err(anyhow::Error::new)?).map_err(anyhow::Error::new)?;
    write("load.csv", plan.load_csv())?;
    write("plan.md", plan.markdown())?;
    write("report.html", plan.html().map_err(anyhow::Error::new)?)?;
    if let Some(point) = &outcome.point {
        write("answer.yaml", point.scenario.to_yaml())?;
        write("kubernetes.yaml", kubernetes(point))?;
    }
    Ok(())
}

/// The command that makes the same plan again.
fn command(args: &PlanArgs) -> String {
    let mut words = vec!["overbook plan".to_owned(), quote(&args.scenario.scenario)];
    let mut flag = |name: &str, value: &str| words.push(format!("--{name} {}", quote(std::path::Path::new(value))));
    args.scenario.set.iter().for_each(|change| flag("set", change));
    if let Some(seed) = args.scenario.seed {
        flag("seed", &seed.to_string());
    }
    let lists = [
        ("gpus", &args.gpus),
        ("servers", &args.servers),
        ("tensor-parallel", &args.tensor_parallel),
        ("growth", &args.growth),
    ];
    for (name, values) in lists {
        if !values.is_empty() {
            flag(name, &values.join(","));
        }
    }
    args.price.iter().for_each(|price| flag("price", price));
    args.on_demand.iter().for_each(|price| flag("on-demand", price));
    let single = [("survive", &args.survive), ("objective", &args.objective), ("power-most", &args.power_most)];
    for (name, value) in single.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        flag(name, value);
    }
    if args.mixed {
        words.push("--mixed".to_owned());
    }
    words.join(" ")
}

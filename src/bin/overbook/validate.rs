//! `overbook validate`: simulate measured runs of real engines, and compare every published figure.

use std::fs;
use std::path::Path;

use overbook::TOOL;
use overbook::validation::{ASSUMED_LENGTHS, Judged, Simulated, Terms, Training, fit, judge};
use overbook_reports::validation::{
    Validation, validation_csv, validation_html, validation_json, validation_parquet, validation_text,
};
use overbook_scenarios::hull::{ErrorTable, Hull};
use overbook_scenarios::measured::{Constants, MeasuredRun};
use overbook_scenarios::{Source, small_file};

use crate::cli::{Globals, ValidateArgs};
use crate::fidelity;
use crate::output::{DONE, FAILED, Failure, note, print};
use crate::place;
use crate::run::quote;

/// A set that its origin calls experimental, and whose times to first token fall as load rises: it confirms nothing, and refutes nothing.
const EXPERIMENTAL: &str = "inferencex-h200";

/// Runs that cannot have a change and are named.
const REFUSED_SHOWN: usize = 5;

pub(crate) fn run(args: &ValidateArgs, globals: &Globals) -> Result<u8, Failure> {
    let measured = match (&args.scenario, &args.measured) {
        (Some(scenario), _) => return fidelity::run(args, scenario, globals),
        (None, Some(measured)) => measured,
        (None, None) => return Err(Failure::Input("name a scenario, or a folder with --measured".into())),
    };
    let changes = changes(&args.set)?;
    let prompts = prompts(args.prompts)?;
    let all = MeasuredRun::read(measured).map_err(Failure::input)?;
    let wanted = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|one| one == value);
    let mut runs = all.clone();
    runs.retain(|run| wanted(&args.only, run.text("set")) && wanted(&args.run, run.id()));
    runs.retain(|run| wanted(&args.quality, run.text("quality")));
    if runs.is_empty() {
        return Err(Failure::Input(format!("{}: no such runs", measured.display())));
    }
    let training = args.training.as_ref().map(|path| training(path, &runs)).transpose()?;
    let given = args.constants.as_ref().map(|path| constants(path)).transpose()?;
    let refused = refuse_wrong_changes(&runs, &changes, globals)?;
    if let Some(out) = &args.out {
        place::folder(out)?;
    }
    let fitted = args.fit.then(|| fit(&runs, training.as_deref().unwrap_or_default()));
    let constants = match (&fitted, given) {
        (Some(fitted), _) => fitted.constants.clone(),
        (None, Some(given)) => given,
        (None, None) => Constants::embedded(),
    };
    let terms = Terms { constants, changes, prompts, training: training.as_deref(), all: &all };
    let mut validation = Validation { tool: TOOL.to_owned(), command: command(args), ..Validation::default() };
    let table = fitted.as_ref().map(|fitted| fitted.table.clone());
    validation.left_out = fitted.map_or_else(Vec::new, |fitted| fitted.left_out);
    let (mut scenarios, mut cases, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for judged in judge(&runs, &terms, None) {
        match judged {
            Judged::Run(simulated) => {
                let Simulated { run, rest, case, scenario } = *simulated;
                scenarios.push((run.id.clone(), scenario));
                // What was fitted on confirms nothing, nor does a run whose lengths are assumed.
                let described = !run.quality.ends_with(ASSUMED_LENGTHS) && run.set != EXPERIMENTAL;
                let confirms = run.training != Some(true) && described;
                errors.extend(confirms.then(|| (case.clone(), run.figure_errors())));
                cases.extend(run.distance().filter(|_| confirms).map(|distance| (case, distance)));
                validation.runs.push(run);
                validation.runs.extend(rest);
            }
            Judged::Missed(run) => validation.missed.push(run),
        }
    }
    if let Some(out) = &args.out {
        write(out, &validation, &scenarios)?;
        let (hull, errors) = (Hull::around(&cases).to_yaml(), ErrorTable::of(&errors).to_csv());
        write_texts(out, [("constants.yaml", terms.constants.to_yaml()), ("hull.yaml", hull), ("errors.csv", errors)])?;
        if !globals.quiet {
            note(&format!("results: {}", out.display()));
        }
    }
    if let Some(table) = table.filter(|_| !args.json) {
        print(&format!("{table}\n"))?;
    }
    print(&if args.json { validation_json(&validation) } else { validation_text(&validation) })?;
    Ok(refused.map_or(DONE, |refused| refused.tell(runs.len())))
}

/// How many times as long assumed prompts are made.
fn prompts(times: Option<f64>) -> Result<f64, Failure> {
    let times = times.unwrap_or(1.0);
    if (0.01..=100.0).contains(&times) {
        return Ok(times);
    }
    Err(Failure::Input(format!("--prompts {times}: expected a number between 0.01 and 100, e.g. --prompts 0.5")))
}

fn write_texts(out: &Path, texts: [(&str, String); 3]) -> Result<(), Failure> {
    let mut texts = texts.into_iter();
    let write = |(name, text)| fs::write(out.join::<&str>(name), text);
    texts.try_for_each(write).map_err(|error| Failure::Run(anyhow::Error::new(error)))
}

fn constants(path: &Path) -> Result<Constants, Failure> {
    let told = |error: &dyn std::fmt::Display| Failure::Input(format!("{}: {error}", path.display()));
    let text = small_file::read_text(path, small_file::SETTINGS_MAX).map_err(|error| told(&error))?;
    Constants::parse(&text).map_err(|error| told(&error))
}

/// Changes to every scenario: path and value.
fn changes(args: &[String]) -> Result<Vec<(&str, &str)>, Failure> {
    let no_path = |change: &String| {
        let message = format!("--set {change}: expected PATH=VALUE, e.g. --set engine.host.base=1ms");
        Failure::Input(format!("{message}; a set of measured runs is chosen with --only {change}"))
    };
    args.iter().map(|change| change.split_once('=').ok_or_else(|| no_path(change))).collect()
}

/// Runs whose scenarios cannot have the changes, and why the first of them cannot. Changes that no run's can have are a mistake of
/// the command, not of the runs.
struct Refused {
    runs: Vec<String>,
    why: String,
}

impl Refused {
    fn tell(&self, all: usize) -> u8 {
        let Refused { runs, why } = self;
        let named = runs.iter().take(REFUSED_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = runs.len().saturating_sub(REFUSED_SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        note(&format!(
            "error: {} of {all} runs cannot have what --set changes, and are not in the figures: {named}{more}; {why}; choose \
             runs with --only or --run",
            runs.len()
        ));
        FAILED
    }
}

fn refuse_wrong_changes(
    runs: &[MeasuredRun],
    changes: &[(&str, &str)],
    globals: &Globals,
) -> Result<Option<Refused>, Failure> {
    if changes.is_empty() {
        return Ok(None);
    }
    let constants = Constants::embedded();
    let (mut refused, mut first, mut taken) = (Vec::new(), None, false);
    for run in runs {
        let Ok(imitation) = run.scenario(&constants) else { continue };
        let mut source = Source::from_text(&imitation.scenario.name, &imitation.scenario.to_yaml());
        if source.resolve().is_err() {
            continue;
        }
        for (path, value) in changes {
            source.set(path.trim(), value);
        }
        match source.resolve() {
            Ok(_) => taken = true,
            Err(problems) => {
                refused.push(run.id().to_owned());
                first = first.or(Some(problems));
            }
        }
    }
    match first {
        None => Ok(None),
        Some(problems) if !taken => Err(Failure::of(overbook::Error::Scenario(problems), globals)),
        Some(problems) => {
            let why = problems.list().first().map_or_else(String::new, |problem| problem.message.clone());
            Ok(Some(Refused { runs: refused, why }))
        }
    }
}

/// The list of training runs.
fn training(path: &Path, runs: &[MeasuredRun]) -> Result<Vec<Training>, Failure> {
    let text = small_file::read_text(path, small_file::SETTINGS_MAX)
        .map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
    let listed = Training::parse(&text).map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
    if !listed.is_empty() && !runs.iter().any(|run| listed.iter().any(|one| one.id == run.id())) {
        note(&format!("{}: none of these runs is among those simulated", path.display()));
    }
    Ok(listed)
}

fn command(args: &ValidateArgs) -> String {
    let mut words = vec!["overbook validate".to_owned()];
    words.extend(args.measured.iter().map(|measured| format!("--measured {}", quote(measured))));
    for (flag, values) in
        [("--only", &args.only), ("--run", &args.run), ("--quality", &args.quality), ("--set", &args.set)]
    {
        words.extend(values.iter().map(|value| format!("{flag} {}", quote(Path::new(value)))));
    }
    words.extend(args.prompts.iter().map(|times| format!("--prompts {times}")));
    words.extend(args.training.iter().map(|path| format!("--training {}", quote(path))));
    words.extend(args.constants.iter().map(|path| format!("--constants {}", quote(path))));
    words.extend(args.fit.then(|| "--fit".to_owned()));
    words.join(" ")
}

fn write(out: &Path, validation: &Validation, scenarios: &[(String, String)]) -> Result<(), Failure> {
    let folder = out.join("scenarios");
    let context = |error| Failure::Run(anyhow::Error::new(error).context(format!("cannot write {}", out.display())));
    fs::create_dir_all(&folder).map_err(context)?;
    fs::write(out.join("validation.json"), validation_json(validation)).map_err(context)?;
    fs::write(out.join("validation.csv"), validation_csv(validation)).map_err(context)?;
    let table = validation_parquet(validation).map_err(anyhow::Error::new)?;
    fs::write(out.join("validation.parquet"), table).map_err(context)?;
    let page = validation_html(validation).map_err(anyhow::Error::new)?;
    fs::write(out.join("validation.html"), page).map_err(context)?;
    for (id, scenario) in scenarios {
        fs::write(folder.join(format!("{id}.yaml")), scenario).map_err(context)?;
    }
    Ok(())
}

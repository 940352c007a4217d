//! `overbook init`: from the command of a server and a log of requests to a scenario that runs, and today's figures.

mod args;
mod dashboard;
mod text;

use std::path::{Path, PathBuf};

use overbook::{Experiment, Options};
use overbook_reports::terminal;
use overbook_scenarios::Catalog;
use overbook_scenarios::import::{CommandError, Served, catalog_name, sglang_served, vllm_served};
use overbook_sim::results::rows::Discard;
use overbook_traces::{ArrivalSpec, Choice, Guess, Hints, RowFault, Usage};

use crate::check;
use crate::cli::{Globals, ScenarioArgs};
use crate::output::{DONE, FAILED, Failure, INTERRUPTED, color_stdout, note, print, print_painted, shows_progress};
use crate::place;
use crate::run::quote;
use crate::watch::{Display, catch_interrupts};
pub(crate) use args::InitArgs;
use text::{Draft, Requests};

pub(crate) fn run(args: &InitArgs, globals: &Globals) -> Result<u8, Failure> {
    let gpu = gpu(args)?;
    if let Some(log) = args.log.as_deref().filter(|log| place::is_same(log, &args.out)) {
        let (log, out) = (log.display(), args.out.display());
        return Err(Failure::Input(format!(
            "--out {out} is the log {log} itself, which would be lost; name another file"
        )));
    }
    place::file(&args.out, args.force)?;
    if let Some(log) = args.log.as_deref().filter(|log| log.exists() && !log.is_file()) {
        let message = "a log is read several times, which a pipe or a folder cannot be; name a file";
        return Err(Failure::Input(format!("{}: {message}", log.display())));
    }
    let usage = args.log.as_deref().map(usage).transpose()?.flatten();
    let log = args.log.as_deref().filter(|_| usage.is_none());
    let guess = log.map(|log| guess(args, log)).transpose()?;
    let served = served(args, guess.as_ref())?;
    let log = log.map(|log| from_folder(log, &args.out)).transpose()?;
    let keep = guess.as_ref().map(|guess| kept(args, guess, &served)).transpose()?.flatten();
    let requests = match (&guess, log, &usage) {
        (Some(guess), Some(path), _) => Requests::Log { guess, path, keep: keep.as_ref() },
        (.., Some(usage)) => Requests::Usage(usage),
        _ => Requests::Placeholder,
    };
    let scenario = Draft { name: name(args), served: &served, gpu, requests }.text();
    valid(args, &scenario, globals)?;
    std::fs::write(&args.out, &scenario)
        .map_err(|error| Failure::Input(format!("cannot write {}: {error}", args.out.display())))?;
    if !globals.quiet {
        if let Some(usage) = &usage {
            note(&text::of_usage(usage));
        } else {
            tell_requests(guess.as_ref(), keep.as_ref());
        }
        tell_server(&served);
        note(&format!("wrote {}", args.out.display()));
    }
    if args.no_run { Ok(DONE) } else { figures(args, globals) }
}

/// Checks a scenario before it is written.
fn valid(args: &InitArgs, scenario: &str, globals: &Globals) -> Result<(), Failure> {
    let checked = Experiment::from_text(&args.out.display().to_string(), scenario)
        .study()
        .map_err(|error| Failure::of(error, globals))
        .and_then(|study| check::requests(&study, globals));
    if checked.is_err() {
        note(&format!(
            "{} was not written: a setting of the command or the log has no valid scenario",
            args.out.display()
        ));
    }
    checked
}

/// Runs the scenario, and prints what it comes to.
fn figures(args: &InitArgs, globals: &Globals) -> Result<u8, Failure> {
    let scenario = ScenarioArgs { scenario: args.out.clone(), set: Vec::new(), seed: None };
    let study = check::load(&scenario, globals)?;
    check::requests(&study, globals)?;
    let options = Options { cancel: catch_interrupts(), ..Options::default() };
    let display = Display::new(!globals.quiet && shows_progress(), study.points()[0].scenario.workload.requests());
    let outcome = study.record(&options, &mut Discard, &mut |progress| display.show(progress));
    display.finish();
    let outcome = outcome.map_err(|error| Failure::of(error, globals))?;
    let command = format!("overbook run {}", quote(&args.out));
    let report = outcome.report(&command, &format!("not kept; `{command}` writes them, with a page"));
    print_painted(&terminal::summary(&report, color_stdout(globals)))?;
    print(&dashboard::table(&outcome.summary))?;
    Ok(match outcome.status {
        overbook::Status::Interrupted => INTERRUPTED,
        overbook::Status::Failed => FAILED,
        overbook::Status::Complete => DONE,
    })
}

/// The GPU by its name in the catalog.
fn gpu(args: &InitArgs) -> Result<&str, Failure> {
    match Catalog::embedded().gpu(&args.gpu) {
        Ok(_) => Ok(&args.gpu),
        Err(error) => Err(Failure::Input(format!("--gpu {}: {error}", args.gpu))),
    }
}

/// The sums of an export of usage; `None` if the log is none.
fn usage(log: &Path) -> Result<Option<Usage>, Failure> {
    // What cannot be read says so where it is read as a log.
    if !Usage::is_in(log).unwrap_or(false) {
        return Ok(None);
    }
    Usage::read(log).map(Some).map_err(Failure::input)
}

/// Looks at the log.
fn guess(args: &InitArgs, log: &Path) -> Result<Guess, Failure> {
    let hints = Hints {
        arrival: args.arrival.clone(),
        prompt: args.prompt.clone(),
        output: args.output.clone(),
        session: args.session.clone(),
        class: args.class.clone(),
        unit: args.unit.map(Into::into),
        records: args.records.clone(),
        arrivals: args.rate.map(|rate| ArrivalSpec::Poisson { rate }),
    };
    Guess::of(log, &hints).map_err(Failure::input)
}

/// The server that the command line describes; without one, the model alone.
fn served(args: &InitArgs, guess: Option<&Guess>) -> Result<Served, Failure> {
    let of = |error: CommandError| match (&error, &args.model) {
        (CommandError::Model { .. }, None) => {
            Failure::Input(format!("{error}; `--model NAME` takes another one in its place"))
        }
        _ => Failure::input(error),
    };
    // A name of the catalog stands for a model that the catalog does not know, or the command does not name.
    let named = |command: &str| match &args.model {
        Some(model) => format!("{command} --model {model}"),
        None => command.to_owned(),
    };
    match (&args.vllm, &args.sglang) {
        (Some(command), _) => vllm_served(&named(command)).map_err(of),
        (None, Some(command)) => sglang_served(&named(command)).map_err(of),
        (None, None) => {
            let model = args.model.clone().or_else(|| guess.and_then(model_of)).ok_or_else(|| {
                Failure::Input("which model? give `--vllm 'vllm serve …'`, `--sglang '…'` or `--model NAME`".to_owned())
            })?;
            vllm_served(&format!("vllm serve {model}")).map_err(of)
        }
    }
}

/// The model that most requests of a log name, if the catalog knows it.
fn model_of(guess: &Guess) -> Option<String> {
    let (most, _) = guess.classes.iter().max_by_key(|(_, requests)| *requests)?;
    catalog_name(most).map(|_| most.clone())
}

/// The classes of the log that go to this server: those that are its model, if some are and others are not.
fn kept(args: &InitArgs, guess: &Guess, served: &Served) -> Result<Option<Vec<String>>, Failure> {
    if args.keep == ["all"] {
        return Ok(None);
    }
    let known = |name: &String| guess.classes.iter().any(|(class, _)| class.eq_ignore_ascii_case(name.trim()));
    if let Some(unknown) = args.keep.iter().find(|name| !known(name)) {
        let of: Vec<&str> = guess.classes.iter().map(|(class, _)| class.as_str()).collect();
        return Err(Failure::Input(format!(
            "--keep {unknown}: the log has no requests of this class; it has {}; help: `--class NAME` names the column with the classes",
            of.join(", ")
        )));
    }
    if !args.keep.is_empty() {
        return Ok(Some(args.keep.clone()));
    }
    let of_model =
        |class: &str| class == served.said || catalog_name(class).is_some_and(|(name, _)| name == served.model);
    let own: Vec<String> =
        guess.classes.iter().map(|(class, _)| class.clone()).filter(|class| of_model(class)).collect();
    Ok((!own.is_empty() && own.len() < guess.classes.len()).then_some(own))
}

/// The path of the log as the scenario's folder sees it.
fn from_folder(log: &Path, out: &Path) -> Result<PathBuf, Failure> {
    let here = out.parent().is_none_or(|folder| folder.as_os_str().is_empty());
    let log = if here || log.is_absolute() {
        log.to_owned()
    } else {
        log.canonicalize().map_err(|error| Failure::Input(format!("{}: {error}", log.display())))?
    };
    if log.to_str().is_none() {
        let message =
            "the path is not UTF-8, and a scenario cannot name it; rename the file or its folder, or link to it";
        return Err(Failure::Input(format!("{}: {message}", log.display())));
    }
    Ok(log)
}

/// Characters of a scenario's name.
const NAME_MAX: usize = 100;

/// The scenario's name: that of its file, as far as a name may have it.
fn name(args: &InitArgs) -> String {
    let stem = args.out.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = stem.trim_start_matches('.').chars().map(plain).take(NAME_MAX).collect();
    if name.is_empty() { "scenario".to_owned() } else { name }
}

/// Says what was decided, and what could be decided otherwise.
fn tell_requests(guess: Option<&Guess>, keep: Option<&Vec<String>>) {
    if let Some(guess) = guess {
        let counts = &guess.counts;
        note(&format!("log: {} requests of {} rows over {:.0} s", counts.taken, counts.rows, guess.lasts_s));
        for Choice { taken, instead } in &guess.choices {
            let instead = instead.as_ref().map_or_else(String::new, |option| format!("; otherwise `{option}`"));
            note(&format!("  {taken}{instead}"));
        }
        for doubt in &guess.doubts {
            note(&format!("warning: {doubt}"));
        }
        for RowFault { first, lines, .. } in &guess.faults {
            note(&format!("  mended: {first} ({} such: {lines})", lines.len()));
        }
        for (what, lines) in text::left_out(guess) {
            note(&format!("  left out: {} {what}: {lines}", lines.len()));
        }
        if guess.classes.len() > 1 {
            let classes: Vec<String> = guess.classes.iter().map(|(class, n)| format!("{class} ({n})")).collect();
            let kept = keep.map_or_else(
                || "all go to this fleet; otherwise `--keep NAME`".to_owned(),
                |keep| format!("only {} goes to this fleet; otherwise `--keep all`", keep.join(", ")),
            );
            note(&format!("  classes: {}: {kept}", classes.join(", ")));
        }
    } else {
        note("workload: no log; Poisson arrivals at 10/s with BurstGPT's lengths are a placeholder (`--log FILE`)");
    }
}

/// Says what of the command is not in the scenario, and why.
fn tell_server(served: &Served) {
    served.notes.iter().for_each(|text| note(&format!("note: {text}")));
    for (flag, what) in &served.unmodelled {
        note(&format!(
            "warning: `{flag}` is not in the scenario, and its figures are those of a server without it: {what}"
        ));
    }
}

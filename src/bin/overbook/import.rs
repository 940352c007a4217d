//! `overbook import` and `overbook serve-flags`: between scenarios and what runs for real.

use std::io::ErrorKind;
use std::path::Path;

use overbook_scenarios::{export, import, small_file};

use crate::check::load;
use crate::cli::{Globals, ImportCommand, ScenarioArgs};
use crate::output::{DONE, Failure, note, print};

pub(crate) fn run(command: &ImportCommand) -> Result<u8, Failure> {
    match command {
        ImportCommand::Vllm { command, log } => {
            let imported = if let Some(file) = log {
                let text = read(file)?;
                import::vllm_log(&text).map_err(|error| Failure::Input(format!("{}: {error}", file.display())))?
            } else {
                import::vllm_command(command.as_deref().unwrap_or_default()).map_err(Failure::input)?
            };
            print(&imported.scenario)?;
            imported.notes.iter().for_each(|remark| note(&format!("note: {remark}")));
        }
        ImportCommand::Config { file } => {
            let text = read(file)?;
            let model = import::model_from_config(&text)
                .map_err(|error| Failure::Input(format!("{}: {error}", file.display())))?;
            let value = serde_json::to_value(&model).map_err(anyhow::Error::new)?;
            print(&overbook_scenarios::yaml::emit(&value))?;
        }
    }
    Ok(DONE)
}

/// Longest file to import [bytes].
const LONGEST: u64 = 64 << 20;

fn read(file: &Path) -> Result<String, Failure> {
    small_file::read_text(file, LONGEST).map_err(|error| {
        let help = if error.kind() == ErrorKind::FileTooLarge { "; cut the log after its start" } else { "" };
        Failure::Input(format!("cannot read {}: {error}{help}", file.display()))
    })
}

pub(crate) fn serve_flags(args: &ScenarioArgs, globals: &Globals) -> Result<u8, Failure> {
    let study = load(args, globals)?;
    let point = &study.points()[0];
    let names = point.pool_names();
    for (number, flags) in export::serve_flags_of(point).into_iter().enumerate() {
        if let Some(name) = names.get(number) {
            print(&format!("# {name}"))?;
        }
        print(&format!("{}\n{}", flags.vllm, flags.sglang))?;
        let of = names.get(number).map_or_else(String::new, |name| format!(" ({name})"));
        flags.notes.iter().for_each(|remark| note(&format!("note: {remark}{of}")));
    }
    Ok(DONE)
}

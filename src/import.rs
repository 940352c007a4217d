//! `overbook import` and `overbook serve-flags`: between scenarios and what runs for real.

use overbook_scenarios::{export, import};

use crate::check::load;
use crate::cli::{Globals, ImportCommand, ScenarioArgs};
use crate::output::{DONE, Failure, note, print};

pub(crate) fn run(command: &ImportCommand) -> Result<u8, Failure> {
    match command {
        ImportCommand::Vllm { command } => {
            let imported = import::vllm_command(command).map_err(Failure::input)?;
            print(&imported.scenario)?;
            imported.notes.iter().for_each(|remark| note(&format!("note: {remark}")));
        }
        ImportCommand::Config { file } => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Failure::Input(format!("cannot read {}: {error}", file.display())))?;
            let model = import::model_from_config(&text)
                .map_err(|error| Failure::Input(format!("{}: {error}", file.display())))?;
            let value = serde_json::to_value(&model).map_err(anyhow::Error::new)?;
            print(&overbook_scenarios::yaml::emit(&value))?;
        }
    }
    Ok(DONE)
}

pub(crate) fn serve_flags(args: &ScenarioArgs, globals: &Globals) -> Result<u8, Failure> {
    let study = load(args, globals)?;
    let flags = export::serve_flags(&study.points()[0].scenario);
    print(&format!("{}\n{}", flags.vllm, flags.sglang))?;
    flags.notes.iter().for_each(|remark| note(&format!("note: {remark}")));
    Ok(DONE)
}

//! `overbook`: how far can GPUs, KV memory and power be oversubscribed before the latency promises break?
//!
//! The command line only: every subcommand is one file, and none holds logic worth a unit test.

mod check;
mod check_golden;
mod cli;
mod facts;
mod floor;
mod output;
mod run;
mod sweep;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run(args) => run::run(args, &cli.globals),
        Command::Check(args) => check::run(args, &cli.globals),
        Command::CheckGolden(args) => check_golden::run(args),
        Command::Floor(args) => floor::run(args, &cli.globals),
        Command::Schema => output::print(&overbook_scenarios::scenario_schema()).map(|()| output::DONE),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.code())
        }
    }
}

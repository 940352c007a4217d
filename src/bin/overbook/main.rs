//! `overbook`: how far can GPUs, KV memory and power be oversubscribed before the latency promises break?
//!
//! The command line on top of the library `overbook`: arguments in; text, progress and exit codes out. Every subcommand is one file.
#![forbid(unsafe_code)]

mod aside;
mod ask;
mod calibrate;
mod catalog;
mod check;
mod check_golden;
mod cli;
mod compare;
mod device;
mod facts;
mod fidelity;
mod floor;
mod gpu_check;
mod import;
mod infer;
mod init;
mod kv;
mod measure;
mod open;
mod output;
mod place;
mod plan;
mod profile;
mod replay;
mod report;
mod run;
mod schema;
mod serve;
mod study;
mod sweep;
mod trace;
#[cfg(feature = "train")]
mod train_retention;
mod tuning;
mod validate;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Init(args) => init::run(args, &cli.globals),
        Command::Run(args) => run::run(args, &cli.globals),
        Command::Plan(args) => plan::run(args, &cli.globals),
        Command::Sweep(command) => sweep::run(command, &cli.globals),
        Command::Compare(args) => compare::run(args, &cli.globals),
        Command::Check(args) => check::run(args, &cli.globals),
        Command::CheckGolden(args) => check_golden::run(args),
        Command::Validate(args) => validate::run(args, &cli.globals),
        Command::Floor(args) => floor::run(args, &cli.globals),
        Command::Report(args) => report::run(args, &cli.globals),
        Command::Trace(command) => trace::run(command, &cli.globals),
        Command::Kv(command) => kv::run(command, &cli.globals),
        Command::Catalog(command) => catalog::run(command),
        Command::Calibrate(args) => calibrate::run(args, &cli.globals),
        Command::Import(command) => import::run(command),
        Command::Serve(args) => serve::run(args, &cli.globals),
        Command::Replay(args) => replay::run(args, &cli.globals),
        Command::GpuCheck(args) => gpu_check::run(args, &cli.globals),
        #[cfg(feature = "train")]
        Command::TrainRetention(args) => train_retention::run(args, &cli.globals),
        Command::ServeFlags(args) => import::serve_flags(args, &cli.globals),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "overbook", &mut text);
            output::print(&String::from_utf8_lossy(&text)).map(|()| output::DONE)
        }
        Command::Man => man(),
        Command::Schema(args) => schema::print(args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.tell();
            ExitCode::from(failure.code())
        }
    }
}

/// Prints the manual page.
fn man() -> Result<u8, output::Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(anyhow::Error::new)?;
    output::print(&String::from_utf8_lossy(&text)).map(|()| output::DONE)
}

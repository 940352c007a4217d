//! What leaves the program: results on stdout, everything else on stderr, and exit codes.

use std::io::{self, IsTerminal as _, Write as _};

use overbook_reports::ReportError;

use crate::cli::{ColorChoice, Globals};

/// Exit code: done.
pub(crate) const DONE: u8 = 0;
/// Exit code: failed while running.
pub(crate) const FAILED: u8 = 1;
/// Exit code: invalid input.
const INVALID: u8 = 2;
/// Exit code: finished, but a gate failed.
pub(crate) const GATE_FAILED: u8 = 3;
/// Exit code: interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user's input is not valid.
    Input(String),
    /// The scenario is not valid; the text is rendered with places.
    Scenario(String),
    /// Something failed on the way.
    Run(anyhow::Error),
}

impl Failure {
    pub(crate) fn input(error: impl std::fmt::Display) -> Failure {
        Failure::Input(error.to_string())
    }

    /// The library's errors: problems of a scenario are shown with their places.
    pub(crate) fn of(error: overbook::Error, globals: &Globals) -> Failure {
        match error {
            overbook::Error::Scenario(problems) => Failure::Scenario(problems.render(color(globals, &io::stderr()))),
            error if error.is_input() => Failure::input(error),
            error => Failure::Run(anyhow::Error::new(error)),
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Input(_) | Failure::Scenario(_) => INVALID,
            Failure::Run(_) => FAILED,
        }
    }

    pub(crate) fn tell(&self) {
        match self {
            Failure::Input(message) => note(&format!("error: {message}")),
            Failure::Scenario(rendered) => note(rendered.trim_end()),
            Failure::Run(error) => note(&format!("error: {}", chain(error))),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Run(error)
    }
}

/// A run directory cannot be begun: what the user named is in the way, unless the disk is full.
impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        let full = |e: &io::Error| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match &error {
            ReportError::Io { source, .. } if full(source) => Failure::Run(anyhow::Error::new(error)),
            _ => Failure::input(error),
        }
    }
}

/// An error and its causes, less those that the text before them has told already.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether to colour what goes to a stream.
pub(crate) fn color(globals: &Globals, stream: &impl io::IsTerminal) -> bool {
    match globals.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
            stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && !dumb
        }
    }
}

/// Whether to colour stdout.
pub(crate) fn color_stdout(globals: &Globals) -> bool {
    color(globals, &io::stdout())
}

/// Writes a result to stdout, with a final line end. If the reader has gone, the command goes on: its exit code and its
/// files are wanted all the same.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let newline: &[u8] = if text.ends_with('\n') { b"" } else { b"\n" };
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(newline)).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(anyhow::Error::new(error).context("cannot write to stdout")))
        }
        _ => Ok(()),
    }
}

/// Writes a remark to stderr. If nobody reads it, there is nobody to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether stderr is a terminal that can show progress.
pub(crate) fn shows_progress() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

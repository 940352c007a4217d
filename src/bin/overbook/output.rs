//! What leaves the program: results on stdout, everything else on stderr, and exit codes.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use overbook_engine::executor::BuildError;
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
    /// The user wanted to stop before there was anything to keep.
    Interrupted,
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
            Failure::Interrupted => INTERRUPTED,
        }
    }

    pub(crate) fn tell(&self) {
        match self {
            Failure::Input(message) => note(&format!("error: {message}")),
            Failure::Scenario(rendered) => note_painted(rendered.trim_end()),
            Failure::Run(error) => note(&format!("error: {}", chain(error))),
            Failure::Interrupted => note("interrupted: nothing was run"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Run(error)
    }
}

/// What was asked for may be wrong, or the device may have failed.
impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Unfit(why) => Failure::Input(why),
            BuildError::Interrupted => Failure::Interrupted,
            error @ BuildError::Failed(_) => Failure::Run(anyhow::Error::new(error)),
        }
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

/// An error and its causes, less those that the text before them contains already.
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
    write_out(&harmless(text, false))
}

/// Writes a result that may have colours.
pub(crate) fn print_painted(text: &str) -> Result<(), Failure> {
    write_out(&harmless(text, true))
}

fn write_out(text: &str) -> Result<(), Failure> {
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

/// Writes a remark to stderr. Errors are ignored: there is no other place to report them.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", harmless(text, false));
}

/// Writes a remark that may have colours.
fn note_painted(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", harmless(text, true));
}

/// The text without what a terminal would obey: names in traces and answers of servers may hold anything. Control characters
/// become signs of the same name; line ends and tabs stay, and with `painted` our colours.
fn harmless(text: &str, painted: bool) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = if painted { color_code(rest) } else { 0 };
        if taken > 0 {
            shown.push_str(&rest[..taken]);
        } else {
            shown.push(if obeyed(c) { sign(c) } else { c });
        }
        rest = &rest[taken.max(c.len_utf8())..];
    }
    Cow::Owned(shown)
}

/// What shows in place of a control character.
fn sign(c: char) -> char {
    match u32::from(c) {
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Length of the colour code that a text begins with, or 0: bold, dim, a colour of the letters, or none of these.
fn color_code(text: &str) -> usize {
    let Some((codes, _)) = text.strip_prefix("\x1b[").and_then(|rest| rest.split_once('m')) else { return 0 };
    let is_color = |code: &str| matches!(code.parse::<u8>(), Ok(0..=2 | 30..=37 | 90..=97));
    let all = codes.is_empty() || codes.split(';').all(is_color);
    if all { "\x1b[".len() + codes.len() + "m".len() } else { 0 }
}

/// Whether stderr is a terminal that can show progress.
pub(crate) fn shows_progress() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_by_the_text_of_others() {
        let evil = "a\x1b[2Jb\r\x07\u{9b}31m\u{7f}\tc\n";
        assert_eq!(harmless(evil, false), "a\u{241b}[2Jb\u{240d}\u{2407}\u{fffd}31m\u{2421}\tc\n");
        assert_eq!(harmless(evil, true), harmless(evil, false));
        assert!(matches!(harmless("größer\n✓\t7", false), Cow::Borrowed(_)));
        let painted = "\x1b[1;31mbad\x1b[0m \x1b[94mx\x1b[m";
        assert_eq!(harmless(painted, true), painted);
        assert!(!harmless(painted, false).contains('\x1b'));
        for hidden in ["\x1b[8mx", "\x1b[7mx", "\x1b[38;5;1mx", "\x1b]0;title\x07", "\x1b[", "\x1b[1"] {
            assert!(!harmless(hidden, true).contains('\x1b'), "{hidden:?}");
        }
    }
}

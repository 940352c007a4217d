//! Requests that are read more than once.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use overbook_scenarios::Point;
use overbook_sim::workload::arrival::Workload;
use overbook_traces::TraceSpec;

use super::source::{plain, point};
use crate::cli::{Globals, TraceArgs};
use crate::output::Failure;
use crate::watch::interrupted;

/// Where requests come from that are read several times. What comes through a pipe, which gives it once, is copied to a file first.
pub(crate) struct Again {
    origin: Origin,
    copy: Option<Spooled>,
}

enum Origin {
    Trace(Box<TraceSpec>),
    Scenario(Box<Point>),
}

/// A file with what came through a pipe, removed at the end.
struct Spooled {
    pipe: PathBuf,
    file: PathBuf,
}

impl Again {
    /// Requests of a trace file in blocks of so many tokens, by default as many as its ids of contents stand for; a scenario states its
    /// own. Sessions are read on at their recorded times.
    pub(crate) fn new(args: &TraceArgs, block_tokens: Option<u32>, globals: &Globals) -> Result<Again, Failure> {
        if let Some(mut point) = point(args, globals)? {
            if block_tokens.is_some() {
                let message =
                    "--block-tokens is of a trace file; a scenario has `engine.block_tokens`, which --set changes";
                return Err(Failure::Input(message.to_owned()));
            }
            let copy = point.scenario.workload.trace.as_mut().map(Spooled::of_pipe).transpose()?.flatten();
            return Ok(Again { origin: Origin::Scenario(Box::new(point)), copy });
        }
        let mut trace = plain(args)?;
        let copy = Spooled::of_pipe(&mut trace)?;
        trace.block_tokens = if let Some(tokens) = block_tokens {
            tokens
        } else {
            let tokens = trace.id_tokens().map_err(|error| Failure::Input(told(copy.as_ref(), &error.to_string())))?;
            tokens.unwrap_or(trace.block_tokens)
        };
        if let Some((path, message)) = trace.problems().into_iter().next() {
            return Err(Failure::Input(format!("--{}: {message}", path.replace('_', "-"))));
        }
        Ok(Again { origin: Origin::Trace(Box::new(trace)), copy })
    }

    /// Opens them, for the first time or again.
    pub(crate) fn open(&self) -> Result<Box<dyn Workload>, Failure> {
        let opened = match &self.origin {
            Origin::Trace(trace) => trace.open().map_err(|error| error.to_string()),
            Origin::Scenario(point) => point.workload().map_err(|error| error.to_string()),
        };
        opened.map_err(|message| Failure::Input(self.told(&message)))
    }

    /// A message with the pipe's name in place of its copy's.
    pub(crate) fn told(&self, message: &str) -> String {
        told(self.copy.as_ref(), message)
    }
}

fn told(copy: Option<&Spooled>, message: &str) -> String {
    copy.map_or_else(|| message.to_owned(), |copy| copy.told(message))
}

impl Spooled {
    /// Copies what a trace comes through, if that is a pipe or a device, and lets the trace be read from the copy.
    fn of_pipe(trace: &mut TraceSpec) -> Result<Option<Spooled>, Failure> {
        let once = fs::metadata(&trace.path).is_ok_and(|about| !about.is_file() && !about.is_dir());
        if !once {
            return Ok(None);
        }
        let file = std::env::temp_dir().join(format!("overbook-pipe-{}", std::process::id()));
        let copy = Spooled { pipe: trace.path.clone(), file };
        copy.fill().map_err(|error| {
            Failure::Input(format!("cannot copy {} to {}: {error}", copy.pipe.display(), copy.file.display()))
        })?;
        if interrupted() {
            return Err(Failure::Interrupted);
        }
        trace.path.clone_from(&copy.file);
        Ok(Some(copy))
    }

    fn fill(&self) -> io::Result<()> {
        let mut pipe = fs::File::open(&self.pipe)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.file)?;
        let mut part = vec![0; 1 << 20];
        loop {
            let read = match pipe.read(&mut part) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Ok(0) => return Ok(()),
                read => read?,
            };
            if interrupted() {
                return Ok(());
            }
            file.write_all(&part[..read])?;
        }
    }

    fn told(&self, message: &str) -> String {
        let shown = |path: &Path| path.display().to_string();
        message.replace(&shown(&self.file), &shown(&self.pipe))
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

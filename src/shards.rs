//! A study whose points are run by several processes, on one machine or many that share a folder.
//!
//! ```text
//! DIR/plan.json       what is run: a line per point, written once
//! DIR/parts/ID.json   a point that has ended, written aside and renamed
//! ```
//! A point is known by the hash of its resolved scenario and of the files that it reads. Which process runs which points leaves no trace
//! in the parts, so what is merged from them does not depend on it.

mod part;
mod plan;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use overbook_reports::Status;

use crate::study::{Record, Records};
use crate::{Error, Options, Study};

pub use part::Part;
pub use plan::{Origin, PLAN, Plan, PlannedPoint};

/// Folder of the parts.
const PARTS: &str = "parts";

/// Why a study cannot be run in shards, or its parts not be put together.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What lies there does not go with what is asked: what, and what helps.
    #[error("{0}")]
    Refused(String),
    /// Points are missing: how many, and which.
    #[error("{0}")]
    Incomplete(String),
    /// The study itself.
    #[error(transparent)]
    Study(#[from] Error),
}

impl ShardError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ShardError {
        let path = path.to_owned();
        move |source| ShardError::Io { path, source }
    }
}

/// The points that a process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shard {
    /// All that are missing.
    All,
    /// One of so many shards, numbered from 1.
    One {
        /// Its number.
        number: usize,
        /// Shards.
        of: usize,
    },
    /// Points from one number to another, both included, numbered from 1 as the plan lists them.
    Points {
        /// The first.
        from: usize,
        /// The last.
        to: usize,
    },
}

/// A study and the folder of its parts.
#[derive(Debug)]
pub struct Shards<'a> {
    dir: &'a Path,
    plan: Plan,
    /// Hash of the program that runs the points.
    binary: &'a str,
}

/// How far a study has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Points of the study.
    pub points: usize,
    /// Points that are done.
    pub done: usize,
    /// Numbers of the points without a part, from 1.
    pub missing: Vec<usize>,
    /// Points whose part is damaged, from 1, and what is wrong with it. They will be run again.
    pub corrupt: Vec<(usize, String)>,
    /// Parts that are not of this study or this program.
    pub foreign: Vec<String>,
    /// Files that killed processes have left beside the parts.
    pub left: usize,
}

/// What a process has done.
#[derive(Debug, Default)]
pub struct Ran {
    /// Points of the shard.
    pub points: usize,
    /// Points that were done before.
    pub before: usize,
    /// Points that were run.
    pub now: usize,
    /// Damaged parts that were replaced.
    pub replaced: Vec<String>,
    /// Points that could not be run.
    pub refused: Vec<(usize, Error)>,
}

impl<'a> Shards<'a> {
    /// Opens the folder of a plan, with the hash of this program.
    ///
    /// # Errors
    /// There is no plan, it is damaged, or it was made by another program.
    pub fn open(dir: &'a Path, binary: &'a str) -> Result<Shards<'a>, ShardError> {
        let plan = Plan::read(dir)?;
        if plan.binary != binary {
            return Err(ShardError::Refused(format!(
                "{} was planned by another program ({}, {}), and this is {}: its results might differ. Use that one, or plan into another \
                 folder with this one",
                dir.display(),
                plan.tool,
                short(&plan.binary),
                short(binary)
            )));
        }
        Ok(Shards { dir, plan, binary })
    }

    /// What is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Indices of the points of a shard, each different point once. They are dealt by their ids, so that slow ones, which often stand
    /// together, are spread.
    ///
    /// # Errors
    /// There is no such shard or point.
    pub fn chosen(&self, shard: Shard) -> Result<Vec<usize>, ShardError> {
        let points = &self.plan.points;
        let mut seen = BTreeSet::new();
        let first: Vec<usize> = (0..points.len()).filter(|&at| seen.insert(points[at].id.as_str())).collect();
        match shard {
            Shard::All => Ok(first),
            Shard::One { number, of } if (1..=of).contains(&number) => {
                let ranked: Vec<&str> = seen.into_iter().collect();
                let of_shard = |at: &usize| {
                    ranked.binary_search(&points[*at].id.as_str()).is_ok_and(|rank| rank % of == number - 1)
                };
                Ok(first.into_iter().filter(of_shard).collect())
            }
            Shard::Points { from, to } if from >= 1 && from <= to && to <= points.len() => {
                let mut seen = BTreeSet::new();
                Ok((from - 1..to).filter(|&at| seen.insert(points[at].id.as_str())).collect())
            }
            Shard::One { number, of } => Err(ShardError::Refused(format!(
                "there is no shard {number} of {of}: shards are numbered from 1, e.g. 2/5"
            ))),
            Shard::Points { from, to } => Err(ShardError::Refused(format!(
                "there are no points {from} to {to}: the plan has points 1 to {}",
                points.len()
            ))),
        }
    }

    /// Runs the points of a shard that are not done yet; each is kept as soon as it has ended. `on_done` is called with its number from 1,
    /// on the thread that ran it. Points that were interrupted are not kept.
    ///
    /// # Errors
    /// The study is not the planned one, a part is of another study or program, or a part cannot be written: then no further point
    /// is begun.
    pub fn run(
        &self,
        study: &Study,
        shard: Shard,
        options: &Options,
        on_done: &(dyn Fn(usize) + Sync),
    ) -> Result<Ran, ShardError> {
        self.plan.is_of(study)?;
        let chosen = self.chosen(shard)?;
        fs::create_dir_all(self.parts()).map_err(ShardError::io(&self.parts()))?;
        let mut ran = Ran { points: chosen.len(), ..Ran::default() };
        let mut left = Vec::new();
        for at in chosen {
            match self.part(at)? {
                Part::Done(_) => ran.before += 1,
                Part::Missing => left.push(at),
                Part::Corrupt(why) => {
                    ran.replaced.push(why);
                    left.push(at);
                }
                Part::Foreign(why) => return Err(ShardError::Refused(why)),
            }
        }
        let failed: Mutex<Option<ShardError>> = Mutex::new(None);
        let kept = Mutex::new(0);
        let each = study.each(&left, options, &|at, outcome| {
            if outcome.status == Status::Interrupted {
                return;
            }
            match part::write(&self.parts(), &self.head(at), &Record::of(&outcome)) {
                Ok(()) => {
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    on_done(at + 1);
                }
                Err(error) => {
                    options.cancel.cancel();
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        })?;
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        ran.now = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        ran.refused = each.refused;
        Ok(ran)
    }

    /// How far the study has come.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn progress(&self) -> Result<Progress, ShardError> {
        let mut progress = Progress { points: self.plan.points.len(), ..Progress::default() };
        for at in 0..self.plan.points.len() {
            match self.part(at)? {
                Part::Done(_) => progress.done += 1,
                Part::Missing => progress.missing.push(at + 1),
                Part::Corrupt(why) => progress.corrupt.push((at + 1, why)),
                Part::Foreign(why) => progress.foreign.push(why),
            }
        }
        let (strangers, left) = part::others(&self.parts(), &self.plan)?;
        progress.foreign.extend(strangers);
        progress.left = left;
        Ok(progress)
    }

    /// All points put together.
    ///
    /// # Errors
    /// The study is not the planned one, points are missing or damaged, or there are parts of another study or program.
    pub fn merged(&self, study: &Study) -> Result<Records, ShardError> {
        self.plan.is_of(study)?;
        let progress = self.progress()?;
        if let Some(first) = progress.foreign.first() {
            return Err(ShardError::Refused(first.clone()));
        }
        if progress.done < progress.points {
            return Err(ShardError::Incomplete(progress.to_string()));
        }
        let mut records = Vec::new();
        for at in 0..self.plan.points.len() {
            match self.part(at)? {
                Part::Done(record) => records.push(Some(*record)),
                Part::Missing | Part::Corrupt(_) | Part::Foreign(_) => {
                    let told = format!("the part of point {} has changed just now", at + 1);
                    return Err(ShardError::Incomplete(told));
                }
            }
        }
        Ok(Records::new(study, records))
    }

    fn parts(&self) -> PathBuf {
        self.dir.join(PARTS)
    }

    fn head(&self, at: usize) -> part::Head {
        part::Head::of(&self.plan, self.binary, at)
    }

    fn part(&self, at: usize) -> Result<Part, ShardError> {
        part::read(&self.parts(), &self.head(at))
    }
}

impl Progress {
    /// Whether all points are done, and nothing strange lies beside them.
    pub fn is_complete(&self) -> bool {
        self.done == self.points && self.foreign.is_empty()
    }
}

/// Numbers that are named before the rest is only counted.
const SHOWN: usize = 20;

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} points done", self.done, self.points)?;
        if !self.missing.is_empty() {
            let shown: Vec<String> = self.missing.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = self.missing.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            write!(f, "; missing: {}{more}", shown.join(", "))?;
        }
        for (number, why) in &self.corrupt {
            write!(f, "\npoint {number} is damaged and will be run again: {why}")?;
        }
        self.foreign.iter().try_for_each(|why| write!(f, "\n{why}"))
    }
}

/// The beginning of a hash, as it is shown.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests;

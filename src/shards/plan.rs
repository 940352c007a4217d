//! The list of a study's points.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use overbook_reports::manifest::hash_files;
use overbook_scenarios::Point;
use serde::{Deserialize, Serialize};

use super::{ShardError, part::written_aside, short};
use crate::study::place;
use crate::{Study, TOOL};

/// File name of the plan.
pub const PLAN: &str = "plan.json";

/// Version of the file's form.
const VERSION: u32 = 1;

/// What is run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    form: u32,
    /// Hash of all points.
    pub study: String,
    /// Name of the scenario.
    pub name: String,
    /// Version of the program.
    pub tool: String,
    /// Hash of the program.
    pub binary: String,
    /// The folder in which it was planned: relative paths start there.
    pub folder: PathBuf,
    /// The scenario, as it was named.
    pub scenario: PathBuf,
    /// Changes to it, as `--set` takes them.
    pub set: Vec<String>,
    /// Seed that was set.
    pub seed: Option<u64>,
    /// The points, in the order of the study.
    pub points: Vec<PlannedPoint>,
}

/// A point of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedPoint {
    /// Hash of its resolved scenario and of the files that it reads.
    pub id: String,
    /// Where it lies in the study: `fleet.replicas=2, seed=1`.
    pub at: String,
}

/// Where a scenario comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The working folder.
    pub folder: PathBuf,
    /// The scenario, as it was named.
    pub scenario: PathBuf,
    /// Changes to it.
    pub set: Vec<String>,
    /// Seed that was set.
    pub seed: Option<u64>,
}

impl Plan {
    /// The plan of a study, made by the program with this hash.
    ///
    /// # Errors
    /// A file that a point reads cannot be read, or is a pipe: several processes cannot each read it.
    pub fn of(study: &Study, origin: Origin, binary: &str) -> Result<Plan, ShardError> {
        let points = points(study)?;
        let Origin { folder, scenario, set, seed } = origin;
        Ok(Plan {
            form: VERSION,
            study: hash(&points),
            name: study.plan().name().to_owned(),
            tool: TOOL.to_owned(),
            binary: binary.to_owned(),
            folder,
            scenario,
            set,
            seed,
            points,
        })
    }

    /// Reads the plan in a folder.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read(dir: &Path) -> Result<Plan, ShardError> {
        let path = dir.join(PLAN);
        let text = fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ShardError::Refused(format!(
                "{} has no {PLAN}: make it with `overbook sweep plan SCENARIO --out {}`",
                dir.display(),
                dir.display()
            )),
            _ => ShardError::io(&path)(error),
        })?;
        let wrong = |why: String| ShardError::Refused(format!("{} is damaged: {why}", path.display()));
        let plan: Plan = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if plan.form != VERSION {
            return Err(wrong(format!("its form is {}, and this program knows {VERSION}", plan.form)));
        }
        if hash(&plan.points) != plan.study {
            return Err(wrong("its points do not have the hash that it states".to_owned()));
        }
        Ok(plan)
    }

    /// Writes the plan into a folder, which is made. Says whether it was new: the same plan may be there already.
    ///
    /// # Errors
    /// Another plan is there, or it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<bool, ShardError> {
        let path = dir.join(PLAN);
        if path.exists() {
            if Plan::read(dir)? == *self {
                return Ok(false);
            }
            return Err(ShardError::Refused(format!(
                "{} holds another plan, or one of another program; name another folder, or remove it with its parts",
                dir.display()
            )));
        }
        fs::create_dir_all(dir).map_err(ShardError::io(dir))?;
        let text = serde_json::to_string_pretty(self).map_err(|error| ShardError::Refused(error.to_string()))?;
        written_aside(&path, &(text + "\n"))?;
        Ok(true)
    }

    /// Refuses a study that is not the planned one.
    ///
    /// # Errors
    /// It is not: the first point that differs.
    pub fn is_of(&self, study: &Study) -> Result<(), ShardError> {
        let now = points(study)?;
        if now == self.points {
            return Ok(());
        }
        let differs = now.iter().zip(&self.points).position(|(now, then)| now != then);
        let what = match differs {
            Some(at) if now[at].at != self.points[at].at => {
                format!("point {} was at {} and is at {}", at + 1, self.points[at].at, now[at].at)
            }
            Some(at) => {
                let (then, now) = (short(&self.points[at].id), short(&now[at].id));
                format!("point {} ({}) was {then} and is {now}", at + 1, self.points[at].at)
            }
            None => format!("it had {} points and has {}", self.points.len(), now.len()),
        };
        Err(ShardError::Refused(format!(
            "the scenario {} or a file that it reads has changed since it was planned: {what}. Restore it, or plan it into another folder",
            self.scenario.display()
        )))
    }
}

/// The points of a study with their ids.
fn points(study: &Study) -> Result<Vec<PlannedPoint>, ShardError> {
    let mut known: BTreeMap<Vec<PathBuf>, String> = BTreeMap::new();
    let mut planned = |point: &Point| {
        let files = point.files();
        if !known.contains_key(&files) {
            let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
            let of_files = hash_files(&paths).ok_or_else(|| {
                let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
                ShardError::Refused(format!(
                    "{} cannot be read, or is a pipe: every shard reads it for itself",
                    names.join(" or ")
                ))
            });
            known.insert(files.clone(), if paths.is_empty() { String::new() } else { of_files? });
        }
        let text = format!("{}\n{}", point.plan_hash(), known[&files]);
        Ok(PlannedPoint { id: blake3::hash(text.as_bytes()).to_hex().to_string(), at: place(point) })
    };
    study.points().iter().map(&mut planned).collect()
}

fn hash(points: &[PlannedPoint]) -> String {
    let mut hasher = blake3::Hasher::new();
    for PlannedPoint { id, at } in points {
        hasher.update(format!("{id}\n{at}\n").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

//! The file of a point that has ended: a line that says what it is, and a line with its record.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Plan, ShardError, short};
use crate::study::Record;

/// Version of the file's form.
const VERSION: u32 = 1;

/// Ending of the files of parts.
const ENDING: &str = "json";

/// Between the name of a file and what distinguishes the process that writes it.
const ASIDE: &str = ".aside-";

/// What is known of a point.
#[derive(Clone, PartialEq, Debug)]
pub enum Part {
    /// Nothing.
    Missing,
    /// It has ended.
    Done(Box<Record>),
    /// Its file is damaged: how. The point may be run again.
    Corrupt(String),
    /// Its file is of another study or program: what is known of it. It must not be mixed with the others, nor overwritten.
    Foreign(String),
}

/// What a part is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    form: u32,
    study: String,
    point: String,
    tool: String,
    binary: String,
    /// Of the second line.
    hash: String,
}

impl Head {
    /// That of a point; without a record.
    pub(super) fn of(plan: &Plan, binary: &str, at: usize) -> Head {
        Head {
            form: VERSION,
            study: plan.study.clone(),
            point: plan.points[at].id.clone(),
            tool: plan.tool.clone(),
            binary: binary.to_owned(),
            hash: String::new(),
        }
    }

    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.{ENDING}", self.point))
    }
}

/// Reads the part of a point.
pub(super) fn read(folder: &Path, head: &Head) -> Result<Part, ShardError> {
    let path = head.file(folder);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Part::Missing),
        Err(error) => return Err(ShardError::io(&path)(error)),
    };
    let corrupt = |why: &str| Ok(Part::Corrupt(format!("{} {why}", path.display())));
    let Ok(text) = String::from_utf8(bytes) else { return corrupt("is no text") };
    let Some((first, rest)) = text.split_once('\n') else { return corrupt("is cut off") };
    let Ok(own) = serde_json::from_str::<Head>(first) else { return corrupt("does not say what it is of") };
    let Some(record) = rest.strip_suffix('\n') else { return corrupt("is cut off") };
    if own.hash != hash(record) {
        return corrupt("does not have the content that it states the hash of");
    }
    for (what, own, wanted) in
        [("program", &own.binary, &head.binary), ("study", &own.study, &head.study), ("point", &own.point, &head.point)]
    {
        if own != wanted {
            let told = format!(
                "{} is of another {what} ({}, not {}); nothing is mixed: look at it, and move it away",
                path.display(),
                short(own),
                short(wanted)
            );
            return Ok(Part::Foreign(told));
        }
    }
    match serde_json::from_str(record) {
        Ok(record) => Ok(Part::Done(Box::new(record))),
        Err(_) => corrupt("has a record that this program cannot read"),
    }
}

/// Writes the part of a point.
pub(super) fn write(folder: &Path, head: &Head, record: &Record) -> Result<(), ShardError> {
    let wrong = |error: serde_json::Error| ShardError::Refused(error.to_string());
    let record = serde_json::to_string(record).map_err(wrong)?;
    let head = Head { hash: hash(&record), ..head.clone() };
    let text = format!("{}\n{record}\n", serde_json::to_string(&head).map_err(wrong)?);
    written_aside(&head.file(folder), &text)
}

/// Writes a file beside its place, and renames it when it is whole and on the disk.
pub(super) fn written_aside(path: &Path, text: &str) -> Result<(), ShardError> {
    // Processes on several machines may have the same number.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("{ASIDE}{}-{}", host.trim(), std::process::id()));
    let aside = path.with_file_name(name);
    let written = File::create(&aside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&aside, path));
    written.map_err(|error| {
        // The first error is the one to report.
        let _ = fs::remove_file(&aside);
        ShardError::io(path)(error)
    })
}

/// Parts that are of no point of the plan, told by name, and how many files killed processes have left.
pub(super) fn others(folder: &Path, plan: &Plan) -> Result<(Vec<String>, usize), ShardError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(ShardError::io(folder)(error)),
    };
    let known: BTreeSet<&str> = plan.points.iter().map(|point| point.id.as_str()).collect();
    let (mut strangers, mut left) = (Vec::new(), 0);
    for entry in entries {
        let name = entry.map_err(ShardError::io(folder))?.file_name().to_string_lossy().into_owned();
        if name.contains(ASIDE) {
            left += 1;
        } else if name.strip_suffix(&format!(".{ENDING}")).is_none_or(|id| !known.contains(id)) {
            let path = folder.join(name);
            strangers.push(format!("{} is of no point of this study; nothing is mixed: move it away", path.display()));
        }
    }
    strangers.sort();
    Ok((strangers, left))
}

fn hash(record: &str) -> String {
    blake3::hash(record.as_bytes()).to_hex().to_string()
}

//! `manifest.json`: where a result comes from. The only file that holds facts of the wall clock and the host.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the manifest is the one file that knows the clock"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::format::Moment;
use crate::json;

/// Whether a run came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It did: the results are whole.
    Complete,
    /// The user stopped it: the results are what was known by then.
    Interrupted,
    /// An error stopped it.
    Failed,
}

impl Status {
    /// As files say it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Complete => "complete",
            Status::Interrupted => "interrupted",
            Status::Failed => "failed",
        }
    }
}

/// A server that a workload was replayed against.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Server {
    /// Where it was.
    pub url: String,
    /// The model that was asked.
    pub model: String,
    /// Its version, if it stated one.
    pub version: Option<String>,
    /// Form of the requests that it takes.
    pub asked: String,
}

/// Where a result comes from.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Manifest {
    /// Whether the results are whole.
    pub status: Status,
    /// The exit code that the process was about to give.
    pub exit_status: u8,
    /// Version of the tool.
    pub tool_version: String,
    /// Commit that the tool was built from.
    pub commit: Option<String>,
    /// Whether the tree had changes over that commit.
    pub dirty: Option<bool>,
    /// Target triple.
    pub target: String,
    /// Compiler.
    pub rustc: String,
    /// Hash of the resolved scenario.
    pub plan_hash: String,
    /// Seed of the run.
    pub seed: u64,
    /// Hash of the trace file, if one was read.
    pub trace_hash: Option<String>,
    /// What became of the rows of the trace, if one was read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub trace_rows: BTreeMap<String, u64>,
    /// The command line.
    pub command: Vec<String>,
    /// When the run began: UTC, RFC 3339; see [`utc`].
    pub started: String,
    /// How long it took [s].
    pub wall_s: f64,
    /// CPU time of the process [s], all threads; see [`cpu_seconds`].
    pub cpu_s: Option<f64>,
    /// Processor of the host; see [`host_cpu`].
    pub host_cpu: Option<String>,
    /// The server, of a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
}

impl Manifest {
    /// The file's text.
    pub fn to_json(&self) -> String {
        json::document(self)
    }
}

/// What a program was built from; texts that the build could not find out are empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Build {
    /// Version of the tool.
    pub tool_version: &'static str,
    /// Commit.
    pub commit: &'static str,
    /// `true` if the tree had changes over that commit, `false` if not.
    pub dirty: &'static str,
    /// Target triple.
    pub target: &'static str,
    /// Compiler.
    pub rustc: &'static str,
}

/// When a run began, by all clocks.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    wall: SystemTime,
    instant: Instant,
    cpu: Option<f64>,
}

impl Start {
    /// It begins now.
    pub fn now() -> Start {
        Start { wall: SystemTime::now(), instant: Instant::now(), cpu: cpu_seconds() }
    }

    /// CPU time of the process since the start [s], all threads.
    pub fn cpu_s(&self) -> Option<f64> {
        Some(cpu_seconds()? - self.cpu?)
    }

    /// The manifest of a run that ends now, with these results, files, status and exit code.
    pub fn manifest(
        &self,
        build: &Build,
        command: Vec<String>,
        (plan_hash, seed): (String, u64),
        traces: &[&Path],
        (status, exit_status): (Status, u8),
    ) -> Manifest {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Manifest {
            status,
            exit_status,
            tool_version: build.tool_version.to_owned(),
            commit: known(build.commit),
            dirty: known(build.dirty).map(|text| text == "true"),
            target: build.target.to_owned(),
            rustc: build.rustc.to_owned(),
            plan_hash,
            seed,
            trace_hash: hash_files(traces),
            trace_rows: BTreeMap::new(),
            command,
            started: utc(self.wall),
            wall_s: self.instant.elapsed().as_secs_f64(),
            cpu_s: self.cpu_s(),
            host_cpu: host_cpu(),
            server: None,
        }
    }
}

/// Whether the run directory `dir` says that its traces had another content than `traces` have.
pub fn made_from_another_trace(dir: &Path, traces: &[&Path]) -> bool {
    let Ok(manifest) = fs::read(dir.join("manifest.json")) else { return false };
    let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(&manifest) else { return false };
    let then = manifest["trace_hash"].as_str();
    then.is_some_and(|then| hash_files(traces).is_some_and(|now| now != then))
}

/// BLAKE3 of a file, in hex.
///
/// # Errors
/// It cannot be read.
pub fn hash_file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// BLAKE3 of the files, one after the other; of a folder of its files by name. `None` without files, and of what cannot be read
/// again (a pipe).
pub fn hash_files(paths: &[&Path]) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let mut files = vec![path.to_path_buf()];
        if path.is_dir() {
            files = fs::read_dir(path).ok()?.map(|entry| Some(entry.ok()?.path())).collect::<Option<_>>()?;
            files.retain(|file| file.is_file());
            files.sort();
        }
        for file in files {
            // A pipe has been read and holds nothing more.
            if !file.is_file() {
                return None;
            }
            io::copy(&mut fs::File::open(file).ok()?, &mut hasher).ok()?;
        }
    }
    (!paths.is_empty()).then(|| hasher.finalize().to_hex().to_string())
}

/// A point in time as `2026-01-31T12:34:56Z`.
pub fn utc(at: SystemTime) -> String {
    let s = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at = Moment::of(i64::try_from(s).unwrap_or(i64::MAX));
    format!("{}T{}Z", at.date(), at.time())
}

/// CPU time that this process has used [s], where the system says it (Linux, to 10 ms).
pub fn cpu_seconds() -> Option<f64> {
    // Fields 14 and 15 (utime, stime) in ticks of 1/100 s; counted after the command, which may hold spaces.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// Name of the host's processor, where the system says it (Linux).
pub fn host_cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_civil() {
        for (s, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(s)), want);
        }
    }

    #[test]
    fn cpu_time_is_known_on_linux() {
        if cfg!(target_os = "linux") {
            assert!(cpu_seconds().is_some_and(|s| s >= 0.0));
        }
    }

    #[test]
    fn the_file_says_how_the_run_ended() {
        let json = crate::sample::manifest(Status::Interrupted).to_json();
        assert!(json.starts_with("{\n  \"status\": \"interrupted\",\n  \"exit_status\": 130,"), "{json}");
        assert!(json.contains("\"trace_hash\": null"));
    }

    #[test]
    fn files_are_hashed_one_after_the_other_and_folders_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let (b, a) = (file("b.csv", "two"), file("a.csv", "one"));
        let whole = blake3::hash(b"onetwo").to_hex().to_string();
        assert_eq!(hash_file(&a).unwrap(), blake3::hash(b"one").to_hex().to_string());
        assert_eq!(hash_files(&[&a, &b]), Some(whole.clone()));
        assert_eq!(hash_files(&[dir.path()]), Some(whole));
        assert_ne!(hash_files(&[&b, &a]), hash_files(&[&a, &b]));
        assert_eq!(hash_files(&[]), None);
        assert_eq!(hash_files(&[&dir.path().join("absent.csv")]), None);
    }

    #[test]
    fn a_run_directory_knows_whether_its_trace_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace.csv");
        fs::write(&trace, "one").unwrap();
        assert!(!made_from_another_trace(dir.path(), &[&trace]), "there is no manifest");
        let build = Build { tool_version: "1", commit: "", dirty: "true", target: "t", rustc: "r" };
        let manifest = Start::now().manifest(
            &build,
            vec!["overbook".into()],
            ("plan".into(), 7),
            &[&trace],
            (Status::Complete, 0),
        );
        assert_eq!((manifest.commit.as_deref(), manifest.dirty), (None, Some(true)));
        assert_eq!((manifest.seed, manifest.plan_hash.as_str()), (7, "plan"));
        fs::write(dir.path().join("manifest.json"), manifest.to_json()).unwrap();
        assert!(!made_from_another_trace(dir.path(), &[&trace]));
        fs::write(&trace, "two").unwrap();
        assert!(made_from_another_trace(dir.path(), &[&trace]));
    }
}

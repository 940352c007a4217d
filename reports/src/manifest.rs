//! `manifest.json`: where a result comes from. The only file that holds facts of the wall clock and the host.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::json;

/// Whether a run came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
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
    /// Its version, if it told.
    pub version: Option<String>,
    /// How it was asked.
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

/// A point in time as `2026-01-31T12:34:56Z`.
pub fn utc(at: SystemTime) -> String {
    let s = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Days to a civil date: Howard Hinnant's algorithm, for dates after 1970.
    let (days, second) = (s / 86_400 + 719_468, s % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// CPU time that this process has used [s], where the system tells (Linux, to 10 ms).
pub fn cpu_seconds() -> Option<f64> {
    // Fields 14 and 15 (utime, stime) in ticks of 1/100 s; counted after the command, which may hold spaces.
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// Name of the host's processor, where the system tells (Linux).
pub fn host_cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
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
}

//! How many requests, how much time and how much disk a study will take, from a short sample of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use overbook_reports::parquet::ParquetRecorder;
use overbook_scenarios::Point;
use overbook_sim::cost::CostModel;
use overbook_sim::fleet::{Progress, RunError};
use overbook_sim::results::rows::Discard;

use crate::simulate::fleet;
use crate::{Error, Options, Study};

/// How long the requests of a point are counted at most, and how long a point is simulated at most.
const COUNT: Duration = Duration::from_secs(1);
const SAMPLE: Duration = Duration::from_millis(400);

/// Points of a study that are sampled at most; the others are taken to be like them.
const POINTS: usize = 8;

/// What a study will take. It displays as one line.
#[derive(Clone, PartialEq, Debug)]
pub struct Estimate {
    /// Requests.
    pub requests: f64,
    /// Whether all requests were counted; else there are more.
    pub counted: bool,
    /// Time on this machine [s].
    pub seconds: f64,
    /// Disk for rows [bytes].
    pub bytes: f64,
    /// Whether all of it was tried.
    pub whole: bool,
    /// Requests that were tried.
    pub tried: u64,
}

/// What a point looks like from its beginning.
struct Sample {
    requests: u64,
    /// Whether all requests were counted.
    counted: bool,
    ended: u64,
    whole: bool,
    seconds: f64,
    bytes: u64,
}

/// Tries the beginning of some points. `rows` says whether rows will be written to the disk.
///
/// # Errors
/// A point cannot be run, or there is no room for a sample of its rows.
pub fn estimate(study: &Study, options: &Options, rows: bool) -> Result<Estimate, Error> {
    let points = study.points();
    let step = points.len().div_ceil(POINTS);
    let samples = points.iter().step_by(step).map(|point| sample(study, point, options, rows));
    let samples: Vec<Sample> = samples.collect::<Result<_, _>>()?;
    Ok(Estimate::of(&samples, points.len(), study.jobs(options)))
}

impl Estimate {
    /// From samples of some of so many points, of which `jobs` run at once.
    fn of(samples: &[Sample], points: usize, jobs: usize) -> Estimate {
        let scale = points as f64 / samples.len() as f64;
        let total = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() * scale;
        Estimate {
            requests: total(|s| s.requests as f64),
            counted: samples.iter().all(|s| s.counted),
            seconds: total(|s| s.seconds * s.factor()) / jobs.min(points).max(1) as f64,
            bytes: total(|s| s.bytes as f64 * s.factor()),
            whole: samples.iter().all(|s| s.whole && s.counted) && samples.len() == points,
            tried: samples.iter().map(|s| s.ended).sum(),
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = if self.counted { "" } else { "more than " };
        let about = if self.whole { "" } else { "about " };
        let disk = match self.bytes {
            b if b < 1e6 => "below 1 MB".to_owned(),
            b => format!("{about}{:.0} MB", (b / 1e6).ceil()),
        };
        let basis = if self.whole {
            "all of it was tried".to_owned()
        } else {
            format!("from the first {} requests", self.tried)
        };
        let (requests, time) = (self.requests, time(self.seconds));
        write!(f, "{counted}{requests:.0} requests, {about}{time} on this machine, {disk} on disk ({basis})")
    }
}

impl Sample {
    /// Size of the whole ÷ size of the sample.
    fn factor(&self) -> f64 {
        if self.whole { 1.0 } else { self.requests.max(self.ended) as f64 / self.ended.max(1) as f64 }
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "less than a second".to_owned(),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn sample(study: &Study, point: &Point, options: &Options, rows: bool) -> Result<Sample, Error> {
    let (requests, counted) = count(point)?;
    let (cluster, mut costs) = fleet(point, study.policies(), options)?;
    let mut costs: Vec<_> = costs.iter_mut().map(|cost| &mut **cost as &mut dyn CostModel).collect();
    let mut workload = point.workload()?;
    let begin = Instant::now();
    let mut ended = 0;
    let mut watch = |progress: Progress| {
        ended = progress.ended;
        begin.elapsed() < SAMPLE || ended == 0
    };
    let (result, bytes) = if rows {
        let scratch = Scratch::new().map_err(Error::Scratch)?;
        let mut recorder = ParquetRecorder::create(&scratch.0, true)?;
        let result = cluster.run_pools(&mut *workload, &mut costs, &mut recorder, &mut watch);
        recorder.finish(&[])?;
        (result, scratch.bytes())
    } else {
        (cluster.run_pools(&mut *workload, &mut costs, &mut Discard, &mut watch), 0)
    };
    let result = result?;
    let whole = !result.interrupted;
    let ended = if whole { result.summary.ended() } else { ended };
    Ok(Sample { requests, counted, ended, whole, seconds: begin.elapsed().as_secs_f64(), bytes })
}

/// Requests of a point, and whether all were counted.
fn count(point: &Point) -> Result<(u64, bool), Error> {
    let mut workload = point.workload()?;
    let begin = Instant::now();
    let mut requests = 0u64;
    while workload.next_arrival().map_err(RunError::Workload)?.is_some() {
        requests += 1;
        if requests.is_multiple_of(65_536) && begin.elapsed() > COUNT {
            return Ok((requests, false));
        }
    }
    Ok((requests, true))
}

/// A folder for the rows of a sample, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("overbook-dry-run-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }

    fn bytes(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        fs::read_dir(&self.0).map_or(0, |entries| entries.flatten().map(|entry| size(&entry.path())).sum())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(requests: u64, ended: u64, seconds: f64, bytes: u64) -> Sample {
        Sample { requests, counted: true, ended, whole: ended == requests, seconds, bytes }
    }

    #[test]
    fn what_was_tried_whole_is_told_as_it_is() {
        let all = Estimate::of(&[sample(100, 100, 0.5, 0), sample(50, 50, 0.2, 0)], 2, 1);
        assert!(all.whole && all.counted);
        assert_eq!(
            all.to_string(),
            "150 requests, less than a second on this machine, below 1 MB on disk (all of it was tried)"
        );
    }

    #[test]
    fn a_sample_stands_for_the_rest_of_its_point_and_for_the_points_beside_it() {
        // A tenth of each point was tried, two points of six, three at once: 10 · 3 / 3.
        let some = Estimate::of(&[sample(1000, 100, 2.0, 1_000_000), sample(1000, 100, 4.0, 1_000_000)], 6, 3);
        assert!(!some.whole);
        assert!((some.seconds - 60.0).abs() < 1e-9 && (some.bytes - 6e7).abs() < 1e-3, "{some:?}");
        assert_eq!(
            some.to_string(),
            "6000 requests, about 60 s on this machine, about 60 MB on disk (from the first 200 requests)"
        );
    }

    #[test]
    fn more_requests_than_were_counted_are_told_as_more() {
        let mut sample = sample(65_536, 1000, 0.4, 0);
        sample.counted = false;
        assert!(Estimate::of(&[sample], 1, 2).to_string().starts_with("more than 65536 requests, about 26 s on this"));
    }

    #[test]
    fn times_have_a_unit_that_fits() {
        assert_eq!([0.5, 119.0, 600.0, 9000.0].map(time), ["less than a second", "119 s", "10 min", "2.5 h"]);
    }
}

//! `--dry-run`: how many requests, how much time and how much disk a run will take, from a short sample of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use overbook_reports::parquet::ParquetRecorder;
use overbook_scenarios::{Point, Study};
use overbook_sim::cost::CostModel;
use overbook_sim::fleet::Progress;
use overbook_sim::results::rows::Discard;

use crate::cli::RunArgs;
use crate::output::Failure;
use crate::run::fleet;

/// How long the requests of a point are counted at most, and how long a point is simulated at most.
const COUNT: Duration = Duration::from_secs(1);
const SAMPLE: Duration = Duration::from_millis(400);

/// Points of a study that are sampled at most; the others are taken to be like them.
const POINTS: usize = 8;

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

/// The estimate in words.
pub(crate) fn estimate(study: &Study, args: &RunArgs, jobs: usize) -> Result<String, Failure> {
    let points = study.points();
    let step = points.len().div_ceil(POINTS);
    let samples = points.iter().step_by(step);
    let samples: Vec<Sample> = samples.map(|point| sample(point, args, !study.is_sweep())).collect::<Result<_, _>>()?;
    let scale = points.len() as f64 / samples.len() as f64;
    let total = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() * scale;
    let requests = total(|s| s.requests as f64);
    let seconds = total(|s| s.seconds * s.factor()) / jobs.min(points.len()).max(1) as f64;
    let bytes = total(|s| s.bytes as f64 * s.factor());
    let counted = if samples.iter().all(|s| s.counted) { "" } else { "more than " };
    let all = samples.iter().all(|s| s.whole && s.counted) && step == 1;
    let about = if all { "" } else { "about " };
    let disk = match bytes {
        b if b < 1e6 => "below 1 MB".to_owned(),
        b => format!("{about}{:.0} MB", (b / 1e6).ceil()),
    };
    let basis = if all {
        "all of it was tried".to_owned()
    } else {
        let ended: u64 = samples.iter().map(|s| s.ended).sum();
        format!("from the first {ended} requests")
    };
    Ok(format!("{counted}{requests:.0} requests, {about}{} on this machine, {disk} on disk ({basis})", time(seconds)))
}

impl Sample {
    /// How much more there is than was tried.
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

fn sample(point: &Point, args: &RunArgs, rows: bool) -> Result<Sample, Failure> {
    let (requests, counted) = count(point)?;
    let (cluster, mut costs) = fleet(point, args)?;
    let mut costs: Vec<_> = costs.iter_mut().map(|cost| &mut **cost as &mut dyn CostModel).collect();
    let mut workload = point.workload().map_err(Failure::input)?;
    let begin = Instant::now();
    let mut ended = 0;
    let mut watch = |progress: Progress| {
        ended = progress.ended;
        begin.elapsed() < SAMPLE || ended == 0
    };
    let scratch = Scratch::new()?;
    let (result, bytes) = if rows && !args.no_rows {
        let mut recorder = ParquetRecorder::create(&scratch.0, true).map_err(anyhow::Error::new)?;
        let result = cluster.run_pools(&mut *workload, &mut costs, &mut recorder, &mut watch);
        recorder.finish(&[]).map_err(anyhow::Error::new)?;
        (result, scratch.bytes())
    } else {
        (cluster.run_pools(&mut *workload, &mut costs, &mut Discard, &mut watch), 0)
    };
    let result = result.map_err(Failure::input)?;
    let whole = !result.interrupted;
    let ended = if whole { result.summary.ended() } else { ended };
    Ok(Sample { requests, counted, ended, whole, seconds: begin.elapsed().as_secs_f64(), bytes })
}

/// Requests of a point, and whether all were counted.
fn count(point: &Point) -> Result<(u64, bool), Failure> {
    let mut workload = point.workload().map_err(Failure::input)?;
    let begin = Instant::now();
    let mut requests = 0u64;
    while workload.next_arrival().map_err(Failure::input)?.is_some() {
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
    fn new() -> Result<Scratch, Failure> {
        let path = std::env::temp_dir().join(format!("overbook-dry-run-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(anyhow::Error::new)?;
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

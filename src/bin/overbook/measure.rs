//! `overbook run --on`: the scenario on the real engine.

use overbook::{Outcome, Point};
use overbook_engine::executor::{Copied, Moved};
use overbook_engine::parity::{Parity, replay};
use overbook_engine::run::{EngineError, Measured, run_drawing};
use overbook_scenarios::facts::assumptions;
use overbook_sim::fleet::ClusterSpec;
use overbook_sim::results::rows::Recorder;

use crate::device::Device;
use crate::output::{Failure, note};
use crate::run::Ended;
use crate::watch::Display;

/// Runs a point on a device.
pub(crate) fn measure<R: Recorder>(
    point: &Point,
    device: &Device,
    recorder: &mut R,
    display: &Display,
) -> Result<Ended, Failure> {
    let spec = point.cluster().map_err(Failure::input)?;
    let measured = on_device(point, device, &spec, display)?;
    let rows = measured.rows.iter().try_for_each(|row| recorder.request(row));
    let rows = rows.and_then(|()| measured.steps.iter().try_for_each(|step| recorder.step(&step.row)));
    let rows = rows.map_err(|error| Failure::Run(anyhow::Error::from_boxed(error)));
    let parity = if measured.result.interrupted { None } else { Some(parity(&spec, &measured)?) };
    let mut assumptions = assumptions(point).map_err(Failure::input)?;
    assumptions.retain(|(what, _)| what != "Step cost");
    assumptions.extend(conditions(point, device, &measured, parity.as_ref()));
    let void = !measured.void().is_empty();
    let calibration = format!("measured, not simulated: {}", device.describe());
    let mut outcome = Outcome::new(point, measured.result, assumptions, calibration);
    if outcome.summary.quality.is_some() && !device.has_weights() {
        outcome.remarks.push("The weights are dummies: quality is the table's, for the model's own weights.".into());
    }
    Ok(Ended { outcome, void, rows })
}

/// The workload of a point on a device, as measured.
pub(crate) fn on_device(
    point: &Point,
    device: &Device,
    spec: &ClusterSpec,
    display: &Display,
) -> Result<Measured, Failure> {
    let mut workload = point.workload().map_err(Failure::input)?;
    let executor = device.executor(spec)?;
    let temperature = temperature(point);
    let measured = run_drawing(spec, &mut *workload, executor, temperature, &mut |progress| display.show(progress));
    measured.map_err(|error| match error {
        EngineError::Workload(_) | EngineError::Unsorted(_) | EngineError::Unfit(_) => Failure::input(error),
        error => Failure::Run(anyhow::Error::new(error)),
    })
}

/// At which tokens are drawn; 0 takes the likeliest.
fn temperature(point: &Point) -> f32 {
    point.scenario.workload.temperature.unwrap_or(0.0) as f32
}

/// Replays a run on the simulator and reports what differs.
pub(crate) fn parity(spec: &ClusterSpec, measured: &Measured) -> Result<Parity, Failure> {
    let parity = replay(spec, measured).map_err(|error| Failure::Run(anyhow::Error::new(error)))?;
    for difference in &parity.first {
        note(&format!("replay differs: {difference}"));
    }
    Ok(parity)
}

/// Under which conditions a run was measured.
fn conditions(point: &Point, device: &Device, measured: &Measured, parity: Option<&Parity>) -> Vec<(String, String)> {
    let late = measured.lateness;
    let mut facts = vec![
        ("Measured on".to_owned(), device.describe()),
        (
            "Tokens drawn".to_owned(),
            match temperature(point) {
                0.0 => "the likeliest".to_owned(),
                temperature => format!("at temperature {temperature}"),
            },
        ),
        (
            "Requests sent late by".to_owned(),
            format!(
                "p50 {:.3} ms, p99 {:.3} ms, at most {:.3} ms",
                late.p50.as_millis_f64(),
                late.p99.as_millis_f64(),
                late.max.as_millis_f64()
            ),
        ),
        (
            "CPU taken by others".to_owned(),
            measured.pressure.map_or("unknown on this system".to_owned(), |pressure| {
                let (steal, delay) = (pressure.steal * 100.0, pressure.run_delay * 100.0);
                format!("{steal:.1} % stolen, {delay:.1} % waited for a core")
            }),
        ),
    ];
    if let Some(Copied { up, down }) = &measured.copied {
        let told =
            format!("{} down, {} up; their time is not part of a step's time on the device", moved(down), moved(up));
        facts.push(("KV copied to the host and back".to_owned(), told));
    }
    let void = measured.void();
    if !void.is_empty() {
        facts.push(("VOID".to_owned(), void.join("; ")));
        note(&format!("warning: this run is void as a measurement: {}", void.join("; ")));
    }
    if let Some(parity) = parity {
        facts.push(("Replayed on the simulator".to_owned(), replayed(parity)));
    }
    facts
}

/// Copies of one direction in words: "12.50 MB in 4.20 ms (3.0 GB/s)".
fn moved(moved: &Moved) -> String {
    let Some(rate) = moved.rate() else { return "nothing".to_owned() };
    let (bytes, ms) = (moved.bytes as f64, moved.time.as_secs_f64() * 1e3);
    format!("{:.2} MB in {ms:.2} ms ({:.1} GB/s)", bytes / 1e6, rate / 1e9)
}

/// A replay in words.
pub(crate) fn replayed(parity: &Parity) -> String {
    let Parity { steps, requests, differences, .. } = parity;
    let digest = if parity.digest { "equal" } else { "DIFFERENT" };
    format!(
        "{steps} steps, {requests} requests, {differences} differences, digests {digest} (a determinism check; says nothing \
         of how well steps are predicted)"
    )
}

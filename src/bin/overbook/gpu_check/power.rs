//! Part *power*: watts, clocks and what holds them back, at rest and under steady work; and the power law that they make.
//!
//! Each point is held for some seconds, the first two of which do not count: readings are means of a second, and boards take their time. Nothing is
//! set. What the emulated driver's stand-in gives is marked so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overbook_engine::calibrate::{Bench, Shape};
use overbook_engine::config::Config;
use overbook_engine::cuda::{Ceilings, CudaExecutor};
use overbook_engine::nvml::{Meter, Seen, StandIn};
use overbook_scenarios::Catalog;
use overbook_scenarios::import::catalog_gpu;
use overbook_scenarios::yaml::emit;
use overbook_sim::calibrate::{PowerSample, fit_power};
use overbook_sim::hardware::gpu::{GpuSpec, Origin, OriginKind};
use overbook_sim::hardware::power::PowerSpec;
use overbook_sim::power::{Activity, PowerLaw};
use overbook_sim::units::{Bandwidth, Bytes, Flops};
use serde_json::json;

use super::book::Book;
use super::grids::{BLOCK, capacity};
use super::rows::{Fitted, Line, Row, Steady};
use super::{Check, Part, table, verify};
use crate::output::Failure;

/// Not counted at the start of a point [s].
const SETTLING: f64 = 2.0;
/// The items beside the steps of models.
const IDLE: &str = "idle with a context";
const PRODUCT: &str = "product";
const LAW: &str = "power law";

/// What is measured on.
struct Rig {
    gpu: GpuSpec,
    prior: PowerSpec,
    meter: Meter,
    instead: Option<Arc<StandIn>>,
}

pub(crate) fn run(check: &mut Check, book: &mut Book) -> Result<(), Failure> {
    if !check.meter.reads() {
        let why = "NVIDIA's management library gives no readings here: no watts, no law";
        return if book.has(LAW) { Ok(()) } else { book.put(LAW, vec![Row::Skipped { why: why.to_owned() }]) };
    }
    check.prepare(0);
    if table::ceilings(&super::results(check.dir)).is_empty() {
        verify::ceilings(check, book)?;
    }
    let rig = match rig(check) {
        Ok(rig) => rig,
        Err(why) => return if book.has(LAW) { Ok(()) } else { book.put(LAW, vec![Row::Skipped { why }]) },
    };
    let time = check.scaled(Duration::from_secs(6), Duration::from_millis(120));
    if book.wants(IDLE, time)? {
        rig.doing(Activity::IDLE);
        let watch = rig.meter.watch();
        std::thread::sleep(time);
        book.put(IDLE, vec![rig.steady(check, IDLE, None, &watch.see(), Activity::IDLE)])?;
    }
    if book.wants(PRODUCT, check.scaled(Duration::from_secs(12), Duration::ZERO))? {
        book.take(PRODUCT, product(check, &rig))?;
    }
    for name in check.scaled(&["llama-3.1-8b", "llama-3.2-1b"][..], &["tiny"][..]) {
        steps(check, &rig, book, name, time)?;
    }
    if book.wants(LAW, Duration::ZERO)? {
        book.take(LAW, law(check, &rig))?;
    }
    Ok(())
}

/// The GPU's peaks and what is believed of its clocks. What is not there has the ceilings that were measured of it, and draws as an H100 does at its own.
fn rig(check: &Check) -> Result<Rig, String> {
    let facts = check.gpu.facts();
    let catalog = Catalog::embedded();
    let known = |name: &str| catalog.gpu(name).map_err(|error| error.to_string());
    let prior = known("h100")?.power.ok_or("the catalog's H100 has no power law")?;
    if check.meter.facts().emulated {
        let results = super::results(check.dir);
        let found = table::ceilings(&results);
        let of = |name: &str| found.iter().find(|row| row.name == name).map(|row| row.value * 1e12);
        let missing = "its ceilings were not measured";
        let gpu = GpuSpec {
            name: facts.name.clone(),
            memory: Bytes(facts.memory),
            bandwidth: Bandwidth(of("copy_rw_tbs").ok_or(missing)?),
            peak_bf16: Flops(2.0 * of("product_tflops").ok_or(missing)?),
            power: Some(prior.clone()),
            ..known("h100")?
        };
        let law = PowerLaw::of(&gpu).map_err(|error| error.to_string())?;
        let instead = Arc::new(StandIn::new(law));
        return Ok(Rig { gpu, prior, meter: Meter::stand_in(instead.clone()), instead: Some(instead) });
    }
    let Some(name) = catalog_gpu(&facts.name) else {
        return Err(format!("the catalog has no {}: its peaks are not known, which rates are shares of", facts.name));
    };
    let gpu = known(name)?;
    let prior = gpu.power.clone().unwrap_or(prior);
    Ok(Rig { gpu, prior, meter: check.meter.clone(), instead: None })
}

impl Rig {
    /// Tells a stand-in what it does.
    fn doing(&self, activity: Activity) {
        if let Some(instead) = &self.instead {
            instead.tell(activity);
        }
    }

    /// Rates of work that takes so long.
    fn activity(&self, (bytes, flop): (f64, f64), seconds: f64, resident: u64) -> Activity {
        Activity {
            busy: 1.0,
            resident: (resident as f64 / self.gpu.memory.0 as f64).min(1.0),
            compute: flop / seconds / self.gpu.peak_bf16.0,
            memory: bytes / seconds / self.gpu.bandwidth.0,
        }
    }

    fn steady(&self, check: &Check, what: &str, step_us: Option<f64>, seen: &Seen, activity: Activity) -> Row {
        let window = seen.window(check.scaled(SETTLING, 0.0));
        let top = self.meter.facts().sm_mhz_max.unwrap_or(self.prior.clock.max_mhz);
        Row::Steady(Steady {
            what: what.to_owned(),
            step_us,
            busy: activity.busy,
            resident: activity.resident,
            compute: activity.compute,
            memory: activity.memory,
            watts: window.power_w.or(window.instant_w),
            clock: window.sm_mhz.map(|mhz| (mhz / f64::from(top)).min(1.0)),
            by_second: seen.by_second(),
            gpu: window,
        })
    }
}

/// A large matrix product for ten seconds.
fn product(check: &Check, rig: &Rig) -> Result<Vec<Row>, anyhow::Error> {
    let size = check.scaled(8192, 64);
    let ceilings = Ceilings::open(&check.gpu, check.cache.as_deref())?;
    let mut product = ceilings.product(size)?;
    let work = (6.0 * f64::from(size).powi(2), 2.0 * f64::from(size).powi(3));
    let at = |tflops: f64| rig.activity(work, work.1 / (tflops * 1e12), 0);
    if rig.instead.is_some() {
        rig.doing(at(product.run("product_tflops", Duration::from_millis(1))?.value));
    }
    let watch = rig.meter.watch();
    let told = product.run("product_tflops", check.scaled(Duration::from_secs(10), Duration::from_millis(120)))?;
    let seen = watch.see();
    let activity = rig.instead.as_ref().map_or_else(|| at(told.value), |instead| instead.doing());
    Ok(vec![rig.steady(check, &format!("product of {size} x {size}"), None, &seen, activity)])
}

/// Decodes and prompts, neighbours unlike: every third point is left out of the fit that is judged.
fn shapes(check: &Check) -> Vec<Shape> {
    let decode = |seqs: u32, context: u32| Shape::decode("decode", vec![context - 1; seqs as usize]);
    let prefill = |tokens: u32| Shape::prefill("prefill", tokens, 0);
    check
        .scaled(
            [
                (decode(1, 512), prefill(2048)),
                (decode(32, 2048), prefill(256)),
                (decode(128, 512), prefill(8192)),
                (decode(8, 2048), prefill(1024)),
                (decode(64, 2048), prefill(512)),
                (decode(256, 512), prefill(4096)),
            ],
            [
                (decode(1, 32), prefill(64)),
                (decode(4, 64), prefill(16)),
                (decode(2, 16), prefill(48)),
                (decode(4, 16), prefill(32)),
                (decode(1, 64), prefill(8)),
                (decode(3, 32), prefill(24)),
            ],
        )
        .into_iter()
        .flat_map(|(decode, prefill)| [decode, prefill])
        .collect()
}

fn steps(check: &mut Check, rig: &Rig, book: &mut Book, name: &str, time: Duration) -> Result<(), Failure> {
    let shapes = shapes(check);
    let item = |shape: &Shape| format!("{name} {}", shape.name());
    if shapes.iter().all(|shape| book.has(&item(shape))) {
        return Ok(());
    }
    let opened = bench(check, &shapes, name);
    let (config, mut bench, resident) = match opened {
        Ok(opened) => opened,
        Err(error) => return book.take(&format!("{name} loaded"), Err::<Vec<Row>, _>(error)),
    };
    for shape in &shapes {
        if book.wants(&item(shape), time)? {
            book.take(&item(shape), step(check, rig, &mut bench, (&config, shape, resident), (name, time)))?;
        }
    }
    Ok(())
}

/// An executor with room for the largest of the shapes.
fn bench(check: &mut Check, shapes: &[Shape], name: &str) -> Result<(Config, Bench, u64), anyhow::Error> {
    let (model, _) = check.model(name)?;
    let config = Config::preset(name)?;
    let blocks = shapes.iter().map(|shape| shape.blocks(BLOCK)).max().unwrap_or(1) as u32;
    let capacity = capacity(check, &config, blocks);
    let resident = model.weight_bytes();
    Ok((config, Bench::new(Box::new(CudaExecutor::new(model, capacity)?), 0)?, resident))
}

fn step(
    check: &Check,
    rig: &Rig,
    bench: &mut Bench,
    (config, shape, resident): (&Config, &Shape, u64),
    (name, time): (&str, Duration),
) -> Result<Vec<Row>, anyhow::Error> {
    let work = shape.work(config);
    let work = (work.bytes as f64, work.flop as f64);
    if rig.instead.is_some() {
        let once = bench.measure(shape, Duration::ZERO, (1, 1))?;
        rig.doing(rig.activity(work, once.device_us / 1e6, resident));
    }
    let watch = rig.meter.watch();
    let began = Instant::now();
    let streamed = bench.stream(shape, time, 1)?;
    // One more look than the settling takes, however fast the steps are.
    std::thread::sleep(time.saturating_sub(began.elapsed()));
    let seen = watch.see();
    let measured = || rig.activity(work, streamed.host_us / 1e6, resident);
    let activity = rig.instead.as_ref().map_or_else(measured, |instead| instead.doing());
    Ok(vec![rig.steady(check, &format!("{name} {}", shape.name()), Some(streamed.host_us), &seen, activity)])
}

/// The law that the points of the folder make, and its file.
fn law(check: &Check, rig: &Rig) -> Result<Vec<Row>, anyhow::Error> {
    let lines: Vec<Line> = super::book::read(check.dir, Part::Power);
    let points: Vec<&Steady> =
        lines.iter().filter_map(|line| if let Row::Steady(row) = &line.row { Some(row) } else { None }).collect();
    let idle = points.iter().find(|point| point.what == IDLE).and_then(|point| point.watts);
    let idle = idle.ok_or_else(|| anyhow::anyhow!("no watts of the idle GPU were read"))?;
    let sample = |point: &&Steady| {
        let Steady { busy, resident, compute, memory, .. } = **point;
        let activity = Activity { busy, resident, compute, memory };
        Some(PowerSample { activity, watts: point.watts?, clock: point.clock.unwrap_or(1.0) })
    };
    let samples: Vec<PowerSample> = points.iter().filter(|point| point.what != IDLE).filter_map(sample).collect();
    let fit = fit_power(&rig.prior, idle, &samples)?;
    let emulated = rig.instead.is_some();
    let (kind, begin) =
        if emulated { (OriginKind::Inferred, "EMULATED, no GPU: ") } else { (OriginKind::Measured, "") };
    let source = format!(
        "{begin}overbook gpu-check on {}: {} operating points at full clock ({} held down, left out), {:.1} % off on a third of them that was left out \
         of the fit; over {:.0} TFLOP/s and {:.2} TB/s",
        rig.gpu.name,
        fit.used,
        fit.held_down,
        fit.held_out_mean_percent,
        rig.gpu.peak_bf16.0 / 1e12,
        rig.gpu.bandwidth.0 / 1e12
    );
    let spec = PowerSpec { origin: Origin { kind, source }, ..fit.spec };
    let file = "power.yaml";
    std::fs::write(check.dir.join(file), emit(&json!({ "power": spec })))?;
    Ok(vec![Row::Fitted(Fitted {
        file: file.to_owned(),
        idle_w: spec.idle.0,
        resident_w: spec.resident.0,
        compute_w: spec.compute.0,
        memory_w: spec.memory.0,
        compute_exponent: spec.compute_exponent,
        memory_exponent: spec.memory_exponent,
        used: fit.used,
        held_down: fit.held_down,
        held_out_mean_percent: fit.held_out_mean_percent,
        held_out_median_percent: fit.held_out_median_percent,
        emulated,
    })])
}

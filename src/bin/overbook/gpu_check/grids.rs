//! Part *grids*: decode, prefill and mixed steps of public models, by the executor that serves, beside what they cannot be faster than.

use std::time::{Duration, Instant};

use overbook_engine::calibrate::{Bench, Shape};
use overbook_engine::config::Config;
use overbook_engine::cuda::CudaExecutor;
use overbook_engine::executor::{Capacity, Lanes};
use overbook_sim::cost::PrefillPart;

use super::book::Book;
use super::rows::{Cell, Loaded, Row};
use super::{Check, Scale, table, verify};
use crate::output::Failure;
use crate::tuning::Teller;

/// Tokens of a block.
pub(crate) const BLOCK: u32 = 16;
/// To load a model and to open an executor of its.
const LOAD: Duration = Duration::from_secs(15);

/// Names of the models, the one that counts most first.
pub(crate) fn models(check: &Check) -> &'static [&'static str] {
    check.scaled(&["llama-3.1-8b", "llama-3.2-1b", "qwen3-0.6b"], &["tiny"])
}

/// A cell, and others to take in its place where there is no room for it.
type Choice = (Vec<(String, Shape)>, Option<f64>);

/// Steps to measure, with what of its floor a step of the first model should reach [%].
fn cells(check: &Check) -> Vec<Choice> {
    let k = |tokens: u32| if tokens.is_multiple_of(1024) { format!("{}k", tokens / 1024) } else { tokens.to_string() };
    let decode = |seqs: u32, context: u32| {
        let shape = Shape::decode("decode", vec![context - 1; seqs as usize]);
        (format!("decode {seqs} x {}", k(context)), shape)
    };
    let prefill = |tokens: u32| (format!("prefill {}", k(tokens)), Shape::prefill("prefill", tokens, 0));
    let mixed = |seqs: u32, context: u32, tokens: u32| {
        let (name, mut shape) = decode(seqs, context);
        (shape.kind, shape.prefill, shape.prefill_ends) = ("mixed", vec![PrefillPart { tokens, past: 0 }], 1);
        (format!("mixed {} + {}", name.trim_start_matches("decode "), k(tokens)), shape)
    };
    if check.scale == Scale::Full {
        vec![
            (vec![decode(1, 512)], Some(66.0)),
            (vec![decode(32, 2048)], Some(72.0)),
            (vec![prefill(2048)], Some(80.0)),
            (vec![decode(64, 2048)], Some(75.0)),
            (vec![decode(64, 8192), decode(32, 8192), decode(16, 8192)], Some(87.0)),
            (vec![decode(256, 512)], Some(60.0)),
            (vec![prefill(512)], Some(72.0)),
            (vec![prefill(8192)], Some(78.0)),
            (vec![mixed(32, 2048, 512)], None),
            (vec![decode(8, 2048)], None),
        ]
    } else {
        vec![
            (vec![decode(1, 32)], Some(66.0)),
            (vec![decode(4, 1 << 20), decode(4, 64)], None),
            (vec![prefill(64)], None),
            (vec![mixed(4, 64, 32)], None),
        ]
    }
}

pub(crate) fn run(check: &mut Check, book: &mut Book) -> Result<(), Failure> {
    check.prepare(0);
    if table::ceilings(&super::results(check.dir)).is_empty() {
        verify::ceilings(check, book)?;
    }
    for (at, name) in models(check).iter().enumerate() {
        model(check, book, name, at == 0)?;
        if *name != check.main_model() {
            check.unload(name);
        }
    }
    Ok(())
}

/// What an executor for the largest steps of the check has, with so many blocks.
pub(super) fn capacity(check: &Check, config: &Config, blocks: u32) -> Capacity {
    let (longest, step_tokens, sequences) = check.scaled((8192, 8192, 257), (96, 64, 5));
    Capacity {
        blocks,
        block_tokens: BLOCK,
        max_model_len: longest,
        vocab: config.vocab as u32,
        step_tokens,
        sequences,
        lanes: Lanes::One,
        host_blocks: 0,
    }
}

/// An executor for all cells of a model that there is room for.
fn open(check: &mut Check, name: &str) -> Result<(Config, Bench, Capacity, Row), anyhow::Error> {
    let (model, load_s) = check.model(name)?;
    let began = Instant::now();
    let config = Config::preset(name)?;
    let mut capacity = capacity(check, &config, 0);
    let most = cells(check).into_iter().flat_map(|(choice, _)| choice).map(|(_, shape)| shape.blocks(BLOCK));
    let wanted = most.filter(|blocks| *blocks <= check.scaled(u64::MAX, 1 << 10)).max().unwrap_or(1);
    capacity.blocks = model.fit(&capacity)?.blocks.min(wanted) as u32;
    let mut teller = Teller::new(check.globals.quiet);
    let executor = CudaExecutor::build(model.clone(), capacity, true, &mut |at| teller.show(at))?;
    let bench = Bench::new(Box::new(executor), 0)?;
    let loaded = Loaded {
        model: name.to_owned(),
        weight_bytes: model.weight_bytes(),
        load_s,
        open_s: began.elapsed().as_secs_f64(),
        kv_tokens: u64::from(capacity.blocks) * u64::from(BLOCK),
    };
    Ok((config, bench, capacity, Row::Loaded(loaded)))
}

fn model(check: &mut Check, book: &mut Book, name: &str, barred: bool) -> Result<(), Failure> {
    let cells = cells(check);
    let item = |choice: &Choice| format!("{name} {}", choice.0.first().map_or("", |(cell, _)| cell));
    if cells.iter().all(|choice| book.has(&item(choice))) {
        return Ok(());
    }
    let loading = format!("{name} loaded");
    if !book.wants(&loading, check.scaled(LOAD, Duration::ZERO))? && !book.has(&loading) {
        return Ok(());
    }
    let (config, mut bench, capacity, loaded) = match open(check, name) {
        Ok(opened) => opened,
        Err(error) => return book.take(&loading, Err::<Vec<Row>, _>(error)),
    };
    book.put(&loading, vec![loaded])?;
    for choice in cells {
        let item = item(&choice);
        let (choice, bar) = choice;
        let mut fitting = choice.into_iter().filter(|(_, shape)| shape.blocks(BLOCK) <= u64::from(capacity.blocks));
        let Some((cell, shape)) = fitting.next() else {
            if !book.has(&item) {
                book.put(&item, vec![Row::Skipped { why: "no room for its keys and values".to_owned() }])?;
            }
            continue;
        };
        if book.wants(&item, check.scaled(Duration::from_secs(3), Duration::ZERO))? {
            let bar = bar.filter(|_| barred);
            book.take(&item, measure(check, &mut bench, (name, &config), (cell, &shape), bar))?;
        }
    }
    Ok(())
}

/// One step, again and again: on its own, then in a stream, with what the GPU says of itself.
fn measure(
    check: &Check,
    bench: &mut Bench,
    (model, config): (&str, &Config),
    (cell, shape): (String, &Shape),
    bar_percent: Option<f64>,
) -> Result<Vec<Row>, anyhow::Error> {
    let (alone, stream) =
        check.scaled((Duration::from_millis(300), Duration::from_millis(1200)), (Duration::ZERO, Duration::ZERO));
    let once = bench.measure(shape, alone, check.scaled((3, 50), (1, 1)))?;
    let watch = check.meter.watch();
    let streamed = bench.stream(shape, stream, check.scaled(5, 2))?;
    let gpu = watch.end();
    let work = shape.work(config);
    let results = super::results(check.dir);
    let ceilings = table::ceilings(&results);
    let ceiling = |names: &[&str]| {
        let values = ceilings.iter().filter(|row| names.contains(&row.name.as_str())).map(|row| row.value * 1e12);
        values.reduce(f64::max)
    };
    let floor = |bytes: Option<f64>, flop: Option<f64>| Some(work.floor_s(bytes?, flop?) * 1e6);
    let floor_us = floor(ceiling(&["copy_rw_tbs"]), ceiling(&["product_tflops"]));
    let best = ["read_tbs", "copy_rw_tbs"];
    Ok(vec![Row::Cell(Cell {
        model: model.to_owned(),
        step: cell,
        steps: streamed.steps,
        device_us: streamed.device_us,
        host_us: streamed.host_us,
        alone_us: once.device_us,
        bytes: work.bytes,
        flop: work.flop,
        floor_us,
        floor_best_us: floor(ceiling(&best), ceiling(&["product_burst_tflops", "product_tflops"])),
        floor_percent: floor_us.map(|floor| 100.0 * floor / streamed.device_us),
        bar_percent,
        gpu,
    })])
}

//! Part *verify*: every kernel against its reference, models against the CPU engine and in all ways to run them, and ceilings.

use std::time::Duration;

use overbook_engine::config::{Config, Family};
use overbook_engine::cuda::check::retained;
use overbook_engine::cuda::check::whole::{Script, TIE, WholeCheck, against_cpu, ways};
use overbook_engine::cuda::check::{KernelCheck, Scope, check, kernels};
use overbook_engine::cuda::{self, Ceilings, Model};
use overbook_engine::nvml::Window;
use overbook_engine::weights::Loud;

use super::Check;
use super::book::Book;
use super::rows::{Ceiling, Kernel, Row, Whole, finite};
use crate::output::Failure;

/// So long is enough for most.
const SHORT: Duration = Duration::from_secs(3);

pub(crate) fn run(check: &mut Check, book: &mut Book) -> Result<(), Failure> {
    let scope = Scope { kernel: None, shapes: check.scaled(usize::MAX, 1) };
    let models = models(check).map_err(Failure::input)?;
    check.prepare(scope.shapes);
    for kernel in kernels() {
        let item = format!("kernel {kernel}");
        if book.wants(&item, SHORT)? {
            let checks = self::check(&check.gpu, check.cache.as_deref(), Scope { kernel: Some(kernel), ..scope });
            book.take(&item, checks.map(|checks| checks.into_iter().map(kernel_row).collect()))?;
        }
    }
    for (name, config) in models {
        let item = format!("model {name}");
        if book.wants(&item, check.scaled(2 * SHORT, SHORT))? {
            book.take(&item, whole(check, &name, config))?;
        }
    }
    let item = "retention";
    if book.wants(item, check.scaled(5 * SHORT, SHORT))? {
        book.take(item, kept(check))?;
    }
    ceilings(check, book)
}

/// Models whose logits and tokens are looked at: one that fits anywhere, and one of a public model's widths.
pub(crate) fn models(check: &Check) -> Result<Vec<(String, Config)>, overbook_engine::config::ConfigError> {
    let tiny = Config::preset("tiny")?;
    let (name, other) = if check.scale == super::Scale::Full {
        // The head that every step has is the embedding: half of the numbers to make.
        ("llama-3.1-8b, 2 layers", Config { layers: 2, tied: true, ..Config::preset("llama-3.1-8b")? })
    } else {
        ("tiny with norms of queries and keys", Config { family: Family::Qwen3, layers: 2, ..tiny.clone() })
    };
    Ok(vec![("tiny".to_owned(), tiny), (name.to_owned(), other)])
}

fn whole(check: &Check, name: &str, config: Config) -> Result<Vec<Row>, anyhow::Error> {
    // Whatever the width, what a layer adds is as large as what it gets: attention chooses, and rounding does not.
    let source = Loud { seed: 1, factor: 50.0 / (config.hidden as f32).sqrt() };
    let script = check.scaled(
        Script { prompts: [5, 130, 17, 64], later: 90, decodes: 6 },
        Script { prompts: [5, 33, 17, 2], later: 20, decodes: 3 },
    );
    let model = Model::load(0, config, &source)?;
    let mut checks = vec![against_cpu(name, &model, &source, &script)?];
    checks.extend(ways(name, &model, &script)?);
    Ok(checks.into_iter().map(whole_row).collect())
}

/// Sequences that keep only some of their tokens: every policy that the GPU has.
fn kept(check: &Check) -> Result<Vec<Row>, anyhow::Error> {
    let config = Config::preset("tiny")?;
    let source = Loud { seed: 1, factor: 50.0 / (config.hidden as f32).sqrt() };
    let script = check.scaled(
        Script { prompts: [5, 130, 17, 64], later: 90, decodes: 8 },
        Script { prompts: [5, 33, 17, 20], later: 20, decodes: 3 },
    );
    let model = Model::load(0, config, &source)?;
    let mut rows = Vec::new();
    for spec in retained::specifications().iter().take(check.scaled(usize::MAX, 1)) {
        rows.extend(retained::check("tiny", &model, &source, spec, &script)?.into_iter().map(whole_row));
    }
    Ok(rows)
}

fn kernel_row(check: KernelCheck) -> Row {
    let passed = check.passed();
    let KernelCheck { kernel, case, error, bound, .. } = check;
    Row::Kernel(Kernel { name: kernel.to_owned(), case, error: finite(error), bound, passed })
}

fn whole_row(check: WholeCheck) -> Row {
    let passed = check.passed();
    let WholeCheck { what, tokens, ties, wrong, tie, error, bound } = check;
    Row::Whole(Whole { what, tokens, ties, wrong, tie, tie_most: TIE, error: finite(error), bound, passed })
}

/// Measures ceilings.
pub(crate) fn ceilings(check: &Check, book: &mut Book) -> Result<(), Failure> {
    let time = check.scaled(Duration::from_millis(400), Duration::ZERO);
    let free = check.gpu.free_memory().map_err(anyhow::Error::new)?;
    let (large, copied) = check.scaled(((free / 4).min(4 << 30) as usize, 256 << 20), (1 << 17, 1 << 16));
    let long = check.scaled(Duration::from_secs(10), Duration::from_millis(1));
    let items = [
        "ceilings of memory",
        "ceilings of host copies",
        "ceilings of launches",
        "product in bursts",
        "product for long",
    ];
    if items.iter().all(|item| book.has(item)) {
        return Ok(());
    }
    let ceilings = match Ceilings::open(&check.gpu, check.cache.as_deref()) {
        Ok(ceilings) => ceilings,
        Err(error) => return book.take(items[0], Err::<Vec<Row>, _>(error)),
    };
    if book.wants(items[0], 4 * time)? {
        book.take(items[0], watched(check, || ceilings.memory(large, time)))?;
    }
    if book.wants(items[1], 4 * time)? {
        book.take(items[1], watched(check, || ceilings.host(copied, time)))?;
    }
    if book.wants(items[2], 4 * time)? {
        book.take(items[2], watched(check, || ceilings.launches(check.scaled(500, 10))))?;
    }
    if book.has(items[3]) && book.has(items[4]) {
        return Ok(());
    }
    let mut product = match ceilings.product(check.scaled(8192, 64)) {
        Ok(product) => product,
        Err(error) => return book.take(items[3], Err::<Vec<Row>, _>(error)),
    };
    if book.wants(items[3], 2 * time)? {
        // A burst is over before power has settled, and the GPU rests before it.
        std::thread::sleep(time);
        book.take(items[3], watched(check, || Ok(vec![product.run("product_burst_tflops", time / 4)?])))?;
    }
    if book.wants(items[4], long)? {
        book.take(items[4], watched(check, || Ok(vec![product.run("product_tflops", long)?])))?;
    }
    Ok(())
}

/// Ceilings with what the GPU said meanwhile.
fn watched(
    check: &Check,
    measure: impl FnOnce() -> Result<Vec<cuda::Ceiling>, cuda::CudaError>,
) -> Result<Vec<Row>, cuda::CudaError> {
    let watch = check.meter.watch();
    let measured = measure();
    let gpu = watch.end();
    Ok(measured?.into_iter().map(|ceiling| ceiling_row(ceiling, gpu.clone())).collect())
}

fn ceiling_row(ceiling: cuda::Ceiling, gpu: Window) -> Row {
    let cuda::Ceiling { name, value, unit, how, right } = ceiling;
    Row::Ceiling(Ceiling { name: name.to_owned(), value, unit: unit.to_owned(), how, passed: right, gpu })
}

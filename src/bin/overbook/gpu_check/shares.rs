//! Part *shares*: how long a step takes on a part of the GPU's multiprocessors.

use std::time::Duration;

use overbook_engine::calibrate::{Bench, Shape};
use overbook_engine::config::Config;
use overbook_engine::cuda::CudaExecutor;
use overbook_engine::executor::{Capacity, Lanes};

use super::Check;
use super::book::Book;
use super::grids::BLOCK;
use super::rows::{Row, Share};
use crate::output::Failure;

/// Shares of the multiprocessors [%], what is wanted most first.
const SHARES: [u32; 4] = [50, 100, 25, 75];

pub(crate) fn run(check: &mut Check, book: &mut Book) -> Result<(), Failure> {
    check.prepare(0);
    for share in SHARES {
        let item = format!("{share} % of the multiprocessors");
        if book.wants(&item, check.scaled(Duration::from_secs(8), Duration::ZERO))? {
            book.take(&item, steps(check, share))?;
        }
    }
    Ok(())
}

fn steps(check: &mut Check, share: u32) -> Result<Vec<Row>, anyhow::Error> {
    let name = check.main_model();
    let model = check.model(name)?.0;
    let (seqs, context, tokens) = check.scaled((32, 2048, 2048), (2, 32, 32));
    let cells = [
        (0, format!("prefill {tokens}"), Shape::prefill("prefill", tokens, 0)),
        (1, format!("decode {seqs} x {context}"), Shape::decode("decode", vec![context - 1; seqs as usize])),
    ];
    let blocks = cells.iter().map(|(_, _, shape)| shape.blocks(BLOCK)).max().unwrap_or(1) as u32;
    let capacity = Capacity {
        blocks,
        block_tokens: BLOCK,
        max_model_len: context.max(tokens),
        vocab: Config::preset(name)?.vocab as u32,
        step_tokens: tokens,
        sequences: seqs,
        // One lane runs at a time.
        lanes: Lanes::Two { prefill: share, decode: share },
        host_blocks: 0,
    };
    let mut bench = Bench::new(Box::new(CudaExecutor::new(model, capacity)?), 0)?;
    let mut rows = Vec::new();
    for (lane, step, shape) in cells {
        bench.use_lane(lane);
        let watch = check.meter.watch();
        let time = check.scaled(Duration::from_millis(800), Duration::ZERO);
        let sample = bench.measure(&shape, time, check.scaled((5, 200), (1, 1)))?;
        let gpu = watch.end();
        rows.push(Row::Share(Share { model: name.to_owned(), step, percent: share, device_us: sample.device_us, gpu }));
    }
    Ok(rows)
}

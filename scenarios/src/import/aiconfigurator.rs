//! The kernel tables of AIConfigurator (ai-dynamo/aiconfigurator), in both layouts of its `systems/data` folder:
//! `SYSTEM/BACKEND/VERSION/*_perf.txt` and `SYSTEM/OPERATION/BACKEND/VERSION/*_perf.parquet`.
//!
//! Latencies are milliseconds. Collectives are listed by elements of two bytes. Rows of number formats that the cost
//! model has no form for (fp8 attention, nvfp4, int8, …) and sliding windows are counted and left out.

use std::collections::BTreeMap;
use std::path::Path;

use overbook_sim::calibrate::{CollectiveRow, DecodeRow, ExpertsRow, MatmulRow, PrefillRow, Samples};
use overbook_sim::cost::forms::HeadShape;
use overbook_sim::hardware::model::{KvDtype, WeightDtype};

use super::samples::Measured;
use super::tables::{Cells, Table, TablesError, choose, files};

const TOOL: &str = "AIConfigurator";
const LICENCE: &str = "Apache-2.0, NVIDIA CORPORATION & AFFILIATES";

/// Copies of the weights that a matrix timing goes through.
const WEIGHT_COPIES: u32 = 6;

/// Tables by the beginning of their file's name.
const TABLES: [&str; 6] = [
    "gemm_perf",
    "generation_attention_perf",
    "context_attention_perf",
    "moe_perf",
    "custom_allreduce_perf",
    "nccl_perf",
];

/// Reads what is there of the tables below a folder. Of several tables of one operation `select` says which: a part of its
/// path.
pub(super) fn read(folder: &Path, select: Option<&str>) -> Result<Measured, TablesError> {
    let files = files(folder)?;
    let mut measured = Measured::new(TOOL, LICENCE);
    measured.samples.weight_copies = WEIGHT_COPIES;
    let mut found = false;
    for name in TABLES {
        let is = |path: &Path| {
            let ending = path.extension().is_some_and(|ending| ["txt", "csv", "parquet"].iter().any(|e| ending == *e));
            ending && path.file_stem().is_some_and(|stem| stem == name)
        };
        let Some(path) = choose(folder, &files, name, select, is)? else { continue };
        let table = Table::read(&folder.join(path))?;
        take(name, &table, &mut measured)?;
        measured.tables.push(path.clone());
        found = true;
    }
    if !found {
        let wanted: Vec<String> = TABLES.iter().map(|name| format!("{name}.txt")).collect();
        let wanted = format!("{} (or .csv, .parquet)", wanted.join(", "));
        return Err(TablesError::Nothing { path: folder.to_owned(), tool: TOOL, wanted });
    }
    measured.balance();
    Ok(measured)
}

fn take(name: &str, table: &Table, measured: &mut Measured) -> Result<(), TablesError> {
    let mut skipped = BTreeMap::new();
    let mut collectives = BTreeMap::new();
    for row in table.rows() {
        let samples = &mut measured.samples;
        let why = match name {
            "gemm_perf" => matmul(row, samples)?,
            "generation_attention_perf" => decode(table, row, samples)?,
            "context_attention_perf" => prefill(table, row, samples)?,
            "moe_perf" => experts(row, samples, &mut measured.block_scaled)?,
            "custom_allreduce_perf" => {
                collective(row, "all_reduce", &mut collectives)?;
                None
            }
            _ => nccl(row, &mut collectives)?,
        };
        if name != "nccl_perf" {
            measured.seen(table, row)?;
        }
        if let Some(why) = why {
            *skipped.entry(why).or_insert(0u32) += 1;
        }
    }
    for ((operation, gpus, bytes), us) in collectives {
        let row = CollectiveRow { gpus, bytes, us };
        match operation {
            "all_reduce" if name == "nccl_perf" => measured.nccl_all_reduce.push(row),
            "all_reduce" => measured.samples.all_reduce.push(row),
            _ => measured.samples.all_to_all.push(row),
        }
    }
    let notes = skipped.into_iter().map(|(why, rows)| format!("{name}: {rows} rows left out: {why}"));
    measured.notes.extend(notes);
    Ok(())
}

/// Why a row was left out.
type Skipped = Option<String>;

fn is_16_bit(dtype: &str) -> bool {
    matches!(dtype, "bfloat16" | "float16" | "half" | "bf16" | "fp16")
}

fn matmul(row: Cells<'_>, samples: &mut Samples) -> Result<Skipped, TablesError> {
    let dtype = match row.text("gemm_dtype")? {
        dtype if is_16_bit(dtype) => WeightDtype::Bf16,
        "fp8" => WeightDtype::Fp8,
        other => return Ok(Some(format!("{other} arithmetic"))),
    };
    let (m, n, k) = (row.size("m")?, row.size("n")?, row.size("k")?);
    samples.matmul.push(MatmulRow { dtype, m, n, k, us: row.us("latency")? });
    Ok(None)
}

/// What both attention tables have: heads, head dimension (128 where old tables do not say) and the format of the cache.
fn heads(table: &Table, row: Cells<'_>) -> Result<Result<(KvDtype, HeadShape), String>, TablesError> {
    if table.has("window_size") && row.size("window_size").is_ok_and(|window| window > 0) {
        return Ok(Err("sliding window".to_owned()));
    }
    let arithmetic = row.text("attn_dtype")?;
    if !is_16_bit(arithmetic) {
        return Ok(Err(format!("{arithmetic} attention")));
    }
    let kv = match row.text("kv_cache_dtype")? {
        dtype if is_16_bit(dtype) => KvDtype::Bf16,
        "fp8" => KvDtype::Fp8,
        other => return Ok(Err(format!("{other} cache"))),
    };
    let heads = row.count("num_heads")?;
    // 0 stands for one of each.
    let kv_heads = match row.size("num_key_value_heads")? {
        0 => heads,
        _ => row.count("num_key_value_heads")?,
    };
    let head_dim = if table.has("head_dim") { row.count("head_dim")? } else { 128 };
    Ok(Ok((kv, HeadShape { heads, kv_heads, head_dim })))
}

fn decode(table: &Table, row: Cells<'_>, samples: &mut Samples) -> Result<Skipped, TablesError> {
    let (kv, heads) = match heads(table, row)? {
        Ok(known) => known,
        Err(why) => return Ok(Some(why)),
    };
    let context = row.size("isl")? + row.size("step")?;
    let batch = u64::from(row.count("batch_size")?);
    samples.decode.push(DecodeRow { kv, heads, batch, context, us: row.us("latency")? });
    Ok(None)
}

fn prefill(table: &Table, row: Cells<'_>, samples: &mut Samples) -> Result<Skipped, TablesError> {
    let (kv, heads) = match heads(table, row)? {
        Ok(known) => known,
        Err(why) => return Ok(Some(why)),
    };
    let (batch, tokens) = (u64::from(row.count("batch_size")?), u64::from(row.count("isl")?));
    let past = if table.has("step") { row.size("step")? } else { 0 };
    samples.prefill.push(PrefillRow { kv, heads, batch, tokens, past, us: row.us("latency")? });
    Ok(None)
}

fn experts(row: Cells<'_>, samples: &mut Samples, blocks: &mut Vec<ExpertsRow>) -> Result<Skipped, TablesError> {
    let dtype = row.text("moe_dtype")?;
    let (kind, block) = match dtype {
        dtype if is_16_bit(dtype) => (WeightDtype::Bf16, false),
        "fp8" => (WeightDtype::Fp8, false),
        "fp8_block" => (WeightDtype::Fp8, true),
        other => return Ok(Some(format!("{other} experts"))),
    };
    let sample = ExpertsRow {
        dtype: kind,
        hidden: row.count("hidden_size")?,
        width: row.count("inter_size")?,
        per_token: row.count("topk")?,
        experts: row.count("num_experts")?,
        tensor: row.count("moe_tp_size")?,
        spread: row.count("moe_ep_size")?,
        balanced: matches!(row.text("distribution")?, "balanced" | "uniform"),
        tokens: u64::from(row.count("num_tokens")?),
        us: row.us("latency")?,
    };
    if block {
        blocks.push(sample);
    } else {
        samples.experts.push(sample);
    }
    Ok(None)
}

/// Least time by operation, GPUs and bytes.
type Collectives = BTreeMap<(&'static str, u32, u64), f64>;

/// Of several kernels for one size the fastest counts: eager rows contain the launch from Python.
fn collective(row: Cells<'_>, operation: &'static str, all: &mut Collectives) -> Result<(), TablesError> {
    let (gpus, bytes) = (row.count("num_gpus")?, 2 * row.size("message_size")?);
    let us = row.us("latency")?;
    let least = all.entry((operation, gpus, bytes)).or_insert(us);
    *least = least.min(us);
    Ok(())
}

fn nccl(row: Cells<'_>, all: &mut Collectives) -> Result<Skipped, TablesError> {
    let dtype = row.text("nccl_dtype")?;
    if !is_16_bit(dtype) {
        return Ok(Some(format!("{dtype} messages")));
    }
    match row.text("op_name")? {
        "all_reduce" => collective(row, "all_reduce", all)?,
        "alltoall" => collective(row, "alltoall", all)?,
        other => return Ok(Some(format!("{other}, which no form needs"))),
    }
    Ok(None)
}

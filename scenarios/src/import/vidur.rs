//! The profiles of Vidur (microsoft/vidur): `data/profiling` with `compute/GPU/ORGANISATION/MODEL/{mlp,attention}.csv` and
//! `network/SYSTEM/all_reduce.csv`.
//!
//! Medians of PyTorch profiler times in milliseconds, per layer, fp16 (taken as bf16), with a resolution of 1 µs. All
//! models and tensor-parallel sizes of one GPU are fitted together.

use std::path::{Path, PathBuf};

use overbook_sim::calibrate::{CollectiveRow, DecodeRow, MatmulRow, PrefillRow, SmallRow};
use overbook_sim::cost::forms::HeadShape;
use overbook_sim::hardware::model::{KvDtype, WeightDtype};

use super::samples::Measured;
use super::tables::{Cells, Table, TablesError, choose, files};

const TOOL: &str = "Vidur";
const LICENCE: &str = "MIT, Microsoft Corporation";

/// Reads the profiles of one GPU: the only one there is, or the one whose path has `select` in it. The network table is that
/// of `GPU_dgx` if there are several.
pub(super) fn read(folder: &Path, select: Option<&str>) -> Result<Measured, TablesError> {
    let files = files(folder)?;
    let named =
        |path: &Path, file: &str| path.starts_with("compute") && path.file_name().is_some_and(|name| name == file);
    let device = |path: &Path| path.components().nth(1).map(|name| name.as_os_str().to_string_lossy().into_owned());
    let chosen = |path: &&PathBuf| select.is_none_or(|select| path.to_string_lossy().contains(select));
    let profiles: Vec<&PathBuf> = files.iter().filter(|path| named(path, "mlp.csv")).filter(chosen).collect();
    let Some(gpu) = profiles.first().and_then(|path| device(path)) else {
        let wanted = "compute/GPU/ORGANISATION/MODEL/mlp.csv (name the folder `data/profiling`)".to_owned();
        return Err(TablesError::Nothing { path: folder.to_owned(), tool: TOOL, wanted });
    };
    if let Some(other) = profiles.iter().filter_map(|path| device(path)).find(|other| *other != gpu) {
        let found = format!("compute/{gpu}, compute/{other}");
        let (path, table) = (folder.to_owned(), "compute".to_owned());
        return Err(TablesError::Several { path, table, found, example: format!("compute/{gpu}/") });
    }
    let mut measured = Measured::new(TOOL, LICENCE);
    measured.device.clone_from(&gpu);
    "profiles of models in fp16".clone_into(&mut measured.engine);
    for path in &profiles {
        let table = Table::read(&folder.join(path))?;
        for row in table.rows() {
            operators(&table, row, &mut measured)?;
        }
        measured.tables.push((*path).clone());
        let attention_path = path.with_file_name("attention.csv");
        if files.binary_search(&attention_path).is_err() {
            continue;
        }
        match Table::read(&folder.join(&attention_path)) {
            Ok(table) => {
                for row in table.rows() {
                    attention(&table, row, &mut measured)?;
                }
                measured.tables.push(attention_path);
            }
            // The public repository has pointers alone; the rest of the profile is of use without.
            Err(error @ TablesError::Pointer(_)) => measured.notes.push(format!("{error}; it was left out")),
            Err(error) => return Err(error),
        }
    }
    let dgx = format!("network/{gpu}_dgx/");
    let is = |path: &Path| {
        path.starts_with("network")
            && path.to_string_lossy().starts_with(&format!("network/{gpu}_"))
            && path.file_name().is_some_and(|name| name == "all_reduce.csv")
    };
    let network = select.filter(|select| select.contains("network/")).unwrap_or(&dgx);
    if let Some(path) = choose(folder, &files, "all_reduce", Some(network), is)? {
        let table = Table::read(&folder.join(path))?;
        for row in table.rows() {
            all_reduce(row, &mut measured)?;
        }
        measured.tables.push(path.clone());
    }
    Ok(measured)
}

/// One token count of `mlp.csv`: four matrices and the small kernels between them.
fn operators(table: &Table, row: Cells<'_>, measured: &mut Measured) -> Result<(), TablesError> {
    let [m, heads, kv_heads, hidden, inter, tensor] =
        ["num_tokens", "n_head", "n_kv_head", "n_embd", "n_expanded_embd", "num_tensor_parallel_workers"]
            .map(|column| row.count(column).map(u64::from));
    let (m, heads, kv_heads, hidden, inter, tensor) = (m?, heads?, kv_heads?, hidden?, inter?, tensor?);
    let head_dim = hidden / heads;
    // Vidur copies KV heads where there are more GPUs than heads.
    let (query, stored) = (heads * head_dim / tensor, (kv_heads / tensor).max(1) * head_dim);
    let gated = row.text("use_gated_mlp")?.eq_ignore_ascii_case("true");
    let inputs = if gated { 2 } else { 1 };
    let width = inter / tensor;
    let matrices = [
        ("attn_pre_proj", query + 2 * stored, hidden),
        ("attn_post_proj", hidden, query),
        ("mlp_up_proj", inputs * width, hidden),
        ("mlp_down_proj", hidden, width),
    ];
    for (operator, n, k) in matrices {
        let us = row.us(&format!("time_stats.{operator}.median"))?;
        measured.samples.matmul.push(MatmulRow { dtype: WeightDtype::Bf16, m, n, k, us });
    }
    let small = [
        ("input_layernorm", 4 * hidden),
        ("post_attention_layernorm", 4 * hidden),
        ("add", 6 * hidden),
        ("mlp_act", 2 * (inputs + 1) * width),
        ("attn_rope", 4 * (query + stored)),
    ];
    for (operator, bytes) in small {
        let column = format!("time_stats.{operator}.median");
        // Some models have no such operator, some rows round to 0.
        if table.has(&column)
            && let Ok(us) = row.us(&column)
        {
            measured.samples.small.push(SmallRow { bytes: bytes * m, us });
        }
    }
    Ok(())
}

fn attention(table: &Table, row: Cells<'_>, measured: &mut Measured) -> Result<(), TablesError> {
    let [embedding, heads, kv_heads, tensor, batch] =
        ["n_embd", "n_q_head", "n_kv_head", "num_tensor_parallel_workers", "batch_size"]
            .map(|column| row.count(column));
    let (heads, tensor) = (heads?, tensor?);
    let head_dim = embedding? / heads;
    let shape = HeadShape { heads: heads / tensor, kv_heads: (kv_heads? / tensor).max(1), head_dim };
    let (batch, past) = (u64::from(batch?), row.size("kv_cache_size")?);
    let save = "time_stats.attn_kv_cache_save.median";
    let save_us = if table.has(save) { row.us(save).unwrap_or(0.0) } else { 0.0 };
    if row.text("is_prefill")?.eq_ignore_ascii_case("true") {
        let tokens = u64::from(row.count("prefill_chunk_size")?);
        let us = row.us("time_stats.attn_prefill.median")? + save_us;
        measured.samples.prefill.push(PrefillRow { kv: KvDtype::Bf16, heads: shape, batch, tokens, past, us });
    } else {
        let us = row.us("time_stats.attn_decode.median")? + save_us;
        let context = past.max(1);
        measured.samples.decode.push(DecodeRow { kv: KvDtype::Bf16, heads: shape, batch, context, us });
    }
    Ok(())
}

/// All-reduces that stay inside a server.
fn all_reduce(row: Cells<'_>, measured: &mut Measured) -> Result<(), TablesError> {
    let gpus = row.count("num_workers")?;
    if u64::from(gpus) > row.size("devices_per_node")? {
        return Ok(());
    }
    let (bytes, us) = (row.size("size")?, row.us("time_stats.all_reduce.median")?);
    measured.samples.all_reduce.push(CollectiveRow { gpus, bytes, us });
    Ok(())
}

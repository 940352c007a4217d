//! Arguments of `overbook kv`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use overbook::kv::CacheSize;

use crate::cli::TraceArgs;

const EXAMPLE: &str = "Example: overbook kv replay traces/data/mooncake/conversation_trace.jsonl.zst --policy lru --policy s3-fifo \
     --sizes 5%,20k";

#[derive(Subcommand, Debug)]
pub(crate) enum KvCommand {
    /// What prefix caches of several sizes find under each eviction policy, beside the most that any policy could find.
    ///
    /// The requests use the blocks of their prompts in order of arrival; nothing is pinned, and what is missing is admitted. So
    /// all policies see one order of accesses, and Belady's policy, which knows the future, is their bound. It is always run.
    #[command(after_help = EXAMPLE)]
    Replay(KvReplayArgs),
}

/// Caches, and what is replayed on them.
#[derive(Args, Debug)]
pub(crate) struct KvReplayArgs {
    #[command(flatten)]
    pub(crate) source: TraceArgs,
    /// Tokens per block of a trace file [default: as many as its ids stand for]; of a scenario they are `engine.block_tokens`.
    #[arg(long, value_name = "N")]
    pub(crate) block_tokens: Option<u32>,
    /// A policy by its name, or with settings: `s3-fifo`, `sglang: { order: slru }`; may be given several times [default: all that
    /// find in the trace what they go by].
    #[arg(long = "policy", value_name = "NAME")]
    pub(crate) policies: Vec<String>,
    /// Sizes of the caches, in blocks (`5000`, `10k`) or as shares of all contents (`5%`).
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1%,3%,10%,30%")]
    pub(crate) sizes: Vec<CacheSize>,
    /// Threads [default: one per processor].
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Write kv-replay.csv and kv-replay.json there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Replace existing files.
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
    /// Print one JSON document instead of the tables.
    #[arg(long)]
    pub(crate) json: bool,
}

//! Arguments of `overbook sweep`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use overbook::shards::Shard;

use crate::cli::ScenarioArgs;

#[derive(Subcommand, Debug)]
pub(crate) enum SweepCommand {
    /// Write the list of a study's points into a folder that all processes see.
    Plan(PlanArgs),
    /// Run the points of a shard that are not done yet; each is kept as soon as it has ended.
    Run(RunArgs),
    /// Say which points are done, missing or damaged. Exits with 3 unless all are done.
    Status(StatusArgs),
    /// Put the points together: the same files as `overbook run` writes.
    Merge(MergeArgs),
    /// Write what starts the shards on a cluster, and start it where that is possible.
    Launch(LaunchArgs),
}

#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) scenario: ScenarioArgs,
    /// Folder for plan.json and the parts.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Print the points only, without trying how long they take.
    #[arg(long)]
    pub(crate) no_estimate: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Folder of the plan.
    pub(crate) dir: PathBuf,
    /// The shard: `2/5`, `auto/5` (the number is that of the task of a Slurm array from 1 to 5, or of a Kubernetes indexed job), or points
    /// by their numbers, `3..7` [default: all points that are missing].
    #[arg(long, value_name = "SHARD")]
    pub(crate) shard: Option<ShardArg>,
    /// Points to run at once [default: one per processor].
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Show no progress.
    #[arg(long)]
    pub(crate) no_progress: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Folder of the plan.
    pub(crate) dir: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct MergeArgs {
    /// Folder of the plan.
    pub(crate) dir: PathBuf,
    /// Directory for the results [default: `results` in the folder of the plan].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Replace existing results.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON document instead of the tables.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with 3 if a figure of `expect:` or, without it, a target of `slo:` is missed.
    #[arg(long)]
    pub(crate) gate: bool,
    /// Write no report.html.
    #[arg(long)]
    pub(crate) no_report: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LaunchArgs {
    /// Folder of the plan.
    pub(crate) dir: PathBuf,
    /// What runs the shards.
    #[arg(long, value_enum, value_name = "CLUSTER")]
    pub(crate) on: Cluster,
    /// Shards.
    #[arg(long, value_name = "N")]
    pub(crate) shards: NonZeroUsize,
    /// Points that each shard runs at once; as many processors are asked for.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,
    /// Write the file and print the command, but start nothing.
    #[arg(long)]
    pub(crate) write_only: bool,
    /// The Python that has Ray.
    #[arg(long, value_name = "FILE", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// The container image that has overbook (Kubernetes).
    #[arg(long, value_name = "NAME", required_if_eq("on", "k8s"))]
    pub(crate) image: Option<String>,
    /// The volume claim that holds the folder of the plan and what it reads, mounted where they are here (Kubernetes).
    #[arg(long, value_name = "NAME", required_if_eq("on", "k8s"))]
    pub(crate) claim: Option<String>,
    /// Where the volume is mounted (Kubernetes) [default: the folder in which it was planned].
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
}

/// What runs the shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Cluster {
    /// A job array of Slurm.
    Slurm,
    /// Tasks of Ray, by a small driver in Python.
    Ray,
    /// An indexed job of Kubernetes; it is written, and started by `kubectl apply`.
    K8s,
}

/// A shard as it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShardArg {
    /// It is said.
    Given(Shard),
    /// The cluster says which of so many.
    Auto(usize),
}

impl FromStr for ShardArg {
    type Err = String;

    fn from_str(text: &str) -> Result<ShardArg, String> {
        let wrong = || format!("`{text}` is no shard; write 2/5, auto/5, or points from 3 to 7 as 3..7");
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        if let Some((from, to)) = text.split_once("..") {
            return Ok(ShardArg::Given(Shard::Points { from: number(from)?, to: number(to)? }));
        }
        let (which, of) = text.split_once('/').ok_or_else(wrong)?;
        let of = number(of)?;
        if of == 0 {
            return Err("there is at least one shard, e.g. 1/1".to_owned());
        }
        if which.trim() == "auto" {
            return Ok(ShardArg::Auto(of));
        }
        Ok(ShardArg::Given(Shard::One { number: number(which)?, of }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_read() {
        assert_eq!("2/5".parse(), Ok(ShardArg::Given(Shard::One { number: 2, of: 5 })));
        assert_eq!("auto/5".parse(), Ok(ShardArg::Auto(5)));
        assert_eq!("3..7".parse(), Ok(ShardArg::Given(Shard::Points { from: 3, to: 7 })));
        for wrong in ["", "2", "2/0", "x/5", "auto", "1/x", "3..", "-1/5"] {
            assert!(wrong.parse::<ShardArg>().is_err(), "{wrong}");
        }
    }
}

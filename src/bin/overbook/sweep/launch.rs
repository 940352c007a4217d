//! `overbook sweep launch`: the shards of a study on Slurm, Ray or Kubernetes.

use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use overbook::shards::Plan;

use super::args::{Cluster, LaunchArgs};
use super::{absolute, written};
use crate::cli::Globals;
use crate::output::{DONE, FAILED, Failure, GATE_FAILED, note, print};
use crate::run::quote;

/// Folder of what starts the shards, below that of the plan.
const FOLDER: &str = "launch";

/// What the files are made of.
struct Launch<'a> {
    plan: &'a Plan,
    dir: PathBuf,
    program: PathBuf,
    shards: usize,
    jobs: usize,
}

pub(super) fn run(args: &LaunchArgs, globals: &Globals) -> Result<u8, Failure> {
    let plan = Plan::read(&args.dir).map_err(Failure::input)?;
    let launch = Launch {
        plan: &plan,
        dir: absolute(&args.dir)?,
        program: env::current_exe().map_err(anyhow::Error::new)?,
        shards: args.shards.get(),
        jobs: args.jobs.get(),
    };
    match args.on {
        Cluster::Slurm => {
            let file = launch.write("slurm.sh", &launch.slurm())?;
            start(args, globals, &[Path::new("sbatch"), &file])
        }
        Cluster::Ray => {
            let file = launch.write("ray_driver.py", &launch.ray())?;
            start(args, globals, &[&args.python, &file])
        }
        Cluster::K8s => {
            let file = launch.write("job.json", &launch.kubernetes(args)?)?;
            print(&format!("start it with: kubectl apply -f {}", quote(&file)))?;
            Ok(DONE)
        }
    }
}

impl Launch<'_> {
    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let file = self.dir.join(FOLDER).join(name);
        written(&file, text)?;
        print(&format!("written: {}", file.display()))?;
        Ok(file)
    }

    /// A job array. A task whose process is killed goes on by itself, and one whose node fails is put back into the queue by Slurm: both
    /// where they were.
    fn slurm(&self) -> String {
        let Launch { plan, dir, program, shards, jobs } = self;
        let name = safe(&plan.name);
        let logs = dir.join(FOLDER).join("slurm-%A_%a.log");
        format!(
            "#!/bin/sh\n\
             #SBATCH --job-name=overbook-{name}\n\
             #SBATCH --array=1-{shards}\n\
             #SBATCH --ntasks=1\n\
             #SBATCH --cpus-per-task={jobs}\n\
             #SBATCH --requeue\n\
             #SBATCH --open-mode=append\n\
             #SBATCH --output=\"{logs}\"\n\
             # Points that are done are not run again: what is started once more goes on where it was. 137: killed.\n\
             for try in 1 2 3 4 5; do\n\
             \x20   {program} sweep run {dir} --shard auto/{shards} --jobs {jobs} --no-progress\n\
             \x20   code=$?\n\
             \x20   [ $code -eq 137 ] || exit $code\n\
             done\n\
             exit $code\n",
            logs = logs.display(),
            program = quote(program),
            dir = quote(dir),
        )
    }

    /// A driver whose tasks are shards. A task whose process is killed is tried again, and goes on where it was.
    fn ray(&self) -> String {
        let Launch { dir, program, shards, jobs, .. } = self;
        let text = |path: &Path| serde_json::Value::String(path.display().to_string()).to_string();
        RAY.replace("\"@PROGRAM@\"", &text(program))
            .replace("\"@DIR@\"", &text(dir))
            .replace("\"@SHARDS@\"", &shards.to_string())
            .replace("\"@JOBS@\"", &jobs.to_string())
    }

    /// An indexed job. Its pods see the folder of the plan under the path that it has here.
    fn kubernetes(&self, args: &LaunchArgs) -> Result<String, Failure> {
        let Launch { plan, dir, shards, jobs, .. } = self;
        let mount = args.mount.clone().unwrap_or_else(|| plan.folder.clone());
        for inside in [dir, &plan.folder] {
            if !inside.starts_with(&mount) {
                let told =
                    "is not below the volume's place; name a place that holds the study and its scenario with --mount";
                return Err(Failure::Input(format!("{} {told}", inside.display())));
            }
        }
        let of_shard = format!("auto/{shards}");
        let dir = dir.display().to_string();
        let command =
            ["overbook", "sweep", "run", &dir, "--shard", &of_shard, "--jobs", &jobs.to_string(), "--no-progress"];
        let container = serde_json::json!({
            "name": "shard",
            "image": args.image,
            "command": command,
            "resources": { "requests": { "cpu": jobs.to_string() } },
            "volumeMounts": [{ "name": "study", "mountPath": mount }],
        });
        let job = serde_json::json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": format!("overbook-{}", safe(&plan.name)) },
            "spec": {
                "completions": shards,
                "parallelism": shards,
                "completionMode": "Indexed",
                // A shard that has failed is started again, and goes on where it was.
                "backoffLimit": 3 * shards,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [container],
                        "volumes": [{ "name": "study", "persistentVolumeClaim": { "claimName": args.claim } }],
                    },
                },
            },
        });
        Ok(serde_json::to_string_pretty(&job).map_err(anyhow::Error::new)? + "\n")
    }
}

/// Runs a command, if its program is here; else says what to run where it is.
fn start(args: &LaunchArgs, globals: &Globals, words: &[&Path]) -> Result<u8, Failure> {
    let told: Vec<String> = words.iter().map(|word| quote(word)).collect();
    let told = told.join(" ");
    if args.write_only {
        print(&format!("start it with: {told}"))?;
        return Ok(DONE);
    }
    if !globals.quiet {
        note(&format!("runs: {told}"));
    }
    match Command::new(words[0]).args(&words[1..]).status() {
        Ok(status) if status.success() => Ok(DONE),
        Ok(status) if status.code() == Some(i32::from(GATE_FAILED)) => Ok(GATE_FAILED),
        Ok(status) => {
            note(&format!("error: {} has failed: {status}", words[0].display()));
            Ok(FAILED)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            note(&format!("error: {} is not here; where it is, run: {told}", words[0].display()));
            Ok(FAILED)
        }
        Err(error) => Err(Failure::Run(anyhow::Error::new(error).context(told))),
    }
}

/// The driver for Ray; strings between `@` are filled in.
const RAY: &str = include_str!("ray_driver.py");

/// A name as clusters take it: lower-case letters, digits and hyphens, at most 40.
fn safe(name: &str) -> String {
    let plain: String =
        name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let plain = plain.trim_matches('-');
    if plain.is_empty() { "study".to_owned() } else { plain.to_owned() }
}

//! Whether the machine was ours while we measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// What others took from a run on the CPU.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pressure {
    /// Of the time in which this machine wanted a CPU, the share that the hypervisor gave to other machines.
    pub steal: f64,
    /// Time that threads of this process were ready and had no CPU, as a share of the run: what Linux calls pressure, if no two wait at
    /// the same time.
    pub run_delay: f64,
}

/// More than this for others, and a run says nothing of the engine.
const UNFAIR: f64 = 0.02;

impl Pressure {
    /// What was too much for a measurement, in words.
    pub(crate) fn unfair(&self) -> Vec<String> {
        let shares =
            [("taken by other machines", self.steal), ("spent by threads on waiting for a CPU", self.run_delay)];
        let unfair = shares.into_iter().filter(|(_, share)| *share > UNFAIR);
        unfair
            .map(|(what, share)| format!("{:.1} % of the time was {what}, at most 2 % is fair", share * 100.0))
            .collect()
    }
}

/// Watches the pressure from its creation on. Linux only: elsewhere nothing is known.
#[derive(Debug)]
pub struct PressureGauge {
    start: Instant,
    /// Steal time and all wanted time of the machine at the start [ticks].
    machine: Option<(u64, u64)>,
    /// By thread: what it had waited when first and when last seen [ns].
    threads: BTreeMap<String, (u64, u64)>,
    /// Whether threads that are seen for the first time began before the gauge did.
    began: bool,
}

fn machine() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal.
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((*ticks.get(7)?, ticks.iter().take(8).sum::<u64>() - idle))
}

/// Time that a thread was ready without a CPU [ns].
fn waited(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().nth(1)?.parse().ok()
}

impl PressureGauge {
    /// Watches from now on.
    pub fn start() -> Self {
        let (start, threads) = (Instant::now(), BTreeMap::new());
        let mut gauge = PressureGauge { start, machine: machine(), threads, began: false };
        gauge.look();
        gauge.began = true;
        gauge
    }

    /// Notes the threads that there are: those that end between two looks lose what they had waited since.
    pub fn look(&mut self) {
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return };
        for task in tasks.flatten() {
            let Some(now) = waited(&task.path()) else { continue };
            let name = task.file_name().to_string_lossy().into_owned();
            // A thread that has come since began with none.
            let first = if self.began { 0 } else { now };
            self.threads.entry(name).or_insert((first, now)).1 = now;
        }
    }

    /// The pressure so far; `None` where the system does not say.
    pub fn read(&mut self) -> Option<Pressure> {
        self.look();
        let (before, now) = (self.machine?, machine()?);
        let all = now.1.saturating_sub(before.1).max(1);
        let elapsed = self.start.elapsed().as_nanos() as f64;
        let delay: u64 = self.threads.values().map(|(first, last)| last.saturating_sub(*first)).sum();
        Some(Pressure {
            steal: now.0.saturating_sub(before.0) as f64 / all as f64,
            run_delay: delay as f64 / elapsed.max(1.0),
        })
    }
}

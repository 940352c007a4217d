//! Whether the machine was ours while we measured.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// What others took from a run on the CPU.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pressure {
    /// Share of the time of all CPUs that the hypervisor gave to other machines.
    pub steal: f64,
    /// Time that threads of this process were ready and had no CPU, as a share of the time of all CPUs.
    pub run_delay: f64,
}

/// Watches the pressure from its creation on. Linux only: elsewhere nothing is known.
#[derive(Debug)]
pub struct PressureGauge {
    start: Instant,
    cpus: usize,
    /// Steal time and all time of the machine at the start [ticks].
    machine: Option<(u64, u64)>,
    /// By thread: run delay when first and last seen [ns].
    threads: HashMap<String, (u64, u64)>,
}

fn machine() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    Some((*ticks.get(7)?, ticks.iter().take(8).sum()))
}

fn run_delay(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().nth(1)?.parse().ok()
}

impl PressureGauge {
    /// Watches from now on.
    pub fn start() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let mut gauge = PressureGauge { start: Instant::now(), cpus, machine: machine(), threads: HashMap::new() };
        gauge.look();
        gauge
    }

    /// Notes the threads that there are: those that end between two looks lose what they had waited since.
    pub fn look(&mut self) {
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return };
        for task in tasks.flatten() {
            let Some(delay) = run_delay(&task.path()) else { continue };
            let name = task.file_name().to_string_lossy().into_owned();
            // A thread that has come since the last look began with none.
            self.threads.entry(name).or_insert((delay, delay)).1 = delay;
        }
    }

    /// The pressure so far; `None` where the system does not tell.
    pub fn read(&mut self) -> Option<Pressure> {
        self.look();
        let (before, now) = (self.machine?, machine()?);
        let all = now.1.saturating_sub(before.1).max(1);
        let delay: u64 = self.threads.values().map(|(first, last)| last.saturating_sub(*first)).sum();
        let time = self.start.elapsed().as_nanos() as f64 * self.cpus as f64;
        Some(Pressure {
            steal: now.0.saturating_sub(before.0) as f64 / all as f64,
            run_delay: delay as f64 / time.max(1.0),
        })
    }
}

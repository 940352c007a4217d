//! How much memory of this machine may be taken.

use std::fs;

use crate::executor::ExecutorError;

/// Memory of the host that can be taken without pushing anything out [bytes], within what a container may have; `None` where the
/// system does not say. Linux: `MemAvailable` of `/proc/meminfo`, `memory.max` and `memory.stat` of control groups (version 2).
pub(crate) fn available() -> Option<u64> {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| in_meminfo(&text));
    let of_group = || {
        let [max, stat] =
            ["memory.max", "memory.stat"].map(|name| fs::read_to_string(format!("/sys/fs/cgroup/{name}")));
        in_group(&max.ok()?, &stat.ok()?)
    };
    of_machine.into_iter().chain(of_group()).min()
}

/// Whether so many bytes can be taken; `Err` has what can be.
pub(crate) fn take(wanted: u64) -> Result<(), u64> {
    available().filter(|free| *free < wanted).map_or(Ok(()), Err)
}

/// Why the host's tier cannot be had.
pub(crate) fn refused(wanted: u64, free: Option<u64>) -> ExecutorError {
    let (mib, wanted) = (|bytes: u64| bytes >> 20, wanted.div_ceil(1 << 20));
    let has = free.map_or_else(|| "gives less".to_owned(), |free| format!("has {} MiB available", mib(free)));
    ExecutorError(format!(
        "the host's tier takes {wanted} MiB of memory and this machine {has}; make the tier of `engine.prefix_cache.tiers` smaller"
    ))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn in_meminfo(text: &str) -> Option<u64> {
    field(text, "MemAvailable:").map(|kib| kib << 10)
}

/// What a control group leaves; its pages of files can go.
fn in_group(max: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    Some(max.saturating_sub(field(stat, "anon ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        assert_eq!(in_meminfo("MemTotal:       100 kB\nMemAvailable:    3 kB\n"), Some(3072));
        assert_eq!(in_meminfo("MemTotal:       100 kB\n"), None);
        assert_eq!(in_group("1000\n", "anon 400\nfile 300\n"), Some(600));
        assert_eq!(in_group("1000\n", "anon 4000\nfile 300\n"), Some(0));
        assert_eq!(in_group("max\n", "anon 400\n"), None, "no limit");
    }

    #[test]
    fn more_than_there_is_is_refused() {
        assert_eq!(take(1), Ok(()));
        if let Some(free) = available() {
            assert!(take(u64::MAX).is_err_and(|left| left <= free.saturating_mul(2)));
        }
    }
}

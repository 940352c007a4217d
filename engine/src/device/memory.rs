//! Memory that the system can still give.

use std::fs::read_to_string;

/// What this process can have without others having to give some up: of the machine, and within the limit of its control group (Linux,
/// `/proc/meminfo` and cgroup v2) [bytes]. `None` where the system does not say.
pub(super) fn available() -> Option<u64> {
    let machine = machine(&read_to_string("/proc/meminfo").ok()?)?;
    let group = |file: &str| read_to_string(format!("/sys/fs/cgroup/{file}")).ok();
    let within = group("memory.max").zip(group("memory.current")).and_then(|(most, used)| left(&most, &used));
    Some(within.map_or(machine, |left| left.min(machine)))
}

/// `MemAvailable` [bytes].
fn machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What a group may still take [bytes]; `None` if it has no limit.
fn left(most: &str, used: &str) -> Option<u64> {
    let (most, used): (u64, u64) = (most.trim().parse().ok()?, used.trim().parse().ok()?);
    Some(most.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_as_the_system_writes_it() {
        let text = "MemTotal:       16384 kB\nMemFree:           12 kB\nMemAvailable:    8192 kB\n";
        assert_eq!(machine(text), Some(8 << 20));
        assert_eq!(machine("MemTotal:       16384 kB\n"), None);
        assert_eq!((left("1000\n", "400\n"), left("max\n", "400\n"), left("100", "400")), (Some(600), None, Some(0)));
    }
}

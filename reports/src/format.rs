//! Numbers for people: three significant digits, a unit that fits, thousands apart.

/// What a figure counts; decides how it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A time [s].
    Seconds,
    /// Requests per second.
    RequestsPerSecond,
    /// Tokens per second.
    TokensPerSecond,
    /// A share, 0 to 1, written in percent.
    Share,
    /// A power [W].
    Watts,
    /// An energy [J].
    Joules,
    /// A number of things.
    Count,
}

impl Unit {
    /// The unit of a metric of [`overbook_sim::results::summary::Summary::metric`].
    pub fn of(metric: &str) -> Unit {
        match metric {
            "request_throughput" | "request_goodput" => Unit::RequestsPerSecond,
            "output_throughput" | "total_token_throughput" => Unit::TokensPerSecond,
            "goodput_fraction"
            | "recompute_tax"
            | "prefix_hit_rate"
            | "kv_usage_mean"
            | "kv_usage_max"
            | "utilization"
            | "cache_gap"
            | "quality"
            | "quality_unknown"
            | "gpu_limited"
            | "power_limited"
            | "power_breaker"
            | "power_excursion_peak"
            | "power_capped_low"
            | "power_capped_high" => Unit::Share,
            _ if metric.starts_with("power_load_") || metric.starts_with("power_rise_") => Unit::Share,
            "low_throughput" | "high_throughput" | "tokens_per_s_per_gpu" | "tokens_per_s_per_user" => {
                Unit::TokensPerSecond
            }
            "makespan" | "power_cycle" | "power_braked" | "power_excursion_longest" => Unit::Seconds,
            _ if is_latency(metric) => Unit::Seconds,
            "watts_mean" | "watts_p99" => Unit::Watts,
            "energy" => Unit::Joules,
            _ => Unit::Count,
        }
    }

    /// The unit's sign in an axis label; empty for counts.
    pub fn sign(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::RequestsPerSecond => "req/s",
            Unit::TokensPerSecond => "tok/s",
            Unit::Share => "%",
            Unit::Watts => "W",
            Unit::Joules => "J",
            Unit::Count => "",
        }
    }

    /// A value with its unit: `1.23 s`, `45.0 %`, `12,345`.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Seconds => seconds(value),
            Unit::RequestsPerSecond | Unit::TokensPerSecond | Unit::Watts | Unit::Joules => {
                format!("{} {}", number(value), self.sign())
            }
            Unit::Share => format!("{} %", number(value * 100.0)),
            Unit::Count => number(value),
        }
    }

    /// A value that was chosen, without the zeros that say how exact it is: `2 s`, `99 %`.
    pub fn short(self, value: f64) -> String {
        let text = self.show(value);
        let Some((number, sign)) = text.split_once(' ') else { return text };
        let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
        format!("{number} {sign}")
    }
}

fn is_latency(metric: &str) -> bool {
    overbook_sim::results::summary::LATENCIES.iter().any(|latency| metric.starts_with(latency))
}

/// Metrics whose name says too little.
const NAMED: [(&str, &str); 8] = [
    ("gpus_mean", "GPUs, mean"),
    ("tokens_per_s_per_gpu", "output per GPU"),
    ("tokens_per_s_per_user", "speed of a user"),
    ("cost_per_mtoken", "$ per million tokens"),
    ("cost_per_mtoken_output", "$ per million output tokens"),
    ("energy_gpu_per_token", "J per output token, GPUs"),
    ("energy_server_per_token", "J per output token, servers"),
    ("energy_facility_per_token", "J per output token, facility"),
];

/// A metric's name in running text: `ttft_p99` is "TTFT p99".
pub fn label(metric: &str) -> String {
    if let Some((_, name)) = NAMED.iter().find(|(known, _)| *known == metric) {
        return (*name).to_owned();
    }
    let mut words = metric.replace("p99_9", "p99.9").replace("queue_time", "queue time").replace('_', " ");
    for (name, written) in
        [("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2el", "E2EL"), ("kv usage", "KV use")]
    {
        if words.starts_with(name) {
            words.replace_range(..name.len(), written);
        }
    }
    words
}

/// Rounds to three significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// Three significant digits, thousands apart, whole numbers whole: `0.0123`, `12.3`, `12,345`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = rounded(value).abs();
    if size >= 100.0 || size == 0.0 {
        return count(value);
    }
    if value.fract() == 0.0 {
        return format!("{value}");
    }
    let decimals = (2 - size.log10().floor() as i32).clamp(0, 9) as usize;
    format!("{value:.decimals$}")
}

/// A whole number, thousands apart.
pub fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value < 0.0 && digits != "0" {
        text.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in the unit that fits: `850 µs`, `12.3 ms`, `1.50 s`, `25.0 min`, `3.20 h`.
pub fn seconds(value: f64) -> String {
    let size = rounded(value).abs();
    let (scaled, unit) = match size {
        0.0 => return "0 s".to_owned(),
        s if s < 1e-3 => (value * 1e6, "µs"),
        s if s < 1.0 => (value * 1e3, "ms"),
        s if s < 600.0 => (value, "s"),
        s if s < 7200.0 => (value / 60.0, "min"),
        _ => (value / 3600.0, "h"),
    };
    let size = rounded(scaled).abs();
    match size {
        s if s >= 100.0 => format!("{} {unit}", count(scaled)),
        s if s >= 10.0 => format!("{scaled:.1} {unit}"),
        _ => format!("{scaled:.2} {unit}"),
    }
}

/// A moment on a calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    year: i64,
    month: i64,
    day: i64,
    /// Seconds since midnight.
    second: i64,
}

impl Moment {
    /// So many seconds after the beginning of 1970, on the clock that they are counted by.
    pub fn of(s: i64) -> Moment {
        // Days to a civil date: Howard Hinnant's algorithm.
        let (days, second) = (s.div_euclid(86_400) + 719_468, s.rem_euclid(86_400));
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Moment { year: era * 400 + year_of_era + i64::from(month <= 2), month, day, second }
    }

    /// `2026-01-31`.
    pub fn date(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `12:34:56`.
    pub fn time(self) -> String {
        format!("{}:{:02}", self.minute(), self.second % 60)
    }

    /// `12:34`.
    pub fn minute(self) -> String {
        format!("{:02}:{:02}", self.second / 3600, self.second / 60 % 60)
    }

    /// `31 Jan`.
    pub fn day(self) -> String {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        format!("{} {}", self.day, MONTHS[(self.month - 1) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, want) in [
            (0.0, "0"),
            (5.0, "5"),
            (0.012_34, "0.0123"),
            (1.005, "1.00"),
            (9.996, "10.0"),
            (99.96, "100"),
            (12_345.6, "12,346"),
            (-1_234_567.0, "-1,234,567"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), want);
        }
    }

    #[test]
    fn what_was_chosen_has_no_zeros_behind() {
        assert_eq!([2.0, 0.05, 1.25, 100.0].map(|time| Unit::Seconds.short(time)), ["2 s", "50 ms", "1.25 s", "100 s"]);
        assert_eq!(Unit::Share.short(0.99), "99 %");
    }

    #[test]
    fn times_find_their_unit() {
        for (value, want) in [
            (0.0, "0 s"),
            (12.3e-6, "12.3 µs"),
            (0.0456, "45.6 ms"),
            (0.999_9, "1.00 s"),
            (2.0, "2.00 s"),
            (61.0, "61.0 s"),
            (3600.0, "60.0 min"),
            (36_000.0, "10.0 h"),
        ] {
            assert_eq!(seconds(value), want);
        }
    }

    #[test]
    fn metrics_have_units_and_labels() {
        assert_eq!(Unit::of("ttft_p99").show(1.5), "1.50 s");
        assert_eq!(Unit::of("goodput_fraction").show(0.95), "95 %");
        assert_eq!(Unit::of("output_throughput").show(1234.0), "1,234 tok/s");
        assert_eq!(Unit::of("preemptions").show(3.0), "3");
        assert_eq!(label("queue_time_p99_9"), "queue time p99.9");
        assert_eq!(label("kv_usage_max"), "KV use max");
        assert_eq!(label("e2el_mean"), "E2EL mean");
    }
}

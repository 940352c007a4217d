use super::*;
use crate::report::Side;
use crate::sample;
use overbook_sim::results::trust::Trust;

fn plain(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[test]
fn it_fits_a_terminal_and_colour_changes_nothing_else() {
    let mut report = sample::report();
    for i in 0..20u32 {
        let target = f64::from(i) * 100.0;
        report.verdicts.push(Verdict::at_most("total_token_throughput", target, &report.summary));
    }
    report.title = "A very long title ".repeat(12);
    let text = summary(&report, false);
    assert!(text.lines().count() <= 30, "{text}");
    report.calibration = "so many words of calibration ".repeat(12);
    report.trust = Some(Trust::prior("so many words of trust ".repeat(12)));
    report.trace_rows =
        vec![("read", 1_000_000), ("failed_left_out", 100_000), ("empty", 200_000), ("invalid", 300_000)];
    let text = summary(&report, false);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(report.calibration.trim()), "nothing is cut off: {text}");
    assert!(
        words.contains("left out 600,000 of 1,000,000 rows: 100,000 failed (no tokens), 200,000 with empty"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('\x1b') && text.ends_with("runs/first-3f9a1c20\n"));
    assert_eq!(plain(&summary(&report, true)), text);
}

#[test]
fn verdicts_come_first_and_name_target_and_value() {
    let text = summary(&sample::report(), false);
    crate::sample::leave_on_request("terminal.txt", &text);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].contains("targets"), "{text}");
    assert!(lines[2].contains("✗ TTFT p99") && lines[2].contains("target ≤ 2.00 s"), "{text}");
    assert!(lines[3].contains("✓ TPOT p99"), "{text}");
    assert!(text.contains("expired in 2"), "{text}");
}

#[test]
fn an_empty_run_is_told_without_figures() {
    let text = summary(&sample::empty(), false);
    assert!(text.contains("No target was set") && text.contains("0 of 0 finished"), "{text}");
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
}

#[test]
fn a_target_without_a_value_is_missed() {
    let mut report = sample::empty();
    let verdict = Verdict { metric: "ttft_p99".into(), side: Side::AtMost, target: 1.0, value: None };
    report.verdicts = vec![verdict];
    assert!(summary(&report, false).contains("✗ TTFT p99"));
}

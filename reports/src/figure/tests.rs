#![allow(clippy::float_cmp, reason = "the ends of an axis are exact")]

use super::*;

fn labels(axis: &Axis) -> Vec<&str> {
    axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
}

#[test]
fn linear_axes_are_round() {
    assert_eq!(labels(&Axis::linear("", 23.0)), ["0", "5", "10", "15", "20", "25"]);
    assert_eq!(labels(&Axis::linear("", 0.03)), ["0", "0.01", "0.02", "0.03"]);
    assert_eq!(labels(&Axis::linear("", 40_000.0)).last(), Some(&"40,000"));
    for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Axis::linear("", odd).to > 0.0);
    }
}

#[test]
fn time_axes_choose_their_unit() {
    assert_eq!(Axis::time(90.0).label, "simulated time [s]");
    assert_eq!(labels(&Axis::time(1200.0)), ["0", "5", "10", "15", "20"]);
    assert_eq!(labels(&Axis::time(210.0)), ["0", "0.5", "1", "1.5", "2", "2.5", "3", "3.5"]);
    assert_eq!(labels(&Axis::time(86_400.0)), ["0", "3", "6", "9", "12", "15", "18", "21", "24"]);
    assert_eq!(Axis::time(1e7).label, "simulated time [days]");
}

#[test]
fn clock_axes_name_whole_hours_and_days() {
    // 2023-11-16 18:17:03.
    let zero = 1_700_158_623;
    let axis = Axis::clock(zero, 3.0 * 3600.0);
    assert_eq!(labels(&axis), ["18:30", "19:00", "19:30", "20:00", "20:30", "21:00"]);
    assert!((axis.ticks[0].0 - 777.0).abs() < 1e-9, "{axis:?}");
    assert_eq!(axis.label, "time of the trace, from 2023-11-16 18:17");
    assert_eq!(
        labels(&Axis::clock(zero, 9.0 * 3600.0)),
        ["19:00", "20:00", "21:00", "22:00", "23:00", "17 Nov", "01:00", "02:00", "03:00"]
    );
    assert_eq!(labels(&Axis::clock(zero, 5.0 * 86_400.0)).first(), Some(&"17 Nov"));
    assert_eq!(labels(&Axis::clock(zero, 4.0)), ["18:17:03", "18:17:04", "18:17:05", "18:17:06", "18:17:07"]);
}

#[test]
fn log_axes_name_decades() {
    assert_eq!(labels(&Axis::log_time("", 0.0042, 70.0)), ["10 ms", "100 ms", "1 s", "10 s", "100 s"]);
    assert_eq!(labels(&Axis::log_time("", 0.11, 0.9)), ["100 ms", "200 ms", "500 ms", "1 s"]);
    let axis = Axis::log_time("", 0.001, 10.0);
    assert!((axis.place(0.1) - 0.5).abs() < 1e-9);
    assert!(axis.place(0.0) == 0.0 && axis.place(f64::INFINITY) == 1.0);
}

fn figure() -> Figure {
    Figure {
        id: "load".into(),
        title: "Load <now> & \"then\"".into(),
        description: "It rises.".into(),
        x: Axis::time(10.0),
        y: Axis::linear("requests", 4.0),
        series: vec![Series {
            label: "running".into(),
            color: 1,
            style: Style::Area,
            points: vec![(0.0, 1.0), (2.0, 1.0), (4.0, 3.0), (10.0, 3.0)],
        }],
        marks: vec![Mark { x: 9.9, label: "limit".into(), color: 2 }],
        rug: Some(Rug { label: "preemptions".into(), ticks: vec![(5.0, 0.5)] }),
        shades: Some(Shades { label: "down".into(), spans: vec![(2.0, 4.0), (9.0, 9.0)] }),
        limits: vec![Limit { y: 3.5, label: "at most".into() }],
        notes: vec![],
    }
}

#[test]
fn a_figure_has_its_alternative_text_and_escapes_what_it_is_given() {
    let html = figure().html();
    assert_eq!(html.matches("<svg").count(), 2, "wide and narrow");
    assert!(html.contains("<title id=\"load-wide-t\">Load &lt;now&gt; &amp; &quot;then&quot;</title>"));
    assert!(html.contains("<desc id=\"load-narrow-d\">It rises.</desc>"));
    assert_eq!(html.matches("class=\"shade\"").count(), 4, "two shades, each drawn twice");
    assert!(html.contains("width=\"1.5\""), "a moment can be seen");
    assert!(html.contains("<i class=\"swatch shade\"></i>down"));
    assert!(html.contains("class=\"note end c2\""), "a label at the right edge turns inward");
    assert!(!html.contains("NaN") && !html.contains("inf"));
}

#[test]
fn equal_steps_are_one_line() {
    let html = figure().html();
    let area = html.split("class=\"line c1\" d=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
    assert_eq!(area.matches('H').count(), 2, "{area}");
}

#[test]
fn small_shares_get_an_axis_of_their_own() {
    let small = Axis::share_up_to("of blocks", 0.13);
    assert!((small.to - 0.15).abs() < 1e-9 && small.ticks.last().expect("ticks").1 == "15 %", "{small:?}");
    assert_eq!(Axis::share_up_to("of blocks", 0.5), Axis::share("of blocks"));
    assert_eq!(Axis::share_up_to("of blocks", 0.0), Axis::share("of blocks"));
}

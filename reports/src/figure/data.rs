//! The points of a figure as JSON, for the script of the page: what a pointer reads, with six digits.

use super::{Axis, Figure, Series, Shown, Style};
use crate::json::{self, Json};

/// The element that holds them.
pub(super) fn script(figure: &Figure) -> String {
    let series = figure.series.iter().enumerate().map(|(at, one)| {
        let notes = figure.notes.get(at).map_or(&[][..], Vec::as_slice);
        let mut entries = vec![
            ("label".to_owned(), Json::Text(one.label.clone())),
            ("style".to_owned(), Json::Text(style(one.style).to_owned())),
            ("points".to_owned(), Json::List(points(one))),
        ];
        if !notes.is_empty() {
            entries.push(("notes".to_owned(), Json::List(notes.iter().cloned().map(Json::Text).collect())));
        }
        Json::Object(entries)
    });
    let limits = figure.limits.iter().map(|limit| Json::Text(limit.label.clone())).collect();
    let document = Json::Object(vec![
        ("x".to_owned(), axis(&figure.x)),
        ("y".to_owned(), axis(&figure.y)),
        ("series".to_owned(), Json::List(series.collect())),
        ("limits".to_owned(), Json::List(limits)),
    ]);
    format!("<script type=\"application/json\">{}</script>\n", within_html(&json::line(&document)))
}

/// JSON that may stand in an element of a page: no tag begins or ends in it.
pub(crate) fn within_html(json: &str) -> String {
    json.replace('<', "\\u003c").replace('&', "\\u0026")
}

/// Places and values in turn. Of steps of equal height the first is enough, and the end.
fn points(series: &Series) -> Vec<Json> {
    let stepped = matches!(series.style, Style::Steps | Style::Area);
    let last = series.points.len().saturating_sub(1);
    let mut numbers = Vec::new();
    let mut height = None;
    for (at, &(x, y)) in series.points.iter().enumerate() {
        let y = short(y);
        if stepped && at < last && height == Some(y.to_bits()) {
            continue;
        }
        height = Some(y.to_bits());
        numbers.extend([number(short(x)), number(y)]);
    }
    numbers
}

/// Whole numbers without a point: most places are, and the page is shorter.
fn number(value: f64) -> Json {
    if (0.0..1e15).contains(&value) && value.fract() == 0.0 { Json::Int(value as u64) } else { Json::Float(value) }
}

/// Six significant digits.
fn short(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

fn style(style: Style) -> &'static str {
    match style {
        Style::Line => "line",
        Style::Dots => "dots",
        Style::Marks => "marks",
        Style::Steps | Style::Area => "steps",
    }
}

fn axis(axis: &Axis) -> Json {
    let shown = match axis.shown {
        Shown::Number => "number",
        Shown::Seconds => "seconds",
        Shown::Share => "share",
        Shown::Percent => "percent",
        Shown::Name => "name",
        Shown::Clock(_) => "clock",
    };
    let mut entries = vec![
        ("label".to_owned(), Json::Text(axis.label.clone())),
        ("shown".to_owned(), Json::Text(shown.to_owned())),
        ("from".to_owned(), Json::Float(axis.from)),
        ("to".to_owned(), Json::Float(axis.to)),
        ("log".to_owned(), Json::Bool(axis.log)),
    ];
    if axis.shown == Shown::Name {
        let names = axis.ticks.iter().map(|(_, name)| Json::Text(name.clone())).collect();
        entries.push(("names".to_owned(), Json::List(names)));
    }
    if let Shown::Clock(zero) = axis.shown {
        entries.push(("zero".to_owned(), Json::Float(zero as f64)));
    }
    Json::Object(entries)
}

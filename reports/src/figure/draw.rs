//! Draws a figure of a given size.

use std::fmt::Write;

use super::{Axis, Figure, Series, Style, escaped};

/// Width of a character of the axes' font, on average [px]; there is room for the larger one of tablets and paper.
const CHARACTER: f64 = 7.4;
/// Height of a row of labels above the plot [px].
const ROW: f64 = 16.0;

/// Writing into a `String` cannot fail.
macro_rules! put {
    ($svg:expr, $($format:tt)*) => {
        let _ = writeln!($svg, $($format)*);
    };
}

/// The plot within the figure [px].
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(&self, axis: &Axis, value: f64) -> f64 {
        self.left + axis.place(value) * (self.right - self.left)
    }

    fn y(&self, axis: &Axis, value: f64) -> f64 {
        self.bottom - axis.place(value) * (self.bottom - self.top)
    }
}

/// The figure as an `<svg>` element of class `name`.
pub(super) fn svg(figure: &Figure, name: &str, width: u32, height: u32) -> String {
    let labels = figure.y.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
    let rug = if figure.rug.is_some() { 12.0 } else { 0.0 };
    let labelled = if figure.marks.is_empty() { 28.0 } else { 30.0 + ROW * figure.marks.len() as f64 };
    let frame = Frame {
        left: (labels as f64 * CHARACTER + 10.0).max(34.0),
        right: f64::from(width) - 14.0,
        top: labelled + rug,
        bottom: f64::from(height) - if figure.x.below.is_some() { 40.0 + ROW } else { 40.0 },
    };
    let Frame { left, right, top, bottom } = frame;
    let (id, title, description) = (&figure.id, escaped(&figure.title), escaped(&figure.description));
    let mut svg = format!(
        "<svg class=\"{name}\" viewBox=\"0 0 {width} {height}\" data-frame=\"{left:.1} {right:.1} {top:.1} {bottom:.1}\" role=\"img\" aria-labelledby=\"{id}-{name}-t {id}-{name}-d\">\n\
         <title id=\"{id}-{name}-t\">{title}</title>\n<desc id=\"{id}-{name}-d\">{description}</desc>\n"
    );
    shades(&mut svg, figure, &frame);
    axes(&mut svg, figure, &frame);
    for (at, series) in figure.series.iter().enumerate() {
        put!(svg, "<g data-s=\"{at}\">");
        curve(&mut svg, figure, series, &frame);
        put!(svg, "</g>");
    }
    limits(&mut svg, figure, &frame);
    marks(&mut svg, figure, &frame);
    ticks_above(&mut svg, figure, &frame);
    svg + "</svg>\n"
}

/// Narrowest shade that can be seen [px].
const SHADE_MIN: f64 = 1.5;

/// Shades lie under everything else. Those that would touch are one.
fn shades(svg: &mut String, figure: &Figure, frame: &Frame) {
    let Some(shades) = &figure.shades else { return };
    let mut drawn: Vec<(f64, f64)> = Vec::new();
    for &(from, to) in &shades.spans {
        let from = frame.x(&figure.x, from);
        let to = frame.x(&figure.x, to).max(from + SHADE_MIN);
        match drawn.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => drawn.push((from, to)),
        }
    }
    for (from, to) in drawn {
        let (y, width, height) = (frame.top, to - from, frame.bottom - frame.top);
        put!(svg, "<rect class=\"shade\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>");
    }
}

fn axes(svg: &mut String, figure: &Figure, frame: &Frame) {
    let Frame { left, right, top, bottom } = *frame;
    put!(svg, "<text class=\"unit\" x=\"0\" y=\"11\">{}</text>", escaped(&figure.y.label));
    for (value, label) in &figure.y.ticks {
        let y = frame.y(&figure.y, *value);
        put!(svg, "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
        let (x, y) = (left - 8.0, y + 4.0);
        put!(svg, "<text class=\"tick end\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(label));
    }
    put!(svg, "<path class=\"axis\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/>");
    // A label that would touch its neighbour is left out, its tick stays.
    let mut free_from = f64::NEG_INFINITY;
    for (value, label) in &figure.x.ticks {
        let (x, half) = (frame.x(&figure.x, *value), label.chars().count() as f64 * CHARACTER / 2.0);
        if figure.x.log {
            put!(svg, "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>");
        }
        put!(svg, "<path class=\"axis\" d=\"M{x:.1} {bottom:.1}v4\"/>");
        let centre = x.min(right + 14.0 - half);
        if centre - half >= free_from {
            let y = bottom + 17.0;
            put!(svg, "<text class=\"tick mid\" x=\"{centre:.1}\" y=\"{y:.1}\">{}</text>", escaped(label));
            free_from = centre + half + 8.0;
        }
    }
    if let Some((label, names)) = &figure.x.below {
        let y = bottom + 17.0 + ROW;
        put!(svg, "<text class=\"tick\" x=\"0\" y=\"{y:.1}\">{}</text>", escaped(label));
        let mut free_from = label.chars().count() as f64 * CHARACTER + 8.0;
        for (value, name) in names {
            let (x, half) = (frame.x(&figure.x, *value), name.chars().count() as f64 * CHARACTER / 2.0);
            let centre = x.min(right + 14.0 - half);
            if centre - half >= free_from {
                put!(svg, "<text class=\"tick mid\" x=\"{centre:.1}\" y=\"{y:.1}\">{}</text>", escaped(name));
                free_from = centre + half + 8.0;
            }
        }
    }
    let y = bottom + 35.0 + if figure.x.below.is_some() { ROW } else { 0.0 };
    put!(svg, "<text class=\"unit end\" x=\"{right:.1}\" y=\"{y:.1}\">{}</text>", escaped(&figure.x.label));
}

fn curve(svg: &mut String, figure: &Figure, series: &Series, frame: &Frame) {
    let place = |&(x, y): &(f64, f64)| (frame.x(&figure.x, x), frame.y(&figure.y, y));
    let points: Vec<(f64, f64)> = series.points.iter().map(place).collect();
    let Some((&first, rest)) = points.split_first() else { return };
    let mut path = format!("M{:.1} {:.1}", first.0, first.1);
    let mut at = (format!("{:.1}", first.0), format!("{:.1}", first.1));
    for &(x, y) in rest {
        let next = (format!("{x:.1}"), format!("{y:.1}"));
        match series.style {
            Style::Line | Style::Dots | Style::Marks => {
                let _ = write!(path, "L{} {}", next.0, next.1);
            }
            // A step needs its corner only where the value changes: runs of equal values become one line.
            Style::Steps | Style::Area if next.1 != at.1 => {
                let _ = write!(path, "H{}V{}", next.0, next.1);
            }
            Style::Steps | Style::Area => {}
        }
        at = next;
    }
    if matches!(series.style, Style::Steps | Style::Area) {
        let _ = write!(path, "H{}", at.0);
    }
    let color = super::color_class(series.color);
    if series.style == Style::Area {
        let (bottom, start) = (frame.bottom, first.0);
        put!(svg, "<path class=\"fill {color}\" d=\"{path}V{bottom:.1}H{start:.1}Z\"/>");
    }
    if series.style != Style::Marks {
        put!(svg, "<path class=\"line {color}\" d=\"{path}\"/>");
    }
    if matches!(series.style, Style::Dots | Style::Marks) {
        for (x, y) in points {
            put!(svg, "<circle class=\"dot {color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        }
    }
}

/// Limits: a dashed line each, its label in a row of its own above the plot, on the side where there is room.
fn marks(svg: &mut String, figure: &Figure, frame: &Frame) {
    // From left to right and downwards: a label goes to the right above all lines that stand there.
    let mut order: Vec<_> = figure.marks.iter().collect();
    order.sort_by(|a, b| a.x.total_cmp(&b.x));
    for (row, mark) in order.into_iter().enumerate() {
        let x = frame.x(&figure.x, mark.x);
        let y = 33.0 + ROW * row as f64;
        let (top, bottom, color) = (y - 10.0, frame.bottom, mark.color);
        put!(svg, "<path class=\"mark c{color}\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>");
        let width = mark.label.chars().count() as f64 * CHARACTER + 6.0;
        let (class, x) = if x + width <= frame.right { ("start", x + 6.0) } else { ("end", x - 6.0) };
        put!(svg, "<text class=\"note {class} c{color}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(&mark.label));
    }
}

/// Targets: a dashed line each over the whole width, its label at the right end, above the line or, at the top, below it.
fn limits(svg: &mut String, figure: &Figure, frame: &Frame) {
    for limit in &figure.limits {
        let (left, right, y) = (frame.left, frame.right, frame.y(&figure.y, limit.y));
        put!(svg, "<path class=\"mark limit\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
        let y = if y - frame.top < ROW { y + 13.0 } else { y - 5.0 };
        put!(svg, "<text class=\"note end limit\" x=\"{right:.1}\" y=\"{y:.1}\">{}</text>", escaped(&limit.label));
    }
}

fn ticks_above(svg: &mut String, figure: &Figure, frame: &Frame) {
    let Some(rug) = &figure.rug else { return };
    let y = frame.top - 12.0;
    for &(x, strength) in &rug.ticks {
        let (x, opacity) = (frame.x(&figure.x, x), strength.clamp(0.0, 1.0));
        put!(svg, "<path class=\"event\" d=\"M{x:.1} {y:.1}v8\" opacity=\"{opacity:.2}\"/>");
    }
}

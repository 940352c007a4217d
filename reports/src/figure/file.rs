//! A figure as an SVG file of its own, for pages that are not ours: heading and legend are drawn, colours stand in the file.

use std::fmt::Write as _;

use super::{Figure, Style, color_class, draw, escaped};

/// Width of the plot, and of the margin around it [px].
const WIDTH: u32 = 760;
const HEIGHT: u32 = 300;
const MARGIN: u32 = 12;

/// Height of the heading, and of a row of the legend [px].
const HEADING: u32 = 30;
const ROW: u32 = 20;

/// Width of a character of the legend, on average, and of a swatch with its gaps [px].
const CHARACTER: f64 = 6.8;
const SWATCH: f64 = 44.0;

/// The rules of the page that drawings need, with its colours, for light and for dark.
const STYLE: &str = "<style>
svg{--paper:#fdfdfb;--ink:#1d2329;--soft:#59636e;--faint:#eceff1;--bad:#a3271f;--c1:#25629c;--c2:#b4560b;--c3:#2c7a52;--c4:#7b4ea3;--c5:#9a7a0c;--c6:#4f5b66}
@media(prefers-color-scheme:dark){svg{--paper:#14181c;--ink:#e4e7ea;--soft:#9aa5af;--faint:#242b31;--bad:#f2938a;--c1:#74aee6;--c2:#eb9a55;--c3:#6fc397;--c4:#bb95e0;--c5:#d6b957;--c6:#a7b1bb}}
text{font:12px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:var(--ink)}.heading{font-size:15px;font-weight:600}.tick,.unit{fill:var(--soft)}
.end{text-anchor:end}.mid{text-anchor:middle}.note{fill:currentColor;font-weight:600}.paper{fill:var(--paper)}
.grid{stroke:var(--faint);fill:none}.axis{stroke:var(--soft);fill:none}.line{stroke:currentColor;stroke-width:1.75;stroke-linejoin:round;fill:none}
.again{stroke-dasharray:6 4}.fill{fill:currentColor;opacity:.16;stroke:none}.dot{fill:currentColor}.mark{stroke:currentColor;stroke-width:1.25;stroke-dasharray:5 4;fill:none}.limit{color:var(--bad)}
.shade{fill:var(--bad);opacity:.16}.event{stroke:var(--bad);stroke-width:1.5}
.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}
</style>
";

impl Figure {
    /// The figure as an SVG document.
    pub fn svg(&self) -> String {
        let mut legend = String::new();
        let (mut x, mut row) = (0.0, 0);
        for series in &self.series {
            let width = SWATCH + series.label.chars().count() as f64 * CHARACTER;
            if x > 0.0 && x + width > f64::from(WIDTH) {
                (x, row) = (0.0, row + 1);
            }
            let y = HEADING + MARGIN + row * ROW;
            let (left, text) = (x + f64::from(MARGIN), x + f64::from(MARGIN) + 26.0);
            let color = color_class(series.color);
            let mark = if series.style == Style::Marks {
                format!(
                    "<circle class=\"dot {color}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                    left + 10.0,
                    f64::from(y) - 4.0
                )
            } else {
                format!("<path class=\"line {color}\" d=\"M{left:.1} {:.1}h20\"/>", f64::from(y) - 4.0)
            };
            let _ = writeln!(legend, "{mark}<text x=\"{text:.1}\" y=\"{y}\">{}</text>", escaped(&series.label));
            x += width;
        }
        let top = HEADING + MARGIN + row * ROW + MARGIN;
        let (width, height) = (WIDTH + 2 * MARGIN, top + HEIGHT + MARGIN);
        let plot = draw::svg(self, "wide", WIDTH, HEIGHT);
        let plot = plot.replacen(
            "<svg ",
            &format!("<svg x=\"{MARGIN}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" "),
            1,
        );
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n{STYLE}\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n\
             <text class=\"heading\" x=\"{MARGIN}\" y=\"20\">{}</text>\n{legend}{plot}</svg>\n",
            escaped(&self.title)
        )
    }

    /// The points of the figure as CSV: `series,x,y`.
    pub fn csv(&self) -> String {
        let mut csv = "series,x,y\n".to_owned();
        for series in &self.series {
            let label = series.label.replace('"', "\"\"");
            for (x, y) in &series.points {
                let _ = writeln!(csv, "\"{label}\",{x},{y}");
            }
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Series};
    use super::*;

    #[test]
    fn a_file_has_everything_that_a_page_gives() {
        let series = |number: u8| Series {
            label: format!("series {number} < the others, with a rather long name"),
            color: number,
            style: if number == 2 { Style::Marks } else { Style::Steps },
            points: vec![(0.0, 1.0), (1.0, f64::from(number))],
        };
        let figure = Figure {
            id: "x".into(),
            title: "A & B".into(),
            description: "Two.".into(),
            x: Axis::linear("x", 1.0),
            y: Axis::linear("y", 3.0),
            series: (1..=3).map(series).collect(),
            marks: vec![],
            rug: None,
            shades: None,
            limits: vec![],
            notes: vec![],
        };
        let svg = figure.svg();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert_eq!((svg.matches("<svg ").count(), svg.matches("</svg>").count()), (2, 2));
        assert!(svg.contains("A &amp; B</text>") && svg.matches("series 1 &lt; the others").count() == 1);
        assert!(!svg.contains("A & B"));
        assert_eq!(figure.csv().lines().count(), 7);
        assert!(figure.csv().contains("\"series 3 < the others, with a rather long name\",1,3\n"));
    }
}

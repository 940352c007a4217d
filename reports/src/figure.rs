//! Small figures as inline SVG: lines, areas and steps over linear or logarithmic axes, with a text alternative.
//!
//! Colours are classes (`c1` to `c6`, `again`, `ink`, `grid`, `alarm`) that the page's style sheet fills in for light, dark and print.
//! Every figure is drawn twice, wide and narrow, and the style sheet shows one: text keeps its size on a phone. Its points stand beside
//! it as JSON, for the script of the page; without script the figure is whole.

mod axis;
mod data;
mod draw;
mod file;

pub use axis::{Axis, Shown};
pub(crate) use data::within_html;

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Points joined by lines.
    Line,
    /// Points joined by lines, each point marked.
    Dots,
    /// Marked points that no order joins.
    Marks,
    /// The value holds from its point until the next one.
    Steps,
    /// Steps, filled down to the axis.
    Area,
}

/// One curve.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub label: String,
    /// Colour: 1 to 12; those from 7 on are the first six again, dashed.
    pub color: u8,
    /// How it is drawn.
    pub style: Style,
    /// Points in order of x, in the axes' units.
    pub points: Vec<(f64, f64)>,
}

/// A dashed line at a place on the x axis, with its label above the plot.
#[derive(Clone, PartialEq, Debug)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// What it says.
    pub label: String,
    /// Colour of the series that it belongs to.
    pub color: u8,
}

/// A dashed line at a value of the y axis over the whole width: a target.
#[derive(Clone, PartialEq, Debug)]
pub struct Limit {
    /// Where.
    pub y: f64,
    /// What it says.
    pub label: String,
}

/// A row of ticks above the plot: events in time.
#[derive(Clone, PartialEq, Debug)]
pub struct Rug {
    /// Its name in the legend.
    pub label: String,
    /// Where the events are, and how strong each tick is (0 to 1).
    pub ticks: Vec<(f64, f64)>,
}

/// Times that differ from the rest, shaded over the height of the plot.
#[derive(Clone, PartialEq, Debug)]
pub struct Shades {
    /// Their name in the legend.
    pub label: String,
    /// From where to where on the x axis.
    pub spans: Vec<(f64, f64)>,
}

/// A figure with its caption, legend and text alternative.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// Name within the page: unique, of letters and dashes.
    pub id: String,
    /// Heading.
    pub title: String,
    /// What it shows, in words, for screen readers.
    pub description: String,
    /// The axis along the bottom.
    pub x: Axis,
    /// The axis up the side.
    pub y: Axis,
    /// Curves; later ones are drawn over earlier ones.
    pub series: Vec<Series>,
    /// Limits on the x axis.
    pub marks: Vec<Mark>,
    /// Events above the plot.
    pub rug: Option<Rug>,
    /// Times that are shaded.
    pub shades: Option<Shades>,
    /// Targets on the y axis.
    pub limits: Vec<Limit>,
    /// What a pointer reads beside the values, for each point of each series; empty where there is nothing more to say.
    pub notes: Vec<Vec<String>>,
}

impl Figure {
    /// The figure as an HTML `<figure>`.
    pub fn html(&self) -> String {
        let mut html = format!(
            "<figure id=\"{}\">\n<figcaption><h3>{}</h3>{}</figcaption>\n",
            self.id,
            escaped(&self.title),
            self.legend()
        );
        for (name, width, height) in [("wide", 960, 300), ("narrow", 380, 260)] {
            html += &draw::svg(self, name, width, height);
        }
        html + &data::script(self) + "</figure>\n"
    }

    fn legend(&self) -> String {
        let item = |kind: &str, label: &str| format!("<li><i class=\"swatch {kind}\"></i>{}</li>", escaped(label));
        // The script of the page finds a curve by the number of its entry.
        let of_series = |(at, series): (usize, &Series)| {
            let area = if series.style == Style::Area { "area " } else { "" };
            let entry = item(&format!("{area}{}", color_class(series.color)), &series.label);
            entry.replacen("<li>", &format!("<li data-s=\"{at}\">"), 1)
        };
        let series = self.series.iter().enumerate().map(of_series);
        let rug = self.rug.iter().map(|rug| item("rug", &rug.label));
        let shades = self.shades.iter().map(|shades| item("shade", &shades.label));
        let limits = (!self.limits.is_empty()).then(|| item("limit", "target"));
        let items = series.chain(rug).chain(shades).chain(limits).collect::<String>();
        format!("<ul class=\"legend\">{items}</ul>")
    }
}

/// The class of a colour.
fn color_class(color: u8) -> String {
    let again = if color > 6 { " again" } else { "" };
    format!("c{}{again}", (color.max(1) - 1) % 6 + 1)
}

/// Text that stands for itself in HTML and SVG.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;

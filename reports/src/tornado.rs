//! What a figure hangs on: how far it goes as one thing after another changes, the widest first.

use crate::figure::escaped;

/// How far a figure goes as one thing changes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Bar {
    /// What changes.
    pub(crate) name: String,
    /// The lowest and the highest that comes of it.
    pub(crate) ends: (f64, f64),
    /// The same in words, and what it was that made it so.
    pub(crate) told: (String, String),
}

/// Bars around the figure of one setting.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Tornado {
    /// What the figure is.
    pub(crate) title: String,
    /// What comes of the setting that the bars are around.
    pub(crate) base: f64,
    /// The same in words, and which setting it is.
    pub(crate) told: String,
    pub(crate) bars: Vec<Bar>,
}

impl Tornado {
    /// A table whose last column has the bars; empty where nothing changes.
    pub(crate) fn html(mut self) -> String {
        self.bars.sort_by(|a, b| (b.ends.1 - b.ends.0).total_cmp(&(a.ends.1 - a.ends.0)));
        let low = self.bars.iter().map(|bar| bar.ends.0).fold(self.base, f64::min);
        let high = self.bars.iter().map(|bar| bar.ends.1).fold(self.base, f64::max);
        if high <= low {
            return String::new();
        }
        let place = |value: f64| 100.0 * (value - low) / (high - low);
        let row = |bar: &Bar| {
            let (left, right, base) = (place(bar.ends.0), place(bar.ends.1), place(self.base));
            format!(
                "<tr><th scope=\"row\" class=\"left\">{}</th><td>{}</td><td>{}</td><td class=\"bar\"><div><i style=\"left:{left:.1}%;width:{:.1}%\"></i>\
                 <b style=\"left:{base:.1}%\"></b></div></td></tr>\n",
                escaped(&bar.name),
                escaped(&bar.told.0),
                escaped(&bar.told.1),
                (right - left).max(0.3)
            )
        };
        let rows: String = self.bars.iter().map(row).collect();
        format!(
            "<h3>{}</h3>\n<p class=\"soft\">{}</p>\n<table class=\"wrap tornado\"><thead><tr><th scope=\"col\" class=\"left\">What changes</th>\
             <th scope=\"col\">lowest</th><th scope=\"col\">highest</th><th scope=\"col\" class=\"bar\"><span class=\"hidden\">range</span></th></tr>\
             </thead><tbody>\n{rows}</tbody></table>\n",
            escaped(&self.title),
            escaped(&self.told),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_bar_comes_first_and_lies_within_its_column() {
        let bar = |name: &str, ends: (f64, f64)| Bar {
            name: name.to_owned(),
            ends,
            told: (format!("{} <", ends.0), ends.1.to_string()),
        };
        let tornado = Tornado {
            title: "TTFT".to_owned(),
            base: 2.0,
            told: "around 2".to_owned(),
            bars: vec![bar("narrow", (2.0, 3.0)), bar("wide", (1.0, 5.0))],
        };
        let html = tornado.clone().html();
        assert!(html.find("wide").expect("there") < html.find("narrow").expect("there"), "{html}");
        assert!(html.contains("left:0.0%;width:100.0%") && html.contains("left:25.0%;width:25.0%"), "{html}");
        assert!(html.contains("1 &lt;"), "escaped: {html}");
        assert_eq!(Tornado { bars: vec![bar("none", (2.0, 2.0))], ..tornado }.html(), "");
    }
}

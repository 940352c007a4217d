//! Prices and carbon of a point, with everything looked up.

use std::path::Path;

use overbook_sim::results::economics::{Carbon, Economics};

use super::power::{RowError, wrong};
use crate::point::Point;
use crate::scenario::{CARBON_MAX, CarbonSpec};
use crate::small_file;

impl Point {
    /// What GPUs, energy and carbon cost; `None` where nothing is said of it.
    ///
    /// # Errors
    /// A file of carbon intensities cannot be read or is not of its form; a part is missing, or would have no effect.
    pub fn economics(&self) -> Result<Option<Economics>, RowError> {
        let site = if self.has_power() { self.site()? } else { None };
        let stated = self.scenario.economics.as_ref();
        if stated.is_none() && site.is_none() {
            return Ok(None);
        }
        let spec = stated.cloned().unwrap_or_default();
        if !self.has_power() {
            let useless = [
                ("economics.energy", spec.energy.is_some()),
                ("economics.pue", spec.pue.is_some()),
                ("economics.carbon", spec.carbon.is_some()),
            ];
            if let Some((path, _)) = useless.iter().find(|(_, given)| *given) {
                return wrong(path, "has no effect where watts are not counted; add `power` or `fleet.row`");
            }
        }
        let pue = spec.pue.or(site.as_ref().map(|site| site.pue.value));
        if pue.is_none() {
            let needs = [("economics.energy", spec.energy.is_some()), ("economics.carbon", spec.carbon.is_some())];
            if let Some((path, _)) = needs.iter().find(|(_, given)| *given) {
                return wrong(
                    path,
                    "needs `economics.pue` (or `fleet.row.site`): it is the facility's energy that is paid",
                );
            }
        }
        let carbon = match spec.carbon {
            Some(CarbonSpec::GPerKwh(value)) => Some(Carbon::flat(value)),
            Some(CarbonSpec::Hourly(ref values)) => Carbon::hourly(values.clone()),
            Some(CarbonSpec::File { ref path, ref column }) => Some(read(path, column)?),
            None => site.as_ref().map(|site| Carbon::flat(site.carbon_g_per_kwh.value)),
        };
        let gpu_hour = self.gpu_hour(|gpu| spec.price_of(gpu))?;
        let priced = gpu_hour.is_some() || !spec.prices.is_empty();
        if spec.utilization.is_some() && !priced {
            return wrong(
                "economics.utilization",
                "has no effect without a price of GPUs: add `price`, `prices` or `capex`",
            );
        }
        if spec.output_weight.is_some() && !priced && spec.energy.is_none() {
            return wrong(
                "economics.output_weight",
                "has no effect without a price: add `price`, `prices`, `capex` or `energy`",
            );
        }
        Ok(Some(Economics {
            gpu_hour,
            utilization: spec.utilization.unwrap_or(1.0),
            energy: spec.energy.map(|price| price.0).or(site.as_ref().map(|site| site.price_usd_per_kwh.value)),
            energy_beside: spec.energy.is_some() || spec.capex.is_some(),
            pue,
            carbon,
            output_weight: spec.output_weight,
        }))
    }

    /// The mean over the fleet's GPUs of what an hour of one costs; none where no type has a price.
    fn gpu_hour(&self, price_of: impl Fn(&str) -> Option<f64>) -> Result<Option<f64>, RowError> {
        let (mut usd, mut gpus) = (0.0, 0.0);
        let (mut without, mut seen) = (None, None);
        for kind in self.kinds() {
            let fleet = &kind.scenario.fleet;
            let count = f64::from(fleet.replicas) * f64::from(fleet.gpus_per_replica());
            match price_of(&kind.scenario.gpu) {
                Some(price) => {
                    let scales = self.kinds().iter().any(|kind| kind.scenario.fleet.controllers.autoscale.is_some());
                    if scales && seen.is_some_and(|other: f64| other.total_cmp(&price).is_ne()) {
                        let told = "differ between pools of which one grows and shrinks: hours are counted over all pools; \
                                    give all GPUs one `price`, or leave `autoscale` out";
                        return wrong("economics.prices", told);
                    }
                    seen = Some(price);
                    (usd, gpus) = (usd + price * count, gpus + count);
                }
                None => without = Some(&kind.scenario.gpu),
            }
        }
        match without {
            Some(gpu) if gpus > 0.0 => {
                wrong("economics.prices", format!("has no price of `{gpu}`; give each GPU of the fleet one, or none"))
            }
            _ => Ok((gpus > 0.0).then(|| usd / gpus)),
        }
    }
}

/// Reads a column of a CSV file.
fn read(path: &Path, column: &str) -> Result<Carbon, RowError> {
    let text = small_file::read_text(path, small_file::SETTINGS_MAX);
    let text = text.or_else(|error| wrong(FILE, format!("{} cannot be read: {error}", path.display())))?;
    parse(&text, column).or_else(|told| wrong(FILE, format!("{}:{told}", path.display())))
}

/// The setting that names the file.
const FILE: &str = "economics.carbon.file";

/// The values of a column, or line, place in it and what is wrong there.
fn parse(text: &str, column: &str) -> Result<Carbon, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let (head, names) = lines.next().ok_or("1:1: the file is empty; its first line names the columns")?;
    let names: Vec<&str> = names.split(',').map(plain).collect();
    let Some(at) = names.iter().position(|name| *name == column) else {
        let named: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        return Err(format!("{head}:1: no column is called `{column}`; there are {}", named.join(", ")));
    };
    let mut values = Vec::new();
    for (number, line) in lines {
        let cells: Vec<&str> = line.split(',').collect();
        if cells.len() != names.len() {
            return Err(format!("{number}:1: {} cells, and the first line names {} columns", cells.len(), names.len()));
        }
        let place = 1 + cells[..at].iter().map(|cell| cell.chars().count() + 1).sum::<usize>();
        let cell = plain(cells[at]);
        match cell.parse::<f64>() {
            Ok(value) if (0.0..=CARBON_MAX).contains(&value) => values.push(value),
            _ => {
                let told = format!("`{cell}` is no number of grams per kilowatt-hour from 0 to {CARBON_MAX}");
                return Err(format!("{number}:{place}: {told}"));
            }
        }
    }
    Carbon::hourly(values).ok_or_else(|| format!("{head}:1: no line follows; each is an hour"))
}

/// A cell without quotes and spaces around it.
fn plain(cell: &str) -> &str {
    cell.trim().trim_matches('"').trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_by_its_name() {
        let text = "\u{feff}time,\"g_per_kwh\"\n00:00,300\n01:00, 120.5\n\n";
        assert_eq!(parse(text, "g_per_kwh"), Ok(Carbon::hourly(vec![300.0, 120.5]).expect("hours")));
    }

    #[test]
    fn bad_cells_are_told_with_line_and_column() {
        let told = |text: &str| parse(text, "g_per_kwh").expect_err(text);
        assert_eq!(told(""), "1:1: the file is empty; its first line names the columns");
        assert_eq!(told("time,x\n0,1\n"), "1:1: no column is called `g_per_kwh`; there are `time`, `x`");
        assert_eq!(told("time,g_per_kwh\n0,1\n1\n"), "3:1: 1 cells, and the first line names 2 columns");
        let wrong = told("time,g_per_kwh\n00:00,300\n01:00,-1\n");
        assert_eq!(wrong, "3:7: `-1` is no number of grams per kilowatt-hour from 0 to 10000");
        assert!(told("g_per_kwh\nNaN\n").starts_with("2:1: `NaN`"));
        assert_eq!(told("g_per_kwh\n"), "1:1: no line follows; each is an hour");
    }
}

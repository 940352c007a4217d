//! `overbook catalog`: quality of answers, GPUs, models, links, servers and sites.

use overbook_scenarios::Catalog;
use overbook_scenarios::quality::Evicts;

use crate::cli::CatalogCommand;
use crate::output::{DONE, Failure, print};

pub(crate) fn run(command: &CatalogCommand) -> Result<u8, Failure> {
    let catalog = Catalog::embedded();
    match command {
        CatalogCommand::List => {
            let entries = catalog.list();
            let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
            let line =
                |e: &overbook_scenarios::catalog::Entry| format!("{:<6}  {:<width$}  {}", e.kind, e.name, e.facts);
            print(&entries.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        }
        CatalogCommand::Quality => print(&quality())?,
        CatalogCommand::Show { name } => print(&catalog.show(name).map_err(Failure::input)?)?,
    }
    Ok(DONE)
}

/// The quality table, budgets and scores in a line.
fn quality() -> String {
    let mut lines: Vec<(String, Vec<(u32, String)>)> = Vec::new();
    for row in overbook_scenarios::quality::catalog() {
        let evicts = match row.evicts {
            Evicts::Prompt => "prompt cut once",
            Evicts::Throughout => "throughout",
        };
        let head =
            format!("{}  {}  {}  {evicts}  ({}; full {} %)", row.model, row.task, row.policy, row.kind, row.full);
        let cell = (row.budget, format!("{}: {} %", row.budget, row.score));
        match lines.iter_mut().find(|(other, _)| *other == head) {
            Some((_, cells)) => cells.push(cell),
            None => lines.push((head, vec![cell])),
        }
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    let told = lines.into_iter().map(|(head, mut cells)| {
        cells.sort_by_key(|cell| cell.0);
        format!("{head}\n    {}", cells.into_iter().map(|cell| cell.1).collect::<Vec<_>>().join("  "))
    });
    told.collect::<Vec<_>>().join("\n")
}

//! `overbook catalog`: GPUs, models, links, servers and sites.

use overbook_scenarios::Catalog;

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
        CatalogCommand::Show { name } => print(&catalog.show(name).map_err(Failure::input)?)?,
    }
    Ok(DONE)
}

//! `overbook schema`: what scenario files may say, for editors and for readers.

use crate::output::{self, Failure};

/// Arguments of `overbook schema`.
#[derive(clap::Args, Debug)]
pub(crate) struct SchemaArgs {
    /// Print every setting as a page of Markdown instead
    #[arg(long)]
    markdown: bool,
}

pub(crate) fn print(args: &SchemaArgs) -> Result<u8, Failure> {
    let text =
        if args.markdown { overbook_scenarios::scenario_reference() } else { overbook_scenarios::scenario_schema() };
    output::print(&text).map(|()| output::DONE)
}

//! Files that belong together: written aside, they get their names when all are whole, and go if one cannot be.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::output::Failure;

/// Files that have no names of their own yet; what is dropped before [`Aside::keep`] is removed.
#[derive(Default)]
pub(crate) struct Aside(Vec<(PathBuf, PathBuf)>);

impl Aside {
    /// Where a file is to be written that will be called `out`.
    pub(crate) fn place(&mut self, out: &Path) -> PathBuf {
        let mut aside = out.as_os_str().to_owned();
        aside.push(".partial");
        let aside = PathBuf::from(aside);
        self.0.push((aside.clone(), out.to_owned()));
        aside
    }

    /// Writes a file.
    pub(crate) fn write(&mut self, out: &Path, text: &str) -> Result<(), Failure> {
        let aside = self.place(out);
        let written =
            File::create(&aside).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(|error| failed(out, &error))
    }

    /// Gives all files their names.
    pub(crate) fn keep(mut self) -> Result<(), Failure> {
        let mut named: Vec<PathBuf> = Vec::new();
        while !self.0.is_empty() {
            let (aside, out) = &self.0[0];
            if let Err(error) = fs::rename(aside, out) {
                let failed = failed(out, &error);
                // Half of them is worse than none.
                for out in &named {
                    let _ = fs::remove_file(out);
                }
                return Err(failed);
            }
            named.push(self.0.remove(0).1);
        }
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.iter().for_each(|(aside, _)| drop(fs::remove_file(aside)));
    }
}

fn failed(out: &Path, error: &std::io::Error) -> Failure {
    Failure::Run(anyhow::anyhow!("cannot write {}: {error}", out.display()))
}

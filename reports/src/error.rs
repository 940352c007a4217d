//! Why a result could not be written or read.

use std::io;
use std::path::{Path, PathBuf};

use ::parquet::errors::ParquetError;

/// Why a result could not be written or read. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run directory is there already, and overwriting was not asked for.
    #[error("{} exists already; use --force to replace it, or --out DIR to write elsewhere", .0.display())]
    Exists(PathBuf),
    /// The path is taken by something that is not a run directory; it is not replaced even by force.
    #[error("{} exists and is not a run directory (it has no manifest.json); remove it or use --out DIR", .0.display())]
    NotARunDirectory(PathBuf),
    /// A file or directory could not be made, written or moved: a full disk, missing permissions.
    #[error("cannot write {}: {source}", .path.display())]
    Io {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A Parquet file could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Parquet {
        /// What was to be written.
        path: PathBuf,
        /// What the writer said.
        source: ParquetError,
    },
    /// The directory is not one that a run has left.
    #[error("{} is not a run directory: it has no {missing}", .dir.display())]
    NotARun {
        /// What was to be read.
        dir: PathBuf,
        /// The file that is not there.
        missing: &'static str,
    },
    /// The rows are not there: the run was made without them.
    #[error("{} is missing: the run was made with --no-rows; run it again without", .0.display())]
    NoRows(PathBuf),
    /// A file of a run directory cannot be understood.
    #[error("cannot read {}: {what}", .path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What was asked for does not exist.
    #[error("{0}")]
    Asked(String),
    /// A page could not be filled in.
    #[error("cannot write the report page: {0}")]
    Template(#[from] askama::Error),
}

impl ReportError {
    pub(crate) fn unreadable(path: &Path) -> impl Fn(String) -> ReportError + '_ {
        |what| ReportError::Unreadable { path: path.to_owned(), what }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> ReportError + '_ {
        |source| ReportError::Io { path: path.to_owned(), source }
    }

    pub(crate) fn parquet(path: &Path) -> impl Fn(ParquetError) -> ReportError + '_ {
        |source| match source {
            // The writer wraps the system's error, which is reported as with any other file.
            ParquetError::External(cause) => match cause.downcast::<io::Error>() {
                Ok(source) => ReportError::Io { path: path.to_owned(), source: *source },
                Err(cause) => ReportError::Parquet { path: path.to_owned(), source: ParquetError::External(cause) },
            },
            source => ReportError::Parquet { path: path.to_owned(), source },
        }
    }
}

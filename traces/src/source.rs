//! Opening a trace file: plain, gzip or Zstandard, by the first bytes.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use crate::error::TraceError;
use crate::packing::Packing;

/// Magic bytes of gzip (RFC 1952) and of a Zstandard frame (RFC 8878).
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// A stream of unpacked bytes and how they were packed.
pub(crate) struct Source {
    pub(crate) packing: Packing,
    pub(crate) stream: Box<dyn Read>,
}

impl Source {
    /// Opens a file and looks at its first bytes.
    pub(crate) fn open(path: &Path) -> Result<Source, TraceError> {
        let open_error = |source| TraceError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open_error)?;
        Source::unpack(file).map_err(|source| TraceError::Read { path: path.to_owned(), line: 1, source })
    }

    fn unpack(mut file: impl Read + 'static) -> io::Result<Source> {
        let mut magic = Vec::with_capacity(ZSTD.len());
        file.by_ref().take(ZSTD.len() as u64).read_to_end(&mut magic)?;
        let packing = match magic.as_slice() {
            magic if magic.starts_with(GZIP) => Packing::Gzip,
            magic if magic.starts_with(ZSTD) => Packing::Zstd,
            _ => Packing::Plain,
        };
        let file = Cursor::new(magic).chain(file);
        let stream: Box<dyn Read> = match packing {
            Packing::Plain => Box::new(file),
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
        };
        Ok(Source { packing, stream })
    }
}

//! Small files that are read whole, up to a size that none of their kind has: a device or a wrong file ends in a message, not in
//! all of the memory.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Longest file of settings: a scenario, constants, a profile, a cost table [bytes]. An hour of rates by the second is some 20 KiB.
pub const SETTINGS_MAX: u64 = 8 << 20;

/// Longest table of measured kernels [bytes].
pub(crate) const TABLE_MAX: u64 = 512 << 20;

/// The bytes of a file of at most `most` bytes.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("it is larger than {} MiB, the most that such a file may have", most >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The text of such a file.
///
/// # Errors
/// It cannot be read, is longer, or is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|error| Error::new(ErrorKind::InvalidData, format!("it is no text in UTF-8: {}", error.utf8_error())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn a_file_may_have_so_many_bytes_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "äöü").unwrap();
        assert_eq!(read_text(&path, 6).unwrap(), "äöü");
        assert_eq!(read(&path, 5).unwrap_err().kind(), ErrorKind::FileTooLarge);
        fs::write(&path, b"a\xff").unwrap();
        assert!(read_text(&path, 6).unwrap_err().to_string().contains("no text"));
        assert!(read(&folder.path().join("y"), 6).is_err());
    }
}

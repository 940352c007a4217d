//! Weight files in the safetensors format: one, or several with an index.
//!
//! Headers are read once; a tensor's bytes are read when it is asked for. Nothing is mapped into memory: the packed
//! copy is what the engine keeps, and reading needs no `unsafe`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::{Source, WeightsError};

/// Tensors in one or more files.
#[derive(Debug)]
pub struct Files {
    /// What the caller named, for errors.
    path: PathBuf,
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Place {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    /// First byte, from the beginning of the file.
    start: u64,
    bytes: usize,
}

/// `model.safetensors.index.json`: which file holds a tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    /// Reads the headers of a file, or of the files in a folder.
    pub fn open(path: &Path) -> Result<Files, WeightsError> {
        let mut tensors = BTreeMap::new();
        for file in shards(path)? {
            let (header, start) = header(&file)?;
            for name in header.offset_keys() {
                let Some(info) = header.info(&name) else { continue };
                let (begin, end) = info.data_offsets;
                let place = Place {
                    file: file.clone(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start: start + begin as u64,
                    bytes: end - begin,
                };
                tensors.insert(name, place);
            }
        }
        Ok(Files { path: path.to_owned(), tensors })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|place| place.shape.as_slice())
    }
}

impl Source for Files {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let Some(place) = self.tensors.get(name) else {
            return Err(WeightsError::Missing { path: self.path.clone(), name: name.to_owned() });
        };
        if place.shape != shape {
            return Err(WeightsError::Shape {
                path: place.file.clone(),
                name: name.to_owned(),
                got: place.shape.clone(),
                wanted: shape.to_vec(),
            });
        }
        let Some(decode) = decoder(place.dtype) else {
            let got = format!("{:?}", place.dtype).to_lowercase();
            return Err(WeightsError::Type { path: place.file.clone(), name: name.to_owned(), got });
        };
        let mut bytes = vec![0; place.bytes];
        let read = |bytes: &mut [u8]| {
            let mut file = File::open(&place.file)?;
            file.seek(SeekFrom::Start(place.start))?;
            file.read_exact(bytes)
        };
        read(&mut bytes).map_err(|source| WeightsError::Read { path: place.file.clone(), source })?;
        let values = decode(&bytes);
        // One pass over what is in the cache, without branches; the place is looked for only if there is one.
        if values.iter().fold(false, |any, value| any | !value.is_finite())
            && let Some(at) = values.iter().position(|value| !value.is_finite())
        {
            let (path, name, value) = (place.file.clone(), name.to_owned(), values[at]);
            return Err(WeightsError::NotFinite { path, name, at, of: values.len(), value });
        }
        Ok(values)
    }
}

/// The files that a path stands for.
fn shards(path: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let single = path.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = path.join("model.safetensors.index.json");
    if !index.exists() {
        return Err(WeightsError::NoFiles { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(&index).map_err(|source| WeightsError::Read { path: index.clone(), source })?;
    let map: Index =
        serde_json::from_str(&text).map_err(|error| WeightsError::Broken { path: index, detail: error.to_string() })?;
    let mut files: Vec<PathBuf> = map.weight_map.values().map(|file| path.join(file)).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The header of a file, and where its data begin.
fn header(path: &Path) -> Result<(Metadata, u64), WeightsError> {
    let broken = |detail: String| WeightsError::Broken { path: path.to_owned(), detail };
    let failed = |source| WeightsError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    let mut len = Vec::new();
    (&mut file).take(8).read_to_end(&mut len).map_err(failed)?;
    let Some(len) = len.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(broken(format!("{total} bytes are too few for a header")));
    };
    // A length beyond the file is garbage and must not be allocated.
    if len > total - 8 {
        return Err(broken(format!("a header of {len} bytes in a file of {total}")));
    }
    let mut text = Vec::new();
    file.take(len).read_to_end(&mut text).map_err(failed)?;
    // Offsets without gaps or overlaps, and as long as type and shape say, are checked here.
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    let start = 8 + len;
    let data = metadata.offset_keys().last().and_then(|name| metadata.info(name)).map_or(0, |info| info.data_offsets.1);
    if start + data as u64 != total {
        return Err(broken(format!("its header makes it {} bytes long; it has {total}", start + data as u64)));
    }
    Ok((metadata, start))
}

type Decoder = fn(&[u8]) -> Vec<f32>;

/// What turns a tensor's bytes into f32; none if they are no floats that the engine knows.
fn decoder(dtype: Dtype) -> Option<Decoder> {
    let decode: Decoder = match dtype {
        Dtype::F32 => |bytes| bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        Dtype::BF16 => |bytes| {
            let wide = |two: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*two)) << 16);
            bytes.as_chunks().0.iter().map(wide).collect()
        },
        Dtype::F16 => |bytes| bytes.as_chunks().0.iter().map(|two| f16(u16::from_le_bytes(*two))).collect(),
        _ => return None,
    };
    Some(decode)
}

/// An IEEE half as f32, exactly.
fn f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, (bits >> 10) & 31, u32::from(bits & 0x3ff));
    match exponent {
        0 => {
            let magnitude = fraction as f32 / 16_777_216.0;
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (u32::from(exponent) + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]

    use super::*;

    #[test]
    fn halves_are_exact() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(f16(bits), value, "{bits:x}");
        }
        assert!(f16(0x7e00).is_nan() && f16(0xfc00) == f32::NEG_INFINITY && f16(0x8000).is_sign_negative());
    }
}

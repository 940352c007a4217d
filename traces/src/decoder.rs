//! Rows to requests: the decoder of each format.

use crate::azure::Azure;
use crate::burstgpt::BurstGpt;
use crate::columns::Mapped;
use crate::error::TraceError;
use crate::format::Format;
use crate::header::Header;
use crate::keep::Keep;
use crate::mooncake::Mooncake;
use crate::number::TimeUnit;
use crate::outcome::Decoded;
use crate::table::Row;
use crate::vidur::Vidur;

/// The decoder of the file's format.
#[derive(Debug)]
pub(crate) enum Decoder {
    BurstGpt(BurstGpt),
    Azure(Azure, [String; 1]),
    Vidur(Vidur, [String; 1]),
    Mooncake(Mooncake, [String; 1]),
    Mapped(Mapped),
}

impl Decoder {
    pub(crate) fn new(format: Format, columns: &[usize], keep: &Keep) -> Decoder {
        let class = [format.to_string()];
        match format {
            Format::Azure => Decoder::Azure(Azure::new(columns), class),
            Format::Vidur => Decoder::Vidur(Vidur::new(columns), class),
            Format::Mooncake => Decoder::Mooncake(Mooncake::new(columns), class),
            // All others are read by a map of columns, or are no rows.
            _ => Decoder::BurstGpt(BurstGpt::new(columns, keep.clone())),
        }
    }

    pub(crate) fn decode(&mut self, row: &Row<'_>) -> Result<Decoded, TraceError> {
        match self {
            Decoder::BurstGpt(decoder) => decoder.decode(row),
            Decoder::Azure(decoder, _) => decoder.decode(row),
            Decoder::Vidur(decoder, _) => decoder.decode(row),
            Decoder::Mooncake(decoder, _) => decoder.decode(row),
            Decoder::Mapped(decoder) => decoder.decode(row),
        }
    }

    /// Which rows are no requests, in words: "`cache_hit` is `True`"; `None` if all are.
    pub(crate) fn no_request(&self, header: &Header) -> Option<String> {
        let Decoder::Mapped(decoder) = self else { return None };
        decoder.no_request(header)
    }

    /// Unit of the times.
    pub(crate) fn unit(&self) -> TimeUnit {
        match self {
            Decoder::BurstGpt(_) | Decoder::Vidur(..) => TimeUnit::S,
            Decoder::Azure(..) => TimeUnit::Datetime,
            Decoder::Mooncake(..) => TimeUnit::Ms,
            Decoder::Mapped(decoder) => decoder.unit(),
        }
    }

    /// All columns that decoding needs.
    pub(crate) fn columns(&self) -> Vec<usize> {
        match self {
            Decoder::BurstGpt(decoder) => decoder.columns(),
            Decoder::Azure(decoder, _) => decoder.columns(),
            Decoder::Vidur(decoder, _) => decoder.columns(),
            Decoder::Mooncake(decoder, _) => decoder.columns(),
            Decoder::Mapped(decoder) => decoder.columns(),
        }
    }

    /// `None` if the rows have no times.
    pub(crate) fn time_column(&self) -> Option<usize> {
        match self {
            Decoder::BurstGpt(decoder) => Some(decoder.time_column()),
            Decoder::Azure(decoder, _) => Some(decoder.time_column()),
            Decoder::Vidur(decoder, _) => Some(decoder.time_column()),
            Decoder::Mooncake(decoder, _) => Some(decoder.time_column()),
            Decoder::Mapped(decoder) => decoder.time_column(),
        }
    }
}

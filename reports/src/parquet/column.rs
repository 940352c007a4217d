//! The buffered values of one column.

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedColumnWriter;
use parquet::schema::types::Type;

enum Values {
    Int(Vec<i32>),
    Long(Vec<i64>),
    /// Present values, and per row whether there is one (1 or 0, Parquet's definition level).
    Optional(Vec<i64>, Vec<i16>),
    /// One of a few words.
    Word {
        words: Vec<ByteArray>,
        values: Vec<ByteArray>,
    },
}

/// A named column. Pushing a value of another kind than the column's is a bug and is ignored in release builds.
pub(super) struct Column {
    name: &'static str,
    values: Values,
}

impl Column {
    pub(super) fn int(name: &'static str) -> Self {
        Column { name, values: Values::Int(Vec::new()) }
    }

    pub(super) fn long(name: &'static str) -> Self {
        Column { name, values: Values::Long(Vec::new()) }
    }

    pub(super) fn optional(name: &'static str) -> Self {
        Column { name, values: Values::Optional(Vec::new(), Vec::new()) }
    }

    pub(super) fn word<const N: usize>(name: &'static str, words: [&'static str; N]) -> Self {
        let words = words.map(ByteArray::from).to_vec();
        Column { name, values: Values::Word { words, values: Vec::new() } }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn is_word(&self) -> bool {
        matches!(self.values, Values::Word { .. })
    }

    /// The largest `i32` stands for values beyond it.
    #[inline]
    pub(super) fn push_int(&mut self, value: u32) {
        match &mut self.values {
            Values::Int(values) => values.push(value.min(i32::MAX as u32) as i32),
            _ => unreachable!("{} is no int column", self.name),
        }
    }

    /// The largest `i64` stands for values beyond it.
    #[inline]
    pub(super) fn push_long(&mut self, value: u64) {
        match &mut self.values {
            Values::Long(values) => values.push(value.min(i64::MAX as u64) as i64),
            _ => unreachable!("{} is no long column", self.name),
        }
    }

    #[inline]
    pub(super) fn push_optional(&mut self, value: Option<u64>) {
        match &mut self.values {
            Values::Optional(values, present) => {
                present.push(i16::from(value.is_some()));
                if let Some(value) = value {
                    values.push(value.min(i64::MAX as u64) as i64);
                }
            }
            _ => unreachable!("{} is no optional column", self.name),
        }
    }

    #[inline]
    pub(super) fn push_word(&mut self, index: usize) {
        match &mut self.values {
            Values::Word { words, values } => values.push(words[index].clone()),
            _ => unreachable!("{} is no word column", self.name),
        }
    }

    pub(super) fn schema(&self) -> Result<Type, ParquetError> {
        let (physical, repetition, converted) = match self.values {
            Values::Int(_) => (Physical::INT32, Repetition::REQUIRED, ConvertedType::NONE),
            Values::Long(_) => (Physical::INT64, Repetition::REQUIRED, ConvertedType::NONE),
            Values::Optional(..) => (Physical::INT64, Repetition::OPTIONAL, ConvertedType::NONE),
            Values::Word { .. } => (Physical::BYTE_ARRAY, Repetition::REQUIRED, ConvertedType::UTF8),
        };
        Type::primitive_type_builder(self.name, physical)
            .with_repetition(repetition)
            .with_converted_type(converted)
            .build()
    }

    /// Writes the buffered values and forgets them.
    pub(super) fn write(&mut self, chunk: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        match &mut self.values {
            Values::Int(values) => {
                chunk.typed::<Int32Type>().write_batch(values, None, None)?;
                values.clear();
            }
            Values::Long(values) => {
                chunk.typed::<Int64Type>().write_batch(values, None, None)?;
                values.clear();
            }
            Values::Optional(values, present) => {
                chunk.typed::<Int64Type>().write_batch(values, Some(present), None)?;
                values.clear();
                present.clear();
            }
            Values::Word { values, .. } => {
                chunk.typed::<ByteArrayType>().write_batch(values, None, None)?;
                values.clear();
            }
        }
        Ok(())
    }
}

//! A column of rows in a Parquet file.

use parquet::basic::{ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedColumnWriter;
use parquet::schema::types::Type;

use crate::columns::{Column, Values};

/// The type of a column in a file.
pub(super) fn schema(column: &Column) -> Result<Type, ParquetError> {
    let (physical, repetition, converted) = match column.values {
        Values::Int(_) => (Physical::INT32, Repetition::REQUIRED, ConvertedType::NONE),
        Values::Long(_) => (Physical::INT64, Repetition::REQUIRED, ConvertedType::NONE),
        Values::Optional { .. } => (Physical::INT64, Repetition::OPTIONAL, ConvertedType::NONE),
        Values::Word { .. } => (Physical::BYTE_ARRAY, Repetition::REQUIRED, ConvertedType::UTF8),
    };
    Type::primitive_type_builder(column.name(), physical)
        .with_repetition(repetition)
        .with_converted_type(converted)
        .build()
}

/// Writes the buffered values of a column and forgets them.
pub(super) fn write(column: &mut Column, chunk: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
    match &mut column.values {
        Values::Int(values) => {
            chunk.typed::<Int32Type>().write_batch(values, None, None)?;
            values.clear();
        }
        Values::Long(values) => {
            chunk.typed::<Int64Type>().write_batch(values, None, None)?;
            values.clear();
        }
        Values::Optional { values, present } => {
            chunk.typed::<Int64Type>().write_batch(values, Some(present), None)?;
            values.clear();
            present.clear();
        }
        Values::Word { words, values } => {
            // Clones of one word share its bytes.
            let words: Vec<ByteArray> = words.iter().map(|&word| ByteArray::from(word)).collect();
            let rows: Vec<ByteArray> = values.iter().map(|&index| words[usize::from(index)].clone()).collect();
            chunk.typed::<ByteArrayType>().write_batch(&rows, None, None)?;
            values.clear();
        }
    }
    Ok(())
}

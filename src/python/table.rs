//! Tables that data frames take without a copy: Arrow's C stream interface.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, RecordBatchIterator, StringArray};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use overbook_reports::columns::{Column, Values};
use overbook_reports::plan::LedgerRow;
use overbook_reports::points::Points;
use overbook_reports::sheet;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::error::RunError;

/// Rows, as Arrow: `polars.DataFrame(table)`, `pyarrow.table(table)`, `pandas.DataFrame.from_arrow(table)` and whatever else knows
/// `__arrow_c_stream__` take it.
#[pyclass(frozen, module = "overbook")]
pub(super) struct Table {
    rows: RecordBatch,
}

fn failed(error: &ArrowError) -> PyErr {
    RunError::new_err(error.to_string())
}

impl Table {
    /// Columns and their values; words that all columns have in common stand in `metadata`.
    fn of(columns: Vec<(Field, ArrayRef)>, metadata: HashMap<String, String>) -> PyResult<Table> {
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let rows = RecordBatch::try_new(schema, arrays).map_err(|error| failed(&error))?;
        Ok(Table { rows })
    }

    /// Rows of a run, in the columns of its Parquet files. `classes` are the workload's class names, where a column counts them.
    pub(super) fn rows(columns: impl IntoIterator<Item = Column>, classes: Option<&[String]>) -> PyResult<Table> {
        let metadata =
            classes.map(|classes| ("overbook.classes".to_owned(), serde_json::Value::from(classes).to_string()));
        Table::of(columns.into_iter().map(column).collect(), metadata.into_iter().collect())
    }

    /// The points of a study.
    pub(super) fn points(points: &Points) -> PyResult<Table> {
        let columns = points.columns();
        let columns = columns.iter().map(|column| match &column.values {
            sheet::Values::Words(words) => text(&column.name, words.iter().map(String::as_str).collect()),
            sheet::Values::Numbers(numbers) => figure(&column.name, numbers.iter().copied()),
        });
        Table::of(columns.collect(), HashMap::new())
    }

    /// The ledger of a plan, in the columns of `ledger.csv`.
    pub(super) fn ledger(rows: &[LedgerRow]) -> PyResult<Table> {
        let whole = |name: &str, values: Vec<Option<i64>>| -> (Field, ArrayRef) {
            (Field::new(name, DataType::Int64, true), Arc::new(Int64Array::from(values)))
        };
        let each = |of: fn(&LedgerRow) -> &str| rows.iter().map(of).collect::<Vec<_>>();
        Table::of(
            vec![
                text("shape", each(|row| &row.shape)),
                text("gpu", each(|row| &row.gpu)),
                whole("tensor_parallel", rows.iter().map(|row| Some(row.tensor_parallel.into())).collect()),
                text("decode_gpu", each(|row| row.decode_gpu.as_deref().unwrap_or_default())),
                whole(
                    "decode_tensor_parallel",
                    rows.iter().map(|row| row.decode_tensor_parallel.map(i64::from)).collect(),
                ),
                text("mode", each(|row| &row.mode)),
                text("replicas", each(|row| &row.replicas)),
                whole("fleets", rows.iter().map(|row| i64::try_from(row.fleets).ok()).collect()),
                whole("gpus", rows.iter().map(|row| row.gpus.map(i64::from)).collect()),
                whole("servers", rows.iter().map(|row| row.servers.map(i64::from)).collect()),
                figure("usd_per_hour", rows.iter().map(|row| row.usd_per_hour)),
                figure("kw_mean", rows.iter().map(|row| row.kw_mean)),
                figure("kw_peak", rows.iter().map(|row| row.kw_peak)),
                figure("nearest_to_bound", rows.iter().map(|row| row.nearest_to_bound)),
                figure("compute", rows.iter().map(|row| row.binds.map(|binds| binds.compute))),
                figure("memory", rows.iter().map(|row| row.binds.map(|binds| binds.memory))),
                figure("link", rows.iter().map(|row| row.binds.map(|binds| binds.link))),
                figure("host", rows.iter().map(|row| row.binds.map(|binds| binds.host))),
                text("stage", each(|row| row.stage)),
                text("outcome", each(|row| row.outcome)),
                text("reason", each(|row| &row.reason)),
            ],
            HashMap::new(),
        )
    }
}

fn text(name: &str, values: Vec<&str>) -> (Field, ArrayRef) {
    (Field::new(name, DataType::Utf8, false), Arc::new(StringArray::from(values)))
}

fn figure(name: &str, values: impl Iterator<Item = Option<f64>>) -> (Field, ArrayRef) {
    (Field::new(name, DataType::Float64, true), Arc::new(values.collect::<Float64Array>()))
}

fn column(column: Column) -> (Field, ArrayRef) {
    let name = column.name();
    match column.into_values() {
        Values::Int(values) => (Field::new(name, DataType::Int32, false), Arc::new(Int32Array::from(values))),
        Values::Long(values) => (Field::new(name, DataType::Int64, false), Arc::new(Int64Array::from(values))),
        Values::Optional { values, present } => {
            let mut values = values.into_iter();
            let all = present.into_iter().map(|there| if there == 0 { None } else { values.next() });
            (Field::new(name, DataType::Int64, true), Arc::new(all.collect::<Int64Array>()))
        }
        Values::Word { words, values } => {
            let all = values.into_iter().map(|index| Some(words[usize::from(index)]));
            (Field::new(name, DataType::Utf8, false), Arc::new(all.collect::<StringArray>()))
        }
    }
}

#[pymethods]
impl Table {
    /// Names of the columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.rows.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    fn __len__(&self) -> usize {
        self.rows.num_rows()
    }

    /// Arrow's C stream, in a capsule. The schema that a consumer asks for is a wish, which this table does not grant.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let rows = RecordBatchIterator::new([Ok(self.rows.clone())], self.rows.schema());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(rows)), c"arrow_array_stream")
    }

    /// Arrow's C schema, in a capsule.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.rows.schema().as_ref()).map_err(|error| failed(&error))?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    fn __repr__(&self) -> String {
        format!("Table({} rows, columns: {})", self.rows.num_rows(), self.columns().join(", "))
    }
}

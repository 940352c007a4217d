//! Parquet traces: the same requests as from text, whatever the types and packing, and errors that name row and column.

use std::fs::File;
use std::sync::Arc;

use overbook_sim::workload::arrival::Arrival;
use overbook_traces::{Columns, Failures, Keep, TimeUnit, TraceError, TraceSpec};
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, Int96};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::NamedTempFile;

use crate::{all, file, first_error};

/// The values of a column; `None` is null.
#[derive(Clone)]
enum Values {
    Int(Vec<Option<i32>>),
    Long(Vec<Option<i64>>),
    Stamp96(Vec<Option<(i64, u32)>>),
    Float(Vec<Option<f32>>),
    Double(Vec<Option<f64>>),
    Bool(Vec<bool>),
    Text(Vec<Option<&'static str>>),
}

fn longs(values: &[i64]) -> Values {
    Values::Long(values.iter().copied().map(Some).collect())
}

fn ints(values: &[i32]) -> Values {
    Values::Int(values.iter().copied().map(Some).collect())
}

fn texts(values: &[&'static str]) -> Values {
    Values::Text(values.iter().copied().map(Some).collect())
}

/// The values that are there, and the definition levels if the column is optional.
fn split<T: Clone>(values: &[Option<T>], rows: std::ops::Range<usize>) -> (Vec<T>, Vec<i16>) {
    let values = &values[rows];
    (values.iter().flatten().cloned().collect(), values.iter().map(|value| i16::from(value.is_some())).collect())
}

fn column(writer: &mut ColumnWriter<'_>, values: &Values, rows: std::ops::Range<usize>) -> Result<usize, ParquetError> {
    match (writer, values) {
        (ColumnWriter::Int32ColumnWriter(writer), Values::Int(values)) => {
            let (values, levels) = split(values, rows);
            writer.write_batch(&values, Some(&levels), None)
        }
        (ColumnWriter::Int64ColumnWriter(writer), Values::Long(values)) => {
            let (values, levels) = split(values, rows);
            writer.write_batch(&values, Some(&levels), None)
        }
        (ColumnWriter::Int96ColumnWriter(writer), Values::Stamp96(values)) => {
            let (values, levels) = split(values, rows);
            let stamp = |&(ns, day): &(i64, u32)| {
                let mut stamp = Int96::new();
                stamp.set_data(ns as u32, (ns >> 32) as u32, day);
                stamp
            };
            writer.write_batch(&values.iter().map(stamp).collect::<Vec<_>>(), Some(&levels), None)
        }
        (ColumnWriter::FloatColumnWriter(writer), Values::Float(values)) => {
            let (values, levels) = split(values, rows);
            writer.write_batch(&values, Some(&levels), None)
        }
        (ColumnWriter::DoubleColumnWriter(writer), Values::Double(values)) => {
            let (values, levels) = split(values, rows);
            writer.write_batch(&values, Some(&levels), None)
        }
        (ColumnWriter::BoolColumnWriter(writer), Values::Bool(values)) => {
            let levels = vec![1; rows.len()];
            writer.write_batch(&values[rows], Some(&levels), None)
        }
        (ColumnWriter::ByteArrayColumnWriter(writer), Values::Text(values)) => {
            let (values, levels) = split(values, rows);
            let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
            writer.write_batch(&values, Some(&levels), None)
        }
        _ => panic!("values of another type than the column"),
    }
}

/// A file with these optional columns, in row groups of `group` rows.
fn packed(schema: &str, columns: &[Values], rows: usize, group: usize, packing: Compression) -> NamedTempFile {
    let file = NamedTempFile::new().expect("temporary file");
    let schema = Arc::new(parse_message_type(&format!("message trace {{ {schema} }}")).expect("a schema"));
    let properties = WriterProperties::builder().set_compression(packing).set_data_page_row_count_limit(7).build();
    let mut writer =
        SerializedFileWriter::new(file.reopen().expect("opens"), schema, Arc::new(properties)).expect("begins");
    for start in (0..rows).step_by(group) {
        let mut group_writer = writer.next_row_group().expect("a group");
        for values in columns {
            let mut writer = group_writer.next_column().expect("a column").expect("as many as in the schema");
            column(writer.untyped(), values, start..rows.min(start + group)).expect("written");
            writer.close().expect("closed");
        }
        group_writer.close().expect("closed");
    }
    writer.close().expect("closed");
    file
}

fn table(schema: &str, columns: &[Values], rows: usize) -> NamedTempFile {
    packed(schema, columns, rows, 5, Compression::UNCOMPRESSED)
}

fn mapped(file: &NamedTempFile, unit: TimeUnit, change: impl FnOnce(&mut Columns)) -> TraceSpec {
    let mut columns = Columns { unit, ..Columns::new("t", "in", "out") };
    change(&mut columns);
    TraceSpec { columns: Some(columns), ..TraceSpec::new(file.path()) }
}

fn short(arrivals: &[Arrival]) -> Vec<(u64, u32, u32, u16, i32)> {
    arrivals.iter().map(|a| (a.at.0, a.prompt_tokens, a.output_tokens, a.class.0, a.priority)).collect()
}

const SCHEMA: &str = "optional int64 t; optional int32 in; optional int64 out; optional binary who (UTF8);";

#[test]
fn the_same_requests_as_from_text_whatever_the_packing() {
    const ROWS: usize = 20_000;
    let row =
        |i: i64| (i * 3 / 2, 1 + i * 7919 % 2000, i * 104_729 % 600, ["blue", "a, \"b\"", "grün"][i as usize % 3]);
    let rows: Vec<_> = (0..ROWS as i64).map(row).collect();
    let text =
        rows.iter().map(|(t, prompt, output, who)| format!("{t},{prompt},{output},\"{}\"\n", who.replace('"', "\"\"")));
    let csv = file(format!("t,in,out,who\n{}", text.collect::<String>()));
    let with_class = |columns: &mut Columns| columns.class = Some("WHO".into());
    let expected = all(&mapped(&csv, TimeUnit::Ms, with_class));
    assert!(expected.len() > ROWS - 100 && expected.len() < ROWS, "some have failed");
    let columns = [
        longs(&rows.iter().map(|row| row.0).collect::<Vec<_>>()),
        ints(&rows.iter().map(|row| row.1 as i32).collect::<Vec<_>>()),
        longs(&rows.iter().map(|row| row.2).collect::<Vec<_>>()),
        texts(&rows.iter().map(|row| row.3).collect::<Vec<_>>()),
    ];
    let packings = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(parquet::basic::ZstdLevel::default()),
        Compression::GZIP(parquet::basic::GzipLevel::default()),
        Compression::LZ4_RAW,
    ];
    for packing in packings {
        for group in [999, 8192, ROWS] {
            let file = packed(SCHEMA, &columns, ROWS, group, packing);
            let spec = mapped(&file, TimeUnit::Ms, with_class);
            assert_eq!(all(&spec), expected, "{packing:?} {group}");
        }
    }
    // A second and third pass, and failed requests with drawn sizes.
    let file = packed(SCHEMA, &columns, ROWS, 8192, Compression::SNAPPY);
    let again = |file, failures| TraceSpec { repeat: 3, failures, ..mapped(file, TimeUnit::Ms, with_class) };
    for failures in [Failures::Drop, Failures::Redraw] {
        assert_eq!(all(&again(&file, failures)), all(&again(&csv, failures)));
    }
    let keep = Keep { class: vec!["BLUE".into()], ..Keep::default() };
    let kept = all(&TraceSpec { keep, ..mapped(&file, TimeUnit::Ms, with_class) });
    assert!(kept.len().abs_diff(expected.len() / 3) < 100);
}

#[test]
fn every_type_of_time_and_length() {
    let schema = "optional double t; optional float in; optional int32 out (UINT_32); optional int32 rank;";
    let columns = [
        Values::Double([0.5, 1.25, 45.123_456_789].map(Some).to_vec()),
        Values::Float([10.0, 20.0, 30.0].map(Some).to_vec()),
        ints(&[1, 2, 3]),
        ints(&[-5, 0, 7]),
    ];
    let file = table(schema, &columns, 3);
    let spec = mapped(&file, TimeUnit::S, |columns| columns.priority = Some("rank".into()));
    assert_eq!(short(&all(&spec)), [(0, 10, 1, 0, -5), (750_000_000, 20, 2, 0, 0), (44_623_456_789, 30, 3, 0, 7)]);
    // Timestamps bring their unit along.
    let stamps: [(&str, Values, u64); 4] = [
        (
            "optional int64 t (TIMESTAMP(NANOS,true));",
            longs(&[1_700_000_000_000_000_001, 1_700_000_000_000_000_004]),
            3,
        ),
        ("optional int64 t (TIMESTAMP_MICROS);", longs(&[1_700_000_000_000_001, 1_700_000_000_000_004]), 3_000),
        ("optional int64 t (TIMESTAMP(MILLIS,false));", longs(&[1_700_000_000_001, 1_700_000_000_004]), 3_000_000),
        ("optional int96 t;", Values::Stamp96(vec![Some((5, 2_460_000)), Some((7, 2_460_000))]), 2),
    ];
    for (schema, times, gap) in stamps {
        for unit in [TimeUnit::S, TimeUnit::Datetime] {
            let schema = format!("{schema} optional int32 in; optional int32 out;");
            let file = table(&schema, &[times.clone(), ints(&[5, 6]), ints(&[7, 8])], 2);
            assert_eq!(short(&all(&mapped(&file, unit, |_| {}))), [(0, 5, 7, 0, 0), (gap, 6, 8, 0, 0)], "{schema}");
        }
    }
    let schema = "optional binary t (UTF8); optional binary in; optional int64 out;";
    let dates = texts(&["2023-11-16 18:15:46.6805900", "2023-11-16 18:15:47.6805900"]);
    let file = table(schema, &[dates, texts(&["5", "6.0"]), longs(&[7, 8])], 2);
    let read = all(&mapped(&file, TimeUnit::Datetime, |_| {}));
    assert_eq!(short(&read), [(0, 5, 7, 0, 0), (1_000_000_000, 6, 8, 0, 0)]);
}

#[test]
fn columns_of_a_known_format_are_found_by_name() {
    let schema = "optional int64 TIMESTAMP (TIMESTAMP(MICROS,false)); optional int64 ContextTokens;
                  optional int64 GeneratedTokens; optional boolean extra;";
    let columns =
        [longs(&[5_000_000, 6_000_000]), longs(&[100, 200]), longs(&[10, 20]), Values::Bool(vec![true, false])];
    let file = table(schema, &columns, 2);
    let replay = TraceSpec::new(file.path()).replay().expect("opens");
    assert_eq!(replay.format().to_string(), "azure");
    assert_eq!(short(&all(&TraceSpec::new(file.path()))), [(0, 100, 10, 0, 0), (1_000_000_000, 200, 20, 0, 0)]);
}

#[test]
fn nulls_are_no_numbers_and_no_class() {
    let who = Values::Text(vec![Some("a"), None, Some("a"), None, Some("b"), None]);
    let six = [longs(&[0, 1, 2, 3, 4, 5]), ints(&[1, 2, 3, 4, 5, 6]), longs(&[1, 1, 1, 1, 1, 1]), who];
    let spec = |file| mapped(file, TimeUnit::S, |columns| columns.class = Some("who".into()));
    let file = table(SCHEMA, &six, 6);
    let mut workload = spec(&file).open().expect("opens");
    let arrivals = crate::drain(&mut *workload).expect("reads");
    assert_eq!(arrivals.iter().map(|a| a.class.0).collect::<Vec<_>>(), [0, 1, 0, 1, 2, 1]);
    assert_eq!(workload.classes(), ["a", "(none)", "b"]);
    let mut holes = six.clone();
    holes[1] = Values::Int(vec![Some(1), Some(2), None, None, Some(5), Some(6)]);
    let text = first_error(&spec(&table(SCHEMA, &holes, 6))).to_string();
    assert!(text.contains(":3: column `in`: expected a whole number of tokens, like 472, found `null`"), "{text}");
}

#[test]
fn errors_name_row_and_column() {
    let good = || [longs(&[0, 1, 2]), ints(&[1, 2, 3]), longs(&[1, 1, 1]), texts(&["a", "b", "c"])];
    let plain = |file: &NamedTempFile| mapped(file, TimeUnit::S, |_| {});
    let says = |columns: &[Values], change: &dyn Fn(&mut TraceSpec), words: &[&str]| {
        let file = table(SCHEMA, columns, 3);
        let mut spec = plain(&file);
        change(&mut spec);
        let text = first_error(&spec).to_string();
        let told = words.iter().all(|word| text.contains(word)) && text.contains("help: ");
        assert!(told, "{text}");
    };
    let same = |_: &mut TraceSpec| {};
    let [_, prompt, output, who] = good();
    let times = |values: &[i64]| [longs(values), prompt.clone(), output.clone(), who.clone()];
    says(&times(&[0, 5, 3]), &same, &[":3: column `t`: time goes backwards", "at least `5`", "found `3`"]);
    says(&times(&[0, -7, 3]), &same, &[":2: column `t`: expected a time of at least 0 seconds, found `-7`"]);
    says(&times(&[0, i64::MAX, 3]), &same, &[":2: column `t`: expected at most 18446744073 seconds"]);
    let datetime = |spec: &mut TraceSpec| {
        spec.columns = spec.columns.take().map(|columns| Columns { unit: TimeUnit::Datetime, ..columns });
    };
    says(&good(), &datetime, &[":1: column `t`: expected a date and time", "a column of numbers needs a unit"]);
    let mut negative = good();
    negative[1] = ints(&[1, -4, 3]);
    says(&negative, &same, &[":2: column `in`: expected a number of tokens, not negative, found `-4`"]);
    let mut large = good();
    large[2] = longs(&[1, 1, 1 << 40]);
    says(&large, &same, &[":3: column `out`: expected at most 16777216 tokens (2^24), found `1099511627776`"]);
    let text_as_tokens = |spec: &mut TraceSpec| {
        spec.columns = spec.columns.take().map(|columns| Columns { output: "who".into(), ..columns });
    };
    let another = "the column may be another one than is meant";
    says(
        &good(),
        &text_as_tokens,
        &[":1: column `who`: expected a whole number of tokens, like 472, found `a`", another],
    );
    let missing = |spec: &mut TraceSpec| spec.columns = Some(Columns::new("t", "in", "tokens"));
    says(&good(), &missing, &["no column `tokens` (`columns.output`) among `t,in,out,who`"]);
    let unmapped = |spec: &mut TraceSpec| spec.columns = None;
    says(&good(), &unmapped, &["unknown header `t,in,out,who`", "name the columns with `columns:"]);
    let no_priority = |spec: &mut TraceSpec| {
        spec.columns = spec.columns.take().map(|columns| Columns { priority: Some("who".into()), ..columns });
    };
    says(&good(), &no_priority, &[":1: column `who`: expected a priority"]);
}

#[test]
fn columns_without_a_meaning_are_refused_when_opened() {
    let kinds = [
        ("optional boolean in;", Values::Bool(vec![true]), "booleans"),
        ("optional int32 in (DATE);", ints(&[5]), "dates without a time"),
        ("optional int64 in (DECIMAL(9,2));", longs(&[5]), "decimals"),
    ];
    for (schema, values, name) in kinds {
        let file =
            table(&format!("optional int64 t; {schema} optional int64 out;"), &[longs(&[0]), values, longs(&[1])], 1);
        let text = mapped(&file, TimeUnit::S, |_| {}).replay().err().expect("refused").to_string();
        assert!(text.contains(&format!("column `in` holds {name}; expected integers")), "{text}");
    }
    let list = "optional int64 timestamp; optional int64 input_length; optional int64 output_length;
                optional group hash_ids (LIST) { repeated group list { optional int64 element; } }";
    let columns = [longs(&[0]), longs(&[600]), longs(&[5])];
    let mut with_list = columns.to_vec();
    with_list.push(Values::Long(vec![]));
    let file = table(list, &with_list[..3], 0);
    let text = TraceSpec::new(file.path()).replay().err().expect("refused").to_string();
    assert!(text.contains("column `hash_ids` holds lists"), "{text}");
}

#[test]
fn a_damaged_file_is_an_error_and_nothing_worse() {
    let who = texts(&vec!["a"; 3000]);
    let numbers: Vec<i64> = (0..3000).collect();
    let prompts: Vec<i32> = (1..=3000).collect();
    let columns = [longs(&numbers), ints(&prompts), longs(&vec![1; 3000]), who];
    let whole = packed(SCHEMA, &columns, 3000, 1000, Compression::SNAPPY);
    let bytes = std::fs::read(whole.path()).expect("read");
    let read = |bytes: &[u8]| {
        let file = file(bytes);
        let spec = mapped(&file, TimeUnit::S, |columns| columns.class = Some("who".into()));
        let mut replay = spec.replay()?;
        while replay.next_request()?.is_some() {}
        Ok::<_, TraceError>(())
    };
    read(&bytes).expect("whole");
    for length in (4..bytes.len()).step_by(97) {
        let text = read(&bytes[..length]).expect_err("cut off").to_string();
        assert!(text.contains("cannot read the Parquet file") && text.contains("incomplete"), "{text}");
    }
    let mut broken = 0;
    for at in (4..bytes.len()).step_by(13) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x55;
        broken += u32::from(read(&bytes).is_err());
    }
    assert!(broken > 50, "{broken}");
}

#[test]
fn a_packed_parquet_file_is_told_to_be_unpacked() {
    let whole = packed(SCHEMA, &[longs(&[0]), ints(&[1]), longs(&[1]), texts(&["a"])], 1, 1, Compression::UNCOMPRESSED);
    let bytes = std::fs::read(whole.path()).expect("read");
    let file = file(zstd::encode_all(&bytes[..], 1).expect("packs"));
    let text = TraceSpec::new(file.path()).replay().err().expect("refused").to_string();
    assert!(text.contains("help: "), "{text}");
    let _ = File::open(file.path()).expect("still there");
}

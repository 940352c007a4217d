use std::fs;

use overbook_sim::results::rows::Outcome;
use overbook_sim::time::{Span, Time};
use overbook_sim::workload::arrival::{ClassId, SessionId};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, RowAccessor};

use super::*;
use crate::columns::{Columns, Values};

fn request(i: u64) -> RequestRow {
    RequestRow {
        request: i,
        replica: 3,
        class: ClassId(1),
        session: i.is_multiple_of(2).then(|| SessionId::new(i)),
        outcome: Outcome::ALL[i as usize % 6],
        arrival: Time(i * 1000),
        start: (!i.is_multiple_of(3)).then_some(Time(i * 1000 + 5)),
        first_token: (i % 3 > 1).then_some(Time(i * 1000 + 70)),
        end: Time(i * 1000 + 900),
        prompt_tokens: i as u32 % 4096,
        output_tokens: 7,
        cached_tokens: 16,
        preemptions: 1,
        recomputed_tokens: u64::from(u32::MAX) + i,
        longest_gap: i.is_multiple_of(5).then_some(Span(i * 1000)),
        swapped_tokens: 3 * i,
        frontend: Span(i * 11),
        attempts: 1 + (i % 3) as u32,
    }
}

fn step(i: u64) -> StepRow {
    StepRow {
        replica: 1,
        lane: 0,
        start: Time(i * 10),
        end: Time(i * 10 + 9),
        steps: i,
        decode_seqs: 40,
        prefill_seqs: 0,
        prefill_tokens: 0,
        decode_context: 1 << 40,
        prefill_context: 0,
        running: 40,
        waiting: u32::MAX,
        used_blocks: 12,
        preempted: 0,
        swapped_blocks: 1 << 33,
    }
}

fn write(dir: &Path, rows: u64, with_steps: bool) -> Written {
    let mut recorder = ParquetRecorder::create(dir, with_steps).expect("create");
    assert_eq!(recorder.wants_steps(), with_steps);
    for i in 0..rows {
        recorder.request(&request(i)).expect("row");
        recorder.step(&step(i)).expect("row");
    }
    recorder.finish(&["chat".into(), "a \"b\"".into()]).expect("finish")
}

fn reader(path: &Path) -> SerializedFileReader<fs::File> {
    SerializedFileReader::new(fs::File::open(path).expect("open")).expect("a whole file")
}

#[test]
fn rows_read_back_over_several_row_groups() {
    let dir = tempfile::tempdir().expect("temp dir");
    let rows = table::GROUP_ROWS as u64 + 1000;
    let written = write(dir.path(), rows, true);
    assert_eq!((written.request_rows, written.step_rows), (rows, rows));
    let requests = reader(&dir.path().join(REQUESTS));
    assert_eq!(requests.num_row_groups(), 2);
    for (i, row) in requests.get_row_iter(None).expect("rows").enumerate() {
        let (row, want) = (row.expect("row"), request(i as u64));
        assert_eq!(row.get_long(0).expect("request"), i as i64);
        assert_eq!(row.get_int(2).expect("class"), 1);
        assert_eq!(row.get_string(3).expect("outcome"), want.outcome.name());
        assert_eq!(row.get_long(5).ok(), want.start.map(|t| t.0 as i64));
        assert_eq!(row.get_long(6).ok(), want.first_token.map(|t| t.0 as i64));
        assert_eq!(row.get_long(7).expect("end"), want.end.0 as i64);
        assert_eq!(row.get_int(8).expect("prompt"), want.prompt_tokens as i32);
        assert_eq!(row.get_long(12).expect("recomputed"), want.recomputed_tokens as i64);
        assert_eq!(row.get_long(13).expect("swapped"), 3 * i as i64);
        assert_eq!(row.get_long(14).ok(), want.session.map(|session| session.get() as i64));
        assert_eq!(row.get_long(15).ok(), want.longest_gap.map(|gap| gap.0 as i64));
        assert_eq!(row.get_int(16).expect("attempts"), want.attempts as i32);
        assert_eq!(row.get_long(17).expect("front end"), 11 * i as i64);
    }
    let steps = reader(&dir.path().join(STEPS));
    let last = steps.get_row_iter(None).expect("rows").last().expect("some").expect("row");
    assert_eq!(last.get_long(4).expect("steps"), rows as i64 - 1);
    assert_eq!(last.get_long(8).expect("context"), 1 << 40);
    assert_eq!(last.get_long(14).expect("swapped"), 1 << 33);
    assert_eq!(last.get_int(11).expect("waiting"), i32::MAX, "saturates");
}

#[test]
fn the_files_name_their_columns_and_classes() {
    let dir = tempfile::tempdir().expect("temp dir");
    write(dir.path(), 10, true);
    let names = |file: &str| -> Vec<String> {
        let file = reader(&dir.path().join(file));
        let columns = file.metadata().file_metadata().schema_descr().columns().to_vec();
        columns.iter().map(|c| c.name().to_owned()).collect()
    };
    // Every column is in the table of the module's documentation.
    let documentation = include_str!("../parquet.rs");
    for name in names(REQUESTS).iter().chain(&names(STEPS)) {
        assert!(documentation.contains(&format!("`{name}`")), "{name} is not documented");
    }
    let requests = reader(&dir.path().join(REQUESTS));
    let facts = requests.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    assert_eq!(facts[0].value.as_deref(), Some(r#"["chat","a \"b\""]"#));
}

#[test]
fn bytes_are_the_same_every_time() {
    let (a, b) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
    write(a.path(), 5000, true);
    write(b.path(), 5000, true);
    for file in [REQUESTS, STEPS] {
        let bytes = |dir: &Path| fs::read(dir.join(file)).expect("read");
        assert_eq!(bytes(a.path()), bytes(b.path()));
    }
}

#[test]
fn steps_are_left_out_when_not_wanted_and_no_rows_are_a_file_too() {
    let dir = tempfile::tempdir().expect("temp dir");
    assert_eq!(write(dir.path(), 0, false).request_rows, 0);
    assert!(!dir.path().join(STEPS).exists());
    assert_eq!(reader(&dir.path().join(REQUESTS)).get_row_iter(None).expect("rows").count(), 0);
}

#[test]
fn an_unfinished_file_is_not_a_parquet_file() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut recorder = ParquetRecorder::create(dir.path(), false).expect("create");
    for i in 0..=table::GROUP_ROWS as u64 {
        recorder.request(&request(i)).expect("row");
    }
    drop(recorder);
    let file = fs::File::open(dir.path().join(REQUESTS)).expect("open");
    assert!(SerializedFileReader::new(file).is_err());
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().expect("temp dir");
    std::os::unix::fs::symlink("/dev/full", dir.path().join(REQUESTS)).expect("symlink");
    let recorder = ParquetRecorder::create(dir.path(), false);
    let error = recorder.and_then(|mut recorder| {
        for i in 0..10 {
            recorder.request(&request(i)).expect("buffered");
        }
        recorder.finish(&[])
    });
    let text = error.expect_err("the disk is full").to_string();
    assert!(text.contains(REQUESTS) && text.contains("space"), "{text}");
}

#[test]
fn a_missing_directory_is_an_error_that_names_the_file() {
    let error = ParquetRecorder::create(Path::new("/nowhere/at/all"), true).err().expect("no such directory");
    assert!(error.to_string().contains("/nowhere/at/all/requests.parquet"));
}

#[test]
fn sessions_have_a_file_if_there_are_some() {
    let dir = tempfile::tempdir().expect("temp dir");
    let plain = write(dir.path(), 3, true);
    assert!(plain.session_rows == 0 && !dir.path().join(SESSIONS).exists());
    let session = |i: u64| SessionRow {
        session: SessionId::new(i + 7),
        start: Time(i),
        end: Time(i * 1000),
        requests: 30,
        finished: 29,
        prompt_tokens: 1 << 40,
        cached_tokens: 1 << 39,
        computed_tokens: i,
        output_tokens: 9 * i,
        first_ttft: i.is_multiple_of(2).then_some(Span(5 * i)),
        waited: Span(3 * i),
    };
    let mut recorder = ParquetRecorder::create(dir.path(), false).expect("create");
    for i in 0..5 {
        recorder.session(&session(i)).expect("row");
    }
    let written = recorder.finish(&[]).expect("finish");
    assert_eq!(written.session_rows, 5);
    for (i, row) in (0..).zip(reader(&dir.path().join(SESSIONS)).get_row_iter(None).expect("rows")) {
        let (row, want) = (row.expect("row"), session(i));
        assert_eq!(row.get_long(0).expect("session"), want.session.get() as i64);
        assert_eq!(row.get_long(2).expect("end"), want.end.0 as i64);
        assert_eq!(row.get_int(4).expect("finished"), 29);
        assert_eq!(row.get_long(6).expect("cached"), 1 << 39);
        assert_eq!(row.get_long(7).expect("computed"), i as i64);
        assert_eq!(row.get_long(9).ok(), want.first_ttft.map(|ttft| ttft.0 as i64));
        assert_eq!(row.get_long(10).expect("waited"), 3 * i as i64);
    }
}

/// The cells of a column in memory, as the file's reader gives them.
fn cells(values: Values) -> Vec<Field> {
    match values {
        Values::Int(values) => values.into_iter().map(Field::Int).collect(),
        Values::Long(values) => values.into_iter().map(Field::Long).collect(),
        Values::Optional { values, present } => {
            let mut values = values.into_iter();
            let cell = |there| if there == 0 { Field::Null } else { values.next().map_or(Field::Null, Field::Long) };
            present.into_iter().map(cell).collect()
        }
        Values::Word { words, values } => {
            values.into_iter().map(|index| Field::Str(words[usize::from(index)].to_owned())).collect()
        }
    }
}

#[test]
fn rows_in_memory_are_those_of_the_files() {
    let dir = tempfile::tempdir().expect("temp dir");
    write(dir.path(), 30, true);
    let mut columns = Columns::default();
    for i in 0..30 {
        columns.request(&request(i)).expect("row");
        columns.step(&step(i)).expect("row");
    }
    let (requests, steps, sessions) = columns.into_tables();
    assert!(sessions.flat_map(|column| cells(column.into_values())).next().is_none());
    for (file, table) in [(REQUESTS, requests.collect::<Vec<_>>()), (STEPS, steps.collect())] {
        let rows: Vec<_> = reader(&dir.path().join(file)).get_row_iter(None).expect("rows").collect();
        let mut compared = 0;
        for (at, column) in table.into_iter().enumerate() {
            let of = |row: &Result<parquet::record::Row, _>| {
                let row = row.as_ref().expect("row");
                row.get_column_iter().nth(at).map(|(name, field)| (name.clone(), field.clone())).expect("a column")
            };
            let (names, read): (Vec<_>, Vec<_>) = rows.iter().map(of).unzip();
            assert_eq!(names[0], column.name());
            assert_eq!(cells(column.into_values()), read, "{}", names[0]);
            compared += read.len();
        }
        assert!(compared >= 30 * 15);
    }
}

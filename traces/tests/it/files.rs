//! `traces/data` is what its README says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use overbook_test_groups::in_clone;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use crate::unpacked;

/// More than this is not for a clone [bytes].
const MOST: u64 = 4_000_000;

/// Rows of a file: of CSV without the header.
fn rows(path: &Path) -> u64 {
    let name = path.to_string_lossy();
    if name.ends_with(".parquet") {
        let reader = SerializedFileReader::new(File::open(path).expect("opens")).expect("Parquet");
        return reader.metadata().file_metadata().num_rows() as u64;
    }
    let text = if name.ends_with(".zst") { unpacked(path) } else { fs::read_to_string(path).expect("text") };
    let header = Path::new(name.trim_end_matches(".zst")).extension().is_some_and(|extension| extension == "csv");
    text.lines().count() as u64 - u64::from(header)
}

/// Files below a folder, by their paths in it, with their sizes [bytes].
fn files(root: &Path, folder: &Path, found: &mut BTreeMap<String, u64>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(root, &path, found);
        } else {
            let name = path.strip_prefix(root).expect("below it").to_string_lossy().into_owned();
            found.insert(name, fs::metadata(&path).expect("a file").len());
        }
    }
}

#[test]
fn the_readme_lists_every_file_with_its_rows() {
    let folder = in_clone("");
    let mut there = BTreeMap::new();
    files(&folder, &folder, &mut there);
    assert!(there.values().sum::<u64>() <= MOST, "{there:?}");
    let readme = fs::read_to_string(folder.join("README.md")).expect("the README");
    let listed: BTreeMap<String, u64> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| {
            let count = rest.split(' ').next().expect("a number").replace(',', "");
            (name.to_owned(), count.parse().unwrap_or_else(|_| panic!("{name}: {rest}")))
        })
        .collect();
    let data = there.keys().filter(|name| !["README.md", "cut.py"].contains(&name.as_str()));
    assert!(data.eq(listed.keys()), "{:?}\n{:?}", there.keys(), listed.keys());
    for (name, count) in &listed {
        assert_eq!(rows(&folder.join(name)), *count, "{name}");
    }
}

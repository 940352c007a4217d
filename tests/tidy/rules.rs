//! Rules about single files. Each gives its findings as `path:line: what`.

use crate::rust;

/// Lines of a Rust file at most.
const LINES_MAX: usize = 600;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"];

/// Where people's own folders lie, with what may follow.
const HOMES: [&str; 4] = ["/home/", "/Users/", "/root/", "C:\\Users\\"];

/// A file that is too long.
pub(crate) fn too_long(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LINES_MAX).then(|| format!("{path}: {lines} lines"))
}

/// A file or folder with a name that says nothing.
pub(crate) fn empty_name(path: &str) -> Option<String> {
    let says_nothing = |part: &str| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or(part));
    path.split('/').any(says_nothing).then(|| format!("{path}: utils, helpers, common … say nothing"))
}

/// Lines that unseal a true length.
pub(crate) fn unseals_truth(path: &str, source: &str) -> Vec<String> {
    let code = rust::without_tests(&rust::code(source));
    lines_with(&code, |line| words(line).any(|word| word == "unseal"))
        .map(|line| format!("{path}:{line}: unseals a true length"))
        .collect()
}

/// `unsafe` without a comment that says why it is sound, in the lines directly above or in its own.
pub(crate) fn unexplained_unsafe(path: &str, source: &str) -> Vec<String> {
    let code = rust::code(source);
    let lines: Vec<&str> = source.lines().collect();
    let explained = |line: usize| {
        let above = lines[..line - 1].iter().rev().map(|text| text.trim());
        let mut above = above.take_while(|text| text.starts_with("//") || text.starts_with("#["));
        lines[line - 1].contains("SAFETY:") || above.any(|text| text.contains("SAFETY:") || text.contains("# Safety"))
    };
    lines_with(&code, |line| words(line).any(|word| word == "unsafe"))
        .filter(|&line| !explained(line))
        .map(|line| format!("{path}:{line}: `unsafe` without `SAFETY:`"))
        .collect()
}

/// Lines that name a home folder.
pub(crate) fn home_folders(path: &str, text: &str) -> Vec<String> {
    let named = |line: &str| {
        HOMES.iter().any(|home| {
            let mut after = line.split(home).skip(1);
            after.any(|name| name.starts_with(|c: char| c.is_ascii_alphanumeric()))
        })
    };
    lines_with(text, named).map(|line| format!("{path}:{line}: a folder of one machine")).collect()
}

/// Numbers, from 1, of the lines that have something.
fn lines_with(text: &str, has: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
    text.lines().enumerate().filter(move |(_, line)| has(line)).map(|(at, _)| at + 1)
}

/// Names and keywords of a line of code.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

#[test]
fn a_long_file_is_found() {
    assert_eq!(too_long("a.rs", &"x\n".repeat(600)), None);
    assert_eq!(too_long("a.rs", &"x\n".repeat(601)), Some("a.rs: 601 lines".to_owned()));
}

#[test]
fn an_empty_name_is_found() {
    for path in ["sim/src/utils.rs", "src/common/a.rs", "tests/helpers.rs", "engine/src/serve/manager.rs"] {
        assert!(empty_name(path).is_some(), "{path}");
    }
    assert_eq!(empty_name("sim/src/miscount.rs"), None);
}

#[test]
fn an_unsealed_truth_is_found() {
    let source = "fn f(r: &View) -> u32 {\n    // r.truth.unseal() is for oracles\n    r.truth.unseal()\n}";
    assert_eq!(unseals_truth("a.rs", source), ["a.rs:3: unseals a true length"]);
    assert_eq!(unseals_truth("a.rs", "let read = Truth::unseal;").len(), 1);
}

#[test]
fn an_unexplained_unsafe_is_found() {
    let bad = "fn f() {\n    // Fast.\n    unsafe { g() }\n}";
    assert_eq!(unexplained_unsafe("a.rs", bad), ["a.rs:3: `unsafe` without `SAFETY:`"]);
    let good = "/// # Safety\n/// `p` is valid.\n#[inline]\nunsafe fn f(p: *const u8) {\n    // SAFETY: the caller says so.\n    unsafe { p.read() };\n}";
    assert_eq!(unexplained_unsafe("a.rs", good), Vec::<String>::new());
    let none = "#![forbid(unsafe_code)]\n// no unsafe here\nlet text = \"unsafe\";";
    assert_eq!(unexplained_unsafe("a.rs", none), Vec::<String>::new());
}

#[test]
fn a_home_folder_is_found() {
    let text = format!("a\nsee {}ann/data and\n~/data, $HOME/data, {}*/x", HOMES[0], HOMES[1]);
    assert_eq!(home_folders("a.md", &text), ["a.md:2: a folder of one machine"]);
}

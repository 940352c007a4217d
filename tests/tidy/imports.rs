//! Which top-level module of a crate looks at which, and circles among them. A folder and the file of its name are one module.

use std::collections::{BTreeMap, BTreeSet};

use crate::rust;

/// For every module the modules it imports, each with a file that does.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// Circles among the modules of a crate, given its sources by their paths below `src/`: each as the modules of one knot, and
/// the imports that tie it.
pub(crate) fn circles(sources: &BTreeMap<&str, &str>) -> Vec<String> {
    let graph = graph(sources);
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|module| (module.as_str(), reachable(&graph, module))).collect();
    let knot_of = |module: &str| -> BTreeSet<&str> {
        let back = |other: &&str| reached.get(other).is_some_and(|from_there| from_there.contains(module));
        reached[module].iter().copied().filter(back).collect()
    };
    let knots: BTreeSet<BTreeSet<&str>> = graph.keys().map(|module| knot_of(module)).collect();
    knots.into_iter().filter(|knot| !knot.is_empty()).map(|knot| describe(&graph, &knot)).collect()
}

fn describe(graph: &Graph, knot: &BTreeSet<&str>) -> String {
    let inside = knot.iter().flat_map(|&module| graph[module].iter().map(move |(to, file)| (module, to, file)));
    let ties = inside.filter(|(_, to, _)| knot.contains(to.as_str()));
    let ties: Vec<String> = ties.map(|(from, to, file)| format!("  {from} imports {to} in {file}")).collect();
    format!("{}:\n{}", knot.iter().copied().collect::<Vec<_>>().join(", "), ties.join("\n"))
}

/// Modules that one leads to, itself only if it is part of a circle.
fn reachable<'g>(graph: &'g Graph, from: &str) -> BTreeSet<&'g str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for to in graph.get(module).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    seen
}

fn graph(sources: &BTreeMap<&str, &str>) -> Graph {
    let root = rust::code(sources.get("lib.rs").copied().unwrap_or_default());
    let (modules, tests) = (modules(&root), test_modules(&root));
    let reexports = reexports(&root);
    let mut graph: Graph = BTreeMap::new();
    for (&path, &source) in sources {
        let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
        let module = parts[0];
        if module == "lib" || tests.contains(module) || parts.contains(&"tests") {
            continue;
        }
        let imports = graph.entry(module.to_owned()).or_default();
        for name in names_at_root(&rust::without_tests(&rust::code(source)), parts.len()) {
            let to = reexports.get(&name).unwrap_or(&name);
            if to != module && modules.contains(to) {
                imports.entry(to.clone()).or_insert_with(|| path.to_owned());
            }
        }
    }
    graph
}

/// Modules that a crate root declares, those for tests alone left out.
fn modules(root: &str) -> BTreeSet<String> {
    let tests = test_modules(root);
    declared(root).filter(|name| !tests.contains(name)).collect()
}

fn test_modules(root: &str) -> BTreeSet<String> {
    root.split("#[cfg(test)]").skip(1).filter_map(|after| declared(after.split_inclusive(';').next()?).next()).collect()
}

fn declared(code: &str) -> impl Iterator<Item = String> {
    let declaration = |line: &str| {
        let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    code.lines().filter_map(declaration)
}

/// Names that a crate root passes on, and the module each is from.
fn reexports(root: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for item in root.split(';').filter_map(|item| Some(item.split_once("use ")?.1)) {
        let Some((module, names)) = item.split_once("::") else { continue };
        for name in names.split(|c: char| !is_name(c)).filter(|name| !name.is_empty() && *name != "as") {
            all.insert(name.to_owned(), module.trim().to_owned());
        }
    }
    all
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// First names behind `crate::`, and behind as many `super::` as lead to the root from a module of that depth.
fn names_at_root(code: &str, depth: usize) -> Vec<String> {
    let up = "super::".repeat(depth);
    let mut names = Vec::new();
    for start in ["crate::", &up] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with(|c: char| is_name(c) || c == ':') {
                continue;
            }
            let after = &code[at + start.len()..];
            match rust::block(after).filter(|_| after.starts_with('{')) {
                Some(length) => names.extend(group(&after[1..length - 1])),
                None => names.push(after.chars().take_while(|&c| is_name(c)).collect()),
            }
        }
    }
    names
}

/// First names of the parts of `{ a, b::c, d::{e, f} }`.
fn group(inside: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if depth == 0 && fresh && is_name(c) => {
                names.push(inside[at..].chars().take_while(|&c| is_name(c)).collect());
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
fn found(sources: &[(&str, &str)]) -> Vec<String> {
    circles(&sources.iter().copied().collect())
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let root = "mod a;\nmod b;\npub mod c;\npub use c::Thing;";
    for (a, c) in [
        ("use crate::b::X;", "use crate::a::Y;"),
        ("use crate::{b::{X, Y}, b};", "fn f() { crate::a::y() }"),
        ("use super::b;", "use crate::{self, a};"),
    ] {
        let all = found(&[("lib.rs", root), ("a.rs", a), ("b/d.rs", "use super::super::c;"), ("c.rs", c)]);
        assert_eq!(all.len(), 1, "{a} {c}: {all:?}");
        assert!(all[0].starts_with("a, b, c:") && all[0].contains("b imports c in b/d.rs"), "{all:?}");
    }
    let through_the_root = found(&[("lib.rs", root), ("a.rs", "use crate::Thing;"), ("c.rs", "use crate::a;")]);
    assert_eq!(through_the_root.len(), 1);
}

#[test]
fn what_is_no_circle_is_not_found() {
    let root = "mod a;\nmod b;\n#[cfg(test)]\nmod sample;";
    let b = "// use crate::a;\nconst T: &str = \"crate::a\";\n#[cfg(test)]\nmod tests { use crate::a; }";
    let all = found(&[
        ("lib.rs", root),
        ("a.rs", "use crate::b;\nuse super::b;"),
        ("a/inner.rs", "use super::thing; use crate::a::other;"),
        ("b.rs", b),
        ("b/tests.rs", "use crate::a;"),
        ("sample.rs", "use crate::a;"),
    ]);
    assert_eq!(all, Vec::<String>::new());
}

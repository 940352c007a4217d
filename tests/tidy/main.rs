//! Laws of the tree that no compiler holds: sizes, names, which module may look at which, links, sealed figures, `unsafe`.
//! Every rule is shown a planted fault that it must find. (Functions of at most 70 lines are clippy's `too_many_lines`;
//! what a crate must never call is in its `clippy.toml`.)

mod files;
mod imports;
mod links;
mod rules;
mod rust;

use std::collections::BTreeMap;

use files::Tree;

/// The crates whose modules must not import each other in circles.
const CRATES: [&str; 6] = ["sim", "traces", "scenarios", "kernels", "engine", "reports"];

/// Fails with all findings of a rule, one a line.
fn none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

#[test]
fn files_are_short() {
    let tree = Tree::read();
    let all: Vec<String> = tree.rust().filter_map(|(path, text)| rules::too_long(path, text)).collect();
    assert!(tree.rust().count() > 200, "the tree was not found");
    none("a Rust file has at most 600 lines", &all);
}

#[test]
fn names_say_what_is_inside() {
    let tree = Tree::read();
    let all: Vec<String> = tree.paths().filter_map(rules::empty_name).collect();
    none("a module is a concept", &all);
}

#[test]
fn modules_do_not_import_each_other_in_circles() {
    let tree = Tree::read();
    for name in CRATES {
        let prefix = format!("{name}/src/");
        let inside = tree.rust().filter_map(|(path, text)| Some((path.strip_prefix(&prefix)?, text)));
        let sources: BTreeMap<&str, &str> = inside.collect();
        assert!(sources.contains_key("lib.rs"), "{name} has no sources");
        none(&format!("circles between the modules of {name}"), &imports::circles(&sources));
    }
}

#[test]
fn links_lead_somewhere() {
    let tree = Tree::read();
    let found = links::all(&tree);
    assert!(found.len() > 20, "only {} links", found.len());
    let all: Vec<String> = found.iter().filter_map(|link| links::broken(&tree, link)).collect();
    none("links of the pages", &all);
}

#[test]
fn only_oracles_see_true_lengths() {
    let tree = Tree::read();
    let defined = "sim/src/workload/truth.rs";
    let sim = tree.rust().filter(|(path, _)| path.starts_with("sim/src/") && *path != defined);
    let oracle = "sim/src/lengths/oracle.rs";
    let (oracles, others): (Vec<_>, Vec<_>) = sim.partition(|(path, _)| *path == oracle);
    let unsealed = |sources: &[(&str, &str)]| -> Vec<String> {
        sources.iter().flat_map(|(path, text)| rules::unseals_truth(path, text)).collect()
    };
    assert!(!unsealed(&oracles).is_empty(), "{oracle} unseals none: the rule looks for something else");
    none("law 9: no policy sees the future", &unsealed(&others));
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let tree = Tree::read();
    let all: Vec<String> = tree.rust().flat_map(|(path, text)| rules::unexplained_unsafe(path, text)).collect();
    none("every `unsafe` has `SAFETY:` above it", &all);
}

#[test]
fn nothing_names_a_developers_machine() {
    let tree = Tree::read();
    let all: Vec<String> = tree.texts().flat_map(|(path, text)| rules::home_folders(path, text)).collect();
    none("no folders of people's machines", &all);
}

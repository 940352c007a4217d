//! Links of the Markdown pages: to files, and to headings in them.

use crate::files::Tree;

/// A link, and the line that has it.
pub(crate) struct Link {
    page: String,
    line: usize,
    target: String,
}

/// All links of all pages that do not leave the repository.
pub(crate) fn all(tree: &Tree) -> Vec<Link> {
    tree.with_ending(".md").flat_map(|(page, text)| of_page(page, text)).collect()
}

fn of_page(page: &str, text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, text) in prose(text) {
        for target in targets(&text) {
            if !target.contains("://") && !target.starts_with("mailto:") {
                links.push(Link { page: page.to_owned(), line, target });
            }
        }
    }
    links
}

/// Lines outside code blocks, numbered from 1, with what stands between backticks blanked out.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            return None;
        }
        let plain: Vec<&str> =
            line.split('`').enumerate().map(|(at, part)| if at % 2 == 0 { part } else { "_" }).collect();
        (!inside).then(|| (at + 1, plain.concat()))
    })
}

/// What stands in `[text](here)`; a link's text may be on the line above.
fn targets(line: &str) -> Vec<String> {
    let ends = line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split_once(')'));
    ends.map(|(target, _)| target.split_whitespace().next().unwrap_or("").to_owned()).collect()
}

/// Why a link leads nowhere; `None` if it does not.
pub(crate) fn broken(tree: &Tree, link: &Link) -> Option<String> {
    let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
    let folder = link.page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if file.is_empty() { link.page.clone() } else { join(folder, file) };
    let problem = if !tree.has(&path) {
        "no such file"
    } else if !anchor.is_empty() && !tree.text(&path).is_some_and(|text| anchors(text).iter().any(|a| a == anchor)) {
        "no such heading"
    } else {
        return None;
    };
    Some(format!("{}:{}: {}: {problem}", link.page, link.line, link.target))
}

/// A path from a folder, without `.` and `..`.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Anchors of the headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        inside ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if inside || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let same = all.iter().filter(|known| **known == anchor).count();
        all.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
    }
    all
}

#[test]
fn links_are_found_outside_code() {
    let page = "see [a](b.md) and ![c](d/e.png \"title\"),\n`[f](g)`\n```\n[h](i)\n```\n[j](https://k) [l](#m-n)";
    let found: Vec<(usize, String)> = of_page("p.md", page).into_iter().map(|link| (link.line, link.target)).collect();
    assert_eq!(found, [(1, "b.md".to_owned()), (1, "d/e.png".to_owned()), (6, "#m-n".to_owned())]);
}

#[test]
fn broken_links_are_found() {
    let tree = Tree::read();
    let link = |target: &str| Link { page: "docs/traces.md".to_owned(), line: 1, target: target.to_owned() };
    for good in ["../README.md", "serve.md", "../scenarios/examples", "report.png"] {
        assert_eq!(broken(&tree, &link(good)), None);
    }
    for bad in ["nowhere.md", "../src/docs", "../README.md#no-such-heading", "#no-such-heading"] {
        assert!(broken(&tree, &link(bad)).is_some(), "{bad}");
    }
}

#[test]
fn headings_have_anchors() {
    let page = "# The `heart`: one, two\n## a\n```\n# no\n```\n## a\n#nothing";
    assert_eq!(anchors(page), ["the-heart-one-two", "a", "a-1"]);
}

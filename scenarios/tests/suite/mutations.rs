//! Whatever a user types, the answer is a study or a list of problems.

use super::{FULL, LEAST};
use overbook_scenarios::Source;

/// A small generator: the test must not depend on crates or on the day.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

const SNIPPETS: [&str; 22] = [
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\n",
    "\t",
    "'",
    "\"",
    "#",
    "&a ",
    "*a",
    "!t ",
    "|",
    ">",
    "é",
    "\u{0}",
    "-1",
    "1e999",
    "null",
    "9999999999999999999999",
];

fn mutate(text: &str, random: &mut Lcg) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(2) {
        let at = random.below(chars.len());
        match random.below(5) {
            0 => drop(chars.remove(at)),
            1 => chars.splice(at..at, SNIPPETS[random.below(SNIPPETS.len())].chars()).for_each(drop),
            2 => {
                let end = (at + random.below(30)).min(chars.len());
                drop(chars.drain(at..end));
            }
            3 => {
                let end = (at + random.below(60)).min(chars.len());
                let piece = chars[at..end].to_vec();
                let to = random.below(chars.len());
                drop(chars.splice(to..to, piece));
            }
            _ => {
                let other = random.below(chars.len());
                chars.swap(at, other);
            }
        }
        if chars.is_empty() {
            break;
        }
    }
    chars.into_iter().collect()
}

#[test]
fn mutated_scenarios_never_panic() {
    let swept = format!(
        "{LEAST}sweep: {{ axes: {{ fleet.replicas: [1, 2] }} }}\nexpect: [{{ metric: ttft_p99, at: {{ fleet.replicas: 2 }}, max: 2s, source: x }}]\n"
    );
    let mut random = Lcg(1);
    let (mut good, mut bad) = (0, 0);
    for base in [FULL, LEAST, &swept] {
        for _ in 0..3000 {
            let text = mutate(base, &mut random);
            match Source::from_text("mutated.yaml", &text).resolve() {
                Ok(study) => {
                    good += 1;
                    assert!(!study.points().is_empty(), "{text}");
                }
                Err(problems) => {
                    bad += 1;
                    assert!(!problems.is_empty() && !problems.render(false).is_empty(), "{text}");
                }
            }
        }
    }
    assert!(good > 200 && bad > 3000, "the mutations must reach both outcomes: {good} good, {bad} bad");
}

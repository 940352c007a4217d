//! What the expectations of this repository stand on.

use std::fs;
use std::path::{Path, PathBuf};

use overbook_scenarios::{Basis, Source};

fn scenarios() -> Vec<PathBuf> {
    let folders = ["repro", "examples"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect();
    files.sort();
    files
}

/// Our own run confirms nothing but itself, and a figure that is not met is not confirmed by a weaker gate.
#[test]
fn every_expectation_says_what_it_stands_on() {
    let mut counts = [0; 4];
    for path in scenarios() {
        let study =
            Source::load(&path).unwrap().resolve().unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        for expectation in study.expectations() {
            let spec = &expectation.spec;
            counts[spec.basis as usize] += 1;
            let own = spec.source.contains("own run");
            assert_eq!(spec.basis == Basis::Regression, own, "{}: {}", path.display(), spec.source);
            let weaker =
                ["; here ", "order of magnitude", " there)", "assumed"].iter().any(|word| spec.source.contains(word));
            let inside = spec.source.contains("up to 2 to 3 times") && !spec.source.contains("which is");
            if spec.basis == Basis::Figure && weaker {
                assert!(inside, "{}: {} is not the figure of its source", path.display(), spec.source);
            }
        }
    }
    eprintln!("figures {}, directions {}, bounds {}, regressions {}", counts[0], counts[1], counts[2], counts[3]);
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

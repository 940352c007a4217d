//! Any text is either a study or a list of problems that can be shown; a study's text form is a study again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overbook_scenarios::Source;

fuzz_target!(|text: &str| {
    match Source::from_text("fuzz.yaml", text).resolve() {
        Ok(study) => {
            let again = Source::from_text("again.yaml", &study.points()[0].scenario.to_yaml());
            assert!(again.resolve().is_ok(), "a resolved scenario resolves");
        }
        Err(problems) => assert!(!problems.render(false).is_empty()),
    }
});

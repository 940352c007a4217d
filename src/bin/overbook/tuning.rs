//! What is said while matrix products are tuned: minutes, on a GPU that no earlier start has tuned for.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use overbook_engine::cuda::compile::{cache_folder, why_not_kept};
use overbook_engine::executor::Tuning;

use crate::output::{note, shows_progress};
use crate::profile::progress;
use crate::watch::interrupted;

/// How often it is said how far the tuning is where there is no terminal.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Says how far the tuning is, and stops it on Ctrl-C.
pub(crate) struct Teller {
    quiet: bool,
    /// Since something has to be timed, with when it was last said.
    begun: Option<(ProgressBar, Instant)>,
}

impl Teller {
    pub(crate) fn new(quiet: bool) -> Teller {
        Teller { quiet, begun: None }
    }

    /// Whether the tuning should go on.
    pub(crate) fn show(&mut self, at: Tuning) -> bool {
        if interrupted() {
            self.end(at, "interrupted");
            return false;
        }
        if at.done == at.of {
            self.end(at, "done");
            return true;
        }
        if self.begun.is_none() && at.times {
            self.say(&format!(
                "matrix products are tuned for this GPU: {} of {} shapes are known, the others take up to minutes, once{}",
                at.done,
                at.of,
                kept()
            ));
            let bar = progress(!self.quiet && shows_progress(), "{bar:28} {pos}/{len} shapes tuned  {elapsed}");
            bar.set_length(at.of as u64);
            self.begun = Some((bar, Instant::now()));
        }
        let Some((bar, said)) = &mut self.begun else { return true };
        bar.set_position(at.done as u64);
        if bar.is_hidden() && said.elapsed() >= SAY_EVERY {
            *said = Instant::now();
            self.say(&format!("{} of {} shapes tuned", at.done, at.of));
        }
        true
    }

    fn end(&mut self, at: Tuning, how: &str) {
        let Some((bar, _)) = self.begun.take() else { return };
        bar.finish_and_clear();
        self.say(&format!("tuning {how}: {} of {} shapes are known{}", at.done, at.of, kept()));
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            note(text);
        }
    }
}

/// Where what was tuned is kept, in words.
fn kept() -> String {
    let folder = cache_folder().filter(|_| why_not_kept().is_none());
    folder.map_or_else(String::new, |folder| format!(", and kept in {}", folder.display()))
}

/// Says if the next start will have to compile and tune again.
pub(crate) fn warn_unless_kept() {
    if let Some(why) = why_not_kept() {
        note(&format!(
            "warning: {why}: kernels are compiled and products tuned again at every start; name a folder in OVERBOOK_CACHE"
        ));
    }
}

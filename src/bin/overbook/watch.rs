//! Progress on a terminal, and Ctrl-C.

use std::sync::OnceLock;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use overbook::Cancel;
use overbook_sim::fleet::Progress;

use crate::output::INTERRUPTED;

/// The token of this process: Ctrl-C cancels it.
static STOP: OnceLock<Cancel> = OnceLock::new();

/// From now on Ctrl-C asks runs to stop and keep what they have; a second one ends the process.
pub(crate) fn catch_interrupts() -> Cancel {
    let token = STOP.get_or_init(|| {
        let token = Cancel::new();
        let stop = token.clone();
        // Without the handler Ctrl-C ends the process at once, and the unfinished directory stays marked as partial.
        let _ = ctrlc::set_handler(move || {
            if stop.cancel() {
                end_now();
            }
        });
        token
    });
    token.clone()
}

/// What the run has written stays behind under its partial name.
#[expect(clippy::exit, reason = "the user has asked twice")]
fn end_now() -> ! {
    std::process::exit(i32::from(INTERRUPTED))
}

/// Whether the user wants to stop.
pub(crate) fn interrupted() -> bool {
    STOP.get().is_some_and(Cancel::is_cancelled)
}

/// A progress line on stderr, or none.
pub(crate) struct Display(ProgressBar);

impl Display {
    pub(crate) fn new(visible: bool, total: Option<u64>) -> Display {
        if !visible {
            return Display(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8));
        let template = match total {
            Some(_) => "{bar:28} {human_pos}/{human_len} requests  {per_sec}  {eta} left  {msg}",
            None => "{spinner} {human_pos} requests  {per_sec}  {msg}",
        };
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Display(bar)
    }

    /// Shows how far the run is; returns whether it should go on.
    pub(crate) fn show(&self, progress: Progress) -> bool {
        self.0.set_position(progress.ended);
        self.0.set_message(format!("simulated {:.0} s", progress.now.as_secs_f64()));
        !interrupted()
    }

    /// Shows how many requests were read, of how many if that is known.
    pub(crate) fn read(&self, requests: u64, of: Option<u64>) {
        if let Some(of) = of {
            self.0.set_length(of);
        }
        self.0.set_message(if of.is_some() { "replayed" } else { "read" });
        self.0.set_position(requests);
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

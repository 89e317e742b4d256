//! A progress bar for each backup and restore, on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::model::progress::{Event, Progress};

/// One bar on standard error.
pub(super) struct Bars {
    bar: ProgressBar,
}

impl Bars {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::hidden();
        let style =
            "{msg:24} {wide_bar} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12} {eta:>4}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is constant"));
        Self { bar }
    }
}

impl Progress for Bars {
    fn report(&self, event: Event) {
        match event {
            Event::Claimed(id) => self.bar.set_message(id.to_string()),
            Event::Begun { bytes } => {
                self.bar.set_length(bytes.unwrap_or(0));
                self.bar
                    .set_draw_target(indicatif::ProgressDrawTarget::stderr());
            }
            Event::Advanced { bytes } => self.bar.set_position(bytes),
            Event::Stopped => self.bar.set_message("storing"),
            Event::Waiting(segment) => self.bar.set_message(format!("WAL {segment}")),
            Event::Checking => {
                self.bar.set_message("checking");
                self.bar.finish_and_clear();
            }
        }
    }
}

//! What a terminal shows while a backup or a restore runs: one line, which says what is waited for or how far it is.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::model::progress::{Event, Progress};

/// With an estimate of the end.
const MEASURED: &str =
    "{msg:24} {wide_bar} {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12} {eta:>4}";

/// Without one.
const COUNTED: &str = "{msg:24} {bytes:>10} {bytes_per_sec:>12}";

/// While something else than bytes is waited for.
const WAITING: &str = "{msg} ({elapsed})";

/// How often time moves on.
const TICK: Duration = Duration::from_millis(200);

/// One line on standard error.
pub(super) struct Bars {
    bar: ProgressBar,
    title: Mutex<String>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            bar: ProgressBar::hidden(),
            title: Mutex::new("restoring".to_owned()),
        }
    }

    /// Goes on in another form.
    fn begin(&self, template: &str, message: String) {
        let style = ProgressStyle::with_template(template).expect("the template is constant");
        // Each of these draws: what is longer than before comes last.
        self.bar.set_message(message);
        self.bar.set_style(style);
        // Neither speed nor estimate counts the time that was waited before.
        self.bar.reset();
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(TICK);
    }

    fn title(&self) -> std::sync::MutexGuard<'_, String> {
        self.title.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn report(&self, event: Event) {
        match event {
            Event::Claimed(id) => {
                *self.title() = id.to_string();
                let waiting = format!("{id}  waiting for PostgreSQL's checkpoint");
                self.begin(WAITING, waiting);
            }
            Event::Verifying(id) => *self.title() = format!("reading {id}"),
            Event::Begun { bytes } => {
                let title = self.title().clone();
                self.bar.set_length(bytes.unwrap_or(0));
                self.begin(bytes.map_or(COUNTED, |_| MEASURED), title);
            }
            Event::Advanced { bytes } => self.bar.set_position(bytes),
            Event::Snapshots { percent } => {
                let title = self.title().clone();
                self.begin(
                    WAITING,
                    format!("{title}  snapshots: {percent} % are stored"),
                );
            }
            Event::Stopped => self.bar.set_message("storing"),
            Event::Waiting(segment) => {
                let title = self.title().clone();
                self.begin(WAITING, format!("{title}  waiting for WAL {segment}"));
            }
            Event::Checking => self.bar.finish_and_clear(),
        }
    }
}

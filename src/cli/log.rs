//! Log lines on standard error.

use std::io;

use tracing_subscriber::filter::LevelFilter;

use super::args::Format;

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verbosity(i16);

impl Verbosity {
    /// So many `-v`, so many `-q`.
    pub(super) fn new(verbose: u8, quiet: u8) -> Self {
        Self(i16::from(verbose) - i16::from(quiet))
    }

    /// Whether neither more nor less was asked for.
    pub(super) fn is_normal(self) -> bool {
        self.0 == 0
    }

    fn level(self) -> LevelFilter {
        match self.0 {
            ..=-2 => LevelFilter::OFF,
            -1 => LevelFilter::ERROR,
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}

/// Starts logging for the whole process.
pub(super) fn start(verbosity: Verbosity, format: Format) {
    let level = verbosity.level();
    // The libraries below are only of interest to somebody who wants everything.
    let others = if level >= LevelFilter::TRACE {
        LevelFilter::DEBUG
    } else {
        LevelFilter::WARN
    };
    let filter = tracing_subscriber::EnvFilter::default()
        .add_directive(others.min(level).into())
        .add_directive(
            format!("barkeep={level}")
                .parse()
                .expect("a level is a directive"),
        );
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    // A second start in one process (tests) keeps the first.
    match format {
        Format::Text => {
            let subscriber = subscriber.with_ansi(super::output::wants_colour());
            tracing::subscriber::set_global_default(subscriber.finish()).ok();
        }
        Format::Json => {
            let subscriber = subscriber.json().flatten_event(true);
            tracing::subscriber::set_global_default(subscriber.finish()).ok();
        }
    }
}

//! Log lines on standard error.

use std::io;

use tracing_subscriber::{Layer as _, filter::LevelFilter, layer::SubscriberExt as _};

use super::{args::Format, traces::Traces};

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

/// Starts logging for the whole process. What it answers is to be ended with it.
pub(super) fn start(verbosity: Verbosity, format: Format) -> Traces {
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
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false);
    let lines = match format {
        Format::Text => lines
            .with_ansi(super::output::wants_colour())
            .with_filter(filter)
            .boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let (spans, traces) = super::traces::start();
    let subscriber = tracing_subscriber::registry().with(lines).with(spans);
    // A second start in one process (tests) keeps the first.
    tracing::subscriber::set_global_default(subscriber).ok();
    traces
}

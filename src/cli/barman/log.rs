//! Log lines as Barman's: `2026-11-20 23:45:42,710 [4711] WARNING: …`, in local time, on standard error.

use std::{fmt, io};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    filter::LevelFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::clock::Clock;

/// Starts logging for the whole process: warnings; more for each `-v`, less for each `-q`.
pub(super) fn start(verbosity: i16) {
    let (own, others) = match verbosity {
        ..=-2 => (LevelFilter::OFF, LevelFilter::OFF),
        -1 => (LevelFilter::ERROR, LevelFilter::ERROR),
        0 => (LevelFilter::WARN, LevelFilter::ERROR),
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        _ => (LevelFilter::DEBUG, LevelFilter::INFO),
    };
    let directive = format!("barkeep={own}").parse();
    let filter = EnvFilter::default()
        .add_directive(others.into())
        .add_directive(directive.expect("a level is a directive"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .event_format(Line)
        .finish();
    // A second start in one process (tests) keeps the first.
    tracing::subscriber::set_global_default(subscriber).ok();
}

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let now = Clock::System.now();
        let local = super::zone().local(now).format("%Y-%m-%d %H:%M:%S");
        let millis = now.utc().timestamp_subsec_millis();
        let process = std::process::id();
        write!(writer, "{local},{millis:03} [{process}] {level}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

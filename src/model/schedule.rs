//! When backups are due.

use serde::Serialize;

/// A time zone, loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub jiff::tz::TimeZone);

/// When backups are due.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    text: String,
}

/// The hours in which an attempt may start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartWindow {
    text: String,
}

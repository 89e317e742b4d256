//! Instants and spans.
//!
//! A [`Timestamp`] is an instant in UTC with microseconds; zones matter only to schedules and to new backup ids. There is no
//! way to ask it for the present: `now` always comes from the caller.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// An instant, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The end of the calendar: never.
    pub const MAX: Self = Self(DateTime::<Utc>::MAX_UTC);

    /// The instant so many seconds after 1970 began, or `None` outside the calendar.
    pub fn from_unix_seconds(seconds: i64) -> Option<Self> {
        DateTime::from_timestamp(seconds, 0).map(Self)
    }

    /// Whole seconds since 1970 began.
    pub fn unix_seconds(self) -> i64 {
        self.0.timestamp()
    }

    /// The instant as chrono's type.
    pub fn utc(self) -> DateTime<Utc> {
        self.0
    }

    /// How long `earlier` lies before this instant; zero if it does not.
    pub fn since(self, earlier: Self) -> Duration {
        (self.0 - earlier.0).to_std().unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    /// Stops at the end of the calendar.
    fn add(self, span: Duration) -> Self {
        let delta = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
        Self(
            self.0
                .checked_add_signed(delta)
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
        )
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    /// Stops at the beginning of the calendar.
    fn sub(self, span: Duration) -> Self {
        let delta = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
        Self(
            self.0
                .checked_sub_signed(delta)
                .unwrap_or(DateTime::<Utc>::MIN_UTC),
        )
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC to the second: `2026-11-20T22:40:11Z`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;
    /// Reads RFC 3339, with any offset.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|instant| Self(instant.to_utc()))
    }
}

/// A span for people: the two largest units that are not zero, such as `26h`, `3d 4h`, `12m 5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
        let seconds = self.0.as_secs();
        // Up to two days read better in hours: a backup is 26h old, not 1d 2h.
        let units = if seconds < 2 * 86_400 {
            &UNITS[1..]
        } else {
            &UNITS[..]
        };
        let mut rest = seconds;
        let mut parts = Vec::new();
        for (length, name) in units {
            if rest >= *length {
                parts.push(format!("{}{name}", rest / length));
                rest %= length;
            } else if !parts.is_empty() {
                break;
            }
        }
        parts.truncate(2);
        if parts.is_empty() {
            return formatter.write_str("0s");
        }
        formatter.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_its_two_largest_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (26 * 3600, "26h"),
            (3 * 86_400 + 4 * 3600 + 5, "3d 4h"),
            (725, "12m 5s"),
            (3 * 86_400 + 5, "3d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn an_instant_reads_any_offset_and_prints_utc() {
        let instant: Timestamp = "2026-11-20T23:40:11+01:00".parse().expect("RFC 3339");
        assert_eq!(instant.to_string(), "2026-11-20T22:40:11Z");
    }
}

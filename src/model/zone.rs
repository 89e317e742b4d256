//! A time zone, and calendar arithmetic in it.
//!
//! A zone is a value: whoever reads the configuration loads it from the system's database and
//! passes it on. Here it turns instants into local time and back, finds where a day, week, month or
//! year begins, and adds calendar spans. Nothing here asks for the present or for the machine's own
//! zone.
//!
//! Where the clock jumps forward, a local time that does not exist means the instant as far after
//! the jump as it would have been after midnight's clock (`02:30` becomes `03:30`); where it goes
//! back, a local time that occurs twice means the first.

use std::fmt;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use jiff::{Zoned, civil, tz::TimeZone};

use super::{
    desired::{CalendarSpan, Period},
    time::Timestamp,
};

/// A time zone, loaded, with the name that it was asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// A zone under its name.
    pub fn new(name: impl Into<String>, zone: TimeZone) -> Self {
        let name = name.into();
        Self { name, zone }
    }

    /// UTC.
    pub fn utc() -> Self {
        Self::new("UTC", TimeZone::UTC)
    }

    /// The local time at an instant, to the second: what a new backup's id is made of.
    pub fn local(&self, instant: Timestamp) -> NaiveDateTime {
        naive(self.zoned(instant).datetime())
    }

    /// The instant of a local time, `None` beyond the year 9999.
    pub fn instant(&self, local: NaiveDateTime) -> Option<Timestamp> {
        self.resolve(civil(local)?)
    }

    /// When the calendar period that contains an instant began; weeks begin on Monday.
    pub fn period_start(&self, period: Period, instant: Timestamp) -> Timestamp {
        let date = self.zoned(instant).date();
        let first = match period {
            Period::Day => date,
            Period::Week => {
                let days = i64::from(date.weekday().to_monday_zero_offset());
                date.saturating_sub(jiff::Span::new().days(days))
            }
            Period::Month => date.first_of_month(),
            Period::Year => date.first_of_year(),
        };
        self.resolve(first.at(0, 0, 0, 0)).unwrap_or(instant)
    }

    /// The instant so many calendar units later, at the same local time where that exists; the 31st
    /// becomes the month's last day. Stops at the end of the year 9999.
    pub fn add(&self, instant: Timestamp, span: CalendarSpan) -> Timestamp {
        let count = i64::from(span.count);
        let span = match span.unit {
            Period::Day => jiff::Span::new().try_days(count),
            Period::Week => jiff::Span::new().try_weeks(count),
            Period::Month => jiff::Span::new().try_months(count),
            Period::Year => jiff::Span::new().try_years(count),
        };
        let later = span.and_then(|span| self.zoned(instant).checked_add(span));
        later.map_or(timestamp(jiff::Timestamp::MAX), |later| {
            timestamp(later.timestamp())
        })
    }

    pub(super) fn zoned(&self, instant: Timestamp) -> Zoned {
        let micros = instant.utc().timestamp_micros();
        let extreme = if micros < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or(extreme);
        instant.to_zoned(self.zone.clone())
    }

    pub(super) fn resolve(&self, local: civil::DateTime) -> Option<Timestamp> {
        let zoned = self.zone.to_zoned(local).ok()?;
        Some(timestamp(zoned.timestamp()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.name)
    }
}

pub(super) fn timestamp(instant: jiff::Timestamp) -> Timestamp {
    let utc = chrono::DateTime::from_timestamp_micros(instant.as_microsecond());
    Timestamp::from(utc.expect("chrono's calendar is wider than jiff's"))
}

fn naive(local: civil::DateTime) -> NaiveDateTime {
    let part = |value: i8| u32::try_from(value).expect("parts of a date are not negative");
    let date = NaiveDate::from_ymd_opt(
        i32::from(local.year()),
        part(local.month()),
        part(local.day()),
    );
    let time = NaiveTime::from_hms_opt(
        part(local.hour()),
        part(local.minute()),
        part(local.second()),
    );
    date.expect("jiff's dates are dates")
        .and_time(time.expect("jiff's times are times"))
}

fn civil(local: NaiveDateTime) -> Option<civil::DateTime> {
    use chrono::Datelike;
    let part = |value: u32| i8::try_from(value).ok();
    civil::DateTime::new(
        i16::try_from(local.year()).ok()?,
        part(local.month())?,
        part(local.day())?,
        part(local.hour())?,
        part(local.minute())?,
        part(local.second())?,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central Europe by rule, so that no test depends on the machine's database.
    fn rome() -> Zone {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        Zone::new("Europe/Rome", zone)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    #[test]
    fn local_time_and_instants_are_inverse_but_where_the_clock_jumps() {
        let cases = [
            // (instant, local, back)
            ("2026-07-01T00:00:00Z", "20260701T020000", "same"),
            ("2026-12-31T23:30:00Z", "20270101T003000", "same"),
            // The second 02:30 of the night in which summer time ends is read as the first.
            (
                "2026-10-25T01:30:00Z",
                "20261025T023000",
                "2026-10-25T00:30:00Z",
            ),
        ];
        for (instant, local, back) in cases {
            let found = rome().local(at(instant));
            assert_eq!(found.format("%Y%m%dT%H%M%S").to_string(), local);
            let back = if back == "same" { instant } else { back };
            assert_eq!(rome().instant(found), Some(at(back)), "{local}");
        }
        let gap = NaiveDateTime::parse_from_str("20260329T023000", "%Y%m%dT%H%M%S");
        let shifted = rome().instant(gap.expect("a local time"));
        assert_eq!(shifted, Some(at("2026-03-29T01:30:00Z")));
    }

    #[test]
    fn a_period_begins_at_local_midnight() {
        let cases = [
            (Period::Day, "2026-06-10T23:00:00Z", "2026-06-10T22:00:00Z"),
            (Period::Week, "2026-06-10T23:00:00Z", "2026-06-07T22:00:00Z"),
            (
                Period::Month,
                "2026-06-30T22:30:00Z",
                "2026-06-30T22:00:00Z",
            ),
            (Period::Year, "2026-06-30T22:30:00Z", "2025-12-31T23:00:00Z"),
        ];
        for (period, instant, begins) in cases {
            let found = rome().period_start(period, at(instant));
            assert_eq!(found, at(begins), "{period:?}");
        }
    }

    #[test]
    fn a_calendar_span_keeps_the_local_time_and_ends_with_the_month() {
        let cases = [
            (
                12,
                Period::Month,
                "2026-01-31T01:00:00Z",
                "2027-01-31T01:00:00Z",
            ),
            (
                1,
                Period::Month,
                "2026-01-31T01:00:00Z",
                "2026-02-28T01:00:00Z",
            ),
            (
                1,
                Period::Day,
                "2026-03-28T02:00:00Z",
                "2026-03-29T01:00:00Z",
            ),
            (
                2,
                Period::Week,
                "2026-06-01T01:00:00Z",
                "2026-06-15T01:00:00Z",
            ),
            (
                1,
                Period::Year,
                "2028-02-29T01:00:00Z",
                "2029-02-28T01:00:00Z",
            ),
        ];
        for (count, unit, from, to) in cases {
            let found = rome().add(at(from), CalendarSpan { count, unit });
            assert_eq!(found, at(to), "{count} {unit:?}");
        }
        let never = rome().add(
            at("2026-01-01T00:00:00Z"),
            CalendarSpan {
                count: u32::MAX,
                unit: Period::Year,
            },
        );
        assert!(never > at("9998-01-01T00:00:00Z"));
    }

    #[test]
    fn a_zone_is_told_by_the_name_that_it_was_asked_for_by() {
        assert_eq!(rome().to_string(), "Europe/Rome");
    }

    #[test]
    fn an_instant_beyond_the_calendar_is_the_last_or_the_first_of_it() {
        let utc = Zone::utc();
        assert_eq!(
            utc.local(at("1969-12-31T23:59:59Z")).to_string(),
            "1969-12-31 23:59:59"
        );
        assert!(utc.local(Timestamp::MAX) > utc.local(at("9998-01-01T00:00:00Z")));
    }
}

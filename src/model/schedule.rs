//! When backups are due.
//!
//! A [`Schedule`] is a cron expression or an interval, in a zone, and a pure function of the
//! instant asked about: it holds no state, so a lost process loses no due backup. All instants are
//! whole seconds.
//!
//! Daylight saving time: a fixed local time that the clock jumps over is due right after the jump,
//! and one that the clock repeats is due the first time only, so that a daily backup is due once on
//! every day. An expression with a wildcard hour (`0 * * * *`) follows the hours that really pass:
//! 23 or 25 of them on such days.
//!
//! Intervals with `at` follow the local clock and start from `at` on every day (or every n-th day,
//! counted from 1970-01-01); what the clock jumps over is due as long after the jump as it was
//! meant after it. Intervals without `at` are counted in elapsed time from 1970-01-01 00:00 UTC.

use std::{fmt, time::Duration};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::civil;
use serde::{Serialize, Serializer};

pub use super::zone::Zone;
use super::{
    time::{Span, Timestamp},
    zone::timestamp,
};

const DAY: Duration = Duration::from_hours(24);

/// When backups are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    text: String,
    zone: Zone,
    rule: Rule,
    period: Duration,
}

#[derive(Clone, Debug)]
enum Rule {
    Cron(Box<Cron>),
    /// Elapsed time since 1970.
    Elapsed(i64),
    /// Local times on every n-th day.
    Local {
        days: i64,
        times: Vec<civil::Time>,
    },
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has not five fields.
    #[error("`{text}` has {fields} fields; a schedule has five: minute hour day month weekday")]
    Fields {
        /// The text.
        text: String,
        /// How many fields it has.
        fields: usize,
    },
    /// A name after `@` that means nothing.
    #[error("`{0}` is no schedule; known are @yearly, @monthly, @weekly, @daily and @hourly")]
    Nickname(String),
    /// A field says what cannot be.
    #[error("`{text}` is no schedule: {why}")]
    Field {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It names a day that no year has.
    #[error("`{0}` is never due: no year has such a day")]
    Never(String),
    /// It is too short or too long.
    #[error("an interval lies between 1m and 366d")]
    Interval,
    /// An interval that cannot begin at the same time of day.
    #[error("with `at`, an interval divides a day (6h) or is a number of whole days (48h)")]
    Uneven,
    /// Not a time of day.
    #[error("`{0}` is no time of day; write 02:00")]
    TimeOfDay(String),
    /// Not a window.
    #[error("`{0}` is no window; write 01:00-06:00")]
    Window(String),
    /// A window without length.
    #[error("the window `{0}` is empty; leave it out to start at any time")]
    EmptyWindow(String),
}

impl Schedule {
    /// Reads a cron expression of five fields, or `@daily` and its like.
    ///
    /// Where day of month and weekday are both given, either is enough, as in cron.
    pub fn parse(text: &str, zone: &Zone) -> Result<Self, Error> {
        let cron = cron(text)?;
        let period = cron_period(&cron).ok_or_else(|| Error::Never(text.to_owned()))?;
        Ok(Self {
            text: text.to_owned(),
            zone: zone.clone(),
            rule: Rule::Cron(Box::new(cron)),
            period,
        })
    }

    /// A backup every so often, from a local time of day on if one is given.
    pub fn every(every: Duration, at: Option<&str>, zone: &Zone) -> Result<Self, Error> {
        let seconds = i64::try_from(every.as_secs()).map_err(|_| Error::Interval)?;
        if seconds < 60 || every > 366 * DAY || every.subsec_nanos() > 0 {
            return Err(Error::Interval);
        }
        let rule = match at {
            None => Rule::Elapsed(seconds),
            Some(at) => local_times(seconds, time_of_day(at)?)?,
        };
        let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
        Ok(Self {
            text: format!("every {}{at}", Span(every)),
            zone: zone.clone(),
            rule,
            period: every,
        })
    }

    /// The same schedule by the clocks of another zone.
    #[must_use]
    pub fn in_zone(mut self, zone: &Zone) -> Self {
        self.zone = zone.clone();
        self
    }

    /// The latest instant that is not after `now`.
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        let now = Timestamp::from_unix_seconds(now.utc().timestamp())?;
        match &self.rule {
            Rule::Cron(cron) => {
                let found = cron.find_previous_occurrence(&self.zone.zoned(now), true);
                found.ok().map(|zoned| timestamp(zoned.timestamp()))
            }
            Rule::Elapsed(every) => {
                let seconds = now.unix_seconds();
                Timestamp::from_unix_seconds(seconds - seconds.rem_euclid(*every))
            }
            Rule::Local { days, times } => {
                let instants = self.local_instants(now, *days, times);
                instants.into_iter().filter(|due| *due <= now).max()
            }
        }
    }

    /// The first instant after `now`.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let now = Timestamp::from_unix_seconds(now.utc().timestamp())?;
        match &self.rule {
            Rule::Cron(cron) => {
                let found = cron.find_next_occurrence(&self.zone.zoned(now), false);
                found.ok().map(|zoned| timestamp(zoned.timestamp()))
            }
            Rule::Elapsed(every) => {
                let seconds = now.unix_seconds();
                Timestamp::from_unix_seconds(seconds - seconds.rem_euclid(*every) + every)
            }
            Rule::Local { days, times } => {
                let instants = self.local_instants(now, *days, times);
                instants.into_iter().filter(|due| *due > now).min()
            }
        }
    }

    /// The shortest distance between two consecutive instants, by clocks that never jump.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The instants of the scheduled days around `now`: the nearest before it and its neighbours, of which the zone decides which `now` lies
    /// beyond.
    fn local_instants(&self, now: Timestamp, days: i64, times: &[civil::Time]) -> Vec<Timestamp> {
        const EPOCH: civil::Date = civil::date(1970, 1, 1);
        let today = self.zone.zoned(now).date();
        let number = EPOCH
            .until(today)
            .map_or(0, |span| i64::from(span.get_days()));
        let first = number - number.rem_euclid(days);
        let scheduled = [first - days, first, first + days];
        let dates = scheduled.iter().filter_map(|day| {
            EPOCH
                .checked_add(jiff::Span::new().try_days(*day).ok()?)
                .ok()
        });
        dates
            .flat_map(|date| times.iter().map(move |time| date.to_datetime(*time)))
            .filter_map(|local| self.zone.resolve(local))
            .collect()
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.zone == other.zone
    }
}

impl fmt::Display for Schedule {
    /// A cron expression as it was written; an interval as `every 24h at 02:00`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn cron(text: &str) -> Result<Cron, Error> {
    const NICKNAMES: [&str; 7] = [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
    ];
    let fields = text.split_whitespace().count();
    if text.starts_with('@') {
        if !NICKNAMES.contains(&text.trim_end()) {
            return Err(Error::Nickname(text.to_owned()));
        }
    } else if fields != 5 {
        let text = text.to_owned();
        return Err(Error::Fields { text, fields });
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    parser.parse(text).map_err(|error| {
        let why = error.to_string();
        let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why);
        let mut why = why.trim_end_matches('.').to_owned();
        if let Some(first) = why.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        Error::Field {
            text: text.to_owned(),
            why,
        }
    })
}

/// The shortest distance between consecutive local times, `None` if there are none.
fn cron_period(cron: &Cron) -> Option<Duration> {
    // Eight years hold every combination of month lengths and weekdays that a rule of five fields
    // can tell apart well enough; expressions that are due more often repeat themselves long before
    // the count is reached.
    const START: civil::DateTime = civil::date(2024, 1, 1).at(0, 0, 0, 0);
    const INSTANTS_MAX: usize = 800;
    let end = civil::date(2032, 12, 31).at(0, 0, 0, 0);
    let mut previous = cron.find_next_occurrence(&START, true).ok()?;
    let mut shortest = 366 * DAY;
    for _ in 0..INSTANTS_MAX {
        let next = cron.find_next_occurrence(&previous, false).ok();
        let Some(next) = next.filter(|next| *next <= end) else {
            break;
        };
        let distance = next.duration_since(previous).unsigned_abs();
        shortest = shortest.min(distance);
        previous = next;
    }
    Some(shortest)
}

fn local_times(every: i64, at: civil::Time) -> Result<Rule, Error> {
    const DAY_SECONDS: i64 = 86_400;
    let (days, per_day) = if every % DAY_SECONDS == 0 {
        (every / DAY_SECONDS, 1)
    } else if DAY_SECONDS % every == 0 {
        (1, DAY_SECONDS / every)
    } else {
        return Err(Error::Uneven);
    };
    let step = |number: i64| at.wrapping_add(jiff::SignedDuration::from_secs(number * every));
    let mut times: Vec<civil::Time> = (0..per_day).map(step).collect();
    times.sort_unstable();
    Ok(Rule::Local { days, times })
}

fn time_of_day(text: &str) -> Result<civil::Time, Error> {
    let minutes = minutes_of_day(text).filter(|minutes| *minutes < MINUTES);
    let minutes = minutes.ok_or_else(|| Error::TimeOfDay(text.to_owned()))?;
    Ok(clock_time(minutes))
}

const MINUTES: u16 = 24 * 60;

/// Reads `HH:MM` up to `24:00` as minutes since midnight.
fn minutes_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= MINUTES).then_some(total)
}

fn clock_time(minutes: u16) -> civil::Time {
    let part = |value: u16| i8::try_from(value).expect("an hour or a minute");
    civil::time(part(minutes / 60 % 24), part(minutes % 60), 0, 0)
}

/// The hours in which an attempt may start, by the local clock. It may cross midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartWindow {
    text: String,
    from: u16,
    to: u16,
}

impl StartWindow {
    /// Reads `01:00-06:00`; the end is not part of it, and may be `24:00`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let error = || Error::Window(text.to_owned());
        let (from, to) = text.split_once('-').ok_or_else(error)?;
        let from = minutes_of_day(from.trim()).ok_or_else(error)?;
        let to = minutes_of_day(to.trim()).ok_or_else(error)?;
        if from == MINUTES {
            return Err(error());
        }
        if from == to {
            return Err(Error::EmptyWindow(text.to_owned()));
        }
        let text = text.to_owned();
        Ok(Self { text, from, to })
    }

    /// Whether an attempt may start at an instant.
    pub fn contains(&self, now: Timestamp, zone: &Zone) -> bool {
        let time = zone.zoned(now).time();
        let part = |value: i8| u16::try_from(value).expect("an hour or a minute");
        let minute = part(time.hour()) * 60 + part(time.minute());
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }

    /// When it opens next, after `now`. A day on which the clock jumps over the whole window has
    /// none.
    pub fn next_opening(&self, now: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let today = zone.zoned(now).date();
        (0..=3).find_map(|days| {
            let date = today.checked_add(jiff::Span::new().days(days)).ok()?;
            let opens = zone.resolve(date.to_datetime(clock_time(self.from)))?;
            (opens > now && self.contains(opens, zone)).then_some(opens)
        })
    }

    /// How long it stays open on an ordinary day.
    pub fn length(&self) -> Duration {
        let minutes = (self.to + MINUTES - self.from) % MINUTES;
        let minutes = if minutes == 0 { MINUTES } else { minutes };
        Duration::from_secs(u64::from(minutes) * 60)
    }
}

impl fmt::Display for StartWindow {
    /// As it was written.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

impl Serialize for StartWindow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    /// Central Europe by rule, so that no test depends on the machine's database.
    fn rome() -> Zone {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        Zone::new("Europe/Rome", zone)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    fn hours(count: u64) -> Duration {
        Duration::from_secs(count * 3600)
    }

    /// The instants of a schedule after one instant and up to another, in UTC.
    fn instants(schedule: &Schedule, after: &str, until: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut now = at(after);
        while let Some(next) = schedule.next_due(now).filter(|next| *next <= at(until)) {
            found.push(next.to_string());
            now = next;
        }
        found
    }

    #[test]
    fn a_daily_backup_in_the_skipped_hour_is_due_once_right_after_it() {
        let schedule = Schedule::parse("30 2 * * *", &rome()).expect("cron");
        let found = instants(&schedule, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(found, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let last = schedule.last_due(at("2026-03-29T12:00:00Z"));
        assert_eq!(last, Some(at("2026-03-29T01:00:00Z")));
    }

    #[test]
    fn a_daily_backup_in_the_repeated_hour_is_due_once() {
        let schedule = Schedule::parse("30 2 * * *", &rome()).expect("cron");
        let found = instants(&schedule, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let last = schedule.last_due(at("2026-10-25T12:00:00Z"));
        assert_eq!(last, Some(at("2026-10-25T00:30:00Z")));
    }

    #[test]
    fn an_hourly_backup_follows_the_hours_that_pass() {
        let schedule = Schedule::parse("@hourly", &rome()).expect("cron");
        let count = |from, to| instants(&schedule, from, to).len();
        assert_eq!(count("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), 23);
        assert_eq!(count("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"), 25);
    }

    #[test]
    fn an_interval_with_a_time_of_day_follows_the_local_clock() {
        let daily = Schedule::every(hours(24), Some("02:30"), &rome()).expect("an interval");
        assert_eq!(daily.to_string(), "every 24h at 02:30");
        let spring = instants(&daily, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(spring, ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
        let autumn = instants(&daily, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);

        let often = Schedule::every(hours(6), Some("20:00"), &Zone::utc()).expect("an interval");
        let found = instants(&often, "2026-06-01T00:00:00Z", "2026-06-02T02:00:00Z");
        let expected = ["02:00", "08:00", "14:00", "20:00"].map(|t| format!("2026-06-01T{t}:00Z"));
        assert_eq!(found[..4], expected);
        assert_eq!(found[4], "2026-06-02T02:00:00Z");
    }

    #[test]
    fn an_interval_of_days_counts_from_1970() {
        let third = Schedule::every(hours(72), Some("01:00"), &Zone::utc()).expect("an interval");
        let found = instants(&third, "1970-01-01T00:00:00Z", "1970-01-08T00:00:00Z");
        let expected = [
            "1970-01-01T01:00:00Z",
            "1970-01-04T01:00:00Z",
            "1970-01-07T01:00:00Z",
        ];
        assert_eq!(found, expected);
        let last = third.last_due(at("1970-01-04T00:59:59Z"));
        assert_eq!(last, Some(at("1970-01-01T01:00:00Z")));
    }

    #[test]
    fn an_interval_without_a_time_of_day_is_elapsed_time() {
        let schedule = Schedule::every(hours(5), None, &rome()).expect("an interval");
        let found = instants(&schedule, "1970-01-01T00:00:00Z", "1970-01-01T12:00:00Z");
        assert_eq!(found, ["1970-01-01T05:00:00Z", "1970-01-01T10:00:00Z"]);
    }

    #[test]
    fn the_period_is_the_shortest_distance() {
        let cases = [
            ("0 2 * * *", 24),
            ("@daily", 24),
            ("@weekly", 168),
            ("@monthly", 28 * 24),
            ("0 */6 * * *", 6),
            ("0 2 1,31 * *", 24),
            ("0 2 29 2 *", 366 * 24),
            ("0 2 * * 1,4", 72),
        ];
        for (text, expected) in cases {
            let schedule = Schedule::parse(text, &rome()).expect("cron");
            assert_eq!(schedule.period(), hours(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let why = |text| {
            let error = Schedule::parse(text, &Zone::utc()).expect_err("no schedule");
            error.to_string()
        };
        let fields =
            "`0 0 2 * * *` has 6 fields; a schedule has five: minute hour day month weekday";
        assert_eq!(why("0 0 2 * * *"), fields);
        let never = "`0 2 31 2 *` is never due: no year has such a day";
        assert_eq!(why("0 2 31 2 *"), never);
        assert!(why("@reboot").contains("known are @yearly"));
        assert!(why("0 25 * * *").starts_with("`0 25 * * *` is no schedule: "));
        let every = |span, at| Schedule::every(span, at, &Zone::utc()).expect_err("no schedule");
        assert_eq!(every(hours(5), Some("02:00")), Error::Uneven);
        for at in ["2:00", "24:00"] {
            let time = Error::TimeOfDay(at.to_owned());
            assert_eq!(every(hours(24), Some(at)), time);
        }
    }

    #[test]
    fn an_interval_is_of_whole_seconds_between_a_minute_and_a_year() {
        let year = hours(366 * 24);
        for (span, expected) in [
            (Duration::from_secs(59), false),
            (Duration::from_mins(1), true),
            (Duration::from_millis(60_500), false),
            (year, true),
            (year + Duration::from_secs(1), false),
        ] {
            let schedule = Schedule::every(span, None, &Zone::utc());
            assert_eq!(schedule.is_ok(), expected, "{span:?}");
            assert!(expected || schedule == Err(Error::Interval), "{span:?}");
        }
    }

    #[test]
    fn a_window_may_cross_midnight() {
        let day = StartWindow::parse("01:00-06:00").expect("a window");
        let night = StartWindow::parse("22:00-04:00").expect("a window");
        let cases = [
            ("2026-01-10T00:30:00Z", true, true),
            ("2026-01-10T02:59:59Z", true, true),
            ("2026-01-10T03:00:00Z", true, false),
            ("2026-01-10T04:59:59Z", true, false),
            ("2026-01-10T05:00:00Z", false, false),
            ("2026-01-10T21:00:00Z", false, true),
        ];
        for (now, in_day, in_night) in cases {
            assert_eq!(day.contains(at(now), &rome()), in_day, "{now}");
            assert_eq!(night.contains(at(now), &rome()), in_night, "{now}");
        }
        let opens = night.next_opening(at("2026-01-10T21:00:00Z"), &rome());
        assert_eq!(opens, Some(at("2026-01-11T21:00:00Z")));
        assert_eq!(night.length(), hours(6));
    }

    #[test]
    fn a_window_that_the_clock_jumps_over_opens_on_the_next_day() {
        let window = StartWindow::parse("02:00-03:00").expect("a window");
        let opens = window.next_opening(at("2026-03-28T12:00:00Z"), &rome());
        assert_eq!(opens, Some(at("2026-03-30T00:00:00Z")));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "01:00",
            "1:00-2:00",
            "01:00-25:00",
            "24:00-01:00",
            "01:60-03:00",
            "03:00-03:00",
        ] {
            assert!(StartWindow::parse(text).is_err(), "{text}");
        }
        assert!(StartWindow::parse("00:00-24:00").is_ok());
    }

    fn any_schedule() -> impl Strategy<Value = Schedule> {
        let cron = prop::sample::select(vec![
            "0 2 * * *",
            "30 2 * * *",
            "*/15 * * * *",
            "30 2,3 * * *",
            "0 3 * * 0",
            "15 0 1 * *",
            "0 1-3 * * *",
            "59 1 * * *",
        ]);
        let interval = prop::sample::select(vec![
            (6, Some("02:30")),
            (24, Some("02:30")),
            (24, None),
            (5, None),
            (48, Some("03:00")),
            (1, Some("00:30")),
        ]);
        prop_oneof![
            cron.prop_map(|text| Schedule::parse(text, &rome()).expect("cron")),
            interval.prop_map(|(every, at)| {
                Schedule::every(hours(every), at, &rome()).expect("an interval")
            }),
        ]
    }

    proptest! {
        /// Over the two nights in which the clock jumps and the days around them.
        #[test]
        fn last_and_next_enclose_now_and_agree(
            schedule in any_schedule(),
            jump in prop::sample::select(vec!["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"]),
            offset in -200_000_i64..200_000,
        ) {
            let now = Timestamp::from_unix_seconds(at(jump).unix_seconds() + offset);
            let now = now.expect("in range");
            let last = schedule.last_due(now).expect("a last instant");
            let next = schedule.next_due(now).expect("a next instant");
            prop_assert!(last <= now && now < next, "{last} {now} {next}");
            prop_assert_eq!(schedule.next_due(last), Some(next), "nothing lies between");
            prop_assert_eq!(schedule.last_due(next - Duration::from_secs(1)), Some(last));
            prop_assert_eq!(schedule.last_due(next), Some(next));
        }
    }

    #[test]
    fn a_schedule_is_another_by_the_clocks_of_another_zone() {
        let daily = Schedule::parse("0 2 * * *", &rome()).expect("cron");
        assert_eq!(daily, daily.clone());
        assert_ne!(daily, daily.clone().in_zone(&Zone::utc()));
        assert_ne!(daily, Schedule::parse("0 3 * * *", &rome()).expect("cron"));
    }

    #[test]
    fn schedules_and_windows_are_written_as_they_were_read() {
        let schedule = Schedule::parse("0 2 * * *", &rome()).expect("cron");
        let window = StartWindow::parse("01:00-06:00").expect("a window");
        let json = serde_json::to_string(&(schedule, window)).expect("JSON");
        assert_eq!(json, "[\"0 2 * * *\",\"01:00-06:00\"]");
    }
}

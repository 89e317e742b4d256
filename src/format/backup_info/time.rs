//! Instants as `backup.info` spells them.
//!
//! Written: `2026-11-20 22:43:33.130666+00:00`, without the fraction where it is zero. Read: that,
//! with any offset or none, with a `T` instead of the space, and the form of C's `ctime`, `Fri Nov
//! 20 22:43:33 2026`, which older Barmans wrote.

use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset, TimeDelta, Timelike, Utc};

use crate::model::{schedule::Zone, time::Timestamp};

/// Reads an instant; one without an offset is local time in `zone`, the earlier of two where clocks
/// were set back.
pub fn parse(text: &str, zone: &Zone) -> Option<Timestamp> {
    parse_with_offset(text, zone).map(|time| Timestamp::from(time.to_utc()))
}

/// Reads an instant with the offset that it is written with, or that the zone has then.
pub fn parse_with_offset(text: &str, zone: &Zone) -> Option<DateTime<FixedOffset>> {
    if let Ok(local) = NaiveDateTime::parse_from_str(text, "%a %b %e %H:%M:%S %Y") {
        return in_zone(local, zone);
    }
    let text = text.replacen('T', " ", 1);
    let date = text.get(..10)?;
    // The date holds hyphens too, so the offset is looked for behind it.
    let (clock, offset) = match text[10..].find(['+', '-', 'Z']) {
        Some(at) => text[10..].split_at(at),
        None => (&text[10..], ""),
    };
    let local = format!("{date}{}", clock.trim_end());
    let local = NaiveDateTime::parse_from_str(&local, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    let local = local.with_nanosecond(local.nanosecond() / 1_000 * 1_000)?;
    match offset {
        "" => in_zone(local, zone),
        "Z" => local.and_local_timezone(Utc.fix()).single(),
        _ => local
            .and_local_timezone(FixedOffset::east_opt(seconds(offset)?)?)
            .single(),
    }
}

/// Writes an instant in UTC.
pub fn render(instant: Timestamp) -> String {
    let utc = instant.utc();
    match utc.nanosecond() / 1_000 {
        0 => utc.format("%Y-%m-%d %H:%M:%S+00:00").to_string(),
        _ => utc.format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string(),
    }
}

/// Reads `+HH`, `+HHMM`, `+HH:MM` or `+HH:MM:SS`, or the same with a minus.
fn seconds(offset: &str) -> Option<i32> {
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits = offset[1..].replace(':', "");
    let plain = matches!(digits.len(), 2 | 4 | 6) && digits.bytes().all(|b| b.is_ascii_digit());
    let number = |at: usize| digits.get(at..at + 2).map_or(Ok(0), str::parse::<i32>);
    let numbers = (number(0).ok()?, number(2).ok()?, number(4).ok()?);
    let seconds = numbers.0 * 3_600 + numbers.1 * 60 + numbers.2;
    plain.then_some(sign * seconds)
}

fn in_zone(local: NaiveDateTime, zone: &Zone) -> Option<DateTime<FixedOffset>> {
    // A zone computes in whole seconds.
    let fraction = TimeDelta::nanoseconds(i64::from(local.nanosecond()));
    let whole = local.with_nanosecond(0)?;
    let instant = zone.instant(whole)?;
    let offset = zone.local(instant) - instant.utc().naive_utc();
    let offset = FixedOffset::east_opt(i32::try_from(offset.num_seconds()).ok()?)?;
    Some((instant.utc() + fraction).with_timezone(&offset))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn instants_of_every_form_are_read() {
        let rome = Zone::new("Rome", TimeZone::get("Europe/Rome").expect("a zone"));
        let cases = [
            ("2026-11-20 22:43:33.130666+00:00", "22:43:33.130666"),
            ("2026-11-20 22:43:33+00:00", "22:43:33"),
            ("2026-11-20T23:43:33+01", "22:43:33"),
            ("2026-11-20 17:13:33-0530", "22:43:33"),
            ("2026-11-20 22:43:43+00:00:10", "22:43:33"),
            ("2026-11-20 22:43:33Z", "22:43:33"),
            ("2026-11-20 23:43:33", "22:43:33"),
            ("2026-11-20 23:43:33.5", "22:43:33.500000"),
            ("Fri Nov 20 23:43:33 2026", "22:43:33"),
        ];
        for (text, clock) in cases {
            let time = parse(text, &rome).map(render);
            assert_eq!(time, Some(format!("2026-11-20 {clock}+00:00")), "{text}");
        }
        for bad in [
            "",
            "2026",
            "yesterday",
            "2026-11-20",
            "2026-13-20 00:00:00",
            "é-11-20 00:00:00",
            "2026-11-20 22:43:33+1",
            "2026-11-20 22:43:33 Rome",
        ] {
            assert_eq!(parse(bad, &rome), None, "{bad}");
        }
    }
}

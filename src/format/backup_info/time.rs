//! Instants as `backup.info` spells them.
//!
//! Written: `2026-11-20 22:43:33.130666+00:00`, without the fraction where it is zero. Read: that,
//! with any offset or none, with a `T` instead of the space, and the form of C's `ctime`, `Fri Nov
//! 20 22:43:33 2026`, which older Barmans wrote.

use chrono::{DateTime, Duration, NaiveDateTime, Timelike};

use crate::model::{schedule::Zone, time::Timestamp};

/// Reads an instant; one without an offset is local time in `zone`, the earlier of two where clocks
/// were set back.
pub fn parse(text: &str, zone: &Zone) -> Option<Timestamp> {
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
    match offset {
        "" => in_zone(local, zone),
        "Z" => instant(local),
        _ => instant(local.checked_sub_signed(seconds(offset)?)?),
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
fn seconds(offset: &str) -> Option<Duration> {
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits = offset[1..].replace(':', "");
    let plain = matches!(digits.len(), 2 | 4 | 6) && digits.bytes().all(|b| b.is_ascii_digit());
    let number = |at: usize| digits.get(at..at + 2).map_or(Ok(0), str::parse::<i64>);
    let numbers = (number(0).ok()?, number(2).ok()?, number(4).ok()?);
    let seconds = numbers.0 * 3_600 + numbers.1 * 60 + numbers.2;
    plain.then(|| Duration::seconds(sign * seconds))
}

fn instant(utc: NaiveDateTime) -> Option<Timestamp> {
    let micros = utc.and_utc().timestamp_micros();
    DateTime::from_timestamp_micros(micros).map(Timestamp::from)
}

fn in_zone(local: NaiveDateTime, zone: &Zone) -> Option<Timestamp> {
    // A zone computes in whole seconds.
    let micros = u64::from(local.nanosecond() / 1_000);
    let instant = zone.instant(local.with_nanosecond(0)?)?;
    Some(instant + std::time::Duration::from_micros(micros))
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

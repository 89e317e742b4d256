//! Values that are written as text: times, sizes, rates, calendar spans, windows, places.
//!
//! A quantity always has its unit. `m` is minutes; months and years are spelled, and only calendar
//! spans and retention know them. `MB` is a million bytes and `MiB` is 2^20, as written: Barman's
//! options read them the other way round.

use std::{borrow::Cow, fmt, marker::PhantomData, time::Duration};

use chrono::NaiveDate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::model::{
    compression::{Compression, Level},
    desired::{CalendarSpan, Period},
    location::Location,
    retention::{RetentionPolicy, Window, WindowUnit},
    schedule::{Schedule, StartWindow, Zone},
    time::Timestamp,
};

/// A value that is written as text.
pub trait FromText: Sized {
    /// What is expected, for messages: "a time such as `7d`".
    const EXPECTED: &str;
    /// A regular expression that the text matches, anchored at both ends; empty if none can say it.
    const PATTERN: &str;
    /// Reads it; the error says what is wrong, complete.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// A value read from text.
#[derive(Clone, Debug, PartialEq)]
pub struct Text<T>(pub T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<T: FromText> Visitor<'_> for Read<T> {
            type Value = Text<T>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(T::EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<T>, E> {
                T::from_text(text).map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Read(PhantomData))
    }
}

impl<T: FromText> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::EXPECTED.into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        if T::PATTERN.is_empty() {
            json_schema!({ "type": "string", "title": T::EXPECTED })
        } else {
            let pattern = format!("^({})$", T::PATTERN);
            json_schema!({ "type": "string", "title": T::EXPECTED, "pattern": pattern })
        }
    }
}

/// A value that has a short form, a text, and a long one, a table.
#[derive(Clone, Debug, PartialEq)]
pub enum TextOr<T, U> {
    /// The short form.
    Text(T),
    /// The long form.
    Table(U),
}

impl<'de, T: FromText, U: Deserialize<'de>> Deserialize<'de> for TextOr<T, U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T, U>(PhantomData<(T, U)>);
        impl<'de, T: FromText, U: Deserialize<'de>> Visitor<'de> for Read<T, U> {
            type Value = TextOr<T, U>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}, or a table", T::EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::from_text(text).map(TextOr::Text).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                U::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Table)
            }
        }
        deserializer.deserialize_any(Read(PhantomData))
    }
}

impl<T: FromText, U: JsonSchema> JsonSchema for TextOr<T, U> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{} or {}", T::EXPECTED, U::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = Text::<T>::json_schema(generator);
        let table = generator.subschema_for::<U>();
        json_schema!({ "anyOf": [text, table] })
    }
}

/// A value, or the word `none`, which unsets what a lower layer has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

fn none_or<T: FromText>(text: &str) -> Result<OrNone<T>, String> {
    match text {
        "none" => Ok(OrNone(None)),
        text => T::from_text(text).map(|value| OrNone(Some(value))),
    }
}

/// Splits the number that a text begins with from the rest.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

impl FromText for Duration {
    const EXPECTED: &str = "a time such as `7d`, `24h` or `5m`";
    const PATTERN: &str = "[0-9]+ ?[a-z]+( ?[0-9]+ ?[a-z]+)*";

    fn from_text(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is not {}", Self::EXPECTED);
        let mut rest = text.trim();
        let mut total = Self::ZERO;
        while !rest.is_empty() {
            let (count, after) = number(rest).ok_or_else(error)?;
            let after = after.trim_start();
            let end = after
                .find(|c: char| !c.is_alphabetic())
                .unwrap_or(after.len());
            let seconds = match &after[..end] {
                "s" | "sec" | "second" | "seconds" => 1,
                "m" | "min" | "minute" | "minutes" => 60,
                "h" | "hour" | "hours" => 3_600,
                "d" | "day" | "days" => 86_400,
                "w" | "week" | "weeks" => 7 * 86_400,
                "" => {
                    return Err(format!(
                        "`{text}` has no unit; write `{count}d`, `{count}h` or `{count}m`"
                    ));
                }
                "month" | "months" | "year" | "years" => {
                    return Err(format!(
                        "`{text}`: a month or a year has no fixed length; write days"
                    ));
                }
                unit => {
                    return Err(format!(
                        "`{text}`: `{unit}` is no unit of time; known are s, m (minutes), h, d \
                         and w"
                    ));
                }
            };
            total += Self::from_secs(u64::from(count) * seconds);
            rest = after[end..].trim_start();
        }
        if text.trim().is_empty() {
            Err(error())
        } else {
            Ok(total)
        }
    }
}

impl FromText for OrNone<Duration> {
    const EXPECTED: &str = "a time such as `7d`, or `none`";
    const PATTERN: &str = "none|[0-9]+ ?[a-z]+( ?[0-9]+ ?[a-z]+)*";
    fn from_text(text: &str) -> Result<Self, String> {
        none_or(text)
    }
}

impl FromText for std::net::SocketAddr {
    const EXPECTED: &str = "an address with its port, such as `127.0.0.1:9187` or `[::]:9187`";
    const PATTERN: &str = ".+:[0-9]+";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is not {}", Self::EXPECTED))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromText for Bytes {
    const EXPECTED: &str = "a size such as `8MiB` or `100GB`";
    const PATTERN: &str = "[0-9]+(\\.[0-9]+)? ?([kKMGT]i?)?B";

    fn from_text(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is not {}", Self::EXPECTED);
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| {
                format!("`{text}` has no unit; write `{text}B`, `{text}MiB` or `{text}GB`")
            })?;
        let (whole, fraction) = text[..digits]
            .split_once('.')
            .unwrap_or((&text[..digits], "0"));
        let unit: u64 = match text[digits..].trim_start() {
            "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            unit => {
                let known = "B, kB, MB, GB, TB (thousands), KiB, MiB, GiB and TiB (1024)";
                return Err(format!(
                    "`{text}`: `{unit}` is no unit of size; known are {known}"
                ));
            }
        };
        let whole: u64 = whole.parse().map_err(|_| error())?;
        let places = u32::try_from(fraction.len()).map_err(|_| error())?;
        let scale = 10_u64.checked_pow(places).ok_or_else(error)?;
        let part = fraction
            .parse::<u64>()
            .ok()
            .and_then(|part| unit.checked_mul(part));
        let bytes = whole.checked_mul(unit).zip(part.map(|part| part / scale));
        let bytes = bytes.and_then(|(whole, part)| whole.checked_add(part));
        bytes.map(Self).ok_or_else(error)
    }
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

impl FromText for OrNone<Rate> {
    const EXPECTED: &str = "a rate such as `200MiB/s`, or `none`";
    const PATTERN: &str = "none|[0-9]+(\\.[0-9]+)? ?([kKMGT]i?)?B/s";
    fn from_text(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let missing = || format!("`{text}` is not {}", Self::EXPECTED);
        let size = text.strip_suffix("/s").ok_or_else(missing)?;
        match Bytes::from_text(size)?.0 {
            0 => Err("a rate of nothing would never end; `none` is no limit".to_owned()),
            bytes => Ok(Self(Some(Rate(bytes)))),
        }
    }
}

impl FromText for CalendarSpan {
    const EXPECTED: &str = "a calendar span such as `12 months`";
    const PATTERN: &str = "[0-9]+ ?(d|days?|w|weeks?|months?|years?)";

    fn from_text(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is not {}", Self::EXPECTED);
        let (count, unit) = number(text.trim()).ok_or_else(error)?;
        let unit = match unit.trim_start() {
            "d" | "day" | "days" => Period::Day,
            "w" | "week" | "weeks" => Period::Week,
            "month" | "months" => Period::Month,
            "year" | "years" => Period::Year,
            "m" => return Err(format!("`{text}`: `m` is minutes; write `{count} months`")),
            _ => return Err(error()),
        };
        if count == 0 {
            return Err(format!("`{text}` is no time at all"));
        }
        Ok(Self { count, unit })
    }
}

impl FromText for Window {
    const EXPECTED: &str = "a window such as `30d`, `4 weeks` or `12 months` (of 31 days)";
    const PATTERN: &str = "[0-9]+ ?(d|days?|w|weeks?|months?)";

    fn from_text(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is not {}", Self::EXPECTED);
        let CalendarSpan { count, unit } = CalendarSpan::from_text(text).map_err(|_| error())?;
        let unit = match unit {
            Period::Day => WindowUnit::Days,
            Period::Week => WindowUnit::Weeks,
            Period::Month => WindowUnit::Months,
            Period::Year => {
                return Err(format!(
                    "`{text}`: write `{} months`",
                    u64::from(count) * 12
                ));
            }
        };
        Ok(Self { count, unit })
    }
}

impl FromText for OrNone<RetentionPolicy> {
    const EXPECTED: &str = "`RECOVERY WINDOW OF 30 DAYS`, `REDUNDANCY 7` or `none`";
    const PATTERN: &str = "";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => match text.parse() {
                Ok(policy) => Ok(Self(Some(policy))),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// A cron expression that has been checked, or `none`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron(pub Option<Schedule>);

impl FromText for Cron {
    const EXPECTED: &str = "five cron fields, `@daily` and its like, or `none`";
    const PATTERN: &str = "";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => match Schedule::parse(text, &Zone::utc()) {
                Ok(schedule) => Ok(Self(Some(schedule))),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl FromText for OrNone<StartWindow> {
    const EXPECTED: &str = "hours such as `01:00-06:00`, or `none`";
    const PATTERN: &str = "none|[0-2][0-9]:[0-5][0-9] ?- ?[0-2][0-9]:[0-5][0-9]";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => match StartWindow::parse(text) {
                Ok(window) => Ok(Self(Some(window))),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl FromText for Location {
    const EXPECTED: &str = "a URL: `s3://bucket/prefix`, `gs://`, `https://` (Azure) or `file:///`";
    const PATTERN: &str = "(s3|gs|https?|file)://.+";
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse::<Self>().map_err(|error| error.to_string())
    }
}

impl FromText for Compression {
    const EXPECTED: &str = "`none`, `gzip`, `bzip2`, `snappy`, `lz4`, `xz` or `zstd`";
    const PATTERN: &str = "none|gzip|bzip2|snappy|lz4|xz|zstd";
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse::<Self>().map_err(|error| error.to_string())
    }
}

/// Until when a keep holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the end of a day.
    Day(NaiveDate),
    /// To an instant.
    Instant(Timestamp),
}

impl FromText for Until {
    const EXPECTED: &str =
        "a day such as `2027-12-31` or an instant such as `2027-12-31T18:00:00Z`";
    const PATTERN: &str = "[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?";
    fn from_text(text: &str) -> Result<Self, String> {
        let day = text.parse().map(Self::Day);
        day.or_else(|_| text.parse().map(Self::Instant))
            .map_err(|_| format!("`{text}` is not {}", Self::EXPECTED))
    }
}

/// How hard to compress: a number of the codec's own scale, or a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelText(pub Level);

impl<'de> Deserialize<'de> for LevelText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = LevelText;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number, `low`, `medium` or `high`")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<LevelText, E> {
                let number =
                    i32::try_from(number).map_err(|_| E::custom("no codec has such a level"))?;
                Ok(LevelText(Level::Exact(number)))
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<LevelText, E> {
                match word {
                    "low" => Ok(LevelText(Level::Low)),
                    "medium" => Ok(LevelText(Level::Medium)),
                    "high" => Ok(LevelText(Level::High)),
                    word => Err(E::unknown_variant(word, &["low", "medium", "high"])),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl JsonSchema for LevelText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Level".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer" },
            { "type": "string", "enum": ["low", "medium", "high"] },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text means, or what is wrong with it.
    fn read<T: FromText + fmt::Debug>(text: &str) -> String {
        T::from_text(text).map_or_else(|error| error, |value| format!("{value:?}"))
    }

    #[test]
    fn a_time_has_a_unit_and_m_is_minutes() {
        let cases = [
            ("7d", "604800s"),
            ("24h", "86400s"),
            ("5m", "300s"),
            ("1h 30m", "5400s"),
            ("2 weeks", "1209600s"),
            ("0s", "0ns"),
            ("90", "`90` has no unit; write `90d`, `90h` or `90m`"),
            ("", "`` is not a time such as `7d`, `24h` or `5m`"),
            (
                "2 months",
                "`2 months`: a month or a year has no fixed length; write days",
            ),
            (
                "3M",
                "`3M`: `M` is no unit of time; known are s, m (minutes), h, d and w",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read::<Duration>(text), expected, "{text}");
        }
    }

    #[test]
    fn a_size_means_what_its_unit_says() {
        let cases = [
            ("8MiB", "Bytes(8388608)"),
            ("100GB", "Bytes(100000000000)"),
            ("1.5GiB", "Bytes(1610612736)"),
            ("1 KiB", "Bytes(1024)"),
            ("12", "`12` has no unit; write `12B`, `12MiB` or `12GB`"),
            (
                "99999999999TiB",
                "`99999999999TiB` is not a size such as `8MiB` or `100GB`",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read::<Bytes>(text), expected, "{text}");
        }
        assert!(read::<Bytes>("100G").contains("`G` is no unit of size"));
        assert_eq!(
            read::<OrNone<Rate>>("200MiB/s"),
            "OrNone(Some(Rate(209715200)))"
        );
        assert_eq!(read::<OrNone<Rate>>("none"), "OrNone(None)");
        assert!(read::<OrNone<Rate>>("200MiB").contains("is not a rate"));
    }

    #[test]
    fn a_calendar_span_knows_months_and_spells_them() {
        let cases = [
            ("12 months", "CalendarSpan { count: 12, unit: Month }"),
            ("1 year", "CalendarSpan { count: 1, unit: Year }"),
            ("30d", "CalendarSpan { count: 30, unit: Day }"),
            ("12m", "`12m`: `m` is minutes; write `12 months`"),
            ("0 days", "`0 days` is no time at all"),
        ];
        for (text, expected) in cases {
            assert_eq!(read::<CalendarSpan>(text), expected, "{text}");
        }
        assert_eq!(
            read::<Window>("4 weeks"),
            "Window { count: 4, unit: Weeks }"
        );
        assert_eq!(read::<Window>("2 years"), "`2 years`: write `24 months`");
    }
}

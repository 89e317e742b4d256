//! Retention: how long backups stay. The judgement on each of them is in `judge`.
//!
//! The grammar is Barman's: any case, any white space, singular or plural. A month has 31 days.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// How long backups stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetentionPolicy {
    /// So many of the newest.
    Redundancy(u32),
    /// Whatever is needed to reach any instant of the past so long.
    RecoveryWindow(Window),
}

/// The length of a recovery window, in the unit that it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How many units.
    pub count: u32,
    /// Which unit.
    pub unit: WindowUnit,
}

impl Window {
    /// The window as a span of time.
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.count) * self.unit.days() * 86_400)
    }
}

/// The unit of a recovery window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowUnit {
    /// 24 hours.
    Days,
    /// 7 days.
    Weeks,
    /// 31 days.
    Months,
}

impl WindowUnit {
    /// Its length in days.
    pub fn days(self) -> u64 {
        match self {
            Self::Days => 1,
            Self::Weeks => 7,
            Self::Months => 31,
        }
    }
}

impl fmt::Display for RetentionPolicy {
    /// Barman's words: `REDUNDANCY 7`, `RECOVERY WINDOW OF 30 DAYS`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redundancy(count) => write!(formatter, "REDUNDANCY {count}"),
            Self::RecoveryWindow(Window { count, unit }) => {
                let unit = match unit {
                    WindowUnit::Days => "DAYS",
                    WindowUnit::Weeks => "WEEKS",
                    WindowUnit::Months => "MONTHS",
                };
                write!(formatter, "RECOVERY WINDOW OF {count} {unit}")
            }
        }
    }
}

/// Why a text is no retention policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no retention policy; write `REDUNDANCY <number>` or \
     `RECOVERY WINDOW OF <number> DAYS|WEEKS|MONTHS`"
)]
pub struct ParseError(pub String);

impl FromStr for RetentionPolicy {
    type Err = ParseError;
    /// Reads Barman's grammar: any case, any white space, singular or plural, zero allowed.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError(text.to_owned());
        let words: Vec<String> = text
            .split_whitespace()
            .map(str::to_ascii_uppercase)
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let number = |digits: &str| {
            let digits = Some(digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            digits
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(error)
        };
        match words[..] {
            ["REDUNDANCY", count] => Ok(Self::Redundancy(number(count)?)),
            ["RECOVERY", "WINDOW", "OF", count, unit] => {
                let unit = match unit {
                    "DAY" | "DAYS" => WindowUnit::Days,
                    "WEEK" | "WEEKS" => WindowUnit::Weeks,
                    "MONTH" | "MONTHS" => WindowUnit::Months,
                    _ => return Err(error()),
                };
                Ok(Self::RecoveryWindow(Window {
                    count: number(count)?,
                    unit,
                }))
            }
            _ => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_barman_reads_them() {
        let read = |text: &str| {
            let policy = text.parse::<RetentionPolicy>();
            policy.map_or_else(|error| error.to_string(), |policy| policy.to_string())
        };
        for (text, policy) in [
            ("REDUNDANCY 2", "REDUNDANCY 2"),
            (" redundancy\t0 ", "REDUNDANCY 0"),
            ("recovery  window of 1 day", "RECOVERY WINDOW OF 1 DAYS"),
            ("Recovery Window Of 4 Weeks", "RECOVERY WINDOW OF 4 WEEKS"),
            (
                "RECOVERY WINDOW OF 12 MONTH",
                "RECOVERY WINDOW OF 12 MONTHS",
            ),
        ] {
            assert_eq!(read(text), policy);
        }
        for text in [
            "",
            "main",
            "REDUNDANCY",
            "REDUNDANCY -1",
            "REDUNDANCY +1",
            "REDUNDANCY 1 2",
            "RECOVERY WINDOW OF 1 YEAR",
            "RECOVERY WINDOW OF 1 DAYSS",
            "RECOVERYWINDOW OF 1 DAY",
        ] {
            assert!(text.parse::<RetentionPolicy>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_month_has_31_days() {
        let days = |text: &str| match text.parse() {
            Ok(RetentionPolicy::RecoveryWindow(window)) => window.duration().as_secs() / 86_400,
            other => panic!("{other:?}"),
        };
        assert_eq!(days("RECOVERY WINDOW OF 2 MONTHS"), 62);
        assert_eq!(days("RECOVERY WINDOW OF 3 WEEKS"), 21);
    }
}

//! What the words of a Barman command line mean: numbers, sizes, tags, levels.
//!
//! The rules and complaints are Barman 3.19's, which scripts may have come to depend on: `KB` is 1,024 bytes and `KiB` 1,000. A value that
//! makes Barman fail inside is refused here like any other.

use super::argparse::quoted;
use crate::{format::python::Value, model::recovery};

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number.
    Integer,
    /// A whole number from 1 on.
    Positive,
    /// A whole number from 0 on.
    NonNegative,
    /// A number of bytes, with or without a unit.
    Size,
    /// `KEY,VALUE`, checked as AWS wants it.
    Tag,
    /// `KEY,VALUE` in CSV, not checked further.
    CsvTag,
    /// `low`, `medium`, `high` or a whole number.
    Level,
    /// `current`, `latest` or a whole number from 1 on.
    Timeline,
    /// What a backup may be called.
    BackupName,
    /// Hours in which a snapshot lock can still be changed: 1 to 72.
    CoolOff,
    /// Days of a snapshot lock: 1 to 36,500.
    LockDays,
    /// `YYYY-MM-DDThh:mm:ss.sssZ`
    Instant,
}

/// Why a word is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is told which argument it is about, below the usage.
    Because(String),
    /// It is told as it is.
    Bare(String),
}

/// What the restore command and the shortcuts mean, so that no backup can be called so.
const RESERVED: [&str; 8] = [
    "latest",
    "last",
    "oldest",
    "first",
    "last-failed",
    "latest-full",
    "last-full",
    "auto",
];

const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;

impl Kind {
    /// Reads a word.
    pub fn convert(self, word: &str) -> Result<Value, Refused> {
        let because = |why: &str| Refused::Because(format!("{} {why}", always_single(word)));
        // What Python's library says of a word that a function of this name does not take.
        let invalid = |function: &str| {
            Refused::Because(format!("invalid {function} value: {}", quoted(word)))
        };
        match self {
            Self::Text => Ok(Value::from(word)),
            Self::Choice(words) => choice(word, words),
            Self::Integer => integer(word).map(Value::Int).ok_or_else(|| invalid("int")),
            Self::NonNegative => integer(word)
                .filter(|number| *number >= 0)
                .map(Value::Int)
                .ok_or_else(|| because("is not a valid non negative integer")),
            Self::Size => size(word).map(Value::Int).ok_or_else(|| {
                let word = always_single(&word.to_uppercase());
                Refused::Because(format!("{word} is not a valid size string"))
            }),
            Self::Tag if word.is_empty() => Ok(Value::None),
            Self::Tag => tag(word).ok_or_else(|| invalid("check_tag")),
            Self::CsvTag => {
                csv_tag(word).ok_or_else(|| Refused::Bare(format!("Invalid tag format: {word}")))
            }
            Self::Level => level(word).ok_or_else(|| invalid("parse_compression_level")),
            Self::Timeline if matches!(word, "current" | "latest") => Ok(Value::from(word)),
            Self::Positive | Self::Timeline => positive(word),
            Self::BackupName => backup_name(word),
            Self::CoolOff => within(word, 72)?
                .ok_or_else(|| invalid("check_aws_snapshot_lock_cool_off_period_range")),
            Self::LockDays => within(word, 36_500)?
                .ok_or_else(|| invalid("check_aws_snapshot_lock_duration_range")),
            Self::Instant => instant(word),
        }
    }
}

/// A text in single quotes, whatever is in it.
fn always_single(word: &str) -> String {
    format!("'{word}'")
}

fn choice(word: &str, words: &[&str]) -> Result<Value, Refused> {
    if words.contains(&word) {
        return Ok(Value::from(word));
    }
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    Err(Refused::Because(format!(
        "invalid choice: {} (choose from {})",
        quoted(word),
        words.join(", ")
    )))
}

fn positive(word: &str) -> Result<Value, Refused> {
    let why = match integer(word) {
        Some(number) if number >= 1 => return Ok(Value::Int(number)),
        Some(_) => "is not a valid positive integer",
        None => "is not a valid input",
    };
    Err(Refused::Because(format!("{} {why}", always_single(word))))
}

/// From 1 to a bound; no value beyond it.
fn within(word: &str, most: i128) -> Result<Option<Value>, Refused> {
    let why = || Refused::Because(format!("{} is not a valid input", always_single(word)));
    let number = integer(word).ok_or_else(why)?;
    Ok((1..=most).contains(&number).then_some(Value::Int(number)))
}

/// A whole number as Python reads it: white space around it, a sign, single underscores between digits.
fn integer(word: &str) -> Option<i128> {
    let word = word.trim();
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", word.strip_prefix('+').unwrap_or(word)),
    };
    let groups = digits.split('_');
    let is_number =
        |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    let plain = groups.clone().all(is_number);
    let digits: String = groups.collect();
    plain
        .then(|| format!("{sign}{digits}").parse().ok())
        .flatten()
}

/// A number with a fraction, as Python reads it.
fn float(word: &str) -> Option<f64> {
    let word = word.trim();
    let underscored = word.contains('_');
    let bytes = word.as_bytes();
    let digit = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(u8::is_ascii_digit)
    };
    let between = |(at, _): (usize, &str)| digit(at.checked_sub(1)) && digit(Some(at + 1));
    if underscored && !word.match_indices('_').all(between) {
        return None;
    }
    word.replace('_', "").parse().ok()
}

/// A number of bytes. Without a `B` at the end it is one of bytes; with one, a unit of 1,024 may stand before it, and with `iB` one of
/// 1,000.
fn size(word: &str) -> Option<i128> {
    let word = word.to_uppercase();
    let bytes = match word.strip_suffix('B') {
        None => integer(&word)?,
        Some(rest) => match (rest.strip_suffix('I'), rest) {
            (Some(rest), _) => scaled(rest, 1_000)?,
            (None, rest) => scaled(rest, 1_024)?,
        },
    };
    Some(bytes).filter(|bytes| *bytes >= 1)
}

fn scaled(word: &str, base: i128) -> Option<i128> {
    const UNITS: &str = "KMGTPEZY";
    let last = word.chars().next_back()?;
    let Some(unit) = UNITS.find(last) else {
        return integer(word);
    };
    let multiplier = base.pow(u32::try_from(unit).ok()? + 1);
    let number = float(&word[..word.len() - 1])?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "as Python computes it: in floating point, then cut off"
    )]
    let bytes = (number * multiplier as f64) as i128;
    number.is_finite().then_some(bytes)
}

fn tag(word: &str) -> Option<Value> {
    let (key, value) = word.split_once(',')?;
    let (key, value) = (key.trim(), value.trim());
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c))
    };
    let named = (1..=KEY_CHARACTERS_MAX).contains(&key.chars().count())
        && !key.to_lowercase().starts_with("aws:");
    let short = value.chars().count() <= VALUE_CHARACTERS_MAX;
    (named && short && plain(key) && plain(value)).then(|| pair(key, value))
}

fn pair(key: &str, value: &str) -> Value {
    Value::Tuple(vec![Value::from(key), Value::from(value)])
}

/// A record of CSV with exactly two fields.
fn csv_tag(word: &str) -> Option<Value> {
    let mut fields = vec![String::new()];
    let mut rest = word.chars().peekable();
    let mut quoted = false;
    let mut start = true;
    while let Some(character) = rest.next() {
        let field = fields.last_mut()?;
        match character {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            _ if quoted => field.push(character),
            '"' if start => {
                quoted = true;
                start = false;
            }
            ',' => {
                fields.push(String::new());
                start = true;
            }
            // A line end ends the record, and there is only one.
            '\n' | '\r' if rest.clone().all(|c| matches!(c, '\n' | '\r')) => break,
            '\n' | '\r' => return None,
            _ => {
                field.push(character);
                start = false;
            }
        }
    }
    match &fields[..] {
        [key, value] => Some(pair(key, value)),
        _ => None,
    }
}

fn level(word: &str) -> Option<Value> {
    let word = word.to_lowercase();
    let digits = word.trim_start_matches('-');
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return integer(&word).map(Value::Int);
    }
    matches!(word.as_str(), "" | "low" | "medium" | "high").then_some(Value::Str(word))
}

fn backup_name(word: &str) -> Result<Value, Refused> {
    let why = if word.is_empty() {
        "Backup name cannot be empty".to_owned()
    } else if recovery::is_id(word) {
        format!("Backup name '{word}' is not allowed: backup ID")
    } else if RESERVED.contains(&word) {
        format!("Backup name '{word}' is not allowed: reserved word")
    } else {
        return Ok(Value::from(word));
    };
    Err(Refused::Because(why))
}

fn instant(word: &str) -> Result<Value, Refused> {
    const FORM: &str = "%Y-%m-%dT%H:%M:%S.%fZ";
    let read = chrono::NaiveDateTime::parse_from_str(word, "%Y-%m-%dT%H:%M:%S%.fZ").ok();
    let fraction = word.rsplit_once('.').map(|(_, rest)| rest.len() - 1);
    // Python wants a fraction, of six digits at most.
    let whole = fraction.is_some_and(|digits| (1..=6).contains(&digits));
    match read.filter(|_| whole) {
        Some(_) => Ok(Value::from(word)),
        None => Err(Refused::Because(format!(
            "Invalid date: '{word}'. Expected format is '{FORM}'."
        ))),
    }
}

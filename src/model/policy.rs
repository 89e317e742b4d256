//! What an entry's policy means for how long backups stay, and whether one keeps less than another.
//!
//! Two policies are compared as written, not by what they make of a catalog: a retention that was shortened by mistake is found the
//! same day, not when the first backup is old enough to suffer from it. What cannot be compared counts as shortened.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::{
    backup::KeepTarget,
    desired::{CalendarSpan, Entry, KeepRule, Period},
    retention::RetentionPolicy,
};

/// How long backups stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The retention; none keeps everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionPolicy>,
    /// How many good backups stay whatever the retention says.
    pub minimum_redundancy: u32,
    /// What is kept by the calendar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_rules: Vec<KeepRule>,
}

/// Something that a policy keeps less of than another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shortened {
    /// What was kept.
    pub was: String,
    /// What is kept now; nothing of the kind if empty.
    pub is: String,
}

impl Policy {
    /// What an entry says.
    pub fn of(entry: &Entry) -> Self {
        Self {
            retention: entry.retention,
            minimum_redundancy: entry.minimum_redundancy,
            keep_rules: entry.keep_rules.clone(),
        }
    }

    /// What another policy keeps less of than this one.
    pub fn shortened_to(&self, now: &Self) -> BTreeSet<Shortened> {
        let mut shortened = BTreeSet::new();
        let mut found = |was: String, is: String| {
            shortened.insert(Shortened { was, is });
        };
        if is_less(self.retention, now.retention) {
            found(words(self.retention), words(now.retention));
        }
        if now.minimum_redundancy < self.minimum_redundancy {
            let words = |minimum| format!("minimum redundancy {minimum}");
            found(
                words(self.minimum_redundancy),
                words(now.minimum_redundancy),
            );
        }
        for rule in &self.keep_rules {
            let same = now
                .keep_rules
                .iter()
                .filter(|other| other.first_of == rule.first_of);
            if !same.clone().any(|other| covers(other, rule)) {
                let is = same.map(rule_words).collect::<Vec<_>>().join(", ");
                found(rule_words(rule), is);
            }
        }
        shortened
    }
}

fn is_less(was: Option<RetentionPolicy>, is: Option<RetentionPolicy>) -> bool {
    match (was, is) {
        (_, None) => false,
        (Some(RetentionPolicy::Redundancy(was)), Some(RetentionPolicy::Redundancy(is))) => is < was,
        (Some(RetentionPolicy::RecoveryWindow(was)), Some(RetentionPolicy::RecoveryWindow(is))) => {
            is.duration() < was.duration()
        }
        // All was kept; or which of the two keeps more depends on the schedule.
        (_, Some(_)) => true,
    }
}

fn words(retention: Option<RetentionPolicy>) -> String {
    retention.map_or("no retention".to_owned(), |policy| policy.to_string())
}

/// Whether a rule keeps all that another one does.
fn covers(one: &KeepRule, other: &KeepRule) -> bool {
    let full = one.target == KeepTarget::Full || other.target == KeepTarget::Standalone;
    full && days(one.keep_for) >= days(other.keep_for)
}

/// A calendar span in days, months being of one length: 12 of them are a year.
fn days(span: CalendarSpan) -> u64 {
    let unit = match span.unit {
        Period::Day => 1,
        Period::Week => 7,
        Period::Month => 31,
        Period::Year => 12 * 31,
    };
    u64::from(span.count) * unit
}

fn rule_words(rule: &KeepRule) -> String {
    let KeepRule {
        first_of,
        keep_for,
        target,
    } = rule;
    format!("the first of every {first_of} for {keep_for} ({target})")
}

impl fmt::Display for Shortened {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is.as_str() {
            "" => write!(formatter, "{} no more", self.was),
            is => write!(formatter, "{is}, before {}", self.was),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `30d 3 month:12`: a window or a redundancy (or `all`), a minimum, and rules.
    fn policy(text: &str) -> Policy {
        let mut words = text.split_whitespace();
        let retention = words.next().expect("a retention");
        let (count, unit) = retention.split_at(retention.len() - 1);
        let retention = match unit {
            "x" => Some(format!("REDUNDANCY {count}")),
            "d" => Some(format!("RECOVERY WINDOW OF {count} DAYS")),
            "w" => Some(format!("RECOVERY WINDOW OF {count} WEEKS")),
            _ => None,
        };
        Policy {
            retention: retention.map(|text| text.parse().expect("a policy")),
            minimum_redundancy: words.next().expect("a minimum").parse().expect("a number"),
            keep_rules: words.map(rule).collect(),
        }
    }

    fn rule(text: &str) -> KeepRule {
        let words: Vec<&str> = text.split(':').collect();
        let period = |word: &str| match word {
            "day" => Period::Day,
            "week" => Period::Week,
            "month" => Period::Month,
            _ => Period::Year,
        };
        KeepRule {
            first_of: period(words[0]),
            keep_for: CalendarSpan {
                count: words[1].parse().expect("a number"),
                unit: period(words[2]),
            },
            target: match words.get(3) {
                Some(_) => KeepTarget::Full,
                None => KeepTarget::Standalone,
            },
        }
    }

    fn shortened(was: &str, is: &str) -> String {
        let all = policy(was).shortened_to(&policy(is));
        let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
        lines.join("; ")
    }

    #[test]
    fn what_keeps_as_much_or_more_is_not_shortened() {
        for (was, is) in [
            ("30d 3", "30d 3"),
            ("30d 3", "31d 4"),
            ("4w 1", "28d 1"),
            ("30d 1", "all 1"),
            ("3x 1", "4x 1"),
            (
                "all 1 month:12:month",
                "all 1 month:1:year:full week:4:week",
            ),
            ("all 1 month:12:month", "all 1 month:6:month month:13:month"),
        ] {
            assert_eq!(shortened(was, is), "", "{was} -> {is}");
        }
    }

    #[test]
    fn what_keeps_less_says_what_of() {
        for (was, is, said) in [
            (
                "30d 3",
                "7d 2",
                "RECOVERY WINDOW OF 7 DAYS, before RECOVERY WINDOW OF 30 DAYS; \
                 minimum redundancy 2, before minimum redundancy 3",
            ),
            ("3x 1", "2x 1", "REDUNDANCY 2, before REDUNDANCY 3"),
            ("all 1", "99x 1", "REDUNDANCY 99, before no retention"),
            (
                "all 1 day:30:day",
                "all 1 day:29:day",
                "the first of every day for 29 days (standalone), \
                 before the first of every day for 30 days (standalone)",
            ),
            (
                "7d 1",
                "9x 1",
                "REDUNDANCY 9, before RECOVERY WINDOW OF 7 DAYS",
            ),
            (
                "9x 1",
                "7d 1",
                "RECOVERY WINDOW OF 7 DAYS, before REDUNDANCY 9",
            ),
            (
                "all 1 month:12:month",
                "all 1 year:12:month",
                "the first of every month for 12 months (standalone) no more",
            ),
            (
                "all 1 month:12:month:full",
                "all 1 month:13:month",
                "the first of every month for 13 months (standalone), \
                 before the first of every month for 12 months (full)",
            ),
            (
                "all 1 week:1:year",
                "all 1 week:53:week",
                "the first of every week for 53 weeks (standalone), \
                 before the first of every week for 1 year (standalone)",
            ),
        ] {
            assert_eq!(shortened(was, is), said, "{was} -> {is}");
        }
    }
}

//! Plans as text for people and as JSON for programs.
//!
//! Text is deterministic: the same plan gives the same bytes. Ages are told relative to the plan's own instant.

use std::fmt;

use serde::Serialize;

use super::{Plan, Remaining, Step, Target, Weight};
use crate::model::{
    action::{Action, Effect},
    compression::Compression,
    condition::{Condition, Standing},
    lock::Remains,
    reason::{Reason, Waiting},
    recovery::RecoveryWindow,
    time::{Span, Timestamp},
};

/// A plan as lines of text, destination by destination. What it comes to is told by [`Summary`].
pub struct Text<'a>(pub &'a Plan);

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        for (destination, target) in &plan.targets {
            let steps = plan
                .steps
                .iter()
                .filter(|step| step.destination == *destination);
            let rows: Vec<Row> = steps
                .map(|step| Row::new(step, plan.now, Some(target)))
                .collect();
            let title = format!("{} -> {destination}   {}", plan.server, target.location);
            let columns = Columns::of(&rows, &title);
            let (read, digest) = (target.read_at, plan.digest());
            let width = columns.reason();
            writeln!(formatter, "{title:<width$}  read {read}   digest {digest}")?;
            for row in &rows {
                row.write(formatter, &columns)?;
            }
            write_remains(formatter, target, &columns)?;
            write_conditions(formatter, target, &columns)?;
            write_outside(formatter, target)?;
            write_windows(formatter, target)?;
        }
        // A plan that somebody asked for has steps and no standing.
        if plan.targets.is_empty() {
            let rows = plan.steps.iter();
            let rows: Vec<Row> = rows.map(|step| Row::new(step, plan.now, None)).collect();
            let columns = Columns::of(&rows, "");
            for row in &rows {
                row.write(formatter, &columns)?;
            }
        }
        Ok(())
    }
}

/// A step as it is printed: sign and verb, object, reasons.
struct Row {
    sign: char,
    verb: &'static str,
    object: String,
    reasons: String,
}

impl Row {
    fn new(step: &Step, now: Timestamp, target: Option<&Target>) -> Self {
        let sign = match (&step.action, step.action.effect()) {
            (Action::SetKeep { .. } | Action::ReleaseKeep { .. } | Action::Undelete { .. }, _) => {
                '~'
            }
            (_, Effect::Additive) => '+',
            (_, Effect::Destructive) => '-',
        };
        let reasons = step.reasons.iter().map(|reason| aged(reason, now));
        Self {
            sign,
            verb: match &step.action {
                Action::DeleteOrphan { .. }
                | Action::DeleteSnapshot { .. }
                | Action::DeleteWal { .. } => "delete",
                Action::CopyWal { .. } => "copy",
                Action::ArchiveWal { .. } => "archive",
                other => other.verb(),
            },
            object: object(&step.action, step.weight, target),
            reasons: reasons.collect::<Vec<_>>().join("; "),
        }
    }

    fn write(&self, formatter: &mut fmt::Formatter<'_>, columns: &Columns) -> fmt::Result {
        let (verb, object) = (columns.verb, columns.object);
        let Self { sign, reasons, .. } = self;
        let row = format!(
            "  {sign} {:<verb$}  {:<object$}  {reasons}",
            self.verb, self.object
        );
        writeln!(formatter, "{}", row.trim_end())
    }
}

/// How wide the columns of one destination are.
struct Columns {
    verb: usize,
    object: usize,
}

impl Columns {
    /// Wide enough for the verbs that every plan may have.
    const VERB: usize = "stalled".len();

    /// A title longer than this does not push the reasons further to the right.
    const TITLE_MAX: usize = 64;

    /// Wide enough for the rows, and for the title above them unless it is very long.
    fn of(rows: &[Row], title: &str) -> Self {
        let width = |text: &str| text.chars().count();
        let verb = rows.iter().map(|row| width(row.verb)).max();
        let verb = verb.unwrap_or_default().max(Self::VERB);
        let object = rows.iter().map(|row| width(&row.object)).max();
        let title = Some(width(title)).filter(|title| *title <= Self::TITLE_MAX);
        let beside = title.unwrap_or_default().saturating_sub(verb + 6);
        let object = object.unwrap_or_default().max(beside);
        Self { verb, object }
    }

    /// Where reasons begin, less the two spaces before them.
    fn reason(&self) -> usize {
        4 + self.verb + 2 + self.object
    }
}

/// A reason, with an age where it names an instant that people count from.
fn aged(reason: &Reason, now: Timestamp) -> String {
    match reason {
        Reason::Due {
            since,
            schedule,
            last_good: Some(end),
        } => {
            let age = Span(now.since(*end));
            format!("due since {since} ({schedule}), last good is {age} old")
        }
        _ => reason.to_string(),
    }
}

/// What an action is about: the id, and how much.
fn object(action: &Action, weight: Weight, target: Option<&Target>) -> String {
    match action {
        Action::TakeBackup { name, parent, .. } => {
            let method = target.map(|target| target.method).unwrap_or_default();
            let codec = match target.map(|target| target.compression) {
                None | Some(Compression::None) => String::new(),
                Some(codec) => format!(", {codec}"),
            };
            let kind = match parent {
                Some(_) => ", incremental",
                None => "",
            };
            match name {
                Some(name) => format!("{method}{codec}{kind}, named {name}"),
                None => format!("{method}{codec}{kind}"),
            }
        }
        Action::SetKeep {
            backup,
            target,
            until,
        } => match until {
            Some(until) => format!("{backup}  {target} until {until}"),
            None => format!("{backup}  {target}"),
        },
        Action::DeleteWal { spans }
        | Action::CopyWal { spans, .. }
        | Action::ArchiveWal { spans } => {
            let (segments, spans) = (weight.segments, spans.len());
            let ranges = plural(spans, "range");
            format!(
                "WAL, {segments} {} in {spans} {ranges}",
                plural(segments, "segment")
            )
        }
        Action::DeleteBackup { backup, .. } if weight.bytes == 0 => backup.to_string(),
        Action::DeleteBackup { backup, .. }
        | Action::CopyBackup { backup, .. }
        | Action::VerifyBackup { backup } => {
            format!("{backup}  {}", Bytes(weight.bytes))
        }
        Action::MarkDelete { backup, .. } => {
            let segments = weight.segments;
            let wal = match segments {
                0 => String::new(),
                _ => format!(", with {segments} WAL {}", plural(segments, "segment")),
            };
            format!("{backup}  {}{wal}", Bytes(weight.bytes))
        }
        Action::ReleaseKeep {
            backup,
            grace: Some(grace),
        } => format!("{backup}  in {}", Span(*grace)),
        Action::DeleteOrphan { backup, .. } => {
            format!("orphan {backup}  {}", Bytes(weight.bytes))
        }
        Action::DeleteSnapshot {
            backup, snapshot, ..
        } => format!("snapshot {snapshot}  of {backup}"),
        Action::FinishBackup { backup }
        | Action::AbandonAttempt { backup, .. }
        | Action::ReleaseKeep {
            backup,
            grace: None,
        }
        | Action::Undelete { backup } => backup.to_string(),
    }
}

/// Names deletes that free nothing yet.
fn write_remains(
    formatter: &mut fmt::Formatter<'_>,
    target: &Target,
    columns: &Columns,
) -> fmt::Result {
    let Some(Remaining { remains, gone_at }) = &target.remains else {
        return Ok(());
    };
    let how = match remains {
        Remains::SoftDeleted { .. } => "can be restored",
        _ => "stays as an old version",
    };
    let until = gone_at.map_or("somebody removes it".to_owned(), |at| at.to_string());
    let verb = columns.verb;
    writeln!(
        formatter,
        "  . {:<verb$}  what is deleted {how} until {until}",
        "logical"
    )
}

fn write_conditions(
    formatter: &mut fmt::Formatter<'_>,
    target: &Target,
    columns: &Columns,
) -> fmt::Result {
    let verb = columns.verb;
    for (word, message) in notes(target, Standing::Blocked) {
        let sign = if word == WAITING { '.' } else { '!' };
        writeln!(formatter, "  {sign} {word:<verb$}  {message}")?;
    }
    Ok(())
}

/// The word before what is waited for.
const WAITING: &str = "waiting";

/// The word before what a lock withholds.
const BLOCKED: &str = "blocked";

/// What is not as it should be, from a standing on, and what is waited for; each cause is told once.
pub fn notes(target: &Target, from: Standing) -> Vec<(String, String)> {
    let mut told = Told::default();
    let mut notes = Vec::new();
    for condition in target
        .conditions
        .iter()
        .filter(|condition| condition.standing >= from)
    {
        let (message, _) = told.shorten(&condition.message);
        notes.push((condition.standing.to_string(), message));
    }
    for waiting in &target.waiting {
        let text = waiting.to_string();
        // What is blocked says what it waits for.
        if told.0.iter().any(|told| told.ends_with(&text)) {
            continue;
        }
        let (message, shortened) = told.shorten(&text);
        // What is unknown has been told with its cause.
        if !(shortened && matches!(waiting, Waiting::Unknown { .. })) {
            let word = if waiting.is_lock() { BLOCKED } else { WAITING };
            notes.push((word.to_owned(), message));
        }
    }
    notes
}

/// What was told so far: the causes of a failure are long, and several messages may have the same.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    /// The message up to a cause that was told before, and whether there was one.
    fn shorten(&mut self, message: &str) -> (String, bool) {
        // A cause that names nothing may be another one's too.
        let is_told =
            |cause: &str| cause.contains('`') && self.0.iter().any(|told| told.ends_with(cause));
        let ends = message.match_indices(": ").map(|(end, separator)| {
            let cause = &message[end + separator.len()..];
            (end, cause)
        });
        let end = ends.into_iter().find(|(_, cause)| is_told(cause));
        let short = end.map_or(message, |(end, _)| &message[..end]).to_owned();
        self.0.push(message.to_owned());
        (short, end.is_some())
    }
}

/// Names the configuration that is not in a backup.
fn write_outside(formatter: &mut fmt::Formatter<'_>, target: &Target) -> fmt::Result {
    if target.outside.is_empty() {
        return Ok(());
    }
    let paths = target.outside.iter().map(|path| path.display().to_string());
    let paths = paths.collect::<Vec<_>>().join(", ");
    writeln!(formatter, "  in no snapshot    {paths}")
}

fn write_windows(formatter: &mut fmt::Formatter<'_>, target: &Target) -> fmt::Result {
    let Some(window) = &target.window else {
        return writeln!(formatter, "  recovery window   none: no good backup");
    };
    let until = Until {
        window,
        reached: target.reached,
    };
    write!(formatter, "  recovery window   {} .. {until}", window.from)?;
    match &target.window_after {
        Some(after) if after.until == window.until && after.from != window.from => {
            writeln!(formatter, "   becomes   {} ..", after.from)
        }
        Some(after) if after != window => {
            let until = Until {
                window: after,
                reached: None,
            };
            writeln!(formatter, "   becomes   {} .. {until}", after.from)
        }
        Some(_) => writeln!(formatter),
        None => writeln!(formatter, "   becomes   none"),
    }
}

/// How far recovery gets: the last segment without a gap, and the time that it cannot get beyond.
pub struct Until<'a> {
    /// The window.
    pub window: &'a RecoveryWindow,
    /// When that segment was archived, if the server tells.
    pub reached: Option<Timestamp>,
}

impl fmt::Display for Until<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.window.until;
        match self.reached {
            Some(reached) => write!(formatter, "<= {reached} (WAL {until})"),
            None => write!(formatter, "<= end of WAL {until}"),
        }
    }
}

/// A word for so many things.
fn plural(count: impl TryInto<u64>, word: &str) -> String {
    if count.try_into().is_ok_and(|count| count == 1) {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

/// One line over any number of plans: `1 to back up, 1 to keep, 1 to delete (budget 5), 1 blocked.`
pub struct Summary<'a>(pub &'a [Plan]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .counts()
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, text)| format!("{count} {text}"))
            .collect();
        if parts.is_empty() {
            return formatter.write_str("Nothing to do.");
        }
        write!(formatter, "{}.", parts.join(", "))
    }
}

impl Summary<'_> {
    fn counts(&self) -> [(u64, String); 15] {
        let left_over = |action: &Action| {
            matches!(
                action,
                Action::FinishBackup { .. } | Action::AbandonAttempt { .. }
            )
        };
        let goes = |step: &&Step| matches!(step.action, Action::DeleteWal { .. });
        let going = self.steps().filter(goes);
        let segments = going.map(|step| step.weight.segments).sum();
        let orphans = self.count(|a| matches!(a, Action::DeleteOrphan { .. }));
        let snapshots = self.count(|a| matches!(a, Action::DeleteSnapshot { .. }));
        let budget = self
            .targets()
            .map(|target| target.budget.left())
            .sum::<usize>();
        [
            (
                self.count(|a| matches!(a, Action::TakeBackup { .. })),
                "to back up".to_owned(),
            ),
            (
                self.count(|a| matches!(a, Action::CopyBackup { .. } | Action::CopyWal { .. })),
                "to copy".to_owned(),
            ),
            (
                self.count(|a| matches!(a, Action::ArchiveWal { .. })),
                "to archive again".to_owned(),
            ),
            (
                self.count(|a| matches!(a, Action::VerifyBackup { .. })),
                "to verify".to_owned(),
            ),
            (self.count(left_over), "left by dead attempts".to_owned()),
            (
                self.count(|a| matches!(a, Action::SetKeep { .. })),
                "to keep".to_owned(),
            ),
            (
                self.count(|a| matches!(a, Action::ReleaseKeep { .. })),
                "to release".to_owned(),
            ),
            (
                self.count(|a| matches!(a, Action::Undelete { .. })),
                "to undelete".to_owned(),
            ),
            (
                self.count(|a| matches!(a, Action::MarkDelete { .. })),
                "to mark".to_owned(),
            ),
            (
                self.count(|a| matches!(a, Action::DeleteBackup { .. })),
                format!("to delete (budget {budget})"),
            ),
            (orphans, format!("{} to delete", plural(orphans, "orphan"))),
            (
                snapshots,
                format!("{} to delete", plural(snapshots, "snapshot")),
            ),
            (
                segments,
                format!("WAL {} to delete", plural(segments, "segment")),
            ),
            (self.blocked(), BLOCKED.to_owned()),
            (self.standing(Standing::Stalled), "stalled".to_owned()),
        ]
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.0.iter().flat_map(|plan| &plan.steps)
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.0.iter().flat_map(|plan| plan.targets.values())
    }

    fn count(&self, of: impl Fn(&Action) -> bool) -> u64 {
        let count = self.steps().filter(|step| of(&step.action)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// What a lock withholds, and destinations that are blocked for another reason.
    fn blocked(&self) -> u64 {
        let of = |target: &Target| {
            let locks = target.waiting.iter().filter(|waiting| waiting.is_lock());
            let is_blocked = |one: &Condition| one.standing == Standing::Blocked;
            let worst = target.conditions.first().is_some_and(is_blocked);
            locks.count().max(usize::from(worst))
        };
        u64::try_from(self.targets().map(of).sum::<usize>()).unwrap_or(u64::MAX)
    }

    fn standing(&self, standing: Standing) -> u64 {
        let worst = |target: &&Target| {
            target
                .conditions
                .first()
                .is_some_and(|worst| worst.standing == standing)
        };
        u64::try_from(self.targets().filter(worst).count()).unwrap_or(u64::MAX)
    }
}

/// Bytes for people, in powers of 1024 with one decimal: `198.2 GiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(formatter, "{} B", self.0);
        }
        let mut value = self.0 as f64;
        let mut unit = "B";
        for larger in UNITS {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = larger;
        }
        write!(formatter, "{value:.1} {unit}")
    }
}

/// Plans for programs, with the digest of each.
#[derive(Serialize)]
pub struct Json<'a> {
    /// The version of this output's shape.
    pub format: u32,
    /// The plans.
    pub plans: Vec<JsonPlan<'a>>,
}

/// A plan for programs.
#[derive(Serialize)]
pub struct JsonPlan<'a> {
    /// The plan's digest.
    pub digest: String,
    /// The plan.
    #[serde(flatten)]
    pub plan: &'a Plan,
}

impl<'a> Json<'a> {
    /// Plans as they are printed.
    pub fn new(plans: &'a [Plan]) -> Self {
        let each = plans.iter().map(|plan| JsonPlan {
            digest: plan.digest(),
            plan,
        });
        Self {
            format: 1,
            plans: each.collect(),
        }
    }
}

#[cfg(test)]
mod tests;

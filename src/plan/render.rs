//! Plans as text for people and as JSON for programs.
//!
//! Text is deterministic: the same plan gives the same bytes. Ages are told relative to the plan's own instant.

use std::fmt;

use serde::Serialize;

use super::{Plan, Step, Target, Weight};
use crate::model::{
    action::{Action, Effect},
    condition::Standing,
    reason::Reason,
    recovery::RecoveryWindow,
    time::{Span, Timestamp},
};

/// A plan as lines of text, without the summary that stands below one or many.
pub struct Text<'a>(pub &'a Plan);

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        let digest = plan.digest();
        for (destination, target) in &plan.targets {
            let title = format!("{} -> {destination}", plan.server);
            let read = format!("read {}   digest {digest}", target.read_at);
            writeln!(formatter, "{title:<28}  {:<30}  {read}", target.location)?;
            for step in plan
                .steps
                .iter()
                .filter(|step| step.destination == *destination)
            {
                write_step(formatter, plan.now, step)?;
            }
            write_conditions(formatter, target)?;
            write_windows(formatter, target)?;
        }
        if plan.targets.is_empty() {
            for step in &plan.steps {
                write_step(formatter, plan.now, step)?;
            }
        }
        Ok(())
    }
}

fn write_step(formatter: &mut fmt::Formatter<'_>, now: Timestamp, step: &Step) -> fmt::Result {
    let sign = match (&step.action, step.action.effect()) {
        (Action::SetKeep { .. } | Action::ReleaseKeep { .. }, _) => '~',
        (_, Effect::Additive) => '+',
        (_, Effect::Destructive) => '-',
    };
    let reasons: Vec<String> = step
        .reasons
        .iter()
        .map(|reason| aged(reason, now))
        .collect();
    let line = format!(
        "  {sign} {:<13} {:<44}",
        step.action.verb(),
        object(&step.action, step.weight)
    );
    writeln!(formatter, "{line}  {}", reasons.join("; "))
}

/// A reason, with an age where it names an instant that people count from.
fn aged(reason: &Reason, now: Timestamp) -> String {
    match reason {
        Reason::Due {
            last_good: Some(end),
            ..
        } => {
            format!("{reason} ({} ago)", Span(now.since(*end)))
        }
        _ => reason.to_string(),
    }
}

/// What an action is about: the id, and how much.
fn object(action: &Action, weight: Weight) -> String {
    match action {
        Action::TakeBackup { name, .. } => match name {
            Some(name) => format!("files, named {name}"),
            None => "files".to_owned(),
        },
        Action::SetKeep {
            backup,
            target,
            until,
        } => match until {
            Some(until) => format!("{backup}  {target} until {until}"),
            None => format!("{backup}  {target}"),
        },
        Action::AbortUpload { key, .. } => key.clone(),
        Action::DeleteWal { spans } => {
            let (segments, spans) = (weight.segments, spans.len());
            format!("{segments} segments in {spans} {}", plural(spans, "range"))
        }
        Action::DeleteBackup { backup, .. } | Action::DeleteOrphan { backup, .. } => {
            format!("{backup}  {}", Bytes(weight.bytes))
        }
        Action::FinishBackup { backup }
        | Action::AbandonAttempt { backup }
        | Action::ReleaseKeep { backup } => backup.to_string(),
    }
}

fn write_conditions(formatter: &mut fmt::Formatter<'_>, target: &Target) -> fmt::Result {
    for condition in &target.conditions {
        if matches!(condition.standing, Standing::Blocked | Standing::Stalled) {
            writeln!(
                formatter,
                "  ! {:<13} {}",
                condition.standing.to_string(),
                condition.message
            )?;
        }
    }
    for waiting in &target.waiting {
        writeln!(formatter, "  . {:<13} {waiting}", "waiting")?;
    }
    Ok(())
}

fn write_windows(formatter: &mut fmt::Formatter<'_>, target: &Target) -> fmt::Result {
    let Some(window) = &target.window else {
        return writeln!(formatter, "  recovery window   none: no good backup");
    };
    write!(formatter, "  recovery window   {}", range(window))?;
    match &target.window_after {
        Some(after) if after != window => writeln!(formatter, "   becomes   {}", range(after)),
        _ => writeln!(formatter),
    }
}

/// From the first instant that can be reached to the last segment without a gap.
pub fn range(window: &RecoveryWindow) -> String {
    format!("{} .. <= end of WAL {}", window.from, window.until)
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

/// One line over any number of plans: `1 to back up, 1 to keep, 1 to delete (budget 5), 1 blocked.`
pub struct Summary<'a>(pub &'a [Plan]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = || self.0.iter().flat_map(|plan| &plan.steps);
        let count = |of: fn(&Action) -> bool| steps().filter(|step| of(&step.action)).count();
        let backups = count(|action| matches!(action, Action::TakeBackup { .. }));
        let settled = count(|action| {
            matches!(
                action,
                Action::FinishBackup { .. }
                    | Action::AbandonAttempt { .. }
                    | Action::AbortUpload { .. }
            )
        });
        let kept = count(|action| matches!(action, Action::SetKeep { .. }));
        let released = count(|action| matches!(action, Action::ReleaseKeep { .. }));
        let deleted = count(|action| matches!(action, Action::DeleteBackup { .. }));
        let orphans = count(|action| matches!(action, Action::DeleteOrphan { .. }));
        let segments: u64 = steps().map(|step| step.weight.segments).sum();
        let stuck = self.stuck();
        let mut parts = Vec::new();
        let mut part = |count: usize, text: &str| {
            if count > 0 {
                parts.push(format!("{count} {text}"));
            }
        };
        part(backups, "to back up");
        part(settled, "left by dead attempts");
        part(kept, "to keep");
        part(released, "to release");
        part(deleted, &format!("to delete (budget {})", self.budget()));
        part(orphans, "orphans to delete");
        part(
            usize::try_from(segments).unwrap_or(usize::MAX),
            "WAL to delete",
        );
        part(stuck, "blocked or stalled");
        if parts.is_empty() {
            return formatter.write_str("Nothing to do.");
        }
        write!(formatter, "{}.", parts.join(", "))
    }
}

impl Summary<'_> {
    fn stuck(&self) -> usize {
        let targets = self.0.iter().flat_map(|plan| plan.targets.values());
        let bad = |target: &&Target| {
            target
                .conditions
                .first()
                .is_some_and(|worst| worst.standing >= Standing::Blocked)
        };
        targets.filter(bad).count()
    }

    fn budget(&self) -> usize {
        let targets = self.0.iter().flat_map(|plan| plan.targets.values());
        targets.map(|target| target.budget.left()).sum()
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

//! Which backups must be kept whatever the retention says: those that the configuration declares, and the first good one of
//! each calendar period that a rule names.
//!
//! A keep set by people is left alone: it is never released, and never weakened. One of ours is released when its `until` has
//! passed.

use super::{Decision, Scene, Weight, trust};
use crate::model::{
    action::Action,
    backup::{Backup, BackupId, BackupStatus, KeepTarget},
    catalog::Catalog,
    desired::{DeclaredKeep, KeepRule, Period},
    reason::{Reason, Waiting},
    record::KeepRecord,
    time::Timestamp,
};

/// A keep that should be there.
struct Wanted {
    backup: BackupId,
    target: KeepTarget,
    until: Option<Timestamp>,
    reason: Reason,
}

pub(super) fn decide(scene: &Scene<'_>) -> Decision {
    let mut decision = Decision::default();
    let Some(catalog) = scene.stored.catalog.known() else {
        return decision;
    };
    let mut wanted = Vec::new();
    for keep in scene
        .server
        .keeps
        .iter()
        .filter(|keep| applies(scene, keep))
    {
        match declared(catalog, keep) {
            Ok(found) => wanted.extend(found),
            Err(waiting) => decision.waiting.push(waiting),
        }
    }
    for rule in &scene.entry.keep_rules {
        wanted.extend(by_calendar(scene, catalog, rule));
    }
    set(scene, catalog, &wanted, &mut decision);
    if trust::destructive(scene).is_ok() {
        release(scene, catalog, &wanted, &mut decision);
    }
    decision
}

fn applies(scene: &Scene<'_>, keep: &DeclaredKeep) -> bool {
    let here = keep.destinations.is_empty() || keep.destinations.contains(&scene.entry.destination);
    here && keep.until.is_none_or(|until| scene.now < until)
}

fn declared(catalog: &Catalog, keep: &DeclaredKeep) -> Result<Option<Wanted>, Waiting> {
    let named = |backup: &&Backup| {
        backup.id.as_str() == keep.backup || backup.name.as_deref() == Some(&keep.backup)
    };
    let found: Vec<_> = catalog.backups.iter().filter(named).collect();
    match found[..] {
        [] => Err(Waiting::NoSuchBackup {
            backup: keep.backup.clone(),
        }),
        [backup] if backup.status != BackupStatus::Done => Ok(None),
        [backup] => Ok(Some(Wanted {
            backup: backup.id.clone(),
            target: keep.target,
            until: keep.until,
            reason: Reason::Declared {
                note: keep.reason.clone(),
            },
        })),
        _ => Err(Waiting::AmbiguousName {
            name: keep.backup.clone(),
        }),
    }
}

/// The first good backup of every period that the rule still covers. Once one of a period is kept, it is never moved.
fn by_calendar(scene: &Scene<'_>, catalog: &Catalog, rule: &KeepRule) -> Vec<Wanted> {
    let zone = &scene.entry.zone;
    let mut wanted: Vec<(Timestamp, Wanted)> = Vec::new();
    let good = catalog
        .backups
        .iter()
        .filter(|backup| catalog.is_good(backup));
    let mut ordered: Vec<_> = good
        .filter_map(|backup| Some((backup.begin_time?, backup)))
        .collect();
    ordered.sort_by_key(|(begin, backup)| (*begin, &backup.id));
    for (begin, backup) in ordered {
        let period = zone.period_start(rule.first_of, begin);
        let until = zone.add(period, rule.keep_for);
        if until <= scene.now || wanted.iter().any(|(taken, _)| *taken == period) {
            continue;
        }
        let reason = Reason::FirstOf {
            period: word(rule.first_of).to_owned(),
            kept_for: format!("{} {}s", rule.keep_for.count, word(rule.keep_for.unit)),
        };
        let keep = Wanted {
            backup: backup.id.clone(),
            target: rule.target,
            until: Some(until),
            reason,
        };
        wanted.push((period, keep));
    }
    wanted.into_iter().map(|(_, keep)| keep).collect()
}

fn word(period: Period) -> &'static str {
    match period {
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
        Period::Year => "year",
    }
}

fn set(scene: &Scene<'_>, catalog: &Catalog, wanted: &[Wanted], decision: &mut Decision) {
    let mut done: Vec<&BackupId> = Vec::new();
    // The strongest wish for a backup is the one that counts.
    let mut ordered: Vec<&Wanted> = wanted.iter().collect();
    ordered.sort_by_key(|keep| (&keep.backup, keep.target, std::cmp::Reverse(keep.until)));
    for keep in ordered {
        let Some(backup) = catalog.backup(&keep.backup) else {
            continue;
        };
        if done.contains(&&keep.backup) || is_set(backup, keep.target) {
            continue;
        }
        done.push(&keep.backup);
        let action = Action::SetKeep {
            backup: keep.backup.clone(),
            target: keep.target,
            until: keep.until,
        };
        decision.step(scene, action, keep.reason.clone(), Weight::default());
    }
}

/// A full keep holds everything that a standalone one does.
fn is_set(backup: &Backup, target: KeepTarget) -> bool {
    matches!((backup.keep, target), (Some(KeepTarget::Full), _)) || backup.keep == Some(target)
}

/// Keeps of ours whose time has passed, and that nothing wants any more.
fn release(scene: &Scene<'_>, catalog: &Catalog, wanted: &[Wanted], decision: &mut Decision) {
    let Some(records) = scene.stored.keep_records.known() else {
        return;
    };
    let passed = |record: &&KeepRecord| record.until.is_some_and(|until| until <= scene.now);
    for record in records.values().filter(passed) {
        let still_wanted = wanted.iter().any(|keep| keep.backup == record.backup);
        let found = catalog
            .backup(&record.backup)
            .and_then(|backup| backup.keep);
        // Another target than ours was set by somebody else since.
        if still_wanted || found != Some(record.target) {
            continue;
        }
        let action = Action::ReleaseKeep {
            backup: record.backup.clone(),
        };
        let until = record.until.unwrap_or(scene.now);
        decision.step(
            scene,
            action,
            Reason::KeepEnded { until },
            Weight::default(),
        );
    }
}

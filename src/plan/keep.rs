//! Which backups must be kept whatever the retention says: those that the configuration declares, and the first good one of
//! each calendar period that a rule names.
//!
//! What should be kept is protected from the same plan's deletes, whether its annotation is there already or not. A keep set by people is
//! left alone: it is never released and never weakened; where the configuration wants more WAL kept, the keep is widened, and stays
//! for ever. One of ours is released when its `until` has passed.

use std::collections::{BTreeMap, BTreeSet};

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

/// What should be kept.
#[derive(Default)]
pub(super) struct Wanted {
    wishes: Vec<Wish>,
    /// Backups that may be meant: an ambiguous name, or one that is not complete.
    meant: BTreeSet<BackupId>,
    waiting: Vec<Waiting>,
}

/// A keep that should be there.
struct Wish {
    backup: BackupId,
    target: KeepTarget,
    until: Option<Timestamp>,
    reason: Reason,
}

impl Wanted {
    /// What no policy may delete, with the reason.
    pub(super) fn protected(&self) -> BTreeMap<BackupId, Reason> {
        let meant = self.meant.iter().cloned();
        let meant = meant.map(|id| (id, Reason::Declared { note: None }));
        let wished = self.wishes.iter();
        let wished = wished.map(|wish| (wish.backup.clone(), wish.reason.clone()));
        meant.chain(wished).collect()
    }

    fn is_wanted(&self, id: &BackupId) -> bool {
        self.meant.contains(id) || self.wishes.iter().any(|wish| wish.backup == *id)
    }
}

/// Finds out which backups should be kept.
pub(super) fn wanted(scene: &Scene<'_>) -> Wanted {
    let mut wanted = Wanted::default();
    let Some(catalog) = scene.stored.catalog.known() else {
        return wanted;
    };
    // A clock that runs ahead must not end a keep.
    let now = trust::expiry_now(scene);
    let applies = |keep: &&DeclaredKeep| {
        let destinations = &keep.destinations;
        let here = destinations.is_empty() || destinations.contains(&scene.entry.destination);
        here && keep.until.is_none_or(|until| now < until)
    };
    for keep in scene.server.keeps.iter().filter(applies) {
        wanted.declare(catalog, keep);
    }
    for rule in &scene.entry.keep_rules {
        wanted.wishes.extend(by_calendar(scene, catalog, rule));
    }
    wanted
}

impl Wanted {
    fn declare(&mut self, catalog: &Catalog, keep: &DeclaredKeep) {
        let named = |backup: &&Backup| {
            backup.id.as_str() == keep.backup || backup.name.as_deref() == Some(&keep.backup)
        };
        let found: Vec<_> = catalog.backups.iter().filter(named).collect();
        match found[..] {
            [] => self.waiting.push(Waiting::NoSuchBackup {
                backup: keep.backup.clone(),
            }),
            [backup] if backup.status == BackupStatus::Done => self.wishes.push(Wish {
                backup: backup.id.clone(),
                target: keep.target,
                until: keep.until,
                reason: Reason::Declared {
                    note: keep.reason.clone(),
                },
            }),
            [backup] => {
                self.meant.insert(backup.id.clone());
            }
            _ => {
                let ids = found.iter().map(|backup| backup.id.clone());
                self.meant.extend(ids);
                self.waiting.push(Waiting::AmbiguousName {
                    name: keep.backup.clone(),
                });
            }
        }
    }
}

/// The first good backup of every period that the rule still covers. Once one of a period is kept, it is never moved.
fn by_calendar(scene: &Scene<'_>, catalog: &Catalog, rule: &KeepRule) -> Vec<Wish> {
    let zone = &scene.entry.zone;
    let good = catalog.backups.iter().filter(|b| catalog.is_good(b));
    let mut ordered: Vec<_> = good
        .filter_map(|backup| Some((backup.begin_time?, backup)))
        .collect();
    ordered.sort_by_key(|(begin, backup)| (*begin, &backup.id));
    let mut firsts: BTreeMap<Timestamp, &Backup> = BTreeMap::new();
    let until = |period| zone.add(period, rule.keep_for);
    for (begin, backup) in ordered {
        let period = zone.period_start(rule.first_of, begin);
        let first = *firsts.entry(period).or_insert(backup);
        // An earlier one that was finished late does not take the place of the one that was kept for this period.
        let settled = |backup| is_kept_until(scene, backup, until(period));
        if settled(backup) && !settled(first) {
            firsts.insert(period, backup);
        }
    }
    let covered = firsts
        .into_iter()
        .filter(|(period, _)| until(*period) > trust::expiry_now(scene));
    let wish = |(period, backup): (Timestamp, &Backup)| Wish {
        backup: backup.id.clone(),
        target: rule.target,
        until: Some(until(period)),
        reason: Reason::FirstOf {
            period: word(rule.first_of).to_owned(),
            kept_for: format!("{} {}s", rule.keep_for.count, word(rule.keep_for.unit)),
        },
    };
    covered.map(wish).collect()
}

/// Whether a backup is kept by a keep of ours that ends then.
fn is_kept_until(scene: &Scene<'_>, backup: &Backup, until: Timestamp) -> bool {
    let record = record(scene, &backup.id);
    backup.keep.is_some() && record.is_some_and(|record| record.until == Some(until))
}

fn record<'a>(scene: &Scene<'a>, id: &BackupId) -> Option<&'a KeepRecord> {
    scene.stored.keep_records.known()?.get(id)
}

fn word(period: Period) -> &'static str {
    match period {
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
        Period::Year => "year",
    }
}

/// What to keep, and which keeps to release.
pub(super) fn decide(scene: &Scene<'_>, wanted: &Wanted) -> Decision {
    let mut decision = Decision {
        waiting: wanted.waiting.clone(),
        ..Decision::default()
    };
    let Some(catalog) = scene.stored.catalog.known() else {
        return decision;
    };
    set(scene, catalog, wanted, &mut decision);
    if trust::destructive(scene).is_ok() {
        release(scene, catalog, wanted, &mut decision);
    }
    decision
}

fn set(scene: &Scene<'_>, catalog: &Catalog, wanted: &Wanted, decision: &mut Decision) {
    // The strongest wish for a backup is the one that counts, and the longest among equals.
    let mut strongest: BTreeMap<&BackupId, &Wish> = BTreeMap::new();
    let strength = |wish: &Wish| {
        let until = wish.until.unwrap_or(Timestamp::MAX);
        (wish.target == KeepTarget::Full, until)
    };
    for wish in &wanted.wishes {
        let best = strongest.entry(&wish.backup).or_insert(wish);
        if strength(wish) > strength(best) {
            *best = wish;
        }
    }
    for (id, wish) in strongest {
        let Some(backup) = catalog.backup(id).filter(|b| !is_set(b, wish.target)) else {
            continue;
        };
        // What people have kept is widened only, and never ours to release.
        let of_people = backup.keep.is_some() && record(scene, id).is_none();
        let action = Action::SetKeep {
            backup: id.clone(),
            target: wish.target,
            until: wish.until.filter(|_| !of_people),
        };
        decision.step(scene, action, wish.reason.clone(), Weight::default());
    }
}

/// A full keep holds everything that a standalone one does.
fn is_set(backup: &Backup, target: KeepTarget) -> bool {
    backup.keep == Some(KeepTarget::Full) || backup.keep == Some(target)
}

/// Keeps of ours whose time has passed, and that nothing wants any more.
fn release(scene: &Scene<'_>, catalog: &Catalog, wanted: &Wanted, decision: &mut Decision) {
    let Some(records) = scene.stored.keep_records.known() else {
        return;
    };
    for record in records.values() {
        let Some(until) = record
            .until
            .filter(|until| *until <= trust::expiry_now(scene))
        else {
            continue;
        };
        let found = catalog.backup(&record.backup);
        // Another target than ours was set by somebody else since.
        let is_ours = found.is_some_and(|backup| backup.keep == Some(record.target));
        if !is_ours || wanted.is_wanted(&record.backup) {
            continue;
        }
        let action = Action::ReleaseKeep {
            backup: record.backup.clone(),
        };
        let reason = Reason::KeepEnded { until };
        decision.step(scene, action, reason, Weight::default());
    }
}

//! Which backups must be kept whatever the retention says: those that the configuration declares, and the first good one of
//! each calendar period that a rule names.
//!
//! What should be kept is protected from the same plan's deletes, whether its annotation is there already or not. A keep set by people is
//! left alone: it is never released and never weakened; where the configuration wants more WAL kept, the keep is widened, and stays
//! for ever. One of ours is released when its `until` has passed; under `manage_keeps = "exact"` also when the configuration has not
//! declared it for seven days.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Decision, Scene, Weight, choose, trust};
use crate::model::{
    action::Action,
    backup::{Backup, BackupId, BackupStatus, KeepTarget},
    catalog::Catalog,
    desired::{DeclaredKeep, KeepRule, ManageKeeps, Overwriting},
    lock::Lock,
    reason::{Locked, Reason, Waiting},
    record::{KeepRecord, SetBy},
    time::Timestamp,
};

/// How long a keep stays that the configuration no longer declares, where it is exact.
const UNDECLARED_GRACE: Duration = Duration::from_hours(7 * 24);

/// What should be kept.
#[derive(Default)]
pub(super) struct Wanted {
    wishes: Vec<Wish>,
    /// Backups that may be meant: an ambiguous name, or one that is not complete.
    meant: BTreeSet<BackupId>,
    /// Backups that a record alone keeps.
    held: BTreeMap<BackupId, Reason>,
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
        let held = self.held.clone();
        held.into_iter().chain(meant).chain(wished).collect()
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
    wanted.held = held(scene, catalog);
    wanted
}

/// A record without its annotation holds all the same: where nothing is written twice there is no other, whoever set it may have died in
/// between, and Barman's commands release only the annotation.
fn held(scene: &Scene<'_>, catalog: &Catalog) -> BTreeMap<BackupId, Reason> {
    let now = trust::expiry_now(scene);
    let records = scene.stored.keep_records.known().into_iter();
    let records = records.flat_map(BTreeMap::values).filter(|record| {
        let unset = catalog.backup(&record.backup).map(|backup| backup.keep) == Some(None);
        unset && record.until.is_none_or(|until| now < until)
    });
    let reason = |record: &KeepRecord| Reason::Held {
        by: record.by.to_string(),
        note: record.reason.clone(),
    };
    records
        .map(|record| (record.backup.clone(), reason(record)))
        .collect()
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
            period: rule.first_of.to_string(),
            kept_for: rule.keep_for.to_string(),
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
        if scene.entry.manage_keeps == ManageKeeps::Exact {
            end(scene, catalog, wanted, &mut decision);
        }
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
        let Some(backup) = catalog.backup(id).filter(|b| !is_settled(scene, b, wish)) else {
            continue;
        };
        // What people have kept is widened only, and never ours to release.
        let of_people = backup.keep.is_some() && record(scene, id).is_none();
        if scene.entry.overwriting == Overwriting::Forbidden {
            decision
                .waiting
                .push(Waiting::CannotKeep { backup: id.clone() });
            continue;
        }
        let action = Action::SetKeep {
            backup: id.clone(),
            // What is kept for longer now is never kept with less.
            target: if is_set(backup, wish.target) {
                backup.keep.unwrap_or(wish.target)
            } else {
                wish.target
            },
            until: wish.until.filter(|_| !of_people),
        };
        decision.step(scene, action, wish.reason.clone(), Weight::default());
    }
}

/// Whether nothing is left to do for a wish. One that was no longer declared, and is again, is given its whole time back.
fn is_settled(scene: &Scene<'_>, backup: &Backup, wish: &Wish) -> bool {
    let ends_early = |record: &KeepRecord| {
        let ends = record.until.unwrap_or(Timestamp::MAX);
        record.by == SetBy::Policy && ends < wish.until.unwrap_or(Timestamp::MAX)
    };
    let is_exact = scene.entry.manage_keeps == ManageKeeps::Exact;
    let early = is_exact && record(scene, &backup.id).is_some_and(ends_early);
    is_set(backup, wish.target) && !early
}

/// A full keep holds everything that a standalone one does.
fn is_set(backup: &Backup, target: KeepTarget) -> bool {
    backup.keep == Some(KeepTarget::Full) || backup.keep == Some(target)
}

/// The backups whose keeps would be released, whatever locks say.
pub(super) fn released(
    scene: &Scene<'_>,
    catalog: &Catalog,
    wanted: &Wanted,
) -> BTreeMap<BackupId, Timestamp> {
    let records = scene.stored.keep_records.known().into_iter();
    let ended = records.flat_map(BTreeMap::values).filter_map(|record| {
        let until = record
            .until
            .filter(|until| *until <= trust::expiry_now(scene))?;
        let found = catalog.backup(&record.backup)?;
        // Another target than ours was set by somebody else since.
        let is_ours = found.keep.is_none_or(|keep| keep == record.target);
        (is_ours && !wanted.is_wanted(&record.backup)).then(|| (record.backup.clone(), until))
    });
    ended.collect()
}

/// Keeps of ours whose time has passed, and that nothing wants any more. An annotation can be locked like any other object.
fn release(scene: &Scene<'_>, catalog: &Catalog, wanted: &Wanted, decision: &mut Decision) {
    for (backup, until) in released(scene, catalog, wanted) {
        let lock = scene.directory_lock(&backup);
        if lock != Lock::Free {
            choose::locked(&backup, Locked::Objects, &lock, decision);
            continue;
        }
        let reason = Reason::KeepEnded { until };
        let action = Action::ReleaseKeep {
            backup,
            grace: None,
        };
        decision.step(scene, action, reason, Weight::default());
    }
}

/// Keeps that the configuration has set and no longer declares: each ends when the grace has passed, unless it does before.
fn end(scene: &Scene<'_>, catalog: &Catalog, wanted: &Wanted, decision: &mut Decision) {
    let Some(records) = scene.stored.keep_records.known() else {
        return;
    };
    let latest = trust::expiry_now(scene) + UNDECLARED_GRACE;
    for record in records.values() {
        let found = catalog.backup(&record.backup);
        let is_ours = record.by == SetBy::Policy
            && found.is_some_and(|backup| backup.keep == Some(record.target));
        let ends_soon = record.until.is_some_and(|until| until <= latest);
        if !is_ours || ends_soon || wanted.is_wanted(&record.backup) {
            continue;
        }
        let action = Action::ReleaseKeep {
            backup: record.backup.clone(),
            grace: Some(UNDECLARED_GRACE),
        };
        decision.step(scene, action, Reason::NotDeclared, Weight::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, steps, waits};

    #[test]
    fn what_is_declared_is_kept_and_protected_at_once() {
        let text = "retention=1x | done 1d | done 8d | declare 8d full | wal 1:920-1010";
        assert_eq!(steps(text), "keep 8d: declared");
        let text = "retention=1x | done 1d | done 8d name:v17 | done 9d | declare v17 full | wal 1:910-1010";
        assert_eq!(
            steps(text),
            "keep 8d: declared\n\
             delete 9d: outside REDUNDANCY 1; 1 newer is good\n\
             delete WAL of 10: no retained backup needs it"
        );
        let text = "| done 1d | done 8d keep:full | declare 8d standalone";
        assert_eq!(steps(text), "", "a full keep holds more");
    }

    #[test]
    fn what_may_be_meant_is_protected() {
        let text = "retention=1x | done 1d | done 8d name:a | done 9d name:a | declare a full | wal 1:910-1010";
        assert_eq!(steps(text), "");
        assert_eq!(waits(text), "several backups named `a`");
        assert_eq!(waits("| done 1d | declare b full"), "no backup `b`");
        let text = "failed=1d | done 1d | failed 8d | declare 8d full";
        assert_eq!(
            steps(text),
            "",
            "what failed cannot be kept, but it is not deleted either"
        );
        assert_eq!(waits(text), "");
    }

    #[test]
    fn of_equal_wishes_the_first_is_told() {
        let mut world = World::parse("| done 1d | done 8d | declare 8d full | declare 8d full");
        for (keep, reason) in world.server.keeps.iter_mut().zip(["first", "second"]) {
            keep.reason = Some(reason.to_owned());
        }
        let plan = world.plan();
        let told: Vec<_> = plan.steps[0]
            .reasons
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told, ["declared: first"]);
    }

    #[test]
    fn a_record_alone_keeps_until_it_ends() {
        let kept = |text: &str| {
            let plan = World::parse(text).plan();
            let target = plan.targets.into_values().next().expect("one");
            let oldest = target.verdicts.into_values().next().expect("two");
            oldest.reasons[0].to_string()
        };
        let text = |more: &str| format!("retention=1x | done 1d | done 8d{more}");
        let by_record = "held by ";
        assert!(kept(&text(" | record 8d full until:-1h")).starts_with(by_record));
        assert!(kept(&text(" | record 8d full")).starts_with(by_record));
        for ended in ["0h", "1h"] {
            let ended = text(&format!(" | record 8d full until:{ended}"));
            assert_eq!(kept(&ended), "outside REDUNDANCY 1; 1 newer is good");
        }
        let both = text(" keep:full | record 8d full until:-1h");
        assert_eq!(kept(&both), "kept (full)");
    }

    #[test]
    fn a_period_is_kept_no_longer_than_its_rule_says() {
        let mut world = World::parse("rule=month:12 | done 380d");
        world.now = "2026-11-01T00:00:00Z".parse().expect("an instant");
        assert!(world.plan().is_empty());
        world.now = world.now - Duration::from_secs(1);
        assert_eq!(world.plan().steps.len(), 1);
    }

    #[test]
    fn a_declared_keep_ends() {
        let until = |age: &str| format!("| done 1d | done 8d | declare 8d full until:{age}");
        assert_eq!(steps(&until("-1h")), "keep 8d: declared");
        assert_eq!(steps(&until("0h")), "");
        let text = "retention=1x | done 1d | done 8d | declare 8d full until:1h";
        assert!(steps(text).starts_with("delete 8d: outside"));
    }

    #[test]
    fn the_first_good_backup_of_every_period_is_kept() {
        let text = "retention=1x rule=month:12 | done 1d | done 18d empty: | done 19d | done 21d | done 420d";
        let expected = "keep 21d: first of the month, kept 12 months\n\
                        keep 19d: first of the month, kept 12 months\n\
                        delete 420d: outside REDUNDANCY 1; 1 newer is good\n\
                        delete WAL of 789: no retained backup needs it";
        assert_eq!(steps(text), expected);
    }

    #[test]
    fn the_first_of_a_period_is_never_moved() {
        // The one of the 19th day ago was finished only after that of the 18th had been kept.
        let text = "rule=month:12 | done 1d | done 18d keep:standalone | done 19d \
                    | record 18d standalone until:2027-11-01T00:00:00Z";
        assert_eq!(steps(text), "");
        let by_others = text.replace("| record", "| done 400d | record 400d full | declare");
        let by_others = by_others.split("| declare").next().expect("text");
        assert_eq!(
            steps(by_others),
            "keep 19d: first of the month, kept 12 months"
        );
    }

    #[test]
    fn the_strongest_wish_counts() {
        let text = "rule=month:12 rule=week:4:full | done 3d";
        assert_eq!(steps(text), "keep 3d: first of the week, kept 4 weeks");
    }

    #[test]
    fn a_keep_of_ours_is_released_when_it_ends() {
        let text = "| done 1d | done 8d keep:full | record 8d full until:1h";
        assert_eq!(steps(text), "release 8d: kept until 2026-11-20T11:00:00Z");
        let stay = [
            ("until:1h", "", "for ever"),
            ("until:1h", "until:-1h", "not ended"),
            (
                "record 8d full",
                "record 8d standalone",
                "somebody else set it",
            ),
            (
                "record 8d full until:1h",
                "postgres archived:1010",
                "a person's",
            ),
            (
                "until:1h",
                "until:1h | declare 8d standalone",
                "still wanted",
            ),
            ("until:1h", "until:1h | lose tombstones", "nothing is known"),
            ("until:1h", "until:1h | locked 8d held", "it is locked"),
            (
                "until:1h",
                "until:3m | store 4m",
                "the store's clock has not reached it",
            ),
        ];
        for (from, to, why) in stay {
            assert_eq!(steps(&text.replace(from, to)), "", "{why}");
        }
    }

    #[test]
    fn a_persons_keep_is_widened_for_ever() {
        let mut world = crate::plan::testing::World::parse(
            "rule=month:12:full | done 1d | done 8d keep:standalone | declare 8d full until:-9d",
        );
        let until = |world: &crate::plan::testing::World| {
            let plan = world.plan();
            let action = &plan.steps.first().expect("a step").action;
            let crate::model::action::Action::SetKeep { until, .. } = action else {
                panic!("not a keep");
            };
            until.is_some()
        };
        assert!(!until(&world), "it must not be released one day");
        world.fact("record 8d standalone until:1d");
        assert!(until(&world), "ours ends");
    }

    #[test]
    fn a_record_alone_holds_until_it_ends() {
        let text = "retention=1x | done 1d | done 8d | record 8d full by:alice | wal 1:910-1010";
        assert_eq!(steps(text), "delete WAL of 10: no retained backup needs it");
        let ended = text.replace("by:alice", "by:alice until:1h");
        assert!(steps(&ended).starts_with("release 8d: kept until"));
    }

    #[test]
    fn where_they_are_exact_keeps_end_that_are_no_longer_declared() {
        let text = "manage=exact retention=1x | done 1d | done 8d keep:full | record 8d full | wal 1:920-1010";
        assert_eq!(steps(text), "release 8d: no longer declared");
        let later = text.replace("record 8d full", "record 8d full until:-30d");
        assert_eq!(steps(&later), "release 8d: no longer declared");
        let stay = [
            ("manage=exact ", "", "by default"),
            ("record 8d full", "record 8d full by:alice", "a person's"),
            ("| record 8d full", "", "nobody knows whose"),
            (
                "record 8d full",
                "record 8d full until:-6d",
                "it ends before",
            ),
            (
                "record 8d full",
                "record 8d full | lose server",
                "nothing is known",
            ),
            (
                "record 8d full",
                "record 8d full | declare 8d full",
                "declared",
            ),
        ];
        for (from, to, why) in stay {
            assert_eq!(steps(&text.replace(from, to)), "", "{why}");
        }
        let again = text.replace(
            "record 8d full",
            "record 8d full until:-6d | declare 8d standalone",
        );
        assert_eq!(
            steps(&again),
            "keep 8d: declared",
            "its whole time, and all its WAL"
        );
    }

    #[test]
    fn where_nothing_is_written_twice_a_keep_is_told_and_not_set() {
        let mut world =
            World::parse("retention=1x | done 1d | done 8d | declare 8d full | wal 1:920-1010");
        world.entry().overwriting = Overwriting::Forbidden;
        let plan = world.plan();
        assert_eq!(plan.steps, []);
        let waiting = &plan.targets.values().next().expect("one").waiting[0];
        assert_eq!(
            world.told(waiting.to_string()),
            "8d cannot be marked as kept where nothing is written twice; it is not deleted"
        );
    }

    #[test]
    fn a_keep_whose_record_is_unknown_does_not_end() {
        let text = "manage=exact | done 1d | done 8d keep:full | record 8d full";
        assert!(
            steps(text).starts_with("release 8d: no longer"),
            "{}",
            steps(text)
        );
        assert_eq!(steps(&format!("{text} | lose keeps")), "");
        assert_eq!(steps(&format!("{text} | without keeps")), "");
    }

    #[test]
    fn what_is_declared_says_what_for() {
        let mut world = World::parse("| done 1d | declare 1d full");
        world.server.keeps[0].reason = Some("audit 2026-11".to_owned());
        let reason = &world.plan().steps[0].reasons[0];
        assert_eq!(reason.to_string(), "declared: audit 2026-11");
    }
}

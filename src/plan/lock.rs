//! What locks forbid: a backup goes with all of its objects and all the WAL that goes with it, or not at all.
//!
//! Locks cost requests, so they are looked at only for what would be deleted or rewritten. [`questions`] names that, the caller has somebody look, and
//! asks and plans again until no question is left. What nobody has looked at counts as locked. What would be deleted is decided as if
//! it were free, and the directories come before the WAL: where the one is locked, the other is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scene, adopt, expire, keep, scenes, trust, unlooked};
use crate::model::{
    action::{Action, WalSpan},
    backup::BackupId,
    catalog::{Catalog, Run},
    condition::{Condition, Standing},
    desired::{ObjectLock, Server},
    lock::{Lock, Locking, Questions},
    names::DestinationName,
    observed::{Knowledge, Observed},
    reason::Waiting,
    time::Timestamp,
    wal::SegmentNumber,
};

/// What counts where nobody has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    /// It is locked: what a plan rests on.
    Locked,
    /// It is free: what questions rest on.
    Free,
}

/// What should be looked at before this server is planned. Empty when a plan has all that it can have.
pub fn questions(
    server: &Server,
    observed: &Observed,
    now: Timestamp,
) -> BTreeMap<DestinationName, Questions> {
    let mut questions = BTreeMap::new();
    let unlooked = unlooked(now);
    for scene in scenes(server, observed, &unlooked, now) {
        let scene = Scene {
            unseen: Unseen::Free,
            ..scene
        };
        if let Some(asked) = of_scene(&scene) {
            questions.insert(scene.entry.destination.clone(), asked);
        }
    }
    questions
}

fn of_scene(scene: &Scene<'_>) -> Option<Questions> {
    let catalog = scene.stored.catalog.known()?;
    if scene.stored.locks.unknown().is_some() || trust::destructive(scene).is_err() {
        return None;
    }
    let wanted = keep::wanted(scene);
    let verdicts = expire::judge(scene, wanted.protected());
    let mut doomed = expire::doomed(scene, catalog, &verdicts);
    doomed.extend(keep::released(scene, catalog, &wanted).into_keys());
    doomed.extend(adopt::rewritten(scene, catalog));
    let decision = expire::decide(scene, &verdicts, expire::budget(scene));
    if doomed.is_empty() && decision.steps.is_empty() {
        return None;
    }
    let spans = decision.steps.iter().filter_map(|step| match &step.action {
        Action::DeleteWal { spans } => Some(spans),
        _ => None,
    });
    let spans: Vec<WalSpan> = spans.flatten().copied().collect();
    of(scene, catalog, doomed, &spans)
}

/// What nobody has looked at of these.
fn of(
    scene: &Scene<'_>,
    catalog: &Catalog,
    directories: BTreeSet<BackupId>,
    spans: &[WalSpan],
) -> Option<Questions> {
    let Knowledge::Known(locks) = &scene.stored.locks else {
        // Where there are no locks, that answers all.
        return Some(Questions::default());
    };
    if scene.entry.object_lock == ObjectLock::Ignore {
        return None;
    }
    let unseen = |id: &BackupId| locks.directory(id).is_none();
    let directories: BTreeSet<_> = directories.into_iter().filter(unseen).collect();
    let mut wal = Vec::new();
    if directories.is_empty() {
        wal = pieces(catalog, spans);
        wal.retain(|piece| locks.span(piece).is_none());
    }
    let questions = Questions { directories, wal };
    (questions != Questions::default()).then_some(questions)
}

/// What should be looked at before some actions are carried out that a person has asked for.
pub fn questions_about(
    observed: &Observed,
    destination: &DestinationName,
    actions: &[Action],
) -> Questions {
    let mut questions = Questions::default();
    let stored = observed.destinations.get(destination);
    let Some(catalog) = stored.and_then(|stored| stored.catalog.known()) else {
        return questions;
    };
    for action in actions {
        match action {
            Action::DeleteBackup { backup, .. } | Action::DeleteOrphan { backup, .. } => {
                questions.directories.insert(backup.clone());
            }
            Action::DeleteWal { spans } => questions.wal.extend(pieces(catalog, spans)),
            _ => {}
        }
    }
    questions
}

/// Spans, cut where backups begin: what lies in the reach of one backup goes when that goes.
pub(super) fn pieces(catalog: &Catalog, spans: &[WalSpan]) -> Vec<WalSpan> {
    let begins = |span: &WalSpan| {
        let begins = catalog.backups.iter().filter_map(|backup| {
            let begin = backup.begin_wal?;
            let number = begin.number(backup.segment_size);
            let inside = span.run.first < number && number <= span.run.last;
            (begin.timeline == span.timeline && inside).then_some(number)
        });
        begins.collect::<BTreeSet<_>>()
    };
    let cut = |span: &WalSpan| {
        let mut first = span.run.first;
        let mut pieces = Vec::new();
        for begin in begins(span) {
            let last = SegmentNumber(begin.0 - 1);
            pieces.push(piece(span, first, last));
            first = begin;
        }
        pieces.push(piece(span, first, span.run.last));
        pieces
    };
    spans.iter().flat_map(cut).collect()
}

fn piece(span: &WalSpan, first: SegmentNumber, last: SegmentNumber) -> WalSpan {
    WalSpan {
        timeline: span.timeline,
        run: Run { first, last },
    }
}

impl Scene<'_> {
    /// What locks the objects of a directory below `base/`.
    pub(super) fn directory_lock(&self, id: &BackupId) -> Lock {
        let locks = self.stored.locks.known();
        self.lock(locks.and_then(|locks| locks.directory(id)))
    }

    /// What forbids to delete a span of WAL.
    pub(super) fn wal_lock(&self, span: &WalSpan) -> Lock {
        let locks = self.stored.locks.known();
        self.lock(locks.and_then(|locks| locks.span(span)))
    }

    fn lock(&self, seen: Option<Lock>) -> Lock {
        if self.entry.object_lock == ObjectLock::Ignore {
            return Lock::Free;
        }
        if let Some(failure) = self.stored.locks.unknown() {
            return Lock::Unknown(failure.message.clone());
        }
        match (seen, self.unseen) {
            (Some(lock), _) => lock.at(trust::expiry_now(self)),
            (None, Unseen::Free) => Lock::Free,
            (None, Unseen::Locked) => Lock::Unknown("nobody has looked".to_owned()),
        }
    }
}

/// How it stands that something is locked: with a date, it ends by itself.
pub(super) fn condition(waiting: &Waiting, lock: &Lock) -> Condition {
    let standing = match lock {
        Lock::LockedUntil { until: Some(_), .. } => Standing::Progressing,
        _ => Standing::Blocked,
    };
    Condition::new(standing, waiting.to_string())
}

/// Whether the destination locks by itself what must be locked there.
pub(super) fn required(scene: &Scene<'_>) -> Option<Condition> {
    if scene.entry.object_lock != ObjectLock::Require {
        return None;
    }
    let retention = &scene.stored.locks.known()?.retention;
    let why = unlocked(&retention.locking)?;
    let message = format!("object locks are required, but {why}");
    Some(Condition::new(Standing::Stalled, message))
}

/// Why new objects get no lock of a destination's own, if they get none.
pub fn unlocked(locking: &Locking) -> Option<String> {
    match locking {
        Locking::On { default: Some(_) } => None,
        Locking::On { default: None } => {
            Some("the destination has no default retention".to_owned())
        }
        Locking::Off => Some("the destination has no object locks".to_owned()),
        Locking::Unknown(why) => Some(format!("whether the destination locks is unknown: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    /// What is asked in a world: directories, then spans of WAL.
    fn asked(text: &str) -> String {
        let world = World::parse(text);
        let questions = questions(&world.server, &world.observed, world.now);
        let each = questions.values().flat_map(|asked| {
            let ids = asked.directories.iter().map(ToString::to_string);
            let run = |span: &WalSpan| format!("{}-{}", span.run.first.0, span.run.last.0);
            ids.chain(asked.wal.iter().map(run)).collect::<Vec<_>>()
        });
        let lines: Vec<String> = each.collect();
        let told = world.told(lines.join(" "));
        format!("{}: {told}", questions.len())
    }

    #[test]
    fn only_what_would_go_is_asked_for_directories_first() {
        let text = "retention=1x budget=1/100 | done 1d | done 8d | done 9d";
        assert_eq!(
            asked("retention=9x | done 1d | done 8d"),
            "0: ",
            "nothing goes"
        );
        assert_eq!(
            asked(&format!("{text} | unlooked")),
            "1: ",
            "first, whether locks exist"
        );
        assert_eq!(asked(text), "0: ", "there are none");
        let locks = |known: &[&str]| {
            let mut world = World::parse(text);
            let ids: Vec<_> = known.iter().map(|label| world.id(label)).collect();
            if let Knowledge::Known(locks) = &mut world.stored().locks {
                locks.retention.locking = Locking::On { default: None };
                locks
                    .directories
                    .extend(ids.into_iter().map(|id| (id, Lock::Free)));
            }
            let questions = questions(&world.server, &world.observed, world.now);
            let asked = questions.into_values().next().expect("one destination");
            (asked.directories.len(), asked.wal.len())
        };
        assert_eq!(locks(&[]), (2, 0), "also what the budget withholds");
        assert_eq!(locks(&["9d"]), (1, 0));
        assert_eq!(
            locks(&["8d", "9d"]),
            (0, 2),
            "WAL before 9d, and that of 9d"
        );
        assert_eq!(
            asked(&format!("{text} | lose locks")),
            "0: ",
            "once is enough"
        );
        assert_eq!(
            asked(&format!("{text} | locked 9d held")),
            "0: ",
            "all is known"
        );
    }

    #[test]
    fn whoever_ignores_locks_asks_for_none() {
        let mut world = World::parse("retention=1x | done 1d | done 8d");
        if let Knowledge::Known(locks) = &mut world.stored().locks {
            locks.retention.locking = Locking::On { default: None };
        }
        let asked = |world: &World| questions(&world.server, &world.observed, world.now).len();
        assert_eq!(asked(&world), 1);
        world.entry().object_lock = ObjectLock::Ignore;
        assert_eq!(asked(&world), 0);
    }

    #[test]
    fn what_goes_with_a_backup_is_a_piece_of_its_own() {
        let mut world = World::parse("| done 1h begin:1000");
        let span = |first, last| WalSpan {
            timeline: crate::model::timeline::TimelineId::FIRST,
            run: Run {
                first: SegmentNumber(first),
                last: SegmentNumber(last),
            },
        };
        for (whole, cut) in [
            (span(990, 1000), vec![span(990, 999), span(1000, 1000)]),
            (span(1000, 1009), vec![span(1000, 1009)]),
            (span(990, 999), vec![span(990, 999)]),
        ] {
            assert_eq!(pieces(world.catalog(), &[whole]), cut);
        }
    }

    #[test]
    fn a_destination_that_does_not_lock_what_must_be_locked_is_told() {
        let mut world = World::parse("| done 1d");
        world.entry().object_lock = ObjectLock::Require;
        let plan = world.plan();
        let target = plan.targets.values().next().expect("one");
        assert_eq!(
            target.conditions[0].message,
            "object locks are required, but the destination has no object locks"
        );
    }

    #[test]
    fn what_has_to_be_rewritten_is_asked_for_too() {
        let parent = "| done 1d child:20261120T110000 | unlooked";
        assert_eq!(asked(parent), "0: ");
        let died = |life: &str| asked(&format!("{parent} | attempt 20261120T110000 {life}"));
        assert_eq!(died("alive"), "0: ");
        assert_eq!(died("dead"), "1: ");
    }

    #[test]
    fn who_names_what_shall_go_has_the_locks_of_that_looked_at() {
        let world = World::parse("| done 1d | done 8d");
        let destination = "primary".parse().expect("a name");
        let asked = |actions: &[Action]| questions_about(&world.observed, &destination, actions);
        let id = world.id("8d");
        let version = String::new();
        let delete = Action::DeleteBackup {
            backup: id.clone(),
            version,
        };
        let newest = world.now;
        let orphan = Action::DeleteOrphan {
            backup: id.clone(),
            newest,
        };
        for action in [delete, orphan] {
            assert_eq!(asked(&[action]).directories, [id.clone()].into());
        }
        let run = |first, last| WalSpan {
            timeline: crate::model::timeline::TimelineId::FIRST,
            run: Run {
                first: SegmentNumber(first),
                last: SegmentNumber(last),
            },
        };
        // Cut where 8d begins.
        let wal = Action::DeleteWal {
            spans: vec![run(900, 950)],
        };
        assert_eq!(
            asked(std::slice::from_ref(&wal)).wal,
            [run(900, 919), run(920, 950)]
        );
        let additive = Action::VerifyBackup { backup: id };
        assert_eq!(asked(&[additive]), Questions::default());
        let lost = World::parse("| done 8d | lose catalog");
        let none = questions_about(&lost.observed, &destination, &[wal]);
        assert_eq!(none, Questions::default());
    }

    #[test]
    fn why_new_objects_get_no_lock_is_told() {
        let default = Some(crate::model::lock::DefaultLock {
            mode: crate::model::lock::LockMode::Governance,
            period: None,
        });
        for (locking, why) in [
            (Locking::On { default }, None),
            (
                Locking::On { default: None },
                Some("the destination has no default retention"),
            ),
            (Locking::Off, Some("the destination has no object locks")),
            (
                Locking::Unknown("no answer".to_owned()),
                Some("whether the destination locks is unknown: no answer"),
            ),
        ] {
            assert_eq!(unlocked(&locking).as_deref(), why);
        }
    }
}

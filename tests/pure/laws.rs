//! What holds of every plan, whatever the world looks like.

use std::collections::BTreeSet;

use barkeep::{
    model::{
        action::{Action, Effect},
        backup::{Backup, BackupStatus, KeepTarget},
        catalog::Catalog,
        desired::Mode,
        judge::{Facts, Fate, Rule, judge},
        observed::{Knowledge, Observed},
        reason::Reason,
        record::Life,
        semantics::{BARMAN, Chains, Semantics},
        time::Timestamp,
        timeline::TimelineId,
        wal::SegmentNumber,
    },
    plan::{
        Plan, Step,
        guard::{Asked, guard},
        render::Text,
        saved::SavedPlan,
    },
};
use proptest::prelude::*;

use crate::{
    generate::{lost, worlds},
    life,
    plan::testing::World,
};

/// What a plan destroys: a segment, or what an action says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Destroyed {
    Segment(TimelineId, u64),
    Other(String),
}

fn destroyed(plan: &Plan) -> BTreeSet<Destroyed> {
    let mut all = BTreeSet::new();
    for step in &plan.steps {
        match &step.action {
            Action::DeleteWal { spans } => {
                for span in spans {
                    let segments = span.run.first.0..=span.run.last.0;
                    all.extend(segments.map(|n| Destroyed::Segment(span.timeline, n)));
                }
            }
            action if action.effect() == Effect::Destructive => {
                all.insert(Destroyed::Other(format!("{action:?}")));
            }
            _ => {}
        }
    }
    all
}

fn deleted(plan: &Plan) -> impl Iterator<Item = (&Step, &barkeep::model::backup::BackupId)> {
    let of = |step: &&Step| matches!(step.action, Action::DeleteBackup { .. });
    let steps = plan.steps.iter().filter(of);
    steps.filter_map(|step| Some((step, step.action.backup()?)))
}

fn catalog(observed: &Observed) -> Option<&Catalog> {
    observed.destinations.values().next()?.catalog.known()
}

/// The good backup that ended last.
fn newest_good(catalog: &Catalog) -> Option<&Backup> {
    let good = catalog.backups.iter().filter(|b| catalog.is_good(b));
    good.max_by_key(|backup| (backup.end_time, &backup.id))
}

fn at_rest(text: &str) -> World {
    World::parse(text)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: Some(Box::new(
            proptest::test_runner::FileFailurePersistence::Direct("tests/pure/regressions.txt"),
        )),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_plan_is_a_function_of_what_it_is_made_from(text in worlds()) {
        let (one, two) = (at_rest(&text).plan(), at_rest(&text).plan());
        prop_assert_eq!(Text(&one).to_string(), Text(&two).to_string());
        prop_assert_eq!(one.digest(), two.digest());
        prop_assert_eq!(one, two);
    }

    #[test]
    fn the_guard_accepts_every_plan(text in worlds()) {
        let world = at_rest(&text);
        let (plan, observed) = (world.plan(), &world.observed);
        let guarded = guard(plan.clone(), &world.server, observed, Asked::ByPolicy, world.now);
        prop_assert_eq!(guarded.refusals(), []);
        prop_assert_eq!(guarded.plan(), &plan);
    }

    #[test]
    fn doing_what_is_planned_leaves_nothing_to_do_within_three_rounds(text in worlds()) {
        let mut world = at_rest(&text);
        life::converge(&mut world, 3);
    }

    #[test]
    fn what_becomes_unknown_never_adds_a_destructive_step(text in worlds(), lost in lost()) {
        let known = destroyed(&at_rest(&text).plan());
        let mut world = at_rest(&text);
        world.fact(&format!("lose {lost}"));
        let unknown = destroyed(&world.plan());
        prop_assert!(unknown.is_subset(&known), "{:?}", unknown.difference(&known).next());
    }

    #[test]
    fn what_must_stay_is_never_deleted(text in worlds()) {
        let world = at_rest(&text);
        let plan = world.plan();
        let Some(catalog) = catalog(&world.observed) else {
            prop_assert!(destroyed(&plan).is_empty());
            return Ok(());
        };
        let stored = world.observed.destinations.values().next().expect("one");
        for (step, id) in deleted(&plan) {
            let backup = catalog.backup(id).expect("it was there");
            prop_assert_eq!(backup.keep, None);
            prop_assert!(matches!(backup.status, BackupStatus::Done | BackupStatus::Failed));
            prop_assert!(newest_good(catalog).is_none_or(|newest| newest.id != *id));
            let attempt = stored.attempts.known().and_then(|attempts| attempts.get(id));
            prop_assert!(!matches!(attempt, Some((_, Life::Alive))));
            let wished = world.server.keeps.iter().any(|keep| keep.backup == id.as_str());
            prop_assert!(!wished || step.reasons == [Reason::DeleteBegun]);
            let kept = |other: &Step| {
                matches!(other.action, Action::SetKeep { .. }) && other.action.backup() == Some(id)
            };
            prop_assert!(!plan.steps.iter().any(kept));
        }
    }

    #[test]
    fn what_is_locked_or_may_be_stays_whole(text in worlds()) {
        let world = at_rest(&text);
        let plan = world.plan();
        let stored = world.observed.destinations.values().next();
        let Some(locks) = stored.and_then(|stored| stored.locks.known()) else {
            prop_assert_eq!(deleted(&plan).count(), 0);
            return Ok(());
        };
        for (_, id) in deleted(&plan) {
            prop_assert!(locks.directory(id).is_some_and(|lock| lock.is_free(world.now)), "{id}");
        }
        let spans = plan.steps.iter().filter_map(|step| match &step.action {
            Action::DeleteWal { spans } => Some(spans),
            _ => None,
        });
        for span in spans.flatten() {
            prop_assert!(locks.span(span).is_some_and(|lock| lock.is_free(world.now)), "{span:?}");
        }
    }

    #[test]
    fn a_lock_more_deletes_nothing_more(text in worlds(), age in -1_i32..20) {
        let mut world = at_rest(&text);
        world.entry().deletes.backups_max = 1000;
        world.entry().deletes.percent_max = 100;
        if catalog(&world.observed).is_none() {
            return Ok(());
        }
        // Once somebody has looked at everything.
        world.fact("locked 999d held");
        let free = destroyed(&world.plan());
        world.fact(&format!("locked {age}d held"));
        let locked = destroyed(&world.plan());
        prop_assert!(locked.is_subset(&free), "{:?}", locked.difference(&free).next());
    }

    #[test]
    fn wal_that_anything_needs_stays(text in worlds()) {
        let world = at_rest(&text);
        let plan = world.plan();
        let Some(catalog) = catalog(&world.observed) else { return Ok(()) };
        let gone: BTreeSet<_> = deleted(&plan).map(|(_, id)| id).collect();
        let spans = plan.steps.iter().filter_map(|step| match &step.action {
            Action::DeleteWal { spans } => Some(spans),
            _ => None,
        });
        for span in spans.flatten() {
            for backup in catalog.backups.iter().filter(|b| life::is_something(b)) {
                let Some(begin) = backup.begin_wal.filter(|_| !gone.contains(&backup.id)) else {
                    continue;
                };
                let size = backup.segment_size;
                let standalone = backup.keep == Some(KeepTarget::Standalone);
                let end = backup.end_wal.filter(|_| standalone);
                let last = end.map_or(SegmentNumber(u64::MAX), |end| end.number(size));
                let history = catalog.wal.history(span.timeline);
                let reached = history.left_at(begin.timeline).is_some();
                let overlaps = span.run.first <= last && span.run.last >= begin.number(size);
                prop_assert!(!(reached && overlaps), "{} needs {span:?}", backup.id);
            }
        }
    }

    #[test]
    fn the_policy_deletes_only_what_barman_would(text in worlds()) {
        let world = at_rest(&text);
        let Some(catalog) = catalog(&world.observed) else { return Ok(()) };
        let entry = &world.server.entries[0];
        let rule = Rule {
            policy: entry.retention,
            minimum_redundancy: entry.minimum_redundancy,
        };
        let semantics = Semantics { chains: Chains::Together, ..BARMAN };
        let barman = judge(catalog, &rule, &Facts::at(world.now), semantics);
        for (step, id) in deleted(&world.plan()) {
            let expired = barman.get(id).is_some_and(|verdict| verdict.fate == Fate::Expire);
            let policy = matches!(step.reasons[0], Reason::OutsidePolicy { .. });
            prop_assert!(expired || !policy, "{id}");
        }
    }

    #[test]
    fn a_mode_allows_what_it_says(text in worlds()) {
        let mut world = at_rest(&text);
        world.server.mode = Mode::Observe;
        prop_assert_eq!(world.plan().steps, []);
        world.server.mode = Mode::Additive;
        prop_assert!(destroyed(&world.plan()).is_empty());
    }

    #[test]
    fn a_plan_holds_one_attempt_or_deletes(text in worlds()) {
        let plan = at_rest(&text).plan();
        let attempts = plan.steps.iter().filter(|step| step.action.is_attempt()).count();
        prop_assert!(attempts <= 1);
        prop_assert!(attempts == 0 || destroyed(&plan).is_empty());
        prop_assert!(plan.steps.iter().all(|step| !step.reasons.is_empty()));
        prop_assert!(plan.targets.values().all(|target| !target.conditions.is_empty()));
    }

    #[test]
    fn the_budget_bounds_what_goes(text in worlds()) {
        let world = at_rest(&text);
        let plan = world.plan();
        let left: usize = plan.targets.values().map(|target| target.budget.left()).sum();
        let tombstones = world.observed.destinations.values().filter_map(|s| s.tombstones.known());
        let counted: BTreeSet<_> = tombstones.flatten().map(|tombstone| &tombstone.backup).collect();
        let new = deleted(&plan).filter(|(_, id)| !counted.contains(id)).count();
        prop_assert!(new <= left, "{new} of {left}");
    }

    #[test]
    fn a_clock_that_runs_ahead_deletes_nothing_more(text in worlds(), days in 1_u64..4000) {
        let known = destroyed(&at_rest(&text).plan());
        let mut world = at_rest(&text);
        world.now = world.now + std::time::Duration::from_hours(24 * days);
        let ahead = destroyed(&world.plan());
        prop_assert!(ahead.is_subset(&known), "{:?}", ahead.difference(&known).next());
    }

    #[test]
    fn a_saved_plan_is_what_was_planned_and_holds_only_for_its_catalog(text in worlds()) {
        let mut world = at_rest(&text);
        let plan = world.plan();
        let saved = SavedPlan::new(vec![(plan.clone(), &world.observed)]);
        let json = serde_json::to_string(&saved).expect("JSON");
        let saved: SavedPlan = serde_json::from_str(&json).expect("a saved plan");
        prop_assert_eq!(saved.check(), Ok(()));
        prop_assert_eq!(&saved.plans[..], std::slice::from_ref(&plan));
        prop_assert_eq!(saved.still_holds(&world.observed), Ok(()));
        if plan.is_empty() || catalog(&world.observed).is_none() {
            return Ok(());
        }
        life::archive(&mut world, 1100);
        life::advance(&mut world, crate::model::scene::instant("-1h"));
        prop_assert_eq!(saved.still_holds(&world.observed), Ok(()), "new WAL changes nothing");
        let changes: [fn(&mut Catalog); 4] = [
            |catalog| catalog.backups.push(crate::model::scene::young("started", "-9d")),
            |catalog| drop(catalog.versions.insert("20260101T000000".into_id(), "x".to_owned())),
            |catalog| catalog.orphans.clear(),
            |catalog| catalog.backups.iter_mut().for_each(|b| b.keep = Some(KeepTarget::Full)),
        ];
        for change in changes {
            let mut changed = world.observed.clone();
            let stored = changed.destinations.values_mut().next().expect("one");
            let Knowledge::Known(catalog) = &mut stored.catalog else { unreachable!() };
            let before = catalog.clone();
            change(catalog);
            let same = before == *catalog;
            prop_assert_eq!(saved.still_holds(&changed).is_ok(), same);
        }
    }
}

trait IntoId {
    fn into_id(self) -> barkeep::model::backup::BackupId;
}

impl IntoId for &str {
    fn into_id(self) -> barkeep::model::backup::BackupId {
        barkeep::model::backup::BackupId::new(self)
    }
}

#[test]
fn a_digest_tells_plans_apart_and_forgets_when_they_were_made() {
    let digest = |text: &str, later: &str| {
        let mut world = World::parse(text);
        let to: Timestamp = crate::model::scene::instant(later);
        life::advance(&mut world, to);
        world.plan().digest()
    };
    let text = "retention=2x | done 1d | done 8d | done 15d";
    assert_eq!(digest(text, "0d"), digest(text, "-3h"));
    assert_ne!(
        digest(text, "0d"),
        digest(&text.replace("15d", "16d"), "0d")
    );
    assert_ne!(digest(text, "0d"), digest(&text.replace("2x", "1x"), "0d"));
}

//! A server that lives: time passes, WAL is archived, and what is planned is done by the model executor.

use barkeep::{
    model::{
        action::Action,
        backup::{Backup, BackupId, BackupStatus},
        observed::Knowledge,
        time::Timestamp,
        wal::{SegmentNumber, SegmentSize},
    },
    plan::{
        Plan, Step,
        after::after,
        guard::{Asked, guard},
    },
};

use crate::{
    model::scene::{place, young},
    plan::testing::World,
};

/// Plans, guards and does until nothing is left to do. Returns the plans that had something to do.
///
/// Panics if the guard refuses, or if it has not ended after so many rounds.
pub(crate) fn converge(world: &mut World, rounds_max: usize) -> Vec<Plan> {
    let mut plans = Vec::new();
    loop {
        let plan = world.plan();
        if plan.is_empty() {
            return plans;
        }
        assert!(
            plans.len() < rounds_max,
            "still to do after {rounds_max} rounds: {:#?}\nbefore: {:#?}",
            plan.steps,
            plans.iter().map(|plan| &plan.steps).collect::<Vec<_>>()
        );
        carry_out(world, &plan);
        plans.push(plan);
    }
}

/// Does what a plan says; each backup succeeds at once.
pub(crate) fn carry_out(world: &mut World, plan: &Plan) {
    let guarded = guard(
        plan.clone(),
        &world.server,
        &world.observed,
        Asked::ByPolicy,
        world.now,
    );
    assert!(guarded.refusals().is_empty(), "{:?}", guarded.refusals());
    for step in &guarded.plan().steps {
        let taken = match &step.action {
            Action::TakeBackup { above, .. } => Some(take(world, above.as_ref())),
            _ => None,
        };
        apply(world, step, taken);
    }
}

/// The world after one step.
pub(crate) fn apply(world: &mut World, step: &Step, taken: Option<Backup>) {
    let (destination, action, now) = (&step.destination, &step.action, world.now);
    world.observed = after(&world.observed, destination, action, taken, now);
}

/// A backup that begins and ends now, and whose WAL is archived.
pub(crate) fn take(world: &mut World, above: Option<&BackupId>) -> Backup {
    let mut backup = young("done", "0d");
    let earliest = above.and_then(BackupId::local_time);
    let earliest = earliest.map(|local| local + chrono::TimeDelta::seconds(1));
    let local = world.server.entries[0].zone.local(world.now);
    backup.id = BackupId::at(earliest.map_or(local, |earliest| earliest.max(local)));
    (backup.begin_time, backup.end_time) = (Some(world.now), Some(world.now));
    let Knowledge::Known(facts) = &world.observed.postgres else {
        panic!("a backup was taken of a server that nobody can ask");
    };
    (backup.system_id, backup.version) = (Some(facts.system_id), Some(facts.version));
    let timeline = facts.timeline;
    let last = facts.archiver.last_archived;
    let last = last.map_or(SegmentNumber(0), |last| last.number(SegmentSize::DEFAULT));
    place(&mut backup, timeline, Some(last.0 + 1));
    archive(world, last.0 + 2);
    backup
}

/// The server has archived everything up to this segment.
pub(crate) fn archive(world: &mut World, last: u64) {
    let Knowledge::Known(facts) = &mut world.observed.postgres else {
        return;
    };
    let size = SegmentSize::DEFAULT;
    let timeline = facts.timeline;
    let archived = facts.archiver.last_archived;
    let first = archived.filter(|segment| segment.timeline == timeline);
    let first = first.map_or(last, |segment| segment.number(size).0 + 1);
    facts.archiver.last_archived = Some(SegmentNumber(last).name(timeline, size));
    if matches!(world.stored().catalog, Knowledge::Known(_)) {
        let wal = &mut world.catalog().wal;
        (first..=last).for_each(|number| wal.insert(timeline, SegmentNumber(number)));
    }
}

/// Lets time pass for every clock.
pub(crate) fn advance(world: &mut World, to: Timestamp) {
    world.now = to;
    let stored = world.stored();
    stored.read_at = to;
    if let Knowledge::Known(time) = &mut stored.store_time {
        *time = to;
    }
    if let Knowledge::Known(facts) = &mut world.observed.postgres {
        facts.clock = to;
    }
}

/// Whether somebody may restore from it, now or later.
pub(crate) fn is_something(backup: &Backup) -> bool {
    !matches!(backup.status, BackupStatus::Failed | BackupStatus::Empty)
}

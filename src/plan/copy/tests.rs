use super::*;
use crate::plan::{
    Plan,
    after::after,
    guard::{Asked, Guarded, guard},
    plan,
    testing::World,
};

/// `retention=2x | done 1d | done 8d` in `primary`, and a copy of it in `dr`, which has other settings and other backups.
struct Pair {
    world: World,
}

impl Pair {
    fn new(primary: &str, dr: &str) -> Self {
        let mut world = World::parse(primary);
        let other = World::parse(dr);
        let dr: DestinationName = "dr".parse().expect("a name");
        let mut entry = other.server.entries[0].clone();
        entry.copy_of = Some(world.server.entries[0].destination.clone());
        entry.destination = dr.clone();
        entry.delivery = Delivery::Healed;
        world.server.entries.push(entry);
        let stored = other.observed.destinations.into_values().next();
        world
            .observed
            .destinations
            .extend(stored.map(|stored| (dr, stored)));
        world.labels.extend(other.labels);
        Self { world }
    }

    fn copy(&mut self) -> &mut crate::model::desired::Entry {
        &mut self.world.server.entries[1]
    }

    fn plan(&self) -> Plan {
        let world = &self.world;
        plan(
            &world.server,
            &world.observed,
            &|_| String::new(),
            world.now,
        )
    }

    /// What the guard makes of a plan of one action in `dr`.
    fn guarded(&self, action: Action) -> Guarded {
        let World { server, now, .. } = &self.world;
        let destination = &server.entries[1].destination;
        let steps = Plan::requested(&server.name, destination, vec![action], *now).steps;
        let plan = Plan {
            steps,
            ..self.plan()
        };
        guard(plan, server, &self.world.observed, Asked::ByPolicy, *now)
    }

    /// What is planned, one step a line.
    fn steps(&self) -> String {
        let lines = self.plan().steps.into_iter().map(|step| {
            let segments = match step.weight.segments {
                0 => String::new(),
                segments => format!(" of {segments}"),
            };
            let (what, reason) = (step.describe(), &step.reasons[0]);
            format!("{}: {what}{segments}: {reason}", step.destination)
        });
        self.world.told(lines.collect::<Vec<_>>().join("\n"))
    }

    fn waits(&self) -> String {
        let plan = self.plan();
        let waiting = plan.targets.iter().flat_map(|(name, target)| {
            target
                .waiting
                .iter()
                .map(move |waiting| format!("{name}: {waiting}"))
        });
        self.world.told(waiting.collect::<Vec<_>>().join("\n"))
    }

    /// Does all that is planned until nothing is. Returns how many rounds that took.
    fn converge(&mut self) -> usize {
        for round in 0..20 {
            let plan = self.plan();
            if plan.is_empty() {
                return round;
            }
            let world = &self.world;
            let guarded = guard(
                plan,
                &world.server,
                &world.observed,
                Asked::ByPolicy,
                world.now,
            );
            assert_eq!(guarded.refusals(), []);
            for step in &guarded.plan().steps {
                let observed = &self.world.observed;
                self.world.observed = after(
                    observed,
                    &step.destination,
                    &step.action,
                    None,
                    self.world.now,
                );
            }
        }
        panic!("it never ends: {}", self.steps());
    }

    fn backups(&self, destination: &str) -> String {
        let catalog = self.world.observed.destinations[destination]
            .catalog
            .known();
        let ids = catalog.into_iter().flat_map(Catalog::ids);
        self.world
            .told(ids.map(BackupId::as_str).collect::<Vec<_>>().join(" "))
    }
}

#[test]
fn the_newest_is_copied_first_and_only_what_will_stay() {
    let all = "retention=9x | done 1d | done 8d | done 15d | failed 2d";
    let mut pair = Pair::new(all, "retention=2x | nothing");
    assert_eq!(
        pair.steps(),
        "dr: copy 1d: not copied from primary yet, 1 more follow"
    );
    pair.converge();
    assert_eq!(pair.backups("dr"), "8d 1d");
    assert_eq!(pair.backups("primary"), "15d 8d 2d 1d");
    pair.copy().retention = None;
    assert_eq!(pair.steps(), "dr: copy 15d: not copied from primary yet");
}

#[test]
fn a_copy_lives_on_when_its_source_has_deleted_the_backup() {
    let mut pair = Pair::new("retention=1x | done 1d | done 8d", "retention=2x | nothing");
    assert_eq!(
        pair.waits(),
        "primary: the rest follows when the backup is done"
    );
    pair.converge();
    assert_eq!(pair.backups("primary"), "1d");
    assert_eq!(pair.backups("dr"), "8d 1d");
}

#[test]
fn wal_follows_from_where_a_copied_backup_begins() {
    let primary = "| done 1d | done 8d | wal 1:900-1010";
    let mut pair = Pair::new(primary, "| done 1d | done 8d | wal 1:920-921 1:990-1000");
    assert_eq!(
        pair.steps(),
        "dr: copy WAL of 78: not copied from primary yet"
    );
    assert!(pair.converge() <= 1);
    pair.copy().delivery = Delivery::None;
    assert_eq!(pair.steps(), "");
}

#[test]
fn wal_that_a_copy_needs_stays_where_it_is_until_it_is_copied() {
    let primary = "retention=1x | done 1d | wal 1:900-1010";
    let mut pair = Pair::new(
        primary,
        "retention=9x | done 1d | done 8d | wal 1:920-921 1:990-1010",
    );
    assert_eq!(
        pair.steps(),
        "dr: copy WAL of 68: not copied from primary yet"
    );
    assert!(
        pair.waits()
            .contains("primary: a copy still needs WAL that would go")
    );
    pair.converge();
    let catalog = pair.world.observed.destinations["dr"].catalog.known();
    let runs = &catalog.expect("known").wal.runs[&TimelineId::FIRST];
    assert_eq!(
        runs.iter().map(|run| run.first.0).collect::<Vec<_>>(),
        [920]
    );
}

#[test]
fn what_is_unknown_about_the_source_holds_up_copies_and_nothing_else() {
    let dr = "retention=1x | done 8d | done 9d | wal 1:910-1010";
    let pair = Pair::new("| done 1d | lose catalog", dr);
    assert!(
        pair.steps().starts_with("dr: delete 9d"),
        "{}",
        pair.steps()
    );
    assert!(pair.waits().contains("dr: its source `primary`"));
    let pair = Pair::new("| done 1d | identity 2 | postgres none", "| done 9d");
    assert_eq!(
        pair.steps(),
        "",
        "another cluster's backups are not mixed in"
    );
    assert_eq!(pair.waits(), "dr: its source `primary`");
}

#[test]
fn what_a_person_has_deleted_here_is_not_brought_back() {
    let pair = Pair::new("| done 1d | done 8d", "| done 1d | tombstone 1h of:8d");
    let mut other = Pair::new("| done 1d | done 8d", "| done 1d");
    assert_eq!(other.steps(), "dr: copy 8d: not copied from primary yet");
    let id = other.world.id("8d");
    let told = pair.world.observed.destinations["dr"].clone();
    let mut tombstones = told.tombstones.known().cloned().unwrap_or_default();
    for tombstone in &mut tombstones {
        tombstone.backup = id.clone();
    }
    let stored = other.world.observed.destinations.get_mut("dr");
    stored.expect("it is there").tombstones = Knowledge::Known(tombstones);
    assert_eq!(other.steps(), "");
    let forgetful = Pair::new("| done 1d | done 8d", "| done 1d | lose tombstones");
    assert_eq!(forgetful.steps(), "", "who knows what was deleted");
    let said = "dr: the record of deletes is unknown: no answer";
    assert!(forgetful.waits().contains(said), "{}", forgetful.waits());
}

#[test]
fn an_incremental_is_copied_only_after_what_it_builds_on() {
    let source = "| done 1d | done 2d parent:20261111T110000 | done 9d";
    let first = "dr: copy 9d: not copied from primary yet, 1 more follow";
    assert_eq!(Pair::new(source, "| done 1d").steps(), first);
    let gone = Pair::new(source, "| done 1d | tombstone 3d of:20261111T110000");
    assert_eq!(gone.steps(), "", "nobody wants it without");
    let there = Pair::new(source, "| done 1d | done 9d");
    assert_eq!(there.steps(), "dr: copy 2d: not copied from primary yet");
}

#[test]
fn a_new_backup_goes_before_a_copy() {
    let mut pair = Pair::new("schedule=@hourly | done 1d", "| nothing");
    assert!(pair.steps().starts_with("primary: backup: due"));
    pair.world.server.entries.reverse();
    assert!(
        pair.steps().starts_with("primary: backup: due"),
        "{}",
        pair.steps()
    );
}

#[test]
fn the_guard_takes_out_what_is_copied_from_elsewhere_or_is_no_good_there() {
    let pair = Pair::new("| done 1d | done 8d empty:", "| done 2d");
    let Pair { world } = &pair;
    for (label, from, told) in [
        ("1d", "primary", None),
        (
            "8d",
            "primary",
            Some("copy 8d is not to be copied from there"),
        ),
        ("2d", "dr", Some("copy 2d is not to be copied from there")),
        (
            "9d",
            "primary",
            Some("copy 9d is not to be copied from there"),
        ),
    ] {
        let action = Action::CopyBackup {
            backup: world.id(label),
            from: from.parse().expect("a name"),
            version: String::new(),
        };
        let guarded = pair.guarded(action);
        let refusals = guarded.refusals().iter();
        let said = refusals.map(|refusal| world.told(refusal.violation.to_string()));
        assert_eq!(
            said.collect::<Vec<_>>(),
            Vec::from_iter(told),
            "{label} {from}"
        );
        assert_eq!(
            guarded.plan().steps.is_empty(),
            told.is_some(),
            "{label} {from}"
        );
    }
}

#[test]
fn what_is_nowhere_yet_is_not_copied() {
    assert_eq!(Pair::new("| without catalog", "| nothing").steps(), "");
}

#[test]
fn where_no_cluster_is_pinned_yet_copies_begin() {
    let mut pair = Pair::new("| done 1d", "| nothing");
    let copies = pair.steps();
    assert!(copies.contains("copy 1d"), "{copies}");
    let stored = pair.world.observed.destinations.get_mut("dr");
    stored.expect("it is there").identity = Knowledge::Absent;
    assert_eq!(pair.steps(), copies);
}

#[test]
fn a_step_copies_so_much_and_no_more() {
    let span = |first, last| WalSpan {
        timeline: crate::model::timeline::TimelineId::FIRST,
        run: Run {
            first: SegmentNumber(first),
            last: SegmentNumber(last),
        },
    };
    let all = [span(1, 10), span(20, 30)];
    assert_eq!(first_of(&all, 10), [span(1, 10)]);
    assert_eq!(first_of(&all, 9), [span(1, 9)]);
    assert_eq!(first_of(&all, 12), [span(1, 10), span(20, 21)]);
    assert_eq!(first_of(&all, 99), all);
}

#[test]
fn the_guard_takes_out_wal_that_is_copied_from_elsewhere() {
    let pair = Pair::new("| done 1d", "| done 2d");
    let Pair { world } = &pair;
    for (from, stays) in [("primary", 1), ("dr", 0), ("nowhere", 0)] {
        let action = Action::CopyWal {
            from: from.parse().expect("a name"),
            spans: Vec::new(),
            histories: Vec::new(),
        };
        assert_eq!(pair.guarded(action).plan().steps.len(), stays, "{from}");
    }
    let lost = Pair::new("| done 1d | lose catalog", "| done 2d");
    let from = world.server.entries[0].destination.clone();
    let (spans, histories) = (Vec::new(), Vec::new());
    let action = Action::CopyWal {
        from,
        spans,
        histories,
    };
    assert_eq!(lost.guarded(action).plan().steps, []);
}

#[test]
fn archiving_waits_for_the_source_and_not_for_its_copy() {
    let Pair { world } = Pair::new("| done 1d", "| nothing");
    let waits = |name: &str| world.server.archives_to(&name.parse().expect("a name"));
    assert_eq!(["primary", "dr", "other"].map(waits), [true, false, false]);
}

#[test]
fn histories_follow_once() {
    let source = "| done 1d | wal 1:900-1010 | history 2:1@950 | history 3:1@960";
    let copied = |dr: &str| {
        let plan = Pair::new(source, dr).plan();
        let histories = plan.steps.into_iter().map(|step| match step.action {
            Action::CopyWal { histories, .. } => histories,
            other => panic!("{other:?}"),
        });
        histories
            .flatten()
            .map(TimelineId::number)
            .collect::<Vec<_>>()
    };
    let own = "| done 1d | wal 1:900-1010 | history 2:1@950";
    assert_eq!(copied(own), [3]);
    assert!(copied(&format!("{own} | history 3:1@960")).is_empty());
}

#[test]
fn wal_follows_along_the_timelines_that_a_copied_backup_can_reach() {
    let source = "| done 1d | wal 1:900-1004 2:1004-1010 | history 2:1@1004 | history 3:2@950";
    let pair = Pair::new(
        source,
        "| done 1d | wal 1:900-1004 | history 2:1@1004 | history 3:2@950",
    );
    let follows = "dr: copy WAL of 7: not copied from primary yet";
    assert_eq!(pair.steps(), follows);
    let strange = source.replace("2:1004-1010", "2:1004-1010 3:1004-1010");
    let pair = Pair::new(
        &strange,
        "| done 1d | wal 1:900-1004 | history 2:1@1004 | history 3:2@950",
    );
    assert_eq!(pair.steps(), follows);
}

#[test]
fn what_is_kept_by_itself_needs_no_more_wal() {
    let source = "| done 1d | done 8d | wal 1:900-1010";
    let all = Pair::new(source, "| done 1d | done 8d | wal 1:990-1010");
    assert_eq!(
        all.steps(),
        "dr: copy WAL of 70: not copied from primary yet"
    );
    let alone = Pair::new(
        source,
        "| done 1d | done 8d keep:standalone | failed 3d | wal 1:990-1010",
    );
    assert_eq!(alone.steps(), "");
}

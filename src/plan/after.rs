//! The world after an action: the model of an executor, for laws and previews.

use std::collections::BTreeMap;

use crate::model::{
    action::{Action, WalSpan},
    backup::{Backup, BackupId, BackupStatus},
    catalog::{Catalog, Finding, Run, Verified, WalArchive},
    names::DestinationName,
    observed::{Knowledge, Observed, Stored},
    record::{Epitaph, KeepRecord, Mark, SetBy, Tombstone},
    runs::Runs,
    snapshot::TaggedSnapshot,
    time::Timestamp,
    timeline::TimelineId,
    wal::SegmentNumber,
};

/// What would be observed once an action has succeeded. A new backup is `taken`, if the caller has one to give.
pub fn after(
    observed: &Observed,
    destination: &DestinationName,
    action: &Action,
    taken: Option<Backup>,
    now: Timestamp,
) -> Observed {
    let mut observed = observed.clone();
    let source = match action {
        Action::CopyBackup { from, .. } | Action::CopyWal { from, .. } => {
            let source = observed.destinations.get(from);
            source.and_then(|stored| stored.catalog.known().cloned())
        }
        _ => None,
    };
    let Some(stored) = observed.destinations.get_mut(destination) else {
        return observed;
    };
    let mut catalog = match std::mem::replace(&mut stored.catalog, Knowledge::Absent) {
        Knowledge::Known(catalog) => catalog,
        Knowledge::Absent => Catalog::default(),
        unknown @ Knowledge::Unknown(_) => {
            stored.catalog = unknown;
            return observed;
        }
    };
    apply(stored, &mut catalog, action, taken, now);
    if let Some(source) = source {
        copy(&source, &mut catalog, action);
    }
    if catalog != Catalog::default() {
        stored.catalog = Knowledge::Known(catalog);
    }
    observed
}

fn apply(
    stored: &mut Stored,
    catalog: &mut Catalog,
    action: &Action,
    taken: Option<Backup>,
    now: Timestamp,
) {
    match action {
        Action::TakeBackup { .. } => {
            let version = |backup: &Backup| (backup.id.clone(), backup.id.to_string());
            catalog.versions.extend(taken.iter().map(version));
            catalog.backups.extend(taken);
            catalog.backups.sort_by(|a, b| a.id.cmp(&b.id));
        }
        // What is copied comes from elsewhere, and is done by `after` itself.
        Action::CopyBackup { .. } | Action::CopyWal { .. } => {}
        Action::VerifyBackup { backup } => verify(catalog, backup, now),
        Action::FinishBackup { backup } => {
            with(catalog, backup, |found| found.status = BackupStatus::Done);
            forget(&mut stored.attempts, backup);
        }
        Action::AbandonAttempt { backup, parent } => {
            abandon(stored, catalog, backup, parent.as_ref());
        }
        Action::SetKeep {
            backup,
            target,
            until,
        } => {
            with(catalog, backup, |found| found.keep = Some(*target));
            let record = KeepRecord {
                backup: backup.clone(),
                target: *target,
                reason: String::new(),
                until: *until,
                set_at: now,
                by: SetBy::Policy,
            };
            remember(&mut stored.keep_records, backup, record);
        }
        Action::ReleaseKeep {
            backup,
            grace: Some(grace),
        } => {
            if let Knowledge::Known(records) = &mut stored.keep_records
                && let Some(record) = records.get_mut(backup)
            {
                record.until = Some(now + *grace);
            }
        }
        Action::ReleaseKeep { backup, .. } => {
            with(catalog, backup, |found| found.keep = None);
            forget(&mut stored.keep_records, backup);
        }
        Action::MarkDelete { backup, version } => {
            let mark = Mark {
                backup: backup.clone(),
                at: now,
                epitaph: epitaph(version),
            };
            remember(&mut stored.marks, backup, mark);
        }
        Action::Undelete { backup } => forget(&mut stored.marks, backup),
        Action::DeleteBackup { backup, version } => {
            delete(stored, catalog, backup);
            bury(&mut stored.tombstones, backup, version, now);
        }
        Action::DeleteOrphan { backup, .. } => {
            catalog.orphans.retain(|orphan| orphan.id != *backup);
        }
        Action::DeleteSnapshot { snapshot, .. } => {
            keep_snapshots(stored, |other| other.id != *snapshot);
        }
        Action::ArchiveWal { spans } => add(&mut catalog.wal, spans),
        Action::DeleteWal { spans } => remove(&mut catalog.wal, spans),
    }
}

fn delete(stored: &mut Stored, catalog: &mut Catalog, backup: &BackupId) {
    catalog.backups.retain(|other| other.id != *backup);
    catalog.versions.remove(backup);
    catalog.lost_snapshots.remove(backup);
    keep_snapshots(stored, |snapshot| snapshot.backup != *backup);
    forget(&mut stored.keep_records, backup);
    forget(&mut stored.marks, backup);
}

fn keep_snapshots(stored: &mut Stored, stays: impl Fn(&TaggedSnapshot) -> bool) {
    if let Knowledge::Known(snapshots) = &mut stored.snapshots {
        snapshots.retain(stays);
    }
}

fn abandon(
    stored: &mut Stored,
    catalog: &mut Catalog,
    backup: &BackupId,
    parent: Option<&BackupId>,
) {
    if let Some(parent) = parent {
        with(catalog, parent, |found| {
            found.children.retain(|child| child != backup);
        });
    }
    with(catalog, backup, |found| match found.status {
        BackupStatus::Started | BackupStatus::WaitingForWals => {
            found.status = BackupStatus::Failed;
        }
        _ => {}
    });
    forget(&mut stored.attempts, backup);
    if let Knowledge::Known(uploads) = &mut stored.uploads {
        uploads.retain(|upload| upload.backup != *backup);
    }
}

/// What is read back is found to be sound.
fn verify(catalog: &mut Catalog, backup: &BackupId, now: Timestamp) {
    let verified = Verified {
        at: now,
        finding: Finding::Sound,
    };
    catalog.verified.insert(backup.clone(), verified);
}

/// What is copied is there afterwards as it is where it comes from.
fn copy(source: &Catalog, catalog: &mut Catalog, action: &Action) {
    let bring = |wal: &mut WalArchive, span: &WalSpan| {
        let there = source.wal.runs.get(&span.timeline);
        let there: Runs = there.into_iter().flatten().copied().collect();
        let wanted: Runs = [span.run].into_iter().collect();
        for run in there.intersection(&wanted).iter() {
            insert(wal, &WalSpan { run, ..*span });
        }
    };
    if let Action::CopyWal {
        spans, histories, ..
    } = action
    {
        for span in spans {
            bring(&mut catalog.wal, span);
        }
        let known = |timeline: &TimelineId| source.wal.histories.get_key_value(timeline);
        let known = histories.iter().filter_map(known);
        let known = known.map(|(timeline, history)| (*timeline, history.clone()));
        catalog.wal.histories.extend(known);
    }
    if let Action::CopyBackup {
        backup, version, ..
    } = action
        && let Some(found) = source.backup(backup)
    {
        if let (Some(begin), Some(end)) = (found.begin_wal, found.end_wal) {
            let size = found.segment_size;
            let (first, last) = (begin.number(size), end.number(size));
            for timeline in [begin.timeline, end.timeline] {
                let run = Run { first, last };
                bring(&mut catalog.wal, &WalSpan { timeline, run });
            }
        }
        let histories = source.wal.histories.clone();
        catalog.wal.histories.extend(histories);
        catalog.backups.push(found.clone());
        catalog.backups.sort_by(|a, b| a.id.cmp(&b.id));
        catalog.versions.insert(backup.clone(), version.clone());
        catalog.orphans.retain(|orphan| orphan.id != *backup);
    }
}

fn add(wal: &mut WalArchive, spans: &[WalSpan]) {
    for span in spans {
        insert(wal, span);
    }
}

fn insert(wal: &mut WalArchive, span: &WalSpan) {
    let runs = wal.runs.entry(span.timeline).or_default();
    let all: Runs = runs.drain(..).chain([span.run]).collect();
    runs.extend(all.iter());
}

type Records<T> = Knowledge<BTreeMap<BackupId, T>>;

fn forget<T>(records: &mut Records<T>, backup: &BackupId) {
    if let Knowledge::Known(records) = records {
        records.remove(backup);
    }
}

fn remember<T>(records: &mut Records<T>, backup: &BackupId, record: T) {
    match records {
        Knowledge::Known(records) => {
            records.insert(backup.clone(), record);
        }
        Knowledge::Absent => {
            *records = Knowledge::Known(BTreeMap::from([(backup.clone(), record)]));
        }
        Knowledge::Unknown(_) => {}
    }
}

fn bury(
    tombstones: &mut Knowledge<Vec<Tombstone>>,
    backup: &BackupId,
    version: &str,
    at: Timestamp,
) {
    let tombstone = Tombstone {
        backup: backup.clone(),
        at,
        epitaph: epitaph(version),
    };
    match tombstones {
        Knowledge::Known(tombstones) => tombstones.push(tombstone),
        Knowledge::Absent => *tombstones = Knowledge::Known(vec![tombstone]),
        Knowledge::Unknown(_) => {}
    }
}

fn epitaph(version: &str) -> Epitaph {
    Epitaph {
        version: version.to_owned(),
        reason: String::new(),
    }
}

fn with(catalog: &mut Catalog, id: &BackupId, change: impl FnOnce(&mut Backup)) {
    if let Some(backup) = catalog.backups.iter_mut().find(|backup| backup.id == *id) {
        change(backup);
    }
}

fn remove(wal: &mut WalArchive, spans: &[WalSpan]) {
    for span in spans {
        let Some(runs) = wal.runs.get_mut(&span.timeline) else {
            continue;
        };
        let kept = runs
            .iter()
            .flat_map(|run| outside(*run, span.run))
            .collect();
        *runs = kept;
    }
    wal.runs.retain(|_, runs| !runs.is_empty());
    wal.fragments.retain(|(timeline, segment)| {
        let holds = |span: &WalSpan| {
            span.timeline == *timeline && span.run.first <= *segment && *segment <= span.run.last
        };
        !spans.iter().any(holds)
    });
}

/// What of `run` lies before and behind `gone`.
fn outside(run: Run, gone: Run) -> impl Iterator<Item = Run> {
    if gone.last < run.first || gone.first > run.last {
        return [Some(run), None].into_iter().flatten();
    }
    let before = (run.first < gone.first).then(|| Run {
        first: run.first,
        last: SegmentNumber(gone.first.0 - 1),
    });
    let behind = (run.last > gone.last).then(|| Run {
        first: gone.last.next(),
        last: run.last,
    });
    [before, behind].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    #[test]
    fn a_span_cuts_a_run_in_two() {
        let run = |first, last| Run {
            first: SegmentNumber(first),
            last: SegmentNumber(last),
        };
        let cut = |gone| {
            outside(run(3, 9), gone)
                .map(|r| (r.first.0, r.last.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(cut(run(0, 1)), [(3, 9)]);
        assert_eq!(cut(run(0, 2)), [(3, 9)]);
        assert_eq!(cut(run(10, 12)), [(3, 9)]);
        assert_eq!(cut(run(12, 15)), [(3, 9)]);
        assert_eq!(cut(run(0, 3)), [(4, 9)]);
        assert_eq!(cut(run(4, 9)), [(3, 3)]);
        assert_eq!(cut(run(0, 4)), [(5, 9)]);
        assert_eq!(cut(run(4, 5)), [(3, 3), (6, 9)]);
        assert_eq!(cut(run(9, 12)), [(3, 8)]);
        assert_eq!(cut(run(0, 12)), []);
    }

    /// What is there after an action.
    fn then(world: &World, action: &Action) -> Observed {
        let destination = &world.server.entries[0].destination;
        after(&world.observed, destination, action, None, world.now)
    }

    fn stored(observed: &Observed) -> &Stored {
        observed.destinations.values().next().expect("one")
    }

    fn catalog(observed: &Observed) -> &Catalog {
        stored(observed).catalog.known().expect("it is known")
    }

    #[test]
    fn where_nobody_has_looked_nothing_changes() {
        for text in ["| done 1d | lose catalog", "| done 1d | lose destination"] {
            let world = World::parse(text);
            let backup = world.id("1d");
            let action = Action::Undelete { backup };
            assert_eq!(then(&world, &action), world.observed, "{text}");
        }
    }

    #[test]
    fn a_snapshot_goes_by_itself_or_with_its_backup() {
        let world = World::parse("| done 1d | done 8d | snapshot 8d 8d recorded: | snapshot 1d 1d");
        let backup = world.id("8d");
        let alone = Action::DeleteSnapshot {
            backup: backup.clone(),
            snapshot: "snap-8d".to_owned(),
            begun_at: world.now,
        };
        let version = String::new();
        for action in [alone, Action::DeleteBackup { backup, version }] {
            let observed = then(&world, &action);
            let left = stored(&observed).snapshots.known().expect("known");
            let left: Vec<&str> = left.iter().map(|snapshot| &snapshot.id[..]).collect();
            assert_eq!(left, ["snap-1d"], "{action:?}");
        }
    }

    #[test]
    fn what_is_archived_again_closes_its_gap() {
        let world = World::parse("| done 1d | wal 1:900-950 1:960-1010");
        let (timeline, run) = (TimelineId::FIRST, |first, last| Run {
            first: SegmentNumber(first),
            last: SegmentNumber(last),
        });
        let spans = [run(951, 955), run(956, 959)].map(|run| WalSpan { timeline, run });
        let action = Action::ArchiveWal {
            spans: spans.into(),
        };
        let observed = then(&world, &action);
        assert_eq!(catalog(&observed).wal.runs[&timeline], [run(900, 1010)]);
    }

    #[test]
    fn what_is_read_back_is_sound_from_now_on() {
        let world = World::parse("| done 1d");
        let backup = world.id("1d");
        let action = Action::VerifyBackup {
            backup: backup.clone(),
        };
        let verified = catalog(&then(&world, &action)).verified[&backup];
        assert_eq!((verified.at, verified.finding), (world.now, Finding::Sound));
    }

    #[test]
    fn a_keep_with_a_grace_ends_when_that_has_passed() {
        let world = World::parse("| done 1d keep:full | record 1d full");
        let backup = world.id("1d");
        let hour = std::time::Duration::from_hours(1);
        let grace = Some(hour);
        let action = Action::ReleaseKeep {
            backup: backup.clone(),
            grace,
        };
        let observed = then(&world, &action);
        let records = stored(&observed).keep_records.known().expect("known");
        assert_eq!(records[&backup].until, Some(world.now + hour));
        assert!(catalog(&observed).backups[0].keep.is_some());
    }

    #[test]
    fn an_incremental_that_is_given_up_is_no_child_any_more() {
        let world = World::parse("| done 8d id:a child:b | started 1d id:b parent:a");
        let id = BackupId::new;
        let action = Action::AbandonAttempt {
            backup: id("b"),
            parent: Some(id("a")),
        };
        let observed = then(&world, &action);
        let of = |name| catalog(&observed).backup(&id(name)).expect("it is there");
        assert_eq!(of("a").children, []);
        assert_eq!(of("b").status, BackupStatus::Failed);
        // One that has ended stays what it is.
        let ended = World::parse("| done 8d id:a | lose uploads");
        let action = Action::AbandonAttempt {
            backup: id("a"),
            parent: None,
        };
        assert_eq!(then(&ended, &action), ended.observed);
    }

    #[test]
    fn only_what_is_meant_goes() {
        let orphans = World::parse("| done 1d | orphan 20d | orphan 30d");
        let (backup, newest) = (orphans.id("20d"), orphans.now);
        let observed = then(&orphans, &Action::DeleteOrphan { backup, newest });
        let left: Vec<_> = catalog(&observed).orphans.iter().map(|o| &o.id).collect();
        assert_eq!(left, [&orphans.id("30d")]);
        let died = World::parse(
            "| done 1d | started 8d | attempt 8d dead | upload 8d of:8d | upload 8d of:1d",
        );
        let action = Action::AbandonAttempt {
            backup: died.id("8d"),
            parent: None,
        };
        let observed = then(&died, &action);
        let uploads = stored(&observed).uploads.known().expect("known");
        let left: Vec<_> = uploads.iter().map(|upload| &upload.backup).collect();
        assert_eq!(left, [&died.id("1d")]);
        let attempts = stored(&observed).attempts.known().expect("known");
        assert!(attempts.is_empty());
    }

    #[test]
    fn records_that_nobody_had_are_begun_and_unknown_ones_stay_unknown() {
        let backup = BackupId::new("20261112T110000");
        let version = String::new();
        let mark = Action::MarkDelete {
            backup: backup.clone(),
            version: version.clone(),
        };
        let delete = Action::DeleteBackup { backup, version };
        let counts = |text: &str| {
            let world = World::parse(&format!("| done 1d | done 8d | {text}"));
            let marked = then(&world, &mark);
            let marks = stored(&marked).marks.known().map(BTreeMap::len);
            let deleted = then(&world, &delete);
            (marks, stored(&deleted).tombstones.known().map(Vec::len))
        };
        assert_eq!(counts("without marks tombstones"), (Some(1), Some(1)));
        assert_eq!(counts("mark 1d 1h | tombstone 1h of:x"), (Some(2), Some(2)));
        assert_eq!(counts("lose marks tombstones"), (None, None));
    }

    #[test]
    fn wal_goes_with_its_fragments_and_from_no_timeline_that_is_not_there() {
        let mut world = World::parse("| done 1d | wal 1:980-1010");
        let on = TimelineId::FIRST;
        for number in [981, 990] {
            let fragment = (on, SegmentNumber(number));
            world.catalog().wal.fragments.insert(fragment);
        }
        let span = |timeline| WalSpan {
            timeline,
            run: Run {
                first: SegmentNumber(980),
                last: SegmentNumber(989),
            },
        };
        let other = TimelineId::new(7).expect("not zero");
        let spans = vec![span(other)];
        let untouched = then(&world, &Action::DeleteWal { spans });
        assert_eq!(catalog(&untouched).wal, catalog(&world.observed).wal);
        let spans = vec![span(other), span(on)];
        let observed = then(&world, &Action::DeleteWal { spans });
        let wal = &catalog(&observed).wal;
        assert_eq!(wal.runs[&on][0].first, SegmentNumber(990));
        assert_eq!(wal.fragments, [(on, SegmentNumber(990))].into());
    }

    #[test]
    fn what_is_copied_is_there_as_it_is_where_it_comes_from() {
        let mut world = World::parse("| done 1d | orphan 20d | orphan 5d named:20261112T110000");
        let other = "| done 8d | done 9d nowal: | wal 1:910-960 2:950-960 | history 2:1@950";
        let other = World::parse(other);
        let from: DestinationName = "source".parse().expect("a name");
        let source = other.observed.destinations.into_values().next();
        let source = source.expect("one");
        world.observed.destinations.insert(from.clone(), source);
        let destination = &world.server.entries[0].destination;
        let copied = |action: &Action| {
            let now = world.now;
            let observed = after(&world.observed, destination, action, None, now);
            let stored = observed.destinations[destination].clone();
            stored.catalog.known().cloned().expect("it is known")
        };
        let second = TimelineId::new(2).expect("not zero");
        let span = WalSpan {
            timeline: second,
            run: Run {
                first: SegmentNumber(955),
                last: SegmentNumber(999),
            },
        };
        let wal = copied(&Action::CopyWal {
            from: from.clone(),
            spans: vec![span],
            histories: vec![second, TimelineId::new(3).expect("not zero")],
        });
        assert_eq!(
            wal.wal.runs[&second].iter().map(Run::segments).sum::<u64>(),
            6
        );
        assert_eq!(wal.wal.histories.keys().collect::<Vec<_>>(), [&second]);
        let version = "v".to_owned();
        let backup = |name: &str| Action::CopyBackup {
            backup: BackupId::new(name),
            from: from.clone(),
            version: version.clone(),
        };
        let with = copied(&backup("20261112T110000"));
        assert_eq!(with.backups.len(), 2);
        let orphans: Vec<_> = with.orphans.iter().map(|orphan| &orphan.id).collect();
        assert_eq!(orphans, [&world.id("20d")]);
        assert_eq!(with.wal.histories.len(), 1);
        assert_eq!(with.versions[&BackupId::new("20261112T110000")], version);
        let strange = copied(&backup("20261111T110000"));
        assert_eq!(strange.wal.runs, catalog(&world.observed).wal.runs);
        let without = copied(&backup("20200101T000000"));
        assert_eq!(without.backups.len(), 1, "it is gone there");
    }

    #[test]
    fn the_first_backup_makes_a_catalog() {
        let world = World::parse("schedule=@hourly | without catalog");
        let destination = &world.server.entries[0].destination;
        let taken = crate::model::scene::young("done", "0h");
        let action = &world.plan().steps[0].action;
        let observed = after(
            &world.observed,
            destination,
            action,
            Some(taken.clone()),
            world.now,
        );
        assert_eq!(catalog(&observed).backups, [taken]);
    }
}

//! README.md shows a configuration that compiles, and the plan that really follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use barkeep::{
    config::{
        compile::{Compiled, compile},
        load::from_texts,
    },
    model::{
        action::Action,
        backup::{ArchiveRoot, Backup, BackupId, BackupStatus, KeepTarget, StoredArchive},
        catalog::Catalog,
        compression::Compression,
        lock::{BucketRetention, Locks},
        observed::{
            ArchiveMode, Archiver, Knowledge, Locality, Observed, Role, ServerFacts, ServerFiles,
            Stored,
        },
        policy::Policy,
        record::{Baseline, Epitaph, Identity, Mark},
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentNumber, SegmentSize, SystemId},
    },
    plan::{plan, render},
};

use crate::documents::{blessed, read, repository};

const SYSTEM: SystemId = SystemId(7_710_434_261_317_052_111);
const DAY: Duration = Duration::from_hours(24);
/// How much WAL the server of the example writes in a day.
const SEGMENTS: u64 = 137;

/// What stands in a page between a line and the next fence.
fn block<'a>(page: &'a str, opening: &str) -> &'a str {
    let (_, rest) = page.split_once(opening).expect("the page has such a block");
    let (block, _) = rest.split_once("```").expect("the block ends");
    block
}

pub(crate) fn compiled(page: &str) -> Compiled {
    let text = block(page, "```toml\n");
    compile(from_texts(&[("README.md", text)])).unwrap_or_else(|report| panic!("{report}"))
}

pub(crate) fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// The segment in which the backup of a day begins, so many days after 1 October.
pub(crate) fn segment(day: u32) -> SegmentNumber {
    SegmentNumber(1000 + u64::from(day) * SEGMENTS)
}

/// The backup of a day.
fn backup(day: u32) -> Backup {
    let begin = instant("2026-10-01T02:00:03Z") + DAY * day;
    let segment = segment(day);
    let size = SegmentSize::DEFAULT;
    let wal = |number: SegmentNumber| number.name(TimelineId::FIRST, size);
    Backup {
        id: BackupId::at(begin.utc().naive_utc()),
        name: None,
        status: BackupStatus::Done,
        begin_time: Some(begin),
        end_time: Some(begin + Duration::from_secs(380)),
        begin_wal: Some(wal(segment)),
        end_wal: Some(wal(segment.next())),
        begin_lsn: Some(Lsn(segment.0 * size.bytes() + 40)),
        end_lsn: Some(Lsn(segment.next().0 * size.bytes() + 300)),
        timeline: Some(TimelineId::FIRST),
        system_id: Some(SYSTEM),
        version: Some(170_011),
        segment_size: size,
        pgdata: Some("/var/lib/postgresql/17/main".into()),
        tablespaces: Vec::new(),
        parent: None,
        children: Vec::new(),
        snapshots: Vec::new(),
        keep: None,
        archives: vec![StoredArchive {
            root: ArchiveRoot::Data,
            part: 0,
            compression: Compression::Lz4,
            bytes: 198 << 30,
        }],
        error: None,
        unknown_fields: Vec::new(),
    }
}

/// A server with a backup of every night from 30 October to 1 December, of which the first is marked. The first of October and of
/// November are kept.
pub(crate) fn observed(now: Timestamp) -> Observed {
    let mut catalog = Catalog::default();
    catalog
        .backups
        .extend([0].into_iter().chain(29..=61).map(backup));
    let versions = catalog.backups.iter();
    catalog.versions = versions.map(|b| (b.id.clone(), b.id.to_string())).collect();
    for first in [0, 3] {
        catalog.backups[first].keep = Some(KeepTarget::Standalone);
    }
    let last = segment(61).0 + 12;
    for number in [segment(0).0, segment(0).0 + 1]
        .into_iter()
        .chain(segment(29).0..=last)
    {
        catalog.wal.insert(TimelineId::FIRST, SegmentNumber(number));
    }
    let marked = backup(29);
    let mark = Mark {
        backup: marked.id.clone(),
        at: instant("2026-11-30T03:20:09Z"),
        epitaph: Epitaph {
            version: marked.id.to_string(),
            reason: String::new(),
        },
    };
    let stored = Stored {
        read_at: now,
        store_time: Knowledge::Known(now),
        catalog: Knowledge::Known(catalog),
        identity: Knowledge::Known(Identity {
            system_id: SYSTEM,
            pinned_at: instant("2026-10-18T14:11:40Z"),
        }),
        baseline: Knowledge::Known(Baseline {
            at: now,
            policy: Policy {
                retention: "RECOVERY WINDOW OF 30 DAYS".parse().ok(),
                minimum_redundancy: 1,
                keep_rules: Vec::new(),
            },
            backups: BTreeSet::new(),
            deleted: BTreeMap::new(),
        }),
        attempts: Knowledge::Known(BTreeMap::new()),
        tombstones: Knowledge::Known(Vec::new()),
        marks: Knowledge::Known(BTreeMap::from([(marked.id.clone(), mark)])),
        keep_records: Knowledge::Known(BTreeMap::new()),
        uploads: Knowledge::Known(Vec::new()),
        locks: Knowledge::Known(Locks::new(BucketRetention::NONE)),
        snapshots: Knowledge::Absent,
        disks: Knowledge::Absent,
    };
    let archived = SegmentNumber(last).name(TimelineId::FIRST, SegmentSize::DEFAULT);
    Observed {
        server: "orders".parse().expect("a name"),
        postgres: Knowledge::Known(ServerFacts {
            system_id: SYSTEM,
            version: 170_011,
            segment_size: SegmentSize::DEFAULT,
            role: Role::Primary,
            timeline: TimelineId::FIRST,
            history: None,
            data_directory: "/var/lib/postgresql/17/main".into(),
            files: ServerFiles::default(),
            position: Lsn((last + 1) * SegmentSize::DEFAULT.bytes()),
            summarized_from: None,
            slot: None,
            at_hand: Vec::new(),
            archiver: Archiver {
                mode: ArchiveMode::On,
                last_archived: Some(archived),
                last_archived_at: Some(now - Duration::from_secs(41)),
                ..Archiver::default()
            },
            clock: now,
        }),
        locality: Locality::Local,
        destinations: BTreeMap::from([("primary".parse().expect("a name"), stored)]),
    }
}

#[test]
fn the_plan_in_the_readme_is_what_the_configuration_in_it_gives() {
    let page = read("README.md");
    let desired = compiled(&page).desired;
    let server = desired.servers.values().next().expect("it has one");
    let location = |name: &_| desired.destinations[name].location.to_string();
    let now = instant("2026-12-01T03:40:11Z");
    let plan = plan(server, &observed(now), &location, now);
    let plans = [plan];
    let text = format!("{}{}\n", render::Text(&plans[0]), render::Summary(&plans));
    let opening = "```\n$ barkeep plan\n";
    let shown = block(&page, opening).to_owned();
    if blessed() {
        let old = format!("{opening}{shown}```");
        let page = page.replace(&old, &format!("{opening}{text}```"));
        fs::write(repository("README.md"), page).expect("write the page");
        return;
    }
    assert_eq!(shown, text, "run `BLESS=1 cargo test --test cli`");
}

#[test]
fn no_plan_keeps_and_deletes_one_backup() {
    let desired = compiled(&read("README.md")).desired;
    let server = desired.servers.values().next().expect("it has one");
    let now = instant("2026-12-01T03:40:11Z");
    let mut observed = observed(now);
    // The first of October and of November are not kept yet, and outside the window.
    let stored = observed
        .destinations
        .values_mut()
        .next()
        .expect("it has one");
    let Knowledge::Known(catalog) = &mut stored.catalog else {
        unreachable!("it was made above");
    };
    for backup in &mut catalog.backups {
        backup.keep = None;
    }
    let plan = plan(server, &observed, &|_| String::new(), now);
    let of = |wanted: fn(&Action) -> bool| -> Vec<String> {
        let steps = plan.steps.iter().filter(|step| wanted(&step.action));
        steps.map(barkeep::plan::Step::describe).collect()
    };
    let kept = of(|action| matches!(action, Action::SetKeep { .. }));
    let deleted = of(|action| {
        matches!(
            action,
            Action::DeleteBackup { .. } | Action::MarkDelete { .. }
        )
    });
    assert_eq!(
        kept,
        [
            "keep 20261001T020003",
            "keep 20261101T020003",
            "keep 20261201T020003"
        ]
    );
    assert_eq!(deleted, ["mark 20261031T020003", "delete 20261030T020003"]);
}

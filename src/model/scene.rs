//! Catalogs as one line of text, for tables of tests.
//!
//! `REDUNDANCY 2 min 1 | done 1d | failed 3d | done 8d keep:full tl:2`: a policy, then backups by
//! their age. A backup takes an hour and needs two segments, ten more each day; day 0 begins with
//! segment 1000. Unless a scene says otherwise (`wal 1:900-1010 2:1000-1010`), the archive holds
//! the segments 1 to 1010 of every timeline that is mentioned. `history 2:1@1005` is a timeline's
//! history.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use barkeep::failure::{Failure, Kind};
use barkeep::model::{
    backup::{ArchiveRoot, Backup, BackupId, BackupStatus, KeepTarget, StoredArchive},
    catalog::{Catalog, Run},
    compression::Compression,
    judge::{Facts, Rule},
    reason::Reason,
    time::Timestamp,
    timeline::{Branch, TimelineHistory, TimelineId},
    wal::{SegmentNumber, SegmentSize, SystemId},
};

/// A catalog with what a judgement needs, and the ages by which its tests call the backups.
pub(crate) struct Scene {
    pub(crate) catalog: Catalog,
    pub(crate) rule: Rule,
    pub(crate) facts: Facts,
    labels: BTreeMap<BackupId, String>,
}

/// The present of every scene.
pub(crate) fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("an instant")
}

pub(crate) fn timeline(text: &str) -> TimelineId {
    TimelineId::new(number(text)).expect("a timeline is not 0")
}

pub(crate) fn number<T: std::str::FromStr>(text: &str) -> T {
    let parsed = text.parse().ok();
    parsed.unwrap_or_else(|| panic!("`{text}` is no number"))
}

impl Scene {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = text.split('|').map(str::trim);
        let rule = rule(parts.next().unwrap_or_default());
        let mut scene = Self {
            catalog: Catalog::default(),
            rule,
            facts: Facts::at(now()),
            labels: BTreeMap::new(),
        };
        for part in parts {
            match part.split_once(' ').unwrap_or((part, "")) {
                ("wal", runs) => runs.split_whitespace().for_each(|run| scene.wal(run)),
                ("history", history) => scene.history(history),
                (status, rest) => scene.backup(status, rest),
            }
        }
        scene
            .catalog
            .backups
            .sort_by(|one, two| one.id.cmp(&two.id));
        if scene.catalog.wal.runs.is_empty() {
            let mut timelines: Vec<_> = scene.timelines().collect();
            timelines.dedup();
            for timeline in timelines {
                let run = Run {
                    first: SegmentNumber(1),
                    last: SegmentNumber(1010),
                };
                scene.catalog.wal.runs.insert(timeline, vec![run]);
            }
        }
        scene
    }

    /// A scene of [`scenes`], in which each id occurs once.
    pub(crate) fn distinct(text: &str) -> Self {
        let text = text.replace("|  |", "|");
        let mut scene = Self::parse(text.trim_end_matches(['|', ' ']));
        let catalog = &mut scene.catalog;
        catalog.backups.dedup_by(|one, two| one.id == two.id);
        let unreadable = &catalog.unreadable;
        catalog
            .backups
            .retain(|backup| !unreadable.contains_key(&backup.id));
        scene
    }

    fn timelines(&self) -> impl Iterator<Item = TimelineId> + use<> {
        let of_backups = self.catalog.backups.iter().filter_map(|b| b.timeline);
        let of_histories = self.catalog.wal.histories.keys().copied();
        of_backups
            .chain(of_histories)
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// `1:900-1010`
    fn wal(&mut self, run: &str) {
        let (on, run) = run.split_once(':').expect("a timeline");
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        for segment in number(first)..=number(last) {
            self.catalog
                .wal
                .insert(timeline(on), SegmentNumber(segment));
        }
    }

    /// `3:1@900,2@950`: the timelines were left where these segments begin.
    fn history(&mut self, text: &str) {
        let (of, branches) = text.split_once(':').expect("a timeline");
        let branch = |branch: &str| {
            let (from, at) = branch.split_once('@').expect("a switch");
            Branch {
                timeline: timeline(from),
                switch: SegmentNumber(number(at)).start(SegmentSize::DEFAULT),
                reason: String::new(),
            }
        };
        let history = TimelineHistory {
            timeline: timeline(of),
            branches: branches.split(',').map(branch).collect(),
        };
        self.catalog.wal.histories.insert(history.timeline, history);
    }

    fn backup(&mut self, status: &str, rest: &str) {
        let mut words = rest.split_whitespace();
        let age = words.next().expect("an age");
        let mut backup = young(status, age);
        for word in words {
            match word.split_once(':').unwrap_or((word, "")) {
                ("keep", "full") => backup.keep = Some(KeepTarget::Full),
                ("keep", _) => backup.keep = Some(KeepTarget::Standalone),
                ("sys", id) => backup.system_id = Some(SystemId(number(id))),
                ("v", major) => backup.version = Some(number::<u32>(major) * 10_000),
                ("id", id) => backup.id = BackupId::new(id),
                ("name", name) => backup.name = Some(name.to_owned()),
                ("parent", id) => backup.parent = Some(BackupId::new(id)),
                ("child", id) => backup.children.push(BackupId::new(id)),
                ("tl", on) => place(&mut backup, timeline(on), None),
                ("begin", segment) => {
                    let on = backup.timeline.unwrap_or(TimelineId::FIRST);
                    place(&mut backup, on, Some(number(segment)));
                }
                ("empty", _) => backup.archives.clear(),
                ("lost", snapshot) => {
                    backup.snapshots.push(snapshot.to_owned());
                    let lost = &mut self.catalog.lost_snapshots;
                    lost.insert(backup.id.clone(), snapshot.to_owned());
                }
                ("noend", _) => backup.end_time = None,
                ("nowal", _) => backup.begin_wal = None,
                ("later", field) => backup.unknown_fields.push(field.to_owned()),
                ("pages", _) => {
                    self.catalog.page_damage.insert(backup.id.clone());
                }
                ("protected", _) => {
                    self.facts
                        .protected
                        .insert(backup.id.clone(), Reason::Requested);
                }
                _ => panic!("unknown word `{word}`"),
            }
        }
        self.labels.insert(backup.id.clone(), age.to_owned());
        if status == "unreadable" {
            let why = Failure::new(Kind::Failed, "nonsense");
            self.catalog.unreadable.insert(backup.id, why);
        } else {
            self.catalog.backups.push(backup);
        }
    }

    /// What a test calls each backup.
    pub(crate) fn labels(&self) -> &BTreeMap<BackupId, String> {
        &self.labels
    }

    /// What a test calls a backup.
    pub(crate) fn label<'a>(&'a self, id: &'a BackupId) -> &'a str {
        self.labels.get(id).map_or(id.as_str(), String::as_str)
    }

    /// The backup that a test calls so.
    pub(crate) fn id(&self, label: &str) -> BackupId {
        let mut labels = self.labels.iter();
        let found = labels.find(|(_, known)| *known == label);
        found.map_or_else(|| BackupId::new(label), |(id, _)| id.clone())
    }
}

/// `REDUNDANCY 2 min 1`, or `none`.
fn rule(text: &str) -> Rule {
    let (policy, minimum) = text.split_once(" min ").unwrap_or((text, "0"));
    Rule {
        policy: (policy != "none").then(|| policy.parse().expect("a policy")),
        minimum_redundancy: number(minimum),
    }
}

/// So long before the present of every scene: `1d`, `12h`, `5m`, or `-1h` for the future.
pub(crate) fn instant(age: &str) -> Timestamp {
    let (sign, age) = age.strip_prefix('-').map_or((1, age), |age| (-1, age));
    if sign < 0 {
        now() + span(age)
    } else {
        now() - span(age)
    }
}

/// `1d`, `12h`, `5m`
pub(crate) fn span(text: &str) -> Duration {
    let (count, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "d" => Duration::from_hours(24),
        "h" => Duration::from_hours(1),
        "m" => Duration::from_mins(1),
        _ => panic!("`{text}` is no span"),
    };
    unit * number::<u32>(count)
}

/// A backup of the kind that scenes have, that took an hour and ended so long ago.
pub(crate) fn young(status: &str, age: &str) -> Backup {
    let end = instant(age);
    let days = now().since(end).as_secs() / 86_400;
    let begin = end - Duration::from_hours(1);
    let known = status.to_ascii_uppercase().parse();
    let status = if status == "unreadable" {
        BackupStatus::Done
    } else {
        known.expect("a status")
    };
    let mut backup = Backup {
        id: BackupId::at(begin.utc().naive_utc()),
        name: None,
        status,
        begin_time: Some(begin),
        end_time: (status != BackupStatus::Started).then_some(end),
        begin_wal: None,
        end_wal: None,
        begin_lsn: None,
        end_lsn: None,
        timeline: None,
        system_id: Some(SystemId(1)),
        version: Some(180_001),
        segment_size: SegmentSize::DEFAULT,
        pgdata: None,
        tablespaces: Vec::new(),
        parent: None,
        children: Vec::new(),
        snapshots: Vec::new(),
        keep: None,
        archives: vec![StoredArchive {
            root: ArchiveRoot::Data,
            part: 0,
            compression: Compression::None,
            bytes: 1,
        }],
        error: None,
        unknown_fields: Vec::new(),
    };
    place(
        &mut backup,
        TimelineId::FIRST,
        Some(1000 - 10 * days.min(99)),
    );
    backup
}

/// Gives a backup its two segments.
pub(crate) fn place(backup: &mut Backup, on: TimelineId, segment: Option<u64>) {
    let size = SegmentSize::DEFAULT;
    let begin = segment
        .map(SegmentNumber)
        .or(backup.begin_wal.map(|name| name.number(size)));
    let begin = begin.unwrap_or(SegmentNumber(1));
    backup.timeline = Some(on);
    backup.begin_wal = Some(begin.name(on, size));
    backup.begin_lsn = Some(barkeep::model::wal::Lsn(begin.start(size).0 + 40));
    if backup.status != BackupStatus::Started {
        backup.end_wal = Some(begin.next().name(on, size));
        backup.end_lsn = Some(barkeep::model::wal::Lsn(begin.next().start(size).0 + 256));
    }
}

/// Scenes of up to a dozen backups of every kind, for laws.
pub(crate) fn scenes() -> impl Strategy<Value = String> {
    let policy = prop_oneof![
        (0_u32..4).prop_map(|count| format!("REDUNDANCY {count}")),
        (0_u32..12).prop_map(|days| format!("RECOVERY WINDOW OF {days} DAYS")),
        Just("none".to_owned()),
    ];
    let status = prop_oneof![
        8 => Just("done"),
        1 => prop::sample::select(vec![
            "started", "failed", "waiting_for_wals", "empty", "unreadable",
        ]),
    ];
    let word = prop_oneof![
        6 => Just(String::new()),
        1 => prop::sample::select(vec![
            "keep:full", "keep:standalone", "sys:2", "v:17", "empty:", "noend:", "nowal:", "tl:2",
            "tl:3", "protected:", "begin:5", "begin:2000", "parent:20261119T110000",
        ]).prop_map(str::to_owned),
    ];
    let backup = (status, -1_i32..120, word.clone(), word)
        .prop_map(|(status, age, one, two)| format!("{status} {age}d {one} {two}"));
    let history = prop_oneof![
        Just(""),
        Just(" | history 2:1@950"),
        Just(" | history 2:1@950 | history 3:1@950,2@980"),
        Just(" | history 3:1@930"),
    ];
    (
        policy,
        0_u32..4,
        prop::collection::vec(backup, 0..12),
        history,
    )
        .prop_map(|(policy, minimum, backups, history)| {
            format!("{policy} min {minimum} | {}{history}", backups.join(" | "))
        })
}

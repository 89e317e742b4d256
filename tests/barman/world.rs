//! Random catalogs: objects as they lie in a store, and what barkeep reads from them.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use barkeep::{
    failure::{Failure, Kind},
    format::{
        annotations,
        backup_info::BackupInfo,
        history,
        keys::{BaseObject, ObjectKey},
    },
    model::{
        backup::{BackupId, KeepTarget, StoredArchive},
        catalog::Catalog,
        judge::Rule,
        schedule::Zone,
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentName, SegmentNumber, SegmentSize, WalFile},
    },
};
use serde_json::{Value, json};

use crate::support::{dice::Dice, peer::ZONE};

/// A catalog as objects, and the question what a policy removes from it.
#[derive(Clone)]
pub(crate) struct World {
    /// Keys below the server's directory.
    pub(crate) objects: BTreeMap<String, String>,
    /// The policy in the words that Barman gets.
    policy: String,
    pub(crate) rule: Rule,
    pub(crate) now: Timestamp,
    /// Whether the store lists prefixes, as S3 does.
    pub(crate) listing: &'static str,
}

/// Four segments share a directory, so that catalogs are small and directories many.
fn size() -> SegmentSize {
    SegmentSize::new(1 << 30).expect("a size")
}

pub(crate) fn zone() -> Zone {
    Zone::new(ZONE, jiff::tz::TimeZone::get(ZONE).expect("a zone"))
}

/// The first segment that a backup of so many hours needs: one more every day, about.
fn first_of(age: u64, dice: &mut Dice) -> SegmentNumber {
    SegmentNumber((42 - age / 24).saturating_sub(dice.roll(2)))
}

fn timeline(number: u64) -> TimelineId {
    let number = u32::try_from(number).expect("a small number");
    TimelineId::new(number).expect("not zero")
}

/// A `backup.info` of a backup that began then, and needs WAL from that segment on.
fn record(begin: Timestamp, first: SegmentNumber, dice: &mut Dice) -> String {
    let done = ["DONE"; 9];
    let other = ["FAILED", "STARTED", "WAITING_FOR_WALS", "SYNCING", "EMPTY"];
    let status = dice.pick(&[&done[..], &other[..]].concat());
    let over = !matches!(status, "STARTED" | "EMPTY" | "FAILED");
    let on = timeline(1 + dice.roll(8) / 5 + dice.roll(12) / 11);
    let comment = if dice.percent(5) {
        "# a comment = here\n\n"
    } else {
        ""
    };

    let mut info = comment.to_owned();
    let mut field = |name: &str, value: &dyn fmt::Display| {
        writeln!(info, "{name}={value}").expect("a string grows");
    };
    field("begin_time", &time(begin, dice));
    if !dice.percent(2) {
        field("begin_wal", &first.name(on, size()));
    }
    field("begin_xlog", &Lsn(first.start(size()).0 + 40));
    if over {
        let minutes = if dice.percent(50) { 60 } else { dice.roll(180) };
        let end = begin + Duration::from_secs(60 * minutes);
        if !dice.percent(1) {
            field("end_time", &time(end, dice));
        }
        let last = SegmentNumber(first.0 + dice.roll(2));
        let promoted = dice.percent(5);
        let ends_on = timeline(u64::from(on.number()) + u64::from(promoted));
        field("end_wal", &last.name(ends_on, size()));
        field("end_xlog", &Lsn(last.start(size()).0 + 400));
    }
    field("timeline", &on.number());
    field(
        "systemid",
        &dice.pick(&["1", "1", "1", "1", "1", "1", "2", "None"]),
    );
    field(
        "version",
        &dice.pick(&["180001", "180001", "180001", "170004"]),
    );
    field("xlog_segment_size", &size().bytes());
    field("size", &"None");
    field("status", &status);
    info
}

impl World {
    /// The catalog that a number stands for.
    pub(crate) fn random(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let policy = if dice.percent(50) {
            format!(" Redundancy {}", dice.roll(5))
        } else {
            let unit = dice.pick(&["Days", "WEEK", "day"]);
            format!("recovery  window of {} {unit}", dice.roll(5))
        };
        let mut world = Self {
            objects: BTreeMap::new(),
            rule: Rule {
                policy: Some(policy.parse().expect("a policy")),
                minimum_redundancy: u32::try_from(dice.roll(4)).expect("a small number"),
            },
            policy,
            // Shortly after the night in which Rome's clocks go back.
            now: "2026-11-02T12:00:00Z".parse().expect("an instant"),
            listing: dice.pick(&["s3", "gcs"]),
        };
        for _ in 0..dice.roll(11) {
            world.backup(&mut dice);
        }
        world.link(&mut dice);
        world.wal(&mut dice);
        world
    }

    fn backup(&mut self, dice: &mut Dice) {
        // Some end exactly where a window may begin.
        let days = dice.percent(30);
        let age = if days {
            24 * dice.roll(30)
        } else {
            dice.roll(30 * 24)
        };
        let begin = self.now - Duration::from_hours(age + 1);
        let id = match dice.roll(40) {
            0 => "lost+found".to_owned(),
            1 => "20260101T000000".to_owned(),
            _ => BackupId::at(zone().local(begin)).to_string(),
        };
        let directory = format!("base/{id}");
        if !dice.percent(3) {
            let mut info = record(begin, first_of(age, dice), dice);
            if dice.percent(1) {
                let odd = ["nonsense\n", "size=x\n", "end_time=never\n", "later=1\n"];
                info.push_str(dice.pick(&odd));
            }
            self.put(&format!("{directory}/backup.info"), &info);
        }
        if !dice.percent(4) {
            let extension = dice.pick(&["", ".gz", ".lz4"]);
            self.put(&format!("{directory}/data.tar{extension}"), "x");
        }
        if dice.percent(12) {
            let keep = dice.pick(&["full", "standalone", "standalone", "standalone\n", "other"]);
            self.put(&format!("{directory}/annotations/keep"), keep);
        }
    }

    fn put(&mut self, key: &str, text: &str) {
        self.objects.insert(key.to_owned(), text.to_owned());
    }

    /// Makes some backups incremental.
    fn link(&mut self, dice: &mut Dice) {
        let infos: Vec<String> = self
            .objects
            .keys()
            .filter(|key| key.ends_with("backup.info"))
            .cloned()
            .collect();
        for key in &infos {
            let id = |key: &str| key.split('/').nth(1).expect("a directory").to_owned();
            if dice.percent(5) {
                let parent =
                    id(&infos[usize::try_from(dice.roll(infos.len() as u64)).expect("small")]);
                let text = self.objects.get_mut(key).expect("it is there");
                writeln!(text, "parent_backup_id={parent}").expect("a string grows");
            }
            if dice.percent(1) {
                let text = self.objects.get_mut(key).expect("it is there");
                text.push_str("children_backup_ids=20260101T000000\n");
            }
        }
    }

    fn wal(&mut self, dice: &mut Dice) {
        for number in 1..=1 + dice.roll(3) {
            let timeline = timeline(number);
            if number > 1 && dice.percent(70) {
                let text = history_of(number, dice);
                self.put(&format!("wals/{timeline}.history"), &text);
            }
            let gaps = dice.roll(4);
            for segment in dice.roll(10)..45 {
                if dice.percent(gaps) {
                    continue;
                }
                self.segment(SegmentNumber(segment).name(timeline, size()), dice);
            }
        }
        if dice.percent(10) {
            self.put("wals/junk.txt", "x");
            self.put("wals/000000010000000G/x", "x");
        }
    }

    fn segment(&mut self, name: SegmentName, dice: &mut Dice) {
        let stem = format!("wals/{}/{name}", name.directory());
        let extension = dice.pick(&["", ".gz", ".zst", ".xz"]);
        let kind = dice.roll(40);
        if kind != 0 {
            self.put(&format!("{stem}{extension}"), "x");
        }
        match kind {
            0 | 1 => self.put(&format!("{stem}.partial{extension}"), "x"),
            2 | 3 => self.put(&format!("{stem}.00000028.backup{extension}"), "x"),
            4 => self.put(&format!("{stem}.bz2"), "x"),
            _ => {}
        }
    }

    /// Another backup, just below the one with this id, which any policy that judges it finds
    /// obsolete.
    pub(crate) fn with_ghost(
        &self,
        above: &BackupId,
        timeline: Option<TimelineId>,
    ) -> (Self, String) {
        let mut world = self.clone();
        // Ids end with whole minutes, so nothing lies between this text and the other.
        let (head, _) = above.as_str().split_at(above.as_str().len() - 1);
        let id = format!("{head}+");
        let timeline = timeline.map_or(String::new(), |timeline| {
            format!("timeline={}\n", timeline.number())
        });
        let info = format!("status=DONE\nend_time=2026-11-02 12:00:00+00:00\n{timeline}");
        world.put(&format!("base/{id}/backup.info"), &info);
        (world, id)
    }

    /// The question for Barman.
    pub(crate) fn question(&self) -> Value {
        json!({
            "ask": "expire",
            "objects": self.objects,
            "policy": self.policy,
            "minimum": self.rule.minimum_redundancy,
            "now": self.now.to_string().replace('Z', "+00:00"),
            "listing": self.listing,
        })
    }

    /// What barkeep reads.
    pub(crate) fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::default();
        let mut archives: BTreeMap<BackupId, Vec<StoredArchive>> = BTreeMap::new();
        let mut keeps: BTreeMap<BackupId, KeepTarget> = BTreeMap::new();
        let mut infos: BTreeMap<BackupId, &str> = BTreeMap::new();
        for (key, text) in &self.objects {
            match ObjectKey::parse(key) {
                ObjectKey::Base(id, BaseObject::Info) => drop(infos.insert(id, text)),
                ObjectKey::Base(id, BaseObject::Archive(name)) => {
                    archives.entry(id).or_default().push(name.stored(1));
                }
                ObjectKey::Base(id, BaseObject::Keep) => {
                    keeps.insert(id, annotations::parse(text.as_bytes()));
                }
                ObjectKey::Wal(object) => file(&mut catalog, object.file, text),
                _ => {}
            }
        }
        for (id, text) in infos {
            let archives = archives.remove(&id).unwrap_or_default();
            let keep = keeps.get(&id).copied();
            let backup = BackupInfo::parse(text.as_bytes())
                .and_then(|info| info.to_backup(id.clone(), archives, keep, &zone()));
            match backup {
                Ok(backup) => catalog.backups.push(backup),
                Err(error) => {
                    catalog
                        .unreadable
                        .insert(id, Failure::of(Kind::Failed, &error));
                }
            }
        }
        catalog
    }
}

fn file(catalog: &mut Catalog, file: WalFile, text: &str) {
    match file {
        WalFile::Segment(name) => catalog.wal.insert(name.timeline, name.number(size())),
        WalFile::Partial(name) | WalFile::BackupHistory(name, _) => {
            let fragment = (name.timeline, name.number(size()));
            catalog.wal.fragments.insert(fragment);
        }
        WalFile::History(timeline) => {
            let history = history::parse(timeline, text.as_bytes()).expect("a history");
            catalog.wal.histories.insert(timeline, history);
        }
    }
}

/// The number of a segment, whatever file of it an object is; none for histories and for junk.
pub(crate) fn segment_of(key: &str) -> Option<(TimelineId, SegmentNumber)> {
    let ObjectKey::Wal(object) = ObjectKey::parse(key) else {
        return None;
    };
    let name = object.file.segment()?;
    Some((name.timeline, name.number(size())))
}

fn history_of(timeline: u64, dice: &mut Dice) -> String {
    let first = 20 + dice.roll(10);
    let switch = |segment: u64| SegmentNumber(segment).start(size());
    let root = format!("1\t{}\twhy\n", switch(first));
    match timeline {
        3 if dice.percent(50) => format!("{root}2\t{}\twhy\n", switch(first + dice.roll(8))),
        _ => root,
    }
}

/// An instant in one of the forms that a Barman wrote or reads.
fn time(instant: Timestamp, dice: &mut Dice) -> String {
    let utc = instant.utc().naive_utc();
    let hours = dice.pick(&[0_i64, 1, -5, 9]);
    let there = utc + chrono::TimeDelta::hours(hours);
    match dice.roll(8) {
        0 => zone()
            .local(instant)
            .format("%a %b %e %H:%M:%S %Y")
            .to_string(),
        1 => zone()
            .local(instant)
            .format("%Y-%m-%d %H:%M:%S")
            .to_string(),
        2 => there
            .format(&format!("%Y-%m-%dT%H:%M:%S.250000{hours:+03}:00"))
            .to_string(),
        _ => there
            .format(&format!("%Y-%m-%d %H:%M:%S{hours:+03}:00"))
            .to_string(),
    }
}

//! A catalog read a second time, in the simplest way: every invariant is checked on this reading, which shares nothing with the program's.

use std::collections::{BTreeMap, BTreeSet};

use barkeep::model::time::Timestamp;
use chrono::DateTime;

use crate::{cloud::DISKS, place::Place};

/// A segment: its timeline and its number, in segments of 1 MiB.
pub(crate) type Segment = (u32, u64);

/// What lies below `base/<id>/`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    /// The lines of `backup.info`, if there is one.
    pub(crate) info: Option<BTreeMap<String, String>>,
    /// What the keep says, if there is one.
    pub(crate) keep: Option<String>,
    /// The paths of all its objects with their sizes.
    pub(crate) objects: BTreeMap<String, usize>,
}

/// One server's catalog in one destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) directories: BTreeMap<String, Directory>,
    pub(crate) wal: BTreeSet<Segment>,
    /// The snapshots of disks that there are, of whomever.
    snapshots: BTreeSet<String>,
}

/// Which backups stay, as a command line of Barman would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Redundancy(usize),
    /// In seconds.
    Window(i64),
}

impl Catalog {
    pub(crate) fn read(place: &Place, server: &str) -> Self {
        let mut catalog = Self {
            snapshots: place.cloud.snapshots().keys().cloned().collect(),
            ..Self::default()
        };
        for (key, content) in place.memory.contents() {
            let Some(path) = key.as_str().strip_prefix(&format!("{server}/")) else {
                continue;
            };
            let parts: Vec<&str> = path.splitn(3, '/').collect();
            match parts[..] {
                ["base", id, rest] => {
                    let directory = catalog.directories.entry(id.to_owned()).or_default();
                    let text = || String::from_utf8_lossy(&content).into_owned();
                    match rest {
                        "backup.info" => directory.info = Some(lines(&text())),
                        "annotations/keep" => directory.keep = Some(text()),
                        _ => {}
                    }
                    directory.objects.insert(rest.to_owned(), content.len());
                }
                ["wals", _, file] => catalog.wal.extend(segment_of(file)),
                _ => {}
            }
        }
        catalog
    }

    /// The complete backups, newest first by id.
    pub(crate) fn done(&self) -> Vec<(&String, &Directory)> {
        let all = self.directories.iter().rev();
        all.filter(|(_, backup)| backup.status() == "DONE")
            .collect()
    }

    /// Whether a restore would find all that it reads, of what an incremental builds on, too.
    pub(crate) fn is_good(&self, backup: &Directory) -> bool {
        let whole = |backup: &Directory| backup.status() == "DONE" && self.lacks(backup).is_none();
        whole(backup)
            && match backup.parent() {
                None => true,
                Some(parent) => self
                    .directories
                    .get(parent)
                    .is_some_and(|of| self.is_good(of)),
            }
    }

    /// The full backup with which the chain of one begins: itself, if it is full.
    fn root<'a>(&'a self, id: &'a str) -> Option<&'a str> {
        match self.directories.get(id)?.parent() {
            None => Some(id),
            Some(parent) => self.root(parent),
        }
    }

    /// The complete backups that build on one.
    pub(crate) fn children(&self, id: &str) -> Vec<&String> {
        let done = self.done().into_iter();
        let children = done.filter(|(_, backup)| backup.parent() == Some(id));
        children.map(|(child, _)| child).collect()
    }

    /// What a restore would not find.
    pub(crate) fn lacks(&self, backup: &Directory) -> Option<String> {
        let data = |(path, size): (&String, &usize)| path.starts_with("data.tar") && *size > 0;
        let recorded = backup.snapshots();
        if recorded.is_empty() && !backup.objects.iter().any(data) {
            return Some("data.tar".to_owned());
        }
        let mut recorded = recorded.into_iter();
        if let Some(lost) = recorded.find(|name| !self.snapshots.contains(*name)) {
            return Some(lost.to_owned());
        }
        let (Some((begin_on, begin)), Some((end_on, end))) =
            (backup.segment("begin_wal"), backup.segment("end_wal"))
        else {
            return Some("its WAL".to_owned());
        };
        let missing = (begin..=end).find(|number| {
            ![begin_on, end_on]
                .iter()
                .any(|on| self.wal.contains(&(*on, *number)))
        });
        missing.map(|number| format!("segment {number} of timeline {begin_on}"))
    }

    /// What Barman 3.19 calls obsolete at an instant, kept backups apart: full ones, and what builds on them.
    pub(crate) fn obsolete(
        &self,
        rule: Option<Rule>,
        minimum: usize,
        now: Timestamp,
    ) -> BTreeSet<String> {
        let mut done = self.done();
        done.retain(|(_, backup)| backup.parent().is_none());
        let stays: usize = match rule {
            None => done.len(),
            Some(Rule::Redundancy(count)) => count.max(minimum),
            Some(Rule::Window(seconds)) => {
                let begin = now.unix_seconds() - seconds;
                let inside = |(_, backup): &&(&String, &Directory)| {
                    backup
                        .time("end_time")
                        .is_none_or(|end| end.unix_seconds() >= begin)
                };
                // And the one that ended before it: recovery to its beginning starts there.
                let inside = done.iter().take_while(inside).count() + 1;
                inside.max(minimum)
            }
        };
        let outside = done.into_iter().skip(stays);
        let full: BTreeSet<&String> = outside
            .filter(|(_, backup)| backup.keep.is_none())
            .map(|(id, _)| id)
            .collect();
        let goes = |id: &str| {
            self.root(id)
                .is_some_and(|root| full.iter().any(|id| *id == root))
        };
        let all = self.done().into_iter();
        let free = all.filter(|(id, backup)| backup.keep.is_none() && goes(id));
        free.map(|(id, _)| id.clone()).collect()
    }
}

impl Directory {
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        let value = self.info.as_ref()?.get(field)?;
        (value != "None").then_some(value.as_str())
    }

    /// The snapshots that it records.
    pub(crate) fn snapshots(&self) -> Vec<&str> {
        let text = self.get("snapshots_info").unwrap_or_default();
        let of_a_disk = |word: &&str| {
            let mut disks = DISKS.iter();
            disks.any(|disk| word.contains(&format!("-{disk}-")))
        };
        text.split(['\'', '"']).filter(of_a_disk).collect()
    }

    /// What it builds on.
    pub(crate) fn parent(&self) -> Option<&str> {
        self.get("parent_backup_id")
    }

    /// The status; empty without a `backup.info`, or if it says none.
    pub(crate) fn status(&self) -> &str {
        self.get("status").unwrap_or_default()
    }

    pub(crate) fn segment(&self, field: &str) -> Option<Segment> {
        segment_of(self.get(field)?)
    }

    pub(crate) fn time(&self, field: &str) -> Option<Timestamp> {
        let text = self.get(field)?;
        let parsed = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z");
        Some(Timestamp::from(parsed.ok()?.to_utc()))
    }
}

fn lines(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(field, value)| (field.to_owned(), value.to_owned()))
        .collect()
}

/// `000000010000000000000003.gz`
pub(crate) fn segment_of(name: &str) -> Option<Segment> {
    let (digits, rest) = name.split_at_checked(24)?;
    let whole = rest.is_empty() || rest == ".gz";
    let part = |at: usize| u64::from_str_radix(digits.get(at..at + 8)?, 16).ok();
    let on = u32::try_from(part(0)?).ok()?;
    whole.then_some((on, part(8)? * 4096 + part(16)?))
}

//! Which WAL may go, as runs of segments per timeline. Timeline histories never go.
//!
//! [`BARMAN`](super::semantics::BARMAN) is Barman 3.19's rule: WAL goes with a backup, one cycle
//! per deleted backup, smallest id first. A cycle does anything only if every complete backup below
//! the deleted one is kept `standalone`; it then takes what sorts by name before the next complete
//! backup's first segment, except timelines of other backups and what the standalone ones need.
//! (Where a standalone backup spans timelines, Barman may remove some of its WAL by directory;
//! that is not repeated here. Two objects of one segment go together.)
//!
//! [`SAFE`](super::semantics::SAFE) may be asked at any time. A segment goes if no backup that is
//! still there can reach it: it lies before the first segment of each backup whose timeline is its
//! own, an ancestor or a descendant; where a timeline is none of these to any backup, all of it.
//! What standalone keeps need stays. Nothing goes where a backup does not say what it needs, where
//! one is unreadable, where segment sizes differ, or where a cluster would be left without a good
//! backup. Backups count as there until they are really gone, also while they wait for their turn.
//!
//! And what goes under `SAFE` is a subset of what Barman would remove. Since Barman removes WAL
//! only together with a backup, that means: what a Barman run over this catalog removes, or would
//! have removed together with a backup that once stood between two others and that Barman would
//! call obsolete there. So WAL also stays until the policy has made some backup obsolete.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    action::WalSpan,
    backup::{Backup, BackupId, BackupStatus, KeepTarget},
    catalog::{Catalog, Run, WalArchive},
    judge::{Verdicts, WalNeed},
    runs::Runs,
    semantics::{Semantics, WalRule},
    timeline::TimelineId,
    wal::{SegmentName, SegmentNumber, SystemId, WalFile},
};

/// The backups that go now, and who wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Going {
    /// Their ids.
    pub backups: BTreeSet<BackupId>,
    /// Who wants it.
    pub wanted_by: WantedBy,
}

/// Who wants a backup to go. Barman spares WAL around standalone keeps when a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedBy {
    /// The policy.
    Policy,
    /// A person.
    Person,
}

/// Which WAL may go once `going` is gone; ascending.
///
/// Only segments that the archive holds are named, whole or as fragments.
pub fn wal_expiry(
    catalog: &Catalog,
    verdicts: &Verdicts,
    going: &Going,
    semantics: Semantics,
) -> Vec<WalSpan> {
    if !is_one_size(catalog) {
        return Vec::new();
    }
    let archive = present(&catalog.wal);
    let may_go = match semantics.wal {
        WalRule::WithBackups => barman_run(catalog, &archive, going),
        WalRule::Unneeded => {
            let unneeded = Unneeded::new(catalog, verdicts, going);
            let mut may_go = removable(catalog, verdicts, &archive);
            for (timeline, runs) in &mut may_go {
                *runs = runs.intersection(&unneeded.of(*timeline));
            }
            may_go
        }
    };
    let span = |timeline: TimelineId| move |run| WalSpan { timeline, run };
    let spans = archive.iter().filter_map(|(timeline, there)| {
        let goes = there.intersection(may_go.get(timeline)?);
        Some(goes.iter().map(span(*timeline)).collect::<Vec<_>>())
    });
    spans.flatten().collect()
}

/// Sets of segments, for the timelines of the archive.
type Archive = BTreeMap<TimelineId, Runs>;

/// What is there, whole or as fragments.
fn present(wal: &WalArchive) -> Archive {
    let mut runs: BTreeMap<TimelineId, Vec<Run>> = wal.runs.clone();
    for (timeline, segment) in &wal.fragments {
        let (first, last) = (*segment, *segment);
        runs.entry(*timeline).or_default().push(Run { first, last });
    }
    let sets = runs.into_iter();
    sets.map(|(timeline, runs)| (timeline, runs.into_iter().collect()))
        .collect()
}

/// Adds a set for each timeline of the archive.
fn add(all: &mut Archive, archive: &Archive, set: impl Fn(TimelineId) -> Runs) {
    for timeline in archive.keys() {
        all.entry(*timeline).or_default().extend(&set(*timeline));
    }
}

/// A segment's number depends on the segment size; with several sizes a name has several numbers.
fn is_one_size(catalog: &Catalog) -> bool {
    let mut backups = catalog.backups.iter();
    backups.all(|backup| backup.segment_size == catalog.segment_size())
}

/// What Barman's run removes where it is there.
fn barman_run(catalog: &Catalog, archive: &Archive, going: &Going) -> Archive {
    let mut gone = Archive::new();
    let size = catalog.segment_size();
    for (_, cycle) in barman_cycles(catalog, going) {
        if let Some(cycle) = cycle {
            add(&mut gone, archive, |timeline| cycle.removes(timeline, size));
        }
    }
    gone
}

/// Barman's run: what it does with WAL after each deleted backup, smallest id first; `None` where
/// WAL stays. Where Barman would fail, on a backup without its WAL recorded, no more of it goes.
pub fn barman_cycles(catalog: &Catalog, going: &Going) -> Vec<(BackupId, Option<Cycle>)> {
    let mut backups: Vec<&Backup> = catalog.backups.iter().collect();
    backups.sort_by(|one, two| one.id.cmp(&two.id));
    let mut cycles = Vec::new();
    let mut failed = false;
    for id in &going.backups {
        let Some(index) = backups.iter().position(|backup| backup.id == *id) else {
            continue;
        };
        let spared = spared(&backups[..index], going.wanted_by).filter(|_| !failed);
        let cycle = spared.and_then(|spared| {
            let above = backups[index + 1..].iter().find(|backup| is_copied(backup));
            let cycle = Cycle::new(above.unwrap_or(&backups[index]), &backups, spared);
            failed = cycle.is_none();
            cycle
        });
        cycles.push((id.clone(), cycle));
        backups.remove(index);
    }
    cycles
}

/// Complete in Barman's sense: the files are there.
fn is_copied(backup: &Backup) -> bool {
    let status = backup.status;
    matches!(status, BackupStatus::Done | BackupStatus::WaitingForWals)
}

/// The standalone backups below a deleted one, whose WAL a cycle spares; `None` if there is no
/// cycle.
fn spared<'a>(below: &[&'a Backup], wanted_by: WantedBy) -> Option<Vec<&'a Backup>> {
    let copied: Vec<_> = below.iter().copied().filter(|b| is_copied(b)).collect();
    let standalone = copied
        .iter()
        .all(|backup| backup.keep == Some(KeepTarget::Standalone));
    let cycle = standalone && (wanted_by == WantedBy::Policy || copied.is_empty());
    cycle.then_some(copied)
}

/// One clean-up of Barman's after one deleted backup.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// The first segment that stays, by name.
    until: SegmentName,
    protected: BTreeSet<Option<TimelineId>>,
    spared: Vec<(SegmentName, SegmentName)>,
}

impl Cycle {
    /// `None` where Barman would fail: a backup involved does not record its WAL.
    ///
    /// All timelines with a backup are protected, also that of the deleted one: Barman means to
    /// leave it out, but compares two readings of it.
    fn new(until: &Backup, backups: &[&Backup], spared: Vec<&Backup>) -> Option<Self> {
        let mut protected: BTreeSet<_> = backups.iter().map(|backup| backup.timeline).collect();
        protected.remove(&until.timeline);
        let ranges = spared
            .into_iter()
            .map(|backup| Some((backup.begin_wal?, backup.end_wal?)));
        Some(Self {
            until: until.begin_wal?,
            protected,
            spared: ranges.collect::<Option<_>>()?,
        })
    }

    /// Whether a whole directory of the archive goes at once, told by its timeline and log: the
    /// first sixteen digits of the segments in it.
    pub fn removes_directory(&self, timeline: TimelineId, log: u32) -> bool {
        let within = |(begin, end): &(SegmentName, SegmentName)| {
            (begin.timeline..=end.timeline).contains(&timeline)
                && (begin.log..=end.log).contains(&log)
        };
        let protected = self.protected.contains(&Some(timeline)) || self.spared.iter().any(within);
        !protected && timeline == self.until.timeline && log < self.until.log
    }

    /// Whether a file goes by itself: Barman compares names as texts.
    pub fn removes_file(&self, file: WalFile) -> bool {
        let Some(segment) = file.segment() else {
            return false;
        };
        let name = file.to_string();
        let compared = match file {
            WalFile::BackupHistory(segment, _) => segment.to_string(),
            _ => name.clone(),
        };
        let within = |(begin, end): &(SegmentName, SegmentName)| {
            (begin.to_string()..=end.to_string()).contains(&compared)
        };
        let protected = self.protected.contains(&Some(segment.timeline));
        !protected && !self.spared.iter().any(within) && name < self.until.to_string()
    }

    fn removes(&self, timeline: TimelineId, size: super::wal::SegmentSize) -> Runs {
        if self.protected.contains(&Some(timeline)) {
            return Runs::default();
        }
        let mut removes = match timeline.cmp(&self.until.timeline) {
            std::cmp::Ordering::Less => Runs::all(),
            std::cmp::Ordering::Equal => Runs::below(self.until.number(size)),
            std::cmp::Ordering::Greater => Runs::default(),
        };
        // Ranges are ranges of names, so one that spans timelines holds ends of both.
        for (begin, end) in &self.spared {
            if begin.timeline > timeline || timeline > end.timeline {
                continue;
            }
            let from = Some(begin).filter(|begin| begin.timeline == timeline);
            let to = Some(end).filter(|end| end.timeline == timeline);
            let first = from.map_or(SegmentNumber(0), |name| name.number(size));
            let last = to.map_or(SegmentNumber(u64::MAX), |name| name.number(size));
            if first <= last {
                removes.remove(Run { first, last });
            }
        }
        removes
    }
}

/// What Barman removes in a run over this catalog, or would have removed with backups that once
/// stood in it and that it would have called obsolete.
fn removable(catalog: &Catalog, verdicts: &Verdicts, archive: &Archive) -> Archive {
    let run = Going {
        backups: verdicts.barman.clone(),
        wanted_by: WantedBy::Policy,
    };
    let mut removable = barman_run(catalog, archive, &run);
    let mut backups: Vec<&Backup> = catalog.backups.iter().collect();
    backups.sort_by(|one, two| one.id.cmp(&two.id));
    for (index, until) in backups.iter().enumerate() {
        let obsolete = verdicts
            .horizon
            .as_ref()
            .is_some_and(|horizon| until.id <= *horizon);
        let Some(spared) = spared(&backups[..index], WantedBy::Policy).filter(|_| obsolete) else {
            break;
        };
        if is_copied(until)
            && let Some(cycle) = Cycle::new(until, &backups, spared)
        {
            let size = catalog.segment_size();
            add(&mut removable, archive, |timeline| {
                cycle.removes(timeline, size)
            });
        }
    }
    removable
}

/// What no backup can need: barkeep's own rule.
struct Unneeded<'a> {
    catalog: &'a Catalog,
    /// The beginnings of all that stays.
    begins: Vec<SegmentName>,
    /// What standalone keeps need, on whatever timeline.
    own: Vec<Run>,
    /// Whether what is not known about some backup keeps everything.
    blocked: bool,
}

impl<'a> Unneeded<'a> {
    fn new(catalog: &'a Catalog, verdicts: &Verdicts, going: &Going) -> Self {
        let mut unneeded = Self {
            catalog,
            begins: Vec::new(),
            own: Vec::new(),
            blocked: !catalog.unreadable.is_empty(),
        };
        // The clusters with a backup, and whether one of theirs is good.
        let mut good: BTreeMap<Option<SystemId>, bool> = BTreeMap::new();
        let staying = catalog
            .backups
            .iter()
            .filter(|backup| !going.backups.contains(&backup.id));
        for backup in staying {
            let verdict = verdicts.get(&backup.id);
            let need = verdict.map_or(WalNeed::FromBegin, |verdict| verdict.wal);
            if need == WalNeed::Nothing {
                continue;
            }
            *good.entry(backup.system_id).or_default() |= catalog.is_good(backup);
            unneeded.hold(backup, need);
        }
        unneeded.blocked |= good.is_empty() || good.values().any(|good| !good);
        unneeded
    }

    fn hold(&mut self, backup: &Backup, need: WalNeed) {
        let size = backup.segment_size;
        let Some(begin) = backup.begin_wal else {
            self.blocked = true;
            return;
        };
        match backup.end_wal.filter(|_| need == WalNeed::Own) {
            Some(end) if end.number(size) >= begin.number(size) => self.own.push(Run {
                first: begin.number(size),
                last: end.number(size),
            }),
            _ => self.begins.push(begin),
        }
    }

    fn of(&self, timeline: TimelineId) -> Runs {
        if self.blocked {
            return Runs::default();
        }
        let size = self.catalog.segment_size();
        let begins = self
            .begins
            .iter()
            .filter(|begin| self.is_related(begin.timeline, timeline))
            .map(|begin| begin.number(size));
        let mut runs = begins.min().map_or_else(Runs::all, Runs::below);
        for own in &self.own {
            runs.remove(*own);
        }
        runs
    }

    /// Whether one timeline descends from the other, or may: the newer one's history is not there.
    fn is_related(&self, one: TimelineId, two: TimelineId) -> bool {
        let (old, new) = (one.min(two), one.max(two));
        let history = self.catalog.wal.histories.get(&new);
        old == new || history.is_none_or(|history| history.left_at(old).is_some())
    }
}

#[cfg(test)]
mod tests;

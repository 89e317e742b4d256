//! The judgement: for every backup of a catalog whether it stays, and why.
//!
//! [`judge`] is total: each backup has a verdict, also the failed, the running and the unreadable.
//! Under [`BARMAN`](super::semantics::BARMAN) it is Barman 3.19's own, from the newest id
//! down: only `DONE` backups count, kept ones use up a place of a redundancy, the backup that ended
//! before a window begins is its anchor and stays, incremental ones are passed over, and where
//! Barman would stop with an error nothing is let go.
//!
//! Under [`SAFE`](super::semantics::SAFE) each lineage (system identifier and
//! major version) is judged by the time at which its good backups ended. Damaged, kept, running
//! and unreadable backups and those from the future stay and count for nothing more than they
//! are; incremental backups share the fate of the full one that their chain begins with, and what one
//! of them needs stays with it; and a backup goes only if Barman's judgement of the same catalog, with
//! the same meaning of chains, lets it go too. So the one is a subset of the other by construction.
//!
//! Nothing here deletes or reads a clock; what goes first, and when, is the planner's.

mod chain;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{
    backup::{Backup, BackupId, BackupStatus, KeepTarget},
    catalog::Catalog,
    reason::Reason,
    retention::RetentionPolicy,
    semantics::{Chains, Counts, Order, Semantics},
    time::Timestamp,
    wal::SystemId,
    zone::Zone,
};

/// How far a backup's end may lie ahead of the clock before it counts as one from the future.
pub const SKEW_MAX: Duration = Duration::from_mins(5);

/// What the configuration or a command line says about how long backups stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The policy; without one everything stays.
    pub policy: Option<RetentionPolicy>,
    /// How many backups stay at least.
    pub minimum_redundancy: u32,
}

/// What a judgement must know beyond the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The present: for whatever expires, the earlier of our clock and the store's.
    pub now: Timestamp,
    /// The zone in whose clock Barman counts a window: that of the host that it runs on. A window of
    /// days that ends after a change of the clocks began at the same hour, not as many hours ago.
    pub zone: Zone,
    /// Backups that must stay for reasons that no catalog shows: declared keeps, holds, locks.
    pub protected: BTreeMap<BackupId, Reason>,
}

impl Facts {
    /// Nothing but the present, in UTC.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            zone: Zone::utc(),
            protected: BTreeMap::new(),
        }
    }

    fn protects(&self, id: &BackupId) -> bool {
        self.protected.contains_key(id)
    }

    /// The same in another zone.
    #[must_use]
    pub fn in_zone(mut self, zone: &Zone) -> Self {
        self.zone = zone.clone();
        self
    }

    /// When a window of this length began by the clock of the zone, as Python computes it.
    fn begin_by_clock(&self, length: Duration) -> Option<Timestamp> {
        let length = TimeDelta::from_std(length).ok()?;
        let local = self.zone.local(self.now).checked_sub_signed(length)?;
        let begin = self.zone.instant(local)?;
        // A local time that the clocks skipped is taken as if they had been set forward already.
        let skipped = self.zone.local(begin) - local;
        let begin = begin - skipped.to_std().unwrap_or_default();
        Some(begin + Duration::from_micros(self.now.utc().timestamp_subsec_micros().into()))
    }
}

/// What happens to a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It stays, for now.
    Retain,
    /// It may go.
    Expire,
    /// It stays whatever the policy says.
    Protect,
}

impl fmt::Display for Fate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Retain => "retained",
            Self::Protect => "protected",
            Self::Expire => "obsolete",
        })
    }
}

/// How much WAL a backup holds while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalNeed {
    /// None: nobody will restore it.
    Nothing,
    /// What makes it consistent: from its first segment to its last.
    Own,
    /// Everything from its first segment on.
    FromBegin,
}

/// The judgement on one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What happens to it.
    pub fate: Fate,
    /// Why, the weightiest first.
    pub reasons: Vec<Reason>,
    /// How much WAL it holds while it exists.
    pub wal: WalNeed,
}

/// The judgement on every backup of a catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// By id, unreadable ones included.
    pub backups: BTreeMap<BackupId, Verdict>,
    /// Barman would call any backup with a smaller id obsolete; `None` if it would call none so, or
    /// if nothing must go.
    pub horizon: Option<BackupId>,
    /// What Barman's judgement of the same catalog lets go; empty if nothing must go.
    pub barman: BTreeSet<BackupId>,
}

impl Verdicts {
    /// The verdict on a backup.
    pub fn get(&self, id: &BackupId) -> Option<&Verdict> {
        self.backups.get(id)
    }

    /// What may go, smallest id first.
    pub fn expired(&self) -> impl Iterator<Item = &BackupId> {
        let expired = |(_, verdict): &(&BackupId, &Verdict)| verdict.fate == Fate::Expire;
        self.backups.iter().filter(expired).map(|(id, _)| id)
    }
}

/// Judges every backup.
pub fn judge(catalog: &Catalog, rule: &Rule, facts: &Facts, semantics: Semantics) -> Verdicts {
    let mut verdicts = barman(catalog, rule, facts, semantics.chains);
    verdicts.barman = verdicts.expired().cloned().collect();
    if let Order::ByLineage { retire_after } = semantics.order {
        let safe = Safe {
            catalog,
            rule,
            facts,
            counts: semantics.counts,
            retire_after,
        };
        safe.refine(&mut verdicts);
    }
    for (id, reason) in &facts.protected {
        if let Some(verdict) = verdicts.backups.get_mut(id) {
            verdict.fate = Fate::Protect;
            verdict.reasons.insert(0, reason.clone());
        }
    }
    verdicts
}

/// Where the policy sees a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Among those that it wants.
    Inside,
    /// The one that recovery to the beginning of the window starts from.
    Anchor,
    /// No longer wanted, but fewer than the minimum would be left.
    Minimum,
    /// No longer wanted.
    Outside,
}

/// A walk over comparable backups, newest first.
struct Walk<'a> {
    places: Vec<(&'a Backup, Place)>,
    /// From this backup on down everything is outside.
    horizon: Option<&'a BackupId>,
}

/// Whether a lineage still has a claim of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Live,
    Retired,
}

impl<'a> Walk<'a> {
    /// Gives each backup its place; a window of some length began at `begin` of it. Fails with the
    /// backup whose end would have to be known.
    fn new(
        backups: &[&'a Backup],
        rule: &Rule,
        begin: impl FnOnce(Duration) -> Timestamp,
    ) -> Result<Self, &'a BackupId> {
        match rule.policy {
            None => Ok(Self {
                places: backups.iter().map(|b| (*b, Place::Inside)).collect(),
                horizon: None,
            }),
            Some(RetentionPolicy::Redundancy(count)) => {
                let count = count.max(rule.minimum_redundancy);
                Ok(Self::redundancy(backups, count as usize))
            }
            Some(RetentionPolicy::RecoveryWindow(window)) => {
                Self::window(backups, begin(window.duration()), rule.minimum_redundancy)
            }
        }
    }

    fn redundancy(backups: &[&'a Backup], count: usize) -> Self {
        let place = |(index, backup): (usize, &&'a Backup)| {
            let inside = index < count;
            (
                *backup,
                if inside {
                    Place::Inside
                } else {
                    Place::Outside
                },
            )
        };
        Self {
            places: backups.iter().enumerate().map(place).collect(),
            horizon: backups
                .get(count.saturating_sub(1))
                .map(|backup| &backup.id),
        }
    }

    fn window(
        backups: &[&'a Backup],
        begin: Timestamp,
        minimum: u32,
    ) -> Result<Self, &'a BackupId> {
        let mut walk = Self {
            places: Vec::new(),
            horizon: None,
        };
        let mut anchored = false;
        let mut valid = 0;
        for backup in backups {
            let place = if anchored && valid < minimum {
                Place::Minimum
            } else if anchored {
                Place::Outside
            } else {
                anchored = backup.end_time.ok_or(&backup.id)? < begin;
                if anchored {
                    Place::Anchor
                } else {
                    Place::Inside
                }
            };
            if place != Place::Outside {
                valid += 1;
            }
            if anchored && valid >= minimum && walk.horizon.is_none() {
                walk.horizon = Some(&backup.id);
            }
            walk.places.push((*backup, place));
        }
        Ok(walk)
    }

    /// A retired lineage keeps what lies within a window, and what reaches it: nothing else.
    fn retire(&mut self, rule: &Rule) {
        let counted = matches!(rule.policy, Some(RetentionPolicy::Redundancy(_)));
        let some = self.places.iter().any(|(_, place)| *place == Place::Inside);
        for (_, place) in &mut self.places {
            let stays = match place {
                Place::Inside => !counted,
                Place::Anchor => some,
                Place::Minimum | Place::Outside => false,
            };
            if !stays {
                *place = Place::Outside;
            }
        }
    }

    /// Each backup with its place, and how many counted ones before it stay.
    fn ranked(&self) -> impl Iterator<Item = (&'a Backup, Place, usize)> {
        let mut staying = 0;
        self.places.iter().map(move |(backup, place)| {
            let newer = staying;
            staying += usize::from(*place != Place::Outside);
            (*backup, *place, newer)
        })
    }
}

/// The verdict that a place means, for a backup that counts.
fn verdict(backup: &Backup, place: Place, newer_good: usize, rule: &Rule) -> Verdict {
    let reason = match (rule.policy, place) {
        (None, _) => Reason::NoPolicy,
        (Some(policy), Place::Inside) => Reason::WithinPolicy { policy },
        (Some(policy), Place::Anchor) => Reason::WindowAnchor { policy },
        (Some(_), Place::Minimum) => Reason::MinimumRedundancy {
            minimum: rule.minimum_redundancy,
        },
        (Some(policy), Place::Outside) => Reason::OutsidePolicy { policy, newer_good },
    };
    let outside = place == Place::Outside;
    let Some(target) = backup.keep else {
        return Verdict {
            fate: if outside { Fate::Expire } else { Fate::Retain },
            reasons: vec![reason],
            wal: WalNeed::FromBegin,
        };
    };
    let own = outside && target == KeepTarget::Standalone;
    Verdict {
        fate: Fate::Protect,
        reasons: vec![Reason::Kept { target }, reason],
        wal: if own {
            WalNeed::Own
        } else {
            WalNeed::FromBegin
        },
    }
}

/// The verdict on a backup that is not `DONE`: no policy judges it.
fn unfinished(backup: &Backup) -> Verdict {
    let status = backup.status;
    let (fate, wal) = match status {
        BackupStatus::Failed | BackupStatus::Empty => (Fate::Retain, WalNeed::Nothing),
        BackupStatus::Started
        | BackupStatus::WaitingForWals
        | BackupStatus::Syncing
        | BackupStatus::Done => (Fate::Protect, WalNeed::FromBegin),
    };
    let kept = backup.keep.map(|target| Reason::Kept { target });
    Verdict {
        fate: if kept.is_some() { Fate::Protect } else { fate },
        reasons: kept
            .into_iter()
            .chain([Reason::NotDone { status }])
            .collect(),
        wal,
    }
}

/// Barman's judgement.
fn barman(catalog: &Catalog, rule: &Rule, facts: &Facts, chains: Chains) -> Verdicts {
    let mut roots: Vec<&Backup> = Vec::new();
    let mut verdicts = Verdicts::default();
    for backup in &catalog.backups {
        let verdict = match &backup.parent {
            Some(parent) => chain::passed_over(backup, parent),
            None if backup.status == BackupStatus::Done => {
                roots.push(backup);
                verdict(backup, Place::Inside, 0, rule)
            }
            None => unfinished(backup),
        };
        verdicts.backups.insert(backup.id.clone(), verdict);
    }
    for backup in catalog
        .backups
        .iter()
        .filter(|b| !b.unknown_fields.is_empty())
    {
        let why = format!("unknown fields: {}", backup.unknown_fields.join(", "));
        verdicts.backups.insert(backup.id.clone(), unreadable(&why));
    }
    for (id, why) in &catalog.unreadable {
        verdicts
            .backups
            .insert(id.clone(), unreadable(&why.message));
    }
    roots.sort_by(|one, two| two.id.cmp(&one.id));
    let begin = |length| facts.begin_by_clock(length).unwrap_or(facts.now - length);
    let walk = Walk::new(&roots, rule, begin);
    match (walk, stuck(catalog, rule, chains)) {
        (Ok(walk), None) => {
            for (backup, place, newer) in walk.ranked() {
                let verdict = verdict(backup, place, newer, rule);
                verdicts.backups.insert(backup.id.clone(), verdict);
            }
            verdicts.horizon = walk.horizon.cloned();
        }
        (Err(because), _) | (Ok(_), Some(because)) => {
            let judged =
                |backup: &&&Backup| backup.keep.is_none() && backup.unknown_fields.is_empty();
            for backup in roots.iter().filter(judged) {
                verdicts
                    .backups
                    .insert(backup.id.clone(), unjudged(backup, because));
            }
        }
    }
    if chains == Chains::Together {
        chain::follow_roots(catalog, facts, &mut verdicts);
    }
    verdicts
}

/// The backup because of which Barman stops before it deletes anything: one that it cannot read,
/// one with fields that it does not know, or one with recorded incrementals, for which its cloud
/// commands lack a function.
fn stuck<'a>(catalog: &'a Catalog, rule: &Rule, chains: Chains) -> Option<&'a BackupId> {
    rule.policy?;
    let strange = catalog.backups.iter().filter(|backup| {
        let parent = !backup.children.is_empty() && backup.parent.is_none();
        parent && chains == Chains::Apart || !backup.unknown_fields.is_empty()
    });
    let mut stuck = catalog
        .unreadable
        .keys()
        .chain(strange.map(|backup| &backup.id));
    stuck.next()
}

fn unreadable(why: &str) -> Verdict {
    Verdict {
        fate: Fate::Protect,
        reasons: vec![Reason::Unreadable {
            why: why.to_owned(),
        }],
        wal: WalNeed::FromBegin,
    }
}

fn unjudged(backup: &Backup, because: &BackupId) -> Verdict {
    let reason = match backup.children.first().cloned() {
        Some(child) => Reason::NeededBy { child },
        None if backup.id == *because => Reason::EndUnknown,
        None => Reason::Unjudged {
            because: because.clone(),
        },
    };
    Verdict {
        fate: Fate::Protect,
        reasons: vec![reason],
        wal: WalNeed::FromBegin,
    }
}

/// barkeep's judgement, starting from Barman's.
struct Safe<'a> {
    catalog: &'a Catalog,
    rule: &'a Rule,
    facts: &'a Facts,
    counts: Counts,
    retire_after: Duration,
}

/// One cluster's backups of one major version.
type LineageKey = (Option<SystemId>, Option<u32>);

type Lineages<'a> = BTreeMap<LineageKey, Vec<&'a Backup>>;

impl<'a> Safe<'a> {
    fn refine(&self, verdicts: &mut Verdicts) {
        for backup in &self.catalog.backups {
            let understood = backup.unknown_fields.is_empty();
            if let Some(verdict) = self.fault(backup).filter(|_| understood) {
                verdicts.backups.insert(backup.id.clone(), verdict);
            }
        }
        let lineages = self.lineages();
        for (key, good) in &lineages {
            self.refine_lineage(good, self.claim(*key, &lineages), verdicts);
        }
        self.hold_minimum(&lineages, verdicts);
        chain::follow_roots(self.catalog, self.facts, verdicts);
        self.hold_newest(&lineages, verdicts);
        chain::hold_parents(self.catalog, self.facts, verdicts);
        self.hold_all_from_the_future(verdicts);
    }

    /// The verdict on a backup that no policy judges although it says that it is complete.
    fn fault(&self, backup: &Backup) -> Option<Verdict> {
        if backup.status != BackupStatus::Done {
            return None;
        }
        let reason = match (self.damage(backup), backup.end_time) {
            (Some(what), _) => Reason::Damaged { what },
            (None, None) => Reason::EndUnknown,
            (None, Some(end)) if end > self.facts.now + SKEW_MAX => Reason::FromTheFuture,
            (None, Some(_)) => return None,
        };
        let kept = backup.keep.map(|target| Reason::Kept { target });
        Some(Verdict {
            fate: Fate::Protect,
            reasons: [reason].into_iter().chain(kept).collect(),
            wal: WalNeed::FromBegin,
        })
    }

    fn damage(&self, backup: &Backup) -> Option<super::reason::Damage> {
        match self.counts {
            Counts::Done => None,
            Counts::Good => self.catalog.damage(backup),
        }
    }

    /// The good backups of each lineage, newest first; incremental ones go with their parents.
    fn lineages(&self) -> Lineages<'a> {
        let mut lineages = Lineages::new();
        for backup in &self.catalog.backups {
            let whole = backup.status == BackupStatus::Done && backup.parent.is_none();
            let understood = backup.unknown_fields.is_empty();
            if whole && understood && self.fault(backup).is_none() {
                lineages.entry(key(backup)).or_default().push(backup);
            }
        }
        for good in lineages.values_mut() {
            good.sort_by_key(|backup| Reverse((backup.end_time, &backup.id)));
        }
        lineages
    }

    fn refine_lineage(&self, good: &[&Backup], claim: Claim, verdicts: &mut Verdicts) {
        let walk = Walk::new(good, self.rule, |length| self.facts.now - length);
        let mut walk = walk.expect("all that are good have an end");
        if claim == Claim::Retired {
            walk.retire(self.rule);
        }
        for (backup, place, newer) in walk.ranked() {
            let own = verdict(backup, place, newer, self.rule);
            // It goes only where both would let it go.
            if let Some(verdict) = verdicts.backups.get_mut(&backup.id)
                && (verdict.fate == Fate::Expire || own.fate != Fate::Expire)
            {
                let wal = verdict.wal.max(own.wal);
                *verdict = Verdict { wal, ..own };
            }
        }
    }

    /// The newest good backup of a lineage that lives stays, incremental or not.
    fn hold_newest(&self, lineages: &Lineages<'a>, verdicts: &mut Verdicts) {
        for (lineage, full) in lineages {
            if self.claim(*lineage, lineages) == Claim::Retired {
                continue;
            }
            let is_good = |backup: &&Backup| {
                key(backup) == *lineage
                    && backup.status == BackupStatus::Done
                    && backup.unknown_fields.is_empty()
                    && self.fault(backup).is_none()
            };
            let newest = self.catalog.backups.iter().filter(is_good);
            let newest = newest.max_by_key(|backup| (backup.end_time, &backup.id));
            // And the newest that builds on nothing: were the others found wrong, it is what is left.
            for newest in newest.into_iter().chain(full.first().copied()) {
                hold(verdicts, &newest.id, Reason::NewestGood, Fate::Protect);
            }
        }
    }

    /// A lineage retires once nothing new has come for long, while another one has newer backups.
    fn claim(&self, lineage: LineageKey, lineages: &Lineages<'a>) -> Claim {
        let backups = self.catalog.backups.iter();
        let latest = backups
            .filter(|backup| key(backup) == lineage)
            .filter_map(|backup| backup.end_time.max(backup.begin_time))
            .max();
        let others = lineages.iter().filter(|(other, _)| **other != lineage);
        let newest = others.filter_map(|(_, good)| good.first()?.end_time).max();
        let is_over = |latest| {
            newest.is_some_and(|newest| newest > latest)
                && latest < self.facts.now - self.retire_after
        };
        if latest.is_some_and(is_over) {
            Claim::Retired
        } else {
            Claim::Live
        }
    }

    /// What a retired lineage gives up, and what is damaged elsewhere, must not leave fewer good ones than the minimum in all.
    fn hold_minimum(&self, lineages: &Lineages<'_>, verdicts: &mut Verdicts) {
        let mut good: Vec<&Backup> = lineages.values().flatten().copied().collect();
        good.sort_by_key(|backup| Reverse((backup.end_time, &backup.id)));
        let minimum = self.rule.minimum_redundancy;
        let going = |id: &BackupId| verdicts.get(id).is_some_and(|v| v.fate == Fate::Expire);
        let staying = good.iter().filter(|backup| !going(&backup.id)).count();
        let short = (minimum as usize).saturating_sub(staying);
        let held: Vec<_> = good.iter().filter(|b| going(&b.id)).take(short).collect();
        for backup in held {
            let reason = Reason::MinimumRedundancy { minimum };
            hold(verdicts, &backup.id, reason, Fate::Retain);
        }
    }

    /// A backup that ends in the future means that some clock is wrong, perhaps ours.
    fn hold_all_from_the_future(&self, verdicts: &mut Verdicts) {
        let latest = self.facts.now + SKEW_MAX;
        let mut backups = self.catalog.backups.iter();
        let Some(ahead) = backups.find(|backup| backup.end_time.is_some_and(|end| end > latest))
        else {
            return;
        };
        let expired: Vec<BackupId> = verdicts.expired().cloned().collect();
        for id in expired {
            let because = ahead.id.clone();
            hold(verdicts, &id, Reason::Unjudged { because }, Fate::Protect);
        }
        verdicts.horizon = None;
        verdicts.barman.clear();
    }
}

fn key(backup: &Backup) -> LineageKey {
    (backup.system_id, backup.major())
}

fn unfinished_wal(backup: &Backup) -> WalNeed {
    unfinished(backup).wal
}

/// Keeps a backup that would have gone; says whether it would.
fn hold(verdicts: &mut Verdicts, id: &BackupId, reason: Reason, fate: Fate) -> bool {
    let Some(verdict) = verdicts.backups.get_mut(id) else {
        return false;
    };
    let held = verdict.fate == Fate::Expire;
    if held {
        verdict.fate = fate;
        verdict.reasons = vec![reason];
        verdict.wal = WalNeed::FromBegin;
    }
    held
}

#[cfg(test)]
mod tests;

//! What the record of the past says against deletes: clocks that disagree, a budget that is used up, marks that are missing or young,
//! and whatever is not as the last run left it.

use std::{collections::BTreeSet, time::Duration};

use super::{Asked, Inspection, Violation};
use crate::model::{
    backup::{Backup, BackupId, KeepTarget},
    catalog::Catalog,
    desired::{CalendarSpan, Entry, KeepRule, ManageKeeps, Period},
    observed::{Knowledge, Stored},
    policy::Policy,
    record::{SetBy, Tombstone},
    retention::{RetentionPolicy, Window, WindowUnit},
    time::Timestamp,
};

/// How far the store's clock and ours may lie apart.
const SKEW_MAX: Duration = Duration::from_mins(5);

/// The budget counts what was deleted within such a time.
const DAY: Duration = Duration::from_hours(24);

/// A keep that is no longer declared stays for so long.
const WEEK: Duration = Duration::from_hours(7 * 24);

impl Inspection<'_> {
    pub(super) fn on_past(&self, stored: &Stored, catalog: &Catalog) -> Vec<Violation> {
        if !self.asked.is_policy() {
            return Vec::new();
        }
        let now = self.earlier_clock(stored);
        let mut violations = Vec::new();
        violations.extend(skew(stored));
        violations.extend(self.on_baseline(stored, catalog, now));
        violations.extend(self.on_budget(stored, catalog, now));
        let unmarked = self.deleted().into_iter().filter_map(|id| {
            let backup = catalog.backup(id)?;
            (!self.may_go_unmarked(stored, catalog, backup)
                && !self.is_marked(stored, catalog, id, now))
            .then(|| Violation::Unmarked(id.clone()))
        });
        violations.extend(unmarked);
        violations
    }

    /// What may expire by the store's clock and by ours.
    pub(super) fn earlier_clock(&self, stored: &Stored) -> Timestamp {
        let store = stored.store_time.known().copied();
        store.map_or(self.now, |store| store.min(self.now))
    }

    /// Whether a keep may be given an end: it is one of ours that the configuration asks to be exact about, and stays for a week.
    pub(super) fn may_end(&self, stored: &Stored, id: &BackupId, grace: Duration) -> bool {
        let exact = self
            .entry
            .is_some_and(|entry| entry.manage_keeps == ManageKeeps::Exact);
        let record = stored
            .keep_records
            .known()
            .and_then(|records| records.get(id));
        let ours = record.is_some_and(|record| record.by == SetBy::Policy);
        exact && ours && grace >= WEEK
    }

    /// A server that is not backed up there is not configured to delete there either.
    fn grace(&self) -> Duration {
        self.entry.map_or(Duration::MAX, |entry| entry.grace)
    }

    /// Whether all is as the last run left it, or its change is on record.
    fn on_baseline(&self, stored: &Stored, catalog: &Catalog, now: Timestamp) -> Option<Violation> {
        let baseline = match &stored.baseline {
            Knowledge::Known(baseline) => baseline,
            Knowledge::Unknown(_) => return Some(Violation::Unknown("the baseline")),
            Knowledge::Absent => {
                return (!catalog.backups.is_empty()).then_some(Violation::NotAdopted);
            }
        };
        let tombstones = stored.tombstones.known();
        let is_recorded = |id: &BackupId| {
            tombstones.is_some_and(|all| all.iter().any(|tombstone| tombstone.backup == *id))
        };
        let gone = |id: &&BackupId| !catalog.ids().any(|known| known == *id) && !is_recorded(id);
        if let Some(id) = baseline.backups.iter().find(gone) {
            return Some(Violation::Vanished(id.clone()));
        }
        let mut deleted = baseline.deleted.iter();
        if deleted.any(|(id, at)| *at + DAY > now && !is_recorded(id)) {
            return Some(Violation::Unknown("the record of deletes"));
        }
        let as_much = self
            .entry
            .is_some_and(|entry| keeps_as_much(entry, &baseline.policy));
        (self.asked == Asked::ByPolicy && !as_much).then_some(Violation::Shortened)
    }

    /// Every backup that went within a day counts, and every one that would go now.
    fn on_budget(&self, stored: &Stored, catalog: &Catalog, now: Timestamp) -> Option<Violation> {
        if self.asked != Asked::ByPolicy {
            return None;
        }
        let recent = |tombstone: &&Tombstone| tombstone.at + DAY > now;
        let tombstones = stored.tombstones.known().into_iter().flatten();
        let gone: BTreeSet<&BackupId> = tombstones
            .filter(recent)
            .map(|tombstone| &tombstone.backup)
            .collect();
        let present = catalog.backups.iter().map(|backup| &backup.id);
        let of = gone.iter().copied().chain(present).collect::<BTreeSet<_>>();
        let budget = self.entry?.deletes;
        let percent = usize::try_from(budget.percent_max).unwrap_or(usize::MAX);
        let share = of.len().saturating_mul(percent) / 100;
        let allowed = share.max(1).min(budget.backups_max);
        let going = self.deleted();
        let is_new = going.iter().any(|id| !gone.contains(id));
        let all = gone.union(&going).count();
        (is_new && all > allowed).then_some(Violation::Budget { all, allowed })
    }

    /// Nothing needs a mark where no grace is configured, nor does what somebody has begun to delete.
    fn may_go_unmarked(&self, stored: &Stored, catalog: &Catalog, backup: &Backup) -> bool {
        let version = catalog.versions.get(&backup.id);
        let announced = |tombstone: &Tombstone| {
            tombstone.backup == backup.id && Some(&tombstone.epitaph.version) == version
        };
        let tombstones = stored.tombstones.known();
        let begun = tombstones.is_some_and(|all| all.iter().any(announced));
        self.grace().is_zero() || (begun && catalog.is_in_part(backup))
    }

    fn is_marked(&self, stored: &Stored, catalog: &Catalog, id: &BackupId, now: Timestamp) -> bool {
        let Knowledge::Known(marks) = &stored.marks else {
            return false;
        };
        let version = catalog.versions.get(id);
        marks.get(id).is_some_and(|mark| {
            Some(&mark.epitaph.version) == version && mark.at + self.grace() <= now
        })
    }
}

/// Whether an entry keeps at least what a policy did, part by part.
fn keeps_as_much(entry: &Entry, was: &Policy) -> bool {
    let retention = match (was.retention, entry.retention) {
        (_, None) => true,
        (Some(RetentionPolicy::Redundancy(was)), Some(RetentionPolicy::Redundancy(is))) => {
            was <= is
        }
        (Some(RetentionPolicy::RecoveryWindow(was)), Some(RetentionPolicy::RecoveryWindow(is))) => {
            days(was) <= days(is)
        }
        _ => false,
    };
    let kept = |rule: &KeepRule| {
        entry.keep_rules.iter().any(|is| {
            is.first_of == rule.first_of
                && (is.target == KeepTarget::Full || is.target == rule.target)
                && calendar_days(is.keep_for) >= calendar_days(rule.keep_for)
        })
    };
    retention
        && was.minimum_redundancy <= entry.minimum_redundancy
        && was.keep_rules.iter().all(kept)
}

fn days(window: Window) -> u64 {
    let unit = match window.unit {
        WindowUnit::Days => 1,
        WindowUnit::Weeks => 7,
        WindowUnit::Months => 31,
    };
    u64::from(window.count) * unit
}

/// At twelve months of 31 days a year.
fn calendar_days(span: CalendarSpan) -> u64 {
    let unit = match span.unit {
        Period::Day => 1,
        Period::Week => 7,
        Period::Month => 31,
        Period::Year => 372,
    };
    u64::from(span.count) * unit
}

/// Whether the store's clock and ours disagree, in either direction.
fn skew(stored: &Stored) -> Option<Violation> {
    let (ours, store) = (stored.read_at, stored.store_time.known().copied()?);
    let agree = store <= ours + SKEW_MAX && ours <= store + SKEW_MAX;
    (!agree).then_some(Violation::Clocks { ours, store })
}

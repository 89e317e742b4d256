//! What the last run saw, and what that says against deletes: a policy that was shortened, a backup that vanished, a first contact.
//!
//! A prefix that holds backups and no baseline is one that barkeep meets for the first time, or whose baseline was lost: it is only
//! observed until somebody adopts it. An empty one is taken up at once. What a run saw is written down when it ends; nothing in it
//! changes what a policy wants, it only withholds.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Decision, Scene,
    expire::{self, BUDGET_SPAN},
    keep, scenes, trust, unlooked,
};
use crate::model::{
    action::Effect,
    backup::{BackupId, BackupStatus},
    catalog::Catalog,
    condition::{Condition, Standing},
    desired::{Mode, Server},
    judge::Fate,
    names::DestinationName,
    observed::{Knowledge, Observed},
    policy::{Policy, Shortened},
    reason::Waiting,
    record::Baseline,
    time::Timestamp,
};

/// On whose word a baseline is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nobody's: a run that ends. What it may not accept stays as it was.
    Run,
    /// Somebody has approved the policy.
    Approved,
    /// Somebody has adopted all that is there as it is.
    Adopted,
}

/// The baselines that are to be written, where they differ from what is written down.
pub fn baselines(
    server: &Server,
    observed: &Observed,
    now: Timestamp,
    word: Word,
) -> BTreeMap<DestinationName, Baseline> {
    let unlooked = unlooked(now);
    let each = scenes(server, observed, &unlooked, now).filter_map(|scene| {
        let baseline = next(&scene, word)?;
        Some((scene.entry.destination.clone(), baseline))
    });
    each.collect()
}

/// What would be observed if these baselines were written.
#[must_use]
pub fn assumed(observed: &Observed, baselines: &BTreeMap<DestinationName, Baseline>) -> Observed {
    let mut observed = observed.clone();
    for (destination, baseline) in baselines {
        if let Some(stored) = observed.destinations.get_mut(destination) {
            stored.baseline = Knowledge::Known(baseline.clone());
        }
    }
    observed
}

fn next(scene: &Scene<'_>, word: Word) -> Option<Baseline> {
    let stored = scene.stored;
    trust::additive(scene).ok()?;
    if word == Word::Run && scene.server.mode == Mode::Observe {
        return None;
    }
    let at = *stored.store_time.known()?;
    let tombstones = stored.tombstones.known()?;
    let empty = Catalog::default();
    let catalog = stored.catalog.known().unwrap_or(&empty);
    let written = match (contact(scene), word) {
        (Contact::Unknown, _) | (Contact::First { .. }, Word::Run | Word::Approved) => return None,
        (Contact::Known(written), _) => Some(written),
        (Contact::Fresh | Contact::First { .. }, _) => None,
    };
    let policy = Policy::of(scene.entry);
    let recent = tombstones
        .iter()
        .filter(|tombstone| at.since(tombstone.at) < BUDGET_SPAN);
    let mut baseline = Baseline {
        at,
        policy: policy.clone(),
        backups: retained(scene, catalog),
        deleted: recent.map(|t| (t.backup.clone(), t.at)).collect(),
    };
    let Some(written) = written else {
        return Some(baseline);
    };
    if word != Word::Adopted {
        baseline.backups.extend(vanished(scene, written));
        baseline.deleted.extend(lost(scene, written));
    }
    if word == Word::Run && !written.policy.shortened_to(&policy).is_empty() {
        // What the longer one wanted is still there, and stays in mind.
        let present = written
            .backups
            .iter()
            .filter(|id| catalog.backup(id).is_some());
        baseline.backups.extend(present.cloned());
        baseline.policy = written.policy.clone();
    }
    // What was deleted long ago is forgotten with the next change.
    let deleted = &baseline.deleted;
    let same = (&baseline.policy, &baseline.backups) == (&written.policy, &written.backups)
        && deleted.keys().all(|id| written.deleted.contains_key(id));
    (!same).then_some(baseline)
}

/// The complete backups that the policy wants.
fn retained(scene: &Scene<'_>, catalog: &Catalog) -> BTreeSet<BackupId> {
    let verdicts = expire::judge(scene, keep::wanted(scene).protected());
    let done = catalog
        .backups
        .iter()
        .filter(|b| b.status == BackupStatus::Done);
    let stays = |id: &&BackupId| verdicts.get(id).is_some_and(|v| v.fate != Fate::Expire);
    done.map(|backup| &backup.id)
        .filter(stays)
        .cloned()
        .collect()
}

/// How well a prefix is known.
enum Contact<'a> {
    /// There is nothing in it yet.
    Fresh,
    /// A run has seen it.
    Known(&'a Baseline),
    /// No run of barkeep's has seen what is there.
    First {
        /// How many backups there are.
        backups: usize,
    },
    /// Nobody can tell.
    Unknown,
}

fn contact<'a>(scene: &Scene<'a>) -> Contact<'a> {
    match (&scene.stored.baseline, &scene.stored.catalog) {
        (Knowledge::Known(baseline), _) => Contact::Known(baseline),
        (Knowledge::Unknown(_), _) | (_, Knowledge::Unknown(_)) => Contact::Unknown,
        (Knowledge::Absent, Knowledge::Absent) => Contact::Fresh,
        (Knowledge::Absent, Knowledge::Known(catalog)) => {
            match catalog.backups.len() + catalog.unreadable.len() {
                0 => Contact::Fresh,
                backups => Contact::First { backups },
            }
        }
    }
}

/// What may be done there: nothing before a prefix that holds backups was adopted.
pub(super) fn mode(scene: &Scene<'_>) -> Mode {
    match contact(scene) {
        Contact::First { .. } => Mode::Observe,
        _ => scene.server.mode,
    }
}

/// The backups that were retained, and are gone without a record of it.
fn vanished(scene: &Scene<'_>, baseline: &Baseline) -> BTreeSet<BackupId> {
    let catalog = scene.stored.catalog.known();
    let mut known: BTreeSet<&BackupId> = catalog.into_iter().flat_map(Catalog::ids).collect();
    let tombstones = scene.stored.tombstones.known().into_iter().flatten();
    known.extend(tombstones.map(|tombstone| &tombstone.backup));
    let gone = baseline.backups.iter().filter(|id| !known.contains(id));
    gone.cloned().collect()
}

/// The deletes of the last day whose record was lost: the budget cannot count them.
fn lost(scene: &Scene<'_>, baseline: &Baseline) -> BTreeMap<BackupId, Timestamp> {
    let now = trust::expiry_now(scene);
    let recorded = expire::recently_deleted(scene);
    let recent = baseline
        .deleted
        .iter()
        .filter(|(_, at)| now.since(**at) < BUDGET_SPAN);
    let lost = recent.filter(|(id, _)| !recorded.contains(id));
    lost.map(|(id, at)| (id.clone(), *at)).collect()
}

/// What stands against deletes.
pub(super) fn against(scene: &Scene<'_>) -> Vec<Waiting> {
    let stored = scene.stored;
    // What nobody could read has not vanished.
    let unread = stored.catalog.unknown().or(stored.tombstones.unknown());
    let (Contact::Known(baseline), None) = (contact(scene), unread) else {
        return Vec::new();
    };
    let mut against = Vec::new();
    let vanished: Vec<BackupId> = vanished(scene, baseline).into_iter().collect();
    if !vanished.is_empty() {
        against.push(Waiting::Vanished { backups: vanished });
    }
    if let Some(id) = lost(scene, baseline).keys().next() {
        let why = format!("that {id} was deleted is not in it");
        against.push(trust::unknown("the record of deletes", &why));
    }
    against
}

/// How things stand because of it.
pub(super) fn assess(scene: &Scene<'_>, decision: &mut Decision) {
    if scene.server.mode == Mode::Observe {
        return;
    }
    if let Contact::First { backups } = contact(scene) {
        let server = scene.server.name.clone();
        decision.block(Waiting::Adoption { server, backups });
    }
    for waiting in against(scene) {
        let condition = Condition::new(Standing::Stalled, waiting.to_string());
        decision.conditions.push(condition);
    }
}

/// Withholds whatever deletes or marks as long as nobody has approved a policy that keeps less than the last run's.
pub(super) fn hold(scene: &Scene<'_>, decision: &mut Decision) {
    let Contact::Known(baseline) = contact(scene) else {
        return;
    };
    let shortened: BTreeSet<Shortened> = baseline.policy.shortened_to(&Policy::of(scene.entry));
    if shortened.is_empty() || scene.server.mode != Mode::Full {
        return;
    }
    let (stay, held): (Vec<_>, Vec<_>) = std::mem::take(&mut decision.steps)
        .into_iter()
        .partition(|step| step.action.effect() == Effect::Additive);
    decision.steps = stay;
    decision.block(Waiting::Shortened {
        policy: shortened.into_iter().collect(),
        steps: held.iter().map(super::Step::describe).collect(),
    });
}

#[cfg(test)]
mod tests;

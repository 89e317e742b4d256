//! Incremental backups in a judgement: each is judged with the full backup that its chain begins with.

use super::{
    Facts, Fate, Place, Rule, Verdict, Verdicts, WalNeed, hold, unfinished, unfinished_wal, verdict,
};
use crate::model::{
    backup::{Backup, BackupId, BackupStatus},
    catalog::Catalog,
    reason::Reason,
};

const NO_RULE: Rule = Rule {
    policy: None,
    minimum_redundancy: 0,
};

/// Barman's verdict on what it passes over.
pub(super) fn passed_over(backup: &Backup, parent: &BackupId) -> Verdict {
    let parent = parent.clone();
    let mut verdict = match backup.status {
        BackupStatus::Done => verdict(backup, Place::Inside, 0, &NO_RULE),
        _ => unfinished(backup),
    };
    verdict.reasons.retain(|reason| *reason != Reason::NoPolicy);
    verdict.reasons.push(Reason::PartOfChain { parent });
    verdict
}

/// The full backup that the chain of an incremental one begins with.
fn root<'a>(catalog: &'a Catalog, backup: &'a Backup) -> Option<&'a Backup> {
    let parent = |backup: &&Backup| catalog.backup(backup.parent.as_ref()?);
    // A circle cannot be followed for ever, and has no beginning.
    let chain = std::iter::successors(Some(backup), parent).take(catalog.backups.len());
    chain.last().filter(|root| root.parent.is_none())
}

/// Gives incremental backups the fate of the full ones that their chains begin with: of one that is protected, which a keep may
/// soon say to Barman too, nothing goes.
pub(super) fn follow_roots(catalog: &Catalog, facts: &Facts, verdicts: &mut Verdicts) {
    for backup in &catalog.backups {
        let Some(parent) = &backup.parent else {
            continue;
        };
        let judged = backup.status == BackupStatus::Done
            && backup.keep.is_none()
            && backup.unknown_fields.is_empty()
            && verdicts
                .get(&backup.id)
                .is_some_and(|own| own.fate != Fate::Protect);
        let root = root(catalog, backup).filter(|_| judged);
        let Some((root, of_root)) = root.and_then(|root| Some((root, verdicts.get(&root.id)?)))
        else {
            continue;
        };
        let verdict = if of_root.fate == Fate::Expire && !facts.protects(&root.id) {
            let mut verdict = of_root.clone();
            let parent = parent.clone();
            verdict.reasons.push(Reason::PartOfChain { parent });
            verdict
        } else {
            passed_over(backup, parent)
        };
        verdicts.backups.insert(backup.id.clone(), verdict);
    }
}

/// Keeps the parents of every child that somebody may restore.
pub(super) fn hold_parents(catalog: &Catalog, facts: &Facts, verdicts: &mut Verdicts) {
    for _ in &catalog.backups {
        let mut held = false;
        for child in &catalog.backups {
            let is_retained = verdicts
                .get(&child.id)
                .is_some_and(|verdict| verdict.fate != Fate::Expire);
            let stays = (is_retained || facts.protects(&child.id))
                && unfinished_wal(child) != WalNeed::Nothing;
            if let Some(parent) = child.parent.as_ref().filter(|_| stays) {
                let child = child.id.clone();
                held |= hold(verdicts, parent, Reason::NeededBy { child }, Fate::Retain);
            }
        }
        if !held {
            return;
        }
    }
}

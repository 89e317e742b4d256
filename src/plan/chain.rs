//! Does the next backup build on an earlier one?
//!
//! It does where incremental backups are wanted and the server has recorded what has changed since the newest good backup of its
//! cluster, on the same timeline, whose manifest is kept. A chain begins anew when it is old or long, and after an incremental that
//! failed: whatever stood against it, a full backup does not need it.

use super::{Scene, trust};
use crate::model::{
    backup::{Backup, BackupId, BackupStatus},
    catalog::Catalog,
    desired::{Method, Server},
    names::DestinationName,
    observed::Observed,
    reason::{Reason, WhyFull},
    time::Timestamp,
};

/// What the next backup is, where incremental ones are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// An incremental.
    On {
        parent: BackupId,
        /// How many the chain has by now.
        chain: usize,
    },
    /// A full one after all.
    Full(WhyFull),
}

impl Next {
    pub(super) fn parent(&self) -> Option<BackupId> {
        match self {
            Self::On { parent, .. } => Some(parent.clone()),
            Self::Full(_) => None,
        }
    }

    pub(super) fn reason(self) -> Reason {
        match self {
            Self::On { parent, chain } => Reason::Incremental { parent, chain },
            Self::Full(why) => Reason::Full { why },
        }
    }
}

/// What the next backup is; `None` where only full ones are wanted.
pub(super) fn next(scene: &Scene<'_>, catalog: &Catalog) -> Option<Next> {
    let is_sent = scene.entry.method == Method::Stream;
    scene.entry.incremental.filter(|_| is_sent)?;
    Some(match parent(scene, catalog) {
        Ok((parent, chain)) => Next::On { parent, chain },
        Err(why) => Next::Full(why),
    })
}

/// What a backup that is asked for now builds on, or why that cannot be.
pub fn parent_now(
    server: &Server,
    destination: &DestinationName,
    observed: &Observed,
    now: Timestamp,
) -> Result<BackupId, WhyFull> {
    let unseen = super::unlooked(now);
    let mut scenes = super::scenes(server, observed, &unseen, now);
    let scene = scenes.find(|scene| scene.entry.destination == *destination);
    let scene = scene.ok_or(WhyFull::NotConfigured)?;
    if scene.entry.method != Method::Stream || scene.entry.incremental.is_none() {
        return Err(WhyFull::NotConfigured);
    }
    let catalog = scene.stored.catalog.known().ok_or(WhyFull::NoParent)?;
    parent(&scene, catalog).map(|(parent, _)| parent)
}

fn parent(scene: &Scene<'_>, catalog: &Catalog) -> Result<(BackupId, usize), WhyFull> {
    let wanted = scene.entry.incremental.ok_or(WhyFull::NoParent)?;
    let facts = scene.postgres.known().ok_or(WhyFull::NoParent)?;
    if let Some(failed) = failed_incremental(catalog) {
        return Err(failed);
    }
    let newest = catalog.newest_good().ok_or(WhyFull::NoParent)?;
    let same_cluster =
        newest.system_id == Some(facts.system_id) && newest.major() == Some(facts.version / 10_000);
    if !same_cluster || is_going(scene, newest) {
        return Err(WhyFull::NoParent);
    }
    let chain = members(catalog, newest);
    let first = chain.last().copied().unwrap_or(newest);
    if let Some(since) = first.begin_time
        && trust::expiry_now(scene).since(since) >= wanted.full_every
    {
        return Err(WhyFull::Age { since });
    }
    if chain.len() >= wanted.max_chain as usize {
        return Err(WhyFull::Length { chain: chain.len() });
    }
    let parent = newest.id.clone();
    if !catalog.manifests.contains(&parent) {
        return Err(WhyFull::NoManifest { parent });
    }
    if catalog.page_damage.contains(&parent) {
        return Err(WhyFull::Damaged { parent });
    }
    if newest.timeline != Some(facts.timeline) {
        return Err(WhyFull::Timeline);
    }
    match (facts.summarized_from, newest.begin_lsn) {
        (Some(from), Some(begin)) if from <= begin => Ok((parent, chain.len())),
        _ => Err(WhyFull::NotSummarized),
    }
}

/// The newest attempt, if it was an incremental and failed.
fn failed_incremental(catalog: &Catalog) -> Option<WhyFull> {
    let newest = catalog.backups.last()?;
    let failed = newest.status == BackupStatus::Failed && newest.parent.is_some();
    let backup = newest.id.clone();
    failed.then_some(WhyFull::Failed { backup })
}

/// A deletion of it was begun.
fn is_going(scene: &Scene<'_>, backup: &Backup) -> bool {
    let tombstones = scene.stored.tombstones.known();
    tombstones.is_none_or(|all| all.iter().any(|tombstone| tombstone.backup == backup.id))
}

/// A backup and all that it builds on, the full one last.
fn members<'a>(catalog: &'a Catalog, backup: &'a Backup) -> Vec<&'a Backup> {
    let parent = |backup: &&Backup| catalog.backup(backup.parent.as_ref()?);
    // A circle cannot be followed for ever.
    std::iter::successors(Some(backup), parent)
        .take(catalog.backups.len())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parent_now;
    use crate::{model::action::Action, plan::testing::World};

    /// What the next backup is: `on`, whose chain has so many, or `full` and why.
    fn next(world: &str) -> String {
        let world = World::parse(&format!("schedule=@hourly method=stream {world}"));
        let plan = world.plan();
        let step = plan.steps.last().expect("a backup is due");
        let Action::TakeBackup { parent, .. } = &step.action else {
            panic!("no backup is due");
        };
        let reason = step.reasons.get(1).map(ToString::to_string);
        let reason = reason.unwrap_or_else(|| "full".to_owned());
        assert_eq!(parent.is_some(), reason.starts_with("builds on"));
        world.told(reason)
    }

    #[test]
    fn a_backup_builds_on_the_newest_good_one() {
        let good = "incremental=7d/4 | done 26h | postgres summarized | manifest 26h";
        assert_eq!(next(good), "builds on 26h, 1 in the chain");
        assert_eq!(
            next(&good.replace("incremental=7d/4", "")),
            "full",
            "nobody wants it"
        );
        let other = format!("{good} | tombstone 1h of:x");
        assert_eq!(next(&other), "builds on 26h, 1 in the chain");
        let chain = good.replace(
            "done 26h",
            "done 50h id:20261117T0 | done 26h parent:20261117T0",
        );
        assert_eq!(next(&chain), "builds on 26h, 2 in the chain");
    }

    #[test]
    fn a_full_backup_says_why() {
        let good = "incremental=7d/4 | done 26h | postgres summarized | manifest 26h";
        for (is, instead, why) in [
            ("| done 26h", "", "no good backup to build on"),
            ("done 26h", "done 26h sys:2", "no good backup to build on"),
            ("done 26h", "done 26h v:17", "no good backup to build on"),
            (
                "| manifest",
                "| tombstone 1h of:26h | manifest",
                "no good backup to build on",
            ),
            ("7d/4", "24h/4", "the chain began "),
            ("7d/4", "7d/1", "the chain has 1"),
            ("| manifest 26h", "", "no manifest of 26h"),
            ("done 26h", "done 26h pages:", "26h holds damaged pages"),
            ("summarized", "archived:1010", "the server has no summaries"),
            (
                "summarized",
                "summarized:late",
                "the server has no summaries",
            ),
            ("summarized", "summarized tl:2", "the timeline has changed"),
            (
                "| postgres",
                "| failed 1h parent:a id:20261120T115900 | postgres",
                "the incremental 1h failed",
            ),
        ] {
            let told = next(&good.replace(is, instead));
            assert!(
                told.starts_with(&format!("full: {why}")),
                "{instead}: {told}"
            );
        }
    }

    #[test]
    fn who_asks_for_an_incremental_is_told_what_it_builds_on_or_why_there_is_none() {
        let asked = |text: &str, destination: &str| {
            let world = World::parse(text);
            let destination = destination.parse().expect("a name");
            let parent = parent_now(&world.server, &destination, &world.observed, world.now);
            world.told(parent.map_or_else(|why| why.to_string(), |parent| parent.to_string()))
        };
        let good = "method=stream incremental=7d/4 | done 26h | postgres summarized | manifest 26h";
        assert_eq!(asked(good, "primary"), "26h");
        let not_configured = "`incremental` is not configured";
        assert_eq!(asked(good, "other"), not_configured);
        for (is, instead, why) in [
            ("method=stream ", "", not_configured),
            ("incremental=7d/4 ", "", not_configured),
            (
                "| done",
                "| lose catalog | done",
                "no good backup to build on",
            ),
        ] {
            assert_eq!(asked(&good.replace(is, instead), "primary"), why);
        }
    }
}

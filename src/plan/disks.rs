//! Whether the disks of which snapshots are to be taken hold the server.
//!
//! Finding out costs requests to a cloud, and maybe a command on another host. [`unsurveyed`] says when it is worth that: at the first look,
//! so that what is wrong shows before a backup is due; when a backup is due; and else once an hour, if nothing was wrong. What is wrong, or not
//! known, holds up the backup of this server and nothing else.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{Decision, Scene, due, scenes, trust, unlooked};
use crate::model::{
    desired::Server,
    names::DestinationName,
    observed::{Knowledge, Observed},
    reason::Waiting,
    time::Timestamp,
};

/// For how long it counts that nothing was wrong, as long as no backup is due.
const GOOD_FOR: Duration = Duration::from_hours(1);

/// The destinations for which the disks should be looked at before this server is planned.
pub fn unsurveyed(
    server: &Server,
    observed: &Observed,
    now: Timestamp,
) -> BTreeSet<DestinationName> {
    let unseen = unlooked(now);
    let unsurveyed = scenes(server, observed, &unseen, now).filter(is_unsurveyed);
    unsurveyed
        .map(|scene| scene.entry.destination.clone())
        .collect()
}

fn is_unsurveyed(scene: &Scene<'_>) -> bool {
    if scene.entry.snapshot.is_none() || trust::reachable(scene).is_err() {
        return false;
    }
    match &scene.stored.disks {
        Knowledge::Absent => true,
        Knowledge::Unknown(_) => false,
        Knowledge::Known(survey) => {
            let is_due = !due::decide(scene).steps.is_empty();
            let limit = if is_due {
                trust::OBSERVATION_AGE_MAX
            } else {
                GOOD_FOR
            };
            scene.now.since(survey.at) > limit
        }
    }
}

/// What is wrong with the disks, told whether or not a backup is due.
pub(super) fn assess(scene: &Scene<'_>, decision: &mut Decision) {
    for waiting in against(scene) {
        decision.block(waiting);
    }
}

/// What a backup waits for, if anything is wrong with the disks.
pub(super) fn hindrance(scene: &Scene<'_>) -> Option<Waiting> {
    against(scene).into_iter().next()
}

/// The configuration files of which no snapshot is taken.
pub(super) fn outside(scene: &Scene<'_>) -> Vec<PathBuf> {
    let takes = scene.entry.snapshot.is_some();
    let facts = scene.postgres.known().filter(|_| takes);
    facts.map_or_else(Vec::new, |facts| facts.files.outside.clone())
}

fn against(scene: &Scene<'_>) -> Vec<Waiting> {
    match &scene.stored.disks {
        Knowledge::Absent => Vec::new(),
        Knowledge::Unknown(failure) => {
            let hint = failure.hint.as_ref().map(|hint| format!("; {hint}"));
            let why = format!("{failure}{}", hint.unwrap_or_default());
            vec![trust::unknown("what is on which disk", &why)]
        }
        Knowledge::Known(survey) => {
            let fault = survey.faults.iter().map(|fault| Waiting::Disks {
                what: fault.message.clone(),
                next: fault.hint.clone(),
            });
            fault.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unsurveyed;
    use crate::plan::testing::{World, stands, steps, waits};

    const DUE: &str = "schedule=@hourly retention=1x method=snapshot | done 1d | done 9d";

    #[test]
    fn what_is_wrong_with_the_disks_refuses_a_backup_and_nothing_else() {
        assert!(steps(&format!("{DUE} | disks 1m")).starts_with("backup: due"));
        let text = format!("{DUE} | disks 1m fault:wal_is_elsewhere fault:root_is_named");
        // A backup would have held them up.
        assert!(steps(&text).starts_with("delete 9d: outside"));
        assert_eq!(
            waits(&text),
            "wal is elsewhere; mend it\nroot is named; mend it"
        );
        assert_eq!(
            stands(&text),
            "blocked: wal is elsewhere; mend it\nblocked: root is named; mend it\n\
             progressing: 2 to do"
        );
    }

    #[test]
    fn what_is_wrong_shows_before_a_backup_is_due() {
        let text = "schedule=@daily method=snapshot | done 1h | disks 1m fault:wal_is_elsewhere";
        assert_eq!(stands(text), "blocked: wal is elsewhere; mend it");
        assert_eq!(
            waits(text),
            "wal is elsewhere; mend it\nnext due 2026-11-21T00:00:00Z"
        );
    }

    #[test]
    fn what_nobody_knows_of_the_disks_holds_up_a_backup_and_no_delete() {
        let text = format!("{DUE} | lose disks");
        assert!(steps(&text).starts_with("delete 9d"));
        let told = "what is on which disk is unknown: no answer";
        assert_eq!(waits(&text), told);
        assert!(stands(&text).starts_with(&format!("blocked: {told}")));
    }

    #[test]
    fn what_may_help_against_what_is_unknown_is_said() {
        let text = format!("{DUE} | disks unknown");
        assert_eq!(
            waits(&text),
            "what is on which disk is unknown: no answer; ask again"
        );
    }

    #[test]
    fn disks_are_looked_at_first_of_all_when_a_backup_is_due_and_every_hour() {
        let idle = "schedule=@daily method=snapshot | done 1h";
        for (text, is_wanted) in [
            (idle.to_owned(), true),
            (format!("{idle} | disks 60m"), false),
            (format!("{idle} | disks 61m"), true),
            (format!("{DUE} | disks 5m"), false),
            (format!("{DUE} | disks 6m"), true),
            (format!("{idle} | lose disks"), false),
            ("method=snapshot |".to_owned(), true),
            // Nothing to take snapshots of, or nobody to ask.
            ("| done 1h".to_owned(), false),
            (format!("{idle} | postgres remote"), false),
            (format!("{idle} | lose server"), false),
            ("method=snapshot state=retired |".to_owned(), false),
        ] {
            let world = World::parse(&text);
            let wanted = unsurveyed(&world.server, &world.observed, world.now);
            assert_eq!(!wanted.is_empty(), is_wanted, "{text}");
        }
    }

    #[test]
    fn disks_of_another_host_are_looked_at_from_here_if_somebody_says_what_is_mounted() {
        let text = "schedule=@daily method=snapshot mounts=declared | done 1h | postgres remote";
        let world = World::parse(text);
        assert!(!unsurveyed(&world.server, &world.observed, world.now).is_empty());
    }
}

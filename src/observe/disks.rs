//! Whether snapshots of a server's disks would be a backup: asked of the cloud that has the disks, and of whoever says what is mounted.
//!
//! What is wrong with the disks is an answer, and all of it is told. That somebody does not answer makes it Unknown, for this destination
//! alone. Where it is worth asking, the planner says.

use std::{collections::BTreeSet, path::PathBuf};

use futures_util::future::join_all;

use super::snapshots::ANSWER_MAX;
use crate::{
    clock::Clock,
    failure::{Failure, Kind},
    model::{
        desired::{Server, SnapshotOptions},
        names::DestinationName,
        observed::{Knowledge, Observed},
        snapshot::DiskSurvey,
        time::{Span, Timestamp},
    },
    snapshot::{self, Clouds, Error, Mounting, Order, Surveyed},
};

/// Looks at the disks of which snapshots are taken for these destinations.
pub async fn look(
    server: &Server,
    wanted: &BTreeSet<DestinationName>,
    observed: &mut Observed,
    clouds: &dyn Clouds,
    clock: Clock,
) {
    let Some(facts) = observed.postgres.known() else {
        return;
    };
    let places = &facts.files.places;
    let looking = wanted.iter().filter_map(|destination| {
        let options = server.entry(destination)?.snapshot.as_ref()?;
        Some(async move { (destination, survey(options, places, clouds, clock).await) })
    });
    for (destination, found) in join_all(looking).await {
        if let Some(stored) = observed.destinations.get_mut(destination) {
            stored.disks = found;
        }
    }
}

async fn survey(
    options: &SnapshotOptions,
    places: &[PathBuf],
    clouds: &dyn Clouds,
    clock: Clock,
) -> Knowledge<DiskSurvey> {
    let looking = async {
        let provider = clouds.open(&options.place).await?;
        let (order, mounting) = (Order::from(options), Mounting::from(&options.mounts));
        snapshot::survey(&*provider, &order, &mounting, places).await
    };
    match tokio::time::timeout(ANSWER_MAX, looking).await {
        Ok(looked) => judged(looked, clock.now()),
        Err(_) => {
            let message = format!("nothing was learned of the disks in {}", Span(ANSWER_MAX));
            Knowledge::Unknown(Failure::new(Kind::Unreachable, message))
        }
    }
}

/// All that is wrong, unless something could not be learned.
fn judged(looked: snapshot::Result<Surveyed>, at: Timestamp) -> Knowledge<DiskSurvey> {
    let errors: Vec<Error> = match looked {
        Ok(surveyed) => surveyed.faults.into_iter().chain(surveyed.gaps).collect(),
        Err(error) => vec![error],
    };
    let failure = |error: &Error| Failure::of(error.kind(), error).hinted(error.hint());
    match errors.iter().find(|error| !error.is_finding()) {
        Some(unlearned) => Knowledge::Unknown(failure(unlearned)),
        None => Knowledge::Known(DiskSurvey {
            at,
            faults: errors.iter().map(failure).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_known_and_what_is_not_answered_is_not() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().expect("an instant");
        let refused = || Error::Refused {
            disk: "root".to_owned(),
            why: "is the boot disk",
        };
        let silent = || Error::Unreachable {
            doing: "look".to_owned(),
            why: "no answer".to_owned(),
        };
        let surveyed = |faults, gaps| {
            Ok(Surveyed {
                found: Vec::new(),
                faults,
                gaps,
            })
        };
        let faults = |looked| match judged(looked, now) {
            Knowledge::Known(survey) => {
                let each = survey.faults.iter();
                let told =
                    each.map(|fault| format!("{fault}; {}", fault.hint.as_deref().unwrap_or("?")));
                told.collect::<Vec<_>>().join(" | ")
            }
            Knowledge::Unknown(failure) => format!("unknown: {failure}"),
            Knowledge::Absent => "absent".to_owned(),
        };
        let root = "the disk `root` is the boot disk; move the files to a disk for data, and name that in `disks`";
        let unknown = "unknown: cannot look: the cloud does not answer: no answer";
        for (looked, told) in [
            (surveyed(vec![], vec![]), String::new()),
            (
                surveyed(vec![refused()], vec![refused()]),
                format!("{root} | {root}"),
            ),
            (Err(refused()), root.to_owned()),
            (
                surveyed(vec![refused()], vec![silent()]),
                unknown.to_owned(),
            ),
            (Err(silent()), unknown.to_owned()),
        ] {
            assert_eq!(faults(looked), told);
        }
    }
}

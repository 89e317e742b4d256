//! How looking at a server ends: which exit code says what was found.

use super::{error::CHECK, exit::Exit, output};
use crate::{
    failure::Failure,
    model::{condition::Standing, observed::Observed},
    plan::Plan,
    reconcile::Activation,
};

/// What could not be read or asked: the catalogs, what is on which disk, the server.
fn unknown(observed: &Observed) -> impl Iterator<Item = &Failure> {
    let catalogs = observed.destinations.values();
    let unread = catalogs.flat_map(|stored| [stored.catalog.unknown(), stored.disks.unknown()]);
    unread.flatten().chain(observed.postgres.unknown())
}

/// Says what to do next, where something could not be read or asked.
pub(super) fn hint<'a>(observed: impl IntoIterator<Item = &'a Observed>) {
    if observed
        .into_iter()
        .any(|each| unknown(each).next().is_some())
    {
        output::talk(&format!("hint: {CHECK}"));
    }
}

/// How it ends that something could not be read or asked.
pub(super) fn of_observed(observed: &Observed) -> Exit {
    let exits = unknown(observed).map(|failure| Exit::from(failure.kind));
    exits.fold(Exit::Done, Exit::worst)
}

/// How it ends that a server stands so.
pub(super) fn of_activation(activation: &Activation) -> Exit {
    let Activation { plan, observed } = activation;
    of_observed(observed).worst(of_plan(plan, observed))
}

fn of_plan(plan: &Plan, observed: &Observed) -> Exit {
    let targets = plan.targets.values().flat_map(|target| &target.conditions);
    let exits = targets.map(|condition| match condition.standing {
        Standing::Converged | Standing::Progressing => Exit::Done,
        Standing::Stalled => Exit::ObjectiveMissed,
        // What is blocked because something is unknown ends as that does; else it is refused for a reason that was found.
        Standing::Blocked if unknown(observed).next().is_some() => Exit::Done,
        Standing::Blocked => Exit::Refused,
    });
    exits.fold(Exit::Done, Exit::worst)
}

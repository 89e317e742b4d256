//! `status`: how each server stands in each destination, in one line each.

use std::fmt;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    model::{
        condition::Standing,
        observed::{Observed, Stored},
    },
    plan::{Plan, render},
    reconcile::Activation,
};

pub(in crate::cli) async fn run(arguments: args::Select, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(arguments.now).await?;
    let servers = selection::servers(&ports.desired, &arguments)?;
    let activations = ports.plan_all(&servers).await;
    let exit = activations
        .iter()
        .map(ending)
        .fold(Exit::Done, Exit::worst);
    let plans: Vec<Plan> = activations
        .into_iter()
        .map(|Activation { plan, .. }| plan)
        .collect();
    session
        .output
        .result(&Standings(&plans), &render::Json::new(&plans))?;
    Ok(exit)
}

/// What there is to say by an exit code about how a server stands.
pub(super) fn ending(activation: &Activation) -> Exit {
    let Activation { observed, plan } = activation;
    let unread = observed
        .destinations
        .values()
        .filter_map(|stored| stored.catalog.unknown());
    let unasked = observed.postgres.unknown();
    let mut exit = unread
        .chain(unasked)
        .fold(Exit::Done, |exit, failure| exit.worst(failure.kind.into()));
    if is_foreign(observed) {
        exit = exit.worst(Exit::Refused);
    }
    if plan.standing() >= Standing::Blocked && exit == Exit::Done {
        exit = Exit::ObjectiveMissed;
    }
    exit
}

/// Whether a prefix belongs to another cluster than the one that is there.
fn is_foreign(observed: &Observed) -> bool {
    let Some(facts) = observed.postgres.known() else {
        return false;
    };
    let pinned = |stored: &Stored| stored.identity.known().map(|identity| identity.system_id);
    let mut pinned = observed.destinations.values().filter_map(pinned);
    pinned.any(|system_id| system_id != facts.system_id)
}

struct Standings<'a>(&'a [Plan]);

impl fmt::Display for Standings<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for plan in self.0 {
            for (destination, target) in &plan.targets {
                let title = format!("{} -> {destination}", plan.server);
                for condition in &target.conditions {
                    let standing = condition.standing.to_string();
                    writeln!(
                        formatter,
                        "{title:<32} {standing:<12} {}",
                        condition.message
                    )?;
                }
                if let Some(window) = &target.window {
                    writeln!(
                        formatter,
                        "{:<32} {:<12} {}",
                        "",
                        "recoverable",
                        render::range(window)
                    )?;
                }
            }
        }
        Ok(())
    }
}

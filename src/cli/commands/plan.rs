//! `plan` and `show-plan`: what reconcile would do, and why.

use std::fs;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    failure::{Failure, Kind},
    model::observed::Observed,
    plan::{Plan, render, saved::SavedPlan},
    reconcile::Activation,
};

pub(in crate::cli) async fn run(arguments: args::Plan, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(arguments.select.now).await?;
    let servers = selection::servers(&ports.desired, &arguments.select)?;
    let activations = ports.plan_all(&servers).await;
    let (plans, observed): (Vec<Plan>, Vec<Observed>) = activations
        .into_iter()
        .map(|Activation { plan, observed }| (plan, observed))
        .unzip();
    session
        .output
        .result(&Texts(&plans), &render::Json::new(&plans))?;
    if let Some(path) = arguments.out {
        let saved = SavedPlan::new(plans.iter().cloned().zip(&observed).collect());
        let text = serde_json::to_string_pretty(&saved).map_err(std::io::Error::from);
        let written = text.and_then(|text| fs::write(&path, text + "\n"));
        written.map_err(|source| Error::File {
            doing: "write",
            path,
            source,
        })?;
    }
    let unreachable = observed.iter().find_map(unread);
    if let Some(failure) = unreachable {
        return Ok(Exit::from(failure.kind));
    }
    let pending = plans.iter().any(|plan| !plan.is_empty());
    Ok(if pending && arguments.detailed_exitcode {
        Exit::Pending
    } else {
        Exit::Done
    })
}

/// Why a catalog could not be read, if one could not.
fn unread(observed: &Observed) -> Option<&Failure> {
    observed
        .destinations
        .values()
        .find_map(|stored| stored.catalog.unknown())
}

pub(in crate::cli) fn show(arguments: &args::ShowPlan, session: &Session) -> Result<Exit, Error> {
    let saved = read(&arguments.file)?;
    session
        .output
        .result(&Texts(&saved.plans), &render::Json::new(&saved.plans))?;
    Ok(Exit::Done)
}

/// Reads a saved plan and checks that it is whole.
pub(super) fn read(path: &std::path::Path) -> Result<SavedPlan, Error> {
    let file = |source| Error::File {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(file)?;
    let saved: SavedPlan =
        serde_json::from_str(&text).map_err(|error| file(std::io::Error::from(error)))?;
    let checked = saved
        .check()
        .map_err(|error| Failure::of(Kind::Stale, &error));
    checked.map_err(|failure| Error::failed("cannot use the saved plan", failure))?;
    Ok(saved)
}

/// Several plans, each with its destinations, and one summary over all of them.
struct Texts<'a>(&'a [Plan]);

impl std::fmt::Display for Texts<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for plan in self.0 {
            write!(formatter, "{}", render::Text(plan))?;
        }
        writeln!(formatter, "{}", render::Summary(self.0))
    }
}

//! `plan` and `show-plan`: what reconcile would do, and why.

use std::fs;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection, standing},
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
    standing::hint(&observed);
    let unknown = observed
        .iter()
        .map(standing::of_observed)
        .fold(Exit::Done, Exit::worst);
    if unknown != Exit::Done {
        return Ok(unknown);
    }
    let pending = plans.iter().any(|plan| !plan.is_empty());
    Ok(if pending && arguments.detailed_exitcode {
        Exit::Pending
    } else {
        Exit::Done
    })
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
    let saved: SavedPlan = serde_json::from_str(&text).map_err(|error| {
        let doing = format!("`{}` is not a saved plan", path.display());
        Error::failed(doing, Failure::of(Kind::Usage, &error))
            .hinted("`barkeep plan --out FILE` saves one")
    })?;
    let checked = saved
        .check()
        .map_err(|error| Failure::of(Kind::Stale, &error));
    checked.map_err(|failure| Error::stale("cannot use the saved plan", failure))?;
    Ok(saved)
}

/// Plans, each with its destinations, and one summary over all of them.
struct Texts<'a>(&'a [Plan]);

impl std::fmt::Display for Texts<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for plan in self.0 {
            write!(formatter, "{}", render::Text(plan))?;
        }
        writeln!(formatter, "{}", render::Summary(self.0))
    }
}

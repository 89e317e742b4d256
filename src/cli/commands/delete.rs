//! `delete`: one backup, because somebody named it. Kept and running ones stay, and so does the minimum redundancy.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    failure::{Failure, Kind},
    model::{action::Action, names::ServerName},
    observe::Depth,
    plan::{
        Plan,
        guard::{Asked, Refusal, Violation},
        lock::questions_about,
        render,
    },
    reconcile::{
        exclusion::{Rights, wanted},
        once,
    },
};

pub(in crate::cli) async fn run(arguments: args::Delete, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let mut observed = ports.observe(server, Depth::Everything).await;
    let catalog = selection::catalog(&observed, &entry.destination)?;
    let backup = selection::backup(catalog, &arguments.backup)?.clone();
    let version = catalog
        .versions
        .get(&backup.id)
        .cloned()
        .unwrap_or_default();
    let actions = vec![Action::DeleteBackup {
        backup: backup.id.clone(),
        version,
    }];
    let questions = questions_about(&observed, &entry.destination, &actions);
    let questions = [(entry.destination.clone(), questions)].into();
    ports.look(server, &questions, &mut observed).await;
    let plan = Plan::requested(&server.name, &entry.destination, actions, ports.clock.now());
    let guarded = ports.guard(plan, server, &observed, Asked::ByName);
    if let Some(refusal) = guarded.refusals().first() {
        return Err(refused(&server.name, refusal));
    }
    let plans = [guarded.plan().clone()];
    if arguments.dry_run {
        let text = render::Text(&plans[0]).to_string();
        session.output.result(&text, &render::Json::new(&plans))?;
        return Ok(Exit::Done);
    }
    let rights = Rights::insist(&ports, server, wanted(&guarded.plan().steps)).await;
    let mut rights = rights.map_err(|waiting| Error::lease_held(&server.name, &waiting))?;
    let (outcomes, _) = once::carry_out(&ports, server, &guarded, &observed, &mut rights).await;
    rights.release().await;
    for outcome in outcomes {
        if let Err(error) = outcome.result {
            let failure = Failure::of(error.kind(), &error);
            return Err(Error::failed(
                format!("cannot delete {}", backup.id),
                failure,
            ));
        }
    }
    let text = format!("deleted {} from {}\n", backup.id, entry.destination);
    session.output.result(&text, &render::Json::new(&plans))?;
    Ok(Exit::Done)
}

/// What the guard refused, with what lifts the refusal.
fn refused(server: &ServerName, refusal: &Refusal) -> Error {
    let failure = Failure::of(Kind::Refused, &refusal.violation);
    let error = Error::failed(
        format!("nothing is deleted in `{}`", refusal.destination),
        failure,
    );
    match &refusal.violation {
        Violation::Kept(id) => error.hinted(format!(
            "`barkeep keep {server} {id} --release` releases it"
        )),
        Violation::MinimumRedundancy { .. } => {
            error.hinted("take another backup first; `minimum_redundancy` is the limit")
        }
        Violation::Unfinished(_) => {
            error.hinted("`barkeep abandon` declares it failed, if it is dead")
        }
        Violation::Locked { .. } => {
            error.hinted("who set the lock can lift it; else wait, or `object_lock = \"ignore\"`")
        }
        _ => error,
    }
}

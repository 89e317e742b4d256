//! `backup`: take a backup now, whatever the schedule says.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, output, selection},
    execute::{attempt::Done, base_backup::TakenState},
    failure::{Failure, Kind},
    model::{action::Action, observed::Locality, reason::Waiting},
    observe::Depth,
    plan::{
        Plan, due,
        guard::{Asked, Guarded},
    },
    reconcile::{
        exclusion::{Rights, wanted},
        once,
    },
};

pub(in crate::cli) async fn run(arguments: args::Backup, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let doing = || format!("cannot back up `{}`", server.name);
    if let Some(source) = &entry.copy_of {
        let why = format!("`{}` is a copy of `{source}`", entry.destination);
        return Err(Error::failed(doing(), Failure::new(Kind::Usage, why)));
    }
    let observed = ports.observe(server, Depth::Everything).await;
    if let Some(failure) = observed.postgres.unknown() {
        return Err(Error::failed(doing(), failure.clone()));
    }
    if let Locality::NotLocal { why } = &observed.locality {
        let waiting = Waiting::NotLocal { why: why.clone() };
        return Err(Error::failed(
            doing(),
            Failure::new(Kind::Failed, waiting.to_string()),
        ));
    }
    let stored = &observed.destinations[&entry.destination];
    if let Some(failure) = stored.catalog.unknown() {
        return Err(Error::failed(doing(), failure.clone()));
    }
    let above = stored.catalog.known().and_then(due::newest_id);
    let name = arguments.name.or_else(|| entry.files.name.clone());
    let actions = vec![Action::TakeBackup {
        above,
        due: None,
        name,
    }];
    let plan = Plan::requested(&server.name, &entry.destination, actions, ports.clock.now());
    let rights = Rights::insist(&ports, server, wanted(&plan.steps)).await;
    let mut rights = rights.map_err(|waiting| Error::lease_held(&server.name, &waiting))?;
    let guarded = ports.guard(plan, server, &observed, Asked::ByName);
    let (_, attempts) = once::carry_out(&ports, server, &guarded, &observed, &mut rights).await;
    rights.release().await;
    let ended = attempts.into_iter().next();
    let ended = ended.ok_or_else(|| Error::failed(doing(), refused(&guarded)))?;
    let done = ended
        .result
        .map_err(|failure| Error::failed(doing(), failure))?;
    let Done::Taken(taken) = done else {
        let failure = Failure::new(Kind::Failed, "it is a copy");
        return Err(Error::failed(doing(), failure));
    };
    for warning in &taken.warnings {
        output::talk(&format!("warning: {warning}"));
    }
    let waiting_for = match &taken.state {
        TakenState::WaitingForWals(first) => Some(first),
        TakenState::Done => None,
    };
    let json = serde_json::json!({
        "format": 1,
        "server": server.name,
        "destination": entry.destination,
        "backup": taken.backup,
        "waiting_for": waiting_for,
        "files": taken.files,
        "bytes": taken.bytes,
        "archives": taken.archives,
        "damaged": taken.damaged,
    });
    session.output.result(&format!("{taken}\n"), &json)?;
    Ok(if taken.is_damaged() {
        Exit::Verification
    } else {
        Exit::Done
    })
}

/// What the guard says of a plan of which nothing is left.
fn refused(guarded: &Guarded) -> Failure {
    match guarded.refusals().first() {
        Some(refusal) => Failure::of(Kind::Refused, &refusal.violation),
        None => Failure::new(Kind::Refused, "the guard refused it"),
    }
}

//! `backup`: take a backup now, whatever the schedule says.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, output, selection},
    execute::{attempt::Done, base_backup::TakenState},
    failure::{Failure, Kind},
    model::{
        action::Action,
        desired::{Method, Server},
        observed::Locality,
        reason::{Waiting, WhyFull},
    },
    observe::Depth,
    plan::{Plan, chain, due},
    reconcile,
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
    if entry.method == Method::Files
        && let Locality::NotLocal { why } = &observed.locality
    {
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
    let now = ports.clock.now();
    let on = || chain::parent_now(server, &entry.destination, &observed, now);
    let parent = arguments.incremental.then(on).transpose();
    let parent = parent.map_err(|why| not_incremental(server, &why))?;
    let name = arguments.name.or_else(|| entry.files.name.clone());
    let actions = vec![Action::TakeBackup {
        above,
        due: None,
        name,
        parent,
    }];
    let plan = Plan::requested(&server.name, &entry.destination, actions, ports.clock.now());
    let ended = reconcile::take(&ports, server, &plan.steps[0], &observed).await;
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

fn not_incremental(server: &Server, why: &WhyFull) -> Error {
    let doing = format!("cannot take an incremental backup of `{}`", server.name);
    Error::failed(doing, Failure::new(Kind::Failed, why.to_string()))
}

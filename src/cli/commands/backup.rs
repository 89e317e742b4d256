//! `backup`: take a backup now, whatever the schedule says.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, output, selection},
    execute::{
        attempt::Done,
        base_backup::{Taken, TakenState},
    },
    failure::{Failure, Kind},
    model::{
        action::Action,
        backup::BackupId,
        desired::{Entry, Server},
        observed::{Locality, Observed},
        reason::{Waiting, WhyFull},
    },
    observe::Depth,
    plan::{
        Plan, chain, due,
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
    let failed = |failure| Error::failed(format!("cannot back up `{}`", server.name), failure);
    let observed = ports.observe(server, Depth::Everything).await;
    let above = newest(entry, &observed).map_err(failed)?;
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
    let rights = Rights::insist(&ports, server, wanted(&plan.steps)).await;
    let mut rights = rights.map_err(|waiting| Error::lease_held(&server.name, &waiting))?;
    let guarded = ports.guard(plan, server, &observed, Asked::ByName);
    let (_, attempts) = once::carry_out(&ports, server, &guarded, &observed, &mut rights).await;
    rights.release().await;
    let ended = attempts.into_iter().next();
    let ended = ended.ok_or_else(|| failed(refused(&guarded)))?;
    match ended.result.map_err(failed)? {
        Done::Taken(taken) => tell(&taken, server, entry, session),
        other => Err(failed(Failure::new(Kind::Failed, other.to_string()))),
    }
}

/// The newest id in the destination, if a backup can be taken.
fn newest(entry: &Entry, observed: &Observed) -> Result<Option<BackupId>, Failure> {
    if let Some(source) = &entry.copy_of {
        let why = format!("`{}` is a copy of `{source}`", entry.destination);
        return Err(Failure::new(Kind::Usage, why));
    }
    if let Some(failure) = observed.postgres.unknown() {
        return Err(failure.clone());
    }
    if entry.is_read_here()
        && let Locality::NotLocal { why } = &observed.locality
    {
        let waiting = Waiting::NotLocal { why: why.clone() };
        return Err(Failure::new(Kind::Failed, waiting.to_string()));
    }
    let stored = &observed.destinations[&entry.destination];
    if let Some(failure) = stored.catalog.unknown() {
        return Err(failure.clone());
    }
    if let (Some(identity), Some(facts)) = (stored.identity.known(), observed.postgres.known())
        && identity.system_id != facts.system_id
    {
        let waiting = Waiting::ForeignSystem {
            pinned: identity.system_id,
            found: facts.system_id,
        };
        return Err(Failure::new(Kind::Refused, waiting.to_string()));
    }
    Ok(stored.catalog.known().and_then(due::newest_id))
}

fn tell(taken: &Taken, server: &Server, entry: &Entry, session: &Session) -> Result<Exit, Error> {
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

/// What the guard says of a plan of which nothing is left.
fn refused(guarded: &Guarded) -> Failure {
    match guarded.refusals().first() {
        Some(refusal) => Failure::of(Kind::Refused, &refusal.violation),
        None => Failure::new(Kind::Refused, "the guard refused it"),
    }
}

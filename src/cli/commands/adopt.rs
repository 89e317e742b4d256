//! `adopt`: take up a prefix that holds backups already, or accept that some of them are gone.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use serde::Serialize;

use crate::{
    cli::{
        Session,
        args::{self, Format},
        error::Error,
        exit::Exit,
        output, selection,
        table::Table,
    },
    failure::{Failure, Kind},
    model::{
        names::{DestinationName, ServerName},
        observed::Observed,
    },
    plan::{Target, render},
};

pub(in crate::cli) async fn run(arguments: args::Adopt, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports_of(&arguments.server).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let only = arguments.destination.as_ref();
    if let Some(name) = only {
        selection::entry(server, Some(name))?;
    }
    let seen = ports.plan(server).await.observed;
    readable(&seen, only)?;
    let (adopted, words) = ports.adopted(server, &seen, only).await;
    let digest = adopted.plan.digest();
    let mut shown = Shown {
        format: 1,
        server: &server.name,
        destinations: words.keys().collect(),
        adopted: false,
        plan: render::JsonPlan {
            digest: digest.clone(),
            plan: &adopted.plan,
        },
    };
    if words.is_empty() {
        session.output.result(&shown, &shown)?;
        return Ok(Exit::Done);
    }
    shown.adopted = match &arguments.approve {
        Some(approved) if *approved == digest => true,
        Some(approved) => return Err(stale(&server.name, approved)),
        None => is_accepted(session, &shown)?,
    };
    if shown.adopted {
        let written = ports.put_on_record(server, &seen, &words).await;
        let failed = |failure| Error::failed(format!("cannot adopt `{}`", server.name), failure);
        written.map_err(failed)?;
    }
    session.output.result(&shown, &shown)?;
    if !shown.adopted {
        let command = format!("barkeep adopt {} --approve {digest}", server.name);
        output::talk(&format!("hint: nothing was adopted; `{command}` does"));
    }
    Ok(Exit::Done)
}

/// Nobody adopts what cannot be read.
fn readable(seen: &Observed, only: Option<&DestinationName>) -> Result<(), Error> {
    let wanted = |name: &&DestinationName| only.is_none_or(|only| only == *name);
    for name in seen.destinations.keys().filter(wanted) {
        let stored = &seen.destinations[name];
        let unknown = [
            stored.catalog.unknown(),
            stored.identity.unknown(),
            stored.tombstones.unknown(),
            stored.store_time.unknown(),
        ];
        if let Some(failure) = unknown.into_iter().flatten().next() {
            let doing = format!("cannot read what is in `{name}`");
            return Err(Error::failed(doing, failure.clone()));
        }
    }
    Ok(())
}

/// Asks whoever sits at a terminal, who has to see it first.
fn is_accepted(session: &Session, shown: &Shown<'_>) -> Result<bool, Error> {
    let is_watched = output::is_watched() && io::stdin().is_terminal();
    if session.output.format() == Format::Json || !is_watched {
        return Ok(false);
    }
    output::talk(shown);
    output::talk(&"Type `yes` to adopt it:");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Error::Input)?;
    Ok(answer.trim() == "yes")
}

fn stale(server: &ServerName, digest: &str) -> Error {
    let changed = Failure::new(Kind::Stale, "what is there has changed");
    let doing = format!("`{server}` is not adopted with the digest `{digest}`");
    let hint = format!("`barkeep adopt {server}` shows what it would be now, and its digest");
    Error::failed(doing, changed).hinted(hint)
}

#[derive(Serialize)]
struct Shown<'a> {
    format: u32,
    server: &'a ServerName,
    /// Where something is to be adopted.
    destinations: Vec<&'a DestinationName>,
    adopted: bool,
    /// What would be done from then on.
    plan: render::JsonPlan<'a>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server;
        if self.destinations.is_empty() {
            return writeln!(formatter, "{server}: nothing to adopt");
        }
        if self.adopted {
            for destination in &self.destinations {
                writeln!(formatter, "{server} -> {destination}: adopted")?;
            }
            return Ok(());
        }
        let plan = self.plan.plan;
        for destination in &self.destinations {
            if let Some(target) = plan.targets.get(*destination) {
                verdicts(target).fmt(formatter)?;
            }
        }
        write!(formatter, "{}", render::Text(plan))?;
        writeln!(formatter, "{}", render::Summary(std::slice::from_ref(plan)))
    }
}

/// What the policy makes of every backup.
fn verdicts(target: &Target) -> Table<3> {
    let mut table = Table::new(["BACKUP", "VERDICT", "BECAUSE"]);
    for (id, verdict) in &target.verdicts {
        let because = verdict.reasons.first().map(ToString::to_string);
        table.row([
            id.to_string(),
            verdict.fate.to_string(),
            because.unwrap_or_default(),
        ]);
    }
    table
}

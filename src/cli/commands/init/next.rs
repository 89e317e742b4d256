//! What is to be done next, with every command as it is typed.

use std::{fmt, path::Path};

use serde::Serialize;

use super::found::{Files, Found};
use crate::{
    cli::{calls, error::Error},
    model::names::ServerName,
    postgres::{Role, grants},
};

/// Something to be done.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// What, in words.
    what: String,
    /// By what.
    commands: Vec<String>,
}

/// All steps, in their order.
pub(super) fn steps(server: &ServerName, config: &Path, found: &Found) -> Result<Vec<Step>, Error> {
    let barkeep = calls::typed(config)?;
    let step = |what: &str, command: &str| Step {
        what: what.to_owned(),
        commands: vec![format!("{barkeep} {command}")],
    };
    let mut steps = Vec::new();
    steps.extend(rights(found));
    steps.extend(archiving(&calls::archive_command(config, server)?, found));
    steps.push(step("is it valid", "validate"));
    steps.push(step(
        "can everything be reached and used",
        &format!("check {server}"),
    ));
    if found.backups > 0 {
        steps.push(step(
            "take up the backups that are there",
            &format!("adopt {server}"),
        ));
    }
    steps.push(step(
        "what would be done; writes nothing",
        &format!("plan {server}"),
    ));
    steps.push(step(
        "do it: the first backup; then from cron, a timer or the service",
        &format!("reconcile --once {server}"),
    ));
    Ok(steps)
}

/// What the role still needs.
fn rights(found: &Found) -> Option<Step> {
    let sent = !matches!(found.files, Files::Here);
    let lacking = found.lacking.iter();
    // The server itself begins and ends what it sends.
    let lacking = lacking.filter(|lacking| !(sent && lacking.stops_backups));
    let mut commands: Vec<_> = lacking
        .map(|lacking| format!("{};", lacking.statement))
        .collect();
    let role = &found.role;
    let mut what = format!("give the role `{role}` its rights, as a superuser");
    if let Some(failure) = &found.unsent {
        commands.push(format!("{};", grants::replication(role)));
        let why = format!(", and let it in for `replication` in pg_hba.conf ({failure})");
        what.push_str(&why);
    }
    (!commands.is_empty()).then_some(Step { what, commands })
}

/// How the server is made to archive.
fn archiving(command: &str, found: &Found) -> Option<Step> {
    let archiving = &found.facts.archiving;
    if archiving.is_on() && archiving.command.as_deref() == Some(command) {
        return None;
    }
    let commands = calls::have_archived(archiving, &found.wal_level, command);
    let mut what = if archiving.is_on() {
        "have PostgreSQL archive its WAL".to_owned()
    } else {
        "have PostgreSQL archive its WAL, then restart it".to_owned()
    };
    if found.facts.role == Role::Standby {
        what.push_str("; this is a standby: do it on the primary");
    }
    Some(Step { what, commands })
}

/// The steps for people.
pub(super) struct Text<'a>(pub(super) &'a [Step]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Next:")?;
        for (number, step) in (1..).zip(self.0) {
            write!(formatter, "\n{number:>3}. {}", step.what)?;
            for command in &step.commands {
                write!(formatter, "\n       {command}")?;
            }
        }
        Ok(())
    }
}

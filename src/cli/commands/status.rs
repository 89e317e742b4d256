//! `status`: how each server stands in each destination, in one line each, and below it whatever is not as it should be.

use std::fmt;

use serde::Serialize;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection, standing, table::Table},
    model::{
        backup::BackupId,
        condition::{Condition, Standing},
        names::{DestinationName, ServerName},
        reason::Waiting,
        recovery::RecoveryWindow,
        time::{Span, Timestamp},
    },
    plan::{
        Target,
        render::{self, Until},
    },
    reconcile::Activation,
};

#[derive(Serialize)]
struct Status<'a> {
    format: u32,
    now: Option<Timestamp>,
    servers: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    server: &'a ServerName,
    destination: &'a DestinationName,
    standing: Standing,
    conditions: &'a [Condition],
    waiting: &'a [Waiting],
    newest_good: Option<NewestGood>,
    next_due: Option<Timestamp>,
    window: Option<&'a RecoveryWindow>,
    reached: Option<Timestamp>,
    #[serde(skip)]
    target: &'a Target,
}

#[derive(Serialize)]
struct NewestGood {
    backup: BackupId,
    end_time: Option<Timestamp>,
}

pub(in crate::cli) async fn run(arguments: args::Select, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(arguments.now).await?;
    let servers = selection::servers(&ports.desired, &arguments)?;
    let activations = ports.plan_all(&servers).await;
    let lines = activations.iter().flat_map(lines).collect();
    let now = activations.first().map(|activation| activation.plan.now);
    let status = Status {
        format: 1,
        now,
        servers: lines,
    };
    session.output.result(&status, &status)?;
    standing::hint(activations.iter().map(|activation| &activation.observed));
    let exits = activations.iter().map(standing::of_activation);
    Ok(exits.fold(Exit::Done, Exit::worst))
}

fn lines(activation: &Activation) -> impl Iterator<Item = Line<'_>> {
    let Activation { plan, observed } = activation;
    plan.targets.iter().map(|(destination, target)| {
        let stored = observed.destinations.get(destination);
        let catalog = stored.and_then(|stored| stored.catalog.known());
        let newest = catalog.and_then(|catalog| catalog.newest_good());
        let worst = target.conditions.first();
        Line {
            server: &plan.server,
            destination,
            standing: worst.map_or(Standing::Converged, |worst| worst.standing),
            conditions: &target.conditions,
            waiting: &target.waiting,
            newest_good: newest.map(|backup| NewestGood {
                backup: backup.id.clone(),
                end_time: backup.end_time,
            }),
            next_due: next_due(target),
            window: target.window.as_ref(),
            reached: target.reached,
            target,
        }
    })
}

fn next_due(target: &Target) -> Option<Timestamp> {
    target.waiting.iter().find_map(|waiting| match waiting {
        Waiting::NextDue { at } => Some(*at),
        _ => None,
    })
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "SERVER",
            "DESTINATION",
            "STANDING",
            "LAST GOOD BACKUP",
            "NEXT DUE",
            "RECOVERABLE",
        ];
        let mut table = Table::new(header);
        for line in &self.servers {
            table.noted(line.cells(self.now), line.notes());
        }
        write!(formatter, "{table}")
    }
}

impl Line<'_> {
    fn cells(&self, now: Option<Timestamp>) -> [String; 6] {
        let none = || "-".to_owned();
        let newest = self.newest_good.as_ref().map(|newest| {
            let age = newest.end_time.zip(now).map(|(end, now)| now.since(end));
            let age = age.map_or(String::new(), |age| format!("  {} old", Span(age)));
            format!("{}{age}", newest.backup)
        });
        let window = self.window.map(|window| {
            let reached = self.reached;
            format!("{} .. {}", window.from, Until { window, reached })
        });
        [
            self.server.to_string(),
            self.destination.to_string(),
            self.standing.to_string(),
            newest.unwrap_or_else(none),
            self.next_due.map_or_else(none, |due| due.to_string()),
            window.unwrap_or_else(none),
        ]
    }

    /// What is not as it should be, and what is waited for but the next backup.
    fn notes(&self) -> Vec<String> {
        let notes = render::notes(self.target, Standing::Progressing).into_iter();
        let next_due = self
            .target
            .waiting
            .iter()
            .find(|waiting| is_next_due(waiting));
        let next_due = next_due.map(ToString::to_string);
        notes
            .filter(|(_, message)| Some(message) != next_due.as_ref())
            .map(|(word, message)| format!("{word}: {message}"))
            .collect()
    }
}

fn is_next_due(waiting: &Waiting) -> bool {
    matches!(waiting, Waiting::NextDue { .. })
}

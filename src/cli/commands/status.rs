//! `status`: how each server stands in each destination, in one line each, and below it whatever is not as it should be.

use std::fmt;

use crate::{
    cli::{
        Session,
        args::{self, Format},
        error::Error,
        exit::Exit,
        output, selection, standing,
        table::Table,
    },
    model::{
        reason::Waiting,
        time::{Span, Timestamp},
    },
    plan::render::Until,
    status::{
        Line, Status,
        page::{self, Refresh},
    },
};

pub(in crate::cli) async fn run(arguments: args::Status, session: &Session) -> Result<Exit, Error> {
    let select = &arguments.select;
    if arguments.html && session.output.format() == Format::Json {
        return Err(Error::Usage("the page is HTML, not JSON".to_owned()));
    }
    let ports = session.ports(select.now).await?;
    let servers = selection::servers(&ports.desired, select)?;
    let activations = ports.plan_all(&servers).await;
    let status = Status::seen(&activations);
    if arguments.html {
        output::data(&page::html(&status, Refresh::Never))?;
    } else {
        session.output.result(&Text(&status), &status)?;
    }
    standing::hint(activations.iter().map(|activation| &activation.observed));
    let exits = activations.iter().map(standing::of_activation);
    Ok(exits.fold(Exit::Done, Exit::worst))
}

struct Text<'a>(&'a Status);

impl fmt::Display for Text<'_> {
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
        for line in &self.0.servers {
            table.noted(cells(line, self.0.now), notes(line));
        }
        write!(formatter, "{table}")
    }
}

fn cells(line: &Line, now: Option<Timestamp>) -> [String; 6] {
    let none = || "-".to_owned();
    let newest = line.newest_good.as_ref().map(|newest| {
        let age = newest.end_time.zip(now).map(|(end, now)| now.since(end));
        let age = age.map_or(String::new(), |age| format!("  {} old", Span(age)));
        format!("{}{age}", newest.backup)
    });
    let window = line.window.as_ref().map(|window| {
        let reached = line.reached;
        format!("{} .. {}", window.from, Until { window, reached })
    });
    [
        line.server.to_string(),
        line.destination.to_string(),
        line.standing.to_string(),
        newest.unwrap_or_else(none),
        line.next_due.map_or_else(none, |due| due.to_string()),
        window.unwrap_or_else(none),
    ]
}

/// What is not as it should be, and what is waited for but the next backup.
fn notes(line: &Line) -> Vec<String> {
    let is_next_due = |waiting: &&Waiting| matches!(waiting, Waiting::NextDue { .. });
    let next_due = line.waiting.iter().find(is_next_due);
    let next_due = next_due.map(ToString::to_string);
    let notes = line.notes.iter();
    notes
        .filter(|(_, message)| Some(message) != next_due.as_ref())
        .map(|(word, message)| format!("{word}: {message}"))
        .collect()
}

//! `recoverable`: whether a point in time can be reached, from which backup, and if not, what lacks.

use std::fmt;

use serde::Serialize;

use crate::{
    cli::{
        Session, args, complain,
        error::{CHECK, Error},
        exit::Exit,
        selection,
        table::Table,
    },
    failure::Failure,
    model::{
        catalog::Catalog,
        names::{DestinationName, ServerName},
        observed::{Knowledge, Stored},
        recovery::intervals::{Answer, Before, End, Interval, Point, Way, answer, intervals},
    },
    observe::{self, Depth},
    store::Archive,
};

pub(in crate::cli) async fn run(
    arguments: args::Recoverable,
    session: &Session,
) -> Result<Exit, Error> {
    let ports = session.ports_of(&arguments.server).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    if let Some(name) = &arguments.destination {
        selection::entry(server, Some(name))?;
    }
    let point = match (arguments.at, arguments.lsn) {
        (Some(time), _) => Some(Point::Time(time)),
        (None, lsn) => lsn.map(Point::Lsn),
    };
    let observed = ports.observe(server, Depth::Catalog).await;
    let archives = ports.archives(server);
    let mut told = Told {
        format: 1,
        server: &server.name,
        destinations: Vec::new(),
    };
    let (mut exit, mut reached) = (Exit::Done, false);
    for (destination, stored) in &observed.destinations {
        if arguments
            .destination
            .as_ref()
            .is_some_and(|only| only != destination)
        {
            continue;
        }
        match reachable(stored, archives.get(destination)).await {
            Ok(intervals) => {
                let answer = point.map(|point| answer(&intervals, point));
                match &answer {
                    Some(Answer::Yes { .. }) => reached = true,
                    Some(Answer::No { .. }) => exit = exit.worst(Exit::ObjectiveMissed),
                    None => {}
                }
                told.destinations.push(Reachable {
                    destination,
                    answer,
                    intervals,
                });
            }
            Err(failure) => {
                let doing = format!(
                    "cannot read the catalog of `{}` in `{destination}`",
                    server.name
                );
                let error = Error::failed(doing, failure).hinted(CHECK);
                complain(&error);
                exit = exit.worst(error.exit());
            }
        }
    }
    session.output.result(&Text(&told, point), &told)?;
    Ok(if reached { Exit::Done } else { exit })
}

/// What can be reached in a destination, with the instants at which the last segments were stored.
async fn reachable(
    stored: &Stored,
    archive: Option<&Result<Archive, Failure>>,
) -> Result<Vec<Interval>, Failure> {
    let empty = Catalog::default();
    let catalog = match &stored.catalog {
        Knowledge::Known(catalog) => catalog,
        Knowledge::Absent => &empty,
        Knowledge::Unknown(failure) => return Err(failure.clone()),
    };
    let mut intervals = intervals(catalog);
    let Some(Ok(archive)) = archive else {
        return Ok(intervals);
    };
    for interval in &mut intervals {
        let stored = observe::wal::stored_at(archive, interval.until, catalog.segment_size());
        let stored = stored
            .await
            .map_err(|error| Failure::of(error.kind(), &error))?;
        if let Some(at) = stored {
            interval.stored(at);
        }
    }
    Ok(intervals)
}

#[derive(Serialize)]
struct Told<'a> {
    format: u32,
    server: &'a ServerName,
    destinations: Vec<Reachable<'a>>,
}

#[derive(Serialize)]
struct Reachable<'a> {
    destination: &'a DestinationName,
    #[serde(flatten)]
    answer: Option<Answer>,
    intervals: Vec<Interval>,
}

struct Text<'a>(&'a Told<'a>, Option<Point>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(told, point) = self;
        for one in &told.destinations {
            write!(formatter, "{} -> {}   ", told.server, one.destination)?;
            match (&one.answer, point) {
                (Some(Answer::Yes { ways }), Some(point)) => {
                    writeln!(formatter, "{} can be recovered", Asked(*point))?;
                    ways.iter()
                        .try_for_each(|way| tell_way(formatter, "from", way))?;
                }
                (Some(Answer::No { before, after }), Some(point)) => {
                    let why = before.as_ref().map_or_else(no_backup, lacks);
                    writeln!(formatter, "{} cannot be recovered: {why}", Asked(*point))?;
                    if let Some(before) = before {
                        tell_before(formatter, before)?;
                    }
                    if let Some(after) = after {
                        tell_way(formatter, "after", after)?;
                    }
                }
                _ => list(formatter, &one.intervals)?,
            }
        }
        Ok(())
    }
}

fn tell_way(formatter: &mut fmt::Formatter<'_>, label: &str, way: &Way) -> fmt::Result {
    let Way { timeline, start } = way;
    writeln!(
        formatter,
        "  {label:<8} {}, which ended {} at {}, on timeline {}",
        start.backup,
        start.at,
        start.lsn,
        timeline.number()
    )
}

fn tell_before(formatter: &mut fmt::Formatter<'_>, before: &Before) -> fmt::Result {
    writeln!(
        formatter,
        "  {:<8} {}, up to <= {} at {}, on timeline {}",
        "before",
        before.interval.backup,
        before.at,
        before.lsn,
        before.interval.timeline.number()
    )
}

fn no_backup() -> String {
    "no good backup ended before".to_owned()
}

fn lacks(before: &Before) -> String {
    let missing = before.interval.missing;
    match before.interval.end {
        End::Gap => format!("WAL {missing} is missing"),
        End::Archive => format!("WAL {missing} is not stored"),
    }
}

fn list(formatter: &mut fmt::Formatter<'_>, intervals: &[Interval]) -> fmt::Result {
    if intervals.is_empty() {
        return writeln!(formatter, "nothing can be recovered");
    }
    writeln!(formatter, "can be recovered")?;
    let mut table = Table::new(["FROM", "UNTIL", "LSN", "TIMELINE", "BACKUPS", "LACKS"]);
    for one in intervals {
        let Interval {
            until_at,
            until_lsn,
            missing,
            ..
        } = one;
        table.row([
            one.first().at.to_string(),
            format!("<= {until_at}"),
            format!("{} .. {until_lsn}", one.first().lsn),
            one.timeline.number().to_string(),
            one.starts.len().to_string(),
            match one.end {
                End::Gap => missing.to_string(),
                End::Archive => "-".to_owned(),
            },
        ]);
    }
    let table = table.to_string();
    table
        .lines()
        .try_for_each(|line| writeln!(formatter, "  {line}"))
}

/// What was asked for.
struct Asked(Point);

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Point::Time(time) => time.fmt(formatter),
            Point::Lsn(lsn) => lsn.fmt(formatter),
        }
    }
}

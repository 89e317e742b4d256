//! `explain`: every rule and reference that holds one backup, or lets it go.

use std::fmt;

use serde::Serialize;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    model::names::ServerName,
    plan::explain::{Explanation, explain},
};

pub(in crate::cli) async fn run(
    arguments: args::Explain,
    session: &Session,
) -> Result<Exit, Error> {
    let ports = session.ports(arguments.now).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let activation = ports.plan(server).await;
    let mut found = None;
    for entry in &server.entries {
        let catalog = selection::catalog(&activation.observed, &entry.destination);
        match catalog.and_then(|catalog| selection::backup(catalog, &arguments.backup)) {
            Ok(backup) => {
                found = Some(Ok(backup.id.clone()));
                break;
            }
            Err(error) => found = found.or(Some(Err(error))),
        }
    }
    let missing = || Error::Usage(format!("`{}` has no destination", server.name));
    let id = found.unwrap_or_else(|| Err(missing()))?;
    let explained = Explained {
        format: 1,
        server: &server.name,
        explanations: explain(&activation.plan, &activation.observed, &id),
    };
    session.output.result(&explained, &explained)?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Explained<'a> {
    format: u32,
    server: &'a ServerName,
    explanations: Vec<Explanation<'a>>,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut each = self.explanations.iter();
        each.try_for_each(|explanation| write!(formatter, "{explanation}"))
    }
}

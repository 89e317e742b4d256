//! `explain`: every rule and reference that holds one backup, or lets it go.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, output, selection},
    plan::explain::explain,
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
    for explanation in explain(&activation.plan, &activation.observed, &id) {
        output::data(&explanation.to_string())?;
    }
    Ok(Exit::Done)
}

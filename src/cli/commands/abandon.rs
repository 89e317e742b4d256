//! `abandon`: declare an unfinished backup failed, because somebody knows that it is dead.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    execute,
    failure::Failure,
    model::recovery,
    observe::Depth,
    plan::abandon::{self, Signs, unfinished},
};

pub(in crate::cli) async fn run(
    arguments: args::Abandon,
    session: &Session,
) -> Result<Exit, Error> {
    let ports = session.ports_of(&arguments.server).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let destination = &entry.destination;
    let observed = ports.observe(server, Depth::Backups).await;
    let catalog = selection::catalog(&observed, destination)?;
    let id = recovery::resolve(catalog, &arguments.backup).map_err(|error| {
        Error::failed("cannot find the backup", Failure::of(error.kind(), &error))
    })?;
    let signs = if arguments.force {
        Signs::Ignored
    } else {
        Signs::Heeded
    };
    let doing = || format!("cannot abandon {id} in `{destination}`");
    let now = ports.clock.now();
    let found = unfinished(server, destination, &observed, (&id, signs), now);
    let found = found.map_err(|error| {
        let told = Error::failed(doing(), Failure::of(error.kind(), &error));
        match error {
            abandon::Error::Alive(_) => told.hinted("`--force` if it is certainly dead"),
            _ => told,
        }
    })?;
    let archive = ports.archives(server).remove(destination);
    let archive =
        archive.ok_or_else(|| Error::Usage("the destination is not configured".to_owned()))?;
    let archive =
        archive.map_err(|failure| Error::failed("cannot open the destination", failure))?;
    let abandoned = execute::abandon(
        &archive,
        &id,
        (&found, execute::GIVEN_UP),
        (server.entry(destination), &*ports.clouds),
    );
    let abandoned = abandoned.await;
    abandoned.map_err(|error| Error::failed(doing(), Failure::of(error.kind(), &error)))?;
    let json = serde_json::json!({
        "format": 1,
        "server": server.name,
        "destination": destination,
        "abandoned": id,
    });
    let text = format!("{id} in {destination} is declared failed\n");
    session.output.result(&text, &json)?;
    Ok(Exit::Done)
}

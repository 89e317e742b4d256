//! `keep`: set or release the keep of one backup.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    failure::Failure,
    format::keys::{ObjectKey, OwnObject},
    model::record::KeepRecord,
    observe::Depth,
};

pub(in crate::cli) async fn run(arguments: args::Keep, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let observed = ports.observe(server, Depth::Backups).await;
    let catalog = selection::catalog(&observed, &entry.destination)?;
    let id = selection::backup(catalog, &arguments.backup)?.id.clone();
    let archive = match ports.archives(server).remove(&entry.destination) {
        Some(Ok(archive)) => archive,
        Some(Err(failure)) => return Err(Error::failed("cannot open the destination", failure)),
        None => return Err(Error::Usage("the destination is not configured".to_owned())),
    };
    let Some(target) = arguments.target else {
        let failed = |error: crate::store::Error| {
            Error::failed(
                format!("cannot release {id}"),
                Failure::of(error.kind(), &error),
            )
        };
        archive
            .remove(&ObjectKey::keep(&id))
            .await
            .map_err(failed)?;
        archive
            .remove(&ObjectKey::Own(OwnObject::Keep(id.clone())))
            .await
            .map_err(failed)?;
        return Ok(Exit::Done);
    };
    let record = KeepRecord {
        backup: id.clone(),
        target,
        reason: arguments.reason.unwrap_or_else(|| "set by hand".to_owned()),
        until: arguments.until,
        set_at: ports.clock.now(),
    };
    let kept = crate::execute::set_keep(&archive, &record).await;
    kept.map_err(|error| {
        Error::failed(
            format!("cannot keep {id}"),
            Failure::of(error.kind(), &error),
        )
    })?;
    Ok(Exit::Done)
}

//! `delete`: one backup, because somebody named it. Kept and running ones stay, and so does the minimum redundancy.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    failure::{Failure, Kind},
    model::action::Action,
    observe::Depth,
    plan::{Plan, guard::Asked, render},
    reconcile,
};

pub(in crate::cli) async fn run(arguments: args::Delete, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let observed = ports.observe(server, Depth::Everything).await;
    let catalog = selection::catalog(&observed, &entry.destination)?;
    let backup = selection::backup(catalog, &arguments.backup)?;
    let version = catalog
        .versions
        .get(&backup.id)
        .cloned()
        .unwrap_or_default();
    let actions = vec![Action::DeleteBackup {
        backup: backup.id.clone(),
        version,
    }];
    let plan = Plan::requested(&server.name, &entry.destination, actions, ports.clock.now());
    let guarded = ports.guard(plan, server, &observed, Asked::ByName);
    if let Some(refusal) = guarded.refusals().first() {
        let failure = Failure::of(Kind::Refused, refusal);
        return Err(Error::failed(
            format!("{} is not deleted", backup.id),
            failure,
        ));
    }
    if arguments.dry_run {
        let text = render::Text(guarded.plan());
        let json = render::Json::new(std::slice::from_ref(guarded.plan()));
        session.output.result(&text, &json)?;
        return Ok(Exit::Done);
    }
    let outcomes = reconcile::apply(&ports, server, &guarded, &observed).await;
    for outcome in outcomes {
        if let Err(error) = outcome.result {
            let failure = Failure::of(error.kind(), &error);
            return Err(Error::failed(
                format!("cannot delete {}", backup.id),
                failure,
            ));
        }
    }
    Ok(Exit::Done)
}

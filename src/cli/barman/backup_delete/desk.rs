//! A catalog that was read whole, what goes of it, and the plan of that.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::super::{arguments::Connection, catalog, error::Error};
use crate::{
    clock::Clock,
    execute::{self, Outcome, Workshop},
    failure::chain,
    format::{annotations, keys, python::Value as Literal},
    model::{
        action::Action,
        backup::{Backup, BackupId, BackupStatus, KeepTarget},
        catalog::Catalog,
        desired::{Mode, ObjectLock, Server, ServerState},
        judge::{Facts, Rule, Verdicts, judge},
        names::DestinationName,
        observed::{Knowledge, Locality, Observed, Stored},
        reason::Reason,
        recovery,
        retention::RetentionPolicy,
        semantics::BARMAN,
        snapshot::Access,
        wal_expiry::{Going, WantedBy, wal_expiry},
    },
    observe::{self, Context, Deletes, Depth},
    plan::{
        Plan,
        guard::{Asked, Guarded, Violation, guard},
    },
    snapshot::AllClouds,
    store::Archive,
};

/// A catalog that was read whole.
pub(super) struct Desk {
    pub(super) archive: Archive,
    pub(super) catalog: Catalog,
    server: Server,
    destination: DestinationName,
    observed: Observed,
    access: Access,
}

impl Desk {
    /// Reads a catalog. Nothing is deleted where something of it cannot be read.
    pub(super) async fn open(connection: &Connection, archive: Archive) -> Result<Self, Error> {
        let context = Context {
            zone: super::super::zone(),
            clock: Clock::System,
            depth: Depth::Catalog,
            deletes: Deletes::Recent,
            earlier: None,
            snapshots: None,
            object_lock: ObjectLock::Ignore,
        };
        let mut stored = observe::catalog::observe(&archive, &context).await;
        let mut catalog = match std::mem::replace(&mut stored.catalog, Knowledge::Absent) {
            Knowledge::Known(catalog) => catalog,
            Knowledge::Unknown(failure) => return Err(failure.into()),
            // A catalog of which nothing is there yet is empty; a bucket that is not there is another matter.
            Knowledge::Absent => {
                archive.store().check_reachable().await?;
                Catalog::default()
            }
        };
        readable(&catalog)?;
        if let Some(other) = connection.other_spelling(&archive) {
            keep_as_spelled(&mut catalog, &other).await?;
        }
        stored.catalog = Knowledge::Known(catalog.clone());
        let destination = DestinationName::parse("catalog").expect("a name");
        Ok(Self {
            observed: observed(connection, &destination, stored)?,
            server: server(connection)?,
            access: connection.access(),
            archive,
            catalog,
            destination,
        })
    }

    /// The backup that a text means, if it may go; none where there is nothing to delete.
    pub(super) fn named(&self, text: &str, minimum: u32) -> Result<Option<BackupId>, Error> {
        let server = &self.server.name;
        let id = recovery::resolve(&self.catalog, text);
        let id = id.map_err(|error| catalog::unresolved(&error, server.as_str()))?;
        if self.is_kept(&id) {
            return Err(Error::Operation(format!(
                "Skipping delete of backup {id} for server {server} as it has a current keep request. If you \
                 really want to delete this backup please remove the keep and try again."
            )));
        }
        let begun = |backup: &&Backup| backup.status != BackupStatus::Started;
        let present = self.catalog.backups.iter().filter(begun).count();
        let minimum = usize::try_from(minimum).unwrap_or(usize::MAX);
        if minimum > 0 && minimum >= present {
            return Err(Error::Operation(format!(
                "Skipping delete of backup {id} for server {server} due to minimum redundancy requirements \
                 (minimum redundancy = {minimum}, current redundancy = {present})"
            )));
        }
        if self.catalog.backup(&id).is_none() {
            warn!("Backup {id} does not exist");
            return Ok(None);
        }
        Ok(Some(id))
    }

    fn is_kept(&self, id: &BackupId) -> bool {
        let backup = self.catalog.backup(id);
        let orphan = self.catalog.orphans.iter().find(|orphan| orphan.id == *id);
        let keeps = [backup.and_then(|b| b.keep), orphan.and_then(|o| o.keep)];
        keeps.into_iter().flatten().next().is_some()
    }

    /// What a policy no longer wants.
    pub(super) fn obsolete(&self, text: &str, minimum: u32) -> Result<(Verdicts, Going), Error> {
        let policy = text.parse::<RetentionPolicy>();
        let policy = policy.map_err(|error| {
            let told = format!("Could not create retention policy {text}: {error}");
            // Barman knows this word from elsewhere, and fails on it here.
            if text.trim().eq_ignore_ascii_case("main") {
                Error::General(told)
            } else {
                Error::Usage(told)
            }
        })?;
        let rule = Rule {
            policy: Some(policy),
            minimum_redundancy: minimum,
        };
        let stored = &self.observed.destinations[&self.destination];
        let now = Clock::System.now();
        // A clock that runs ahead must not delete more.
        let now = stored.store_time.known().map_or(now, |time| now.min(*time));
        let facts = Facts::at(now).in_zone(&super::super::zone());
        let verdicts = judge(&self.catalog, &rule, &facts, BARMAN);
        if let Some((id, reason)) = unjudged(&verdicts) {
            return Err(Error::General(format!(
                "backup {id} cannot be judged: {reason}"
            )));
        }
        let going = Going {
            backups: verdicts.expired().cloned().collect(),
            wanted_by: WantedBy::Policy,
        };
        Ok((verdicts, going))
    }

    /// Deletes backups, and the WAL that goes with them.
    pub(super) async fn delete(
        &self,
        verdicts: &Verdicts,
        going: &Going,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        if going.backups.is_empty() {
            return Ok(());
        }
        let guarded = self.guarded(verdicts, going)?;
        let archives = [(self.destination.clone(), self.archive.clone())].into();
        let workshop = Workshop {
            server: &self.server,
            archives: &archives,
            throttles: &BTreeMap::new(),
            fences: &BTreeMap::new(),
            observed: &self.observed,
            semantics: BARMAN,
            clouds: &AllClouds,
            access: &self.access,
            clock: Clock::System,
            cancel,
        };
        let outcomes = execute::execute(&guarded, &workshop).await;
        let failed = outcomes.into_iter().filter_map(told).last();
        failed.map_or(Ok(()), Err)
    }

    /// The plan, as the guard lets it through: parents of incremental backups that stay, and WAL that something needs, stay too.
    fn guarded(&self, verdicts: &Verdicts, going: &Going) -> Result<Guarded, Error> {
        let now = Clock::System.now();
        let mut going = going.clone();
        let mut wal = Wal::Goes;
        loop {
            let actions = self.actions(verdicts, &going, wal);
            let plan = Plan::requested(&self.server.name, &self.destination, actions, now);
            let guarded = guard(plan, &self.server, &self.observed, Asked::AsBarman, now);
            let Some(refusal) = guarded.refusals().first() else {
                return Ok(guarded);
            };
            let told = refusal.violation.to_string();
            match &refusal.violation {
                Violation::Parent { parent, .. } if going.wanted_by == WantedBy::Policy => {
                    going.backups.remove(parent);
                }
                Violation::WalNeeded { .. } if wal == Wal::Goes => wal = Wal::Stays,
                _ => return Err(Error::Operation(format!("nothing is deleted: {told}"))),
            }
            warn!("it stays: {told}");
        }
    }

    fn actions(&self, verdicts: &Verdicts, going: &Going, wal: Wal) -> Vec<Action> {
        let spans = match wal {
            Wal::Goes => wal_expiry(&self.catalog, verdicts, going, BARMAN),
            Wal::Stays => Vec::new(),
        };
        let wal = (!spans.is_empty()).then_some(Action::DeleteWal { spans });
        let backups = going.backups.iter().map(|id| self.delete_backup(id));
        backups.chain(wal).collect()
    }

    fn delete_backup(&self, id: &BackupId) -> Action {
        let version = self.catalog.versions.get(id);
        Action::DeleteBackup {
            backup: id.clone(),
            version: version.cloned().unwrap_or_default(),
        }
    }
}

/// Whether WAL goes with its backups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wal {
    Goes,
    Stays,
}

/// Whether every `backup.info` is understood.
fn readable(catalog: &Catalog) -> Result<(), Error> {
    let strange = |backup: &&Backup| !backup.unknown_fields.is_empty();
    let strange = catalog.backups.iter().filter(strange);
    let ids = catalog.unreadable.keys().chain(strange.map(|b| &b.id));
    let ids: Vec<_> = ids.map(|id| Literal::from(id.as_str())).collect();
    if ids.is_empty() {
        return Ok(());
    }
    Err(Error::Operation(format!(
        "Cannot read the following backups: {}\nUnsafe to proceed with deletion due to failure reading backup \
         catalog",
        Literal::List(ids)
    )))
}

/// Adds the keeps that Barman has set through a URL that ends with a slash.
async fn keep_as_spelled(catalog: &mut Catalog, other: &Archive) -> Result<(), Error> {
    for meta in other.objects(keys::BASE).await? {
        let Some(keys::ObjectKey::Base(id, keys::BaseObject::Keep)) = other.parse(&meta.key) else {
            continue;
        };
        let text = catalog::keep(other, &id).await?.unwrap_or_default();
        let backup = catalog.backups.iter_mut().find(|backup| backup.id == id);
        if let Some(backup) = backup {
            let target = annotations::parse(text.as_bytes());
            // What both say counts, and full says more.
            backup.keep = Some(backup.keep.map_or(target, |keep| match (keep, target) {
                (KeepTarget::Standalone, KeepTarget::Standalone) => KeepTarget::Standalone,
                _ => KeepTarget::Full,
            }));
        }
    }
    Ok(())
}

fn observed(
    connection: &Connection,
    destination: &DestinationName,
    stored: Stored,
) -> Result<Observed, Error> {
    Ok(Observed {
        server: connection.server_name()?,
        postgres: Knowledge::Absent,
        locality: Locality::NotLocal {
            why: "no connection is configured".to_owned(),
        },
        destinations: [(destination.clone(), stored)].into(),
    })
}

/// A server of which nothing but its catalog is known.
fn server(connection: &Connection) -> Result<Server, Error> {
    Ok(Server {
        name: connection.server_name()?,
        mode: Mode::Full,
        state: ServerState::Active,
        labels: BTreeMap::new(),
        connection: None,
        pgdata: None,
        entries: Vec::new(),
        keeps: Vec::new(),
        receive: None,
    })
}

/// A backup on which Barman's judgement fails, so that nothing goes.
fn unjudged(verdicts: &Verdicts) -> Option<(&BackupId, &Reason)> {
    let each = verdicts.backups.iter();
    let reasons =
        each.flat_map(|(id, verdict)| verdict.reasons.iter().map(move |reason| (id, reason)));
    let fails = |reason: &Reason| {
        matches!(
            reason,
            Reason::Unjudged { .. } | Reason::EndUnknown | Reason::NeededBy { .. }
        )
    };
    reasons.into_iter().find(|(_, reason)| fails(reason))
}

/// Tells a failed step; a backup that stays is a failure of the command, WAL that stays is not.
fn told(outcome: Outcome) -> Option<Error> {
    let error = outcome.result.err()?;
    match outcome.step.action {
        Action::DeleteBackup { backup, .. } => {
            let why = chain(&error);
            Some(Error::Operation(format!(
                "Could not delete backup {backup}: {why}"
            )))
        }
        _ => {
            error!("Could not delete WAL: {}", chain(&error));
            None
        }
    }
}

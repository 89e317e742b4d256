//! What the server and the destination told.

use std::io;

use crate::{
    cli::{
        commands::{capabilities, check},
        error::Error,
        selection,
    },
    failure::{Failure, Kind, chain},
    model::{
        desired::Server,
        observed::{Observed, Stored},
    },
    observe::Depth,
    postgres::{Connector, ServerFacts, grants::Lacking, locality},
    reconcile::Ports,
};

/// What the server and the destination told.
pub(super) struct Found {
    /// The role that barkeep connects as.
    pub(super) role: String,
    pub(super) facts: ServerFacts,
    pub(super) wal_level: String,
    pub(super) lacking: Vec<Lacking>,
    pub(super) files: Files,
    /// Why the server cannot send its files; `None` if it can, or if it need not.
    pub(super) unsent: Option<Failure>,
    /// What the store can do.
    pub(super) store: Vec<(&'static str, check::Found)>,
    /// How many backups of this name are in the destination already.
    pub(super) backups: usize,
}

/// Whether the server's files can be read by whoever asks.
pub(super) enum Files {
    /// They are here.
    Here,
    /// They are here, but not for this user.
    Closed,
    /// They are not here, or cannot be shown to be.
    Elsewhere(String),
}

impl Found {
    /// Asks both.
    pub(super) async fn look(ports: &Ports, server: &Server) -> Result<Self, Error> {
        let connector = ports
            .connector(server)
            .expect("the draft names a connection");
        let connector = connector.map_err(asking)?;
        let mut found = Self::of_server(&connector).await?;
        if !matches!(found.files, Files::Here) {
            found.unsent = replicates(&connector).await.err();
        }
        found.of_destination(ports, server).await?;
        Ok(found)
    }

    async fn of_server(connector: &Connector) -> Result<Self, Error> {
        let role = connector.target().user.clone();
        let asked = async {
            let session = connector.connect().await?;
            let told = async {
                let (facts, sending) = (session.facts().await?, session.sending(None).await?);
                Ok((facts, sending.wal_level, session.lacking(&role).await?))
            };
            let told = told.await;
            session.close().await;
            told
        };
        let asked = asked.await;
        let asked = asked.map_err(|error: crate::postgres::Error| {
            Failure::of(error.kind(), &error).hinted(error.hint())
        });
        let (facts, wal_level, lacking) = asked.map_err(asking)?;
        Ok(Self {
            files: Files::of(&facts),
            role,
            facts,
            wal_level,
            lacking,
            unsent: None,
            store: Vec::new(),
            backups: 0,
        })
    }

    async fn of_destination(&mut self, ports: &Ports, server: &Server) -> Result<(), Error> {
        let entry = &server.entries[0];
        let destination = &ports.desired.destinations[&entry.destination];
        let observed = ports.observe(server, Depth::Backups).await;
        self.backups = self.known(ports, &observed, server)?;
        let archive = selection::archive(ports, server, entry)?;
        self.store = capabilities::probe(destination, &archive).await;
        let refused = self.store.iter().find(|(what, _)| *what == "writing");
        let Some((_, check::Found::Bad { why, mend, kind })) = refused else {
            return Ok(());
        };
        let doing = format!("cannot write into {}", destination.location);
        Err(Error::failed(doing, Failure::new(*kind, why)).hinted(mend))
    }

    /// How many backups there are already; of another cluster there must be none.
    fn known(&self, ports: &Ports, observed: &Observed, server: &Server) -> Result<usize, Error> {
        let entry = &server.entries[0];
        let stored: &Stored = &observed.destinations[&entry.destination];
        if let Some(failure) = stored.catalog.unknown() {
            let doing = format!("cannot read the catalog of `{}`", server.name);
            let mend = check::mend(&ports.desired, &entry.destination, failure);
            return Err(Error::failed(doing, failure.clone()).hinted(mend));
        }
        let backups = stored.catalog.known().map(|catalog| &catalog.backups);
        let backups = backups.map_or(&[][..], Vec::as_slice);
        let own = self.facts.system_id;
        let pinned = stored.identity.known().map(|identity| identity.system_id);
        let newest = || backups.iter().rev().find_map(|backup| backup.system_id);
        match pinned.or_else(newest).filter(|other| *other != own) {
            None => Ok(backups.len()),
            Some(other) => {
                let why = format!("it has backups of system {other}, the server is {own}");
                let doing = format!("`{}` cannot be backed up there", server.name);
                let failure = Failure::new(Kind::Refused, why);
                let mend = "give the server another name (`--server`), or another destination";
                Err(Error::failed(doing, failure).hinted(mend))
            }
        }
    }
}

/// The server's own hint says more, where there is one.
fn asking(failure: Failure) -> Error {
    let is_hinted = failure.hint.is_some();
    let error = Error::failed("cannot ask the server", failure);
    if is_hinted {
        return error;
    }
    error.hinted(
        "see that it runs, and that `--conninfo` leads there; docs/postgresql-role.md has the role",
    )
}

/// Whether the server lets the role in to have files sent.
async fn replicates(connector: &Connector) -> Result<(), Failure> {
    match connector.replicate().await {
        Ok(session) => {
            session.close().await;
            Ok(())
        }
        Err(error) => Err(Failure::of(error.kind(), &error)),
    }
}

impl Files {
    fn of(facts: &ServerFacts) -> Self {
        let identity = locality::Identity::from(facts);
        match locality::prove(&facts.data_directory, &identity) {
            Ok(_) => Self::Here,
            Err(locality::Error::Read { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::Closed
            }
            Err(error) => Self::Elsewhere(chain(&error)),
        }
    }
}

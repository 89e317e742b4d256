//! `restore` of a backup of disk snapshots: disks are made of them, attached, mounted, and the cluster on them made to recover.
//!
//! Each run does what is missing, so that whatever happens between two of them, the next one goes on. Where the disks are not mounted on this
//! host, the lines that mount them are printed, and the rest waits for the next run.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::{
    cli::{Session, args, error::Error, exit::Exit},
    failure::{Failure, Kind},
    model::{
        backup::Backup,
        desired::{Entry, SnapshotOptions},
        snapshot::{Place, SnapshotSet},
    },
    recover::{
        base::Recovery,
        disks::{
            self,
            cluster::{self, RecoveringCluster},
            making::{DiskStage, Looked, Wish, look, make},
            mounting,
        },
    },
    snapshot::{self, Owner, Provider, mounts::Host},
    store::Archive,
};

/// How long making and attaching may take where nothing is configured.
const LIMIT: Duration = Duration::from_hours(1);

/// Refuses what means something for the other kind of backup only.
pub(super) fn fits(arguments: &args::Restore, backup: &Backup) -> Result<(), Error> {
    let usage = |text: String| Err(Error::Usage(text));
    let disks = &arguments.disks;
    let asked = disks.dry_run || disks.mount || disks.instance.is_some();
    let asked = asked || disks.disk_type.is_some() || disks.zone.is_some();
    match (backup.snapshots.is_empty(), &disks.instance) {
        (true, _) if asked => usage(format!("{} has no snapshots of disks", backup.id)),
        (false, None) => usage(format!(
            "{} consists of snapshots of disks: say with `--instance` which one gets disks made of them",
            backup.id
        )),
        (false, Some(_)) if !arguments.tablespace.is_empty() => {
            usage("tablespaces are where their disks are mounted".to_owned())
        }
        (true, _) | (false, Some(_)) => Ok(()),
    }
}

pub(super) async fn run(
    arguments: &args::Restore,
    session: &Session,
    (entry, archive, backup): (&Entry, &Archive, &Backup),
    recovery: &Recovery,
) -> Result<Exit, Error> {
    let doing = || format!("cannot restore {}", backup.id);
    let cloud = |error: snapshot::Error| Error::failed(doing(), Failure::of(error.kind(), &error));
    let set = read(archive, backup).await?;
    let wish = wish(arguments, entry, archive, backup);
    let place = place(arguments, entry, &set);
    let provider = snapshot::open(&place).await.map_err(cloud)?;
    if arguments.disks.dry_run {
        let looked = look(&*provider, &set, &wish).await.map_err(cloud)?;
        let told = Told::new(&wish, &looked, None);
        session.output.result(&told, &told.json())?;
        return Ok(Exit::Done);
    }
    let making = make(&*provider, &set, &wish, &session.cancel).await;
    let looked = making.map_err(cloud)?;
    let failed = |error: disks::Error| Error::failed(doing(), Failure::of(error.kind(), &error));
    if arguments.disks.mount {
        let looked = looked.clone();
        let mounting = tokio::task::spawn_blocking(move || mounting::mount(&Host::here(), &looked));
        let mounted = mounting.await.expect("mounting does not panic");
        mounted.map_err(failed)?;
    }
    if !arguments.disks.mount && !are_mounted(&*provider, &set, &wish).await {
        let told = Told::new(&wish, &looked, None);
        session.output.result(&told, &told.json())?;
        return Ok(Exit::Partial);
    }
    let checked = disks::check_disks(&*provider, &Host::here(), &set, &wish.instance).await;
    checked.map_err(failed)?;
    let of = (&backup.id, &set);
    let recovered = cluster::recover(archive, of, &arguments.directory, recovery).await;
    let recovered = recovered.map_err(failed)?;
    let told = Told::new(&wish, &looked, Some(recovered));
    session.output.result(&told, &told.json())?;
    Ok(Exit::Done)
}

/// Whether this host is the one that has the disks, all mounted somewhere.
async fn are_mounted(provider: &dyn Provider, set: &SnapshotSet, wish: &Wish) -> bool {
    let host = Host::here();
    let Ok(looked) = look(provider, set, wish).await else {
        return false;
    };
    looked.iter().all(|one| match &one.stage {
        DiskStage::Attached(device) => host.of(device).is_ok(),
        DiskStage::Missing | DiskStage::Made => false,
    })
}

async fn read(archive: &Archive, backup: &Backup) -> Result<SnapshotSet, Error> {
    let doing = || format!("cannot read which snapshots {} consists of", backup.id);
    let stored = archive.read_info(&backup.id).await;
    let stored =
        stored.map_err(|error| Error::failed(doing(), Failure::of(error.kind(), &error)))?;
    let set = stored.and_then(|stored| stored.info.snapshots().ok().flatten());
    let gone = || Failure::new(Kind::NotFound, "its record is gone, or has none");
    set.ok_or_else(|| Error::failed(doing(), gone()))
}

fn wish(arguments: &args::Restore, entry: &Entry, archive: &Archive, backup: &Backup) -> Wish {
    let options = entry.snapshot.as_ref();
    Wish {
        backup: backup.id.clone(),
        owner: Owner {
            server: archive.server().to_owned(),
            catalog: archive.store().location().to_owned(),
        },
        instance: arguments.disks.instance.clone().unwrap_or_default(),
        kind: arguments.disks.disk_type.clone(),
        limit: options.map_or(LIMIT, |options| options.await_timeout),
    }
}

/// Where the record says that the snapshots are, in the configured name; instances on Google Cloud need a zone.
fn place(arguments: &args::Restore, entry: &Entry, set: &SnapshotSet) -> Place {
    let options = entry.snapshot.as_ref();
    let access = options.map(SnapshotOptions::access).unwrap_or_default();
    let configured = options.and_then(|options| match &options.place {
        Place::Gcp { zone, .. } => zone.clone(),
        Place::Aws { .. } | Place::Azure { .. } => None,
    });
    let mut place = set.account.place(&access);
    if let Place::Gcp { zone, .. } = &mut place {
        *zone = arguments.disks.zone.clone().or(configured);
    }
    place
}

/// What is there, what would be made, and how it is mounted.
struct Told<'a> {
    wish: &'a Wish,
    looked: &'a [Looked],
    recovered: Option<RecoveringCluster>,
}

impl<'a> Told<'a> {
    fn new(wish: &'a Wish, looked: &'a [Looked], recovered: Option<RecoveringCluster>) -> Self {
        Self {
            wish,
            looked,
            recovered,
        }
    }

    fn json(&self) -> Value {
        let disk = |one: &Looked| {
            json!({
                "snapshot": one.snapshot.recorded.id(),
                "disk": one.name,
                "state": word(&one.stage),
                "mount": one.snapshot.mount,
            })
        };
        let steps = mounting::steps(self.looked);
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        let recovered = self.recovered.as_ref();
        json!({
            "format": 1,
            "backup": self.wish.backup,
            "instance": self.wish.instance,
            "disks": self.looked.iter().map(disk).collect::<Vec<_>>(),
            "mount": steps,
            "directory": recovered.map(|recovered| &recovered.directory),
            "removed": recovered.map(|recovered| &recovered.removed),
        })
    }

    fn disk(&self, formatter: &mut fmt::Formatter<'_>, one: &Looked) -> fmt::Result {
        let (name, instance) = (&one.name, &self.wish.instance);
        let id = one.snapshot.recorded.id();
        let place = |formatter: &mut fmt::Formatter<'_>| match &one.snapshot.mount {
            Some(mount) => writeln!(formatter, ", for {mount}"),
            None => writeln!(formatter),
        };
        match one.stage {
            DiskStage::Missing => {
                write!(
                    formatter,
                    "  + make    {name}  of {id}, attach to {instance}"
                )?;
            }
            DiskStage::Made => {
                write!(formatter, "  + attach  {name}  made of {id}, to {instance}")?;
            }
            DiskStage::Attached(_) => {
                write!(
                    formatter,
                    "    disk    {name}  made of {id}, attached to {instance}"
                )?;
            }
        }
        place(formatter)
    }
}

fn word(stage: &DiskStage) -> &'static str {
    match stage {
        DiskStage::Missing => "missing",
        DiskStage::Made => "made",
        DiskStage::Attached(_) => "attached",
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in self.looked {
            self.disk(formatter, one)?;
        }
        if let Some(recovered) = &self.recovered {
            let directory = recovered.directory.display();
            writeln!(
                formatter,
                "{} is in {directory}, ready to recover",
                self.wish.backup
            )?;
            for removed in &recovered.removed {
                writeln!(formatter, "  removed {}", removed.display())?;
            }
            for change in &recovered.overrides {
                writeln!(formatter, "  {change}")?;
            }
            return Ok(());
        }
        let steps = mounting::steps(self.looked);
        if steps.is_empty() {
            return Ok(());
        }
        let instance = &self.wish.instance;
        writeln!(formatter, "mount on {instance}, then run this again there:")?;
        for step in steps {
            writeln!(formatter, "  {step}")?;
        }
        Ok(())
    }
}

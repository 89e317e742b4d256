//! `restore`: a backup into a directory, ready to recover to where it should.

mod disks;

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        Session,
        args::{self, RecoveryArguments},
        calls,
        error::Error,
        exit::Exit,
        selection,
    },
    failure::{Failure, Kind},
    format::backup_info,
    model::{
        backup::Backup,
        catalog::Catalog,
        desired::{Entry, Server},
        names::DestinationName,
        recovery::{self, RecoveryTarget, TargetTimeline},
        timeline::TimelineId,
        zone::Zone,
    },
    observe::Depth,
    pipeline::untar::Durability,
    plan::render::Bytes,
    reconcile::Ports,
    recover::base::{
        self, ArchiveMode, Becomes, Inclusive, Recovery, RestorePorts, RestoreRequest,
        RestoredCluster, TablespaceRule, TargetAction,
    },
    store::Archive,
};

pub(in crate::cli) async fn run(
    arguments: args::Restore,
    session: &Session,
) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let target = target(&arguments.target, &entry.zone)?;
    let timeline = timeline(arguments.target.target_timeline.as_deref())?;
    let observed = ports.observe(server, Depth::Catalog).await;
    let catalog = selection::catalog(&observed, &entry.destination)?;
    let backup = choose(catalog, &arguments.backup, &target, timeline)?;
    disks::fits(&arguments, backup)?;
    let mut chain = chain(catalog, backup)?;
    let backup = chain.pop().expect("a chain ends in the backup itself");
    let programs = programs(arguments.pg_bin.as_deref(), &backup);
    let archive = open(&ports, server, &entry.destination)?;
    let doing = format!(
        "cannot restore {} into `{}`",
        backup.id,
        arguments.directory.display()
    );
    let recovery = recovery(&arguments, session, entry, (target, timeline))?;
    if !backup.snapshots.is_empty() {
        let of = (entry, &archive, &backup);
        return disks::run(&arguments, session, of, &recovery).await;
    }
    let rule = |(name, location)| TablespaceRule { name, location };
    let request = RestoreRequest {
        destination: entry.destination.clone(),
        backup,
        chain,
        programs,
        directory: arguments.directory,
        tablespaces: arguments.tablespace.into_iter().map(rule).collect(),
        recovery: Some(recovery),
        durability: Durability::SyncFileSystem,
    };
    let restoring = RestorePorts {
        catalog: archive,
        progress: session.progress(),
        cancel: session.cancel.clone(),
    };
    let restored = base::restore(&request, &restoring).await;
    let restored =
        restored.map_err(|error| Error::failed(doing, Failure::of(error.kind(), &error)))?;
    let json = serde_json::json!({
        "format": 1,
        "backup": request.backup.id,
        "directory": restored.directory,
        "tablespaces": restored.tablespaces,
        "files": restored.files,
        "bytes": restored.bytes,
        "removed": restored.removed,
    });
    let summary = Summary(&request.backup, &restored);
    session.output.result(&summary, &json)?;
    Ok(Exit::Done)
}

/// How the cluster recovers, as somebody asks for it.
fn recovery(
    arguments: &args::Restore,
    session: &Session,
    entry: &Entry,
    (target, timeline): (RecoveryTarget, TargetTimeline),
) -> Result<Recovery, Error> {
    Ok(Recovery {
        inclusive: inclusive(&arguments.target),
        timeline,
        target,
        action: action(arguments.target_action),
        restore_command: match &arguments.restore_command {
            Some(command) => command.clone(),
            None => calls::restore_command(&session.config, &arguments.server, &entry.destination)?,
        },
        becomes: if arguments.standby {
            Becomes::Standby
        } else {
            Becomes::Primary
        },
        archive_mode: if arguments.keep_archiving {
            ArchiveMode::Inherit
        } else {
            ArchiveMode::Off
        },
    })
}

fn open(ports: &Ports, server: &Server, destination: &DestinationName) -> Result<Archive, Error> {
    match ports.archives(server).remove(destination) {
        Some(Ok(archive)) => Ok(archive),
        Some(Err(failure)) => Err(Error::failed("cannot open the destination", failure)),
        None => Err(Error::Usage("the destination is not configured".to_owned())),
    }
}

/// A backup and before it all that it builds on.
fn chain(catalog: &Catalog, backup: &Backup) -> Result<Vec<Backup>, Error> {
    let chain = base::chain(catalog, backup).map_err(|error| {
        let failure = Failure::of(error.kind(), &error);
        Error::failed("cannot restore an incremental backup", failure)
    })?;
    Ok(chain.into_iter().cloned().collect())
}

/// Where PostgreSQL's own programs may be: where somebody says, where every program is, or where packages of a version put them.
#[expect(clippy::disallowed_methods, reason = "PATH is where programs are")]
fn programs(given: Option<&Path>, backup: &Backup) -> Vec<PathBuf> {
    if let Some(given) = given {
        return vec![given.to_owned()];
    }
    let major = backup.major().unwrap_or_default();
    let packaged = [
        PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")),
        PathBuf::from(format!("/usr/pgsql-{major}/bin")),
    ];
    let path = env::var_os("PATH").unwrap_or_default();
    packaged
        .into_iter()
        .chain(env::split_paths(&path))
        .collect()
}

/// The backup that is named, or the best one for the target.
fn choose<'a>(
    catalog: &'a Catalog,
    text: &str,
    target: &RecoveryTarget,
    timeline: TargetTimeline,
) -> Result<&'a Backup, Error> {
    if text == "auto" {
        let chosen = recovery::select(catalog, target, timeline);
        return chosen.map_err(|error| {
            Error::failed("cannot choose a backup", Failure::of(error.kind(), &error))
        });
    }
    let backup = selection::backup(catalog, text)?;
    let too_late = match target {
        RecoveryTarget::Time(time) => backup.end_time.is_some_and(|end| end > *time),
        RecoveryTarget::Lsn(lsn) => backup.end_lsn.is_some_and(|end| end > *lsn),
        _ => false,
    };
    if too_late {
        let why = "the target lies before its end; name an earlier backup, or `auto`";
        let doing = format!("cannot restore {}", backup.id);
        return Err(Error::failed(doing, Failure::new(Kind::Usage, why)));
    }
    Ok(backup)
}

/// What recovery stops at. A time without an offset is one of the entry's zone.
fn target(arguments: &RecoveryArguments, zone: &Zone) -> Result<RecoveryTarget, Error> {
    if let Some(text) = &arguments.target_time {
        let time = backup_info::parse_time(text, zone);
        let wrong = || {
            Error::Usage(format!(
                "`{text}` is no time; write 2026-11-20 22:40:11+01:00"
            ))
        };
        return time.map(RecoveryTarget::Time).ok_or_else(wrong);
    }
    if let Some(lsn) = arguments.target_lsn {
        return Ok(RecoveryTarget::Lsn(lsn));
    }
    if let Some(xid) = arguments.target_xid {
        return Ok(RecoveryTarget::Xid(xid));
    }
    if let Some(name) = &arguments.target_name {
        return Ok(RecoveryTarget::Name(name.clone()));
    }
    let immediate = arguments.target_immediate;
    Ok(if immediate {
        RecoveryTarget::Immediate
    } else {
        RecoveryTarget::Latest
    })
}

fn timeline(text: Option<&str>) -> Result<TargetTimeline, Error> {
    match text {
        None | Some("latest") => Ok(TargetTimeline::Latest),
        Some("current") => Ok(TargetTimeline::Current),
        Some(number) => {
            let timeline = number.parse().ok().and_then(TimelineId::new);
            let wrong = || Error::Usage(format!("`{number}` is no timeline"));
            timeline.map(TargetTimeline::Number).ok_or_else(wrong)
        }
    }
}

fn inclusive(arguments: &RecoveryArguments) -> Inclusive {
    if arguments.exclusive {
        Inclusive::No
    } else {
        Inclusive::Yes
    }
}

fn action(action: args::TargetAction) -> TargetAction {
    match action {
        args::TargetAction::Pause => TargetAction::Pause,
        args::TargetAction::Promote => TargetAction::Promote,
        args::TargetAction::Shutdown => TargetAction::Shutdown,
    }
}

struct Summary<'a>(&'a Backup, &'a RestoredCluster);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(backup, restored) = self;
        writeln!(
            formatter,
            "restored {} into {}: {} files, {}",
            backup.id,
            restored.directory.display(),
            restored.files,
            Bytes(restored.bytes)
        )?;
        for space in &restored.tablespaces {
            writeln!(
                formatter,
                "  tablespace {} is in {}",
                space.name,
                space.location.display()
            )?;
        }
        for removed in &restored.removed {
            writeln!(formatter, "  removed {}", removed.display())?;
        }
        for change in &restored.overrides {
            writeln!(formatter, "  {change}")?;
        }
        for (link, to) in &restored.links {
            writeln!(
                formatter,
                "  note: {} leads to {}",
                link.display(),
                to.display()
            )?;
        }
        Ok(())
    }
}

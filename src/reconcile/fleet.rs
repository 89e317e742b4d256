//! Servers of a test: they answer at once, and their backups take a time and are a few objects in a store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Ports, servers::Servers};
use crate::{
    actor,
    clock::{Clock, pause},
    execute::{
        attempt::{Done, Ended},
        base_backup::{Memory as Held, Taken, TakenState, Times},
    },
    failure::{Failure, Kind},
    format::keys::{ObjectKey, OwnObject},
    model::{
        backup::{Backup, BackupId, BackupStatus},
        desired::{Desired, Destination, ObjectLock, ProviderOptions, Server, Service},
        names::{DestinationName, ServerName},
        observed::{Archiver, Knowledge, Locality, Observed, ServerFacts},
        record::{Actor, Attempt},
        scene::{now, place, young},
        time::Timestamp,
        timeline::TimelineId,
        wal::SegmentName,
    },
    plan::{Step, testing::World},
    postgres::{Error, HeldLock, LockKey},
    store::{
        Archive, Meaning, Operation, PutMode, SharedStore,
        fault::{Effect, Faults, Faulty, Rule},
        memory::Memory,
        scene,
    },
};

/// What happened to the servers of all processes of a test.
#[derive(Clone, Debug, Default)]
pub(super) struct History(
    Arc<Mutex<Vec<(ServerName, Timestamp)>>>,
    Arc<Mutex<BTreeSet<ServerName>>>,
);

impl History {
    /// The backups that were taken, in order.
    pub(super) fn backups(&self) -> Vec<(ServerName, Timestamp)> {
        self.0.lock().expect("no panic").clone()
    }

    /// When a server's backups were begun, in minutes since the present of all scenes.
    pub(super) fn minutes(&self, server: &str) -> Vec<u64> {
        let backups = self.backups().into_iter();
        backups
            .filter(|(name, _)| name.as_str() == server)
            .map(|(_, at)| at.since(now()).as_secs() / 60)
            .collect()
    }
}

/// The servers as one process sees them.
struct Simulated {
    history: History,
    lasts: Duration,
    panics: Option<ServerName>,
}

#[async_trait(?Send)]
impl Servers for Simulated {
    async fn ask(&self, ports: &Ports, server: &Server) -> (Knowledge<ServerFacts>, Locality) {
        assert_ne!(self.panics.as_ref(), Some(&server.name), "this one panics");
        let Knowledge::Known(facts) = World::parse("").observed.postgres else {
            panic!("a world knows its server");
        };
        let facts = ServerFacts {
            clock: ports.clock.now(),
            archiver: Archiver {
                last_archived: None,
                ..facts.archiver
            },
            ..facts
        };
        (Knowledge::Known(facts), Locality::Local)
    }

    async fn attempt(&self, ports: &Ports, server: &Server, step: &Step, _: &Observed) -> Ended {
        let name = server.name.clone();
        let fresh = self
            .history
            .1
            .lock()
            .expect("no panic")
            .insert(name.clone());
        assert!(fresh, "two backups of {name} at once");
        let archive = ports.archives(server).remove(&step.destination);
        let archive = archive.expect("configured").expect("open");
        let ended = self.take(ports, &archive, step).await;
        self.history.1.lock().expect("no panic").remove(&name);
        ended
    }

    async fn lock(&self, _: &Ports, _: &Server, _: LockKey) -> Result<Option<HeldLock>, Error> {
        Ok(None)
    }
}

impl Simulated {
    async fn take(&self, ports: &Ports, archive: &Archive, step: &Step) -> Ended {
        let began = ports.clock.now();
        let (server, at) = (archive.server().parse().expect("a name"), began);
        self.history.0.lock().expect("no panic").push((server, at));
        let mut backup = backup(began);
        scene::write_backup(
            archive,
            &Backup {
                archives: Vec::new(),
                ..backup.clone()
            },
        )
        .await;
        let record = OwnObject::Attempt(backup.id.clone());
        let attempt = attempt(&backup.id, &ports.actor, began);
        let written = archive.write_record(record.clone(), &attempt, PutMode::Overwrite);
        written.await.expect("memory");
        tokio::select! {
            () = pause(self.lasts) => {}
            () = ports.cancel.cancelled() => {
                backup.status = BackupStatus::Failed;
                scene::write_backup(archive, &backup).await;
                archive.remove(&ObjectKey::Own(record)).await.expect("memory");
                return Ended::failed(step, Failure::new(Kind::Interrupted, "interrupted"));
            }
        }
        backup.status = BackupStatus::Done;
        backup.end_time = Some(ports.clock.now());
        finish(&mut backup, began);
        for segment in [backup.begin_wal, backup.end_wal].into_iter().flatten() {
            scene::put(archive, &wal(segment), "x").await;
        }
        scene::write_backup(archive, &backup).await;
        archive
            .remove(&ObjectKey::Own(record))
            .await
            .expect("memory");
        Ended {
            destination: step.destination.clone(),
            result: Ok(Done::Taken(taken(backup.id))),
        }
    }
}

fn wal(segment: SegmentName) -> String {
    format!("wals/{}/{segment}.gz", segment.directory())
}

/// A backup that begins now, in WAL of its own.
fn backup(began: Timestamp) -> Backup {
    let mut backup = young("started", "0h");
    backup.id = BackupId::at(began.utc().naive_utc());
    backup.begin_time = Some(began);
    finish(&mut backup, began);
    backup
}

fn finish(backup: &mut Backup, began: Timestamp) {
    let hours = began.since(now()).as_secs() / 600;
    place(backup, TimelineId::FIRST, Some(10 + 4 * hours));
}

fn attempt(id: &BackupId, by: &Actor, at: Timestamp) -> Attempt {
    Attempt {
        backup: id.clone(),
        started_at: at,
        by: by.clone(),
        due: None,
        alive_at: at,
        stopped: None,
    }
}

fn taken(backup: BackupId) -> Taken {
    Taken {
        backup,
        state: TakenState::Done,
        archives: Vec::new(),
        files: 1,
        bytes: 1,
        damaged: Vec::new(),
        damaged_files: 0,
        warnings: Vec::new(),
        memory: Held {
            parts: 0,
            blocks: 0,
            reading: 0,
        },
        times: Times {
            start: Duration::ZERO,
            copy: self::SHORT,
            wal: Duration::ZERO,
        },
    }
}

const SHORT: Duration = Duration::from_secs(1);

/// Destinations in memory, and servers that use them.
pub(super) struct Fleet {
    pub(super) history: History,
    pub(super) desired: Desired,
    pub(super) clock: Clock,
    /// How long a backup takes.
    pub(super) lasts: Duration,
    /// A server that nobody can ask without a panic.
    pub(super) panics: Option<ServerName>,
    stores: BTreeMap<DestinationName, (Memory, Faults)>,
}

impl Fleet {
    /// Destinations with these names, and nobody to use them. Begins at the present of all scenes.
    pub(super) fn new(destinations: &[&str]) -> Self {
        let clock = Clock::starting(now());
        let mut fleet = Self {
            history: History::default(),
            desired: Desired {
                destinations: BTreeMap::new(),
                servers: BTreeMap::new(),
                service: Service::default(),
            },
            clock,
            lasts: Duration::from_mins(3),
            panics: None,
            stores: BTreeMap::new(),
        };
        for name in destinations {
            let name = DestinationName::parse(name).expect("a name");
            let memory = Memory::new(now());
            memory.follow(clock);
            fleet
                .stores
                .insert(name.clone(), (memory, Faults::default()));
            let destination = Destination {
                name: name.clone(),
                location: "file:///nowhere".parse().expect("a URL"),
                provider: ProviderOptions::Directory,
                max_bandwidth: None,
                max_parallel: std::num::NonZeroUsize::new(4).expect("not zero"),
                single_writer: false,
                control: None,
                object_lock: ObjectLock::default(),
            };
            fleet.desired.destinations.insert(name, destination);
        }
        fleet
    }

    /// Adds a server, configured as in the scenes of the planner, that is backed up to these destinations.
    pub(super) fn server(&mut self, name: &str, destinations: &[&str], settings: &str) {
        let mut server = World::parse(settings).server;
        server.name = ServerName::parse(name).expect("a name");
        let entry = server.entries.remove(0);
        for destination in destinations {
            let mut entry = entry.clone();
            entry.destination = DestinationName::parse(destination).expect("a name");
            server.entries.push(entry);
        }
        self.desired.servers.insert(server.name.clone(), server);
    }

    /// What one process watches with. Processes are told apart by their number.
    pub(super) fn process(&self, number: u32) -> Ports {
        let store = |(name, (memory, faults)): (&DestinationName, &(Memory, Faults))| {
            let store = Faulty::new(Arc::new(memory.clone()), faults.clone());
            (name.clone(), Ok(Arc::new(store) as SharedStore))
        };
        let stores = self.stores.iter().map(store).collect();
        Ports {
            clock: self.clock,
            cancel: CancellationToken::new(),
            servers: Arc::new(Simulated {
                history: self.history.clone(),
                lasts: self.lasts,
                panics: self.panics.clone(),
            }),
            // Another machine: nobody can tell whether it lives.
            actor: Actor {
                boot: format!("boot {number}"),
                pid: number,
                ..actor::current()
            },
            ..Ports::with_stores(self.desired.clone(), stores)
        }
    }

    /// From now on a destination gives no answer.
    pub(super) fn hang(&self, destination: &str) {
        let (_, faults) = &self.stores[&DestinationName::parse(destination).expect("a name")];
        faults.add(Rule::nth(0, Effect::Hang).for_ever());
    }

    /// From now on nothing can be deleted in a destination.
    pub(super) fn refuse_deletes(&self, destination: &str) {
        let (_, faults) = &self.stores[&DestinationName::parse(destination).expect("a name")];
        let denied = Effect::Before(Meaning::PermissionDenied);
        faults.add(Rule::next(Operation::Delete, "base/", denied).for_ever());
    }

    /// From now on no lease can be written in a destination.
    pub(super) fn refuse_leases(&self, destination: &str) {
        let (_, faults) = &self.stores[&DestinationName::parse(destination).expect("a name")];
        let denied = Effect::Before(Meaning::PermissionDenied);
        faults.add(Rule::next(Operation::Put, "/lease/", denied).for_ever());
    }

    /// A destination ignores the conditions of writes.
    pub(super) fn ignore_conditions(&self, destination: &str) {
        let (memory, _) = &self.stores[&DestinationName::parse(destination).expect("a name")];
        memory.ignore_conditions();
    }

    /// All is well again.
    pub(super) fn mend(&self, destination: &str) {
        self.stores[&DestinationName::parse(destination).expect("a name")]
            .1
            .clear();
    }

    /// The requests of a kind so far about keys with this text.
    pub(super) fn requests(
        &self,
        destination: &str,
        operation: Operation,
        text: &str,
    ) -> Vec<String> {
        let (_, faults) = &self.stores[&DestinationName::parse(destination).expect("a name")];
        let calls = faults.calls().into_iter();
        let keys = calls.filter(|(found, _)| *found == operation);
        let keys = keys.filter_map(|(_, key)| Some(key?.as_str().to_owned()));
        keys.filter(|key| key.contains(text)).collect()
    }

    /// The keys in a destination.
    pub(super) fn keys(&self, destination: &str) -> Vec<String> {
        let (memory, _) = &self.stores[&DestinationName::parse(destination).expect("a name")];
        let keys = memory.contents().into_keys();
        keys.map(|key| key.as_str().to_owned()).collect()
    }
}

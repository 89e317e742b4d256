//! The server and the surroundings that every world begins with.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, time::Duration};

use barkeep::model::{
    catalog::Catalog,
    compression::Compression,
    desired::{
        CatchUp, Checkpoint, DeleteBudget, Delivery, Entry, FilesOptions, ManageKeeps, Method,
        Mode, ObjectLock, Overwriting, Server, ServerState, WalCheck, WalOptions,
    },
    lock::{BucketRetention, Locks},
    observed::{
        ArchiveMode, Archiver, Knowledge, Locality, Observed, Role, ServerFacts, ServerFiles,
        Stored,
    },
    record::Identity,
    schedule::Zone,
    semantics::RETIRE_AFTER,
    timeline::TimelineId,
    wal::{Lsn, SegmentNumber, SegmentSize, SystemId},
};

use crate::model::scene::now;

/// A server with one entry, of which nothing is configured.
pub(super) fn server() -> Server {
    let entry = Entry {
        destination: "primary".parse().expect("a name"),
        policy: None,
        schedule: None,
        window: None,
        splay: Duration::ZERO,
        catch_up: CatchUp::Once,
        zone: Zone::utc(),
        retention: None,
        minimum_redundancy: 1,
        keep_rules: Vec::new(),
        manage_keeps: ManageKeeps::Declared,
        method: Method::Files,
        snapshot: None,
        server_compression: Compression::None,
        incremental: None,
        files: FilesOptions {
            compression: Compression::None,
            level: None,
            jobs: NonZeroUsize::MIN,
            max_archive_bytes: 1 << 40,
            part_bytes: 8 << 20,
            checkpoint: Checkpoint::Spread,
            name: None,
        },
        wal: WalOptions {
            compression: Compression::None,
            level: None,
            max_lag: None,
            check: WalCheck::On,
            read_ahead: 0,
            spool: PathBuf::from("spool"),
        },
        failed_after: None,
        orphans_after: None,
        deletes: DeleteBudget {
            backups_max: 100,
            percent_max: 100,
        },
        verify_every: None,
        retire_after: RETIRE_AFTER,
        grace: Duration::ZERO,
        object_lock: ObjectLock::Respect,
        copy_of: None,
        delivery: Delivery::Required,
        overwriting: Overwriting::Allowed,
    };
    Server {
        name: "orders".parse().expect("a name"),
        mode: Mode::Full,
        state: ServerState::Active,
        labels: BTreeMap::new(),
        connection: None,
        pgdata: None,
        entries: vec![entry],
        keeps: Vec::new(),
        receive: None,
    }
}

/// A primary that has archived all that the catalog of a scene holds, and nothing else of note.
pub(super) fn observed(mut catalog: Catalog) -> Observed {
    let versions = catalog.backups.iter();
    catalog.versions = versions
        .map(|backup| (backup.id.clone(), backup.id.to_string()))
        .collect();
    let facts = ServerFacts {
        system_id: SystemId(1),
        version: 180_001,
        segment_size: SegmentSize::DEFAULT,
        role: Role::Primary,
        timeline: TimelineId::FIRST,
        history: None,
        data_directory: PathBuf::from("pgdata"),
        files: ServerFiles::default(),
        position: Lsn(0),
        summarized_from: None,
        slot: None,
        at_hand: Vec::new(),
        archiver: Archiver {
            mode: ArchiveMode::On,
            last_archived: Some(SegmentNumber(1010).name(TimelineId::FIRST, SegmentSize::DEFAULT)),
            ..Archiver::default()
        },
        clock: now(),
    };
    let stored = Stored {
        read_at: now(),
        store_time: Knowledge::Known(now()),
        catalog: Knowledge::Known(catalog),
        identity: Knowledge::Known(Identity {
            system_id: SystemId(1),
            pinned_at: now(),
        }),
        baseline: Knowledge::Absent,
        attempts: Knowledge::Known(BTreeMap::new()),
        tombstones: Knowledge::Known(Vec::new()),
        marks: Knowledge::Known(BTreeMap::new()),
        keep_records: Knowledge::Known(BTreeMap::new()),
        uploads: Knowledge::Known(Vec::new()),
        locks: Knowledge::Known(Locks::new(BucketRetention::NONE)),
        snapshots: Knowledge::Absent,
        disks: Knowledge::Absent,
    };
    Observed {
        server: "orders".parse().expect("a name"),
        postgres: Knowledge::Known(facts),
        locality: Locality::Local,
        destinations: BTreeMap::from([("primary".parse().expect("a name"), stored)]),
    }
}

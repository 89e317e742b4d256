//! Words about disks of which snapshots are taken, and about those snapshots.

use std::{collections::BTreeMap, time::Duration};

use barkeep::{
    failure::{Failure, Kind},
    model::{
        desired::{Method, SnapshotOptions},
        lock::Lock,
        observed::Knowledge,
        snapshot::{DiskSurvey, MountsFrom, Place, TaggedSnapshot},
    },
};

use super::{World, after};
use crate::model::scene::instant;

impl World {
    /// `method=snapshot`
    pub(super) fn snapshots_of_disks(&mut self) {
        self.entry().method = Method::Snapshot;
        self.entry().snapshot = Some(SnapshotOptions {
            place: Place::Gcp {
                project: None,
                zone: None,
            },
            instance: "pg".to_owned(),
            disks: vec!["pgdata".to_owned()],
            await_timeout: Duration::from_hours(1),
            tags: BTreeMap::new(),
            lock: None,
            mounts: MountsFrom::Here,
        });
    }

    /// `mounts=declared`
    pub(super) fn declare_mounts(&mut self) {
        let options = self.entry().snapshot.as_mut();
        let options = options.expect("`method=snapshot` comes first");
        options.mounts = MountsFrom::Declared(BTreeMap::new());
    }

    /// `1m`, `1m fault:wal_is_elsewhere`, `unknown`: looked at so long ago, with what is wrong.
    pub(super) fn disks(&mut self, words: &[&str]) {
        let hinted = |failure: Failure, hint: &str| failure.hinted(Some(hint.to_owned()));
        if words == ["unknown"] {
            let failure = Failure::new(Kind::Unreachable, "no answer");
            self.stored().disks = Knowledge::Unknown(hinted(failure, "ask again"));
            return;
        }
        let faults = words.iter().filter_map(|word| word.strip_prefix("fault:"));
        let fault = |word: &str| {
            let failure = Failure::new(Kind::Refused, word.replace('_', " "));
            hinted(failure, "mend it")
        };
        self.stored().disks = Knowledge::Known(DiskSurvey {
            at: instant(words[0]),
            faults: faults.map(fault).collect(),
        });
    }

    /// `8d 9d`, `8d 9d recorded:`, `20261101T020000 9d held:`: a snapshot with the tags of a backup, begun so long ago.
    pub(super) fn snapshot(&mut self, words: &[&str]) {
        let backup = self.id(words[0]);
        let id = format!("snap-{}", words[0]);
        if after(words, "recorded").is_some() {
            let backups = &mut self.catalog().backups;
            let found = backups.iter_mut().find(|found| found.id == backup);
            found.expect("a backup").snapshots.push(id.clone());
        }
        let snapshot = TaggedSnapshot {
            id,
            backup,
            begun_at: after(words, "nobody").is_none().then(|| instant(words[1])),
            lock: match after(words, "held") {
                Some(_) => Lock::Held,
                None => Lock::Free,
            },
        };
        let snapshots = &mut self.stored().snapshots;
        let mut all = snapshots.known().cloned().unwrap_or_default();
        all.push(snapshot);
        *snapshots = Knowledge::Known(all);
    }
}

//! A destination: the store itself, and what was really done to it. Every change goes through here, and is judged before it happens.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use barkeep::{
    clock::Clock,
    model::{lock::Lock, time::Timestamp},
    store::{GetOptions, Key, PutMode, PutOptions, Store as _, memory::Memory},
};
use bytes::Bytes;
use futures_util::{FutureExt as _, TryStreamExt as _};

use crate::{
    cloud::Cloud,
    line::Process,
    witness::{BLINK, Ledger, Witness},
    world::Log,
};

/// A destination.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) memory: Memory,
    pub(crate) log: Log,
    /// Where the snapshots are that its backups may consist of.
    pub(crate) cloud: Arc<Cloud>,
    clock: Clock,
    ledger: Mutex<Ledger>,
    /// How many seconds the store's clock is ahead; how many it was before, and until when.
    ahead: Mutex<(i64, i64, Duration)>,
}

impl Place {
    pub(crate) fn new(
        name: &str,
        cloud: &Arc<Cloud>,
        (clock, log): (Clock, &Log),
        page: usize,
    ) -> Self {
        let memory = Memory::new(clock.now()).with_page_size(page);
        memory.follow(clock);
        Self {
            name: name.to_owned(),
            memory,
            log: log.clone(),
            cloud: cloud.clone(),
            clock,
            ledger: Mutex::default(),
            ahead: Mutex::default(),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger
            .lock()
            .expect("no panic happens while it is locked")
    }

    pub(crate) fn store_time(&self) -> Timestamp {
        let time = self.memory.time().now_or_never();
        time.expect("memory answers at once").expect("memory")
    }

    pub(crate) fn true_time(&self) -> Timestamp {
        self.clock.now()
    }

    /// The latest instant that the store's clock has shown lately.
    pub(crate) fn store_time_lately(&self) -> Timestamp {
        let (_, before, until) = *self.ahead.lock().expect("no panic");
        let now = self.store_time();
        if self.log.elapsed().saturating_sub(until) > BLINK {
            return now;
        }
        now.max(shifted(self.clock.now(), before))
    }

    /// The store's clock goes wrong by so many seconds, or right again.
    pub(crate) fn set_clock(&self, ahead: i64) {
        let mut known = self.ahead.lock().expect("no panic");
        *known = (ahead, known.0, self.log.elapsed());
        self.memory
            .follow(Clock::starting(shifted(self.clock.now(), ahead)));
        self.log.tell(&format!(
            "{}: the store's clock is {ahead} s ahead",
            self.name
        ));
    }

    /// The judge of what a process does here.
    pub(crate) fn witness<'a>(self: &'a Arc<Self>, process: &'a Process) -> Witness<'a> {
        Witness::new(self, process)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        let key = Key::verbatim(key);
        let found = self.memory.get(&key, GetOptions::default()).now_or_never();
        let found = found.expect("memory answers at once").ok()?;
        let content = found.body.try_collect::<Vec<Bytes>>().now_or_never();
        let content = content.expect("memory answers at once").expect("memory");
        Some(Bytes::from(content.concat()))
    }

    /// Somebody who is not barkeep writes an object.
    pub(crate) fn put(&self, key: &str, content: &str) {
        let content = Bytes::copy_from_slice(content.as_bytes());
        let wanted = Key::verbatim(key);
        let options = PutOptions::mode(PutMode::Overwrite);
        let put = self.memory.put(&wanted, content, options);
        let put = put.now_or_never().expect("memory answers at once");
        if put.is_ok() {
            self.ledger()
                .note(key, self.log.elapsed(), self.store_time());
            self.log
                .tell(&format!("{}: somebody writes {key}", self.name));
        }
    }

    /// The archiver of a server writes an object.
    pub(crate) fn archive(&self, server: &str, path: &str, content: &str) {
        let key = Key::verbatim(format!("{server}/{path}"));
        let content = Bytes::copy_from_slice(content.as_bytes());
        let options = PutOptions::mode(PutMode::Overwrite);
        let put = self.memory.put(&key, content, options);
        put.now_or_never()
            .expect("memory answers at once")
            .expect("WAL is never locked here");
    }

    /// Somebody who is not barkeep deletes an object.
    pub(crate) fn remove(&self, key: &str) {
        let keys = [Key::verbatim(key)];
        let deleted = self.memory.delete(&keys).now_or_never();
        let deleted = deleted.expect("memory answers at once");
        if deleted.iter().all(|deleted| deleted.outcome.is_ok()) {
            self.log
                .tell(&format!("{}: somebody deletes {key}", self.name));
        }
    }

    /// The backups for which something is being sent.
    pub(crate) fn uploads(&self, prefix: &str) -> Vec<String> {
        let uploads = self.memory.list_uploads(prefix).now_or_never();
        let uploads = uploads.expect("memory answers at once").expect("memory");
        let id = |key: &str| Some(key.strip_prefix(prefix)?.split('/').next()?.to_owned());
        uploads
            .iter()
            .filter_map(|upload| id(upload.key.as_str()))
            .collect()
    }

    /// Locks all objects with a prefix.
    pub(crate) fn lock(&self, prefix: &str, lock: &Lock) {
        let contents: BTreeMap<Key, Bytes> = self.memory.contents();
        for key in contents
            .keys()
            .filter(|key| key.as_str().starts_with(prefix))
        {
            self.memory.set_lock(key, lock.clone());
            self.ledger()
                .locked
                .insert(key.as_str().to_owned(), self.log.elapsed());
        }
        self.log.tell(&format!("{}: {prefix}: {lock}", self.name));
    }
}

/// An instant so many seconds later, or earlier.
pub(crate) fn shifted(instant: Timestamp, ahead: i64) -> Timestamp {
    let by = Duration::from_secs(ahead.unsigned_abs());
    if ahead < 0 {
        instant - by
    } else {
        instant + by
    }
}

//! The judge: looks at every request that changes something at the instant of its effect, and knows nothing of how it was decided.
//!
//! | A process must never | because |
//! |---|---|
//! | delete what is kept, locked, running, foreign or not understood | somebody wants it, or nobody knows |
//! | delete the newest good backup, or go below the minimum | there must be something to restore |
//! | delete what Barman would not call obsolete by the store's time | a clock is never a reason |
//! | delete more backups in a day than the budget allows, unless somebody approves of it | mistakes have to be slow |
//! | delete `backup.info` before the data, or WAL before what needs it | it may be killed in between |
//! | delete WAL that anything needs that is there | it could not be restored |
//! | delete what a complete incremental builds on | nor could that |
//! | copy again what was deleted from among copies, or forget that it was while its source is there | it would never end |
//! | archive WAL that waits for the archiver, or over something else | it is not its turn |
//! | delete a snapshot that is not its own, before its backup may go, or that nothing records for a short while | somebody restores from it |
//! | write DONE where something is missing, or over what others wrote | others believe it |
//!
//! Between a last look and the effect somebody else may act, and nothing can be done about it: what people did less than [`BLINK`]
//! before a request does not count against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use barkeep::{
    model::{
        desired::{Entry, ObjectLock},
        names::{DestinationName, ServerName},
        retention::RetentionPolicy,
        time::Timestamp,
    },
    store::{Key, Store as _},
};
use bytes::Bytes;
use futures_util::FutureExt as _;

use crate::{
    catalog::{Catalog, Directory, Rule, segment_of},
    cluster::Cluster,
    history::CALL_MAX,
    line::Process,
    place::Place,
};

/// Nobody looks again so short before they act.
pub(crate) const BLINK: Duration = Duration::from_mins(15);

/// The budget is counted over so long.
const DAY: Duration = Duration::from_hours(24);

/// Whether the budget counts a delete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charge {
    Counted,
    Free,
}

/// A server's backup.
type Id = (String, String);

/// What the judge remembers of a destination.
#[derive(Default)]
pub(crate) struct Ledger {
    /// When each object was written first and last, and what the store's clock said then.
    written: BTreeMap<String, (Duration, Duration, Timestamp)>,
    pub(crate) locked: BTreeMap<String, Duration>,
    /// Backups whose deletion was begun rightly, when, and whether the budget counts it.
    begun: BTreeMap<Id, (Duration, Charge)>,
    /// Backups that were kept standalone until that was released: they never had a claim to more WAL.
    standalone: BTreeSet<Id>,
    /// Backups whose deletion somebody has approved, whoever ends it.
    approved: BTreeSet<Id>,
    /// Backups that some process of barkeep has claimed, and those that somebody else has begun, who may have been first.
    claimed: BTreeSet<Id>,
    foreign: BTreeSet<Id>,
    /// When somebody has destroyed something that others rely on.
    pub(crate) harmed: Option<Duration>,
    pub(crate) clusters: BTreeMap<String, Arc<std::sync::Mutex<Cluster>>>,
    /// The other destinations.
    pub(crate) others: Vec<Arc<Place>>,
}

impl Ledger {
    pub(crate) fn note(&mut self, key: &str, at: Duration, store: Timestamp) {
        let first = self.written.get(key).map_or(at, |(first, ..)| *first);
        self.written.insert(key.to_owned(), (first, at, store));
    }

    /// A keep goes, or another one takes its place.
    pub(crate) fn release(&mut self, server: &str, id: &str, target: &Bytes) {
        let id = (server.to_owned(), id.to_owned());
        if target == "standalone" {
            self.standalone.insert(id);
        } else {
            self.standalone.remove(&id);
        }
    }

    /// Somebody else begins a backup.
    pub(crate) fn begin_elsewhere(&mut self, server: &str, id: &str) {
        self.foreign.insert((server.to_owned(), id.to_owned()));
    }

    pub(crate) fn is_claimed(&self, server: &str, id: &str) -> bool {
        let id = (server.to_owned(), id.to_owned());
        self.claimed.contains(&id) && !self.foreign.contains(&id)
    }

    pub(crate) fn is_begun(&self, server: &str, id: &str) -> bool {
        self.begun.contains_key(&(server.to_owned(), id.to_owned()))
    }
}

/// Judges what one process does in one destination.
pub(crate) struct Witness<'a> {
    place: &'a Arc<Place>,
    process: &'a Process,
}

impl<'a> Witness<'a> {
    pub(crate) fn new(place: &'a Arc<Place>, process: &'a Process) -> Self {
        Self { place, process }
    }

    pub(crate) fn place(&self) -> &Arc<Place> {
        self.place
    }

    pub(crate) fn violate(&self, what: &str) {
        let (process, place) = (&self.process.name, &self.place.name);
        self.place
            .log
            .violate(&format!("{process} in {place}: {what}"));
    }

    pub(crate) fn entry(&self, server: &str) -> Option<&Entry> {
        let servers = &self.process.desired.servers;
        let server = servers.get(&ServerName::parse(server).ok()?)?;
        server.entry(&DestinationName::parse(&self.place.name).ok()?)
    }

    /// Something was written over `before`.
    pub(crate) fn put(&self, key: &str, before: Option<&Bytes>, content: &Bytes) {
        let now = self.place.log.elapsed();
        let parts: Vec<&str> = key.splitn(4, '/').collect();
        let differs = before.is_some_and(|before| before != content);
        match parts[..] {
            [server, "barkeep", "attempts", id] => {
                let id = (server.to_owned(), id.to_owned());
                if before.is_none() {
                    self.tell("claims", key);
                }
                self.place.ledger().claimed.insert(id);
            }
            [server, "barkeep", "deleted", _] if self.process.is_approved() => {
                let named = named(content).into_iter();
                let named = named.map(|id| (server.to_owned(), id));
                self.place.ledger().approved.extend(named);
            }
            [_, "barkeep", ..] => {}
            [server, "wals", ..] => {
                self.tell("writes", key);
                if differs {
                    self.violate(&format!("writes WAL over something else: {key}"));
                }
                let entry = self.entry(server);
                let copies = entry.is_some_and(|entry| entry.copy_of.is_some());
                if !copies && !self.was_archived(server, key) {
                    self.violate(&format!("writes WAL that waits for its archiver: {key}"));
                }
            }
            [server, "base", id, "backup.info"] => {
                self.tell("writes", key);
                let content = but_children(content);
                let before = before.map(but_children);
                if before.as_ref() != Some(&content) {
                    self.info_put(server, id, before.is_some());
                }
            }
            [_, "base", _, "annotations/keep"] => {
                self.tell("writes", key);
                let ours = key.replace("/base/", "/barkeep/keeps/");
                let ours = ours.replace("/annotations/keep", "");
                if differs && !self.process.is_by_name() && self.place.get(&ours).is_none() {
                    self.violate(&format!("changes the keep of a person: {key}"));
                }
            }
            [server, "base", id, _] => {
                if !self.may_write(server, id) {
                    self.violate(&format!("writes into what is not its own: {key}"));
                }
            }
            _ => self.violate(&format!("writes where it has nothing to write: {key}")),
        }
        let store = self.place.store_time();
        self.place.ledger().note(key, now, store);
    }

    /// Whether a segment is complete, and its server's archiver done with it.
    fn was_archived(&self, server: &str, key: &str) -> bool {
        let cluster = self.place.ledger().clusters[server].clone();
        let file = key.rsplit('/').next().unwrap_or_default();
        let name = file.split('.').next().and_then(|name| name.parse().ok());
        let cluster = cluster.lock().expect("no panic");
        name.is_some_and(|name| cluster.is_over(name))
    }

    /// A backup of its own, or one that it copies.
    fn may_write(&self, server: &str, id: &str) -> bool {
        let copies = self
            .entry(server)
            .is_some_and(|entry| entry.copy_of.is_some());
        copies || self.place.ledger().is_claimed(server, id)
    }

    fn info_put(&self, server: &str, id: &str, differs: bool) {
        let catalog = Catalog::read(self.place, server);
        let claimed = self.place.ledger().is_claimed(server, id);
        if differs && !claimed {
            self.violate(&format!(
                "rewrites the record of a foreign backup: {server} {id}"
            ));
        }
        if !self.may_write(server, id) {
            self.violate(&format!(
                "writes the record of a foreign backup: {server} {id}"
            ));
        }
        if !differs && !claimed && self.was_deleted(server, id) {
            self.violate(&format!("copies again what was deleted: {server} {id}"));
        }
        let written = &catalog.directories[id];
        if written.status() == "DONE"
            && let Some(lacks) = catalog.lacks(written)
            && !self.is_harmed()
        {
            self.violate(&format!(
                "calls {server} {id} complete, but it lacks {lacks}"
            ));
        }
    }

    /// Whether a backup was deleted before any call that goes on began.
    fn was_deleted(&self, server: &str, id: &str) -> bool {
        let id = (server.to_owned(), id.to_owned());
        let begun = self.place.ledger().begun.get(&id).copied();
        let begun = begun.filter(|(_, charge)| *charge == Charge::Counted);
        let ago = begun.map(|(at, _)| at);
        let ago = ago.map(|at| self.place.log.elapsed().saturating_sub(at));
        self.process.sees_deletes() && ago.is_some_and(|ago| ago > CALL_MAX + BLINK)
    }

    fn is_harmed(&self) -> bool {
        let now = self.place.log.elapsed();
        let harmed = self.place.ledger().harmed;
        harmed.is_some_and(|harmed| now.saturating_sub(harmed) < BLINK)
    }

    fn tell(&self, verb: &str, key: &str) {
        let (process, place) = (&self.process.name, &self.place.name);
        let status = self.place.get(key).filter(|_| key.ends_with("backup.info"));
        let status = status.map(|text| String::from_utf8_lossy(&text).into_owned());
        let status = status.unwrap_or_default();
        let status = status.lines().find(|line| line.starts_with("status="));
        let status = status.unwrap_or_default();
        self.place
            .log
            .tell(&format!("{place}: {process} {verb} {key} {status}"));
    }

    /// An upload is about to be given up.
    pub(crate) fn abort(&self, key: &str) {
        let parts: Vec<&str> = key.splitn(4, '/').collect();
        let own = match parts[..] {
            [server, "base", id, _] => self.may_write(server, id),
            _ => key.contains("/barkeep/"),
        };
        if !own {
            self.violate(&format!("aborts an upload of somebody else: {key}"));
        }
    }

    /// Something is about to be deleted.
    pub(crate) fn delete(&self, key: &str) {
        if self.place.get(key).is_none() {
            return;
        }
        let parts: Vec<&str> = key.splitn(4, '/').collect();
        match parts[..] {
            [server, "base", id, rest] => {
                self.tell("deletes", key);
                match rest {
                    "annotations/keep" => self.release(server, id),
                    _ => self.delete_of_backup(server, id, rest),
                }
            }
            [server, "wals", ..] => {
                let file = key.rsplit('/').next().unwrap_or_default();
                self.delete_wal(server, file, key);
            }
            [_, "barkeep", "identity" | "baseline"] => {
                self.violate(&format!("forgets whose the prefix is: {key}"));
            }
            [server, "barkeep", "deleted", _] => self.forget(server, key),
            [_, "barkeep", ..] => {}
            _ => self.violate(&format!("deletes what is not its own: {key}")),
        }
    }

    fn release(&self, server: &str, id: &str) {
        let record = self.place.get(&format!("{server}/barkeep/keeps/{id}"));
        let until = record.and_then(|text| {
            let json: serde_json::Value = serde_json::from_slice(&text).ok()?;
            json.get("until")?.as_str()?.parse::<Timestamp>().ok()
        });
        let target = self
            .place
            .get(&format!("{server}/base/{id}/annotations/keep"));
        if let Some(target) = target {
            self.place.ledger().release(server, id, &target);
        }
        let ended = until.is_some_and(|until| until <= self.latest());
        if !ended && !self.process.is_by_name() {
            self.violate(&format!("releases the keep of {server} {id}"));
        }
    }

    /// The record of deletes goes, which somebody may need as long as anything of theirs is anywhere.
    fn forget(&self, server: &str, key: &str) {
        let now = self.place.log.elapsed();
        let written = self.place.ledger().written.get(key).map(|(_, at, _)| *at);
        let age = written.map_or(Duration::ZERO, |at| now.saturating_sub(at) + BLINK);
        if age < 7 * DAY {
            self.violate(&format!("forgets a delete of {age:?} ago: {key}"));
        }
        let record = self.place.get(key).unwrap_or_default();
        let others = self.place.ledger().others.clone();
        for id in named(&record) {
            for place in others.iter().chain([self.place]) {
                let info = format!("{server}/base/{id}/backup.info");
                let since = place.ledger().written.get(&info).map(|(at, ..)| *at);
                if place.get(&info).is_some() && self.was_before(since.as_ref()) {
                    let place = &place.name;
                    self.violate(&format!(
                        "forgets that {id} goes, which is in {place}: {key}"
                    ));
                }
            }
        }
    }

    /// The instant at which something counts as old, at the latest.
    pub(crate) fn latest(&self) -> Timestamp {
        self.place.true_time().min(self.place.store_time_lately()) + BLINK
    }

    pub(crate) fn was_before(&self, since: Option<&Duration>) -> bool {
        let now = self.place.log.elapsed();
        since.is_none_or(|since| now.saturating_sub(*since) > BLINK)
    }

    pub(crate) fn delete_of_backup(&self, server: &str, id: &str, rest: &str) {
        let what = format!("{server} {id}");
        let Some(entry) = self.entry(server) else {
            return self.violate(&format!(
                "deletes of a server that is not configured: {what}"
            ));
        };
        let catalog = Catalog::read(self.place, server);
        let directory = &catalog.directories[id];
        let keep = format!("{server}/base/{id}/annotations/keep");
        let kept_at = self.place.ledger().written.get(&keep).map(|(_, at, _)| *at);
        if directory.keep.is_some() && self.was_before(kept_at.as_ref()) {
            self.violate(&format!("deletes what is kept: {what}"));
        }
        let key = format!("{server}/base/{id}/{rest}");
        if entry.object_lock != ObjectLock::Ignore && self.is_locked(&key) {
            self.violate(&format!("deletes what is locked: {what}"));
        }
        if rest == "backup.info"
            && let Some(left) = directory.objects.keys().find(|path| path.contains(".tar"))
        {
            self.violate(&format!("deletes the record of {what} before {left}"));
        }
        let children = catalog.children(id);
        if let Some(child) = children.iter().find(|child| {
            let info = format!("{server}/base/{child}/backup.info");
            let since = self.place.ledger().written.get(&info).map(|(at, ..)| *at);
            self.was_before(since.as_ref())
        }) {
            self.violate(&format!("deletes {what}, on which {child} builds"));
        }
        if self.place.ledger().is_begun(server, id) {
            return;
        }
        if let Err(why) = self.may_begin(entry, &catalog, server, id) {
            self.violate(&format!("deletes {what}: {why}"));
        }
        let charge = match directory.status() {
            "DONE" => Charge::Counted,
            _ => Charge::Free,
        };
        let now = self.place.log.elapsed();
        let id = (server.to_owned(), id.to_owned());
        self.place.ledger().begun.insert(id, (now, charge));
    }

    fn is_locked(&self, key: &str) -> bool {
        let keys = [Key::verbatim(key)];
        let locks = self.place.memory.locks(&keys);
        let lock = locks
            .now_or_never()
            .expect("memory answers at once")
            .remove(0);
        let locked_at = self.place.ledger().locked.get(key).copied();
        !lock.is_free(self.place.store_time()) && self.was_before(locked_at.as_ref())
    }

    /// Whether the deletion of something that is whole is right.
    fn may_begin(
        &self,
        entry: &Entry,
        catalog: &Catalog,
        server: &str,
        id: &str,
    ) -> Result<(), String> {
        let directory = &catalog.directories[id];
        let Some(_) = &directory.info else {
            return self.may_be_orphan(entry, directory, server, id);
        };
        match directory.status() {
            "FAILED" => self.may_be_old(entry, directory),
            "DONE" => {
                self.may_be_obsolete(entry, catalog, server, id)?;
                self.may_be_ripe(entry, server, id)?;
                self.may_be_charged(entry, catalog, (server, id))
            }
            status => Err(format!("it is `{status}`")),
        }
    }

    fn may_be_old(&self, entry: &Entry, directory: &Directory) -> Result<(), String> {
        let after = entry.failed_after.ok_or("failed backups stay")?;
        let since = directory.time("end_time").or(directory.time("begin_time"));
        let since = since.ok_or("nobody knows when it failed")?;
        let age = self.latest().since(since);
        (age > after)
            .then_some(())
            .ok_or_else(|| format!("it failed {age:?} ago"))
    }

    fn may_be_orphan(
        &self,
        entry: &Entry,
        directory: &Directory,
        server: &str,
        id: &str,
    ) -> Result<(), String> {
        let after = entry.orphans_after.ok_or("orphans stay")?;
        let prefix = format!("{server}/base/{id}/");
        let ledger = self.place.ledger();
        let objects = directory
            .objects
            .keys()
            .map(|path| format!("{prefix}{path}"));
        let written = objects.filter_map(|key| ledger.written.get(&key).map(|(.., store)| *store));
        let newest = written.max();
        drop(ledger);
        let uploads = self.place.memory.list_uploads(&prefix).now_or_never();
        let uploads = uploads.expect("memory answers at once").expect("memory");
        let newest = uploads
            .iter()
            .map(|upload| upload.started)
            .chain(newest)
            .max();
        let age = newest.map(|newest| self.latest().since(newest));
        match age {
            Some(age) if age <= after => Err(format!("it was touched {age:?} ago")),
            _ => Ok(()),
        }
    }

    fn may_be_obsolete(
        &self,
        entry: &Entry,
        catalog: &Catalog,
        server: &str,
        id: &str,
    ) -> Result<(), String> {
        let minimum = usize::try_from(entry.minimum_redundancy).expect("few");
        let rule = entry.retention.map(|policy| match policy {
            RetentionPolicy::Redundancy(count) => {
                Rule::Redundancy(usize::try_from(count).expect("few"))
            }
            RetentionPolicy::RecoveryWindow(window) => {
                Rule::Window(i64::try_from(window.duration().as_secs()).expect("a span"))
            }
        });
        if !catalog.obsolete(rule, minimum, self.latest()).contains(id) {
            return Err(format!(
                "Barman would keep it under {rule:?}, at least {minimum}"
            ));
        }
        if self.is_harmed() {
            return Ok(());
        }
        let ledger = self.place.ledger();
        let others = catalog.done().into_iter().filter(|(other, backup)| {
            let full = backup.parent().is_none();
            *other != id && full && !ledger.is_begun(server, other) && catalog.is_good(backup)
        });
        let others: Vec<_> = others.collect();
        let of = |backup: &Directory| {
            (
                backup.get("systemid").map(str::to_owned),
                backup.time("end_time"),
            )
        };
        let (system, end) = of(&catalog.directories[id]);
        // Of those that ended in one instant it is the last by name.
        let newer = |(other, backup): &&(&String, &Directory)| {
            let (of, at) = of(backup);
            of == system && (at, other.as_str()) > (end, id)
        };
        if catalog.is_good(&catalog.directories[id]) && others.iter().find(newer).is_none() {
            return Err("it is the newest good one".to_owned());
        }
        if others.len() < minimum {
            return Err(format!("{} good ones would be left", others.len()));
        }
        Ok(())
    }

    /// It was marked a grace ago, and is marked still.
    pub(crate) fn may_be_ripe(&self, entry: &Entry, server: &str, id: &str) -> Result<(), String> {
        let mark = format!("{server}/barkeep/marks/{id}");
        let marked = self.place.get(&mark).is_some();
        let at = self
            .place
            .ledger()
            .written
            .get(&mark)
            .map(|(.., store)| *store);
        let age = at.filter(|_| marked).map(|at| self.latest().since(at));
        if entry.grace.is_zero() || age.is_some_and(|age| age >= entry.grace) {
            return Ok(());
        }
        Err(format!(
            "its mark is {age:?} old, the grace {:?}",
            entry.grace
        ))
    }

    fn may_be_charged(
        &self,
        entry: &Entry,
        catalog: &Catalog,
        (server, id): (&str, &str),
    ) -> Result<(), String> {
        let of = (server.to_owned(), id.to_owned());
        if self.process.is_approved() || self.place.ledger().approved.contains(&of) {
            return Ok(());
        }
        let now = self.place.log.elapsed();
        let ledger = self.place.ledger();
        let recent = |at: &Duration| now.saturating_sub(*at) < DAY.saturating_sub(BLINK);
        let used = ledger.begun.iter().filter(|((of, _), (at, charge))| {
            of == server && recent(at) && *charge == Charge::Counted
        });
        let used = used.count();
        let all = catalog
            .directories
            .values()
            .filter(|directory| directory.info.is_some());
        let all = all.count() + used;
        let share = all * usize::try_from(entry.deletes.percent_max).expect("a percentage") / 100;
        let allowed = entry.deletes.backups_max.min(share.max(1));
        if used < allowed {
            return Ok(());
        }
        Err(format!("{used} of {allowed} are gone today"))
    }

    fn delete_wal(&self, server: &str, file: &str, key: &str) {
        let Some((on, number)) = segment_of(file) else {
            if file.ends_with(".history") {
                self.violate(&format!("deletes a history: {key}"));
            }
            return;
        };
        if self.is_locked(key) {
            self.violate(&format!("deletes WAL that is locked: {key}"));
        }
        let catalog = Catalog::read(self.place, server);
        let cluster = self.place.ledger().clusters[server].clone();
        let ancestry = cluster.lock().expect("no panic").ancestry(on);
        let mut good = false;
        for (id, backup) in &catalog.directories {
            if backup.info.is_none() || matches!(backup.status(), "FAILED" | "EMPTY") {
                continue;
            }
            good |= catalog.is_good(backup);
            let Some((begin_on, begin)) = backup.segment("begin_wal") else {
                continue;
            };
            let end = backup.segment("end_wal").map_or(u64::MAX, |(_, end)| end);
            let of = (server.to_owned(), id.clone());
            let keep = format!("{server}/base/{id}/annotations/keep");
            let ledger = self.place.ledger();
            let kept_at = ledger.written.get(&keep).map(|(_, at, _)| *at);
            let was_standalone = ledger.standalone.contains(&of);
            drop(ledger);
            // Nobody claims more WAL for it so short before.
            let more = backup.keep.is_some() && self.was_before(kept_at.as_ref());
            let standalone =
                backup.keep.as_deref() == Some("standalone") || was_standalone && !more;
            let last = if standalone { end } else { u64::MAX };
            let reaches = ancestry
                .iter()
                .any(|(of, left)| *of == begin_on && begin < *left);
            let info = format!("{server}/base/{id}/backup.info");
            let since = self.place.ledger().written.get(&info).map(|(at, ..)| *at);
            if reaches && (begin..=last).contains(&number) && self.was_before(since.as_ref()) {
                self.violate(&format!("deletes {file}, which {id} needs"));
            }
        }
        if !good && !self.is_harmed() {
            self.violate(&format!("deletes {file}, and there is no good backup"));
        }
    }
}

/// The backups that a record of deletes names.
fn named(record: &Bytes) -> Vec<String> {
    let record: serde_json::Value = serde_json::from_slice(record).unwrap_or_default();
    let named = record["backups"].as_object().into_iter().flatten();
    named.map(|(id, _)| id.clone()).collect()
}

/// A record without the incremental backups that build on what it is of: whoever takes one adds it, and it is copied again for that.
fn but_children(record: &Bytes) -> String {
    let record = String::from_utf8_lossy(record);
    let lines = record.lines();
    let own = lines.filter(|line| !line.starts_with("children_backup_ids="));
    own.collect::<Vec<_>>().join("\n")
}

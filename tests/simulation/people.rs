//! Everybody else: people who keep, lock, destroy and change their mind, Barman beside barkeep, and what simply happens to servers.

use std::{sync::Arc, time::Duration};

use barkeep::{
    format::backup_info::{BackupInfo, Settings, Started, Stopped},
    model::{
        backup::{BackupId, BackupStatus},
        lock::{Lock, LockMode, Locking},
        time::Timestamp,
        wal::SystemId,
    },
    store::{Key, PutMode, Store as _, Tags, UploadOptions},
};
use futures_util::FutureExt as _;

use crate::{
    catalog::Catalog,
    cluster::{Cluster, size},
    dice::Dice,
    place::Place,
    world::{Trouble, World, hours},
};

/// A backup that Barman takes without barkeep.
struct Foreign {
    place: Arc<Place>,
    server: String,
    id: String,
    info: BackupInfo,
}

/// What people have begun and not ended.
#[derive(Default)]
pub(crate) struct People {
    foreign: Vec<Foreign>,
    garbage: Vec<(Arc<Place>, String)>,
}

impl People {
    /// A few hours of the world: WAL is written, and once in a while something happens.
    pub(crate) fn act(&mut self, world: &World, dice: &mut Dice) {
        let now = world.clock.now();
        for cluster in world.clusters.values() {
            let mut cluster = cluster.lock().expect("no panic");
            if cluster.up {
                cluster.write(now);
                if !dice.percent(10) {
                    let losses = if dice.percent(2) { 50 } else { 0 };
                    cluster.archive(dice, losses, now);
                }
            }
        }
        *world.trouble.lock().expect("no panic") = trouble(dice);
        for _ in 0..dice.roll(3) {
            self.one(world, dice);
        }
    }

    fn one(&mut self, world: &World, dice: &mut Dice) {
        let places: Vec<&Arc<Place>> = world.places.values().collect();
        let place = dice.pick(&places);
        let clusters: Vec<_> = world.clusters.values().collect();
        let cluster = dice.pick(&clusters);
        let server = cluster.lock().expect("no panic").name.clone();
        match dice.roll(100) {
            0..14 => keep(place, &server, dice),
            14..20 => release(place, &server, dice),
            20..26 => lock(place, &server, dice),
            26..38 => self.begin(world, place, &cluster.lock().expect("no panic")),
            38..52 => self.end(world, dice),
            52..56 => litter(world, place, &server, dice),
            56..60 => destroy(place, &server, dice),
            60..64 => self.garble(place, &server, dice),
            64..70 => self.mend(),
            70..76 => happen(world, &mut cluster.lock().expect("no panic"), dice),
            86..92 => snapshot(place, &server, dice),
            76..80 => place.set_clock(clock(dice)),
            80..86 => place.set_clock(0),
            _ => {}
        }
    }

    /// Everybody ends what they have begun, and leaves.
    pub(crate) fn leave(&mut self, world: &World) {
        *world.trouble.lock().expect("no panic") = Trouble::default();
        let mut dice = Dice(world.seed);
        while !self.foreign.is_empty() {
            self.end(world, &mut dice);
        }
        self.mend();
        for place in world.places.values() {
            place.set_clock(0);
            place.cloud.lift_locks();
        }
        let now = world.clock.now();
        for cluster in world.clusters.values() {
            let mut cluster = cluster.lock().expect("no panic");
            cluster.up = true;
            cluster.write(now);
            cluster.archive(&mut dice, 0, now);
        }
    }

    /// Barman begins a backup.
    fn begin(&mut self, world: &World, place: &Arc<Place>, cluster: &Cluster) {
        let now = world.clock.now();
        let id = BackupId::at(now.utc().naive_utc()).to_string();
        let info = BackupInfo::started(&Started {
            server_name: None,
            version: 180_001,
            system_id: Some(SystemId(cluster.system)),
            segment_size: size(),
            pgdata: "/data".into(),
            tablespaces: Vec::new(),
            time: now,
            lsn: cluster.position(40),
            timeline: cluster.on(),
            settings: Settings::default(),
        });
        let directory = format!("{}/base/{id}", cluster.name);
        if place.get(&format!("{directory}/backup.info")).is_some() {
            return;
        }
        place.ledger().begin_elsewhere(&cluster.name, &id);
        place.put(&format!("{directory}/backup.info"), &info.render());
        upload(place, &format!("{directory}/data.tar.gz"));
        self.foreign.push(Foreign {
            place: place.clone(),
            server: cluster.name.clone(),
            id,
            info,
        });
    }

    /// Barman ends a backup, well or not.
    fn end(&mut self, world: &World, dice: &mut Dice) {
        if self.foreign.is_empty() {
            return;
        }
        let Foreign {
            place,
            server,
            id,
            mut info,
        } = self.foreign.remove(0);
        let now = world.clock.now();
        let mut cluster = world.clusters[&server].lock().expect("no panic");
        let key = format!("{server}/base/{id}/backup.info");
        let there = place.get(&key);
        if there.is_none_or(|there| there != info.render()) {
            world
                .log
                .violate(&format!("{server} {id} of Barman was touched"));
            return;
        }
        let begun_on = info.get("timeline").map(str::to_owned);
        if dice.percent(30) || begun_on != Some(cluster.timeline.to_string()) {
            info.set_failed("no luck");
        } else {
            let stop = Stopped {
                time: now,
                lsn: cluster.position(4096),
                timeline: cluster.on(),
                backup_label: String::new(),
                copy_stats: None,
            };
            info.set_stopped(&stop, size());
            info.set_status(BackupStatus::Done);
            cluster.write(now);
            cluster.archive(dice, 0, now);
            place.put(&format!("{server}/base/{id}/data.tar.gz"), "x");
        }
        place.put(&key, &info.render());
    }

    /// Somebody damages the record of a backup.
    fn garble(&mut self, place: &Arc<Place>, server: &str, dice: &mut Dice) {
        let Some(id) = any(place, server, dice) else {
            return;
        };
        let key = format!("{server}/base/{id}/backup.info");
        place.put(&key, "nonsense");
        self.garbage.push((place.clone(), key));
    }

    /// Somebody takes away what cannot be understood.
    fn mend(&mut self) {
        for (place, key) in self.garbage.drain(..) {
            place.ledger().harmed = Some(place.log.elapsed());
            place.remove(&key);
        }
    }
}

fn trouble(dice: &mut Dice) -> Trouble {
    match dice.roll(10) {
        0..4 => Trouble::default(),
        4..8 => Trouble {
            errors: dice.roll(100),
            crashes: dice.roll(40),
            slow: dice.roll(300),
        },
        8 => Trouble {
            errors: dice.roll(2000),
            crashes: dice.roll(100),
            slow: dice.roll(1000),
        },
        _ => Trouble {
            errors: 0,
            crashes: dice.roll(300),
            slow: dice.roll(2000),
        },
    }
}

/// By how many seconds a store's clock goes wrong.
fn clock(dice: &mut Dice) -> i64 {
    let day = 86_400;
    dice.pick(&[
        -4000 * day,
        -30 * day,
        -7200,
        -200,
        200,
        7200,
        3 * day,
        4000 * day,
    ])
}

/// Any complete backup.
fn any(place: &Place, server: &str, dice: &mut Dice) -> Option<String> {
    let catalog = Catalog::read(place, server);
    let done: Vec<&String> = catalog.done().into_iter().map(|(id, _)| id).collect();
    (!done.is_empty()).then(|| dice.pick(&done).clone())
}

fn keep(place: &Place, server: &str, dice: &mut Dice) {
    if let Some(id) = any(place, server, dice) {
        let target = dice.pick(&["full", "standalone"]);
        let before = place.get(&format!("{server}/base/{id}/annotations/keep"));
        if let Some(before) = before {
            place.ledger().release(server, &id, &before);
        }
        place.put(&format!("{server}/base/{id}/annotations/keep"), target);
        // From now on it is a person's.
        place.remove(&format!("{server}/barkeep/keeps/{id}"));
    }
}

fn release(place: &Place, server: &str, dice: &mut Dice) {
    if let Some(id) = any(place, server, dice) {
        let before = place.get(&format!("{server}/base/{id}/annotations/keep"));
        if let Some(before) = before {
            place.ledger().release(server, &id, &before);
        }
        place.remove(&format!("{server}/base/{id}/annotations/keep"));
        place.remove(&format!("{server}/barkeep/keeps/{id}"));
    }
}

fn lock(place: &Place, server: &str, dice: &mut Dice) {
    let retention = place.memory.retention().now_or_never();
    let retention = retention.expect("memory answers at once").expect("memory");
    if retention.locking == Locking::Off {
        return;
    }
    if let Some(id) = any(place, server, dice) {
        let until = place.store_time() + hours(dice.roll(200));
        let lock = dice.pick(&[LockMode::Governance, LockMode::Compliance]);
        place.lock(&format!("{server}/base/{id}/"), &Lock::until(until, lock));
    }
}

/// Somebody makes a snapshot of their own, locks one of ours, or deletes it.
fn snapshot(place: &Place, server: &str, dice: &mut Dice) {
    let (cloud, now) = (&place.cloud, place.log.elapsed());
    let all: Vec<String> = cloud.snapshots().keys().cloned().collect();
    let locks = place.memory.retention().now_or_never();
    let locks = locks.expect("memory answers at once").expect("memory");
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    match dice.roll(10) {
        0..6 => {
            let tags = [("barkeep-server".to_owned(), server.to_owned())];
            let tags = if dice.percent(50) { &tags[..] } else { &[] };
            cloud.make(&format!("{server}-data-{}", now.as_secs()), tags);
        }
        _ if all.is_empty() => {}
        6..9 if locks.locking != Locking::Off => {
            let until = place.true_time() + hours(dice.roll(200));
            let name = dice.pick(&names);
            cloud.lock(name, Lock::until(until, LockMode::Compliance));
        }
        9 => {
            place.ledger().harmed = Some(now);
            cloud.remove(dice.pick(&names));
        }
        _ => {}
    }
}

/// Things that are nobody's, or somebody else's.
fn litter(world: &World, place: &Place, server: &str, dice: &mut Dice) {
    let id = BackupId::at(world.clock.now().utc().naive_utc());
    match dice.roll(5) {
        0 => place.put(&format!("{server}/base/{id}/data.tar"), "x"),
        1 => place.put(&format!("{server}/base/lost+found/data.tar"), "x"),
        2 => place.put(&format!("{server}2/base/{id}/data.tar"), "x"),
        3 => place.put(&format!("{server}/wals/readme"), "x"),
        _ => upload(place, &format!("{server}/base/{id}/data.tar")),
    }
}

/// Somebody deletes what others rely on.
fn destroy(place: &Place, server: &str, dice: &mut Dice) {
    let contents = place.memory.contents();
    let wanted = if dice.percent(60) {
        "/wals/"
    } else {
        "/data.tar"
    };
    let keys: Vec<&Key> = contents
        .keys()
        .filter(|key| key.as_str().starts_with(server) && key.as_str().contains(wanted))
        .collect();
    if !keys.is_empty() {
        let key = dice.pick(&keys);
        place.ledger().harmed = Some(place.log.elapsed());
        place.remove(key.as_str());
    }
}

fn upload(place: &Place, key: &str) {
    let options = UploadOptions {
        part_bytes: 1,
        mode: PutMode::Overwrite,
        tags: Tags::Configured,
    };
    let wanted = Key::verbatim(key);
    let begun = place.memory.begin_upload(&wanted, options);
    drop(begun.now_or_never().expect("memory answers at once"));
    place
        .log
        .tell(&format!("{}: somebody begins to send {key}", place.name));
}

/// What happens to servers.
fn happen(world: &World, cluster: &mut Cluster, dice: &mut Dice) {
    let now: Timestamp = world.clock.now();
    match dice.roll(4) {
        0 => cluster.promote(0, now),
        1 => cluster.promote(dice.roll(6), now),
        2 => cluster.up = false,
        _ => cluster.up = true,
    }
    let (name, up) = (&cluster.name, cluster.up);
    let (on, segment) = (cluster.timeline, cluster.segment);
    world.log.tell(&format!(
        "{name} is on timeline {on} at {segment}, up: {up}"
    ));
}

/// How long the world goes on before something happens.
pub(crate) fn a_while(dice: &mut Dice) -> Duration {
    Duration::from_mins(30 + dice.roll(420))
}

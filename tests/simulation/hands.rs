//! People who act through the program, by name: who keep a backup, release it, or undelete one that is marked.

use barkeep::{
    execute,
    model::{
        backup::{BackupId, BackupStatus, KeepTarget},
        names::ServerName,
        observed::Stored,
        record::{KeepRecord, SetBy},
        semantics::Records,
    },
    observe::Depth,
    reconcile::Ports,
    store::Archive,
};

use crate::{
    dice::Dice,
    line::Process,
    world::{Log, hours},
};

/// Somebody does one thing in one destination of each server.
pub(crate) async fn act(ports: &Ports, process: &Process, log: &Log) {
    let mut dice = process.dice_once("by name");
    for server in ports.desired.servers.values() {
        let names: Vec<_> = server.entries.iter().map(|e| &e.destination).collect();
        let destination = dice.pick(&names);
        let observed = ports.observe(server, Depth::Backups).await;
        let stored = observed.destinations.get(destination);
        let archive = ports.archives(server).remove(destination);
        let (Some(stored), Some(Ok(archive))) = (stored, archive) else {
            continue;
        };
        let hands = Hands {
            server: &server.name,
            ports,
            archive: &archive,
            log,
        };
        hands.act(stored, &mut dice).await;
    }
}

/// Whoever acts in one catalog.
struct Hands<'a> {
    server: &'a ServerName,
    ports: &'a Ports,
    archive: &'a Archive,
    log: &'a Log,
}

impl Hands<'_> {
    async fn act(&self, stored: &Stored, dice: &mut Dice) {
        let catalog = stored.catalog.known();
        let done = catalog.into_iter().flat_map(|catalog| &catalog.backups);
        let done: Vec<_> = done
            .filter(|backup| backup.status == BackupStatus::Done)
            .collect();
        let kept = done.iter().filter(|backup| backup.keep.is_some());
        let kept: Vec<_> = kept.map(|backup| &backup.id).collect();
        let done: Vec<_> = done.iter().map(|backup| &backup.id).collect();
        let marks = stored.marks.known().into_iter().flatten();
        let marked: Vec<_> = marks.map(|(id, _)| id).collect();
        match dice.roll(4) {
            0 if !done.is_empty() => {
                let record = self.record(dice.pick(&done), dice);
                let set = execute::set_keep(self.archive, &record, Records::Written).await;
                self.tell("keeps", &record.backup, set.is_ok());
            }
            1 if !kept.is_empty() => {
                let id = dice.pick(&kept);
                let released = execute::release_keep(self.archive, id, Records::Written).await;
                self.tell("releases", id, released.is_ok());
            }
            _ if !marked.is_empty() => {
                let record = self.record(dice.pick(&marked), dice);
                let undeleted = execute::undelete(self.archive, &record).await;
                self.tell("undeletes", &record.backup, undeleted.is_ok());
            }
            _ => {}
        }
    }

    fn record(&self, backup: &BackupId, dice: &mut Dice) -> KeepRecord {
        let now = self.ports.clock.now();
        KeepRecord {
            backup: backup.clone(),
            target: dice.pick(&[KeepTarget::Full, KeepTarget::Standalone]),
            reason: "somebody wants it".to_owned(),
            until: dice.percent(70).then(|| now + hours(1 + dice.roll(100))),
            set_at: now,
            by: SetBy::Person("alice".to_owned()),
        }
    }

    fn tell(&self, verb: &str, id: &BackupId, is_done: bool) {
        let server = self.server;
        let how = if is_done { "" } else { ", which fails" };
        self.log
            .tell(&format!("somebody {verb} {server} {id} by name{how}"));
    }
}

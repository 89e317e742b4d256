//! How the slot stands through which WAL is received: whether anybody does, and how long the server will keep what nobody has.

use super::Scene;
use crate::model::{
    condition::{Condition, Standing},
    desired::Receive,
    slot::{SlotFacts, WalStatus},
};

/// What is wrong with the slot, before it hurts.
pub(super) fn conditions(scene: &Scene<'_>) -> Vec<Condition> {
    let (Some(wanted), Some(facts)) = (&scene.server.receive, scene.postgres.known()) else {
        return Vec::new();
    };
    let messages = match &facts.slot {
        Some(slot) => wrong(wanted, slot),
        None => vec![format!(
            "nobody receives WAL: there is no slot `{}`",
            wanted.slot
        )],
    };
    let stalled = |message| Condition::new(Standing::Stalled, message);
    messages.into_iter().map(stalled).collect()
}

fn wrong(wanted: &Receive, slot: &SlotFacts) -> Vec<String> {
    let mut messages = Vec::new();
    let (name, held) = (&slot.name, slot.held_bytes());
    if slot.status == WalStatus::Lost {
        messages.push(format!(
            "PostgreSQL has given up the slot `{name}`: drop it with `barkeep slot --drop`, and take \
             a backup"
        ));
        return messages;
    }
    if !slot.active {
        messages.push(format!("nobody receives WAL through the slot `{name}`"));
    }
    if held > wanted.max_slot_lag {
        messages.push(format!(
            "the slot `{name}` holds {} of WAL, more than {}",
            mebibytes(held),
            mebibytes(wanted.max_slot_lag)
        ));
    }
    if let Some(safe) = slot.safe_bytes
        && (safe < held || slot.status == WalStatus::Unreserved)
    {
        messages.push(format!(
            "PostgreSQL gives up the slot `{name}` when it holds {} more",
            mebibytes(safe)
        ));
    }
    if slot.synchronous && wanted.spool.is_none() {
        messages.push(format!(
            "commits wait for the slot `{name}`, and without a spool for a destination"
        ));
    }
    messages
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{observed::Knowledge, wal::Lsn},
        plan::testing::World,
    };

    const MIB: u64 = 1 << 20;

    /// How a server stands that archives nothing by itself, and whose slot holds so many MiB.
    fn stands(world: &str, held: u64, change: impl FnOnce(&mut Option<SlotFacts>)) -> String {
        let mut world = World::parse(&format!("{world} | postgres off"));
        world.server.receive = Some(Receive {
            slot: "s".to_owned(),
            spool: None,
            spool_bytes_max: 0,
            tail_every: None,
            max_slot_lag: 1000 * MIB,
        });
        let Knowledge::Known(facts) = &mut world.observed.postgres else {
            panic!("a world knows its server");
        };
        facts.slot = Some(SlotFacts {
            name: "s".to_owned(),
            active: true,
            restart: Some(Lsn(MIB)),
            status: WalStatus::Reserved,
            safe_bytes: None,
            end: Lsn(MIB + held * MIB),
            synchronous: false,
        });
        change(&mut facts.slot);
        let plan = world.plan();
        let target = plan.targets.values().next().expect("a destination");
        target.conditions[0].message.clone()
    }

    #[test]
    fn a_slot_is_told_of_before_it_hurts() {
        let done = |held, change: fn(&mut SlotFacts)| {
            stands("| done 1d", held, |slot| {
                change(slot.as_mut().expect("a slot"));
            })
        };
        assert_eq!(done(1000, |_| {}), "nothing to do");
        assert_eq!(
            stands("| done 1d", 0, |slot| *slot = None),
            "nobody receives WAL: there is no slot `s`"
        );
        assert_eq!(
            done(0, |slot| slot.active = false),
            "nobody receives WAL through the slot `s`"
        );
        assert_eq!(
            done(1001, |_| {}),
            "the slot `s` holds 1001 MiB of WAL, more than 1000 MiB"
        );
        let safe = |slot: &mut SlotFacts| slot.safe_bytes = Some(100 * MIB);
        assert_eq!(done(100, safe), "nothing to do");
        assert_eq!(
            done(101, safe),
            "PostgreSQL gives up the slot `s` when it holds 100 MiB more"
        );
        assert_eq!(
            done(0, |slot| slot.synchronous = true),
            "commits wait for the slot `s`, and without a spool for a destination"
        );
        assert!(
            done(0, |slot| slot.status = WalStatus::Lost).starts_with("PostgreSQL has given up")
        );
    }

    #[test]
    fn segments_missing_between_received_ones_are_a_gap() {
        let world = "| wal 1:900-1002 1:1005-1010 | done 9h";
        assert_eq!(
            stands(world, 0, |_| {}),
            "WAL gap of 2 from 0000000100000003000000EB"
        );
    }
}

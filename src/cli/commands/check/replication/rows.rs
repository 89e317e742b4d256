//! What is made of what a server says: one row for each thing that must be so, and the statement that mends it.

use std::time::Duration;

use super::{Row, Said, Wanted};
use crate::{
    cli::commands::check::{Found, bad},
    failure::{Disposition, Failure, Kind},
    model::{
        desired::Receive,
        slot::{WalStatus, is_synchronous},
        time::Span,
    },
    plan::render::Bytes,
    postgres::{self, Places, Role, Sending, SlotKind, grants},
};

/// What is made of what the server says that is asked now.
pub(super) fn rows(said: &Said, wanted: &Wanted<'_>) -> Vec<Row> {
    let sending = &said.sending;
    let mut rows = vec![
        ("replication".to_owned(), let_in(said)),
        ("wal_level".to_owned(), wal_level(sending)),
        ("max_wal_senders".to_owned(), senders(said, wanted)),
    ];
    if let Some(receive) = wanted.receive {
        if sending.slot_kind.is_none() {
            let places = slots(sending.slots);
            rows.push(("max_replication_slots".to_owned(), places));
        }
        let found = slot(said, receive, wanted.server);
        rows.push((format!("slot {}", receive.slot), found));
        let found = keeps(sending.slot_keeps, receive.max_slot_lag);
        rows.push(("max_slot_wal_keep_size".to_owned(), found));
        if let Some(idles) = sending.slot_idles {
            rows.push(("idle_replication_slot_timeout".to_owned(), idle(idles)));
        }
        if receive.spool.is_none() && is_synchronous(&sending.synchronous, &wanted.application) {
            let found = lacking(
                format!(
                    "it means `{}`, and without a spool every commit would wait for a destination",
                    wanted.application
                ),
                "set `wal.receive.spool`, or another `application_name` in `connection`",
            );
            rows.push(("synchronous_standby_names".to_owned(), found));
        }
    }
    if let Some(pause) = wanted.changes {
        rows.push(("summarize_wal".to_owned(), summaries(sending, pause)));
    }
    rows
}

/// What is made of a server that may take over: it must be as ready as the other one, but nobody receives from it.
pub(super) fn rows_of_another(said: &Said, wanted: &Wanted<'_>) -> Vec<Row> {
    let own_slot = wanted
        .receive
        .map(|receive| format!("slot {}", receive.slot));
    let mut rows = rows(said, wanted);
    rows.retain(|(what, found)| {
        let is_good = matches!(found, Found::Good { .. });
        what == "replication" || (!is_good && Some(what) != own_slot.as_ref())
    });
    if let (Some(own_slot), Some(slot)) = (own_slot, &said.slot)
        && !slot.active
    {
        let found = limited(
            format!(
                "it was left behind, and holds {} there",
                Bytes(slot.held_bytes())
            ),
            format!("there: SELECT pg_drop_replication_slot('{}')", slot.name),
        );
        rows.push((own_slot, found));
    }
    rows
}

/// What is made of a server that may take over, and cannot be asked.
pub(super) fn unasked(error: &postgres::Error) -> Row {
    let failure = Failure::of(error.kind(), error);
    let found = match error.disposition() {
        Disposition::Permanent => bad(
            &failure,
            "let the same role in as on the others: it has to be there when this one takes over",
        ),
        _ => limited(
            failure.to_string(),
            "start it, or take it out of `connection` if it never takes over",
        ),
    };
    ("replication".to_owned(), found)
}

fn good(detail: impl Into<String>) -> Found {
    Found::Good {
        detail: detail.into(),
    }
}

fn limited(why: impl Into<String>, mend: impl Into<String>) -> Found {
    Found::Limited {
        why: why.into(),
        mend: mend.into(),
    }
}

fn lacking(why: impl Into<String>, mend: impl Into<String>) -> Found {
    Found::Bad {
        why: why.into(),
        mend: mend.into(),
        kind: Kind::Failed,
    }
}

/// The statements that change a setting which counts at once.
fn reload(setting: &str, value: impl std::fmt::Display) -> String {
    format!("ALTER SYSTEM SET {setting} = '{value}'; SELECT pg_reload_conf()")
}

/// The statement that changes a setting which counts from the next start on.
fn restart(setting: &str, value: impl std::fmt::Display) -> String {
    format!("ALTER SYSTEM SET {setting} = '{value}', restart")
}

fn let_in(said: &Said) -> Found {
    let sending = &said.sending;
    let error = match &said.let_in {
        Ok(()) => {
            let server = match sending.role {
                Role::Primary => "server",
                Role::Standby => "standby",
            };
            return good(format!("the {server} lets us in"));
        }
        Err(error) => error,
    };
    let mend = if !sending.may_replicate {
        grants::replication(&sending.user)
    } else if sending.senders.free() == 0 {
        restart("max_wal_senders", sending.senders.all + 2)
    } else {
        format!(
            "a line `host replication {} ADDRESS scram-sha-256` in pg_hba.conf, which `all` does not \
             mean; SELECT pg_reload_conf()",
            sending.user
        )
    };
    bad(&Failure::of(error.kind(), error), &mend)
}

fn wal_level(sending: &Sending) -> Found {
    match sending.wal_level.as_str() {
        "minimal" => lacking(
            "it is `minimal`: nothing can be recovered from such WAL",
            restart("wal_level", "replica"),
        ),
        level => good(level),
    }
}

/// Whether there is room for a backup and a receiver; one that receives already has its place.
fn senders(said: &Said, wanted: &Wanted<'_>) -> Found {
    let places = said.sending.senders;
    let receives = said.slot.as_ref().is_some_and(|slot| slot.active);
    let receivers = u32::from(wanted.receive.is_some() && !receives);
    let needed = u32::from(wanted.files) + receivers;
    if places.free() >= needed {
        return good(format!("{} of {} are free", places.free(), places.all));
    }
    let why = format!(
        "{} of {} are taken, and {needed} more are needed",
        places.taken, places.all
    );
    lacking(why, restart("max_wal_senders", places.taken + needed))
}

fn slots(places: Places) -> Found {
    if places.free() > 0 {
        return good(format!("{} of {} are free", places.free(), places.all));
    }
    lacking(
        format!("all {} are taken", places.all),
        format!(
            "{}; or drop one that nobody needs: SELECT pg_drop_replication_slot('NAME')",
            restart("max_replication_slots", places.all + 1)
        ),
    )
}

fn slot(said: &Said, receive: &Receive, server: &str) -> Found {
    let name = &receive.slot;
    let another = |is: &str| {
        lacking(
            format!("it is {is}"),
            format!(
                "another name in `wal.receive.slot`; or SELECT pg_drop_replication_slot('{name}'), if \
                 nobody needs it"
            ),
        )
    };
    let slot = match (said.sending.slot_kind, &said.slot) {
        (Some(SlotKind::Logical), _) => return another("a logical one"),
        (Some(SlotKind::Temporary), _) => return another("another session's temporary one"),
        (Some(SlotKind::Physical), Some(slot)) => slot,
        _ => {
            return limited(
                "there is none, so nobody receives WAL",
                "run `barkeep reconcile` as a service: it makes the slot",
            );
        }
    };
    let held = Bytes(slot.held_bytes());
    let behind = "see `barkeep status`: the receiver, or a destination, does not keep up";
    match slot.status {
        WalStatus::Lost => lacking(
            "PostgreSQL has given it up: WAL that was not received is gone",
            format!("barkeep slot {server} --drop, then barkeep backup {server}"),
        ),
        WalStatus::Unreserved => lacking(
            format!("PostgreSQL gives it up at the next checkpoint: it holds {held}"),
            format!("raise `max_slot_wal_keep_size`, and {behind}"),
        ),
        WalStatus::Reserved if !slot.active => limited(
            format!("nobody receives through it, and it holds {held}"),
            format!("run `barkeep reconcile` as a service; or barkeep slot {server} --drop"),
        ),
        WalStatus::Reserved if slot.held_bytes() > receive.max_slot_lag => limited(
            format!("it holds {held}, more than {}", Bytes(receive.max_slot_lag)),
            behind,
        ),
        WalStatus::Reserved => good(format!("in use, holds {held}")),
    }
}

/// Whether we say that a slot holds much before the server gives it up.
fn keeps(keeps: Option<u64>, alarm: u64) -> Found {
    match keeps {
        None => good("no limit: WAL is kept until it is received, or the disk is full"),
        Some(keeps) if keeps > alarm => good(Bytes(keeps).to_string()),
        Some(keeps) => limited(
            format!(
                "PostgreSQL gives the slot up at {}, before `max_slot_lag` of {} is told of",
                Bytes(keeps),
                Bytes(alarm)
            ),
            format!(
                "{}; or a smaller `wal.receive.max_slot_lag`",
                reload(
                    "max_slot_wal_keep_size",
                    format!("{}MB", alarm.div_ceil(1 << 20) * 2)
                )
            ),
        ),
    }
}

fn idle(idles: Duration) -> Found {
    limited(
        format!(
            "PostgreSQL gives the slot up when nobody receives for {}",
            Span(idles)
        ),
        reload("idle_replication_slot_timeout", 0),
    )
}

fn summaries(sending: &Sending, pause: Duration) -> Found {
    match (sending.summarizes, sending.summaries_keep) {
        (None, _) => lacking(
            "PostgreSQL before 17 sends no incremental backups",
            "upgrade the server, or take `incremental` away: all backups are full ones",
        ),
        (Some(false), _) => lacking(
            "it is off: every backup is a full one",
            reload("summarize_wal", "on"),
        ),
        (Some(true), Some(keep)) if keep < pause => limited(
            format!(
                "summaries are gone after {}, and backups are {} apart: every one is a full one",
                Span(keep),
                Span(pause)
            ),
            reload(
                "wal_summary_keep_time",
                format!("{}min", pause.as_secs() / 30),
            ),
        ),
        (Some(true), Some(keep)) => good(format!("on, kept for {}", Span(keep))),
        (Some(true), None) => good("on, kept for ever"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{slot::SlotFacts, wal::Lsn};

    const MIB: u64 = 1 << 20;

    /// What is found of one thing, of a server on which all is well but for a change: `ok`, or what is wrong, and its mend.
    fn found(what: &str, change: impl FnOnce(&mut Said, &mut Receive, &mut Duration)) -> String {
        found_by(rows, what, change)
    }

    fn found_by(
        judge: fn(&Said, &Wanted<'_>) -> Vec<Row>,
        what: &str,
        change: impl FnOnce(&mut Said, &mut Receive, &mut Duration),
    ) -> String {
        let mut receive = Receive {
            slot: "s".to_owned(),
            spool: None,
            spool_bytes_max: 0,
            tail_every: None,
            max_slot_lag: 1000 * MIB,
        };
        let mut said = Said {
            endpoint: "one:5432".to_owned(),
            sending: Sending {
                user: "barkeep".to_owned(),
                may_replicate: true,
                role: Role::Primary,
                wal_level: "replica".to_owned(),
                senders: Places { all: 10, taken: 1 },
                slots: Places { all: 10, taken: 1 },
                slot_keeps: None,
                slot_idles: None,
                slot_kind: Some(SlotKind::Physical),
                summarizes: Some(true),
                summaries_keep: None,
                synchronous: String::new(),
            },
            slot: Some(SlotFacts {
                name: "s".to_owned(),
                active: true,
                restart: Some(Lsn(MIB)),
                status: WalStatus::Reserved,
                safe_bytes: None,
                end: Lsn(MIB),
                synchronous: false,
            }),
            let_in: Ok(()),
        };
        let mut pause = Duration::from_hours(24);
        change(&mut said, &mut receive, &mut pause);
        let wanted = Wanted {
            server: "main",
            files: true,
            receive: Some(&receive),
            changes: Some(pause),
            application: "barkeep".to_owned(),
        };
        let mut rows = judge(&said, &wanted).into_iter();
        let row = rows.find(|(name, _)| name == what);
        match row.map(|(_, found)| found) {
            None => "not looked at".to_owned(),
            Some(Found::Good { detail }) => format!("ok: {detail}"),
            Some(Found::Limited { why, mend }) => format!("limited: {why} | {mend}"),
            Some(Found::Bad { why, mend, .. }) => format!("bad: {why} | {mend}"),
        }
    }

    fn refused() -> postgres::Error {
        postgres::Error::Request {
            doing: "log in",
            user: "barkeep".to_owned(),
            source: postgres::Cause::LogIn("no"),
        }
    }

    #[test]
    fn who_is_not_let_in_is_told_why_not() {
        let what = "replication";
        assert_eq!(found(what, |_, _, _| {}), "ok: the server lets us in");
        let standby = found(what, |said, _, _| said.sending.role = Role::Standby);
        assert_eq!(standby, "ok: the standby lets us in");
        let mends = [
            (
                "ALTER ROLE barkeep REPLICATION",
                (|said| said.sending.may_replicate = false) as fn(&mut Said),
            ),
            ("SET max_wal_senders = '12', restart", |said| {
                said.sending.senders.taken = 10;
            }),
            ("host replication barkeep ADDRESS", |_| {}),
        ];
        for (mend, change) in mends {
            let found = found(what, |said, _, _| {
                said.let_in = Err(refused());
                change(said);
            });
            assert!(
                found.starts_with("bad: ") && found.contains(mend),
                "{found}"
            );
        }
    }

    #[test]
    fn places_are_counted_without_those_that_we_have() {
        let what = "max_wal_senders";
        let taken = |active, taken| {
            found(what, |said, _, _| {
                said.sending.senders = Places { all: 3, taken };
                said.slot.as_mut().expect("a slot").active = active;
            })
        };
        assert_eq!(taken(true, 2), "ok: 1 of 3 are free");
        assert_eq!(
            taken(false, 2),
            "bad: 2 of 3 are taken, and 2 more are needed | \
             ALTER SYSTEM SET max_wal_senders = '4', restart"
        );
        let what = "max_replication_slots";
        assert_eq!(found(what, |_, _, _| {}), "not looked at");
        let full = found(what, |said, _, _| {
            (said.slot, said.sending.slot_kind) = (None, None);
            said.sending.slots.taken = 10;
        });
        assert!(
            full.starts_with("bad: all 10 are taken | ALTER SYSTEM"),
            "{full}"
        );
    }

    #[test]
    fn a_slot_is_there_of_the_right_kind_and_used() {
        let change = |change: fn(&mut Said)| found("slot s", |said, _, _| change(said));
        assert_eq!(change(|_| {}), "ok: in use, holds 0 B");
        let none = change(|said| (said.slot, said.sending.slot_kind) = (None, None));
        assert!(none.starts_with("limited: there is none"), "{none}");
        let logical = change(|said| {
            (said.slot, said.sending.slot_kind) = (None, Some(SlotKind::Logical));
        });
        assert!(logical.starts_with("bad: it is a logical one"), "{logical}");
        let of = |status, active, held: u64| {
            found("slot s", |said, _, _| {
                let slot = said.slot.as_mut().expect("a slot");
                (slot.status, slot.active) = (status, active);
                slot.end = Lsn(MIB + held);
            })
        };
        let lost = of(WalStatus::Lost, false, 0);
        assert!(lost.contains("| barkeep slot main --drop"), "{lost}");
        let soon = of(WalStatus::Unreserved, true, MIB);
        assert!(soon.starts_with("bad: PostgreSQL gives it up"), "{soon}");
        let idle = of(WalStatus::Reserved, false, MIB);
        assert!(idle.contains("it holds 1.0 MiB"), "{idle}");
        let much = of(WalStatus::Reserved, true, 1001 * MIB);
        assert!(much.starts_with("limited: it holds 1001.0 MiB"), "{much}");
    }

    #[test]
    fn what_would_cost_the_slot_later_is_told_of_now() {
        let keeps = |bytes| {
            found("max_slot_wal_keep_size", |said, _, _| {
                said.sending.slot_keeps = bytes;
            })
        };
        assert!(keeps(None).starts_with("ok: no limit"));
        assert_eq!(keeps(Some(2000 * MIB)), "ok: 2.0 GiB");
        let few = keeps(Some(500 * MIB));
        assert!(
            few.contains("| ALTER SYSTEM SET max_slot_wal_keep_size = '2000MB'"),
            "{few}"
        );
        let what = "idle_replication_slot_timeout";
        assert_eq!(found(what, |_, _, _| {}), "not looked at");
        let idle = found(what, |said, _, _| {
            said.sending.slot_idles = Some(Duration::from_hours(1));
        });
        assert!(
            idle.contains("nobody receives for 1h | ALTER SYSTEM"),
            "{idle}"
        );
    }

    #[test]
    fn commits_wait_for_nobody_but_a_spool() {
        let what = "synchronous_standby_names";
        let named = |said: &mut Said| "barkeep".clone_into(&mut said.sending.synchronous);
        assert_eq!(found(what, |_, _, _| {}), "not looked at");
        let bad = found(what, |said, _, _| named(said));
        assert!(bad.starts_with("bad: it means `barkeep`"), "{bad}");
        let spooled = found(what, |said, receive, _| {
            named(said);
            receive.spool = Some("/spool".into());
        });
        assert_eq!(spooled, "not looked at");
    }

    #[test]
    fn summaries_must_outlive_the_pause_between_backups() {
        let of = |summarizes, keep: Option<Duration>| {
            found("summarize_wal", |said, _, _| {
                said.sending.summarizes = summarizes;
                said.sending.summaries_keep = keep;
            })
        };
        assert_eq!(of(Some(true), None), "ok: on, kept for ever");
        assert!(of(None, None).starts_with("bad: PostgreSQL before 17"));
        assert!(of(Some(false), None).contains("SET summarize_wal = 'on'"));
        let short = of(Some(true), Some(Duration::from_hours(12)));
        assert!(short.contains("'2880min'"), "{short}");
        let day = Some(Duration::from_hours(24));
        assert_eq!(of(Some(true), day), "ok: on, kept for 24h");
    }

    #[test]
    fn whoever_may_take_over_must_be_ready_and_hold_nothing() {
        let what = "replication";
        let found = |what, change: fn(&mut Said)| {
            found_by(rows_of_another, what, |said, _, _| change(said))
        };
        assert_eq!(found(what, |_| {}), "ok: the server lets us in");
        let refused = found(what, |said| said.let_in = Err(refused()));
        assert!(refused.contains("pg_hba.conf"), "{refused}");
        let idle = |said: &mut Said| {
            let slot = said.slot.as_mut().expect("a slot");
            (slot.active, slot.end) = (false, Lsn(3 * MIB));
        };
        let left = found("slot s", idle);
        assert!(
            left.starts_with("limited: it was left behind, and holds 2.0 MiB"),
            "{left}"
        );
        // Who has no slot of ours needs none yet, only a place for one.
        let none = |said: &mut Said| (said.slot, said.sending.slot_kind) = (None, None);
        assert_eq!(found("slot s", none), "not looked at");
        let full = found("max_replication_slots", |said| {
            (said.slot, said.sending.slot_kind) = (None, None);
            said.sending.slots.taken = 10;
        });
        assert!(full.starts_with("bad: all 10 are taken"), "{full}");
        assert_eq!(found("max_wal_senders", |_| {}), "not looked at");
    }

    #[test]
    fn one_that_is_down_may_be_so_and_one_that_refuses_may_not() {
        let down = unasked(&postgres::Error::InRecovery { doing: "answer" }).1;
        assert!(matches!(down, Found::Limited { .. }));
        let unfit = unasked(&postgres::Error::Version(12)).1;
        assert!(matches!(unfit, Found::Bad { .. }));
    }
}

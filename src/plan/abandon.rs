//! Which unfinished backup a person may declare dead, and whose it is.
//!
//! A plan settles what our own dead attempts left, and never touches what another program began: only a person can know that it is dead.
//! Whoever says so may be wrong, so a backup that shows signs of life is left alone unless they insist.

use super::{Scene, adopt, due::FOREIGN_ALIVE, scenes, unlooked};
use crate::{
    failure::{Failure, Kind},
    model::{
        backup::{BackupId, BackupStatus},
        desired::Server,
        names::DestinationName,
        observed::Observed,
        reason::Waiting,
        time::Timestamp,
    },
};

/// An unfinished backup that is to be declared failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// An attempt of ours, by its record.
    Ours,
    /// Another program's.
    Others {
        /// The version of its `backup.info` that the decision rests on.
        version: String,
    },
}

/// What is done about signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// They are believed.
    Heeded,
    /// Whoever asks knows better.
    Ignored,
}

/// Why a backup is not declared failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Whether it is unfinished, or whose it is, is not known.
    #[error("{what} is unknown: {why}")]
    Unknown {
        /// What.
        what: &'static str,
        /// Why.
        why: Failure,
    },
    /// There is neither a backup nor an attempt with this id.
    #[error("it is not in the catalog")]
    NoSuchBackup,
    /// It has ended.
    #[error("it is {0}, and not unfinished")]
    Ended(BackupStatus),
    /// Somebody may still be at it.
    #[error("it may be alive: {0}")]
    Alive(Waiting),
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unknown { why, .. } => why.kind,
            Self::NoSuchBackup => Kind::NotFound,
            Self::Ended(_) | Self::Alive(_) => Kind::Refused,
        }
    }
}

/// Says whose an unfinished backup is, if it may be declared failed.
pub fn unfinished(
    server: &Server,
    destination: &DestinationName,
    observed: &Observed,
    (id, signs): (&BackupId, Signs),
    now: Timestamp,
) -> Result<Unfinished, Error> {
    let unseen = unlooked(now);
    let mut scenes = scenes(server, observed, &unseen, now);
    let scene = scenes.find(|scene| scene.entry.destination == *destination);
    let scene = scene.ok_or(Error::NoSuchBackup)?;
    let unknown = |what, why: &Failure| {
        let why = why.clone();
        Error::Unknown { what, why }
    };
    if let Some(why) = scene.stored.catalog.unknown() {
        return Err(unknown("the catalog", why));
    }
    if let Some(why) = scene.stored.attempts.unknown() {
        return Err(unknown("whose it is", why));
    }
    let (found, alive) = look(&scene, id)?;
    match alive.filter(|_| signs == Signs::Heeded) {
        Some(sign) => Err(Error::Alive(sign)),
        None => Ok(found),
    }
}

fn look(scene: &Scene<'_>, id: &BackupId) -> Result<(Unfinished, Option<Waiting>), Error> {
    let catalog = scene.stored.catalog.known();
    let backup = catalog.and_then(|catalog| catalog.backup(id));
    let ended = backup.map(|backup| backup.status).filter(|status| {
        let running = [BackupStatus::Started, BackupStatus::WaitingForWals];
        !running.contains(status)
    });
    if let Some(status) = ended {
        return Err(Error::Ended(status));
    }
    let attempts = scene.stored.attempts.known();
    if let Some((attempt, life)) = attempts.and_then(|attempts| attempts.get(id)) {
        let lives = !adopt::is_dead(scene, attempt, *life);
        let sign = lives.then(|| Waiting::Running {
            backup: id.clone(),
            since: attempt.started_at,
        });
        return Ok((Unfinished::Ours, sign));
    }
    let backup = backup.ok_or(Error::NoSuchBackup)?;
    let version = catalog.and_then(|catalog| catalog.versions.get(id));
    let version = version.cloned().unwrap_or_default();
    let since = scene.started(backup);
    let recent = since.filter(|since| scene.now.since(*since) < FOREIGN_ALIVE);
    let sign = recent.map(|since| Waiting::ForeignAttempt {
        backup: id.clone(),
        since,
    });
    Ok((Unfinished::Others { version }, sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    fn asked(text: &str, label: &str, signs: Signs) -> String {
        let world = World::parse(text);
        let destination = "primary".parse().expect("a name");
        let id = world.id(label);
        let of = (&id, signs);
        let found = unfinished(&world.server, &destination, &world.observed, of, world.now);
        world.told(match found {
            Ok(Unfinished::Ours) => "ours".to_owned(),
            Ok(Unfinished::Others { version }) => format!("others at {version}"),
            Err(error) => error.to_string(),
        })
    }

    #[test]
    fn what_others_began_long_ago_may_be_declared_dead() {
        for status in ["started", "waiting_for_wals"] {
            let text = format!("| done 1d | {status} 2d");
            assert_eq!(asked(&text, "2d", Signs::Heeded), "others at 2d");
        }
    }

    #[test]
    fn what_may_be_alive_is_left_alone_unless_somebody_insists() {
        let for_a_day = "| done 1d | started 23h";
        assert_eq!(asked(for_a_day, "23h", Signs::Heeded), "others at 23h");
        let foreign = "| done 1d | started 2h";
        let told = "it may be alive: 2h was started elsewhere 2026-11-20T09:00:00Z";
        assert_eq!(asked(foreign, "2h", Signs::Heeded), told);
        assert_eq!(asked(foreign, "2h", Signs::Ignored), "others at 2h");
        for life in ["alive", "elsewhere silent:9m"] {
            let ours = format!("| started 2h | attempt 2h {life}");
            let told = "it may be alive: 2h runs since 2026-11-20T09:00:00Z";
            assert_eq!(asked(&ours, "2h", Signs::Heeded), told, "{life}");
            assert_eq!(asked(&ours, "2h", Signs::Ignored), "ours", "{life}");
        }
    }

    #[test]
    fn our_own_that_died_may_be_given_up_also_while_it_waits_for_wal() {
        let text = "| waiting_for_wals 2h | wal 1:900-1000 | attempt 2h dead stopped";
        assert_eq!(asked(text, "2h", Signs::Heeded), "ours");
        let record = "| done 1d | attempt 20261120T110000 dead";
        assert_eq!(asked(record, "20261120T110000", Signs::Heeded), "ours");
    }

    #[test]
    fn what_has_ended_or_is_unknown_is_never_declared_dead() {
        for (text, said) in [
            ("| done 2d", "it is DONE, and not unfinished"),
            ("| failed 2d", "it is FAILED, and not unfinished"),
            ("| done 1d", "it is not in the catalog"),
            (
                "| started 2d | lose attempts",
                "whose it is is unknown: no answer",
            ),
            (
                "| started 2d | lose catalog",
                "the catalog is unknown: no answer",
            ),
        ] {
            assert_eq!(asked(text, "2d", Signs::Ignored), said, "{text}");
        }
    }

    #[test]
    fn why_not_is_of_a_class() {
        let why = Failure::new(Kind::Unreachable, "no answer");
        let retired = Error::Alive(Waiting::Retired);
        let what = "the catalog";
        assert_eq!(Error::Unknown { what, why }.kind(), Kind::Unreachable);
        assert_eq!(Error::NoSuchBackup.kind(), Kind::NotFound);
        assert_eq!(Error::Ended(BackupStatus::Done).kind(), Kind::Refused);
        assert_eq!(retired.kind(), Kind::Refused);
    }
}

//! What becomes of a request: how long it travels, and what goes wrong with it.
//!
//! A request may be refused, get lost, take effect without an answer, take effect long after it was given up, never be answered, or be the
//! last that its process makes: before its effect, after it, or with the effect still to come.
//!
//! What a thread of the program sends is apart. While the thread works no made-up time passes, and how far it is when a task looks depends
//! on the machine. Nothing of that may show, or a history could not be lived again: such a request takes no time, so that one archive's
//! follow each other in one order; and where an archive will not arrive, the manifest, which may be sent or not by then, has no effect.

use std::{future::pending, time::Duration};

use barkeep::clock::pause;

use crate::{dice::Dice, line::Process, world::Trouble};

/// So many requests for one archive may go wrong; none has more.
const STEPS: u64 = 10;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    Refused,
    Lost,
    /// It is given up, and takes effect later.
    Late,
    /// It takes effect, and the answer does not come.
    Unanswered,
    Hangs,
    DiesBefore,
    DiesAfter,
    /// The process dies, and the request takes effect later.
    DiesLate,
    /// It is refused, and whether it was made at all depends on the machine.
    Unnoticed,
}

impl Fate {
    fn drawn(dice: &mut Dice, trouble: Trouble) -> Self {
        let drawn = dice.roll(10_000);
        if drawn < trouble.crashes {
            return dice.pick(&[Self::DiesBefore, Self::DiesAfter, Self::DiesLate]);
        }
        if drawn >= trouble.crashes + trouble.errors {
            return Self::Well;
        }
        match dice.roll(40) {
            0 => Self::Hangs,
            1..12 => Self::Refused,
            12..18 => Self::Lost,
            18..24 => Self::Late,
            _ => Self::Unanswered,
        }
    }

    /// The same where nobody can wait.
    fn at_once(self) -> Self {
        match self {
            Self::Hangs => Self::Lost,
            fate => fate,
        }
    }

    /// The same for what does not end its process.
    fn survived(self) -> Self {
        match self {
            Self::DiesBefore => Self::Refused,
            Self::DiesAfter => Self::Unanswered,
            Self::DiesLate => Self::Late,
            fate => fate,
        }
    }
}

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It takes its time.
    Far,
    /// A thread sends an archive.
    Archive,
    /// A thread sends the manifest, after all archives.
    Manifest,
}

impl Way {
    /// How a process writes what it makes itself.
    pub(crate) fn of_own(key: &str) -> Self {
        if key.contains("/barkeep/manifest/") {
            Self::Manifest
        } else if key.contains("/base/") && key.contains(".tar") {
            Self::Archive
        } else {
            Self::Far
        }
    }

    /// What becomes of a request, and the dice for the rest of it.
    pub(crate) fn fate(self, process: &Process, what: &str, trouble: Trouble) -> (Fate, Dice) {
        let mut dice = process.dice(what);
        let backup = || what.split('/').find(|part| is_id(part)).unwrap_or_default();
        let step = |step: u64| {
            let mut dice = process.dice_once(&format!("sends {} {step}", backup()));
            Fate::drawn(&mut dice, trouble).at_once()
        };
        let fate = match self {
            Self::Far => Fate::drawn(&mut dice, trouble),
            Self::Archive => match process.count(&format!("sends {}", backup())) {
                number if number > STEPS => Fate::Well,
                number => step(number),
            },
            Self::Manifest if (1..=STEPS).all(|number| step(number) == Fate::Well) => {
                Fate::drawn(&mut dice, trouble).at_once().survived()
            }
            Self::Manifest => Fate::Unnoticed,
        };
        (fate, dice)
    }

    /// There, or back.
    pub(crate) async fn travel(self, dice: &mut Dice, trouble: Trouble) {
        let slow = dice.roll(10_000) < trouble.slow;
        let millis = if slow {
            dice.roll(40_000)
        } else {
            1 + dice.roll(20)
        };
        self.pause(Duration::from_millis(millis)).await;
    }

    /// What a dead process gets: nothing, but its threads have to end.
    pub(crate) async fn nowhere<T, E>(self, error: E) -> Result<T, E> {
        match self {
            Self::Far => pending().await,
            Self::Archive | Self::Manifest => Err(error),
        }
    }

    pub(crate) async fn pause(self, span: Duration) {
        if self == Self::Far {
            pause(span).await;
        }
    }
}

/// `20261102T020000`, as the part of a key or its end.
fn is_id(part: &str) -> bool {
    let id = part.split(' ').next().unwrap_or_default();
    id.len() == 15 && id.as_bytes()[8] == b'T'
}

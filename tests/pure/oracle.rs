//! Every catalog of up to five backups, judged a second time by brute force.
//!
//! The reference knows each backup by one letter, counts on its fingers, and asks of one segment at a time; of the
//! planner's runs, walks and sets it has nothing. What it says goes must be what the plan deletes, backup by backup and segment by segment.
//!
//! | Letter | Backup | | Letter | Backup |
//! |---|---|---|---|---|
//! | `d` | complete | | `x` | complete, but its archive is empty |
//! | `e` | the same, on timeline 2 | | `l` | complete and locked |
//! | `k` | complete, kept in full | | `f` | failed |
//! | `s` | complete, kept standalone | | `r` | running, of somebody else |

use std::{collections::BTreeSet, fmt::Write as _};

use barkeep::{
    model::{
        action::Action,
        backup::BackupId,
        judge::{Facts, Rule, judge},
        semantics::BARMAN,
        wal::SegmentNumber,
    },
    plan::Plan,
};

use crate::plan::testing::World;

const LETTERS: &[u8] = b"dekslxfr";

/// What is configured: a redundancy or a window of days, and the minimum.
const RULES: [(Wanted, usize); 4] = [
    (Wanted::Count(1), 1),
    (Wanted::Count(2), 1),
    (Wanted::Days(10), 1),
    (Wanted::Days(3), 3),
];

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Count(usize),
    Days(usize),
}

fn days(index: usize) -> usize {
    1 + 7 * index
}

fn begin(index: usize) -> usize {
    1000 - 10 * days(index)
}

fn timeline(letter: u8) -> usize {
    1 + usize::from(letter == b'e')
}

fn is_done(letter: u8) -> bool {
    b"dekslx".contains(&letter)
}

fn is_good(letter: u8) -> bool {
    is_done(letter) && letter != b'x'
}

fn is_kept(letter: u8) -> bool {
    b"ks".contains(&letter)
}

/// A segment: timeline and number, which compare as Barman compares their names.
type Segment = (usize, usize);

/// A catalog, newest first, a week apart, and a rule: with what the reference says of them.
struct Reference<'a> {
    letters: &'a [u8],
    rule: (Wanted, usize),
    /// What Barman calls obsolete.
    obsolete: Vec<usize>,
    /// What goes: what Barman would let go, and what is outside also among the good ones alone.
    goes: Vec<usize>,
    /// What lies outside by either count.
    outside: Vec<usize>,
    /// From here on down Barman would call anything obsolete.
    horizon: Option<usize>,
}

impl<'a> Reference<'a> {
    fn new(letters: &'a [u8], rule: (Wanted, usize)) -> Self {
        let (done, stay) = staying(letters, rule, is_done);
        let (good, stay_of_good) = staying(letters, rule, is_good);
        let beyond: Vec<usize> = done.iter().skip(stay).copied().collect();
        let good_beyond: Vec<usize> = good.into_iter().skip(stay_of_good).collect();
        let obsolete = beyond.iter().filter(|at| !is_kept(letters[**at]));
        let obsolete: Vec<usize> = obsolete.copied().collect();
        let goes = obsolete
            .iter()
            .filter(|at| good_beyond.contains(at) && letters[**at] != b'l');
        Self {
            letters,
            rule,
            goes: goes.copied().collect(),
            outside: beyond
                .into_iter()
                .filter(|at| good_beyond.contains(at))
                .collect(),
            obsolete,
            horizon: done.get(stay - 1).copied(),
        }
    }

    /// Whether anything that is left needs a segment, or nobody can know.
    fn is_needed(&self, number: usize) -> bool {
        let left = (0..self.letters.len()).filter(|at| !self.goes.contains(at));
        let left: Vec<usize> = left.collect();
        let needs = |at: &usize| {
            let letter = self.letters[*at];
            let standalone = letter == b's' && self.outside.contains(at);
            let from_begin = letter != b'f' && number >= begin(*at);
            from_begin && (!standalone || number <= begin(*at) + 1)
        };
        let none_good = !left.iter().any(|at| is_good(self.letters[*at]));
        none_good || left.iter().any(needs)
    }

    /// Whether Barman would remove a segment: with what is obsolete, or with backups that stood between two others once.
    fn is_barmans(&self, segment: Segment) -> bool {
        // One after the other, the oldest first.
        let all: Vec<usize> = (0..self.letters.len()).rev().collect();
        let mut there = all.clone();
        for gone in self.obsolete.iter().rev() {
            let place = there.iter().position(|at| at == gone).expect("it is there");
            let mut above = there[place + 1..].iter();
            let until = above.find(|at| is_done(self.letters[**at]));
            if self.removes(&there, place, *until.unwrap_or(gone), segment) {
                return true;
            }
            there.remove(place);
        }
        let Some(horizon) = self.horizon else {
            return false;
        };
        let beyond = all.iter().enumerate().filter(|(_, at)| **at >= horizon);
        let mut copied = beyond.filter(|(_, at)| is_done(self.letters[**at]));
        copied.any(|(place, at)| self.removes(&all, place, *at, segment))
    }

    /// Whether one clean-up removes a segment, if all complete backups older than the one at `place` are kept standalone.
    fn removes(&self, there: &[usize], place: usize, until: usize, segment: Segment) -> bool {
        let of = |at: &usize| timeline(self.letters[*at]);
        let mut older = there[..place]
            .iter()
            .filter(|at| is_done(self.letters[**at]));
        let standalone = older.clone().all(|at| self.letters[*at] == b's');
        let spared =
            older.any(|at| ((of(at), begin(*at))..=(of(at), begin(*at) + 1)).contains(&segment));
        let own = of(&until);
        let protected = segment.0 != own && there.iter().any(|at| of(at) == segment.0);
        standalone && !protected && !spared && segment < (own, begin(until))
    }

    fn told(&self) -> String {
        format!(
            "{} under {:?}",
            String::from_utf8_lossy(self.letters),
            self.rule
        )
    }

    fn check(&self, world: &World) {
        let plan = world.plan();
        let label = |index: &usize| world.id(&format!("{}d", days(*index)));
        let goes: BTreeSet<BackupId> = self.goes.iter().map(label).collect();
        let told = self.told();
        assert_eq!(deleted(&plan), goes, "{told}");
        let obsolete: BTreeSet<BackupId> = self.obsolete.iter().map(label).collect();
        assert_eq!(expired_by_barman(world), obsolete, "Barman on {told}");
        let all = 0..self.letters.len();
        let near = all.flat_map(|at| [0, 1, 2, 3].map(|more| begin(at) - 1 + more));
        for number in near.chain([1, 1005]) {
            for on in [1, 2] {
                // A scene holds the WAL of the timelines that it mentions; the second one by its history.
                let there = on == 2 || self.letters.iter().any(|letter| *letter != b'e');
                let goes = there && !self.is_needed(number) && self.is_barmans((on, number));
                assert_eq!(goes_on(&plan, on, number), goes, "{on}:{number} of {told}");
            }
        }
    }
}

/// The backups that count, newest first, and how many of them stay.
fn staying(
    letters: &[u8],
    (wanted, minimum): (Wanted, usize),
    counts: fn(u8) -> bool,
) -> (Vec<usize>, usize) {
    let counted = (0..letters.len()).filter(|at| counts(letters[*at]));
    let counted: Vec<usize> = counted.collect();
    let stay = match wanted {
        Wanted::Count(count) => count,
        // Those that ended within it, and the one that ended before it began.
        Wanted::Days(window) => counted.iter().filter(|at| days(**at) <= window).count() + 1,
    };
    (counted, stay.max(minimum))
}

fn world(letters: &[u8]) -> World {
    let mut text = "budget=99/100 | history 2:1@600".to_owned();
    for (index, letter) in letters.iter().enumerate() {
        let (status, words) = match letter {
            b'e' => ("done", " tl:2"),
            b'k' => ("done", " keep:full"),
            b's' => ("done", " keep:standalone"),
            b'x' => ("done", " empty:"),
            b'f' => ("failed", ""),
            b'r' => ("started", ""),
            _ => ("done", ""),
        };
        write!(text, " | {status} {}d{words}", days(index)).expect("text");
    }
    let locked = letters
        .iter()
        .enumerate()
        .filter(|(_, letter)| **letter == b'l');
    for (index, _) in locked {
        write!(text, " | locked {}d held", days(index)).expect("text");
    }
    World::parse(&text)
}

fn configure(world: &mut World, (wanted, minimum): (Wanted, usize)) {
    let retention = match wanted {
        Wanted::Count(count) => format!("retention={count}x"),
        Wanted::Days(days) => format!("retention={days}d"),
    };
    world.configure(&retention);
    world.configure(&format!("min={minimum}"));
    world.adopt();
}

fn expired_by_barman(world: &World) -> BTreeSet<BackupId> {
    let entry = &world.server.entries[0];
    let rule = Rule {
        policy: entry.retention,
        minimum_redundancy: entry.minimum_redundancy,
    };
    let stored = world.observed.destinations.values().next().expect("one");
    let catalog = stored.catalog.known().expect("a scene");
    let verdicts = judge(catalog, &rule, &Facts::at(world.now), BARMAN);
    verdicts.expired().cloned().collect()
}

fn deleted(plan: &Plan) -> BTreeSet<BackupId> {
    let deletes = plan.steps.iter().filter_map(|step| match &step.action {
        Action::DeleteBackup { backup, .. } => Some(backup.clone()),
        _ => None,
    });
    deletes.collect()
}

/// Whether a plan deletes a segment.
fn goes_on(plan: &Plan, on: usize, number: usize) -> bool {
    let number = SegmentNumber(number as u64);
    plan.steps.iter().any(|step| match &step.action {
        Action::DeleteWal { spans } => spans.iter().any(|span| {
            span.timeline.number() as usize == on
                && (span.run.first..=span.run.last).contains(&number)
        }),
        _ => false,
    })
}

/// Every word of this length.
fn words(length: u32) -> impl Iterator<Item = Vec<u8>> {
    let base = LETTERS.len();
    (0..base.pow(length)).map(move |code| {
        let letter = |at: u32| LETTERS[code / base.pow(at) % base];
        (0..length).map(letter).collect()
    })
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "whoever looks at it wants to know how many there were"
)]
fn every_catalog_of_up_to_five_backups_is_judged_as_by_brute_force() {
    let all: Vec<Vec<u8>> = (0..=5).flat_map(words).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for part in all.chunks(all.len().div_ceil(cores)) {
            scope.spawn(move || {
                for letters in part {
                    let mut world = world(letters);
                    for rule in RULES {
                        configure(&mut world, rule);
                        Reference::new(letters, rule).check(&world);
                    }
                }
            });
        }
    });
    eprintln!("{} catalogs under {} rules", all.len(), RULES.len());
}

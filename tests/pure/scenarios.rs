//! The lives of servers as transcripts: every file of `scenarios/` is a script with what came of it.
//!
//! A line that begins with `> ` is a command; what follows, up to the next one, is what it printed. With `BLESS=1` in the environment the
//! files are written anew; what has changed is then read in the diff.
//!
//! | Command | Does |
//! |---|---|
//! | `world TEXT` | begins with the world of a text, as in the tables of the unit tests |
//! | `set KEY=VALUE`, `fact TEXT` | changes the configuration, or what is so |
//! | `adopt` | somebody accepts what is there and what is configured |
//! | `wait SPAN` | lets time pass; ten segments a day are archived |
//! | `plan` | prints the plan as people see it |
//! | `reconcile` | does what is planned until nothing is left, and prints the steps |
//! | `days N` | `wait 24h` and `reconcile`, N times |
//! | `next fails`, `next dies`, `next waits` | how the next backup ends |
//! | `lose WHAT`, `find WHAT` | something cannot be found out, or can be again |
//! | `lose-wal 1:1003-1004` | segments vanish |
//! | `promote` | the server goes on on a new timeline |
//! | `keep ID TARGET`, `unkeep ID` | a person does it |
//! | `show` | prints every backup with its verdict |

use std::{env, fmt::Write as _, fs, path::Path};

use barkeep::{
    model::{
        action::WalSpan,
        backup::{Backup, BackupId, BackupStatus, KeepTarget},
        catalog::Run,
        observed::Knowledge,
        time::Timestamp,
        timeline::{Branch, TimelineHistory, TimelineId},
        wal::{SegmentNumber, SegmentSize},
    },
    plan::{
        Plan, Step, after,
        guard::{Asked, guard},
        render::Text,
    },
};

use crate::{
    life,
    model::scene::{number, span, timeline},
    plan::testing::World,
};

/// How many times a server is looked at in one run.
const ROUNDS_MAX: usize = 8;

struct Life {
    world: World,
    lost: Vec<String>,
    next: Option<String>,
}

impl Life {
    /// What can be seen of the world now.
    fn seen(&self) -> World {
        let mut seen = World {
            server: self.world.server.clone(),
            observed: self.world.observed.clone(),
            now: self.world.now,
            labels: self.world.labels.clone(),
        };
        for lost in &self.lost {
            seen.fact(&format!("lose {lost}"));
        }
        seen
    }

    fn run(&mut self, command: &str) -> String {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "world" => *self = Self::new(rest),
            "set" => self.world.configure(rest),
            "adopt" => self.world.adopt(),
            "fact" => self.world.fact(rest),
            "wait" => self.wait(rest),
            "plan" => return Text(&self.seen().plan()).to_string(),
            "reconcile" => return self.reconcile(),
            "days" => return self.days(number(rest)),
            "next" => self.next = Some(rest.to_owned()),
            "lose" => self.lost.push(rest.to_owned()),
            "find" => self.lost.retain(|lost| lost != rest),
            "lose-wal" => self.lose_wal(rest),
            "promote" => self.promote(),
            "keep" => self.keep(rest),
            "unkeep" => self.backup(rest).keep = None,
            "show" => return self.show(),
            _ => panic!("unknown command `{command}`"),
        }
        String::new()
    }

    fn new(text: &str) -> Self {
        Self {
            world: World::parse(text),
            lost: Vec::new(),
            next: None,
        }
    }

    fn wait(&mut self, text: &str) {
        let to = self.world.now + span(text);
        life::advance(&mut self.world, to);
        let archived = segment_at(to);
        let Knowledge::Known(facts) = &self.world.observed.postgres else {
            return;
        };
        let last = facts.archiver.last_archived;
        let size = SegmentSize::DEFAULT;
        if last.is_none_or(|last| last.number(size).0 < archived) {
            life::archive(&mut self.world, archived);
        }
    }

    fn days(&mut self, count: u32) -> String {
        let mut lines = String::new();
        for _ in 0..count {
            self.wait("24h");
            lines += &self.reconcile();
        }
        lines
    }

    fn reconcile(&mut self) -> String {
        let mut lines = String::new();
        for _ in 0..ROUNDS_MAX {
            let seen = self.seen();
            let plan = seen.plan();
            let progress = self.carry_out(&plan, &seen, &mut lines);
            if !progress {
                break;
            }
        }
        lines
    }

    /// Does what a plan says. Says whether to look again.
    fn carry_out(&mut self, plan: &Plan, seen: &World, lines: &mut String) -> bool {
        let (server, observed) = (&seen.server, &seen.observed);
        let guarded = guard(plan.clone(), server, observed, Asked::ByPolicy, seen.now);
        assert!(guarded.refusals().is_empty(), "{:?}", guarded.refusals());
        let mut progress = false;
        for step in &plan.steps {
            let (action, reason) = (step.describe(), &step.reasons[0]);
            writeln!(lines, "{}  {action}: {reason}", seen.now).expect("text");
            progress |= if step.action.is_attempt() {
                self.attempt(step, lines)
            } else {
                life::apply(&mut self.world, step, None);
                true
            };
        }
        progress
    }

    /// A backup, which ends as the script says. Says whether it is complete.
    fn attempt(&mut self, step: &Step, lines: &mut String) -> bool {
        let above = match &step.action {
            barkeep::model::action::Action::TakeBackup { above, .. } => above.clone(),
            _ => None,
        };
        let mut backup = life::take(&mut self.world, above.as_ref());
        let id = backup.id.to_string();
        let next = self.next.take();
        let record = match next.as_deref() {
            Some("fails") => {
                backup.status = BackupStatus::Failed;
                None
            }
            Some("dies") => {
                backup.status = BackupStatus::Started;
                (backup.end_time, backup.end_wal, backup.end_lsn) = (None, None, None);
                Some(format!("attempt {id} dead"))
            }
            Some("waits") => {
                backup.status = BackupStatus::WaitingForWals;
                self.unarchive(&backup);
                Some(format!("attempt {id} dead stopped"))
            }
            _ => None,
        };
        let status = backup.status;
        writeln!(lines, "    {id} is {status}").expect("text");
        life::apply(&mut self.world, step, Some(backup));
        if let Some(record) = record {
            self.world.fact(&record);
        }
        status == BackupStatus::Done
    }

    /// The last segment of a backup is not archived yet.
    fn unarchive(&mut self, backup: &Backup) {
        let end = backup.end_wal.expect("a backup of a scene ends somewhere");
        let size = SegmentSize::DEFAULT;
        self.remove(end.timeline, end.number(size).0, end.number(size).0);
        if let Knowledge::Known(facts) = &mut self.world.observed.postgres {
            facts.archiver.last_archived = backup.begin_wal;
        }
    }

    fn lose_wal(&mut self, text: &str) {
        let (on, run) = text.split_once(':').expect("a timeline");
        let (first, last) = run.split_once('-').expect("a run");
        self.remove(timeline(on), number(first), number(last));
    }

    fn remove(&mut self, timeline: TimelineId, first: u64, last: u64) {
        let run = Run {
            first: SegmentNumber(first),
            last: SegmentNumber(last),
        };
        let spans = vec![WalSpan { timeline, run }];
        let action = barkeep::model::action::Action::DeleteWal { spans };
        let destination = self.world.server.entries[0].destination.clone();
        let now = self.world.now;
        self.world.observed = after::after(&self.world.observed, &destination, &action, None, now);
    }

    fn promote(&mut self) {
        let size = SegmentSize::DEFAULT;
        let Knowledge::Known(facts) = &mut self.world.observed.postgres else {
            panic!("nobody knows the server");
        };
        let last = facts
            .archiver
            .last_archived
            .expect("something was archived");
        let old = facts.timeline;
        facts.timeline = TimelineId::new(old.number() + 1).expect("not zero");
        let new = facts.timeline;
        let wal = &mut self.world.catalog().wal;
        let mut branches = wal.history(old).branches;
        branches.push(Branch {
            timeline: old,
            switch: last.number(size).next().start(size),
            reason: "promoted".to_owned(),
        });
        let history = TimelineHistory {
            timeline: new,
            branches,
        };
        wal.histories.insert(new, history);
    }

    fn backup(&mut self, id: &str) -> &mut Backup {
        let id = BackupId::new(id);
        let mut backups = self.world.catalog().backups.iter_mut();
        backups.find(|backup| backup.id == id).expect("a backup")
    }

    fn keep(&mut self, rest: &str) {
        let (id, target) = rest.split_once(' ').expect("a target");
        self.backup(id).keep = Some(match target {
            "full" => KeepTarget::Full,
            _ => KeepTarget::Standalone,
        });
    }

    fn show(&self) -> String {
        let mut lines = String::new();
        let plan = self.seen().plan();
        for (id, verdict) in plan.targets.values().flat_map(|target| &target.verdicts) {
            let fate = format!("{:?}", verdict.fate).to_lowercase();
            writeln!(lines, "{id}  {fate}: {}", verdict.reasons[0]).expect("text");
        }
        lines
    }
}

/// The segment that is written at an instant: ten a day, as in every scene.
fn segment_at(instant: Timestamp) -> u64 {
    let seconds = instant.unix_seconds() - crate::model::scene::now().unix_seconds();
    u64::try_from(1000 + seconds.div_euclid(8640)).expect("after the beginning of the archive")
}

/// The script with what it prints now.
fn transcript(text: &str) -> String {
    let mut life = Life::new("| nothing");
    let mut written = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(written, "{line}").expect("text");
            written += &life.run(command);
        } else if line.starts_with('#') {
            writeln!(written, "{line}").expect("text");
        }
    }
    written
}

#[test]
fn every_life_goes_as_it_is_written_down() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pure/scenarios");
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs the tests asks for new output"
    )]
    let bless = env::var_os("BLESS").is_some();
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .expect("the scenarios")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = fs::read_to_string(&path).expect("a scenario");
        let now = transcript(&text);
        if bless {
            fs::write(&path, now).expect("the scenario can be written");
        } else {
            let name = path.file_name().expect("a name").display();
            for (number, (now, then)) in now.lines().zip(text.lines()).enumerate() {
                assert_eq!(
                    now,
                    then,
                    "{name}:{}: set BLESS=1 to write it anew",
                    number + 1
                );
            }
            assert_eq!(now.len(), text.len(), "{name}: one is longer");
        }
    }
}

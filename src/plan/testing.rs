//! Whole decisions as text: a server, its catalog and all that is known of them in a few words, and what the planner makes of it.
//!
//! `retention=2x schedule=@daily | done 1d | done 8d | attempt 8d dead | lose clock`: first the configuration, then the backups as in
//! [`Scene`], then what else is so. The server is `orders`, its one destination `primary`; the present is that of every scene. A span alone
//! (`1d`) is an age, and the name of the backup that ended then.

use std::{collections::BTreeMap, fmt::Write as _, sync::Mutex, time::Duration};

use barkeep::{
    failure::{Failure, Kind},
    model::{
        action::WalSpan,
        backup::{Backup, BackupId, BackupStatus, KeepTarget},
        catalog::{Catalog, Finding, Orphan, Run, Verified},
        desired::{
            CalendarSpan, CatchUp, DeclaredKeep, DeleteBudget, Entry, Incremental, KeepRule,
            ManageKeeps, Method, Mode, Period, Server, ServerState, WalCheck,
        },
        lock::{Lock, LockMode, Locking},
        names::DestinationName,
        observed::{ArchiveMode, Knowledge, Locality, Observed, PendingUpload, Role, Stored},
        policy::Policy,
        record::{
            Actor, ArchiveRecord, Attempt, Baseline, Epitaph, Identity, KeepRecord, Life, Mark,
            SetBy, Stopped, Tombstone,
        },
        schedule::{Schedule, StartWindow, Zone},
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentNumber, SegmentSize, SystemId},
    },
    plan::{Plan, plan},
};

use crate::model::scene::{Scene, instant, now, number, span, timeline};

mod disks;
mod plain;

use plain::{observed, server};

/// A server with all that there is to know of it.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) observed: Observed,
    pub(crate) now: Timestamp,
    pub(crate) labels: BTreeMap<BackupId, String>,
}

impl World {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = text.split('|').map(str::trim);
        let configuration = parts.next().unwrap_or_default();
        let is_known = |part: &&str| WORDS.contains(&part.split(' ').next().unwrap_or_default());
        let (mut own, scene): (Vec<&str>, Vec<&str>) =
            parts.filter(|part| !part.is_empty()).partition(is_known);
        // Whatever is lost was there before.
        let is_less = |part: &str| part.starts_with("lose") || part.starts_with("without");
        own.sort_by_key(|part| (is_less(part), *part == "lose destination"));
        let scene = Scene::distinct(&format!("none | {}", scene.join(" | ")));
        let mut world = Self {
            server: server(),
            labels: scene.labels().clone(),
            observed: observed(scene.catalog),
            now: now(),
        };
        for word in configuration.split_whitespace() {
            world.configure(word);
        }
        let is_late = |part: &&str| is_less(part) || part.starts_with("baseline");
        let (late, facts): (Vec<&str>, Vec<&str>) = own.into_iter().partition(is_late);
        for part in facts {
            world.fact(part);
        }
        world.adopt();
        for part in late {
            world.fact(part);
        }
        if world.server.state == ServerState::Retired {
            world.observed.postgres = Knowledge::Absent;
        }
        world
    }

    /// What is there now is what the last run saw.
    pub(crate) fn adopt(&mut self) {
        let catalog = self.observed.destinations.values().next();
        let catalog = catalog.and_then(|stored| stored.catalog.known());
        let Some(catalog) = catalog else { return };
        let done = catalog.backups.iter();
        let done = done.filter(|backup| backup.status == BackupStatus::Done);
        let baseline = Baseline {
            at: self.now,
            policy: Policy::of(&self.server.entries[0]),
            backups: done.map(|backup| backup.id.clone()).collect(),
            deleted: BTreeMap::new(),
        };
        self.stored().baseline = Knowledge::Known(baseline);
    }

    /// `none`, `retention=30d min=3`, `gone:20d`, `deleted:20d@3h`: what the last run saw otherwise.
    fn baseline(&mut self, words: &[&str]) {
        let server = self.server.clone();
        let is_setting = |word: &&&str| word.contains('=');
        words
            .iter()
            .filter(is_setting)
            .for_each(|word| self.configure(word));
        self.adopt();
        self.server = server;
        let (gone, deleted) = (after(words, "gone"), after(words, "deleted"));
        let stored = self.stored();
        match &mut stored.baseline {
            baseline if words == ["none"] => *baseline = Knowledge::Absent,
            Knowledge::Known(baseline) => {
                baseline.backups.extend(gone.map(BackupId::new));
                let deleted = deleted.and_then(|word| word.split_once('@'));
                let deleted = deleted.map(|(id, age)| (BackupId::new(id), instant(age)));
                baseline.deleted.extend(deleted);
            }
            _ => {}
        }
    }

    /// The only entry.
    pub(crate) fn entry(&mut self) -> &mut Entry {
        &mut self.server.entries[0]
    }

    /// What is known of the only destination.
    pub(crate) fn stored(&mut self) -> &mut Stored {
        self.observed
            .destinations
            .values_mut()
            .next()
            .expect("a world has a destination")
    }

    pub(crate) fn catalog(&mut self) -> &mut Catalog {
        match &mut self.stored().catalog {
            Knowledge::Known(catalog) => catalog,
            _ => panic!("the catalog is not known"),
        }
    }

    /// The backup that ended so long ago.
    pub(crate) fn id(&self, label: &str) -> BackupId {
        let mut labels = self.labels.iter();
        let found = labels.find(|(_, known)| *known == label);
        found.map_or_else(|| BackupId::new(label), |(id, _)| id.clone())
    }

    pub(crate) fn plan(&self) -> Plan {
        let location = |_: &DestinationName| "memory:".to_owned();
        plan(&self.server, &self.observed, &location, self.now)
    }

    /// Ids as the names that the text gave them.
    pub(crate) fn told(&self, mut text: String) -> String {
        for (id, label) in &self.labels {
            text = text.replace(id.as_str(), label);
        }
        text
    }

    /// `retention=2x`: one word of the configuration.
    pub(crate) fn configure(&mut self, word: &str) {
        let (key, value) = word.split_once('=').expect("`key=value`");
        let spaced = value.replace('_', " ");
        match key {
            "mode" => {
                self.server.mode = match value {
                    "observe" => Mode::Observe,
                    "additive" => Mode::Additive,
                    _ => Mode::Full,
                };
            }
            "state" => self.server.state = ServerState::Retired,
            "schedule" => {
                self.entry().schedule = Some(schedule(&spaced));
            }
            "window" => {
                let window = StartWindow::parse(value).expect("a window");
                self.entry().window = Some(window);
            }
            "splay" => self.entry().splay = span(value),
            "incremental" => {
                let (every, chain) = value.split_once('/').expect("7d/4");
                self.entry().incremental = Some(Incremental {
                    full_every: span(every),
                    max_chain: number(chain),
                });
            }
            "method" if value == "snapshot" => self.snapshots_of_disks(),
            "method" => self.entry().method = Method::Stream,
            "mounts" => self.declare_mounts(),
            "catchup" => self.entry().catch_up = CatchUp::Skip,
            "retention" => self.entry().retention = Some(retention(value)),
            "min" => self.entry().minimum_redundancy = number(value),
            "verify" => self.entry().verify_every = Some(span(value)),
            "retire" => self.entry().retire_after = span(value),
            "manage" => self.entry().manage_keeps = ManageKeeps::Exact,
            "grace" => self.entry().grace = span(value),
            "failed" => self.entry().failed_after = Some(span(value)),
            "orphans" => self.entry().orphans_after = Some(span(value)),
            "lag" => self.entry().wal.max_lag = Some(span(value)),
            "check" => self.entry().wal.check = WalCheck::Off,
            "budget" => {
                let (backups, percent) = value.split_once('/').expect("5/25");
                self.entry().deletes = DeleteBudget {
                    backups_max: number(backups),
                    percent_max: number(percent),
                };
            }
            "rule" => self.entry().keep_rules.push(rule(value)),
            _ => panic!("unknown setting `{key}`"),
        }
    }

    /// `attempt 8d dead`: something else that is so.
    pub(crate) fn fact(&mut self, part: &str) {
        if self.observed.destinations.is_empty() {
            return;
        }
        let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        match word {
            "attempt" => self.attempt(&words),
            "tombstone" => self.tombstone(&words),
            "mark" => self.mark(&words),
            "baseline" => self.baseline(&words),
            "record" => self.record(&words),
            "declare" => self.declare(&words),
            "orphan" => self.orphan(&words),
            "upload" => self.upload(&words),
            "verified" => self.verified(&words),
            "manifest" => {
                let id = self.id(words[0]);
                self.catalog().manifests.insert(id);
            }
            "postgres" => words.iter().for_each(|word| self.postgres(word)),
            "store" => self.stored().store_time = Knowledge::Known(instant(words[0])),
            "identity" => {
                self.stored().identity = Knowledge::Known(Identity {
                    system_id: SystemId(number(words[0])),
                    pinned_at: now(),
                });
            }
            "locked" => self.locked(&words),
            "snapshot" => self.snapshot(&words),
            "disks" => self.disks(&words),
            "unlooked" => self.stored().locks = Knowledge::Absent,
            "without" => words.iter().for_each(|word| self.without(word)),
            "lose" => words.iter().for_each(|word| self.lose(word)),
            "nothing" => *self.catalog() = Catalog::default(),
            _ => panic!("unknown word `{word}`"),
        }
    }

    /// `8d dead`, `8d elsewhere silent:20m`, `8d dead stopped`
    fn attempt(&mut self, words: &[&str]) {
        let id = self.id(words[0]);
        let silent = after(words, "silent").map_or(Duration::ZERO, span);
        let backup = self.catalog().backup(&id).cloned();
        let started_at = backup.as_ref().and_then(|backup| backup.begin_time);
        let stopped = backup.filter(|_| words.contains(&"stopped"));
        let stopped = stopped.and_then(|backup| stopped_as(&backup));
        let attempt = Attempt {
            backup: id.clone(),
            started_at: started_at.unwrap_or(now()),
            by: actor(),
            due: None,
            alive_at: self.now - silent,
            stopped,
        };
        let life = match words.get(1) {
            Some(&"alive") => Life::Alive,
            Some(&"elsewhere") => Life::Elsewhere,
            _ => Life::Dead,
        };
        if let Knowledge::Known(attempts) = &mut self.stored().attempts {
            attempts.insert(id, (attempt, life));
        }
    }

    /// `3h of:22d`, `3h of:22d version:other`
    fn tombstone(&mut self, words: &[&str]) {
        let backup = self.id(after(words, "of").unwrap_or("gone"));
        let version = after(words, "version")
            .unwrap_or(backup.as_str())
            .to_owned();
        let tombstone = Tombstone {
            backup: backup.clone(),
            at: instant(words[0]),
            epitaph: Epitaph {
                version,
                reason: String::new(),
            },
        };
        if let Knowledge::Known(tombstones) = &mut self.stored().tombstones {
            tombstones.push(tombstone);
        }
    }

    /// `22d 3h`, `22d 3h version:other`
    fn mark(&mut self, words: &[&str]) {
        let backup = self.id(words[0]);
        let version = after(words, "version").unwrap_or(backup.as_str());
        let mark = Mark {
            at: instant(words[1]),
            epitaph: Epitaph {
                version: version.to_owned(),
                reason: String::new(),
            },
            backup: backup.clone(),
        };
        if let Knowledge::Known(marks) = &mut self.stored().marks {
            marks.insert(backup, mark);
        }
    }

    /// `22d full until:3d`, `22d full by:alice`
    fn record(&mut self, words: &[&str]) {
        let backup = self.id(words[0]);
        let record = KeepRecord {
            backup: backup.clone(),
            target: target(words[1]),
            reason: String::new(),
            until: after(words, "until").map(until),
            set_at: instant("30d"),
            by: match after(words, "by") {
                Some(name) => SetBy::Person(name.to_owned()),
                None => SetBy::Policy,
            },
        };
        if let Knowledge::Known(records) = &mut self.stored().keep_records {
            records.insert(backup, record);
        }
    }

    /// `8d full`, `before-upgrade standalone until:-3d`
    fn declare(&mut self, words: &[&str]) {
        let backup = self.id(words[0]).to_string();
        self.server.keeps.push(DeclaredKeep {
            backup,
            target: target(words[1]),
            reason: None,
            until: after(words, "until").map(until),
            destinations: std::collections::BTreeSet::new(),
        });
    }

    /// `20d`, `20d keep`, `20d named:lost+found`
    fn orphan(&mut self, words: &[&str]) {
        let newest = instant(words[0]);
        let id = match after(words, "named") {
            Some(name) => BackupId::new(name),
            None => BackupId::at(newest.utc().naive_utc()),
        };
        self.labels.insert(id.clone(), words[0].to_owned());
        let keep = words.contains(&"keep").then_some(KeepTarget::Full);
        let orphan = Orphan {
            id,
            objects: 1,
            bytes: 1,
            newest,
            keep,
        };
        // Whatever is said of one directory last holds.
        let orphans = &mut self.catalog().orphans;
        orphans.retain(|other| other.id != orphan.id);
        orphans.push(orphan);
    }

    /// `3d of:20d`
    fn upload(&mut self, words: &[&str]) {
        let backup = self.id(after(words, "of").expect("of:20d"));
        let upload = PendingUpload {
            key: format!("base/{backup}/data.tar"),
            id: "u".to_owned(),
            begun_at: instant(words[0]),
            backup,
        };
        if let Knowledge::Known(uploads) = &mut self.stored().uploads {
            uploads.push(upload);
        }
    }

    /// `8d at:3d`, `8d at:3d faulty`
    fn verified(&mut self, words: &[&str]) {
        let id = self.id(words[0]);
        let verified = Verified {
            at: instant(after(words, "at").expect("at:3d")),
            finding: if words.contains(&"faulty") {
                Finding::Faulty
            } else {
                Finding::Sound
            },
        };
        self.catalog().verified.insert(id, verified);
    }

    /// `8d until:-3d`, `8d held`, `8d unknown`, `wal:1:900-910 held`: all else is free.
    fn locked(&mut self, words: &[&str]) {
        let lock = match after(words, "until") {
            Some(age) => Lock::until(until(age), LockMode::Compliance),
            None if words.contains(&"held") => Lock::Held,
            None => Lock::Unknown("no answer".to_owned()),
        };
        let id = self.id(words[0]);
        let catalog = self.catalog();
        let ids: Vec<BackupId> = catalog.ids().cloned().collect();
        let whole = |timeline: &TimelineId| WalSpan {
            timeline: *timeline,
            run: Run {
                first: SegmentNumber(0),
                last: SegmentNumber(u64::MAX),
            },
        };
        let wal: Vec<WalSpan> = catalog.wal.runs.keys().map(whole).collect();
        let Knowledge::Known(locks) = &mut self.stored().locks else {
            return;
        };
        locks.retention.locking = Locking::On { default: None };
        for id in ids {
            locks.directories.entry(id).or_insert(Lock::Free);
        }
        locks
            .wal
            .extend(wal.into_iter().map(|span| (span, Lock::Free)));
        match words[0].strip_prefix("wal:") {
            Some(text) => {
                locks.wal.insert(wal_span(text), lock);
            }
            None => {
                locks.directories.insert(id, lock);
            }
        }
    }

    fn postgres(&mut self, word: &str) {
        if word == "remote" {
            let why = "another host".to_owned();
            self.observed.locality = Locality::NotLocal { why };
            return;
        }
        let Knowledge::Known(facts) = &mut self.observed.postgres else {
            return;
        };
        let size = SegmentSize::DEFAULT;
        let archiver = &mut facts.archiver;
        match word.split_once(':').unwrap_or((word, "")) {
            ("none", _) => self.observed.postgres = Knowledge::Absent,
            ("standby", _) => facts.role = Role::Standby,
            ("sys", id) => facts.system_id = SystemId(number(id)),
            ("v", major) => facts.version = number::<u32>(major) * 10_000,
            ("tl", on) => facts.timeline = timeline(on),
            ("archived", segment) => {
                let segment = SegmentNumber(number(segment));
                archiver.last_archived = Some(segment.name(facts.timeline, size));
            }
            ("waits", segment) => {
                let segment = SegmentNumber(number(segment));
                archiver.oldest_ready = Some(segment.name(facts.timeline, size));
                archiver.oldest_ready_at = Some(now());
            }
            ("ready", age) => {
                archiver.oldest_ready = Some(SegmentNumber(1011).name(facts.timeline, size));
                archiver.oldest_ready_at = Some(instant(age));
            }
            ("failing", since) => {
                archiver.last_archived_at = Some(instant(since));
                archiver.last_failed = Some("0000000100000003000000F3".to_owned());
                archiver.last_failed_at = Some(now());
            }
            ("off", _) => archiver.mode = ArchiveMode::Off,
            // `hand:1:1003-1004`
            ("hand", span) => facts.at_hand.push(wal_span(span)),
            ("clock", age) => facts.clock = instant(age),
            ("summarized", "late") => facts.summarized_from = Some(Lsn(u64::MAX)),
            ("summarized", _) => facts.summarized_from = Some(Lsn(1)),
            _ => panic!("unknown word `{word}`"),
        }
    }

    /// `without uploads`: there is nothing of that kind yet, or the store cannot tell.
    fn without(&mut self, word: &str) {
        let stored = self.stored();
        match word {
            "catalog" => stored.catalog = Knowledge::Absent,
            "attempts" => stored.attempts = Knowledge::Absent,
            "tombstones" => stored.tombstones = Knowledge::Absent,
            "marks" => stored.marks = Knowledge::Absent,
            "keeps" => stored.keep_records = Knowledge::Absent,
            "uploads" => stored.uploads = Knowledge::Absent,
            _ => panic!("`{word}` is always there"),
        }
    }

    fn lose(&mut self, word: &str) {
        let failure = Failure::new(Kind::Unreachable, "no answer");
        let stored = self.stored();
        match word {
            "catalog" => stored.catalog = Knowledge::Unknown(failure),
            "attempts" => stored.attempts = Knowledge::Unknown(failure),
            "tombstones" => stored.tombstones = Knowledge::Unknown(failure),
            "marks" => stored.marks = Knowledge::Unknown(failure),
            "baseline" => stored.baseline = Knowledge::Unknown(failure),
            "keeps" => stored.keep_records = Knowledge::Unknown(failure),
            "identity" => stored.identity = Knowledge::Unknown(failure),
            "clock" => stored.store_time = Knowledge::Unknown(failure),
            "snapshots" => stored.snapshots = Knowledge::Unknown(failure),
            "disks" => stored.disks = Knowledge::Unknown(failure),
            "uploads" => stored.uploads = Knowledge::Unknown(failure),
            "locks" => stored.locks = Knowledge::Unknown(failure),
            "server" => self.observed.postgres = Knowledge::Unknown(failure),
            "destination" => self.observed.destinations.clear(),
            _ => panic!("cannot lose `{word}`"),
        }
    }
}

/// What an attempt that has left backup mode knows; none for a backup that does not say where it ended.
fn stopped_as(backup: &Backup) -> Option<Stopped> {
    let archives = backup.archives.iter().map(|archive| ArchiveRecord {
        root: archive.root,
        part: archive.part,
        compression: archive.compression,
        bytes: archive.bytes,
        checksum: None,
        crc32c: None,
    });
    Some(Stopped {
        final_info: String::new(),
        begin_wal: backup.begin_wal?,
        end_wal: backup.end_wal?,
        end_lsn: backup.end_lsn?,
        archives: archives.collect(),
    })
}

/// The first words of what is no backup.
const WORDS: [&str; 20] = [
    "snapshot",
    "disks",
    "verified",
    "locked",
    "unlooked",
    "without",
    "attempt",
    "tombstone",
    "mark",
    "baseline",
    "record",
    "declare",
    "orphan",
    "upload",
    "manifest",
    "postgres",
    "store",
    "identity",
    "lose",
    "nothing",
];

/// `of:20d`: what follows a word and a colon.
fn after<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    let values = words.iter().filter_map(|word| word.split_once(':'));
    let mut values = values.filter(|(known, _)| *known == key);
    values.next().map(|(_, value)| value)
}

/// An age, or an instant.
fn until(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|_| instant(text))
}

fn target(word: &str) -> KeepTarget {
    match word {
        "full" => KeepTarget::Full,
        "standalone" => KeepTarget::Standalone,
        _ => panic!("`{word}` is no target"),
    }
}

/// Reading one takes longer than all else in a world, and there are few.
fn schedule(text: &str) -> Schedule {
    static KNOWN: Mutex<BTreeMap<String, Schedule>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN
        .lock()
        .expect("reading a schedule does not panic twice");
    let read = || Schedule::parse(text, &Zone::utc()).expect("a schedule");
    known.entry(text.to_owned()).or_insert_with(read).clone()
}

/// `2x` for a redundancy; `7d`, `4w` and `1m` for a window.
fn retention(text: &str) -> barkeep::model::retention::RetentionPolicy {
    let (count, unit) = text.split_at(text.len() - 1);
    let policy = match unit {
        "x" => format!("REDUNDANCY {count}"),
        "w" => format!("RECOVERY WINDOW OF {count} WEEKS"),
        "m" => format!("RECOVERY WINDOW OF {count} MONTHS"),
        _ => format!("RECOVERY WINDOW OF {count} DAYS"),
    };
    policy.parse().expect("a policy")
}

/// `1:900-910`
fn wal_span(text: &str) -> WalSpan {
    let (on, range) = text.split_once(':').expect("1:900-910");
    let (first, last) = range.split_once('-').expect("900-910");
    let run = Run {
        first: SegmentNumber(number(first)),
        last: SegmentNumber(number(last)),
    };
    let timeline = timeline(on);
    WalSpan { timeline, run }
}

/// `month:12`, `week:4:full`
fn rule(text: &str) -> KeepRule {
    let mut words = text.split(':');
    let unit = match words.next() {
        Some("day") => Period::Day,
        Some("week") => Period::Week,
        Some("month") => Period::Month,
        _ => Period::Year,
    };
    let count = number(words.next().expect("how many"));
    KeepRule {
        first_of: unit,
        keep_for: CalendarSpan { count, unit },
        target: words.next().map_or(KeepTarget::Standalone, target),
    }
}

fn actor() -> Actor {
    Actor {
        host: "db1".to_owned(),
        boot: "b".to_owned(),
        pid: 1,
        started: 1,
    }
}

/// What the planner does in a world, one step a line with its first reason.
pub(crate) fn steps(text: &str) -> String {
    let world = World::parse(text);
    let mut lines = String::new();
    for step in &world.plan().steps {
        let (action, reason) = (step.describe(), &step.reasons[0]);
        let segments = match step.weight.segments {
            0 => String::new(),
            segments => format!(" of {segments}"),
        };
        writeln!(lines, "{action}{segments}: {reason}").expect("text");
    }
    world.told(lines.trim_end().to_owned())
}

/// What the planner waits for in a world.
pub(crate) fn waits(text: &str) -> String {
    let world = World::parse(text);
    let plan = world.plan();
    let waiting = plan.targets.values().flat_map(|target| &target.waiting);
    let lines: Vec<String> = waiting.map(ToString::to_string).collect();
    world.told(lines.join("\n"))
}

/// How a world stands, worst first.
pub(crate) fn stands(text: &str) -> String {
    let world = World::parse(text);
    let plan = world.plan();
    let conditions = plan.targets.values().flat_map(|target| &target.conditions);
    let lines: Vec<String> = conditions
        .map(|condition| format!("{}: {}", condition.standing, condition.message))
        .collect();
    world.told(lines.join("\n"))
}

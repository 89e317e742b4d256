use std::{collections::BTreeSet, time::Duration};

use super::{
    once::{Report, apply, once},
    *,
};
use crate::{
    format::keys::{ObjectKey, OwnObject},
    model::{
        backup::KeepTarget,
        desired::{Mode, ObjectLock, Overwriting, ProviderOptions, Service},
        location::Location,
        lock::{BucketRetention, DefaultLock, Lock, LockMode, Locking, Remains},
        observed::Knowledge,
        record::{Actor, Attempt},
        scene::{instant, now},
    },
    plan::testing::World,
    store::{
        Meaning, Operation, PutMode,
        fault::{Effect, Faults, Faulty, Rule},
        memory::Memory,
        meter::{Counts, Meter},
        read_only::ReadOnly,
        scene,
    },
};

mod approval;
mod forgets;
mod losses;

/// A server whose world is stored in memory, and the ports to look after it.
struct Bed {
    memory: Memory,
    archive: Archive,
    world: World,
}

impl Bed {
    async fn new(text: &str) -> Self {
        let mut world = World::parse(text);
        let memory = Memory::new(now());
        let archive = Archive::new(Arc::new(memory.clone()), &world.server.name);
        for orphan in &mut world.catalog().orphans {
            memory.set_time(orphan.newest);
            scene::put(&archive, &format!("base/{}/data.tar", orphan.id), "x").await;
        }
        memory.set_time(now());
        let mut catalog = world.catalog().clone();
        catalog.orphans.clear();
        scene::write(&archive, &catalog).await;
        if let Knowledge::Known(baseline) = &world.stored().baseline {
            let written = archive.write_record(OwnObject::Baseline, baseline, PutMode::Create);
            written.await.expect("memory");
        }
        Self {
            memory,
            archive,
            world,
        }
    }

    fn server(&self) -> &Server {
        &self.world.server
    }

    fn ports(&self, store: SharedStore) -> Ports {
        let name = self.server().entries[0].destination.clone();
        let destination = Destination {
            name: name.clone(),
            location: "file:///nowhere".parse::<Location>().expect("a URL"),
            provider: ProviderOptions::Directory,
            max_bandwidth: None,
            max_parallel: std::num::NonZeroUsize::MIN,
            single_writer: false,
            object_lock: ObjectLock::Respect,
            control: None,
        };
        let desired = Desired {
            destinations: BTreeMap::from([(name.clone(), destination)]),
            servers: BTreeMap::new(),
            service: Service::default(),
        };
        Ports {
            clock: Clock::Fixed(now()),
            actor: killed(),
            ..Ports::with_stores(desired, BTreeMap::from([(name, Ok(store))]))
        }
    }

    async fn once(&self, store: SharedStore) -> Report {
        let ports = self.ports(store);
        let mut reports = once(&ports, &[self.server()]).await;
        reports.remove(0)
    }

    /// What is left, without the records of deletes, which tell of every try.
    async fn left(&self) -> Vec<String> {
        let paths = scene::paths(&self.archive).await.into_iter();
        let left = paths.filter(|path| !path.starts_with("barkeep/deleted/"));
        left.map(|path| self.world.told(path)).collect()
    }

    /// The statuses of the backups that are left, by the names of the scene.
    async fn backups(&self) -> String {
        let ports = self.ports(Arc::new(self.memory.clone()));
        let observed = ports.observe(self.server(), Depth::Everything).await;
        let stored = observed.destinations.values().next().expect("one");
        let catalog = stored.catalog.known().expect("memory");
        let told = |backup: &crate::model::backup::Backup| {
            self.world.told(format!("{} {}", backup.id, backup.status))
        };
        catalog
            .backups
            .iter()
            .map(told)
            .collect::<Vec<_>>()
            .join(" | ")
    }
}

/// A process of this machine that has ended: nobody waits for its leases.
fn killed() -> Actor {
    Actor {
        started: 0,
        ..actor::current()
    }
}

/// Executes a plan under the rights that it needs.
async fn carry_out(
    ports: &Ports,
    server: &Server,
    guarded: &Guarded,
    observed: &Observed,
) -> Vec<crate::execute::Outcome> {
    let wanted = exclusion::wanted(&guarded.plan().steps);
    let rights = exclusion::Rights::insist(ports, server, wanted).await;
    let rights = rights.expect("nobody else wants them");
    let outcomes = apply(ports, server, guarded, observed, &rights.fences()).await;
    rights.release().await;
    outcomes
}

fn failures(report: &Report) -> Vec<String> {
    let failed = report
        .outcomes
        .iter()
        .filter_map(|o| o.result.as_ref().err());
    failed.map(|error| crate::failure::chain(error)).collect()
}

const OLD: &str = "retention=2x rule=month:12 orphans=14d failed=7d | done 1d | done 8d \
                   | done 15d | done 25d | done 26d | failed 10d | orphan 20d | orphan 1d";

#[tokio::test]
async fn a_server_converges_and_then_nothing_is_left_to_do() {
    let bed = Bed::new(OLD).await;
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    assert_eq!(failures(&report), Vec::<String>::new());
    assert!(report.last.plan.is_empty(), "{:?}", report.last.plan.steps);
    assert_eq!(
        bed.backups().await,
        "26d DONE | 15d DONE | 8d DONE | 1d DONE"
    );
    let left = bed.left().await;
    assert!(left.contains(&"base/26d/annotations/keep".to_owned()));
    assert!(left.contains(&"barkeep/keeps/26d".to_owned()));
    assert!(left.iter().any(|path| path.starts_with("base/1d/")));
    assert!(!left.iter().any(|path| path.starts_with("base/20d/")));
    let again = bed.once(Arc::new(bed.memory.clone())).await;
    assert!(again.outcomes.is_empty());
    assert_eq!(bed.left().await, left);
}

#[tokio::test]
async fn killed_at_any_request_the_next_run_ends_where_an_undisturbed_one_does() {
    let undisturbed = Bed::new(OLD).await;
    let faults = Faults::default();
    let store = Faulty::new(Arc::new(undisturbed.memory.clone()), faults.clone());
    undisturbed.once(Arc::new(store)).await;
    let expected = undisturbed.left().await;
    let calls = faults.calls().len() as u64;
    assert!(calls > 100, "{calls}");
    // Reads come in long rows of the same kind; a prime step visits every part of every row.
    for nth in (0..calls).step_by(7) {
        for effect in [Effect::Before, Effect::After].map(|effect| effect(Meaning::Unreachable)) {
            let bed = Bed::new(OLD).await;
            let faults = Faults::default();
            faults.add(Rule::nth(nth, effect).for_ever());
            let store = Faulty::new(Arc::new(bed.memory.clone()), faults.clone());
            bed.once(Arc::new(store)).await;
            let backups = bed.backups().await;
            for stays in ["26d DONE", "15d DONE", "8d DONE", "1d DONE"] {
                assert!(backups.contains(stays), "{nth} {effect:?}: {backups}");
            }
            let report = bed.once(Arc::new(bed.memory.clone())).await;
            assert!(report.last.plan.is_empty(), "{nth} {effect:?}");
            assert_eq!(bed.left().await, expected, "{nth} {effect:?}");
        }
    }
}

#[tokio::test]
async fn a_keep_that_appears_between_looking_and_deleting_stops_what_follows() {
    let bed = Bed::new("retention=1x | done 1d | done 8d | done 9d").await;
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let seen = ports.plan(bed.server()).await;
    let kept = bed.world.id("8d");
    bed.archive
        .write_keep(&kept, KeepTarget::Full)
        .await
        .expect("memory");
    let guarded = ports.guard(seen.plan, bed.server(), &seen.observed, Asked::ByPolicy);
    let outcomes = carry_out(&ports, bed.server(), &guarded, &seen.observed).await;
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| match &outcome.result {
            Ok(()) => String::new(),
            Err(error) => bed.world.told(error.to_string()),
        })
        .collect();
    assert_eq!(
        told,
        [
            "",
            "backup 8d is kept since the plan was made; it stays",
            "not tried: an earlier step in `primary` failed",
        ]
    );
    assert_eq!(
        bed.backups().await,
        "8d DONE | 1d DONE",
        "9d goes, and 8d keeps its WAL"
    );
}

#[tokio::test]
async fn planning_writes_nothing() {
    let bed = Bed::new(OLD).await;
    let counts = Counts::default();
    let store = Meter::new(Arc::new(bed.memory.clone()), counts.clone());
    let ports = bed.ports(Arc::new(ReadOnly::new(Arc::new(store))));
    let activation = ports.plan(bed.server()).await;
    assert!(!activation.plan.is_empty());
    let writes = counts
        .snapshot()
        .into_keys()
        .filter(|operation| operation.is_write());
    assert_eq!(writes.collect::<Vec<_>>(), []);
    assert_eq!(
        crate::plan::render::Text(&activation.plan).to_string(),
        crate::plan::render::Text(&ports.plan(bed.server()).await.plan).to_string()
    );
}

#[tokio::test]
async fn what_cannot_be_listed_is_left_alone() {
    let bed = Bed::new(OLD).await;
    let before = bed.left().await;
    let faults = Faults::default();
    let effect = Effect::Before(Meaning::Unreachable);
    faults.add(Rule::next(Operation::List, "wals", effect).for_ever());
    let store = Faulty::new(Arc::new(bed.memory.clone()), faults);
    let report = bed.once(Arc::new(store)).await;
    assert!(report.outcomes.is_empty());
    assert_eq!(report.last.plan.standing().to_string(), "blocked");
    assert_eq!(bed.left().await, before);
}

#[tokio::test]
async fn a_record_that_cannot_be_understood_stops_deletes() {
    let bed = Bed::new(&format!("{OLD} | unreadable 3d")).await;
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    let deletes = report.outcomes.iter().filter(|outcome| {
        outcome.step.action.effect() == crate::model::action::Effect::Destructive
    });
    assert_eq!(deletes.count(), 0);
    assert_eq!(report.last.plan.standing().to_string(), "stalled");
}

/// An attempt of a process elsewhere that has not been heard of for long.
fn dead(id: &crate::model::backup::BackupId) -> Attempt {
    Attempt {
        backup: id.clone(),
        started_at: now(),
        by: Actor {
            host: "gone".to_owned(),
            boot: "gone".to_owned(),
            pid: 1,
            started: 1,
        },
        due: None,
        alive_at: instant("20m"),
        stopped: None,
    }
}

#[tokio::test]
async fn where_nothing_is_written_twice_what_a_dead_attempt_left_goes_as_an_orphan() {
    let mut bed = Bed::new("| done 1d").await;
    bed.world.entry().orphans_after = Some(Duration::from_hours(14 * 24));
    bed.world.entry().overwriting = Overwriting::Forbidden;
    let data = bed.memory.clone().forbidding_overwriting();
    let (control, name) = (Memory::new(now()), "control".parse().expect("a name"));
    let mut ports = bed.ports(Arc::new(data));
    let destination = bed.server().entries[0].destination.clone();
    let place = ports.destinations.get_mut(&destination).expect("opened");
    place.configured.control = Some(DestinationName::clone(&name));
    let configured = Destination {
        name: name.clone(),
        control: None,
        ..place.configured.clone()
    };
    let place = Place::new(configured, Ok(Arc::new(control.clone())));
    ports.destinations.insert(name, place);
    let archive = ports.archives(bed.server()).remove(&destination);
    let archive = archive.expect("it is there").expect("it is open");
    let Knowledge::Known(baseline) = &bed.world.stored().baseline else {
        panic!("a run has been here");
    };
    let written = archive.write_record(OwnObject::Baseline, baseline, PutMode::Create);
    written.await.expect("memory");
    let id = crate::model::backup::BackupId::new("20261120T115900");
    scene::put(&archive, &format!("base/{id}/data.tar"), "x").await;
    let own = OwnObject::Attempt(id.clone());
    let attempt = dead(&id);
    let written = archive.write_record(own.clone(), &attempt, PutMode::Create);
    written.await.expect("memory");
    let left = async || {
        archive
            .objects(&format!("base/{id}/"))
            .await
            .expect("memory")
            .len()
    };

    let report = once(&ports, &[bed.server()]).await;
    assert_eq!(failures(&report[0]), Vec::<String>::new());
    let attempt = archive.head(&ObjectKey::Own(own)).await.expect("memory");
    assert!(attempt.is_none(), "the attempt is forgotten");
    assert_eq!(left().await, 1, "nobody says yet whose it is");

    let later = now() + Duration::from_hours(15 * 24);
    ports.clock = Clock::Fixed(later);
    for memory in [&bed.memory, &control] {
        memory.set_time(later);
    }
    let report = once(&ports, &[bed.server()]).await;
    assert_eq!(failures(&report[0]), Vec::<String>::new());
    assert_eq!(left().await, 0);
    assert_eq!(bed.backups().await, "1d DONE");
}

#[tokio::test]
async fn a_dead_attempt_is_declared_failed_and_its_uploads_are_freed() {
    let bed = Bed::new("| done 1d | started 0d").await;
    let id = bed.world.id("0d");
    let own = OwnObject::Attempt(id.clone());
    let attempt = dead(&id);
    let written = bed
        .archive
        .write_record(own.clone(), &attempt, PutMode::Create);
    written.await.expect("memory");
    let options = crate::store::UploadOptions {
        part_bytes: 1,
        mode: PutMode::Create,
        tags: crate::store::Tags::default(),
    };
    let key = bed.archive.join(&format!("base/{id}/data.tar"));
    let upload = bed.archive.store().begin_upload(&key, options).await;
    upload.expect("memory");
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    assert_eq!(failures(&report), Vec::<String>::new());
    assert_eq!(bed.backups().await, "1d DONE | 0d FAILED");
    let attempt = bed
        .archive
        .head(&ObjectKey::Own(own))
        .await
        .expect("memory");
    assert!(attempt.is_none(), "the attempt is forgotten");
    let uploads = bed.archive.store().list_uploads("").await.expect("memory");
    assert_eq!(uploads, []);
}

#[tokio::test]
async fn a_server_that_is_only_observed_is_left_as_it_is() {
    let mut bed = Bed::new(OLD).await;
    bed.world.server.mode = Mode::Observe;
    let before = scene::paths(&bed.archive).await;
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    assert!(report.outcomes.is_empty());
    assert_eq!(scene::paths(&bed.archive).await, before);
}

#[tokio::test]
async fn the_budget_holds_over_several_runs() {
    let text = "retention=1x budget=2/100 | done 1d | done 6d | done 7d | done 8d | done 9d";
    let bed = Bed::new(text).await;
    for _ in 0..3 {
        bed.once(Arc::new(bed.memory.clone())).await;
        assert_eq!(bed.backups().await, "7d DONE | 6d DONE | 1d DONE");
    }
}

/// Two hundred backups, a day apart, ten segments of WAL a day.
async fn large() -> Bed {
    let bed = Bed::new("retention=100x").await;
    let size = crate::model::wal::SegmentSize::DEFAULT;
    let mut catalog = crate::model::catalog::Catalog::default();
    for day in 0..200 {
        let mut backup = crate::model::scene::young("done", &format!("{day}d"));
        let first = 10_000 - 50 * day;
        crate::model::scene::place(
            &mut backup,
            crate::model::timeline::TimelineId::FIRST,
            Some(first),
        );
        catalog.backups.push(backup);
    }
    catalog.backups.reverse();
    for number in 1..=10_001 {
        let timeline = crate::model::timeline::TimelineId::FIRST;
        catalog
            .wal
            .insert(timeline, crate::model::wal::SegmentNumber(number));
    }
    assert_eq!(catalog.segment_size(), size);
    scene::write(&bed.archive, &catalog).await;
    bed
}

#[tokio::test]
async fn expiring_a_hundred_backups_with_their_wal_takes_few_requests() {
    let bed = large().await;
    let counts = Counts::default();
    let store: SharedStore = Arc::new(Meter::new(Arc::new(bed.memory.clone()), counts.clone()));
    let ports = bed.ports(store);
    let seen = ports.plan(bed.server()).await;
    let reading = counts.requests();
    let guarded = ports.guard(seen.plan, bed.server(), &seen.observed, Asked::ByPolicy);
    assert_eq!(guarded.refusals(), []);
    let outcomes = carry_out(&ports, bed.server(), &guarded, &seen.observed).await;
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    let deleting = counts.requests() - reading;
    let left: BTreeSet<_> = bed.left().await.into_iter().collect();
    assert_eq!(
        left.iter()
            .filter(|path| path.ends_with("backup.info"))
            .count(),
        100
    );
    // A record for each backup, the pages of the WAL cut into ranges, and a few for all else.
    assert!(reading <= 200 + 2 * 11 + 4, "{reading}");
    // A probe of the store, a lease that is taken and given back, one look at all backups, the pages of the WAL that goes, keys by the thousand, one record of it all, one look at base/.
    let keys = 100 * 6 + 5000;
    assert!(
        deleting <= 7 + 3 + 1 + 6 + keys / 1000 * 2 + 2,
        "{deleting}"
    );
    // Looking again reads no record again: the pages, and the one record that the deletes have written.
    let before = counts.requests();
    let again = ports
        .plan_again(bed.server(), Some(&seen.observed))
        .await
        .plan;
    assert!(again.is_empty());
    let looking = counts.requests() - before;
    assert!(looking <= 2 * 11 + 4 + 1, "{looking}");
}

#[tokio::test]
async fn what_is_locked_is_found_out_before_anything_goes_and_looked_at_once() {
    let listing = [false, true];
    for listing in listing {
        let bed = Bed::new("retention=1x | done 1d | done 8d | done 9d").await;
        if listing {
            let _ = bed.memory.clone().listing_locks();
        }
        bed.memory.set_retention(BucketRetention {
            locking: Locking::On { default: None },
            remains: Remains::Version {
                kept: Some(Duration::from_hours(24)),
            },
        });
        let key = |path: String| bed.archive.join(&path);
        let (old, middle) = (bed.world.id("9d"), bed.world.id("8d"));
        let until = now() + Duration::from_hours(48);
        let lock = Lock::until(until, LockMode::Compliance);
        bed.memory
            .set_lock(&key(format!("base/{old}/data.tar")), lock);
        let plan = bed
            .ports(Arc::new(bed.memory.clone()))
            .plan(bed.server())
            .await
            .plan;
        let text = crate::plan::render::Text(&plan).to_string();
        let line = ". logical  what is deleted stays as an old version until 2026-11-21T12:00:00Z";
        assert!(text.contains(line), "{text}");
        let report = bed.once(Arc::new(bed.memory.clone())).await;
        assert_eq!(failures(&report), Vec::<String>::new());
        assert_eq!(bed.backups().await, "9d DONE | 1d DONE");
        assert!(
            !bed.left()
                .await
                .iter()
                .any(|path| path.contains(middle.as_str()))
        );
        let text = crate::plan::render::Text(&report.last.plan).to_string();
        let said = bed.world.told(text);
        let line = "! blocked  9d  object lock until 2026-11-22T12:00:00Z";
        assert!(said.contains(line), "{said}");
        let standing = report.last.plan.standing().to_string();
        assert_eq!(standing, "progressing", "it ends by itself");
        bed.memory.set_time(until);
        let mut ports = bed.ports(Arc::new(bed.memory.clone()));
        ports.clock = Clock::Fixed(until);
        once(&ports, &[bed.server()]).await;
        assert_eq!(bed.backups().await, "1d DONE", "listing: {listing}");
    }
}

#[tokio::test]
async fn where_listings_tell_the_locks_they_cost_two_listings() {
    let ages = (1..=11).map(|day| format!("done {day}d"));
    let scene = ages.collect::<Vec<_>>().join(" | ");
    let mut requests = Vec::new();
    for locking in [Locking::Off, Locking::On { default: None }] {
        let bed = Bed::new(&format!("retention=1x | {scene} | wal 1:400-1010")).await;
        let memory = bed.memory.clone().listing_locks();
        memory.set_retention(BucketRetention {
            locking,
            remains: Remains::Nothing,
        });
        let counts = Counts::default();
        let report = bed
            .once(Arc::new(Meter::new(Arc::new(memory), counts.clone())))
            .await;
        assert_eq!(failures(&report), Vec::<String>::new());
        assert_eq!(bed.backups().await, "1d DONE");
        assert!(!counts.snapshot().contains_key(&Operation::Locks));
        requests.push(counts.requests());
    }
    // That of the directories, and that of the WAL between the first and the last.
    assert_eq!(requests[1], requests[0] + 2);
}

#[tokio::test]
async fn where_nothing_locks_what_must_be_locked_it_is_said() {
    let mut bed = Bed::new("| done 1d").await;
    bed.world.entry().object_lock = ObjectLock::Require;
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let stands =
        |plan: &crate::plan::Plan| plan.targets.values().next().expect("one").conditions[0].clone();
    let plan = ports.plan(bed.server()).await.plan;
    let missing = "object locks are required, but the destination has no object locks";
    assert_eq!(stands(&plan).message, missing);
    bed.memory.set_retention(BucketRetention {
        locking: Locking::On {
            default: Some(DefaultLock {
                mode: LockMode::Compliance,
                period: None,
            }),
        },
        remains: Remains::Version { kept: None },
    });
    let plan = ports.plan(bed.server()).await.plan;
    assert_eq!(stands(&plan).message, "nothing to do");
}

//! One history: weeks in the life of servers, of the processes that look after them, and of everybody who interferes; then peace.
//!
//! While it goes on only safety counts, and it is judged at every request. Once nothing goes wrong any more, a new process must converge:
//! nothing left to do, nothing left behind, and a backup not older than the schedule allows.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use barkeep::{
    actor,
    clock::{Clock, pause},
    model::{
        desired::{Desired, Entry, Server},
        lock::{BucketRetention, Locking, Remains},
        names::DestinationName,
        observed::Knowledge,
        record::Actor,
        time::Timestamp,
    },
    plan::{
        Plan, Step,
        guard::{Refusal, Violation},
        plan,
    },
    reconcile::{
        Ports,
        approval::Approved,
        board::Board,
        exclusion::Exclusion,
        once::{Report, once},
        watch::{Choice, watch},
    },
    store::SharedStore,
};
use tokio::sync::mpsc;

use crate::{
    catalog::Catalog,
    cloud::{Cloud, Sky},
    cluster::Cluster,
    dice::Dice,
    hands,
    line::{Blind, Line, Process},
    people::{People, a_while},
    place::{Place, shifted},
    policy::Layout,
    postgres::Simulated,
    world::{Log, Trouble, World, dice_for, hours},
};

/// The longest that one call may take before its process is killed.
pub(crate) const CALL_MAX: Duration = Duration::from_hours(3);

/// The host whose processes are known to live.
const SERVICE: u32 = 2;

/// A history that is to be lived through.
pub(crate) struct History {
    world: Arc<World>,
    layout: Layout,
    desired: Arc<Mutex<Desired>>,
    exclusion: Exclusion,
    blind: Option<Blind>,
    until: Timestamp,
}

impl History {
    /// What a seed makes of it; every process in it lacks a guard, if one is named.
    pub(crate) fn new(seed: u64, exclusion: Exclusion, blind: Option<Blind>) -> Self {
        let mut dice = dice_for(seed, "history");
        let start: Timestamp = "2026-11-02T00:00:00Z".parse().expect("an instant");
        let start = start + Duration::from_mins(dice.roll(7 * 24 * 60));
        let clock = Clock::starting(start);
        let log = Log::new(clock);
        let mut layout = Layout::drawn(&mut dice);
        layout.locks |= blind == Some(Blind::Locks);
        let places = places(&layout, clock, &log, &mut dice);
        let clusters = clusters(&layout, &places);
        for place in places.values() {
            place.ledger().clusters.clone_from(&clusters);
            let others = places.values().filter(|other| other.name != place.name);
            place.ledger().others = others.cloned().collect();
        }
        let desired = layout.configuration(&mut dice);
        let weeks = dice.percent(8);
        let days = hours(
            24 * if weeks {
                14 + dice.roll(15)
            } else {
                3 + dice.roll(7)
            },
        );
        let world = World {
            seed,
            clock,
            places,
            clusters,
            trouble: Arc::new(Mutex::new(Trouble::default())),
            log,
        };
        Self {
            world: Arc::new(world),
            layout,
            desired: Arc::new(Mutex::new(desired)),
            exclusion,
            blind,
            until: start + days,
        }
    }

    pub(crate) fn log(&self) -> Log {
        self.world.log.clone()
    }

    /// Lives through it. What went wrong is in the log.
    pub(crate) async fn live(&self) {
        let (one, two) = (self.reconciler(1), self.reconciler(2));
        let mut people = People::default();
        match dice_for(self.world.seed, "how many").roll(2) {
            0 => drop(tokio::join!(self.happenings(&mut people), one)),
            _ => drop(tokio::join!(self.happenings(&mut people), one, two)),
        }
        if self.world.log.violation().is_none() {
            people.leave(&self.world);
            self.world.log.tell("peace");
            pause(hours(2)).await;
            self.converge().await;
        }
        // They know each other.
        for place in self.world.places.values() {
            place.ledger().clusters.clear();
            place.ledger().others.clear();
        }
    }

    fn goes_on(&self) -> bool {
        self.world.clock.now() < self.until && self.world.log.violation().is_none()
    }

    async fn happenings(&self, people: &mut People) {
        let mut dice = dice_for(self.world.seed, "people");
        let mut words = dice_for(self.world.seed, "words");
        for life in 0.. {
            if !self.goes_on() {
                return;
            }
            pause(a_while(&mut dice)).await;
            people.act(&self.world, &mut dice);
            if words.percent(30) {
                self.accept(life).await;
            }
            if words.percent(6) {
                self.approve(life).await;
            }
            if words.percent(15) {
                self.act_by_name(life).await;
            }
            if dice.percent(5) {
                let changed = self.layout.configuration(&mut dice);
                self.world.log.tell("the configuration is changed");
                *self.desired.lock().expect("no panic") = changed;
            }
        }
    }

    /// Somebody accepts what has changed behind barkeep's back, and what the configuration keeps now.
    async fn accept(&self, life: u64) {
        let (process, ports) = self.process(8, life, 0);
        let accept = async {
            for server in ports.desired.servers.values() {
                let seen = ports.plan(server).await.observed;
                let (_, words) = ports.adopted(server, &seen, None).await;
                let written = ports.put_on_record(server, &seen, &words).await;
                if written.is_ok() && !words.is_empty() {
                    let name = &server.name;
                    self.world.log.tell(&format!("{name} is adopted as it is"));
                }
            }
        };
        tokio::select! {
            biased;
            () = process.death() => {}
            () = accept => {}
            () = pause(CALL_MAX) => {}
        }
    }

    /// Somebody says yes to what a plan may not do by itself: to delete more than the budget allows, and by a policy that was shortened.
    async fn approve(&self, life: u64) {
        let (process, ports) = self.process(7, life, 0);
        process.approve();
        let approve = async {
            for server in ports.desired.servers.values() {
                let digest = ports.plan(server).await.plan.digest();
                let done = ports.carry_out_approved(server, &digest).await;
                if let Ok(Approved::Done { refusals, .. }) = done {
                    self.refusals(&process, &refusals);
                    let name = &server.name;
                    self.world
                        .log
                        .tell(&format!("a plan for {name} is approved"));
                }
            }
        };
        tokio::select! {
            biased;
            () = process.death() => {}
            () = Box::pin(approve) => {}
            () = pause(CALL_MAX) => {}
        }
    }

    /// Somebody keeps, releases or undeletes a backup by its name.
    async fn act_by_name(&self, life: u64) {
        let (process, ports) = self.process(6, life, 0);
        process.act_by_name();
        tokio::select! {
            biased;
            () = process.death() => {}
            () = hands::act(&ports, &process, &self.world.log) => {}
            () = pause(CALL_MAX) => {}
        }
    }

    /// One host: process after process, each with the configuration that it finds.
    async fn reconciler(&self, host: u32) {
        let mut dice = dice_for(self.world.seed, &format!("host {host}"));
        for life in 0.. {
            pause(Duration::from_mins(1 + dice.roll(1400))).await;
            if !self.goes_on() {
                return;
            }
            let ahead = if dice.percent(6) {
                wrong_clock(&mut dice)
            } else {
                0
            };
            let (process, ports) = self.process(host, life, ahead);
            if dice.percent(15) {
                Box::pin(self.watch(&process, ports, &mut dice)).await;
            } else {
                self.once(&process, &ports).await;
            }
        }
    }

    /// A new process of a host, whose clock is so many seconds ahead.
    fn process(&self, host: u32, life: u64, ahead: i64) -> (Arc<Process>, Ports) {
        let World { clock, log, .. } = &*self.world;
        let name = format!("{host}.{life}");
        let desired = self.desired.lock().expect("no panic").clone();
        let actor = match host {
            // A service: it lives as long as this process, whatever becomes of its attempts.
            SERVICE => actor::current(),
            _ => Actor {
                boot: format!("boot {host}"),
                pid: host,
                started: life,
                ..actor::current()
            },
        };
        let process = Process::new(&name, desired.clone(), actor, &self.world);
        let process = process.blinded(self.blind);
        if ahead != 0 {
            log.tell(&format!("the clock of {name} is {ahead} s ahead"));
        }
        let store = |(name, place): (&String, &Arc<Place>)| {
            let line = Line {
                place: place.clone(),
                process: process.clone(),
            };
            let name = DestinationName::parse(name).expect("a name");
            (name, Ok(Arc::new(line) as SharedStore))
        };
        let stores: BTreeMap<_, _> = self.world.places.iter().map(store).collect();
        let mut ports = Ports::with_stores(desired, stores);
        ports.clock = Clock::starting(shifted(clock.now(), ahead));
        let (_, place) = self.world.places.first_key_value().expect("one at least");
        ports.clouds = Arc::new(Sky {
            cloud: place.cloud.clone(),
            place: place.clone(),
            process: process.clone(),
        });
        ports.servers = Arc::new(Simulated {
            world: self.world.clone(),
            process: process.clone(),
        });
        ports.actor = process.actor.clone();
        ports.exclusion = self.exclusion;
        (process, ports)
    }

    async fn once(&self, process: &Process, ports: &Ports) -> Option<Vec<Report>> {
        let servers: Vec<&Server> = ports.desired.servers.values().collect();
        let reports = tokio::select! {
            biased;
            () = process.death() => None,
            reports = once(ports, &servers) => Some(reports),
            () = pause(CALL_MAX) => None,
        };
        for report in reports.iter().flatten() {
            self.refusals(process, &report.refusals);
        }
        reports
    }

    /// A plan that the guard refuses is a mistake of the planner.
    fn refusals(&self, process: &Process, refusals: &[Refusal]) {
        let refusals = refusals.iter();
        // One that took so long to make that nothing may be deleted by it is no mistake.
        for refusal in refusals.filter(|refusal| refusal.violation != Violation::Old) {
            let (name, violation) = (&process.name, &refusal.violation);
            self.world
                .log
                .violate(&format!("the guard refuses what {name} plans: {violation}"));
        }
    }

    async fn watch(&self, process: &Process, ports: Ports, dice: &mut Dice) {
        let board = Board::new(ports.clock.now());
        let cancel = ports.cancel.clone();
        let (_orders, inbox) = mpsc::channel(1);
        let life = Duration::from_mins(30 + dice.roll(300));
        let end = async {
            pause(life).await;
            cancel.cancel();
            pause(CALL_MAX).await;
        };
        tokio::select! {
            biased;
            () = process.death() => {}
            () = watch(ports, inbox, &board, |_| Choice::Chosen) => {}
            () = end => {}
        }
    }

    async fn converge(&self) {
        let log = &self.world.log;
        self.accept(u64::MAX).await;
        let (process, ports) = self.process(9, 0, 0);
        let mut last = Vec::new();
        let mut left = String::new();
        for _ in 0..4 {
            let Some(reports) = self.once(&process, &ports).await else {
                return log.violate("nothing goes wrong, and it does not end");
            };
            for report in &reports {
                self.tell(report);
            }
            let all: Vec<String> = reports.iter().flat_map(unsettled).collect();
            left = all.join("; ");
            last = reports;
            if left.is_empty() {
                break;
            }
            pause(Duration::from_mins(20)).await;
        }
        if !left.is_empty() {
            return log.violate(&format!("it does not converge: {left}"));
        }
        for report in &last {
            for step in replanned(&ports, report).await {
                let step = step.describe();
                log.violate(&format!("it has converged, and does again: {step}"));
            }
        }
        for (name, server) in &ports.desired.servers {
            self.check_left(name.as_str(), server);
        }
    }

    /// How a server stands at the end of a call.
    fn tell(&self, report: &Report) {
        for (destination, target) in &report.last.plan.targets {
            let server = &report.last.plan.server;
            let conditions = target.conditions.iter().map(|one| one.message.clone());
            let waits = target.waiting.iter().map(ToString::to_string);
            let all: Vec<String> = conditions.chain(waits).collect();
            self.world
                .log
                .tell(&format!("{server} in {destination}: {}", all.join("; ")));
        }
    }

    /// What must be there in the end, and what must not.
    fn check_left(&self, name: &str, server: &Server) {
        let log = &self.world.log;
        for entry in &server.entries {
            let place = &self.world.places[entry.destination.as_str()];
            let catalog = Catalog::read(place, name);
            let done = catalog.done().into_iter();
            let (good, damaged): (Vec<_>, Vec<_>) =
                done.partition(|(_, backup)| catalog.is_good(backup));
            let good = good.iter();
            let newest = good.filter_map(|(_, backup)| backup.time("end_time")).max();
            let now = self.world.clock.now();
            let age = newest.map(|newest| now.since(newest));
            // What somebody destroys makes no backup due before its time.
            if damaged.is_empty() && age.is_none_or(|age| age > hours(27)) {
                log.violate(&format!(
                    "{name} in {}: the newest good one: {age:?}",
                    place.name
                ));
            }
            self.check_snapshots(name, entry, place);
            if entry.copy_of.is_none() {
                self.check_wal(name, place, &catalog);
            }
            let uploads = place.uploads(&format!("{name}/base/"));
            for id in uploads
                .iter()
                .filter(|id| place.ledger().is_claimed(name, id))
            {
                log.violate(&format!(
                    "{name} in {}: an upload of {id} is left",
                    place.name
                ));
            }
        }
    }

    /// No snapshot of ours is left that nobody records, and for which the time has come.
    fn check_snapshots(&self, name: &str, entry: &Entry, place: &Place) {
        let catalog = Catalog::read(place, name);
        let Some(after) = entry.orphans_after else {
            return;
        };
        for (snapshot, found) in &*place.cloud.snapshots() {
            let Some((_, id)) = found.of().filter(|(server, _)| *server == name) else {
                continue;
            };
            let directory = catalog.directories.get(id);
            let recorded =
                directory.is_some_and(|backup| backup.snapshots().contains(&&**snapshot));
            // Somebody wants what is left of it.
            let is_kept = directory.is_some_and(|backup| backup.keep.is_some());
            let is_marked = place.get(&format!("{name}/barkeep/marks/{id}")).is_some();
            let age = self.world.clock.now().since(found.begun_at());
            if !recorded && !is_kept && !is_marked && age > after + hours(2) {
                self.world.log.violate(&format!(
                    "{name}: nobody records the snapshot {snapshot} of {age:?} ago"
                ));
            }
        }
    }

    /// What the server still has of the WAL since its newest good backup is archived.
    fn check_wal(&self, name: &str, place: &Place, catalog: &Catalog) {
        let cluster = self.world.clusters[name].lock().expect("no panic");
        if cluster.standby {
            // It does not know what its primary's archiver has done.
            return;
        }
        let good = catalog.done().into_iter();
        let good = good.filter(|(_, backup)| catalog.is_good(backup));
        let newest = good.max_by_key(|(_, backup)| backup.time("end_time"));
        let Some((on, begin)) = newest.and_then(|(_, backup)| backup.segment("begin_wal")) else {
            return;
        };
        for span in cluster.at_hand() {
            let segment = (span.timeline.number(), span.run.first.0);
            let wanted = cluster.timeline == on && segment.0 == on && segment.1 >= begin;
            if wanted && !catalog.wal.contains(&segment) {
                let place = &place.name;
                self.world.log.violate(&format!(
                    "{name} in {place}: {segment:?} is in pg_wal and not archived"
                ));
            }
        }
    }
}

/// What a new look at a server would do at the instant at which nothing was left to do: whatever comes with time is not due then.
async fn replanned(ports: &Ports, report: &Report) -> Vec<Step> {
    let Plan { server, now, .. } = &report.last.plan;
    let server = &ports.desired.servers[server];
    let mut observed = ports.plan(server).await.observed;
    for stored in observed.destinations.values_mut() {
        stored.store_time = Knowledge::Known(*now);
    }
    plan(server, &observed, &|_| String::new(), *now).steps
}

/// What is not as it should be after a call in peace.
fn unsettled(report: &Report) -> Vec<String> {
    let steps = report
        .last
        .plan
        .steps
        .iter()
        .map(|step| format!("to do: {}", step.describe()));
    let failed = report.outcomes.iter().filter_map(|outcome| {
        let error = outcome.result.as_ref().err()?;
        Some(format!(
            "{}: {}",
            outcome.step.describe(),
            barkeep::failure::chain(error)
        ))
    });
    let attempts = report.attempts.iter().filter_map(|ended| {
        let failure = ended.result.as_ref().err()?;
        Some(format!("attempt: {failure}"))
    });
    let missing = report
        .missing
        .iter()
        .map(|waiting| format!("waits: {waiting}"));
    steps.chain(failed).chain(attempts).chain(missing).collect()
}

/// By how many seconds a host's clock goes wrong.
fn wrong_clock(dice: &mut Dice) -> i64 {
    let day = 86_400;
    dice.pick(&[-4000 * day, -30 * day, -7200, -100, 100, 1800])
}

fn places(
    layout: &Layout,
    clock: Clock,
    log: &Log,
    dice: &mut Dice,
) -> BTreeMap<String, Arc<Place>> {
    let cloud = Arc::new(Cloud::new(clock, log));
    let place = |name: &&str| {
        let page = usize::try_from(dice.pick(&[3_u64, 10, 1000])).expect("few");
        let place = Place::new(name, &cloud, (clock, log), page);
        if layout.locks {
            place.memory.set_retention(BucketRetention {
                locking: Locking::On { default: None },
                remains: Remains::Nothing,
            });
        }
        ((*name).to_owned(), Arc::new(place))
    };
    layout.places().iter().map(place).collect()
}

fn clusters(
    layout: &Layout,
    places: &BTreeMap<String, Arc<Place>>,
) -> BTreeMap<String, Arc<Mutex<Cluster>>> {
    let delivers = || {
        let all = places.iter();
        let all = all.filter(|(name, _)| *name == "one" || layout.delivery == "required");
        all.map(|(_, place)| place.clone()).collect()
    };
    let names = layout.servers.iter().zip(1..);
    let cluster = |(name, number): (&String, u64)| {
        let mut cluster = Cluster::new(name, 7000 + number, delivers());
        cluster.standby = layout.standby;
        (name.clone(), Arc::new(Mutex::new(cluster)))
    };
    names.map(cluster).collect()
}

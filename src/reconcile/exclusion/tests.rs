use super::*;
use crate::{
    model::desired::Connection,
    reconcile::{fleet::Fleet, once},
    store::Operation,
};

const HOUR: Duration = Duration::from_hours(1);

/// A server with more backups than it keeps, and nothing else to do.
async fn overfull(fleet: &mut Fleet) {
    fleet.server("a", &["d"], "mode=additive schedule=@hourly retention=1x");
    for _ in 0..3 {
        run(fleet, 1).await;
        tokio::time::advance(HOUR).await;
    }
    fleet.server("a", &["d"], "retention=1x");
}

/// One pass of one process. Says what it waits for.
async fn run(fleet: &Fleet, process: u32) -> String {
    let ports = fleet.process(process);
    let servers: Vec<&Server> = ports.desired.servers.values().collect();
    let report = once::once(&ports, &servers).await.remove(0);
    let missing = report.missing.iter().map(ToString::to_string);
    missing.collect::<Vec<_>>().join(", ")
}

fn backups(fleet: &Fleet) -> usize {
    let keys = fleet.keys("d").into_iter();
    keys.filter(|key| key.ends_with("/backup.info")).count()
}

/// Takes a right of the only server.
async fn taken(ports: &Ports, kind: LeaseKind) -> Rights {
    let server = ports.desired.servers.values().next().expect("a server");
    let wanted = BTreeSet::from([(server.entries[0].destination.clone(), kind)]);
    let rights = Rights::insist(ports, server, wanted).await;
    rights.unwrap_or_else(|waiting| panic!("{waiting}"))
}

/// Holds a right as another process would, while something is done.
async fn beside<T>(fleet: &Fleet, kind: LeaseKind, work: impl Future<Output = T>) -> T {
    let mut rights = taken(&fleet.process(7), kind).await;
    let done = rights.during(work).await;
    rights.release().await;
    done
}

#[tokio::test(start_paused = true)]
async fn what_another_one_deletes_is_left_to_it() {
    let mut fleet = Fleet::new(&["d"]);
    overfull(&mut fleet).await;
    let waits = beside(&fleet, LeaseKind::Retention, run(&fleet, 1)).await;
    assert!(waits.contains("process 7 on"), "{waits}");
    assert!(waits.contains("holds the retention lease until"), "{waits}");
    assert_eq!(backups(&fleet), 3);
    let waits = beside(&fleet, LeaseKind::Attempt, run(&fleet, 1)).await;
    assert_eq!(
        (waits.as_str(), backups(&fleet)),
        ("", 1),
        "the other right is another one's"
    );
}

#[tokio::test(start_paused = true)]
async fn what_another_one_backs_up_is_left_to_it() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.server("a", &["d"], "schedule=@hourly");
    let waits = beside(&fleet, LeaseKind::Attempt, run(&fleet, 1)).await;
    assert!(waits.contains("holds the attempt lease until"), "{waits}");
    assert_eq!(backups(&fleet), 0);
    assert_eq!(run(&fleet, 1).await, "");
    assert_eq!(backups(&fleet), 1);
}

#[tokio::test(start_paused = true)]
async fn a_holder_elsewhere_is_waited_for_until_it_expires() {
    let mut fleet = Fleet::new(&["d"]);
    overfull(&mut fleet).await;
    // It dies: nobody renews.
    drop(taken(&fleet.process(7), LeaseKind::Retention).await);
    tokio::time::advance(Duration::from_secs(599)).await;
    assert_ne!(run(&fleet, 1).await, "");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(run(&fleet, 1).await, "");
    assert_eq!(backups(&fleet), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_right_no_request_deletes() {
    let mut fleet = Fleet::new(&["d"]);
    overfull(&mut fleet).await;
    let ports = fleet.process(1);
    let server = ports.desired.servers.values().next().expect("a server");
    let activation = ports.plan(server).await;
    let asked = crate::plan::guard::Asked::ByPolicy;
    let guarded = ports.guard(activation.plan, server, &activation.observed, asked);
    let none = Fences::new();
    let outcomes = once::apply(&ports, server, &guarded, &activation.observed, &none).await;
    assert!(!outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.result.is_err()));
    let deletes = fleet.requests("d", Operation::Delete, "base/");
    assert_eq!(deletes, Vec::<String>::new());
    assert_eq!(backups(&fleet), 3);
}

#[tokio::test(start_paused = true)]
async fn where_conditions_are_ignored_only_a_single_writer_deletes() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.ignore_conditions("d");
    overfull(&mut fleet).await;
    let waits = run(&fleet, 1).await;
    assert!(
        waits.contains("no connection for a lock in PostgreSQL"),
        "{waits}"
    );
    assert!(waits.contains("`single_writer = true`"), "{waits}");
    assert_eq!(backups(&fleet), 3, "backups are taken, nothing is deleted");
    let server = fleet.desired.servers.values_mut().next();
    server.expect("a server").connection = Some(Connection {
        conninfo: String::new(),
        primary_conninfo: None,
        password: None,
    });
    let waits = run(&fleet, 1).await;
    assert!(
        waits.contains("somebody holds the retention lease"),
        "{waits}"
    );
    let destination = fleet.desired.destinations.values_mut().next();
    destination.expect("a destination").single_writer = true;
    assert_eq!(run(&fleet, 1).await, "");
    assert_eq!(backups(&fleet), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_asked_for_holds_up_deletes_and_no_backup() {
    let mut fleet = Fleet::new(&["d"]);
    overfull(&mut fleet).await;
    fleet.server("a", &["d"], "schedule=@hourly retention=1x");
    fleet.refuse_leases("d");
    let waits = run(&fleet, 1).await;
    assert!(waits.contains("the retention lease is unknown"), "{waits}");
    assert_eq!(backups(&fleet), 4);
}

#[tokio::test(start_paused = true)]
async fn without_leases_it_converges_all_the_same() {
    let mut fleet = Fleet::new(&["d"]);
    overfull(&mut fleet).await;
    let ports = Ports {
        exclusion: Exclusion::Off,
        ..fleet.process(1)
    };
    let servers: Vec<&Server> = ports.desired.servers.values().collect();
    once::once(&ports, &servers).await;
    assert_eq!(backups(&fleet), 1);
}

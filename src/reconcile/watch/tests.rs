use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    model::scene::now,
    reconcile::{
        board::{State, Success},
        fleet::Fleet,
    },
    store::Operation,
};

const HOUR: Duration = Duration::from_hours(1);

/// A process that watches a fleet.
struct Process {
    board: Board,
    cancel: CancellationToken,
    orders: mpsc::Sender<Order>,
    inbox: Option<mpsc::Receiver<Order>>,
    ports: Option<Ports>,
}

impl Process {
    fn of(fleet: &Fleet, number: u32) -> Self {
        let ports = fleet.process(number);
        let (orders, inbox) = mpsc::channel(4);
        Self {
            board: Board::new(now()),
            cancel: ports.cancel.clone(),
            orders,
            inbox: Some(inbox),
            ports: Some(ports),
        }
    }

    async fn watch(&mut self) {
        let ports = self.ports.take().expect("it watches once");
        let inbox = self.inbox.take().expect("it watches once");
        watch(ports, inbox, &self.board, |_| Choice::Chosen).await;
    }

    /// Watches for a while, and is told to stop.
    async fn watch_for(&mut self, span: Duration) -> State {
        let cancel = self.cancel.clone();
        tokio::join!(self.watch(), async {
            pause(span).await;
            cancel.cancel();
        });
        self.board.read()
    }
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).expect("a name")
}

#[tokio::test(start_paused = true)]
async fn each_server_wakes_when_its_own_backup_is_due() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.server("a", &["d"], "schedule=15_*_*_*_*");
    fleet.server("b", &["d"], "schedule=40_*_*_*_*");
    let state = Process::of(&fleet, 1).watch_for(3 * HOUR).await;
    // Both begin with one, for nobody has ever taken any; it spares the next instant half a period.
    assert_eq!(fleet.history.minutes("a"), [0, 30, 75, 135]);
    assert_eq!(fleet.history.minutes("b"), [0, 40, 100, 160]);
    let done: u64 = state.done.values().sum();
    assert_eq!(done, 8);
    assert!(state.done.keys().all(|tally| tally.result == Success::Done));
    assert!(state.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_delays_no_other() {
    let mut fleet = Fleet::new(&["bad", "good"]);
    fleet.lasts = Duration::from_mins(1);
    for number in 0..100 {
        fleet.server(&format!("bad{number}"), &["bad"], "schedule=@hourly");
    }
    fleet.server("good", &["good"], "schedule=*/30_*_*_*_*");
    fleet.hang("bad");
    let mut process = Process::of(&fleet, 1);
    let cancel = process.cancel.clone();
    let board = process.board.clone();
    let life = async {
        pause(2 * HOUR).await;
        assert_eq!(fleet.history.minutes("good"), [0, 30, 60, 90]);
        let silent = board.read().servers[&name("bad7")].clone();
        let last = silent.last.expect("it was looked at");
        assert_eq!(last.plan.standing().to_string(), "blocked");
        assert!(silent.read.is_empty(), "nothing was ever read");
        fleet.mend("bad");
        pause(HOUR).await;
        cancel.cancel();
    };
    tokio::join!(process.watch(), life);
    for number in 0..100 {
        let minutes = fleet.history.minutes(&format!("bad{number}"));
        assert!(!minutes.is_empty(), "bad{number} recovers");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_with_a_dead_destination_goes_on_with_the_other() {
    let mut fleet = Fleet::new(&["bad", "good"]);
    fleet.server("both", &["bad", "good"], "schedule=*/30_*_*_*_*");
    fleet.hang("bad");
    Process::of(&fleet, 1).watch_for(2 * HOUR).await;
    let minutes = fleet.history.minutes("both");
    // Whoever waits for an answer waits so long, and once in a while somebody must.
    let late = |(minute, due): (&u64, u64)| (due..=due + 2).contains(minute);
    assert!(minutes.len() == 4, "{minutes:?}");
    assert!(minutes.iter().zip([0, 30, 60, 90]).all(late), "{minutes:?}");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_servers_are_looked_at_and_not_as_one() {
    let mut fleet = Fleet::new(&["d"]);
    for number in 0..200 {
        fleet.server(&format!("s{number}"), &["d"], "");
    }
    let state = Process::of(&fleet, 1).watch_for(HOUR).await;
    assert!(state.is_ready());
    let looks = state.activations;
    assert!((200 * 11..=200 * 14).contains(&looks), "{looks}");
    let instants: BTreeSet<_> = state
        .servers
        .values()
        .map(|row| row.wakes.values().next())
        .collect();
    assert!(instants.len() > 30, "{}", instants.len());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_deleted_is_tried_again_ever_more_seldom() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.server("a", &["d"], "schedule=@hourly retention=1x");
    fleet.refuse_deletes("d");
    let state = Process::of(&fleet, 1).watch_for(8 * HOUR).await;
    let failures = &state.servers[&name("a")].failures;
    assert!(
        failures.values().any(|failed| failed.times >= 5),
        "{failures:?}"
    );
    let tries = fleet.requests("d", Operation::Delete, "base/").len();
    assert!((6..80).contains(&tries), "{tries}");
    assert_eq!(fleet.history.minutes("a").len(), 8, "backups go on");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_one_servers_and_no_others() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.server("a", &["d"], "schedule=@hourly");
    fleet.server("b", &["d"], "schedule=@hourly");
    fleet.panics = Some(name("a"));
    let state = Process::of(&fleet, 1).watch_for(2 * HOUR).await;
    assert_eq!(fleet.history.minutes("b"), [0, 60]);
    assert!(!state.is_ready());
}

#[tokio::test(start_paused = true)]
async fn another_configuration_is_taken_up_at_once() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.server("a", &["d"], "schedule=@hourly");
    let mut process = Process::of(&fleet, 1);
    let (cancel, orders) = (process.cancel.clone(), process.orders.clone());
    fleet.desired.servers.clear();
    fleet.server("b", &["d"], "schedule=@hourly");
    let desired = Box::new(fleet.desired.clone());
    let board = process.board.clone();
    let life = async {
        pause(Duration::from_mins(30)).await;
        orders
            .send(Order::Configure(desired))
            .await
            .expect("it watches");
        board.refused("line 3", now());
        pause(HOUR).await;
        cancel.cancel();
    };
    tokio::join!(process.watch(), life);
    assert_eq!(fleet.history.minutes("a"), [0]);
    assert_eq!(
        fleet.history.minutes("b"),
        [30, 60],
        "and the other is let go"
    );
    let state = process.board.read();
    assert_eq!(state.servers.keys().collect::<Vec<_>>(), [&name("b")]);
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_comes_to_the_next_safe_point_and_leaves_nothing() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.lasts = 9 * HOUR;
    fleet.server("a", &["d"], "schedule=@hourly");
    Process::of(&fleet, 1).watch_for(HOUR).await;
    let keys = fleet.keys("d");
    assert!(
        !keys.iter().any(|key| key.contains("barkeep/attempts/")),
        "{keys:?}"
    );
    // Whoever comes next need not wait for a lease.
    fleet.lasts = Duration::from_mins(3);
    Process::of(&fleet, 2).watch_for(HOUR).await;
    assert_eq!(fleet.history.minutes("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn told_to_look_it_looks_at_all() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.server("a", &["d"], "");
    fleet.server("b", &["d"], "");
    let mut process = Process::of(&fleet, 1);
    let (cancel, orders, board) = (
        process.cancel.clone(),
        process.orders.clone(),
        process.board.clone(),
    );
    let life = async {
        pause(Duration::from_secs(30)).await;
        assert_eq!(board.read().activations, 2);
        orders.send(Order::Look).await.expect("it watches");
        pause(Duration::from_secs(1)).await;
        assert_eq!(board.read().activations, 4);
        cancel.cancel();
    };
    tokio::join!(process.watch(), life);
}

/// Two services and a cron job on one configuration, for two days.
#[tokio::test(start_paused = true)]
async fn several_processes_on_one_configuration_never_act_twice() {
    let mut fleet = Fleet::new(&["d"]);
    fleet.server("a", &["d"], "schedule=@hourly retention=5x");
    fleet.server("b", &["d"], "schedule=7_*/2_*_*_* retention=3x");
    let days = 2 * 24 * HOUR;
    let cron = async {
        for run in 0..days.as_secs() / 600 {
            let ports = fleet.process(u32::try_from(run).expect("few") + 10);
            let servers: Vec<&Server> = ports.desired.servers.values().collect();
            once::once(&ports, &servers).await;
            pause(Duration::from_mins(10)).await;
        }
    };
    let (mut one, mut two) = (Process::of(&fleet, 1), Process::of(&fleet, 2));
    tokio::join!(one.watch_for(days), two.watch_for(days), cron);
    // The fleet itself panics when two backups of one server run at once.
    assert_eq!(fleet.history.minutes("a").len(), 2 * 24);
    assert_eq!(fleet.history.minutes("b").len(), 2 * 12 + 1);
    let mut deleted = fleet.requests("d", Operation::Delete, "/backup.info");
    let all = deleted.len();
    deleted.sort();
    deleted.dedup();
    assert_eq!(deleted.len(), all, "nothing is deleted twice");
    let left = fleet.keys("d");
    let left = |server: &str| {
        let of = |key: &&String| key.starts_with(server) && key.ends_with("/backup.info");
        left.iter().filter(of).count()
    };
    assert_eq!((left("a/"), left("b/")), (5, 3));
}

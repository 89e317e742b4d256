//! The receiver, the destination and PostgreSQL, each killed again and again under load: what was confirmed is restored.
//!
//! Clients write numbers and note each commit that they were told of; `pgbench` makes noise beside them. `BARKEEP_CHAOS` is for how many
//! seconds; `make chaos` lets it be five minutes, with ten kills of each. What a loss of everything but the destination costs is measured.

use std::{
    cell::{Cell, RefCell},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use barkeep::{clock::pause, model::wal::Lsn, postgres::grants};
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio_postgres::{Client, NoTls};

use crate::{
    harness::{Kind, Place, ROLE, Running, create_role, recovered, text},
    interruption::Random,
    support::{
        cluster::{Cluster, Stop},
        pgbench::Pgbench,
        wait::until,
    },
};

/// How many clients note what they were told.
const CLIENTS: usize = 4;

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says for how long"
)]
fn lifetime() -> Duration {
    let seconds = std::env::var("BARKEEP_CHAOS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(25))
}

/// How often each is killed: ten times in five minutes.
fn kills_of_each() -> usize {
    usize::try_from(lifetime().as_secs() / 30)
        .unwrap_or(1)
        .max(2)
}

#[derive(Clone, Copy, Debug)]
enum Victim {
    Receiver,
    Destination,
    Postgres,
}

/// A commit that a client was told of.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// What was committed.
    number: i64,
    /// When, in seconds since the beginning.
    at: f64,
    /// A position after it.
    after: Lsn,
}

/// All that the clients were told.
type Commits = RefCell<Vec<Vec<Told>>>;

/// What is killed and lives again.
struct Chaos {
    cluster: Cluster,
    place: Place,
    service: Running,
    random: Random,
}

impl Chaos {
    fn new(receive: &str) -> Option<Self> {
        let mut cluster = Cluster::create(17)?;
        let place = Place::new(Kind::Strict)?;
        cluster.configure(&[
            ("archive_mode", "off"),
            ("wal_keep_size", "512MB"),
            ("max_connections", "60"),
        ]);
        cluster.start();
        create_role(&cluster);
        cluster.sql(&grants::replication(ROLE));
        let spool = place.path("durable").display().to_string();
        place.configure(&format!(
            "[servers.main]\nconnection = \"{}\"\nmethod = \"stream\"\nschedule = \"none\"\n\
             retention = \"none\"\nwal = {{ receive = {} }}",
            cluster.conninfo(ROLE),
            receive.replace("SPOOL", &spool)
        ));
        let service = place.start(&["reconcile"]);
        Some(Self {
            cluster,
            place,
            service,
            random: Random::new(),
        })
    }

    /// Waits until somebody streams, and takes a backup.
    async fn begin(&self) {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        until("the receiver", async || {
            (self.cluster.sql(sql) == "1").then_some(())
        })
        .await;
        self.cluster.sql(
            "CREATE TABLE told (client int, number bigint, at float8, PRIMARY KEY (client, number))",
        );
        self.place.run(&["backup", "main"]).exits(0);
    }

    /// Kills one, and lets it live again after a while.
    async fn kill(&mut self, victim: Victim) {
        let while_dead = Duration::from_secs_f64(self.random.fraction() * 2.0);
        match victim {
            Victim::Receiver => {
                self.service.signal(Signal::KILL);
                pause(while_dead).await;
                self.service = self.place.start(&["reconcile"]);
            }
            Victim::Destination => {
                self.place.s3().kill();
                pause(while_dead).await;
                self.place.s3().revive();
            }
            Victim::Postgres => {
                self.cluster.stop(Stop::Immediate);
                pause(while_dead).await;
                self.cluster.start();
            }
        }
    }

    /// Kills each of them so often, in any order and at any time.
    async fn rage(&mut self) {
        let mut victims = Vec::new();
        for _ in 0..kills_of_each() {
            victims.extend([Victim::Receiver, Victim::Destination, Victim::Postgres]);
        }
        for last in (1..victims.len()).rev() {
            let other = pick(&mut self.random, last + 1);
            victims.swap(last, other);
        }
        let began = Instant::now();
        let share = lifetime() / u32::try_from(victims.len()).expect("few");
        for victim in victims {
            pause(share.mul_f64(self.random.fraction())).await;
            self.kill(victim).await;
        }
        pause(lifetime().saturating_sub(began.elapsed())).await;
    }

    /// Lets clients write while all of them are killed, and gives what they were told and what the server was.
    async fn live(&mut self) -> (Vec<Vec<Told>>, Lsn) {
        let told: Commits = RefCell::new(vec![Vec::new(); CLIENTS]);
        let confirmed = Cell::new(Lsn(0));
        let conninfo = self.cluster.conninfo("postgres");
        let socket = self.cluster.socket_directory().to_owned();
        let began = Instant::now();
        let clients = (0..CLIENTS).map(|client| write(client, &conninfo, began, &told));
        tokio::select! {
            () = self.rage() => {}
            _ = join_all(clients) => {}
            () = listen(&conninfo, &confirmed) => {}
            () = make_noise(&socket) => {}
        }
        (told.into_inner(), confirmed.get())
    }

    /// Waits until everything in the spool is in the destination, too.
    async fn drained(&self) {
        let spool = self.place.path("durable").join("received-main");
        until("the spool to drain", async || {
            let entries = fs::read_dir(&spool).expect("the spool");
            let names = entries.map(|entry| text(Path::new(&entry.expect("an entry").file_name())));
            let mut names: Vec<_> = names.collect();
            names.retain(|name| name != "lock" && name != "system-id" && !name.starts_with('.'));
            match names.as_slice() {
                [] => Some(()),
                [name] => {
                    let segment = name.strip_suffix(".open")?;
                    let length = fs::metadata(spool.join(name)).ok()?.len();
                    let directory = format!("main/barkeep/tail/{segment}/");
                    let keys = self.place.keys(&directory);
                    let end = format!("-{length:08X}.zst");
                    keys.iter().any(|key| key.ends_with(&end)).then_some(())
                }
                _ => None,
            }
        })
        .await;
    }

    /// Restores from the destination alone, and says how far each client has come there.
    async fn restore(&self) -> Vec<Told> {
        let mut copy = Cluster::empty(17).expect("this version is here");
        let directory = copy.pgdata().display().to_string();
        let ran = self.place.run(&["restore", "main", "latest", &directory]);
        ran.exits(0);
        copy.surround(&self.place.environment());
        copy.start();
        recovered(&copy).await;
        let last = |client: usize| {
            let row = copy.sql(&format!(
                "SELECT coalesce(max(number), 0), coalesce(max(at), 0), count(*) FROM told \
                 WHERE client = {client}"
            ));
            let mut fields = row.split('|');
            let mut field = || fields.next().expect("a field");
            let (number, at, count) = (field(), field(), field());
            assert_eq!(
                number, count,
                "client {client}: a number in between is missing"
            );
            Told {
                number: number.parse().expect("a number"),
                at: at.parse().expect("a number"),
                after: Lsn(0),
            }
        };
        (0..CLIENTS).map(last).collect()
    }
}

fn pick(random: &mut Random, of: usize) -> usize {
    (0..of)
        .rev()
        .find(|index| random.fraction() < 1.0 / f64::from(u32::try_from(index + 1).expect("few")))
        .unwrap_or(0)
}

/// Writes numbers, and notes those that were committed, for ever.
async fn write(client: usize, conninfo: &str, began: Instant, told: &Commits) {
    loop {
        let Ok((session, connection)) = tokio_postgres::connect(conninfo, NoTls).await else {
            pause(Duration::from_millis(100)).await;
            continue;
        };
        tokio::select! {
            _ = connection => {}
            _ = numbers(client, &session, began, told) => {}
        }
    }
}

async fn numbers(
    client: usize,
    session: &Client,
    began: Instant,
    told: &Commits,
) -> Result<(), tokio_postgres::Error> {
    let id = i32::try_from(client).expect("few");
    // What was committed and not told of, because the session broke.
    let sql = "SELECT coalesce(max(number), 0) FROM told WHERE client = $1";
    let mut number: i64 = session.query_one(sql, &[&id]).await?.get(0);
    loop {
        number += 1;
        let at = began.elapsed().as_secs_f64();
        let sql = "INSERT INTO told VALUES ($1, $2, $3)";
        session.execute(sql, &[&id, &number, &at]).await?;
        let at = began.elapsed().as_secs_f64();
        let unknown = Lsn(u64::MAX);
        let commit = Told {
            number,
            at,
            after: unknown,
        };
        told.borrow_mut()[client].push(commit);
        let sql = "SELECT pg_current_wal_insert_lsn()::text";
        let row = session.query_one(sql, &[]).await?;
        if let Some(last) = told.borrow_mut()[client].last_mut() {
            last.after = row.get::<_, &str>(0).parse().expect("a position");
        }
        pause(Duration::from_millis(5)).await;
    }
}

/// Notes how far the server was told that everything is safe, for ever.
async fn listen(conninfo: &str, confirmed: &Cell<Lsn>) {
    loop {
        if let Ok((session, connection)) = tokio_postgres::connect(conninfo, NoTls).await {
            tokio::select! {
                _ = connection => {}
                _ = positions(&session, confirmed) => {}
            }
        }
        pause(Duration::from_millis(100)).await;
    }
}

async fn positions(session: &Client, confirmed: &Cell<Lsn>) -> Result<(), tokio_postgres::Error> {
    loop {
        let sql = "SELECT restart_lsn::text FROM pg_replication_slots";
        let row = session.query_one(sql, &[]).await?;
        let position: Lsn = row.get::<_, &str>(0).parse().expect("a position");
        // A server that has crashed remembers an older one.
        confirmed.set(confirmed.get().max(position));
        pause(Duration::from_millis(50)).await;
    }
}

/// Keeps `pgbench` running, whatever becomes of the server.
async fn make_noise(socket: &Path) {
    Pgbench::start(&["-i", "-q", "-s", "2"], socket)
        .ended()
        .await;
    loop {
        Pgbench::start(&["-n", "-c", "2", "-T", "3600"], socket)
            .ended()
            .await;
        pause(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn what_was_committed_synchronously_survives_whatever_dies() {
    let Some(mut chaos) = Chaos::new("{ tail = \"1s\", spool = \"SPOOL\" }") else {
        return;
    };
    chaos.begin().await;
    chaos
        .cluster
        .sql("ALTER SYSTEM SET synchronous_standby_names = 'barkeep'; SELECT pg_reload_conf()");
    let (told, _) = chaos.live().await;
    chaos.cluster.stop(Stop::Immediate);
    chaos.drained().await;
    chaos.service.signal(Signal::KILL);
    fs::remove_dir_all(chaos.place.path("durable")).expect("the spool");
    let restored = chaos.restore().await;
    let seed = chaos.random.seed();
    let mut commits = 0;
    for (client, (told, restored)) in told.iter().zip(&restored).enumerate() {
        let last = told.last().copied().unwrap_or_default();
        assert!(
            restored.number >= last.number,
            "seed {seed}: client {client} was told of {last:?}, restored is {restored:?}"
        );
        commits += told.len();
    }
    assert!(commits > 100, "seed {seed}: only {commits} commits");
    say(&format!("{commits} synchronous commits, none is missing"));
}

#[tokio::test]
async fn what_was_confirmed_survives_the_loss_of_all_but_the_destination() {
    let Some(mut chaos) = Chaos::new("{ tail = \"1s\" }") else {
        return;
    };
    chaos.begin().await;
    let (told, confirmed) = chaos.live().await;
    chaos.service.signal(Signal::KILL);
    chaos.cluster.stop(Stop::Immediate);
    let restored = chaos.restore().await;
    let seed = chaos.random.seed();
    let mut commits = 0;
    for (client, (told, restored)) in told.iter().zip(&restored).enumerate() {
        let safe = told.iter().rev().find(|commit| commit.after <= confirmed);
        let safe = safe.copied().unwrap_or_default();
        assert!(
            restored.number >= safe.number,
            "seed {seed}: {safe:?} of client {client} was confirmed, restored is {restored:?}"
        );
        commits += told.len();
    }
    assert!(commits > 100, "seed {seed}: only {commits} commits");
    let last = |of: &mut dyn Iterator<Item = f64>| of.fold(0.0, f64::max);
    let told = last(&mut told.iter().flatten().map(|commit| commit.at));
    let restored = last(&mut restored.iter().map(|commit| commit.at));
    say(&format!(
        "{commits} commits; of the last {:.2} s before everything was lost, nothing is restored",
        told - restored
    ));
}

#[expect(clippy::print_stderr, reason = "a measurement is for whoever runs it")]
fn say(what: &str) {
    eprintln!("chaos: {what}");
}

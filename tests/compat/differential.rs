//! The same command lines to Barman and to barkeep, beginning with the same objects: the same exit code, the same standard output, the same
//! objects left. What differs is in the table of `docs/quirks.md`, and really differs.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use barkeep::{
    model::time::Timestamp,
    store::{Key, PutOptions, SharedStore, StoreExt as _},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::{
    PEER,
    case::{Case, cases},
    ran::Ran,
    state::{State, states},
    support::{cloud::Cloud, peer::Peer},
};

/// Who runs a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Barman,
    Barkeep,
}

impl Side {
    /// Of one length, so that texts with the name in them are comparable.
    fn bucket(self) -> &'static str {
        match self {
            Self::Barman => "bucket-one",
            Self::Barkeep => "bucket-two",
        }
    }
}

/// How a command line ended.
#[derive(Debug)]
struct End {
    ran: Ran,
    /// Key and entity tag.
    objects: BTreeMap<String, String>,
    /// Whether the bucket that was missing is there now.
    created: bool,
}

struct Bench {
    cloud: Cloud,
    peer: Peer,
    states: BTreeMap<String, State>,
    /// Each side's bucket.
    stores: [SharedStore; 2],
    /// How many of the buckets that were missing each side has created.
    created: [usize; 2],
    /// What lies in each side's bucket, as far as it is known: tags by key.
    present: [BTreeMap<String, String>; 2],
}

impl Bench {
    /// With buckets that are created with these headers.
    async fn new(cloud: Cloud, headers: &str) -> Option<Self> {
        let peer = Peer::start(PEER)?;
        let mut stores = Vec::new();
        for side in [Side::Barman, Side::Barkeep] {
            cloud.create_with(side.bucket(), headers);
            stores.push(cloud.store(side.bucket(), "").await);
        }
        Some(Self {
            cloud,
            peer,
            states: states(include_str!("states.txt"), now()),
            stores: stores.try_into().expect("two sides"),
            created: [0; 2],
            present: Default::default(),
        })
    }

    /// A bucket that is not there.
    fn missing(&self, side: Side) -> String {
        format!("{}-x{}", side.bucket(), self.created[side as usize])
    }

    /// Makes a bucket hold exactly what the state says.
    async fn reset(&mut self, side: Side, state: &State) {
        let cloud = &self.cloud;
        let store = &self.stores[side as usize];
        let present = &mut self.present[side as usize];
        let wanted = |key: &String, tag: &String| {
            state
                .objects
                .get(key)
                .is_some_and(|text| *tag == cloud.tag_of(text))
        };
        let odd = present.iter().filter(|(key, tag)| !wanted(key, tag));
        let odd: Vec<Key> = odd.map(|(key, _)| Key::verbatim(key.clone())).collect();
        for deleted in store.delete(&odd).await {
            deleted.outcome.expect("deleted");
            present.remove(deleted.key.as_str());
        }
        let missing = state
            .objects
            .iter()
            .filter(|(key, _)| !present.contains_key(*key));
        let missing: Vec<_> = missing
            .map(|(key, text)| (key.clone(), text.clone()))
            .collect();
        let put = |(key, text): (String, String)| async move {
            let content = Bytes::from(text.clone());
            let key = Key::verbatim(key);
            let put = store.put(&key, content, PutOptions::default());
            put.await.expect("stored");
        };
        futures_util::stream::iter(missing)
            .map(put)
            .buffer_unordered(8)
            .collect::<()>()
            .await;
        for (key, text) in &state.objects {
            let new = present.insert(key.clone(), cloud.tag_of(text)).is_none();
            if let Some(lock) = state.locks.get(key).filter(|_| new) {
                cloud.lock(side.bucket(), key, lock);
            }
        }
    }

    async fn objects(&self, store: &SharedStore) -> Option<BTreeMap<String, String>> {
        let metas: Vec<_> = store.list_all("").try_collect().await.ok()?;
        let object = |meta| {
            let tag = self.cloud.tag(&meta);
            (meta.key.to_string(), tag)
        };
        Some(metas.into_iter().map(object).collect())
    }

    async fn run(&mut self, side: Side, case: &Case) -> End {
        let state = self.states.get(&case.state).expect("a state").clone();
        self.reset(side, &state).await;
        let (bucket, missing) = (side.bucket(), self.missing(side));
        let fill = |word: &str| {
            let mut word = self
                .cloud
                .translated(word)
                .replace("{url}", &self.cloud.url(bucket, &state.prefix))
                .replace("{bucket}", bucket)
                .replace("{missing}", &missing);
            for (label, id) in &state.ids {
                word = word.replace(&format!("{{{label}}}"), id);
            }
            word
        };
        let mut filled = case.filled(&fill);
        filled.lead_to(&self.cloud);
        let nowhere = Path::new("/");
        let ran = match side {
            Side::Barman => Ran::barman(&mut self.peer, &filled, nowhere),
            Side::Barkeep => Ran::barkeep(&filled, nowhere),
        };
        let store = &self.stores[side as usize];
        let objects = self.objects(store).await.expect("the bucket is there");
        let missing = self.cloud.store(&missing, "").await;
        let created = self.objects(&missing).await.is_some();
        self.created[side as usize] += usize::from(created);
        self.present[side as usize].clone_from(&objects);
        End {
            ran,
            objects,
            created,
        }
    }
}

/// A whole minute, so that one state has the same ids wherever it is made.
fn now() -> Timestamp {
    let now = barkeep::clock::Clock::System.now().unix_seconds();
    Timestamp::from_unix_seconds(now - now % 60).expect("an instant")
}

/// What of two ends is not the same.
fn differences(theirs: &End, ours: &End) -> Vec<&'static str> {
    let unequal = [
        ("code", theirs.ran.code != ours.ran.code),
        ("stdout", theirs.ran.stdout != ours.ran.stdout),
        (
            "objects",
            theirs.objects != ours.objects || theirs.created != ours.created,
        ),
    ];
    let unequal = unequal.into_iter().filter(|(_, differs)| *differs);
    unequal.map(|(what, _)| what).collect()
}

/// The objects that only one of them has, or that are not the same.
fn odd(of: &End, other: &End) -> Vec<String> {
    let objects = of.objects.iter();
    let odd = objects.filter(|(key, tag)| other.objects.get(*key) != Some(tag));
    odd.map(|(key, _)| key.clone()).collect()
}

fn told(case: &Case, theirs: &End, ours: &End) -> String {
    let mut text = format!("in {}: {}\n", case.state, case.line);
    for (who, end, other) in [("Barman", theirs, ours), ("barkeep", ours, theirs)] {
        let (odd, ran) = (odd(end, other), &end.ran);
        writeln!(
            text,
            "-- {who}: code {}, only here {odd:?}, created {}\n{}{}",
            ran.code, end.created, ran.stdout, ran.stderr
        )
        .expect("a string grows");
    }
    text
}

/// Runs the command lines of a table on both sides, in buckets that are created with these headers.
async fn compare(table: &str, cloud: Option<Cloud>, headers: &str) {
    let wrong = compared(table, cloud, headers).await;
    assert!(wrong.is_empty(), "{wrong}");
}

/// What is wrong with them.
async fn compared(table: &str, cloud: Option<Cloud>, headers: &str) -> String {
    let mut wrong = String::new();
    let Some(cloud) = cloud else { return wrong };
    let Some(mut bench) = Bench::new(cloud, headers).await else {
        return wrong;
    };
    let rows = include_str!("../../docs/quirks.md");
    let cases = cases(table).into_iter();
    let cases: Vec<_> = cases.filter(|case| bench.cloud.takes(&case.line)).collect();
    for case in cases {
        let theirs = bench.run(Side::Barman, &case).await;
        let ours = bench.run(Side::Barkeep, &case).await;
        if let Some(row) = case.row {
            assert!(
                rows.contains(&format!("\n| {row} |")),
                "no row for `{}`",
                case.line
            );
        }
        let left = |key: &&String| !ours.objects.contains_key(*key);
        let bolder = theirs.objects.keys().find(left).is_some();
        let bolder = bolder && case.row.is_none_or(|row| !BOLDER.contains(&row));
        let expected = bench.cloud.expected(&case.differs);
        if differences(&theirs, &ours) != expected || bolder {
            wrong.push_str(&told(&case, &theirs, &ours));
        }
    }
    wrong
}

/// The rows by which more goes than Barman deletes: of one WAL file all copies, and what does not depend on what cannot go.
const BOLDER: [u32; 2] = [33, 79];

/// What is not about locks, which Barman knows on S3 only.
const EVERYWHERE: [&str; 4] = [
    include_str!("cases/reading.txt"),
    include_str!("cases/keep.txt"),
    include_str!("cases/delete.txt"),
    include_str!("cases/check.txt"),
];

#[tokio::test]
async fn on_azure_it_is_the_same() {
    everywhere(Cloud::azurite).await;
}

#[tokio::test]
async fn on_google_cloud_it_is_the_same() {
    everywhere(Cloud::gcs).await;
}

async fn everywhere(cloud: fn() -> Option<Cloud>) {
    let mut wrong = String::new();
    for table in EVERYWHERE {
        wrong.push_str(&compared(table, cloud(), "").await);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn backups_are_listed_and_shown_alike() {
    compare(include_str!("cases/reading.txt"), Cloud::moto(), "").await;
}

#[tokio::test]
async fn keeps_are_set_and_released_alike() {
    compare(include_str!("cases/keep.txt"), Cloud::moto(), "").await;
}

#[tokio::test]
async fn backups_are_deleted_alike() {
    compare(include_str!("cases/delete.txt"), Cloud::moto(), "").await;
}

#[tokio::test]
async fn locks_are_heeded_alike() {
    let locking = "x-amz-bucket-object-lock-enabled: true\r\n";
    compare(include_str!("cases/locks.txt"), Cloud::moto(), locking).await;
}

#[tokio::test]
async fn what_cannot_be_deleted_fails_alike() {
    compare(include_str!("cases/held.txt"), Cloud::gcs(), "").await;
}

#[tokio::test]
async fn wal_archives_are_checked_alike() {
    compare(include_str!("cases/check.txt"), Cloud::moto(), "").await;
}

#[test]
fn at_least_so_many_command_lines_are_compared() {
    let tables = EVERYWHERE
        .into_iter()
        .chain([include_str!("cases/locks.txt")]);
    let count: usize = tables.map(|table| cases(table).len()).sum();
    assert!(count >= 300, "{count}");
}

#[test]
fn a_difference_is_noticed() {
    let end = |code| End {
        ran: Ran {
            code,
            stdout: String::new(),
            stderr: String::new(),
        },
        objects: BTreeMap::new(),
        created: false,
    };
    assert_eq!(differences(&end(0), &end(1)), ["code"]);
}

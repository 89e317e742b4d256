//! One command line to Barman's program and to ours, on equal states, and what came of both.
//!
//! These are the commands that move data, so what they leave on disk is compared as well. `{url}` is a
//! bucket of its own for each, `{out}` a directory of its own, `{nowhere}` a place where nobody listens. How both ended is compared here: the code, standard output, and what the errors say before they go into
//! details.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use barkeep::store::{Key, PutOptions, SharedStore, StoreExt as _};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde_json::Value;

use crate::{
    PEER,
    case::{Case, Filled, cases},
    ran::{Ran, started},
    support::{cloud::Cloud, peer::Peer},
};

/// What may differ.
const QUIRKS: &str = include_str!("../../docs/quirks.md");

/// Below which path of its bucket each works.
const PREFIX: &str = "some/path";

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Theirs,
    Ours,
}

impl Whose {
    pub(crate) const BOTH: [Self; 2] = [Self::Theirs, Self::Ours];

    pub(crate) fn bucket(self) -> &'static str {
        match self {
            Self::Theirs => "theirs",
            Self::Ours => "ours",
        }
    }
}

/// A store with a bucket for each, and a directory for each.
pub(crate) struct Pair {
    pub(crate) cloud: Cloud,
    barman: RefCell<Peer>,
    home: tempfile::TempDir,
    /// More `{words}` and what they stand for.
    pub(crate) words: BTreeMap<&'static str, String>,
}

impl Pair {
    /// `None` after saying what is missing.
    pub(crate) fn start(cloud: Option<Cloud>) -> Option<Self> {
        let pair = Self {
            barman: RefCell::new(Peer::start(PEER)?),
            cloud: cloud?,
            home: tempfile::Builder::new()
                .prefix("pair.")
                .tempdir_in("/tmp")
                .expect("a directory"),
            words: BTreeMap::new(),
        };
        for whose in Whose::BOTH {
            pair.cloud.create_bucket(whose.bucket());
            std::fs::create_dir(pair.out(whose)).expect("a directory");
        }
        Some(pair)
    }

    /// The directory `{out}`.
    pub(crate) fn out(&self, whose: Whose) -> PathBuf {
        self.home.path().join(whose.bucket())
    }

    /// A directory for both.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The URL of what is one's.
    pub(crate) fn url(&self, whose: Whose) -> String {
        self.cloud.url(whose.bucket(), PREFIX)
    }

    async fn store(&self, whose: Whose) -> SharedStore {
        self.cloud.store(whose.bucket(), PREFIX).await
    }

    /// Stores the same for both.
    pub(crate) async fn put(&self, key: &str, content: impl Into<Bytes>) {
        let content = content.into();
        for whose in Whose::BOTH {
            let store = self.store(whose).await;
            let key = Key::verbatim(key);
            let put = store.put(&key, content.clone(), PutOptions::default());
            put.await.expect("stored");
        }
    }

    /// What one has below a prefix of its path.
    pub(crate) async fn objects(&self, whose: Whose, prefix: &str) -> BTreeMap<String, Bytes> {
        let store = self.store(whose).await;
        let listed: Vec<_> = store.list_all(prefix).try_collect().await.expect("a list");
        let mut objects = BTreeMap::new();
        for object in listed {
            let content = store.get_bytes(&object.key).await.expect("an object");
            objects.insert(object.key.to_string(), content);
        }
        objects
    }

    /// Removes what both have below a prefix.
    pub(crate) async fn clear(&self, prefix: &str) {
        for whose in Whose::BOTH {
            let store = self.store(whose).await;
            let listed: Vec<_> = store.list_all(prefix).try_collect().await.expect("a list");
            let keys: Vec<_> = listed.into_iter().map(|object| object.key).collect();
            for deleted in store.delete(&keys).await {
                deleted.outcome.expect("deleted");
            }
        }
    }

    /// The tags of an object, where the store can be asked for them by anyone.
    pub(crate) fn tags(&self, whose: Whose, key: &str) -> BTreeSet<String> {
        let (bucket, key) = (whose.bucket(), format!("{PREFIX}/{key}"));
        match &self.cloud {
            Cloud::Moto(server) => {
                let told = server.send("GET", &format!("/{bucket}/{key}?tagging"), "", "");
                let tags = told.split("<Tag>").skip(1);
                tags.map(|tag| tag.split("</Tag>").next().unwrap_or_default().to_owned())
                    .collect()
            }
            Cloud::Gcs(server) => {
                let path = format!("/storage/v1/b/{bucket}/o/{}", key.replace('/', "%2F"));
                let told: Value =
                    serde_json::from_str(&server.send("GET", &path, "")).expect("JSON");
                let tags = told["metadata"].as_object().into_iter().flatten();
                tags.map(|(name, value)| format!("{name}={value}"))
                    .collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// The lines of a table that mean anything here.
    pub(crate) fn cases(&self, table: &str) -> Vec<Case> {
        let mut cases = cases(table);
        cases.retain(|case| self.cloud.takes(&case.line));
        cases
    }

    /// Runs both, at the same time, and compares how they ended. The first is Barman's.
    pub(crate) fn run(&self, case: &Case) -> [Ran; 2] {
        let ours = started(&self.case(Whose::Ours, case), &self.out(Whose::Ours));
        let theirs = self.run_one(Whose::Theirs, case);
        let ran = [theirs, Ran::ended(ours)];
        self.compare(case, &ran);
        ran
    }

    /// Runs one of them.
    pub(crate) fn run_one(&self, whose: Whose, case: &Case) -> Ran {
        let (filled, directory) = (self.case(whose, case), self.out(whose));
        match whose {
            Whose::Theirs => Ran::barman(&mut self.barman.borrow_mut(), &filled, &directory),
            Whose::Ours => Ran::barkeep(&filled, &directory),
        }
    }

    /// Whether a row of the table of quirks tells the two apart.
    pub(crate) fn differs(&self, case: &Case) -> bool {
        !self.cloud.expected(&case.differs).is_empty()
    }

    fn compare(&self, case: &Case, [theirs, ours]: &[Ran; 2]) {
        let line = format!("{}: {}", self.cloud.endpoint(), case.line);
        assert_eq!(ours.stdout, theirs.stdout, "{line}");
        if let Some(row) = case.row {
            let is_there = QUIRKS.contains(&format!("\n| {row} |"));
            assert!(is_there, "{line}: there is no row {row}");
        }
        if self.differs(case) {
            let told = "this row no longer tells them apart";
            assert_ne!(ours.code, theirs.code, "{line}: {told}");
            return;
        }
        assert_eq!(ours.code, theirs.code, "{line}: {ours:?} {theirs:?}");
        let is_foreseen =
            !theirs.stderr.contains("Traceback") && !theirs.stderr.starts_with("usage:");
        if is_foreseen {
            // Barman may tell one error twice, in other words.
            let (mine, told) = (ours.told(), theirs.told());
            let is_known = mine.iter().all(|error| told.contains(error));
            let is_same = is_known && mine.is_empty() == told.is_empty();
            assert!(is_same, "{line}: {ours:?} {theirs:?}");
        }
        if theirs.code == 0 && theirs.stderr.is_empty() {
            assert_eq!(ours.stderr, "", "{line}");
        }
    }

    /// A case as one of them runs it.
    fn case(&self, whose: Whose, case: &Case) -> Filled {
        let mut filled = case.filled(&|word| self.filled(whose, word));
        filled.lead_to(&self.cloud);
        filled
    }

    fn filled(&self, whose: Whose, word: &str) -> String {
        let url = self.url(whose);
        let out = self.out(whose).display().to_string();
        let endpoint = self.cloud.endpoint();
        let known = [
            ("{url}", url.as_str()),
            ("{bucket}", whose.bucket()),
            ("{out}", out.as_str()),
            ("{endpoint}", endpoint.as_str()),
            // Nobody listens there.
            ("{nowhere}", "http://127.0.0.1:9"),
        ];
        let more = self
            .words
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let fill = |text: String, (name, value): (&str, &str)| text.replace(name, value);
        // Those may hold the known ones.
        more.chain(known).fold(self.cloud.translated(word), fill)
    }
}

#[test]
fn at_least_so_many_command_lines_move_data() {
    let tables = [
        include_str!("cases/backup.txt"),
        include_str!("cases/restore.txt"),
        include_str!("cases/wal-archive.txt"),
        include_str!("cases/wal-restore.txt"),
    ];
    let counts = tables.map(|table| cases(table).len());
    assert!(counts.iter().sum::<usize>() >= 250, "{counts:?}");
}

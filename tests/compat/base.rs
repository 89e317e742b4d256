//! `barman-cloud-backup` and `barman-cloud-restore` on a real server: what is recorded, what the archives hold, what is restored.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufReader, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use barkeep::{
    format::{
        backup_info::BackupInfo,
        keys::{BaseObject, ObjectKey},
        python::Value,
    },
    pipeline::{
        compress::Decoder,
        untar::{EntryKind, Reader},
    },
};
use bytes::Bytes;

use crate::{
    case::{Case, cases},
    pair::{Pair, Whose},
    support::{
        backup::{fill, fill_tablespace},
        cloud::Cloud,
        cluster::Cluster,
    },
};

/// What no two backups have in common.
const OF_ITS_OWN: [&str; 11] = [
    "backup_label",
    "begin_offset",
    "begin_time",
    "begin_wal",
    "begin_xlog",
    "cluster_size",
    "copy_stats",
    "end_offset",
    "end_time",
    "end_wal",
    "end_xlog",
];

/// A server with a tablespace, and the words that lead to it.
pub(crate) fn pair(cloud: Option<Cloud>) -> Option<(Pair, Cluster)> {
    let mut cluster = Cluster::create(17)?;
    let mut pair = Pair::start(cloud)?;
    // What it does between two backups would tell them apart.
    cluster.configure(&[("autovacuum", "off")]);
    cluster.start();
    fill_tablespace(&cluster);
    fill(&cluster);
    cluster.sql("CHECKPOINT");
    let socket = cluster.socket_directory().display().to_string();
    let port = cluster.port();
    let words = &mut pair.words;
    words.insert("{pg}", format!("--host={socket}"));
    words.insert("{socket}", socket);
    words.insert("{port}", port.to_string());
    Some((pair, cluster))
}

/// `{pg}` is three words.
pub(crate) fn with_server(line: &str) -> String {
    line.replace("{pg}", "{pg} --port={port} --user=postgres")
}

/// A backup as it lies in a bucket.
struct Stored {
    info: BackupInfo,
    /// By the name of a directory's archives, `data.tar.gz` say: the entries of all of them.
    entries: BTreeMap<String, BTreeMap<String, Entry>>,
}

/// An entry of an archive, as far as two backups must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: EntryKindOnly,
    mode: u32,
    gid: u32,
    /// Of configuration and the version only: the rest changes while the server runs.
    content: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKindOnly {
    File,
    Directory,
    Other,
}

async fn stored(pair: &Pair, whose: Whose, server: &str) -> Vec<(String, Stored)> {
    let mut backups: BTreeMap<String, Stored> = BTreeMap::new();
    let objects = pair.objects(whose, &format!("{server}/base/")).await;
    // The record first.
    for is_info in [true, false] {
        for (key, content) in &objects {
            let object = ObjectKey::parse(&key[server.len() + 1..]);
            match object {
                ObjectKey::Base(id, BaseObject::Info) if is_info => {
                    let info = BackupInfo::parse(content).expect("a record");
                    let entries = BTreeMap::new();
                    backups.insert(id.to_string(), Stored { info, entries });
                }
                ObjectKey::Base(id, BaseObject::Archive(name)) if !is_info => {
                    let extension = name.compression.extension();
                    let root = format!("{}.tar{extension}", name.root);
                    let backup = backups.get_mut(id.as_str()).expect("its record");
                    let all = backup.entries.entry(root).or_default();
                    all.extend(entries(name.compression, content));
                }
                ObjectKey::Base(_, BaseObject::Info | BaseObject::Archive(_)) => {}
                other => panic!("{key}: {other}"),
            }
        }
    }
    backups.into_iter().collect()
}

fn entries(
    compression: barkeep::model::compression::Compression,
    content: &Bytes,
) -> BTreeMap<String, Entry> {
    let source = Decoder::new(compression, BufReader::new(&content[..])).expect("a stream");
    let mut reader = Reader::new(source);
    let mut entries = BTreeMap::new();
    while let Some(entry) = reader.next_entry().expect("a whole archive") {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).expect("the content");
        let name = String::from_utf8(entry.name).expect("a name");
        let of_stable = ["postgresql.conf", "pg_hba.conf", "PG_VERSION"];
        let is_stable = of_stable.iter().any(|stable| name.ends_with(stable));
        let kind = match entry.kind {
            EntryKind::File => EntryKindOnly::File,
            EntryKind::Directory => EntryKindOnly::Directory,
            _ => EntryKindOnly::Other,
        };
        let told = Entry {
            kind,
            mode: entry.mode & 0o7777,
            gid: entry.gid,
            content: is_stable.then_some(content),
        };
        entries.insert(name, told);
    }
    // Row 23: Barman's label has another mode and owner.
    if let Some(label) = entries.get_mut("backup_label") {
        (label.mode, label.gid) = (0o600, 0);
    }
    entries
}

/// How many archives Barman sends at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uploads {
    AsAsked,
    OneAtATime,
}

/// Compares what two backups came to.
fn compare(line: &str, [theirs, ours]: [&Stored; 2], uploads: Uploads) {
    let fields = |stored: &Stored| -> BTreeMap<&str, Option<String>> {
        let fields = barkeep::format::backup_info::FIELDS.into_iter();
        let fields = fields.filter(|field| !OF_ITS_OWN.contains(field));
        let text = |field| stored.info.get(field).map(str::to_owned);
        fields.map(|field| (field, text(field))).collect()
    };
    assert_eq!(fields(ours), fields(theirs), "{line}");
    let lines = |stored: &Stored| -> Vec<String> {
        let text = stored.info.render();
        text.lines()
            .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
            .collect()
    };
    assert_eq!(lines(ours), lines(theirs), "{line}");
    let (mut theirs_told, ours_told) = (statistics(theirs), statistics(ours));
    if let (Some((_, theirs)), Some((_, ours))) = (&mut theirs_told, &ours_told)
        && uploads == Uploads::OneAtATime
        && theirs.as_deref() == Some("1")
    {
        theirs.clone_from(ours);
    }
    assert_eq!(ours_told, theirs_told, "{line}");
    let roots = |stored: &Stored| -> BTreeSet<String> { stored.entries.keys().cloned().collect() };
    assert_eq!(roots(ours), roots(theirs), "{line}");
    for (root, theirs) in &theirs.entries {
        let ours = &ours.entries[root];
        let names = |entries: &BTreeMap<String, Entry>| -> BTreeSet<String> {
            entries.keys().cloned().collect()
        };
        let odd: Vec<_> = names(ours)
            .symmetric_difference(&names(theirs))
            .cloned()
            .collect();
        assert!(
            odd.is_empty(),
            "{line}: only one of both has {odd:?} in {root}"
        );
        for (name, theirs) in theirs {
            assert_eq!(&ours[name], theirs, "{line}: {root}: {name}");
        }
    }
}

/// The keys of the statistics, with the one number that was asked for.
fn statistics(stored: &Stored) -> Option<(Vec<String>, Option<String>)> {
    let statistics = stored.info.literal("copy_stats").expect("a literal")?;
    let Value::Dict(pairs) = &statistics else {
        panic!("{statistics}");
    };
    let keys = pairs.iter().map(|(key, _)| key.to_string()).collect();
    let workers = statistics.get("number_of_workers").map(Value::to_string);
    Some((keys, workers))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backup_is_recorded_and_holds_the_same() {
    for cloud in Cloud::EACH {
        let Some((pair, _cluster)) = pair(cloud()) else {
            return;
        };
        backed_up(pair).await;
    }
}

async fn backed_up(mut pair: Pair) {
    let mut all = pair.cases(&with_server(include_str!("cases/backup.txt")));
    if !matches!(pair.cloud, Cloud::Moto(_)) {
        all.retain(|case| is_about_the_store(&case.line));
    }
    let uploads = match pair.cloud {
        Cloud::Gcs(_) | Cloud::GcsEmulator(_) => Uploads::OneAtATime,
        _ => Uploads::AsAsked,
    };
    pair.run(&all[0]);
    let hook = on_disk(&pair, "srv01").await;
    pair.words.insert("{hook}", hook);
    for case in &all[1..] {
        let [theirs, _] = pair.run(case);
        let server = server(&case.line);
        let [theirs_stored, ours_stored] = [
            stored(&pair, Whose::Theirs, server).await,
            stored(&pair, Whose::Ours, server).await,
        ];
        if server == "srv" {
            // What failed late may leave a record that says so with Barman; ours leaves nothing but that.
            assert!(ours_stored.is_empty(), "{}", case.line);
            continue;
        }
        assert_eq!((theirs.code, ours_stored.len()), (0, 1), "{}", case.line);
        let both = [&theirs_stored[0].1, &ours_stored[0].1];
        compare(&case.line, both, uploads);
        if server.starts_with("srv3") {
            assert_eq!(ours_stored[0].0, "20260101T000000");
        }
        // Some servers keep everything in memory.
        pair.clear(&format!("{server}/")).await;
    }
}

/// The server that a line is about.
fn server(line: &str) -> &str {
    let server = line.split(' ').find(|word| word.starts_with("srv"));
    server.unwrap_or("srv")
}

/// Whether what comes of a line depends on the store. What cannot be meant, or is wrong with the server, is so everywhere.
fn is_about_the_store(line: &str) -> bool {
    server(line) != "srv" || line.contains("no-such-bucket")
}

/// A backup as a Barman server keeps it: its files, and its record.
async fn on_disk(pair: &Pair, server: &str) -> String {
    let hook = pair.home().join("hook");
    let line = format!(
        "barman-cloud-restore --tablespace space:{0}/space {{url}} {server} auto {0}/data",
        hook.display()
    );
    let restored = pair.run_one(Whose::Ours, &cases(&line)[0]);
    assert_eq!(restored.code, 0, "{restored:?}");
    let objects = pair.objects(Whose::Ours, &format!("{server}/base/")).await;
    let (_, info) = objects
        .iter()
        .find(|(key, _)| key.ends_with("backup.info"))
        .expect("a record");
    let text = String::from_utf8(info.to_vec()).expect("a text");
    let spaces = BackupInfo::parse(info).expect("a record").tablespaces();
    let oid = spaces.expect("tablespaces")[0].oid;
    fs::rename(hook.join("space"), hook.join(oid.to_string())).expect("a directory");
    let text = text.replace("server_name=cloud", "server_name=main");
    fs::write(hook.join("backup.info"), &text).expect("a file");
    let compressed = text.replace("compression=None", "compression=gzip");
    fs::write(hook.join("compressed.info"), compressed).expect("a file");
    hook.display().to_string()
}

/// What lies in a directory: by path, kind, mode, owner and content.
fn tree(root: &Path) -> BTreeMap<String, (u32, u32, Vec<u8>)> {
    let mut tree = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let content = if metadata.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
            Vec::new()
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            let name = target.file_name().expect("a name");
            name.as_encoded_bytes().to_vec()
        } else {
            fs::read(&path).expect("a file")
        };
        let relative = path
            .strip_prefix(root)
            .expect("below")
            .display()
            .to_string();
        let mode = metadata.permissions().mode();
        tree.insert(relative, (mode, metadata.uid(), content));
    }
    tree
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_restores_the_same_from_either() {
    for cloud in Cloud::EACH {
        let Some((pair, _cluster)) = pair(cloud()) else {
            return;
        };
        restored(pair).await;
    }
}

async fn restored(mut pair: Pair) {
    for (server, option) in [
        ("full", "--name nightly"),
        ("full", ""),
        ("gz", "-z"),
        ("one", "-J1"),
    ] {
        let line =
            format!("barman-cloud-backup {{pg}} --immediate-checkpoint {option} {{url}} {server}");
        pair.run(&cases(&with_server(&line))[0]);
        // Ids are seconds.
        std::thread::park_timeout(std::time::Duration::from_millis(1100));
    }
    let segment = "gz/wals/0000000100000000/000000010000000000000001";
    pair.put(segment, "x").await;
    let full = pair.home().join("full");
    fs::create_dir(&full).expect("a directory");
    fs::write(full.join("file"), "x").expect("a file");
    pair.words.insert("{full}", full.display().to_string());
    pair.words
        .insert("{rule}", "--tablespace=space:{out}/space".to_owned());
    for whose in Whose::BOTH {
        let ids = |server: &'static str| {
            let pair = &pair;
            async move {
                let stored = stored(pair, whose, server).await;
                stored
                    .into_iter()
                    .map(|(id, _)| id)
                    .next_back()
                    .expect("a backup")
            }
        };
        let (full, gz, one) = (ids("full").await, ids("gz").await, ids("one").await);
        if whose == Whose::Theirs {
            // Later than all others, and failed: for both buckets.
            let failed = "status=FAILED\nversion=170000\npgdata=/x\ntimeline=1\n";
            pair.put("full/base/20360101T000000/backup.info", failed)
                .await;
        }
        let from = pair.url(whose);
        let words = &mut pair.words;
        words.insert("{from}", from);
        words.insert("{id}", full);
        words.insert("{gzid}", gz);
        words.insert("{oneid}", one);
        for case in pair.cases(include_str!("cases/restore.txt")) {
            check(&pair, &case);
        }
    }
}

fn check(pair: &Pair, case: &Case) {
    let ended = pair.run(case);
    let outs = Whose::BOTH.map(|whose| tree(&pair.out(whose)));
    for whose in Whose::BOTH {
        fs::remove_dir_all(pair.out(whose)).expect("our own directory");
        fs::create_dir(pair.out(whose)).expect("a directory");
    }
    let [theirs, ours] = outs;
    if ended[0].code != 0 || pair.differs(case) {
        return;
    }
    let names = |tree: &BTreeMap<String, (u32, u32, Vec<u8>)>| -> Vec<String> {
        tree.keys().cloned().collect()
    };
    assert_eq!(names(&ours), names(&theirs), "{}", case.line);
    for (name, (mode, owner, content)) in &theirs {
        let mine = &ours[name];
        let label = name.ends_with("backup_label");
        assert!(*content == mine.2, "{}: {name}", case.line);
        // What no archive describes is as the process makes it; row 23 is about the label's owner.
        let is_link = mode & 0o170_000 == 0o120_000;
        let is_ours = is_link || ["", "x", "space", "x/y", "x/y/z"].contains(&name.as_str());
        if !label && !is_ours {
            assert_eq!((mine.0, mine.1), (*mode, *owner), "{}: {name}", case.line);
        }
    }
}

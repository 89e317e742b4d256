//! A destination with a configuration, gone with the value that stands for them.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    ran::{Ran, Running},
    text,
};
use crate::support::{bed::bed, cloud::Cloud, s3::Server};

/// The program.
pub(crate) const BARKEEP: &str = env!("CARGO_BIN_EXE_barkeep");

const BUCKET: &str = "backups";

/// What kind of destination a place has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// S3 that checks signatures and checksums.
    Strict,
    /// S3 that knows what it does not finish: uploads can be listed.
    Moto,
    /// Azure Blob.
    #[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
    Azure,
    /// Google Cloud Storage.
    #[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
    Gcs,
}

/// A destination, a configuration, and the program that is run with it.
pub(crate) struct Place {
    directory: TempDir,
    cloud: Option<Cloud>,
    /// Where copies go.
    others: Vec<Cloud>,
    kind: Kind,
    /// More keys of the destination.
    limits: &'static str,
}

impl Place {
    /// A place without anything in it; `None` after saying what is missing.
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        let cloud = match kind {
            Kind::Directory => None,
            Kind::Strict => Some(Cloud::s3s()?),
            Kind::Moto => Some(Cloud::moto()?),
            #[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
            Kind::Azure => Some(Cloud::azurite()?),
            #[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
            Kind::Gcs => Some(Cloud::gcs()?),
        };
        if let Some(cloud) = &cloud {
            cloud.create_bucket(BUCKET);
        }
        let directory = tempfile::Builder::new().prefix("e2e.").tempdir_in("/tmp");
        let place = Self {
            directory: directory.expect("a directory in /tmp"),
            cloud,
            others: Vec::new(),
            kind,
            limits: "",
        };
        fs::create_dir(place.path("store")).expect("mkdir");
        bed().give(place.directory.path());
        Some(place)
    }

    /// A path in the place's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The destination's URL.
    pub(crate) fn url(&self) -> String {
        match &self.cloud {
            None => format!("file://{}", self.path("store").display()),
            Some(cloud) => cloud.url(BUCKET, "prod"),
        }
    }

    /// The configuration's file.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("barkeep.toml")
    }

    /// Writes the configuration: the destination `d`, deletes without a grace unless `rest` says otherwise, and this.
    pub(crate) fn configure(&self, rest: &str) {
        let spool = self.path("spool");
        let destination = match &self.cloud {
            None => format!("url = \"{}\"", self.url()),
            Some(cloud) => destination(cloud, BUCKET),
        };
        let text = format!(
            "version = 1\n\
             [defaults]\n\
             destination = \"d\"\n\
             compression = \"lz4\"\n\
             immediate_checkpoint = true\n\
             deletes = {{ grace = \"0s\" }}\n\
             wal = {{ compression = \"zstd\", spool = \"{}\" }}\n\
             [destinations.d]\n{destination}\n{}\n\
             {rest}\n",
            spool.display(),
            self.limits
        );
        fs::write(self.config(), text).expect("write");
    }

    /// Sends this much at most, from the next configuration on.
    pub(crate) fn limit(&mut self, limits: &'static str) {
        self.limits = limits;
    }

    /// What the program and the servers find in their environment.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let clouds = self.cloud.iter().chain(&self.others);
        let credentials = clouds.flat_map(Cloud::environment);
        let credentials = credentials.map(|(name, value)| pair(name, value));
        let own = [
            pair("HOME", self.directory.path().display().to_string()),
            pair("BARKEEP_CONFIG", self.config().display().to_string()),
        ];
        own.into_iter().chain(credentials).collect()
    }

    /// The program with arguments, as the servers' user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bed().as_server(Path::new(BARKEEP));
        command.args(arguments).envs(self.environment());
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output();
        output.expect("the program starts").into()
    }

    /// Starts the program and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(command.spawn().expect("the program starts")))
    }

    /// What PostgreSQL calls for every file of its WAL.
    pub(crate) fn archive_command(&self, server: &str) -> String {
        format!(
            "{BARKEEP} --config {} wal-archive {server} %p",
            self.config().display()
        )
    }

    /// Barman's own listing of a server.
    pub(crate) fn barman_list(&self, server: &str) -> Option<Value> {
        let program = bed().get("BARMAN_BIN")?.join("barman-cloud-backup-list");
        let cloud = self.cloud.as_ref().expect("Barman knows no directories");
        let mut command = Command::new(program);
        command
            .envs(self.environment())
            .args(cloud.options())
            .args(["--format", "json"])
            .args([&cloud.url(BUCKET, "prod"), server]);
        let ran = Ran::from(command.output().expect("Barman starts"));
        Some(ran.exits(0).json())
    }

    /// Every object with what tells one content from another, by its key below the prefix.
    pub(crate) fn objects(&self) -> BTreeMap<String, String> {
        match (self.server(), self.kind) {
            (None, _) => files(&self.path("store")),
            (Some(server), Kind::Moto) => listed(server),
            (Some(server), _) => files(&server.data().join(BUCKET).join("prod")),
        }
    }

    /// The keys of one server's objects below one of its directories.
    pub(crate) fn keys(&self, directory: &str) -> Vec<String> {
        let objects = self.objects().into_keys();
        objects.filter(|key| key.starts_with(directory)).collect()
    }

    /// Everything that can be seen to change in the destination, by writing or even by replacing something with its like.
    pub(crate) fn frozen(&self) -> BTreeMap<String, String> {
        match (self.server(), self.kind) {
            (None, _) => everything(&self.path("store")),
            (Some(server), Kind::Moto) => listed(server),
            (Some(server), _) => everything(server.data()),
        }
    }

    /// What kind of destination it has.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The uploads that were begun and not ended.
    pub(crate) fn uploads(&self) -> Vec<String> {
        let Some(server) = self.server() else {
            let mut files = self.keys("");
            files.retain(|key| key.contains("/.barkeep-upload."));
            return files;
        };
        assert_eq!(self.kind, Kind::Moto, "the strict server cannot list them");
        let answer = server.send("GET", &format!("/{BUCKET}?uploads"), "", "");
        let keys = between(&answer, "<Key>", "</Key>");
        keys.into_iter().map(str::to_owned).collect()
    }

    /// Takes objects away, behind everybody's back.
    pub(crate) fn remove(&self, directory: &str) {
        for key in self.keys(directory) {
            match (self.server(), self.kind) {
                (None, _) => fs::remove_file(self.path("store").join(key)).expect("removed"),
                (Some(server), Kind::Moto) => {
                    server.send("DELETE", &format!("/{BUCKET}/prod/{key}"), "", "");
                }
                (Some(server), _) => {
                    let path = server.data().join(BUCKET).join("prod").join(key);
                    fs::remove_file(path).expect("removed");
                }
            }
        }
    }

    /// A file of the directory that is the destination.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        assert_eq!(self.kind, Kind::Directory);
        self.path("store").join(key)
    }

    /// The S3 server; `None` where the destination is a directory.
    pub(crate) fn server(&self) -> Option<&Server> {
        match self.cloud.as_ref()? {
            Cloud::Moto(server) | Cloud::S3s(server) => Some(server),
            _ => panic!("it does not speak S3"),
        }
    }

    /// The S3 server, to be killed and revived.
    pub(crate) fn s3(&mut self) -> &mut Server {
        match &mut self.cloud {
            Some(Cloud::Moto(server) | Cloud::S3s(server)) => server,
            _ => panic!("it does not speak S3"),
        }
    }

    /// The backups that `list` knows of a server, oldest first.
    #[track_caller]
    pub(crate) fn backups(&self, server: &str) -> Vec<Value> {
        let ran = self.run(&["list", "--format", "json", server]).exits(0);
        let listed = ran.json()["catalogs"][0]["backups"].clone();
        serde_json::from_value(listed).expect("an array")
    }

    /// The ids of those that have a status.
    #[track_caller]
    pub(crate) fn ids(&self, server: &str, status: &str) -> Vec<String> {
        let of = |backup: &Value| backup["status"] == status;
        let backups = self.backups(server).into_iter().filter(of);
        let id = |backup: Value| backup["id"].as_str().expect("an id").to_owned();
        backups.map(id).collect()
    }
}

/// What only scenes on all clouds need.
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
impl Place {
    /// What the configuration says of a destination on another server, which is part of the place from now on.
    pub(crate) fn beside(&mut self, cloud: Cloud, bucket: &str) -> String {
        let destination = destination(&cloud, bucket);
        self.others.push(cloud);
        destination
    }

    /// What the configuration says of a destination in another bucket of the same server.
    pub(crate) fn another_bucket(&self, bucket: &str) -> String {
        let cloud = self.cloud.as_ref().expect("a cloud");
        cloud.create_bucket(bucket);
        destination(cloud, bucket)
    }

    /// Holds an object on Google Cloud, or releases it.
    pub(crate) fn hold(&self, key: &str, is_held: bool) {
        let Some(Cloud::Gcs(server)) = &self.cloud else {
            panic!("it is elsewhere");
        };
        let name = format!("prod/{key}").replace('/', "%2F");
        let hold = format!("{{\"temporaryHold\": {is_held}}}");
        let object = format!("/storage/v1/b/{BUCKET}/o/{name}");
        server.send("PATCH", &object, &hold);
    }
}

/// What the configuration says of a destination.
fn destination(cloud: &Cloud, bucket: &str) -> String {
    let url = cloud.url(bucket, "prod");
    let provider = match cloud {
        Cloud::Moto(server) | Cloud::S3s(server) => format!(
            "s3 = {{ endpoint_url = \"{}\", region = \"us-east-1\", addressing_style = \"path\" }}",
            server.url()
        ),
        _ => String::new(),
    };
    format!("url = \"{url}\"\n{provider}")
}

fn files(root: &Path) -> BTreeMap<String, String> {
    let all = everything(root);
    let is_file = |path: &String| root.join(path).is_file();
    all.into_iter().filter(|(path, _)| is_file(path)).collect()
}

/// Files and directories with inode, times and content.
fn everything(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let mut hasher = DefaultHasher::new();
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            fs::read(&path).expect("a file").hash(&mut hasher);
        }
        let (inode, changed) = (metadata.ino(), metadata.mtime_nsec());
        let mark = format!(
            "{inode} {}.{changed} {:x}",
            metadata.mtime(),
            hasher.finish()
        );
        let name = path.strip_prefix(root).expect("below the root");
        found.insert(text(name), mark);
    }
    found
}

fn listed(server: &Server) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let query = format!("/{BUCKET}?list-type=2&prefix=prod/&max-keys=1000");
    let answer = server.send("GET", &query, "", "");
    assert!(answer.contains("<IsTruncated>false<"), "too many objects");
    for entry in between(&answer, "<Contents>", "</Contents>") {
        let key = between(entry, "<Key>", "</Key>")[0];
        let key = key.strip_prefix("prod/").expect("below the prefix");
        found.insert(key.to_owned(), entry.to_owned());
    }
    found
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let pieces = text.split(open).skip(1);
    pieces
        .filter_map(|piece| Some(piece.split_once(close)?.0))
        .collect()
}

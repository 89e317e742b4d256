//! What the plugin's sidecar does, in its order: command lines, environment, spool, markers, and what it makes of exit codes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::place::{Place, Ran};

/// The name of the server in the catalog: that of the Kubernetes cluster.
pub(crate) const SERVER: &str = "cluster-example";

/// The configuration of an `ObjectStore`, as far as it becomes arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectStore {
    pub(crate) wal_compression: Option<&'static str>,
    pub(crate) data_compression: Option<&'static str>,
    pub(crate) encryption: Option<&'static str>,
    pub(crate) tags: &'static [&'static str],
    pub(crate) history_tags: &'static [&'static str],
    pub(crate) jobs: Option<u32>,
    pub(crate) immediate_checkpoint: bool,
    pub(crate) backup_arguments: &'static [&'static str],
    /// Of WAL, both ways.
    pub(crate) max_parallel: usize,
    pub(crate) restore_arguments: &'static [&'static str],
}

/// A status of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    NotFound,
    OutOfRange,
    InvalidArgument,
    Unavailable,
    Internal,
}

/// The sidecar of one Pod.
pub(crate) struct Plugin<'a> {
    pub(crate) place: &'a Place,
    pub(crate) object_store: ObjectStore,
    /// Whether PostgreSQL could stream instead.
    pub(crate) can_stream: bool,
    pub(crate) endpoint: String,
    pub(crate) bucket: &'static str,
}

impl<'a> Plugin<'a> {
    pub(crate) fn new(place: &'a Place, object_store: ObjectStore) -> Self {
        Self {
            endpoint: place.store.url(),
            place,
            object_store,
            can_stream: false,
            bucket: "backups",
        }
    }

    pub(crate) fn pgdata(&self) -> PathBuf {
        self.place.cluster.pgdata()
    }

    pub(crate) fn spool(&self, name: &str) -> PathBuf {
        self.place.controller().join("wal-restore-spool").join(name)
    }

    /// The Pod's variables and the credentials.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let cluster = &self.place.cluster;
        let path = |path: PathBuf| path.display().to_string();
        let controller = self.place.controller();
        let variables = [
            ("PGDATA", path(self.pgdata())),
            ("PGHOST", path(cluster.socket_directory().to_owned())),
            ("PGPORT", cluster.port().to_string()),
            ("TMPDIR", path(controller.join("tmp"))),
            ("POD_NAME", format!("{SERVER}-1")),
            ("NAMESPACE", "default".to_owned()),
            ("CLUSTER_NAME", SERVER.to_owned()),
            ("SPOOL_DIRECTORY", path(self.spool(""))),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "testkey".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "testsecret1".to_owned()),
            // So that an outage takes a test no longer than it must.
            ("AWS_MAX_ATTEMPTS", "1".to_owned()),
        ];
        let pairs = variables.into_iter();
        pairs
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn endpoint_words(&self) -> Vec<String> {
        words(&["--endpoint-url", &self.endpoint])
    }

    /// The provider, the destination and the server.
    fn place_words(&self) -> Vec<String> {
        let url = format!("s3://{}/some/path", self.bucket);
        words(&["--cloud-provider", "aws-s3", &url, SERVER])
    }

    fn run(&self, program: &str, arguments: &[Vec<String>]) -> Ran {
        let arguments = arguments.concat();
        let mut command = self.place.command(program, &arguments, &self.environment());
        Ran::from(command.output().expect("the command can be started"))
    }

    // ---- WAL -----------------------------------------------------------------------------------

    /// `WAL.Archive`: the file that was asked for and others that wait, at once; those leave markers.
    pub(crate) fn archive(&self, wal: &str) -> Result<(), String> {
        let flag = self.pgdata().join(".check-empty-wal-archive");
        if flag.exists() {
            self.check_wal_archive()?;
        }
        let marker = self.spool(wal);
        if marker.exists() {
            fs::remove_file(marker).expect("our own marker");
            return Ok(());
        }
        let mut list = vec![wal.to_owned()];
        list.extend(self.waiting().into_iter().filter(|other| other != wal));
        list.truncate(self.object_store.max_parallel.max(1));
        let mut running = Vec::new();
        for name in &list {
            running.push(self.start_archive(name));
        }
        let mut failed = None;
        for (index, (name, child)) in list.iter().zip(running).enumerate() {
            let ran = Ran::from(child.wait_with_output().expect("it ends"));
            if ran.code != 0 {
                failed = Some(format!("{name}: {ran:?}"));
                continue;
            }
            assert_eq!(ran.stdout, "");
            let _removed = fs::remove_file(&flag);
            if index > 0 {
                fs::write(self.spool(name), "").expect("a marker");
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The segments that PostgreSQL has marked, in the order of their names.
    fn waiting(&self) -> Vec<String> {
        let entries = fs::read_dir(self.pgdata().join("pg_wal/archive_status"));
        let entries = entries.expect("a directory").filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names
            .filter_map(|name| name.strip_suffix(".ready").map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    fn start_archive(&self, name: &str) -> Child {
        let store = &self.object_store;
        let path = self.pgdata().join("pg_wal").join(name);
        let mut arguments = flag(store.wal_compression);
        arguments.extend(option("-e", store.encryption));
        arguments.extend(self.endpoint_words());
        arguments.extend(list("--tags", store.tags));
        arguments.extend(list("--history-tags", store.history_tags));
        arguments.extend(self.place_words());
        arguments.push(path.display().to_string());
        let environment = self.environment();
        let mut command = self
            .place
            .command("barman-cloud-wal-archive", &arguments, &environment);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command can be started")
    }

    /// The archive of a new server must be empty.
    pub(crate) fn check_wal_archive(&self) -> Result<(), String> {
        let arguments = vec![self.endpoint_words(), self.place_words()];
        let ran = self.run("barman-cloud-check-wal-archive", &arguments);
        match ran.code {
            0 => Ok(()),
            _ => Err(format!("{ran:?}")),
        }
    }

    /// The words of one `barman-cloud-wal-restore`.
    pub(crate) fn restore_words(&self, wal: &str, to: &str) -> Vec<String> {
        let mut arguments = self.endpoint_words();
        arguments.extend(self.place_words());
        // Between the positional arguments.
        arguments.extend(words(self.object_store.restore_arguments));
        arguments.extend(words(&[wal, to]));
        arguments
    }

    /// `WAL.Restore`: from the spool, or the file and the next ones at once.
    pub(crate) fn restore(&self, wal: &str, to: &Path) -> Status {
        let spooled = self.spool(wal);
        if spooled.exists() {
            fs::copy(&spooled, to).expect("a copy");
            fs::remove_file(spooled).expect("our own directory");
            return Status::Ok;
        }
        let end_of_wal = self.spool("end-of-wal-stream");
        if self.can_stream && end_of_wal.exists() {
            fs::remove_file(end_of_wal).expect("our own flag");
            return Status::OutOfRange;
        }
        let mut list = vec![wal.to_owned()];
        if is_segment(wal) {
            list.extend(following(wal).take(self.object_store.max_parallel.saturating_sub(1)));
        }
        let start = |(index, name): (usize, &String)| {
            let beside = self.spool(&format!("{name}.tmp"));
            let to = if index == 0 { to } else { &beside };
            let arguments = self.restore_words(name, &to.display().to_string());
            let mut command =
                self.place
                    .command("barman-cloud-wal-restore", &arguments, &self.environment());
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().expect("the command can be started")
        };
        let running: Vec<_> = list.iter().enumerate().map(start).collect();
        let ended = running.into_iter().map(|child| {
            let ran = child.wait_with_output().expect("it ends");
            Ran::from(ran)
        });
        let ended: Vec<_> = ended.collect();
        for (name, ran) in list.iter().zip(&ended).skip(1) {
            match ran.code {
                0 => fs::rename(self.spool(&format!("{name}.tmp")), self.spool(name))
                    .expect("what a success has left"),
                1 if self.can_stream => {
                    fs::write(&end_of_wal, "").expect("a flag");
                }
                _ => {}
            }
        }
        status(ended[0].code)
    }

    // ---- Backups -------------------------------------------------------------------------------

    /// `Backup.Backup`, and what the plugin reads of it afterwards.
    pub(crate) fn backup(&self, name: &str) -> Result<Value, Ran> {
        let ran = Ran::from(
            self.backup_command(name)
                .output()
                .expect("it can be started"),
        );
        if ran.code != 0 {
            return Err(ran);
        }
        let arguments = vec![
            words(&["--format", "json"]),
            self.endpoint_words(),
            self.place_words(),
            words(&[name]),
        ];
        let shown = self.run("barman-cloud-backup-show", &arguments);
        let shown = document(&shown);
        Ok(shown["cloud"].clone())
    }

    pub(crate) fn backup_command(&self, name: &str) -> std::process::Command {
        let store = &self.object_store;
        let mut arguments = words(&["--user", "postgres", "--name", name]);
        arguments.extend(flag(store.data_compression));
        arguments.extend(option("--encryption", store.encryption));
        if store.immediate_checkpoint {
            arguments.extend(words(&["--immediate-checkpoint"]));
        }
        let jobs = store.jobs.map(|jobs| jobs.to_string());
        arguments.extend(option("--jobs", jobs.as_deref()));
        arguments.extend(words(store.backup_arguments));
        arguments.extend(list("--tags", store.tags));
        arguments.extend(self.endpoint_words());
        arguments.extend(self.place_words());
        let mut environment = self.environment();
        let temporary = self.place.controller().join("backup");
        environment.insert("TMPDIR".to_owned(), temporary.display().to_string());
        self.place
            .command("barman-cloud-backup", &arguments, &environment)
    }

    /// The catalog as the plugin reads it.
    pub(crate) fn list(&self) -> Vec<Value> {
        let arguments = vec![
            words(&["--format", "json"]),
            self.endpoint_words(),
            self.place_words(),
        ];
        let listed = self.run("barman-cloud-backup-list", &arguments);
        let listed = document(&listed);
        listed["backups_list"].as_array().expect("a list").clone()
    }

    /// The restore job: the first WAL must be there, then the backup goes into the directory.
    pub(crate) fn restore_job(&self, backup: &Value, directory: &Path) -> Result<(), Ran> {
        let probe = self.place.controller().join("recovery/test.wal");
        let begin = backup["begin_wal"].as_str().expect("a segment");
        let arguments = vec![self.restore_words(begin, &probe.display().to_string())];
        let ran = self.run("barman-cloud-wal-restore", &arguments);
        if ran.code != 0 {
            return Err(ran);
        }
        fs::remove_file(probe).expect("what a success has left");
        let id = backup["backup_id"].as_str().expect("an id");
        let url = format!("s3://{}/some/path", self.bucket);
        let arguments = vec![
            words(&["--cloud-provider", "aws-s3"]),
            self.endpoint_words(),
            words(self.object_store.restore_arguments),
            words(&[&url, SERVER, id, &directory.display().to_string()]),
        ];
        let ran = self.run("barman-cloud-restore", &arguments);
        match ran.code {
            0 => Ok(()),
            _ => Err(ran),
        }
    }

    /// One maintenance cycle: the policy, then the list.
    pub(crate) fn maintain(&self, policy: &str) -> Vec<Value> {
        let arguments = vec![
            self.endpoint_words(),
            words(&["--cloud-provider", "aws-s3", "--retention-policy", policy]),
            words(&[&format!("s3://{}/some/path", self.bucket), SERVER]),
        ];
        let ran = self.run("barman-cloud-backup-delete", &arguments);
        assert_eq!(ran.code, 0, "{ran:?}");
        self.list()
    }
}

/// What the plugin makes of an exit code.
fn status(code: i32) -> Status {
    match code {
        0 => Status::Ok,
        1 => Status::NotFound,
        2 | 4 => Status::Unavailable,
        3 => Status::InvalidArgument,
        _ => Status::Internal,
    }
}

/// The only document on standard output.
fn document(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn is_segment(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The names after a segment's, by the arithmetic of 16 MiB.
fn following(name: &str) -> impl Iterator<Item = String> + use<> {
    let number =
        |range: std::ops::Range<usize>| u64::from_str_radix(&name[range], 16).expect("hex");
    let timeline = name[..8].to_owned();
    let first = number(8..16) * 256 + number(16..24);
    (first + 1..).map(move |number| format!("{timeline}{:08X}{:08X}", number / 256, number % 256))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn flag(name: Option<&str>) -> Vec<String> {
    name.map(|name| format!("--{name}")).into_iter().collect()
}

fn option(name: &str, value: Option<&str>) -> Vec<String> {
    value.map_or_else(Vec::new, |value| words(&[name, value]))
}

fn list(name: &str, values: &[&str]) -> Vec<String> {
    if values.is_empty() {
        return Vec::new();
    }
    words(&[&[name], values].concat())
}

//! Throw-away clusters of any major version, gone with the value that stands for them, also when a test panics.
//!
//! A cluster has a directory of its own with `data`, `log`, `archive` and its socket. It listens on the socket only, unless a port on the
//! loopback is asked for. Everybody is trusted unless a test writes another `pg_hba.conf`. Nothing is synced to disk.

use std::{
    fmt::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::bed::{bed, run};

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// With a checkpoint.
    Fast,
    /// As if it had crashed.
    Immediate,
}

/// A throw-away cluster.
pub(crate) struct Cluster {
    major: u32,
    programs: PathBuf,
    directory: TempDir,
    port: u16,
    environment: Vec<(String, String)>,
    is_running: bool,
}

impl Cluster {
    /// Creates a cluster that is not yet started; `None` after saying that this version is missing.
    pub(crate) fn create(major: u32) -> Option<Self> {
        Self::create_with(major, &[])
    }

    /// The same with more arguments for `initdb`.
    pub(crate) fn create_with(major: u32, arguments: &[&str]) -> Option<Self> {
        let cluster = Self::empty(major)?;
        let mut initdb = bed().as_server(&cluster.programs.join("initdb"));
        initdb
            .args(["-U", "postgres", "-A", "trust", "--no-sync"])
            .args(["-E", "UTF8", "--locale=C"])
            .args(arguments)
            .arg("-D")
            .arg(cluster.pgdata());
        run(&mut initdb);
        let archive = cluster.directory.path().join("archive");
        cluster.configure(&[
            ("listen_addresses", ""),
            ("fsync", "off"),
            ("max_connections", "30"),
            ("shared_buffers", "8MB"),
            ("archive_mode", "on"),
            (
                "archive_command",
                &format!("cp %p {}/%f", archive.display()),
            ),
        ]);
        Some(cluster)
    }

    /// A directory without a cluster, for one that is restored or copied into it.
    pub(crate) fn empty(major: u32) -> Option<Self> {
        let programs = bed().postgresql(major)?;
        // Short, because the path of a socket is limited to 107 bytes.
        let directory = tempfile::Builder::new().prefix("bed.").tempdir_in("/tmp");
        let directory = directory.expect("a directory in /tmp");
        std::fs::create_dir(directory.path().join("archive")).expect("mkdir");
        bed().give(directory.path());
        let cluster = Self {
            major,
            programs,
            directory,
            port: 5432,
            environment: Vec::new(),
            is_running: false,
        };
        Some(cluster)
    }

    /// A standby of this cluster, made from a copy of its files; it is not started. This cluster is stopped for the copy and started again.
    pub(crate) fn standby(&mut self) -> Self {
        self.stop(Stop::Fast);
        let standby = Self::empty(self.major).expect("this version is here");
        run(bed()
            .as_server(Path::new("cp"))
            .arg("-a")
            .args([self.pgdata(), standby.pgdata()]));
        std::fs::write(standby.pgdata().join("standby.signal"), "").expect("write");
        standby.configure(&[("primary_conninfo", &self.conninfo("postgres"))]);
        bed().give(&standby.pgdata());
        self.start();
        standby
    }

    /// Appends settings to `postgresql.conf`.
    pub(crate) fn configure(&self, settings: &[(&str, &str)]) {
        let path = self.pgdata().join("postgresql.conf");
        let mut text = std::fs::read_to_string(&path).expect("a configuration file");
        for (name, value) in settings {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''")).expect("a string");
        }
        std::fs::write(&path, text).expect("write");
    }

    /// Makes the cluster listen on a free port of the loopback, too, from its next start on.
    pub(crate) fn listen(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        self.port = listener.local_addr().expect("an address").port();
        self.configure(&[("listen_addresses", "127.0.0.1")]);
    }

    /// Replaces `pg_hba.conf`: the superuser is trusted on the socket, and these lines follow.
    pub(crate) fn let_in(&self, lines: &str) {
        let text = format!("local all postgres trust\n{lines}\n");
        std::fs::write(self.pgdata().join("pg_hba.conf"), text).expect("write");
    }

    /// Puts a file into the data directory, for the server's eyes only.
    pub(crate) fn install(&self, from: &Path, name: &str) {
        let to = self.pgdata().join(name);
        std::fs::copy(from, &to).expect("copy");
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&to, owner_only).expect("chmod");
        bed().give(&to);
    }

    /// Gives the server, and with it the commands that it runs, variables of the environment, from its next start on.
    pub(crate) fn surround(&mut self, environment: &[(String, String)]) {
        self.environment = environment.to_vec();
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(&mut self) {
        let socket = self.socket_directory();
        let options = format!("-p {} -k {}", self.port, socket.display());
        // Before it is known to run: a server that starts too slowly must be stopped as well.
        self.is_running = true;
        run(self
            .pg_ctl()
            .envs(self.environment.iter().cloned())
            .args(["-w", "-t", "60", "start", "-o", &options]));
    }

    /// Stops the server.
    pub(crate) fn stop(&mut self, how: Stop) {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        run(self.pg_ctl().args(["-w", "stop", "-m", mode]));
        self.is_running = false;
    }

    /// Makes a standby a primary.
    pub(crate) fn promote(&self) {
        run(self.pg_ctl().args(["-w", "promote"]));
    }

    fn pg_ctl(&self) -> Command {
        let mut command = bed().as_server(&self.programs.join("pg_ctl"));
        let log = self.directory.path().join("log");
        command
            .arg("-D")
            .arg(self.pgdata())
            .arg("-l")
            .arg(log)
            .arg("-s");
        command
    }

    /// Runs statements as the superuser, split at every `;`, and gives what it printed: rows by lines, columns by `|`.
    pub(crate) fn sql(&self, sql: &str) -> String {
        // The older versions have no psql of their own in the bed.
        let psql = bed().postgresql(18).expect("psql").join("psql");
        let mut command = bed().as_server(&psql);
        command.args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.conninfo("postgres"),
        ]);
        for statement in sql
            .split(';')
            .filter(|statement| !statement.trim().is_empty())
        {
            command.args(["-c", statement]);
        }
        run(&mut command)
    }

    /// Sends a signal to a process of the server, by its type in `pg_stat_activity`.
    pub(crate) fn signal(&self, process: &str, signal: Signal) {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{process}'");
        let pid = self.sql(&sql).trim().parse().expect("a number");
        let pid = Pid::from_raw(pid).expect("not 0");
        kill_process(pid, signal).expect("it runs, and is ours");
    }

    /// A connection string for a user, over the socket.
    pub(crate) fn conninfo(&self, user: &str) -> String {
        let socket = self.socket_directory();
        format!(
            "host={} port={} user={user} dbname=postgres",
            socket.display(),
            self.port
        )
    }

    /// Where the socket is.
    pub(crate) fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub(crate) fn pgdata(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where the archive command puts WAL.
    pub(crate) fn archive(&self) -> PathBuf {
        self.directory.path().join("archive")
    }

    /// A new directory that the server may write, for a tablespace.
    pub(crate) fn new_directory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).expect("mkdir");
        bed().give(&path);
        path
    }

    /// The port, which is also a part of the socket's name.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The major version.
    pub(crate) fn major(&self) -> u32 {
        self.major
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_running {
            let stop = self.pg_ctl().args(["stop", "-m", "immediate"]).output();
            // A second panic would hide the first.
            drop(stop);
        }
    }
}

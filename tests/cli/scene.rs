//! A place of its own for one test: a configuration, a destination, and the program.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A directory that goes with the test.
pub(crate) struct Scene {
    directory: tempfile::TempDir,
}

/// What the tests call the present.
pub(crate) const NOW: &str = "2026-11-20T04:10:11Z";

impl Scene {
    /// An empty destination, and a server whose socket nobody serves.
    pub(crate) fn new() -> Self {
        Self::with(
            "schedule = \"0 2 * * *\"\nretention = \"RECOVERY WINDOW OF 7 DAYS\"\ncompression = \"lz4\"\n",
        )
    }

    /// The same with other settings for the server.
    pub(crate) fn with(settings: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let scene = Self { directory };
        fs::create_dir(scene.path("store")).expect("make the destination");
        let (store, socket) = (scene.path("store"), scene.path("socket"));
        scene.configure(&format!(
            "version = 1\n\n[destinations.disk]\nurl = \"file://{}\"\n\n[servers.orders]\n\
             destination = \"disk\"\nconnection = \"host={} user=barkeep\"\n{settings}",
            store.display(),
            socket.display(),
        ));
        scene
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, text: &str) {
        self.write("barkeep.toml", text);
    }

    /// A path below the directory.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// Writes a file below the directory.
    pub(crate) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("make directories");
        fs::write(&path, text).expect("write the file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set the mode");
    }

    /// Stores a backup that was taken on a day of November 2026, with its one segment of WAL.
    pub(crate) fn backup(&self, day: u32) -> String {
        let id = format!("202611{day:02}T020003");
        let segment = format!("0000000100000000000000{day:02X}");
        let info = INFO
            .replace("DAY", &format!("{day:02}"))
            .replace("SEGMENT", &segment)
            .replace("HEX", &format!("{day:X}"));
        self.write(&format!("store/orders/base/{id}/backup.info"), &info);
        self.write(
            &format!("store/orders/base/{id}/data.tar.lz4"),
            &"x".repeat(1 << 20),
        );
        self.write(
            &format!("store/orders/wals/0000000100000000/{segment}.zst"),
            "x",
        );
        id
    }

    /// The program, with nothing of this machine's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_barkeep"));
        command
            .args(arguments)
            .env_clear()
            .env("BARKEEP_CONFIG", self.path("barkeep.toml"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program: how it ended, and all that it said, without what differs from run to run.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self
            .command(arguments)
            .output()
            .expect("the program starts");
        let code = output.status.code().expect("it was not killed");
        let mut text = format!("exit {code}\n");
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if !bytes.is_empty() {
                let said = String::from_utf8_lossy(bytes);
                text.extend([format!("--- {name}\n"), self.plain(&said)]);
            }
        }
        text
    }

    /// The same for words parted by spaces.
    pub(crate) fn barkeep(&self, line: &str) -> String {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// What a command prints as JSON.
    pub(crate) fn json(&self, line: &str) -> serde_json::Value {
        let mut command = self.command(&line.split_whitespace().collect::<Vec<_>>());
        let output = command.args(["--format", "json"]).output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Takes up what is stored.
    pub(crate) fn adopt(&self) {
        let shown = self.json("adopt orders");
        let digest = shown["plan"]["digest"].as_str().expect("a digest");
        let adopted = self.json(&format!("adopt orders --approve {digest}"));
        assert_eq!(adopted["adopted"], true);
    }

    /// Leaves only the catalog to be looked after: there is no server to ask.
    pub(crate) fn without_connection(&self) {
        let config = fs::read_to_string(self.path("barkeep.toml")).expect("read");
        let lines = config
            .lines()
            .filter(|line| !line.starts_with("connection"));
        self.configure(&lines.collect::<Vec<_>>().join("\n"));
    }

    /// A digest covers versions of objects, which a directory makes of times.
    fn plain(&self, said: &str) -> String {
        const DIGITS: usize = 8;
        let said = said.replace(&self.directory.path().display().to_string(), "[DIR]");
        let mut parts = said.split("digest ");
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            plain.push_str("digest [DIGEST]");
            plain.push_str(&part[DIGITS..]);
        }
        plain
    }
}

/// The files below a directory, by their names, sorted.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("read the directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A `backup.info` as Barman writes it.
const INFO: &str = "\
backup_label=None
begin_offset=40
begin_time=2026-11-DAY 02:00:04.120000+00:00
begin_wal=SEGMENT
begin_xlog=0/HEX000028
children_backup_ids=None
cluster_size=23338257
compression=None
config_file=/srv/pg/postgresql.conf
copy_stats={'total_time': 0.7, 'number_of_workers': 2, 'analysis_time': 0, 'analysis_time_per_item': {'data': 0}, \
'copy_time_per_item': {'data': 0.6}, 'serialized_copy_time_per_item': {'data': 0.6}, 'copy_time': 0.6, \
'serialized_copy_time': 0.6}
data_checksums=off
deduplicated_size=None
encryption=None
end_offset=344
end_time=2026-11-DAY 02:06:10.500000+00:00
end_wal=SEGMENT
end_xlog=0/HEX000158
error=None
hba_file=/srv/pg/pg_hba.conf
ident_file=/srv/pg/pg_ident.conf
included_files=None
mode=None
parent_backup_id=None
pgdata=/srv/pg
server_name=cloud
size=None
status=DONE
summarize_wal=off
systemid=7710434261317052111
tablespaces=None
timeline=1
version=170011
xlog_segment_size=16777216
";

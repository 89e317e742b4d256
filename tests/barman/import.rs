//! `import`: a real Barman server's configuration, and what the plans then say beside what Barman's own retention would do.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use barkeep::{
    clock,
    model::{
        backup::BackupId,
        time::Timestamp,
        timeline::TimelineId,
        wal::{SegmentNumber, SegmentSize},
    },
};
use serde_json::Value;

use crate::support::{
    bed::{bed, run},
    cloud::Cloud,
};

const BUCKET: &str = "backups";
const PREFIX: &str = "pg";
const DAY: Duration = Duration::from_hours(24);

/// Something has no equivalent.
const PARTIAL: i32 = 5;

/// The server could not be asked, and what is stored was planned all the same.
const UNREACHABLE: i32 = 8;

/// What the crontab, or the server's own section, makes of the backups of each server.
const POLICIES: [(&str, &[&str]); 3] = [
    (
        "orders-main",
        &["RECOVERY WINDOW OF 2 WEEKS", "--minimum-redundancy", "2"],
    ),
    ("crm", &["REDUNDANCY 3"]),
    (
        "web",
        &["RECOVERY WINDOW OF 7 DAYS", "--minimum-redundancy", "2"],
    ),
];

/// What Barman itself makes of the section of `web`.
const OWN_POLICY: &str = "from barman.config import Config; c = Config('barman.conf'); c.load_configuration_files_directory(); \
    w = c.get_server('web'); print(w.retention_policy, '--minimum-redundancy', w.minimum_redundancy)";

const SNAPSHOTS: &str = "{'provider': 'aws', 'provider_info': {'account_id': '123456789012', 'region': 'eu-south-1'}, \
    'snapshots': [{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/mnt/pgdata'}, 'provider': {'device_name': \
    '/dev/sdf', 'snapshot_id': 'SNAPSHOT', 'snapshot_name': 'pgdata-1', 'snapshot_lock_mode': None}}]}";

/// Makes a snapshot, and tells its name.
const SNAPSHOT: &str = "import boto3; ec2 = boto3.client('ec2', region_name='eu-south-1'); \
    volume = ec2.create_volume(AvailabilityZone='eu-south-1a', Size=1); \
    print(ec2.create_snapshot(VolumeId=volume['VolumeId'])['SnapshotId'])";

/// A Barman server's files, the cloud that it fills, and the programs of both.
struct Scene {
    directory: tempfile::TempDir,
    programs: PathBuf,
    cloud: Cloud,
    now: Timestamp,
    /// A snapshot that there is.
    snapshot: String,
}

impl Scene {
    /// `None` after saying what is missing.
    fn new() -> Option<Self> {
        let mut scene = Self {
            directory: tempfile::tempdir().expect("a directory"),
            programs: bed().get("BARMAN_BIN")?,
            cloud: Cloud::moto()?,
            now: clock::Clock::System.now(),
            snapshot: String::new(),
        };
        scene.cloud.create_bucket(BUCKET);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/barman/configuration");
        let below = [
            "barman.conf",
            "crontab",
            "barman.d/orders.conf",
            "barman.d/crm.conf",
            "barman.d/web.conf",
        ];
        for directory in ["barman.d", "home"] {
            fs::create_dir(scene.path(directory)).expect("mkdir");
        }
        let directory = scene.directory.path().display().to_string();
        // Barman becomes that user.
        let user = format!("barman_user = {}", run(Command::new("id").arg("-un")));
        for file in below {
            let text = fs::read_to_string(source.join(file)).expect("read");
            let text = text.replace("barman_user = barman", &user);
            fs::write(scene.path(file), text.replace("DIRECTORY", &directory)).expect("write");
        }
        let profile =
            "[backup]\naws_access_key_id = testkey\naws_secret_access_key = testsecret1\n";
        fs::write(scene.path("credentials"), profile).expect("write");
        let python = scene.programs.join("python");
        scene.snapshot = run(scene.command(&python).args(["-c", SNAPSHOT]));
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .envs(self.cloud.environment())
            .env("AWS_SHARED_CREDENTIALS_FILE", self.path("credentials"))
            .env("BARKEEP_CONFIG", self.path("barkeep.toml"));
        command
    }

    /// Runs barkeep, which must end so, and gives what it printed as JSON.
    fn barkeep(&self, arguments: &[&str], code: i32) -> Value {
        let program = Path::new(env!("CARGO_BIN_EXE_barkeep"));
        let mut command = self.command(program);
        let output = command.args(arguments).args(["--format", "json"]).output();
        let output = output.expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    fn import(&self) -> Value {
        let file = ["--output", "barkeep.toml"];
        let sources = ["import", "--barman", "barman.conf", "--crontab", "crontab"];
        self.barkeep(&[&sources[..], &file].concat(), PARTIAL)
    }

    /// Writes the password where it is expected, but for the directory.
    fn give_password(&self) {
        let file = self.path("orders");
        fs::write(&file, "secret").expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        let written = fs::read_to_string(self.path("barkeep.toml")).expect("read");
        let file = file.display().to_string();
        let written = written.replace("/etc/barkeep/secrets/orders", &file);
        fs::write(self.path("barkeep.toml"), written).expect("write");
    }

    /// What Barman's own retention would delete.
    fn doomed(&self, server: &str, policy: &[&str]) -> BTreeSet<String> {
        let mut command = self.command(&self.programs.join("barman-cloud-backup-delete"));
        command
            .args(["--dry-run", "--retention-policy"])
            .args(policy);
        let told = run(command.args([&self.cloud.url(BUCKET, PREFIX), server]));
        let id = |path: &str| {
            let (_, below) = path.split_once("/base/")?;
            Some(below.split('/').next()?.to_owned())
        };
        let words = told.split([' ', '\n', '\'', '"']);
        words.filter_map(id).collect()
    }

    /// Stores a backup of so many days ago with its WAL.
    fn backup(&self, server: &str, days: u32) {
        let size = SegmentSize::DEFAULT;
        let begin = self.now - DAY * days - DAY / 2;
        let id = BackupId::at(begin.utc().naive_utc());
        let segment = SegmentNumber(1000 - u64::from(days));
        let name = segment.name(TimelineId::FIRST, size);
        let time = |time: Timestamp| time.utc().format("%Y-%m-%d %H:%M:%S+00:00").to_string();
        let snapshots = match server {
            "crm" => format!("snapshots_info={SNAPSHOTS}\n").replace("SNAPSHOT", &self.snapshot),
            _ => String::new(),
        };
        let info = format!(
            "begin_time={}\nbegin_wal={name}\nbegin_xlog={start}\nend_time={}\nend_wal={name}\nend_xlog={start}\n\
             pgdata=/srv/pg\nserver_name=cloud\n{snapshots}status=DONE\nsystemid=7710434261317052111\ntimeline=1\n\
             version=170011\nxlog_segment_size={}\n",
            time(begin),
            time(begin + Duration::from_mins(5)),
            size.bytes(),
            start = segment.start(size),
        );
        let archive = if snapshots.is_empty() {
            "data.tar.gz"
        } else {
            "backup_label"
        };
        for (key, text) in [
            (format!("base/{id}/backup.info"), info.as_str()),
            (format!("base/{id}/{archive}"), "x"),
            (format!("wals/{}/{name}.gz", name.directory()), "x"),
        ] {
            let Cloud::Moto(store) = &self.cloud else {
                unreachable!("it was made above");
            };
            store.send(
                "PUT",
                &format!("/{BUCKET}/{PREFIX}/{server}/{key}"),
                "",
                text,
            );
        }
    }
}

/// The backups that a plan would let go.
fn obsolete(plan: &Value) -> BTreeSet<String> {
    let target = &plan["targets"]["primary"];
    let verdicts = target["verdicts"].as_object().expect("verdicts");
    let going = verdicts
        .iter()
        .filter(|(_, verdict)| verdict["fate"] == "expire");
    going.map(|(id, _)| id.clone()).collect()
}

#[test]
fn an_imported_configuration_plans_what_barmans_own_retention_would_do() {
    let Some(scene) = Scene::new() else {
        return;
    };
    // That it is one of Barman's, Barman says.
    let mut list = scene.command(&scene.programs.join("barman"));
    let listed = run(list.args(["-c", "barman.conf", "list-servers", "--minimal"]));
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["crm", "orders", "web"]);
    // What holds for `web` its own section and `[barman]` say.
    let mut own = scene.command(&scene.programs.join("python"));
    let own = run(own.args(["-c", OWN_POLICY]));
    assert_eq!(own, POLICIES[2].1.join(" "));
    for (server, _) in POLICIES {
        for days in [0, 1, 3, 6, 8, 13, 15, 20, 40] {
            scene.backup(server, days);
        }
    }
    let lost = scene.import()["notes"].as_array().expect("notes").clone();
    assert!(lost.iter().any(|note| note["what"] == "post_delete_script"));
    scene.give_password();
    let planned = scene.barkeep(&["plan"], UNREACHABLE);
    let plans = planned["plans"].as_array().expect("plans");
    assert_eq!(plans.len(), POLICIES.len());
    for (server, policy) in POLICIES {
        let plan = plans.iter().find(|plan| plan["server"] == server);
        let plan = plan.unwrap_or_else(|| panic!("no plan for {server}: {planned}"));
        let doomed = scene.doomed(server, policy);
        assert!(doomed.len() >= 2, "{server}: {doomed:?}");
        assert_eq!(obsolete(plan), doomed, "{server}: {plan}");
        assert_eq!(plan["steps"].as_array().map(Vec::len), Some(0), "{plan}");
    }
}

/// Sections that inherit, values that name others, and models: `north` is active and of the cluster, `south` of another one.
const SECTIONS: &str = "
[DEFAULT]
site = north
bucket = backups

[barman]
barman_user = USER
barman_home = \"DIRECTORY/home\"
configuration_files_directory = DIRECTORY/barman.d
log_file = DIRECTORY/barman.log
minimum_redundancy = 2
parallel_jobs = 3
weeks = 2
retention_policy = RECOVERY WINDOW OF %(weeks)s WEEKS
last_wal_maximum_age = %%(parallel_jobs)s HOURS
immediate_checkpoint = true

[one]
; What [barman] says is not said of this.
weeks = 9
cluster = shared
host = one.%(site)s.example
conninfo = host=%(host)s user=%(cluster)s dbname=postgres
basebackups_directory = s3://%(bucket)s/one
wals_directory = %(basebackups_directory)s
backup_method = local-to-cloud
cloud_staging_directory = DIRECTORY/staging
; Nothing is no number, but as a text it counts.
parallel_jobs =

[two]
cluster = cluster-%(site)s
conninfo = 'host=/run/%%(cluster)s user=x dbname=postgres'
basebackups_directory = s3://backups/two
wals_directory = s3://backups/two
backup_method = local-to-cloud
cloud_staging_directory = DIRECTORY/staging
retention_policy =
immediate_checkpoint = off

[failover]
model = true
cluster = shared
conninfo = host=failover.%%(site)s.example user=y dbname=postgres
minimum_redundancy = 4
retention_policy =

[elsewhere]
model = on
cluster = other
conninfo = host=elsewhere.example user=z dbname=postgres
";

/// What Barman makes of them.
const UNDERSTOOD: &str = "import json; from barman.config import Config; c = Config('sections.conf'); print(json.dumps({s.name: \
    {k: str(getattr(s, k)) for k in ('conninfo', 'retention_policy', 'minimum_redundancy', 'parallel_jobs', 'immediate_checkpoint', \
    'basebackups_directory', 'last_wal_maximum_age')} for s in c.servers()}))";

#[test]
fn inherited_values_names_in_them_and_models_mean_what_they_mean_to_barman() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let user = run(Command::new("id").arg("-un"));
    let directory = scene.directory.path().display().to_string();
    let text = SECTIONS
        .replace("DIRECTORY", &directory)
        .replace("USER", &user);
    fs::write(scene.path("sections.conf"), text).expect("write");
    for (server, model) in [("one", "failover"), ("two", "elsewhere")] {
        let directory = scene.path("home").join(server);
        fs::create_dir(&directory).expect("mkdir");
        fs::write(directory.join(".active-model.auto"), model).expect("write");
    }
    let mut python = scene.command(&scene.programs.join("python"));
    let told = run(python.args(["-c", UNDERSTOOD]));
    let understood: Value =
        serde_json::from_str(told.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        understood["one"]["conninfo"],
        "host=failover.north.example user=y dbname=postgres"
    );
    let imported = scene.barkeep(&["import", "--barman", "sections.conf"], PARTIAL);
    let text = imported["configuration"].as_str().expect("a text");
    let imported: toml::Table = text.parse().expect("TOML");
    for server in ["one", "two"] {
        let said = |key: &str| {
            let said = understood[server][key].as_str().expect("a text");
            if said == "None" { "" } else { said }
        };
        let own = &imported["servers"][server];
        let text = |key: &str| {
            own.get(key)
                .map(ToString::to_string)
                .unwrap_or_default()
                .replace('"', "")
        };
        assert_eq!(text("connection"), said("conninfo"), "{server}");
        assert_eq!(text("retention"), said("retention_policy"), "{server}");
        assert_eq!(
            text("minimum_redundancy"),
            said("minimum_redundancy"),
            "{server}"
        );
        assert_eq!(text("jobs"), said("parallel_jobs"), "{server}");
        assert_eq!(
            text("immediate_checkpoint"),
            said("immediate_checkpoint").to_lowercase(),
            "{server}"
        );
        let destination = &imported["destinations"][text("destination").as_str()]["url"];
        assert_eq!(
            destination.as_str(),
            Some(said("basebackups_directory")),
            "{server}"
        );
    }
    assert_eq!(
        imported["servers"]["two"]["wal"]["max_lag"].as_str(),
        Some("3h")
    );
}

#[test]
fn a_value_with_which_barman_would_not_start_is_told() {
    let Some(scene) = Scene::new() else {
        return;
    };
    for (value, nothing) in [
        ("%(nothing)s", "%(nothing)s"),
        // Said by another section.
        ("%(weeks)s", "%(weeks)s"),
        ("%%(weeks)s", "%(weeks)s"),
        ("%(name)s", "%(name)s"),
        ("%p", "%p"),
    ] {
        let text =
            format!("[barman]\nbarman_home = /b\nweeks = 2\n[one]\nconninfo = host={value}\n");
        fs::write(scene.path("sections.conf"), text).expect("write");
        let mut python = scene.command(&scene.programs.join("python"));
        let starts = python.args(["-c", UNDERSTOOD]).output().expect("it starts");
        assert!(!starts.status.success(), "{value}");
        let imported = scene.barkeep(&["import", "--barman", "sections.conf"], PARTIAL);
        let notes = imported["notes"].as_array().expect("notes");
        let told = notes.iter().any(|note| {
            note["what"] == "conninfo"
                && note["why"] == format!("`{nothing}` stands for nothing there")
        });
        assert!(told, "{value}: {imported}");
    }
}

#[test]
fn every_key_that_barman_knows_is_known_and_no_other() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let python = "from barman.config import ServerConfig as S; print('\\n'.join(S.KEYS))";
    let keys = run(Command::new(scene.programs.join("python")).args(["-c", python]));
    let keys = keys.lines().chain(["surely_not_a_key"]);
    let options: Vec<_> = keys.map(|key| format!("{key} = 1")).collect();
    let section = format!("[every]\n{}\n", options.join("\n"));
    fs::write(scene.path("barman.d/every.conf"), section).expect("write");
    let imported = scene.import();
    let notes = imported["notes"].as_array().expect("notes").iter();
    let unknown = notes.filter(|note| note["why"] == "Barman does not know it either");
    let unknown: Vec<_> = unknown.map(|note| note["what"].as_str()).collect();
    assert_eq!(unknown, [Some("surely_not_a_key")]);
}

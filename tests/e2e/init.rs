//! `init`: the configuration that it writes is valid, and the commands that it names lead to a backup.

use std::{fs, path::Path};

use barkeep::{
    format::records,
    model::{record::Identity, wal::SystemId},
};
use serde_json::Value;

use crate::{
    harness::{Kind, Place, ROLE, text},
    support::{
        bed::bed,
        cluster::{Cluster, Stop},
        s3::Server,
    },
};

/// A server that archives nothing yet, and a place without a configuration.
struct Beginning {
    cluster: Cluster,
    place: Place,
}

impl Beginning {
    fn new(major: u32, kind: Kind) -> Option<Self> {
        let place = Place::new(kind)?;
        let mut cluster = Cluster::create(major)?;
        cluster.configure(&[("archive_mode", "off"), ("archive_command", "")]);
        cluster.surround(&place.environment());
        cluster.start();
        cluster.sql(&format!("CREATE ROLE {ROLE} LOGIN"));
        cluster.sql(&format!("GRANT pg_read_all_settings TO {ROLE}"));
        Some(Self { cluster, place })
    }

    fn init(&self, more: &[&str]) -> Vec<String> {
        let (url, connection) = (self.place.url(), self.cluster.conninfo(ROLE));
        let mut arguments = vec!["init", "--server", "main", "--policy", "bronze"];
        arguments.extend(["--destination", &url, "--conninfo", &connection]);
        let endpoint = self.place.server().map(Server::url);
        if let Some(endpoint) = &endpoint {
            arguments.extend(["--region", "us-east-1", "--endpoint-url", endpoint]);
        }
        arguments.extend(more);
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// Does what was said, as it was said.
    fn follow(&mut self, next: &Value) {
        for step in next.as_array().expect("steps") {
            let commands = step["commands"].as_array().expect("commands").iter();
            let commands: Vec<_> = commands.map(|one| one.as_str().expect("a text")).collect();
            for command in &commands {
                let mut words = command.split(' ');
                if words.next().is_some_and(|word| word.starts_with('/')) {
                    let arguments: Vec<_> = words.collect();
                    self.place.run(&arguments).exits(0);
                } else {
                    self.cluster.sql(command);
                }
            }
            if step["what"].as_str().expect("words").contains("restart") {
                self.cluster.stop(Stop::Fast);
                self.cluster.start();
            }
        }
    }
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn what_is_written_leads_to_a_backup_in_a_directory() {
    leads_to_a_backup(17, Kind::Directory);
}

#[test]
fn what_is_written_leads_to_a_backup_in_s3() {
    leads_to_a_backup(15, Kind::Moto);
}

fn leads_to_a_backup(major: u32, kind: Kind) {
    let Some(mut beginning) = Beginning::new(major, kind) else {
        return;
    };
    let file = text(&beginning.place.config());
    let line = beginning.init(&["--output", &file, "--format", "json"]);
    let ran = beginning.place.run(&words(&line)).exits(0);
    let told = ran.json();
    let written = fs::read_to_string(&file).expect("it is there");
    assert_eq!(told["configuration"], written.as_str());
    for words in [
        "method      = \"files\"",
        "[policies.bronze]",
        "# mode: conditional writes",
    ] {
        assert!(written.contains(words), "{words}: {written}");
    }
    let left = beginning.place.keys("main");
    assert!(left.is_empty(), "the probe left {left:?}");
    beginning.follow(&told["next"]);
    assert_eq!(beginning.place.ids("main", "DONE").len(), 1);
    let ran = beginning.place.run(&words(&line)).exits(3);
    ran.says("is there already, and is not overwritten");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), written);
}

#[test]
fn beside_a_configuration_it_becomes_a_part_of_it() {
    let Some(beginning) = Beginning::new(18, Kind::Directory) else {
        return;
    };
    let place = &beginning.place;
    place.configure("");
    let main = fs::read_to_string(place.config()).expect("read");
    let including = "version = 1\ninclude = [\"conf.d/*.toml\"]";
    fs::write(place.config(), main.replace("version = 1", including)).expect("write");
    fs::create_dir(place.path("conf.d")).expect("mkdir");
    bed().give(&place.path("conf.d"));
    let elsewhere = text(&place.path("elsewhere.toml"));
    let ran = place.run(&words(&beginning.init(&["--output", &elsewhere])));
    ran.exits(3).says("is not part of this configuration");
    assert!(!Path::new(&elsewhere).exists());
    let file = text(&place.path("conf.d/main.toml"));
    let ran = place.run(&words(&beginning.init(&["--output", &file])));
    let ran = ran
        .exits(0)
        .says("GRANT EXECUTE ON FUNCTION pg_backup_start");
    ran.says(&format!("wrote {file}"));
    let written = fs::read_to_string(&file).expect("it is there");
    assert!(!written.contains("[destinations."), "it has one: {written}");
    assert!(written.contains("destination = \"d\""), "{written}");
    place.run(&["validate"]).exits(0);
    // What stands in its place now does not count, and stays.
    let line = beginning.init(&["--as", "conf.d/main.toml"]);
    assert_eq!(place.run(&words(&line)).exits(0).stdout, written);
    let line = beginning.init(&["--as", "elsewhere.toml"]);
    place.run(&words(&line)).exits(3);
}

#[test]
fn a_destination_of_another_cluster_or_a_server_that_is_gone_gets_no_configuration() {
    let Some(mut beginning) = Beginning::new(17, Kind::Directory) else {
        return;
    };
    let file = text(&beginning.place.path("new.toml"));
    let line = beginning.init(&["--output", &file]);
    let identity = records::render(&Identity {
        system_id: SystemId(7),
        pinned_at: "2026-11-20T02:00:00Z".parse().expect("an instant"),
    });
    let own = beginning.place.file("main/barkeep");
    fs::create_dir_all(&own).expect("mkdir");
    fs::write(own.join("identity"), identity).expect("write");
    bed().give(&beginning.place.file("main"));
    let ran = beginning.place.run(&words(&line)).exits(4);
    ran.says("it has backups of system 7");
    beginning.cluster.stop(Stop::Fast);
    beginning.place.run(&words(&line)).exits(8);
    assert!(!Path::new(&file).exists());
}

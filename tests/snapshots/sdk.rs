//! What the clouds' own clients for Python make of the stand-ins, where Barman asks for nothing: pages, quotas, locks, disks of snapshots.

use std::{path::Path, process::Command};

use crate::{
    fake::{Cloud, Fault, GROUP, Kind, OLD, Quota, SUBSCRIPTION, Snapshot},
    support::bed::{bed, run},
};

#[test]
fn the_clouds_own_clients_understand_the_stand_ins() {
    let Some(programs) = bed().get("BARMAN_BIN") else {
        return;
    };
    Kind::each(async |kind| {
        let cloud = Cloud::start(kind);
        {
            let mut state = cloud.state();
            state.page = 2;
            let four = Quota {
                in_all: 4,
                ..Quota::of(kind)
            };
            state.quota = Some(four);
            state.pace = (0, 0);
            state.now = 10_000;
            let disk = state.disks[1].id.clone();
            for count in 0..3 {
                let name = format!("snap-f{count:016x}");
                let snapshot = Snapshot {
                    name: name.clone(),
                    disk: disk.clone(),
                    age: OLD,
                    ..Snapshot::default()
                };
                state.snapshots.insert(name, snapshot);
            }
            match kind {
                Kind::Aws => state
                    .questions
                    .push_back(Fault::Refused(503, "RequestLimitExceeded")),
                Kind::Azure => state
                    .questions
                    .push_back(Fault::Refused(429, "TooManyRequests")),
                // Google's client repeats no list.
                Kind::Google => {}
            }
        }
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/python");
        run(Command::new(programs.join("python"))
            .arg(scripts.join("sdk.py"))
            .arg(format!("{kind:?}"))
            .env("PYTHONPATH", &scripts)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("AWS_ACCESS_KEY_ID", "testkey")
            .env("AWS_SECRET_ACCESS_KEY", "testsecret1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs([("SUBSCRIPTION", SUBSCRIPTION), ("GROUP", GROUP)])
            .envs(cloud.environment()));
        assert!(cloud.state().questions.is_empty(), "nothing was repeated");
    });
}

//! Where disks are mounted, told by a command, as by a server on another host: seen by `check`, by `plan`, and at the start of a backup.

use std::os::unix::fs::PermissionsExt as _;

use crate::{
    fake::Kind,
    loopback::{cluster_on_disk, has_loop_devices},
    scene::Scene,
};

const BARKEEP: &str = env!("CARGO_BIN_EXE_barkeep");

/// What stands for `ssh`: it knows one host, and hands what follows to a shell there.
const SSH: &str = "[ \"$1\" = db1 ] || exit 255; shift; exec sh -c \"$*\"";

/// Has a scene ask a script where its disks are mounted.
fn ask(scene: &Scene, script: &str, more: &str) {
    let ssh = scene.path("ssh");
    std::fs::write(&ssh, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let words = [
        ssh.to_str().expect("text"),
        "db1",
        BARKEEP,
        "mounts",
        "--format",
        "json",
    ];
    let words = words.map(|word| format!("\"{word}\"")).join(", ");
    let disks = format!("disks = [\"pgdata\"], mounts_command = [{words}]");
    scene.configure_disks(&disks, &format!("deletes = {{ grace = \"0s\" }}\n{more}"));
}

/// All that a command says, after it has ended so.
fn told(scene: &Scene, arguments: &[&str], code: i32) -> String {
    let output = scene.run(arguments, code);
    let (data, talk) = (output.stdout, output.stderr);
    String::from_utf8_lossy(&[data, talk].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_the_servers_host_tells_where_its_disks_are_mounted() {
    if !has_loop_devices() {
        return;
    }
    let directory = tempfile::Builder::new()
        .prefix("mounts.")
        .tempdir_in("/tmp");
    let directory = directory.expect("a directory");
    let name = format!("bm{}", std::process::id());
    let image = directory.path().join("disk.img");
    let Some((mut cluster, _disk)) = cluster_on_disk(&image, &name) else {
        return;
    };
    let outside = directory.path().join("more.conf");
    std::fs::write(&outside, "work_mem = '5MB'\n").expect("written");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
        .expect("chmod");
    let outside = outside.to_str().expect("text");
    cluster.configure(&[("include", outside)]);
    cluster.start();
    let scene = Scene::over(Kind::Google, cluster);
    scene.cloud.state().disks[1].device.clone_from(&name);
    let hourly = "schedule = \"@hourly\"\n";
    ask(&scene, SSH, hourly);

    let planned = told(&scene, &["plan", "srv"], 0);
    assert!(planned.contains("  + backup"), "{planned}");
    assert!(
        planned.contains(&format!("  in no snapshot    {outside}\n")),
        "{planned}"
    );
    let checked = told(&scene, &["check", "srv"], 0);
    assert!(checked.contains(outside), "{checked}");
    scene.run(&["backup", "srv"], 0);
    assert_eq!(scene.snapshots(), 1);
    let set = scene.records()[0]
        .snapshots()
        .expect("a record")
        .expect("snapshots");
    let mount = set.disks[0].mount.clone().expect("it is mounted");
    assert_eq!(mount.point, scene.cluster.pgdata().to_str().expect("text"));
    let recorded = told(&scene, &["mounts"], 0);
    assert!(
        recorded.contains(&mount.to_string()),
        "{mount} in {recorded}"
    );

    // A tablespace on the disk of the system is in no snapshot.
    let space = scene.path("space");
    std::fs::create_dir(&space).expect("mkdir");
    crate::support::bed::bed().give(&space);
    let sql = format!("CREATE TABLESPACE elsewhere LOCATION '{}'", space.display());
    scene.cluster.sql(&sql);
    let missing = format!("`{}` is on `", space.display());
    for command in [["plan", "srv"], ["check", "srv"], ["backup", "srv"]] {
        let code = if command[0] == "plan" { 0 } else { 4 };
        let told = told(&scene, &command, code);
        assert!(told.contains(&missing), "{command:?}: {told}");
        assert!(
            told.contains("which is no disk of pg-1, of which no snapshot would be taken"),
            "{told}"
        );
        assert!(
            told.contains("name its disk in `disks`, or move the files"),
            "{told}"
        );
    }
    assert_eq!((scene.records().len(), scene.snapshots()), (1, 1));
    // Where a shell would read the path otherwise, it is not handed on.
    let odd = scene.path("space$(touch stolen)");
    std::fs::create_dir(&odd).expect("mkdir");
    crate::support::bed::bed().give(&odd);
    scene.cluster.sql(&format!(
        "CREATE TABLESPACE odd LOCATION '{}'",
        odd.display()
    ));
    let planned = told(&scene, &["plan", "srv"], 1);
    assert!(
        planned.contains("a character that a shell may not read as itself"),
        "{planned}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_tells_nothing_holds_up_backups_and_nothing_else() {
    let Some(scene) = Scene::start(Kind::Google) else {
        return;
    };
    for _ in 0..2 {
        scene.run(&["backup", "srv"], 0);
    }
    let data = scene.cluster.pgdata();
    let mount = serde_json::json!({ "point": data, "options": "rw" });
    let disk = serde_json::json!({
        "device": "sdb", "names": ["/dev/disk/by-id/google-device-1"], "blocks": ["sdb"],
        "mounts": [mount],
    });
    let half = serde_json::json!({ "format": 1, "disks": [disk], "paths": [
        { "path": data, "mount": mount, "blocks": ["sdb"] }
    ]});
    let half = format!("cat <<'END'\n{half}\nEND");
    let wal = format!(
        "its host does not tell of `{}`",
        data.join("pg_wal").display()
    );
    for (script, why) in [
        (
            "echo 'no route' >&2; exit 255",
            "exit status: 255: no route",
        ),
        (
            "echo DISK",
            "it does not print what `barkeep mounts --format json` does",
        ),
        (&half, &wal),
    ] {
        ask(&scene, script, "");
        let planned = told(&scene, &["plan", "srv"], 1);
        assert!(
            planned.contains("  ! blocked  what is on which disk is unknown: "),
            "{planned}"
        );
        assert!(planned.contains(why), "{why}: {planned}");
        assert!(planned.contains("  - delete"), "{planned}");
        let checked = told(&scene, &["check", "srv"], 1);
        assert!(checked.contains(why), "{why}: {checked}");
        let refused = told(&scene, &["backup", "srv"], 1);
        assert!(refused.contains(why), "{why}: {refused}");
        assert_eq!(scene.records().len(), 2, "nothing was begun: {refused}");
    }
    scene.run(&["reconcile", "--once"], 1);
    assert_eq!(
        (scene.records().len(), scene.snapshots()),
        (1, 2),
        "one was to go"
    );
}

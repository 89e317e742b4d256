//! Looking at catalogs, and changing them by name.

use insta::assert_snapshot;

use crate::scene::{NOW, Scene};

#[test]
fn an_empty_destination_lists_no_backups() {
    assert_snapshot!(Scene::new().barkeep("list"), @r"
    exit 0
    --- stdout
    orders -> disk   no backups
    ");
}

#[test]
fn backups_are_listed_shown_and_explained() {
    let scene = Scene::new();
    scene.backup(3);
    scene.backup(19);
    scene.write(
        "store/orders/base/20261118T020003/backup.info",
        "status=NEW\n",
    );
    assert_snapshot!(scene.barkeep("list"), @r"
    exit 0
    --- stdout
    orders -> disk   2.0 MiB stored
      BACKUP           STATUS      ENDED                 STORED   KEPT  NAME
      20261103T020003  DONE        2026-11-03T02:06:10Z  1.0 MiB  -     -
      20261119T020003  DONE        2026-11-19T02:06:10Z  1.0 MiB  -     -
      20261118T020003  unreadable  -                     -        -     -
        cannot read `status=NEW` of `backup.info`: expected a status of a backup
    ");
    assert_snapshot!(scene.barkeep("show orders latest"), @r"
    exit 0
    --- stdout
    20261119T020003
      status           DONE
      PostgreSQL       17.11
      system id        7710434261317052111
      begun            2026-11-19T02:00:04Z
      ended            2026-11-19T02:06:10Z
      begin LSN        0/13000028
      end LSN          0/13000158
      begin WAL        000000010000000000000013
      end WAL          000000010000000000000013
      timeline         1
      PGDATA           /srv/pg
      archive          data.tar.lz4  1.0 MiB
      stored           1.0 MiB
    ");
    assert_snapshot!(scene.run(&["explain", "orders", "oldest", "--now", NOW]), @r"
    exit 0
    --- stdout
    20261103T020003 in disk
      status     DONE
      taken      2026-11-03T02:00:04Z .. 2026-11-03T02:06:10Z
      needs      000000010000000000000003 .. 000000010000000000000003
      verdict    retained
      because    RECOVERY WINDOW OF 7 DAYS begins after it
    ");
    assert_snapshot!(scene.barkeep("show orders nightly"), @r"
    exit 1
    --- stderr
    error: cannot find the backup: unknown backup `nightly`
    hint: `barkeep list` shows all; an id, a name, `latest` and `oldest` are understood
    ");
}

#[test]
fn a_plan_without_the_server_says_what_it_lacks() {
    let scene = Scene::new();
    assert_snapshot!(scene.run(&["plan", "--now", NOW]), @r"
    exit 8
    --- stdout
    orders -> disk   file://[DIR]/store  read 2026-11-20T04:10:11Z   digest [DIGEST]
      ! blocked  cannot ask the server: cannot connect to `[DIR]/socket/.s.PGSQL.5432`: error connecting to server: No such file or directory (os error 2)
      ! blocked  a backup is due: the server is unknown
      recovery window   none: no good backup
    1 blocked.
    --- stderr
    hint: `barkeep check` says what can be reached, and what mends it
    ");
    assert_snapshot!(scene.run(&["status", "--now", NOW]), @r"
    exit 8
    --- stdout
    SERVER  DESTINATION  STANDING  LAST GOOD BACKUP  NEXT DUE  RECOVERABLE
    orders  disk         blocked   -                 -         -
      blocked: cannot ask the server: cannot connect to `[DIR]/socket/.s.PGSQL.5432`: error connecting to server: No such file or directory (os error 2)
      blocked: a backup is due: the server is unknown
    --- stderr
    hint: `barkeep check` says what can be reached, and what mends it
    ");
    assert_snapshot!(scene.barkeep("check"), @r"
    exit 8
    --- stdout
    RESULT  SERVER  CHECKED           FOUND
    FAIL    orders  server            cannot connect to `[DIR]/socket/.s.PGSQL.5432`: error connecting to server: No such file or directory (os error 2)
      hint: check `connection`; docs/postgresql-role.md lists the grants
    ok      orders  destination disk  can be read
    ");
}

#[test]
fn a_plan_deletes_what_the_policy_no_longer_wants() {
    let scene = Scene::with(
        "retention = { redundancy = 2 }\nschedule = \"none\"\ndeletes = { grace = \"0s\" }\n",
    );
    for day in [3, 10, 17, 18] {
        scene.backup(day);
    }
    scene.without_connection();
    scene.adopt();
    assert_snapshot!(scene.run(&["plan", "--now", NOW]), @r"
    exit 0
    --- stdout
    orders -> disk   file://[DIR]/store  read 2026-11-20T04:10:11Z   digest [DIGEST]
      - delete   20261103T020003  1.0 MiB          outside REDUNDANCY 2; 2 newer are good
      - delete   WAL, 1 segment in 1 range         no retained backup needs it
      . waiting  20261110T020003: the delete budget of 1 is used up
      recovery window   2026-11-17T02:06:10Z .. <= end of WAL 000000010000000000000012
    1 to delete (budget 1), 1 WAL segment to delete.
    ");
    assert_snapshot!(scene.run(&["plan", "--now", NOW, "--detailed-exitcode", "--out", "plan.json"]), @r"
    exit 2
    --- stdout
    orders -> disk   file://[DIR]/store  read 2026-11-20T04:10:11Z   digest [DIGEST]
      - delete   20261103T020003  1.0 MiB          outside REDUNDANCY 2; 2 newer are good
      - delete   WAL, 1 segment in 1 range         no retained backup needs it
      . waiting  20261110T020003: the delete budget of 1 is used up
      recovery window   2026-11-17T02:06:10Z .. <= end of WAL 000000010000000000000012
    1 to delete (budget 1), 1 WAL segment to delete.
    ");
    assert_snapshot!(scene.barkeep("show-plan plan.json"), @r"
    exit 0
    --- stdout
    orders -> disk   file://[DIR]/store  read 2026-11-20T04:10:11Z   digest [DIGEST]
      - delete   20261103T020003  1.0 MiB          outside REDUNDANCY 2; 2 newer are good
      - delete   WAL, 1 segment in 1 range         no retained backup needs it
      . waiting  20261110T020003: the delete budget of 1 is used up
      recovery window   2026-11-17T02:06:10Z .. <= end of WAL 000000010000000000000012
    1 to delete (budget 1), 1 WAL segment to delete.
    ");
    assert_snapshot!(scene.run(&["status", "--now", NOW]), @r"
    exit 0
    --- stdout
    SERVER  DESTINATION  STANDING     LAST GOOD BACKUP            NEXT DUE  RECOVERABLE
    orders  disk         progressing  20261118T020003  2d 2h old  -         2026-11-17T02:06:10Z .. <= end of WAL 000000010000000000000012
      progressing: 1 to delete when the budget allows it
      progressing: 2 to do
      waiting: 20261110T020003: the delete budget of 1 is used up
    ");
}

#[test]
fn a_plan_that_was_changed_or_is_none_is_not_used() {
    let scene = Scene::new();
    scene.write("plan.json", "{}");
    assert_snapshot!(scene.barkeep("show-plan plan.json"), @r"
    exit 3
    --- stderr
    error: `plan.json` is not a saved plan: missing field `format` at line 1 column 2
    hint: `barkeep plan --out FILE` saves one
    ");
    assert_snapshot!(scene.barkeep("show-plan nowhere.json"), @r"
    exit 1
    --- stderr
    error: cannot read `nowhere.json`: No such file or directory (os error 2)
    ");
}

#[test]
fn a_destination_that_is_not_there_is_told_with_what_mends_it() {
    let scene = Scene::new();
    std::fs::remove_dir(scene.path("store")).expect("remove it");
    assert_snapshot!(scene.barkeep("list"), @r"
    exit 1
    --- stderr
    error: cannot list `orders` in `disk`: cannot list `orders/base/` in `file://[DIR]/store`: the destination does not exist: No such file or directory (os error 2)
    hint: `barkeep check` says what can be reached, and what mends it
    ");
    assert_snapshot!(scene.run(&["plan", "--now", NOW]), @r"
    exit 1
    --- stdout
    orders -> disk   file://[DIR]/store  read 2026-11-20T04:10:11Z   digest [DIGEST]
      ! blocked  cannot ask the server: cannot connect to `[DIR]/socket/.s.PGSQL.5432`: error connecting to server: No such file or directory (os error 2)
      ! blocked  the catalog is unknown: cannot list `orders/base/` in `file://[DIR]/store`: the destination does not exist: No such file or directory (os error 2)
      recovery window   none: no good backup
    1 blocked.
    --- stderr
    hint: `barkeep check` says what can be reached, and what mends it
    ");
    assert_snapshot!(scene.barkeep("check"), @r"
    exit 1
    --- stdout
    RESULT  SERVER  CHECKED           FOUND
    FAIL    orders  server            cannot connect to `[DIR]/socket/.s.PGSQL.5432`: error connecting to server: No such file or directory (os error 2)
      hint: check `connection`; docs/postgresql-role.md lists the grants
    FAIL    orders  destination disk  cannot list `orders/base/` in `file://[DIR]/store`: the destination does not exist: No such file or directory (os error 2)
      hint: create it, for barkeep never does: `install -d -m 700 [DIR]/store`
    ");
}

#[test]
fn a_kept_backup_is_not_deleted_and_neither_is_the_last_one() {
    let scene = Scene::new();
    let id = scene.backup(18);
    assert_snapshot!(scene.run(&["delete", "orders", &id]), @r"
    exit 4
    --- stderr
    error: nothing is deleted in `disk`: 0 good backups would be left, the minimum is 1
    hint: take another backup first; `minimum_redundancy` is the limit
    ");
    scene.backup(19);
    assert_snapshot!(scene.run(&["keep", "orders", &id, "--target", "full", "--reason", "audit"]), @r"
    exit 0
    --- stdout
    20261118T020003 in disk is kept (full)
    ");
    assert_snapshot!(scene.run(&["delete", "orders", &id]), @r"
    exit 4
    --- stderr
    error: nothing is deleted in `disk`: backup 20261118T020003 is kept
    hint: `barkeep keep orders 20261118T020003 --release` releases it
    ");
    assert_snapshot!(scene.run(&["keep", "orders", &id, "--release"]), @r"
    exit 0
    --- stdout
    20261118T020003 in disk is not kept any more
    ");
    assert_snapshot!(scene.run(&["delete", "orders", &id, "--dry-run"]), @r"
    exit 0
    --- stdout
      - delete   20261118T020003  requested
    ");
    assert_snapshot!(scene.run(&["delete", "orders", &id]), @r"
    exit 0
    --- stdout
    deleted 20261118T020003 from disk
    ");
    assert_snapshot!(scene.run(&["show", "orders", &id]), @r"
    exit 1
    --- stderr
    error: cannot find backup `20261118T020003`: it is not in the catalog
    ");
}

#[test]
fn over_several_servers_the_worst_ending_is_told() {
    let scene = Scene::new();
    let config = std::fs::read_to_string(scene.path("barkeep.toml")).expect("read");
    // A directory that is missing fails; a server that does not answer is unreachable. The failure is told.
    scene.configure(&format!(
        "{config}\n[destinations.gone]\nurl = \"file://{}\"\n\n[servers.archive]\ndestination = \"gone\"\n",
        scene.path("gone").display()
    ));
    let ends = |arguments: &[&str]| {
        let status = scene.command(arguments).output().expect("it starts").status;
        status.code()
    };
    assert_eq!(ends(&["plan", "orders"]), Some(8));
    assert_eq!(ends(&["plan", "archive"]), Some(1));
    for command in [
        &["plan"][..],
        &["status"],
        &["check"],
        &["reconcile", "--once"],
    ] {
        assert_eq!(ends(command), Some(1), "{command:?}");
    }
}

#[test]
fn what_is_printed_is_also_json() {
    let scene = Scene::new();
    let id = scene.backup(19);
    let commands: [&[&str]; 9] = [
        &["plan"],
        &["status"],
        &["check"],
        &["list"],
        &["show", "orders", &id],
        &["explain", "orders", &id],
        &["reconcile", "--once"],
        &["keep", "orders", &id, "--target", "full"],
        &["keep", "orders", &id, "--release"],
    ];
    for command in commands {
        let arguments = [command, &["--format", "json"]].concat();
        let output = scene.command(&arguments).output().expect("it starts");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command:?}: {error}: {output:?}"));
        let shaped = json["format"].is_u64() || json["id"].is_string();
        assert!(shaped, "{command:?}: {json}");
    }
}

#[test]
fn only_who_insists_declares_dead_what_may_be_alive() {
    let scene = Scene::new();
    let id = scene.backup(19);
    let info = format!("store/orders/base/{id}/backup.info");
    let text = std::fs::read_to_string(scene.path(&info)).expect("it");
    scene.write(&info, &text.replace("status=DONE", "status=STARTED"));
    let abandon = ["abandon", "orders", &id];
    assert_snapshot!(scene.run(&abandon), @r"
    exit 0
    --- stdout
    20261119T020003 in disk is declared failed
    ");
    assert_snapshot!(scene.run(&abandon), @r"
    exit 4
    --- stderr
    error: cannot abandon 20261119T020003 in `disk`: it is FAILED, and not unfinished
    ");
    let future = scene.backup(29);
    let info = format!("store/orders/base/{future}/backup.info");
    scene.write(
        &info,
        &text
            .replace("status=DONE", "status=STARTED")
            .replace("2026-11-19", "2126-11-19"),
    );
    let abandon = ["abandon", "orders", &future];
    assert_snapshot!(scene.run(&abandon), @r"
    exit 4
    --- stderr
    error: cannot abandon 20261129T020003 in `disk`: it may be alive: 20261129T020003 was started elsewhere 2126-11-19T02:00:04Z
    hint: `--force` if it is certainly dead
    ");
    assert_snapshot!(scene.run(&[&abandon[..], &["--force"]].concat()), @r"
    exit 0
    --- stdout
    20261129T020003 in disk is declared failed
    ");
}

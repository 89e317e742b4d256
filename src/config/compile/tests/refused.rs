//! What is refused, by its message and its place.

use insta::assert_snapshot;

use super::*;

#[test]
fn units_are_mandatory() {
    let keys = r#"
splay = "30"
wal.max_lag = 5
orphans.delete_after = "3 months"
part_size = "8"
"#;
    assert_snapshot!(messages(keys), @r#"
    barkeep.toml:8:9 `30` has no unit; write `30d`, `30h` or `30m`
    barkeep.toml:9:15 expected a time such as `7d`, or `none`, found a number
    barkeep.toml:10:24 `3 months`: a month or a year has no fixed length; write days
    barkeep.toml:11:13 `8` has no unit; write `8B`, `8MiB` or `8GB`
    "#);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let weekly = "schedule = \"@weekly\"\n";
    let with = |keys: &str| messages(&format!("{weekly}{keys}"));
    assert_snapshot!(with("retention = { window = \"3d\" }"), @r#"
    barkeep.toml:8:13 the retention is shorter than the schedule's period
    "#);
    assert_snapshot!(with("retention = { window = \"30d\" }\n\
        minimum_redundancy = 6"), @"barkeep.toml:9:22 the retention never holds so many backups");
    assert_snapshot!(with("retention = { window = \"30d\" }\nminimum_redundancy = 5"), @"");
    assert_snapshot!(with("retention = \"REDUNDANCY 3\"\n\
        minimum_redundancy = 4"), @"barkeep.toml:9:22 the retention never holds so many backups");
    assert_snapshot!(with("retention = { window = \"30d\", redundancy = 3 }"), @r#"
    barkeep.toml:8:13 a retention is either a window or a redundancy
    "#);
    assert_snapshot!(with("retention = \"REDUNDANCY 0\""), @r#"
    barkeep.toml:8:13 `REDUNDANCY 0` keeps nothing
    "#);
}

#[test]
fn what_could_never_start_is_refused() {
    let with = |keys: &str| messages(&format!("retention = \"none\"\n{keys}"));
    let outside = "schedule = \"0 12 * * *\"\nwindow = \"01:00-06:00\"\n";
    assert_snapshot!(with(outside), @"");
    assert_snapshot!(with(&format!("{outside}catch_up = \"skip\"")), @"barkeep.toml:8:12 no backup would ever start");
    let inside = "schedule = \"30 */6 * * *\"\nwindow = \"06:00-07:00\"\ncatch_up = \"skip\"\n";
    assert_snapshot!(with(inside), @"");
    let splay = with("schedule = \"@hourly\"\nsplay = \"1h\"");
    assert_snapshot!(splay, @"barkeep.toml:9:9 the splay is not shorter than the schedule's period");
}

#[test]
fn what_barman_could_not_restore_or_a_codec_does_not_have_is_refused() {
    assert_snapshot!(said(&format!("{HEAD}[policies.gold]\ncompression = \"zstd\"\n")), @r#"
     × base backups cannot be compressed with zstd
      ╭─[barkeep.toml:5:15]
    4 │ [policies.gold]
    5 │ compression = "zstd"
      ·               ───┬──
      ·                  ╰── for WAL only
      ╰────
     help: Barman 3.19 could not restore them; `none`, `gzip`, `bzip2`, `snappy` and `lz4` it can
    "#);
    let levels = r#"
compression = { codec = "gzip", level = 10 }
wal.compression = { codec = "snappy", level = 1 }
"#;
    assert_snapshot!(messages(levels), @r#"
    barkeep.toml:8:15 level 10 is outside gzip's range of 1 to 9
    barkeep.toml:9:19 snappy compression has no levels
    "#);
    assert_snapshot!(messages("compression = { level = 1 }"), @r#"
    barkeep.toml:7:15 the compression does not say its codec
    "#);
}

#[test]
fn limits_are_kept() {
    let keys = [
        "orphans.delete_after = \"24h\"",
        "minimum_redundancy = 0",
        "jobs = 0",
        "deletes.max_percent = 101",
        "part_size = \"1MiB\"",
        "max_archive_size = \"100GiB\"",
        "time_zone = \"Europe/Rom\"",
        "schedule = { every = \"5h\", at = \"02:00\" }",
        "schedule = { at = \"02:00\" }",
        "window = \"1-6\"",
        "pgdata = \"data\"",
        "keep = [{ first_of = \"month\" }]",
        "jobs = -1",
    ];
    let said: Vec<String> = keys
        .iter()
        .map(|key| {
            let quiet = "schedule = \"none\"\nretention = \"none\"\n";
            let quiet = if key.starts_with("schedule") {
                &quiet[18..]
            } else {
                quiet
            };
            messages(&format!("{quiet}{key}"))
        })
        .collect();
    assert_snapshot!(said.join("\n"), @r#"
    barkeep.toml:9:24 orphans must be left alone for at least 48h
    barkeep.toml:9:22 at least the newest good backup always stays
    barkeep.toml:9:8 zero would mean that nothing is ever done
    barkeep.toml:9:23 there are never more than 100 percent to delete
    barkeep.toml:9:13 parts of this size are not accepted by S3
    barkeep.toml:9:20 an archive of this size has too many parts
    barkeep.toml:9:13 there is no time zone `Europe/Rom`
    barkeep.toml:8:12 with `at`, an interval divides a day (6h) or is a number of whole days (48h)
    barkeep.toml:8:12 the schedule does not say how often
    barkeep.toml:9:10 `1-6` is no window; write 01:00-06:00
    barkeep.toml:9:10 `pgdata` must be an absolute path
    barkeep.toml:9:9 a rule to keep backups needs `for` and `target`
    barkeep.toml:9:8 `-1` is not a whole number
    "#);
}

#[test]
fn places_that_overlap_are_refused() {
    let text = "version = 1\n[destinations]\na.url = \"s3://b/x\"\nb.url = \"s3://b/x/y\"\n\
        c.url = \"s3://b/x/\"\ne.url = \"s3://b/xy\"\n";
    assert_snapshot!(messages_of(text), @r#"
    barkeep.toml:4:9 one destination lies inside another
    barkeep.toml:5:9 one destination lies inside another
    barkeep.toml:5:9 two destinations are one place
    "#);
    let other_store = "version = 1\n[destinations]\na.url = \"s3://b/x\"\n\
        b = { url = \"s3://b/x\", s3.endpoint_url = \"http://h\" }\n";
    assert_snapshot!(messages_of(other_store), @"");
    assert_snapshot!(messages_of(&format!("{HEAD}[servers.s]\nconnection = \"\"\n\
        destination = \"d\"\nretention = \"none\"\nschedule = \"none\"\n[servers.t]\n\
        name = \"s\"\nstate = \"retired\"\nretention = \"none\"\n\
        destination = \"d\"\n")), @"barkeep.toml:10:8 two servers are called `s` in the catalog");
}

#[test]
fn keys_of_another_provider_are_refused() {
    assert_snapshot!(messages_of(&format!("{HEAD}s3.region = \"eu-south-1\"\n")), @r#"
    barkeep.toml:4:1 `s3` does not belong to this destination
    "#);
    let gcs = "version = 1\n[destinations.g]\nurl = \"gs://b\"\ns3.region = \"x\"\n";
    assert_snapshot!(messages_of(gcs), @r#"
    barkeep.toml:4:1 `s3` does not belong to this destination
    "#);
    let gcs = r#"
version = 1
[destinations.g]
url = "gs://b"
[destinations.g.gcs]
endpoint_url = "http://10.0.0.1:4443"
tags = { "the team" = "1", zone = "ü" }
"#;
    assert_snapshot!(messages_of(gcs), @r#"
    barkeep.toml:6:16 `http://10.0.0.1:4443` is no URL of the service
    barkeep.toml:7:23 metadata `the team` cannot be set: a name has ASCII letters, digits and `-_.` only
    barkeep.toml:7:35 metadata `zone` cannot be set: a text has printable ASCII characters only
    "#);
    let s3 = r#"
version = 1
[destinations.a]
url = "s3://b"
[destinations.a.s3]
encryption = { sse = "AES256", key = "k" }
endpoint_url = "h:9"
tags = { "aws:x" = "1" }
"#;
    assert_snapshot!(messages_of(s3), @r#"
    barkeep.toml:6:38 a key is for `aws:kms` only
    barkeep.toml:7:16 `h:9` is no URL of a store
    barkeep.toml:8:20 tag `aws:x` cannot be set: keys that begin with `aws:` are reserved
    "#);
}

#[test]
fn what_azure_would_not_take_is_refused() {
    let azure = r#"
version = 1
[destinations.a]
url = "https://acc.blob.core.windows.net/c/p"
[destinations.a.azure]
credential = "default"
connection_string = { env = "AZURE" }
max_block_size = "1KiB"
max_concurrency = 0
read_timeout = "0s"
tags = { team = "a@b" }
[destinations.b]
url = "https://acc.blob.core.windows.net/c/p/q"
"#;
    assert_snapshot!(messages_of(azure), @r#"
    barkeep.toml:7:21 `credential` and `connection_string` exclude one another
    barkeep.toml:8:18 Azure takes no such size
    barkeep.toml:9:19 zero would mean that nothing is ever done
    barkeep.toml:10:16 no store answers in no time
    barkeep.toml:11:17 tag `team` cannot be set: tags have letters, digits, spaces and `_.:/=+-` only
    barkeep.toml:13:7 one destination lies inside another
    "#);
    let inline = "version = 1\n[destinations.a]\nurl = \"https://acc.blob.core.windows.net/c\"\n\
        azure.connection_string = \"AccountKey=c2VjcmV0\"\n";
    assert_snapshot!(messages_of(inline), @"barkeep.toml:4:7 a password is written in the configuration");
    assert!(!said(inline).contains("c2VjcmV0"));
}

#[test]
fn only_backups_that_the_server_sends_are_incremental() {
    let keys = "incremental.full_every = \"7d\"\nschedule = \"none\"\nretention = \"none\"\n";
    assert_snapshot!(messages(keys), @"barkeep.toml:7:1 incremental backups are sent by the server");
}

/// What is wrong with a table of snapshots.
fn snapshots(keys: &str) -> String {
    messages(&format!(
        "method = \"snapshot\"\nschedule = \"none\"\nretention = \"none\"\n{keys}"
    ))
}

#[test]
fn snapshots_need_disks_and_the_keys_of_their_own_cloud() {
    assert_snapshot!(snapshots(""), @"barkeep.toml:7:10 disk snapshots need to know of which disks");
    let aws = "snapshot = { provider = \"aws\", instance = \"i\", disks = [\"d\"] }\n";
    assert_snapshot!(snapshots(aws), @"");
    let nothing = "snapshot = { provider = \"azure\", disks = [], zone = \"z\" }\n";
    assert_snapshot!(snapshots(nothing), @r#"
    barkeep.toml:10:12 disk snapshots need `disks`
    barkeep.toml:10:12 disk snapshots need `instance`
    barkeep.toml:10:12 disk snapshots need `resource_group`
    barkeep.toml:10:12 disk snapshots need `subscription`
    barkeep.toml:10:53 `zone` is for snapshots on Google Cloud
    "#);
    let locks = "snapshot = { provider = \"aws\", instance = \"i\", disks = [\"d\"], \
        lock = { mode = \"governance\", days = 0, cool_off = \"90m\" } }\n";
    assert_snapshot!(snapshots(locks), @r#"
    barkeep.toml:10:100 a lock lasts 1 to 36500 days
    barkeep.toml:10:114 `cool_off` is for the mode `compliance`
    barkeep.toml:10:114 a lock can be changed for 1 to 72 whole hours
    "#);
    let both = "days = 1, until = \"2027-01-01\"";
    let both = locks.replace("days = 0, cool_off = \"90m\"", both);
    assert_snapshot!(snapshots(&both), @"barkeep.toml:10:70 a lock needs either `days` or `until`");
    let lz4 = format!("compression = \"lz4\"\n{aws}");
    assert_snapshot!(snapshots(&lz4), @"barkeep.toml:10:15 snapshots are not compressed");
}

#[test]
fn one_says_where_disks_are_mounted_and_a_command_has_a_program() {
    let with = |keys: &str| {
        let disks = "provider = \"aws\", instance = \"i\", disks = [\"d\"]";
        snapshots(&format!("snapshot = {{ {disks}, {keys} }}\n"))
    };
    let mounts = "mounts = { d = \"/srv/pg\" }";
    let command = "mounts_command = [\"ssh\", \"db1\"]";
    assert_snapshot!(with(mounts), @"");
    assert_snapshot!(with(command), @"");
    assert_snapshot!(with(&format!("{mounts}, {command}")), @"barkeep.toml:10:108 `mounts` and `mounts_command` exclude each other");
    assert_snapshot!(with("mounts_command = []"), @"barkeep.toml:10:80 a command needs a program");
    assert_snapshot!(with("mounts_command = [\"\", \"db1\"]"), @"barkeep.toml:10:80 a command needs a program");
    assert_snapshot!(with("mounts_command = \"ssh db1\""), @"barkeep.toml:10:80 expected a list, found text");
}

#[test]
fn a_service_listens_at_an_address_and_does_not_look_all_the_time() {
    let service = "[service]\nlisten = \"9187\"\ncheck_every = \"1s\"\n";
    assert_snapshot!(messages_of(&format!("{HEAD}{service}")), @r#"
    barkeep.toml:5:10 `9187` is not an address with its port, such as `127.0.0.1:9187` or `[::]:9187`
    barkeep.toml:6:15 servers are looked at every 10s at most
    "#);
}

#[test]
fn incremental_backups_are_sent_and_become_full_again() {
    let sent = |keys: &str| {
        let rest = "schedule = \"none\"\nretention = \"none\"\n";
        messages(&format!("method = \"stream\"\n{keys}{rest}"))
    };
    assert_eq!(
        sent("incremental = { full_every = \"7d\", max_chain = 2 }\n"),
        ""
    );
    assert_eq!(sent("server_compression = \"zstd\"\n"), "");
    assert_snapshot!(
        sent("server_compression = \"bzip2\"\n"),
        @"barkeep.toml:8:22 PostgreSQL does not compress with bzip2"
    );
    assert_snapshot!(
        sent("incremental.max_chain = 1\n"),
        @"barkeep.toml:8:1 incremental backups need `full_every`"
    );
    assert_snapshot!(
        sent("incremental = { full_every = \"7d\", max_chain = 1 }\n"),
        @"barkeep.toml:8:48 a chain of fewer than two has no incremental backup"
    );
}

#[test]
fn what_barkeep_rewrites_needs_a_place_that_allows_it() {
    let destinations = |d: &str, e: &str| {
        messages_of(&format!(
            "{HEAD}control = \"{d}\"\n[destinations.e]\nurl = \"file:///e\"\n{e}"
        ))
    };
    assert_eq!(destinations("e", ""), "");
    for (d, e) in [("d", ""), ("x", ""), ("e", "control = \"d\"\n")] {
        let said = destinations(d, e);
        assert!(
            said.contains(&format!("`{d}` cannot be the `control` of `d`")),
            "{said}"
        );
    }
}

#[test]
fn a_copy_is_made_of_what_is_read_from_the_server() {
    let head = format!(
        "{HEAD}[destinations.e]\nurl = \"file:///e\"\n[destinations.f]\nurl = \"file:///f\"\n\
            [defaults]\nschedule = \"none\"\nretention = \"none\"\n"
    );
    let entries = |entries: &[&str]| {
        let each = entries
            .iter()
            .map(|entry| format!("[[servers.s.backups]]\n{entry}\n"));
        messages_of(&format!("{head}{}", each.collect::<String>()))
    };
    let read = "destination = \"d\"";
    let copy = "destination = \"e\"\ncopy_of = \"d\"";
    assert_eq!(entries(&[read, copy]), "");
    let of_copy = "destination = \"f\"\ncopy_of = \"e\"";
    let healed = "destination = \"d\"\nwal = \"healed\"";
    let with_schedule = format!("{copy}\nschedule = \"@daily\"");
    for (written, expected) in [
        (
            vec![read, "destination = \"e\"\ncopy_of = \"e\""],
            "nothing can be copied to `e`",
        ),
        (
            vec![read, "destination = \"e\"\ncopy_of = \"x\""],
            "nothing can be copied to `e`",
        ),
        (vec![read, copy, of_copy], "nothing can be copied to `f`"),
        (
            vec![healed, copy],
            "archiving must wait for this destination",
        ),
        (
            vec![read, &with_schedule],
            "`schedule` says nothing about a copy",
        ),
    ] {
        let said = entries(&written);
        let (_, message) = said.split_once(' ').unwrap_or_default();
        assert_eq!(message, expected);
    }
}

#[test]
fn several_destinations_must_say_which_one_is_read() {
    let text = format!(
        "{HEAD}[destinations.e]\nurl = \"file:///e\"\n[defaults]\nschedule = \"none\"\n\
            retention = \"none\"\n[[servers.s.backups]]\ndestination = \"d\"\n\
            [[servers.s.backups]]\ndestination = \"e\"\n[[servers.s.backups]]\n\
            destination = \"e\"\n"
    );
    assert_snapshot!(said(&text), @r#"
     × `s` would be read more than once
       ╭─[barkeep.toml:12:15]
     9 │ [[servers.s.backups]]
    10 │ destination = "d"
       ·               ─┬─
       ·                ╰── and this one
    11 │ [[servers.s.backups]]
    12 │ destination = "e"
       ·               ─┬─
       ·                ╰── this destination
    13 │ [[servers.s.backups]]
       ╰────
     help: say which one is read from the server: give the others `copy_of`

     × `s` has two entries for one destination
       ╭─[barkeep.toml:14:15]
    11 │ [[servers.s.backups]]
    12 │ destination = "e"
       ·               ─┬─
       ·                ╰── first here
    13 │ [[servers.s.backups]]
    14 │ destination = "e"
       ·               ─┬─
       ·                ╰── again here
       ╰────
    "#);
}

#[test]
fn what_nobody_said_is_warned_about() {
    let remote = "[servers.s]\ndestination = \"d\"\nconnection = \"host=db1.example\"\n";
    assert_snapshot!(said(&format!("{HEAD}{remote}")), @r#"
     ⚠ nothing sets a retention for server `s`
      ╭─[barkeep.toml:4:10]
    3 │ url = "file:///srv/backup"
    4 │ [servers.s]
      ·          ┬
      ·          ╰── all of its backups stay for ever
    5 │ destination = "d"
      ╰────
     help: if that is meant, write `retention = "none"`

     ⚠ nothing sets a schedule for server `s`
      ╭─[barkeep.toml:4:10]
    3 │ url = "file:///srv/backup"
    4 │ [servers.s]
      ·          ┬
      ·          ╰── no backups are taken of it
    5 │ destination = "d"
      ╰────
     help: if that is meant, write `schedule = "none"`

     ⚠ `db1.example` may be another machine
      ╭─[barkeep.toml:6:14]
    5 │ destination = "d"
    6 │ connection = "host=db1.example"
      ·              ─────────┬────────
      ·                       ╰── files are read where barkeep runs
      ╰────
     help: elsewhere than on that machine, barkeep takes no backups of it; a socket directory says
           that it is local
    "#);
    let sent =
        format!("{HEAD}{remote}method = \"stream\"\nschedule = \"none\"\nretention = \"none\"\n");
    assert_eq!(
        messages_of(&sent),
        "",
        "it sends its files from wherever it is"
    );
    let text = format!(
        "{HEAD}[servers.s]\ndestination = \"d\"\nschedule = \"@daily\"\nretention = \"none\"\n"
    );
    assert_snapshot!(messages_of(&text), @"barkeep.toml:4:10 server `s` has no `connection`");
}

#[test]
fn policies_extend_once() {
    let text = format!(
        "{HEAD}[policies.a]\njobs = 1\n[policies.b]\nextends = \"a\"\n[policies.c]\n\
            extends = \"b\"\n[servers.s]\npolicy = \"c\"\ndestination = \"d\"\nconnection = \"\"\n\
            schedule = \"none\"\nretention = \"none\"\n"
    );
    assert_snapshot!(said(&text), @r#"
     × a policy that is extended cannot extend another
       ╭─[barkeep.toml:9:11]
     6 │ [policies.b]
     7 │ extends = "a"
       ·           ─┬─
       ·            ╰── that itself extends one here
     8 │ [policies.c]
     9 │ extends = "b"
       ·           ─┬─
       ·            ╰── this policy extends one
    10 │ [servers.s]
       ╰────
     help: policies are extended once, so that their meaning is found in two places at most
    "#);
}

#[test]
fn the_version_is_said_and_known() {
    assert_snapshot!(messages_of("[defaults]\n\
        jobs = 2\n"), @"barkeep.toml:1:1 the configuration does not say its version");
    assert_snapshot!(messages_of("version = 2\n"), @"barkeep.toml:1:11 version 2 is not known");
}

#[test]
fn receiving_wal_is_checked() {
    let said = |keys: &str| {
        let said = messages(&format!(
            "schedule = \"none\"\nretention = \"none\"\nwal = {{ receive = {keys} }}\n"
        ));
        said.split_once(' ').map_or("", |(_, said)| said).to_owned()
    };
    for right in [
        "{}",
        "\"none\"",
        "{ slot = \"a_slot\", tail = \"1s\", spool = \"/s\", spool_limit = \"64MiB\" }",
    ] {
        assert_eq!(said(right), "", "{right}");
    }
    for (wrong, why) in [
        (
            "{ slot = \"A-slot\" }",
            "`A-slot` cannot be the name of a slot",
        ),
        ("{ spool = \"s\" }", "the spool must be an absolute path"),
        (
            "{ spool_limit = \"1GiB\" }",
            "`spool_limit` needs a `spool`",
        ),
        (
            "{ spool = \"/s\", spool_limit = \"1MiB\" }",
            "a spool of this size has no room for a few segments",
        ),
        (
            "{ tail = \"2h\" }",
            "the hot tail cannot be stored as often as that",
        ),
    ] {
        assert_eq!(said(wrong), why, "{wrong}");
    }
    assert!(said("\"on\"").contains("`on` is not `none`"));
}

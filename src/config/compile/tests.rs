//! Whole configurations in, errors as people see them out.

use insta::assert_snapshot;

use super::*;
use crate::config::{Style, load, origin};

const HEAD: &str = "version = 1\n[destinations.d]\nurl = \"file:///srv/backup\"\n";

/// Compiles texts as files of these names.
fn compiled(texts: &[(&str, &str)]) -> Result<Compiled, Report> {
    compile(load::from_texts(texts))
}

/// Everything that is said about one file: errors, else warnings.
fn said(text: &str) -> String {
    said_of(&[("barkeep.toml", text)])
}

fn said_of(texts: &[(&str, &str)]) -> String {
    match compiled(texts) {
        Ok(compiled) => compiled.warnings.render(Style::Plain),
        Err(report) => report.render(Style::Plain),
    }
}

/// The messages alone, one a line, of a server with these keys after a usual head.
fn messages(keys: &str) -> String {
    let base = "[servers.s]\nconnection = \"\"\ndestination = \"d\"\n";
    messages_of(&format!("{HEAD}{base}{keys}"))
}

fn messages_of(text: &str) -> String {
    let report = match compiled(&[("barkeep.toml", text)]) {
        Ok(compiled) => compiled.warnings,
        Err(report) => report,
    };
    let message = |finding: crate::config::diagnostic::Finding| {
        let place = finding.places.first().map(|at| at.place.to_string());
        format!("{} {}", place.unwrap_or_default(), finding.message)
    };
    let messages: Vec<String> = report.findings().into_iter().map(message).collect();
    messages.join("\n")
}

#[test]
fn an_unknown_key_is_underlined_and_the_known_one_named() {
    assert_snapshot!(said(&format!("{HEAD}[policies.gold]\nretension = \"30d\"\n")), @r#"
     × unknown key `retension`
      ╭─[barkeep.toml:5:1]
    4 │ [policies.gold]
    5 │ retension = "30d"
      · ────┬────
      ·     ╰── not known here
      ╰────
     help: did you mean `retention`?
    "#);
}

#[test]
fn a_wrong_type_says_what_it_should_be() {
    assert_snapshot!(said(&format!("{HEAD}[policies.gold]\njobs = \"four\"\n")), @r#"
     × expected a whole number, found text
      ╭─[barkeep.toml:5:8]
    4 │ [policies.gold]
    5 │ jobs = "four"
      ·        ───┬──
      ·           ╰── should be a whole number
      ╰────
    "#);
}

#[test]
fn a_syntax_error_is_found_with_everything_else() {
    assert_snapshot!(said(&format!("{HEAD}max_parallel = = 4\n[servers.s]\nmode = \"ful\"\n")), @r#"
     × not TOML
      ╭─[barkeep.toml:4:16]
    3 │ url = "file:///srv/backup"
    4 │ max_parallel = = 4
      ·                ┬
      ·                ╰── extra `=`, expected nothing
    5 │ [servers.s]
      ╰────

     × not TOML
      ╭─[barkeep.toml:4:18]
    3 │ url = "file:///srv/backup"
    4 │ max_parallel = = 4
      ·                  ▲
      ·                  ╰── unexpected key or value, expected newline, `#`
    5 │ [servers.s]
      ╰────

     × unknown value `ful`
      ╭─[barkeep.toml:6:8]
    5 │ [servers.s]
    6 │ mode = "ful"
      ·        ──┬──
      ·          ╰── one of `observe`, `additive`, `full`
      ╰────
     help: did you mean `full`?
    "#);
}

#[test]
fn all_errors_are_said_at_once() {
    let text = r#"
[destinations.d]
url = "s4://bucket"
max_bandwidth = 200

[policies.gold]
schedule = "0 2 31 2 *"
retention = "RECOVERY WINDOW OF 30 FORTNIGHTS"
wal = { max_lag = "5", compresion = "zstd" }

[servers.orders]
policy = "glod"
destination = "d"
connection = ""
"#;
    assert_snapshot!(said(text), @r#"
     × the configuration does not say its version
      ╭─[barkeep.toml:1:1]
    1 │ 
      · ▲
      · ╰── begin with `version = 1`
    2 │ [destinations.d]
    3 │ url = "s4://bucket"
      ╰────

     × `s4://bucket` is no destination; write s3://, gs://, https:// (Azure) or file:///
      ╭─[barkeep.toml:3:7]
    2 │ [destinations.d]
    3 │ url = "s4://bucket"
      ·       ──────┬──────
      ·             ╰── here
    4 │ max_bandwidth = 200
      ╰────

     × expected a rate such as `200MiB/s`, or `none`, found a number
      ╭─[barkeep.toml:4:17]
    3 │ url = "s4://bucket"
    4 │ max_bandwidth = 200
      ·                 ─┬─
      ·                  ╰── should be a rate such as `200MiB/s`, or `none`
    5 │ 
      ╰────

     × `0 2 31 2 *` is never due: no year has such a day
      ╭─[barkeep.toml:7:12]
    6 │ [policies.gold]
    7 │ schedule = "0 2 31 2 *"
      ·            ──────┬─────
      ·                  ╰── here
    8 │ retention = "RECOVERY WINDOW OF 30 FORTNIGHTS"
      ╰────

     × `RECOVERY WINDOW OF 30 FORTNIGHTS` is no retention policy; write `REDUNDANCY <number>` or
     │ `RECOVERY WINDOW OF <number> DAYS|WEEKS|MONTHS`
      ╭─[barkeep.toml:8:13]
    7 │ schedule = "0 2 31 2 *"
    8 │ retention = "RECOVERY WINDOW OF 30 FORTNIGHTS"
      ·             ─────────────────┬────────────────
      ·                              ╰── here
    9 │ wal = { max_lag = "5", compresion = "zstd" }
      ╰────

     × `5` has no unit; write `5d`, `5h` or `5m`
       ╭─[barkeep.toml:9:19]
     8 │ retention = "RECOVERY WINDOW OF 30 FORTNIGHTS"
     9 │ wal = { max_lag = "5", compresion = "zstd" }
       ·                   ─┬─
       ·                    ╰── here
    10 │ 
       ╰────

     × unknown key `compresion`
       ╭─[barkeep.toml:9:24]
     8 │ retention = "RECOVERY WINDOW OF 30 FORTNIGHTS"
     9 │ wal = { max_lag = "5", compresion = "zstd" }
       ·                        ─────┬────
       ·                             ╰── not known here
    10 │ 
       ╰────
     help: did you mean `compression`?

     × there is no policy `glod`
       ╭─[barkeep.toml:12:10]
    11 │ [servers.orders]
    12 │ policy = "glod"
       ·          ───┬──
       ·             ╰── not defined
    13 │ destination = "d"
       ╰────
     help: did you mean `gold`?
    "#);
}

#[test]
fn a_name_defined_twice_shows_both_files() {
    let one = "version = 1\n[destinations.d]\nurl = \"file:///a\"\n[defaults.wal]\ncheck = true\n";
    let two = "[destinations.d]\nurl = \"file:///b\"\n[defaults]\nwal.check = false\nwal.read_ahead = 2\n";
    let files = [("barkeep.toml", one), ("conf.d/d.toml", two)];
    assert_snapshot!(said_of(&files), @r#"
     × `destinations.d` is defined twice
      ╭─[conf.d/d.toml:1:15]
    1 │ [destinations.d]
      ·               ┬
      ·               ╰── defined again here
    2 │ url = "file:///b"
      ╰────
     help: each name is defined in one file; give one of them another name
     ╰─▶   ☞ `destinations.d` is first defined here
            ╭─[barkeep.toml:2:15]
          1 │ version = 1
          2 │ [destinations.d]
            ·               ─
          3 │ url = "file:///a"
            ╰────

     × `defaults.wal.check` is defined twice
      ╭─[conf.d/d.toml:4:5]
    3 │ [defaults]
    4 │ wal.check = false
      ·     ──┬──
      ·       ╰── defined again here
    5 │ wal.read_ahead = 2
      ╰────
     help: each name is defined in one file; give one of them another name
     ╰─▶   ☞ `defaults.wal.check` is first defined here
            ╭─[barkeep.toml:5:1]
          4 │ [defaults.wal]
          5 │ check = true
            · ─────
            ╰────
    "#);
}

#[test]
fn a_password_in_the_text_is_refused_and_not_shown() {
    let keys =
        "connection = \"host=/run password=tiger\"\npassword = \"hunter2\"\ndestination = \"d\"\n";
    let shown = said(&format!("{HEAD}[servers.s]\n{keys}"));
    assert!(
        !shown.contains("tiger") && !shown.contains("hunter2"),
        "{shown}"
    );
    assert_snapshot!(shown, @r#"
     × a password is written in the configuration
      ╭─[barkeep.toml:5:1]
    4 │ [servers.s]
    5 │ connection = **************************
      · ─────┬────
      ·      ╰── not shown here
    6 │ password = *********
      ╰────
     help: say where it is: `password = { file = "..." }`, `{ env = "..." }`, `{ command = [...] }`,
           or a passfile

     × a password is written in the configuration
      ╭─[barkeep.toml:6:1]
    5 │ connection = **************************
    6 │ password = *********
      · ────┬───
      ·     ╰── not shown here
    7 │ destination = "d"
      ╰────
     help: say where it is: `password = { file = "..." }`, `{ env = "..." }`, `{ command = [...] }`,
           or a passfile
    "#);
}

#[test]
fn unknown_names_suggest_the_known() {
    assert_snapshot!(messages("policy = \"gold\"\n"), @"barkeep.toml:7:10 there is no policy `gold`");
    let text = format!(
        "{HEAD}[policies.gold]\n[servers.s]\npolicy = \"glod\"\ndestination = \"D\"\nconnection = \"\"\n"
    );
    assert_snapshot!(said(&text), @r#"
     × there is no policy `glod`
      ╭─[barkeep.toml:6:10]
    5 │ [servers.s]
    6 │ policy = "glod"
      ·          ───┬──
      ·             ╰── not defined
    7 │ destination = "D"
      ╰────
     help: did you mean `gold`?

     × there is no destination `D`
      ╭─[barkeep.toml:7:15]
    6 │ policy = "glod"
    7 │ destination = "D"
      ·               ─┬─
      ·                ╰── not defined
    8 │ connection = ""
      ╰────
     help: did you mean `d`?
    "#);
}

#[test]
fn units_are_mandatory() {
    assert_snapshot!(messages("splay = \"30\"\nwal.max_lag = 5\norphans.delete_after = \"3 months\"\npart_size = \"8\"\n"), @r#"
    barkeep.toml:7:9 `30` has no unit; write `30d`, `30h` or `30m`
    barkeep.toml:8:15 expected a time such as `7d`, or `none`, found a number
    barkeep.toml:9:24 `3 months`: a month or a year has no fixed length; write days
    barkeep.toml:10:13 `8` has no unit; write `8B`, `8MiB` or `8GB`
    "#);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let weekly = "schedule = \"@weekly\"\n";
    let with = |keys: &str| messages(&format!("{weekly}{keys}"));
    assert_snapshot!(with("retention = { window = \"3d\" }"), @"barkeep.toml:8:13 the retention is shorter than the schedule's period");
    assert_snapshot!(with("retention = { window = \"30d\" }\nminimum_redundancy = 6"), @"barkeep.toml:9:22 the retention never holds so many backups");
    assert_snapshot!(with("retention = { window = \"30d\" }\nminimum_redundancy = 5"), @"");
    assert_snapshot!(with("retention = \"REDUNDANCY 3\"\nminimum_redundancy = 4"), @"barkeep.toml:9:22 the retention never holds so many backups");
    assert_snapshot!(with("retention = { window = \"30d\", redundancy = 3 }"), @"barkeep.toml:8:13 a retention is either a window or a redundancy");
    assert_snapshot!(with("retention = \"REDUNDANCY 0\""), @"barkeep.toml:8:13 `REDUNDANCY 0` keeps nothing");
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
    assert_snapshot!(messages("compression = { codec = \"gzip\", level = 10 }\nwal.compression = { codec = \"snappy\", level = 1 }"), @r#"
    barkeep.toml:7:15 level 10 is outside gzip's range of 1 to 9
    barkeep.toml:8:19 snappy compression has no levels
    "#);
    assert_snapshot!(messages("compression = { level = 1 }\nwal.compression = \"zst\""), @r#"
    barkeep.toml:7:15 the compression does not say its codec
    barkeep.toml:8:19 unknown compression `zst`: expected one of `none`, `gzip`, `bzip2`, `snappy`, `lz4`, `xz`, `zstd`
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
    let text = "version = 1\n[destinations]\na.url = \"s3://b/x\"\nb.url = \"s3://b/x/y\"\nc.url = \"s3://b/x/\"\ne.url = \"s3://b/xy\"\n";
    assert_snapshot!(messages_of(text), @r#"
    barkeep.toml:4:9 one destination lies inside another
    barkeep.toml:5:9 one destination lies inside another
    barkeep.toml:5:9 two destinations are one place
    "#);
    let other_store = "version = 1\n[destinations]\na.url = \"s3://b/x\"\nb = { url = \"s3://b/x\", s3.endpoint_url = \"http://h\" }\n";
    assert_snapshot!(messages_of(other_store), @"");
    assert_snapshot!(messages_of(&format!("{HEAD}[servers.s]\nconnection = \"\"\ndestination = \"d\"\nretention = \"none\"\nschedule = \"none\"\n[servers.t]\nname = \"s\"\nstate = \"retired\"\nretention = \"none\"\ndestination = \"d\"\n")), @"barkeep.toml:10:8 two servers are called `s` in the catalog");
}

#[test]
fn keys_of_another_provider_are_refused() {
    assert_snapshot!(messages_of(&format!("{HEAD}s3.region = \"eu-south-1\"\n")), @"barkeep.toml:4:1 `s3` does not belong to this destination");
    assert_snapshot!(messages_of("version = 1\n[destinations.g]\nurl = \"gs://b\"\ns3.region = \"x\"\n"), @r#"
    barkeep.toml:3:7 `gs://` destinations are not supported yet
    barkeep.toml:4:1 `s3` does not belong to this destination
    "#);
    assert_snapshot!(messages_of("version = 1\n[destinations.a]\nurl = \"s3://b\"\ns3 = { encryption = { sse = \"AES256\", key = \"k\" }, endpoint_url = \"h:9\", tags = { \"aws:x\" = \"1\" } }\n"), @r#"
    barkeep.toml:4:45 a key is for `aws:kms` only
    barkeep.toml:4:67 `h:9` is no URL of a store
    barkeep.toml:4:93 tag `aws:x` cannot be set: keys that begin with `aws:` are reserved
    "#);
}

#[test]
fn what_does_not_exist_yet_is_refused_and_never_ignored() {
    let keys = "method = \"snapshot\"\nverify.every = \"7d\"\ndeletes.grace = \"24h\"\nretire_after = \"90d\"\nmanage_keeps = \"exact\"\nincremental.full_every = \"7d\"\nsnapshot.instance = \"i\"\nschedule = \"none\"\nretention = \"none\"\n";
    assert_snapshot!(messages(keys), @r#"
    barkeep.toml:7:10 method `snapshot` is not supported yet
    barkeep.toml:8:1 `verify` is not supported yet
    barkeep.toml:9:9 `deletes.grace` is not supported yet
    barkeep.toml:10:1 `retire_after` is not supported yet
    barkeep.toml:11:1 `manage_keeps` is not supported yet
    barkeep.toml:12:1 `incremental` is not supported yet
    barkeep.toml:13:1 `snapshot` is not supported yet
    "#);
    let copies = format!(
        "{HEAD}control = \"d\"\nsingle_writer = true\nobject_lock = \"respect\"\n[destinations.e]\nurl = \"file:///e\"\n[defaults]\nschedule = \"none\"\nretention = \"none\"\n[[servers.s.backups]]\ndestination = \"d\"\n[[servers.s.backups]]\ndestination = \"e\"\ncopy_of = \"d\"\nwal = \"healed\"\n[service]\nlisten = \"127.0.0.1:9187\"\n"
    );
    assert_snapshot!(messages_of(&copies), @r#"
    barkeep.toml:4:1 `control` is not supported yet
    barkeep.toml:5:1 `single_writer` is not supported yet
    barkeep.toml:6:1 `object_lock` is not supported yet
    barkeep.toml:16:1 `copy_of` is not supported yet
    barkeep.toml:17:1 `wal.delivery` is not supported yet
    barkeep.toml:18:2 `service` is not supported yet
    "#);
}

#[test]
fn several_destinations_must_say_which_one_is_read() {
    let text = format!(
        "{HEAD}[destinations.e]\nurl = \"file:///e\"\n[defaults]\nschedule = \"none\"\nretention = \"none\"\n[[servers.s.backups]]\ndestination = \"d\"\n[[servers.s.backups]]\ndestination = \"e\"\n[[servers.s.backups]]\ndestination = \"e\"\n"
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
    assert_snapshot!(said(&format!("{HEAD}[servers.s]\ndestination = \"d\"\nconnection = \"host=db1.example\"\n")), @r#"
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
    let text = format!(
        "{HEAD}[servers.s]\ndestination = \"d\"\nschedule = \"@daily\"\nretention = \"none\"\n"
    );
    assert_snapshot!(messages_of(&text), @"barkeep.toml:4:10 server `s` has no `connection`");
}

#[test]
fn policies_extend_once() {
    let text = format!(
        "{HEAD}[policies.a]\njobs = 1\n[policies.b]\nextends = \"a\"\n[policies.c]\nextends = \"b\"\n[servers.s]\npolicy = \"c\"\ndestination = \"d\"\nconnection = \"\"\nschedule = \"none\"\nretention = \"none\"\n"
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
    assert_snapshot!(messages_of("[defaults]\njobs = 2\n"), @"barkeep.toml:1:1 the configuration does not say its version");
    assert_snapshot!(messages_of("version = 2\n"), @"barkeep.toml:1:11 version 2 is not known");
}

#[test]
fn every_leaf_comes_from_the_highest_layer_that_has_it() {
    let main = r#"version = 1
[defaults]
destination = "d"
time_zone = "Europe/Rome"
jobs = 3
wal = { compression = "gzip", check = false }
[destinations.d]
url = "file:///srv/backup"
[servers.orders]
policy = "gold"
connection = "service=orders"
minimum_redundancy = 2
retention = { window = "20d" }
[[servers.orders.keep]]
backup = "before-v17"
target = "full"
until = 2027-12-31
"#;
    let policies = r#"[policies.base]
schedule = "0 2 * * *"
retention = "RECOVERY WINDOW OF 30 DAYS"
keep = [{ first_of = "month", for = "12 months", target = "standalone" }]
[policies.gold]
extends = "base"
schedule = { every = "24h", at = "03:00" }
wal.compression = { codec = "zstd", level = "low" }
"#;
    let files = [("barkeep.toml", main), ("policies/gold.toml", policies)];
    let compiled =
        compiled(&files).unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    assert_snapshot!(origin::show(&compiled.merged, crate::config::Origins::Shown), @r#"
    version = 1

    [destinations.d]
    url = "file:///srv/backup"                                   # barkeep.toml:8

    [servers.orders]
    connection = "service=orders"                                # barkeep.toml:11
    mode = "full"                                                # built in

    [[servers.orders.keep]]
    backup = "before-v17"                                        # barkeep.toml:15
    target = "full"                                              # barkeep.toml:16
    until = "2027-12-31"                                         # barkeep.toml:17

    [[servers.orders.backups]]
    catch_up = "once"                                            # built in
    compression = "none"                                         # built in
    deletes.max_backups = 5                                      # built in
    deletes.max_percent = 25                                     # built in
    destination = "d"                                            # barkeep.toml:3
    immediate_checkpoint = false                                 # built in
    jobs = 3                                                     # barkeep.toml:5
    keep = [{ first_of = "month", for = "12 months", target = "standalone" }] # policies/gold.toml:4
    max_archive_size = "64GiB"                                   # built in
    method = "files"                                             # built in
    minimum_redundancy = 2                                       # barkeep.toml:12
    part_size = "8MiB"                                           # built in
    retention = { window = "20d" }                               # barkeep.toml:13
    schedule = { at = "03:00", every = "24h" }                   # policies/gold.toml:7
    splay = "0s"                                                 # built in
    time_zone = "Europe/Rome"                                    # barkeep.toml:4
    wal.check = false                                            # barkeep.toml:6
    wal.compression = { codec = "zstd", level = "low" }          # policies/gold.toml:8
    wal.max_lag = "5m"                                           # built in
    wal.read_ahead = 8                                           # built in
    wal.spool = "/var/tmp/barkeep"                               # built in
    "#);

    // What is shown is itself a configuration, and means the same.
    let shown = origin::show(&compiled.merged, crate::config::Origins::Hidden);
    let again = compile(load::from_texts(&[("shown.toml", &shown)]));
    let again = again.unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    let mut desired = compiled.desired;
    for server in desired.servers.values_mut() {
        server
            .entries
            .iter_mut()
            .for_each(|entry| entry.policy = None);
    }
    assert_eq!(format!("{desired:?}"), format!("{:?}", again.desired));
}

#[test]
fn keeps_of_single_backups_leave_the_rules_in_force() {
    let rules = |keys: &str| {
        let text = format!(
            "{HEAD}[policies.p]\nkeep = [{{ first_of = \"month\", for = \"1 year\", target = \"full\" }}]\n[servers.s]\npolicy = \"p\"\ndestination = \"d\"\nschedule = \"none\"\nretention = \"none\"\n{keys}"
        );
        let compiled = compiled(&[("a.toml", &text)])
            .unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
        let server = compiled
            .desired
            .servers
            .into_values()
            .next()
            .expect("a server");
        (server.entries[0].keep_rules.len(), server.keeps.len())
    };
    assert_eq!(rules(""), (1, 0));
    assert_eq!(
        rules("keep = [{ backup = \"x\", target = \"full\" }]"),
        (1, 1)
    );
    assert_eq!(rules("keep = []"), (0, 0));
    let both = "keep = [{ backup = \"x\", target = \"full\" }, { first_of = \"year\", for = \"9 years\", target = \"full\" }, { first_of = \"day\", for = \"9d\", target = \"full\" }]";
    assert_eq!(rules(both), (2, 1));
}

#[test]
fn a_keep_until_a_day_holds_to_its_end_by_the_local_clock() {
    let text = format!(
        "{HEAD}[defaults]\ntime_zone = \"Europe/Rome\"\n[servers.s]\ndestination = \"d\"\nschedule = \"none\"\nretention = \"none\"\nkeep = [{{ backup = \"x\", target = \"full\", until = 2027-12-31 }}]\n"
    );
    let compiled = compiled(&[("a.toml", &text)])
        .unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    let server = compiled
        .desired
        .servers
        .into_values()
        .next()
        .expect("a server");
    let until = server.keeps[0].until.map(|until| until.to_string());
    assert_eq!(until.as_deref(), Some("2027-12-31T23:00:00Z"));
}

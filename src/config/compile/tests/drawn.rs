//! Errors as they are drawn, with the text underlined.

use insta::assert_snapshot;

use super::*;

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
    let two = "[destinations.d]\nurl = \"file:///b\"\n[defaults]\nwal.check = false\n\
        wal.read_ahead = 2\n";
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
    assert_snapshot!(messages("policy = \"gold\"\n"), @r#"
    barkeep.toml:7:10 there is no policy `gold`
    "#);
    let text = format!(
        "{HEAD}[policies.gold]\n[servers.s]\npolicy = \"glod\"\ndestination = \"D\"\n\
            connection = \"\"\n"
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

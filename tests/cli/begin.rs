//! `init` without a server: what is refused before anything is written.

use insta::assert_snapshot;

use crate::scene::Scene;

const INIT: &str = "init --server crm --conninfo host=/nowhere";

#[test]
fn what_cannot_be_a_configuration_is_told_before_anything_is_asked() {
    let scene = Scene::new();
    let init = |more: &str| scene.barkeep(&format!("{INIT} {more}"));
    assert_snapshot!(init("--destination s3://b --policy platinum"), @r#"
    exit 3
    --- stderr
    error: there is no policy `platinum`; ready-made are bronze, dev, gold, silver, worm-compliance
    "#);
    assert_snapshot!(init("--destination file:///srv --region here"), @r#"
    exit 3
    --- stderr
      × `s3` does not belong to this destination
       ╭─[the new configuration:8:1]
     6 │ # A directory is as safe as its disk: let it be another one than the server's.
     7 │ url       = "file:///srv"
       ·             ──────┬──────
       ·                   ╰── than this URL's
     8 │ s3.region = "here"
       · ─┬
       ·  ╰── keys of another provider
     9 │ 
       ╰────

    error: what was asked for makes no valid configuration
    "#);
    assert_snapshot!(init("--destination file:///srv --output barkeep.toml"), @r#"
    exit 3
    --- stderr
    error: `barkeep.toml` is there already, and is not overwritten
    "#);
    assert_snapshot!(scene.barkeep("init --server crm --conninfo password=x --destination file:///srv"), @r#"
    exit 3
    --- stderr
      × a password is written in the configuration
        ╭─[the new configuration:11:1]
     10 │ destination = "primary"
     11 │ connection  = ************
        · ─────┬────
        ·      ╰── not shown here
     12 │ # When, how long and how; what is set here counts more.
        ╰────
      help: say where it is: `password = { file = "..." }`, `{ env = "..." }`, `{ command = [...] }`,
            or a passfile

    error: what was asked for makes no valid configuration
    "#);
}

#[test]
fn without_a_server_nothing_is_written() {
    let scene = Scene::new();
    let url = format!("file://{}", scene.path("store").display());
    let said = scene.barkeep(&format!(
        "{INIT} --destination {url} --output new.toml --config none.toml"
    ));
    assert_snapshot!(said, @r#"
    exit 8
    --- stderr
    error: cannot ask the server: cannot connect to `/nowhere/.s.PGSQL.5432`: error connecting to server: No such file or directory (os error 2)
    hint: see that it runs, and that `--conninfo` leads there; docs/postgresql-role.md has the role
    "#);
    assert!(!scene.path("new.toml").exists());
}

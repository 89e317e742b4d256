//! What cannot be meant is told with what could be, and ends with 3.

use insta::assert_snapshot;

use crate::scene::Scene;

#[test]
fn an_unknown_option_is_a_usage_error() {
    assert_snapshot!(Scene::new().barkeep("plan --detailed-exit-code"), @r"
    exit 3
    --- stderr
    error: unexpected argument '--detailed-exit-code' found

      tip: a similar argument exists: '--detailed-exitcode'

    Usage: barkeep plan --detailed-exitcode [SERVER]...

    For more information, try '--help'.
    ");
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    assert_snapshot!(Scene::new().barkeep("plann"), @r"
    exit 3
    --- stderr
    error: unrecognized subcommand 'plann'

      tip: some similar subcommands exist: 'explain', 'plan'

    Usage: barkeep [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn an_unknown_server_is_told_with_those_there_are() {
    assert_snapshot!(Scene::new().barkeep("plan order"), @r"
    exit 3
    --- stderr
    error: there is no server `order` in the configuration
    hint: there is orders
    ");
}

#[test]
fn an_unknown_destination_is_told_with_those_there_are() {
    assert_snapshot!(Scene::new().barkeep("list --destination dr"), @r"
    exit 3
    --- stderr
    error: there is no destination `dr` in the configuration
    hint: there is disk
    ");
    assert_snapshot!(Scene::new().barkeep("show orders latest --destination dr"), @r"
    exit 3
    --- stderr
    error: `orders` has no destination `dr`
    hint: there is disk
    ");
}

#[test]
fn a_label_that_nobody_has_selects_nothing() {
    assert_snapshot!(Scene::new().barkeep("status --select team=payments"), @r"
    exit 3
    --- stderr
    error: no server has these labels
    ");
}

#[test]
fn an_instant_is_written_in_full() {
    assert_snapshot!(Scene::new().barkeep("plan --now yesterday"), @r"
    exit 3
    --- stderr
    error: invalid value 'yesterday' for '--now <TIME>': write an instant such as 2026-11-20T22:40:11Z

    For more information, try '--help'.
    ");
}

#[test]
fn what_reconciles_has_the_clock_of_now() {
    assert_snapshot!(Scene::new().barkeep("reconcile --once --now 2026-11-20T04:10:11Z"), @r"
    exit 3
    --- stderr
    error: `--now` is for commands that change nothing
    ");
}

#[test]
fn postgresqls_commands_have_its_codes() {
    let scene = Scene::new();
    assert_snapshot!(scene.barkeep("wal-archive nobody pg_wal/000000010000000000000001"), @r"
    exit 1
    --- stderr
    error: there is no server `nobody` in the configuration
    hint: there is orders
    ");
    assert_snapshot!(scene.barkeep("wal-archive orders 000000010000000000000001"), @r"
    exit 1
    --- stderr
    error: server `orders`: cannot read `[DIR]/000000010000000000000001`: No such file or directory (os error 2)
    ");
    assert_snapshot!(scene.barkeep("wal-archive orders notes.txt"), @r"
    exit 1
    --- stderr
    error: server `orders`: cannot archive `[DIR]/notes.txt`: `notes.txt` is an invalid name for a WAL file
    ");
    assert_snapshot!(scene.barkeep("wal-restore nobody 000000010000000000000001 x"), @r"
    exit 255
    --- stderr
    error: there is no server `nobody` in the configuration
    hint: there is orders
    ");
    assert_snapshot!(scene.barkeep("wal-restore orders notes.txt x"), @r"
    exit 255
    --- stderr
    error: `notes.txt` is an invalid name for a WAL file
    ");
    assert_snapshot!(scene.barkeep("wal-restore orders 000000010000000000000001 x"), @"exit 1");
}

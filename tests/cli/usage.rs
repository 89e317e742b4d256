//! What cannot be meant is told with what could be, and ends with 3.

use insta::assert_snapshot;

use crate::scene::Scene;

#[test]
fn an_unknown_option_is_a_usage_error() {
    assert_snapshot!(Scene::new().barkeep("plan --detailed-exit-code"), @"");
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    assert_snapshot!(Scene::new().barkeep("plann"), @"");
}

#[test]
fn an_unknown_server_is_told_with_those_there_are() {
    assert_snapshot!(Scene::new().barkeep("plan order"), @"");
}

#[test]
fn an_unknown_destination_is_told_with_those_there_are() {
    assert_snapshot!(Scene::new().barkeep("list --destination dr"), @"");
    assert_snapshot!(Scene::new().barkeep("show orders latest --destination dr"), @"");
}

#[test]
fn a_label_that_nobody_has_selects_nothing() {
    assert_snapshot!(Scene::new().barkeep("status --select team=payments"), @"");
}

#[test]
fn an_instant_is_written_in_full() {
    assert_snapshot!(Scene::new().barkeep("plan --now yesterday"), @"");
}

#[test]
fn what_reconciles_has_the_clock_of_now_and_runs_once() {
    assert_snapshot!(Scene::new().barkeep("reconcile"), @"");
    assert_snapshot!(Scene::new().barkeep("reconcile --once --now 2026-11-20T04:10:11Z"), @"");
}

#[test]
fn postgresqls_commands_have_its_codes() {
    let scene = Scene::new();
    assert_snapshot!(scene.barkeep("wal-archive nobody pg_wal/000000010000000000000001"), @"");
    assert_snapshot!(scene.barkeep("wal-archive orders 000000010000000000000001"), @"");
    assert_snapshot!(scene.barkeep("wal-archive orders notes.txt"), @"");
    assert_snapshot!(scene.barkeep("wal-restore nobody 000000010000000000000001 x"), @"");
    assert_snapshot!(scene.barkeep("wal-restore orders notes.txt x"), @"");
    assert_snapshot!(scene.barkeep("wal-restore orders 000000010000000000000001 x"), @"");
}

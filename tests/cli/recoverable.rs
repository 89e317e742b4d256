//! Whether a point can be recovered, as the program says it.

use insta::assert_snapshot;

use crate::scene::Scene;

/// Two backups, with WAL from the first one up to a gap, and behind the second one.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.backup(3);
    scene.backup(10);
    for segment in [4, 5, 11] {
        let name = format!("0000000100000000000000{segment:02X}");
        scene.write(&format!("store/orders/wals/0000000100000000/{name}"), "x");
    }
    scene
}

#[test]
fn a_position_is_recovered_from_the_newest_backup_before_it() {
    assert_snapshot!(scene().barkeep("recoverable orders --lsn 0/5000100"), @r"
    exit 0
    --- stdout
    orders -> disk   0/5000100 can be recovered
      from     20261103T020003, which ended 2026-11-03T02:06:10Z at 0/3000158, on timeline 1
    ");
}

#[test]
fn a_position_in_a_gap_lies_between_two_points_and_lacks_wal() {
    assert_snapshot!(scene().barkeep("recoverable orders --lsn 0/7000100"), @r"
    exit 6
    --- stdout
    orders -> disk   0/7000100 cannot be recovered: WAL 000000010000000000000006 is missing
      before   20261103T020003, up to <= 2026-11-10T02:00:04Z at 0/6000000, on timeline 1
      after    20261110T020003, which ended 2026-11-10T02:06:10Z at 0/A000158, on timeline 1
    ");
    assert_snapshot!(scene().barkeep("recoverable orders --lsn 0/2000100"), @r"
    exit 6
    --- stdout
    orders -> disk   0/2000100 cannot be recovered: no good backup ended before
      after    20261103T020003, which ended 2026-11-03T02:06:10Z at 0/3000158, on timeline 1
    ");
}

#[test]
fn an_instant_is_recovered_up_to_when_the_last_segment_was_stored() {
    let scene = scene();
    // Stored today, whenever that is.
    assert!(
        scene
            .barkeep("recoverable orders --at 2026-11-10T02:06:11Z")
            .starts_with("exit 0")
    );
    let never = scene.barkeep("recoverable orders --at 2226-11-10T02:06:11Z");
    assert!(never.starts_with("exit 6"), "{never}");
    assert!(
        never.contains("WAL 00000001000000000000000C is not stored"),
        "{never}"
    );
    assert_snapshot!(scene.barkeep("recoverable orders --at 2026-11-01T00:00:00Z"), @r"
    exit 6
    --- stdout
    orders -> disk   2026-11-01T00:00:00Z cannot be recovered: no good backup ended before
      after    20261103T020003, which ended 2026-11-03T02:06:10Z at 0/3000158, on timeline 1
    ");
}

#[test]
fn whoever_cannot_be_read_has_said_nothing() {
    let scene = Scene::new();
    std::fs::remove_dir(scene.path("store")).expect("remove it");
    let said = scene.barkeep("recoverable orders --lsn 0/5000100");
    assert!(said.starts_with("exit 1"), "{said}");
    let both = scene.barkeep("recoverable orders --lsn 0/5000100 --at 2026-11-01T00:00:00Z");
    assert!(both.starts_with("exit 3"), "{both}");
}

#[test]
fn everything_that_can_be_recovered_is_listed() {
    let said = scene().barkeep("recoverable orders --format json");
    let json = said
        .lines()
        .find(|line| line.starts_with('{'))
        .expect("JSON");
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let intervals = &json["destinations"][0]["intervals"];
    let ends: Vec<_> = (0..2)
        .map(|at| (&intervals[at]["until_lsn"], &intervals[at]["end"]))
        .collect();
    assert_eq!(
        ends,
        [
            (&"0/6000000".into(), &"gap".into()),
            (&"0/C000000".into(), &"archive".into())
        ]
    );
}

use super::*;
use crate::model::scene::Scene;

fn windows(text: &str) -> Vec<String> {
    let scene = Scene::parse(text);
    let all = scene
        .catalog
        .backups
        .iter()
        .map(|backup| backup.id.clone())
        .collect();
    let windows = recovery_windows(&scene.catalog, &all);
    let line =
        |window: &RecoveryWindow| format!("{} {}", scene.label(&window.backup), window.until);
    windows.iter().map(line).collect()
}

fn chosen(text: &str, target: &RecoveryTarget, timeline: TargetTimeline) -> String {
    let scene = Scene::parse(text);
    match select(&scene.catalog, target, timeline) {
        Ok(backup) => scene.label(&backup.id).to_owned(),
        Err(error) => error.to_string(),
    }
}

fn days_ago(days: u64) -> RecoveryTarget {
    let span = std::time::Duration::from_hours(24 * days);
    RecoveryTarget::Time(crate::model::scene::now() - span)
}

#[test]
fn a_window_reaches_from_the_oldest_backup_to_the_last_segment() {
    assert_eq!(
        windows("none | done 1d | done 8d | failed 9d"),
        ["8d 0000000100000003000000F2"]
    );
    assert_eq!(windows("none | failed 9d"), Vec::<String>::new());
}

#[test]
fn a_gap_splits_the_window() {
    let gap = "none | done 1d | done 5d | done 8d | wal 1:900-955 1:957-1000";
    assert_eq!(
        windows(gap),
        ["8d 0000000100000003000000BB", "1d 0000000100000003000000E8"]
    );
    let scene = Scene::parse(gap);
    let all = scene
        .catalog
        .backups
        .iter()
        .map(|backup| backup.id.clone())
        .collect();
    let open = recovery_window(&scene.catalog, &all).expect("a window");
    assert_eq!(scene.label(&open.backup), "1d");
}

#[test]
fn a_window_follows_the_newest_timeline_that_the_backup_leads_to() {
    let promoted = "none | done 8d | done 1d tl:2 | wal 1:900-960 2:950-1000 | history 2:1@950";
    assert_eq!(windows(promoted), ["8d 0000000200000003000000E8"]);
    // The first backup ended after the second timeline had branched off.
    let beside = "none | done 1d | wal 1:900-1000 2:950-1010 | history 2:1@950";
    assert_eq!(windows(beside), ["1d 0000000100000003000000E8"]);
}

#[test]
fn what_depends_on_a_backup_is_its_whole_progeny() {
    let scene = Scene::parse(
        "none | done 1d id:d parent:c | done 2d id:c parent:a | done 3d id:b | done 4d id:a",
    );
    let dependents = dependents(&scene.catalog, &BackupId::new("a"));
    assert_eq!(dependents, ["c", "d"].map(BackupId::new).into());
}

#[test]
fn people_call_backups_by_id_shortcut_or_name() {
    let scene = Scene::parse(
        "none | started 0d | failed 1d name:bad | done 2d name:twice \
         | failed 3d name:twice | done 4d name:old | started 9d",
    );
    let resolved = |text: &str| match resolve(&scene.catalog, text) {
        Ok(id) => scene.label(&id).to_owned(),
        Err(error) => error.to_string(),
    };
    for (text, label) in [
        ("last", "1d"),
        ("latest", "1d"),
        ("first", "4d"),
        ("oldest", "4d"),
        ("last-failed", "1d"),
        ("old", "4d"),
        ("20200101T000000", "20200101T000000"),
        ("auto", "unknown backup `auto`"),
        (
            "twice",
            "several backups are named `twice`, use an id: 20261117T110000 20261118T110000",
        ),
        ("2020010100T0000", "unknown backup `2020010100T0000`"),
    ] {
        assert_eq!(resolved(text), label);
    }
    let empty = resolve(&Catalog::default(), "last");
    assert_eq!(empty, Err(ResolveError::Unknown("last".to_owned())));
}

#[test]
fn the_newest_good_backup_before_the_target_is_restored() {
    let text = "none | started 0h | failed 0d | done 1d empty: | done 2d | done 5d | done 8d";
    let latest = TargetTimeline::Latest;
    assert_eq!(chosen(text, &RecoveryTarget::Latest, latest), "2d");
    assert_eq!(chosen(text, &RecoveryTarget::Immediate, latest), "2d");
    assert_eq!(chosen(text, &days_ago(3), latest), "5d");
    assert_eq!(chosen(text, &days_ago(8), latest), "8d");
    let none = "no good backup ended before the target on its timeline";
    assert_eq!(chosen(text, &days_ago(9), latest), none);
}

#[test]
fn a_position_wants_all_wal_up_to_it() {
    let text = "none | done 2d | done 5d | wal 1:900-955 1:957-1000";
    let at = |segment: u64| RecoveryTarget::Lsn(Lsn((segment << 24) + 1));
    let latest = TargetTimeline::Latest;
    assert_eq!(chosen(text, &at(955), latest), "5d");
    assert_eq!(
        chosen(text, &at(970), latest),
        "WAL 0000000100000003000000BC between backup `20261115T110000` and the target is missing"
    );
    assert_eq!(chosen(text, &at(990), latest), "2d");
    // The position at which a segment begins is reached without it.
    assert_eq!(
        chosen(text, &RecoveryTarget::Lsn(Lsn(956 << 24)), latest),
        "5d"
    );
}

#[test]
fn a_backup_must_lie_on_the_ancestry_of_the_timeline() {
    let text = "none | done 1d | done 5d tl:2 | done 8d | \
                wal 1:900-1010 2:935-1010 | history 2:1@935";
    let on = |number| TargetTimeline::Number(crate::model::scene::timeline(number));
    // Timeline 2 is the newest, and the youngest backup is not on the way to it.
    assert_eq!(
        chosen(text, &RecoveryTarget::Latest, TargetTimeline::Latest),
        "5d"
    );
    assert_eq!(
        chosen(text, &RecoveryTarget::Latest, TargetTimeline::Current),
        "1d"
    );
    assert_eq!(chosen(text, &RecoveryTarget::Latest, on("1")), "1d");
    assert_eq!(chosen(text, &days_ago(6), on("2")), "8d");
    assert_eq!(
        chosen(text, &RecoveryTarget::Latest, on("7")),
        "no good backup ended before the target on its timeline"
    );
}

#[test]
fn backups_that_reach_equally_far_share_the_earliest_window() {
    // By its id the second one is the older.
    let text = "none | done 8d id:b | done 9d id:c";
    assert_eq!(windows(text), ["9d 0000000100000003000000F2"]);
}

#[test]
fn a_position_on_another_timeline_wants_the_wal_on_the_way_to_it() {
    let text = "none | done 8d | wal 1:900-1010 2:935-940 | history 2:1@935";
    let at = RecoveryTarget::Lsn(Lsn((1000 << 24) + 1));
    let on = |number| TargetTimeline::Number(crate::model::scene::timeline(number));
    assert_eq!(chosen(text, &at, TargetTimeline::Current), "8d");
    assert_eq!(chosen(text, &at, on("1")), "8d");
    assert_eq!(
        chosen(text, &at, on("2")),
        "WAL 0000000200000003000000AD between backup `20261112T110000` and the target is missing"
    );
}

#[test]
fn barmans_choice_is_the_last_id_that_is_complete() {
    let scene = Scene::parse("none | failed 0d | done 1d tl:2 | done 5d | done 8d | done 9d id:z");
    let last = |target: &RecoveryTarget, timeline| {
        let backup = last_before(&scene.catalog, target, timeline);
        backup.map(|backup| scene.label(&backup.id))
    };
    let first = Some(TimelineId::FIRST);
    let position = |label| {
        let backup = scene.catalog.backup(&scene.id(label));
        RecoveryTarget::Lsn(backup.and_then(|backup| backup.end_lsn).expect("an end"))
    };
    assert_eq!(last(&RecoveryTarget::Latest, None), Some("9d"), "by name");
    assert_eq!(last(&days_ago(5), None), Some("9d"));
    assert_eq!(last(&days_ago(10), None), None);
    assert_eq!(last(&position("9d"), None), Some("9d"));
    assert_eq!(last(&position("9d"), first), Some("9d"));
    assert_eq!(
        last(&days_ago(0), Some(crate::model::scene::timeline("2"))),
        Some("1d")
    );
    assert_eq!(
        last(&days_ago(2), Some(crate::model::scene::timeline("2"))),
        None
    );
}

#[test]
fn a_backup_that_cannot_be_found_and_one_that_is_not_named_alone_are_different_failures() {
    let scene = Scene::parse("none | done 2d name:twice | done 3d name:twice");
    let kind = |text| resolve(&scene.catalog, text).map_err(|error| error.kind());
    assert_eq!(kind("auto"), Err(Kind::NotFound));
    assert_eq!(kind("twice"), Err(Kind::Usage));
    let none = select(&scene.catalog, &days_ago(9), TargetTimeline::Latest);
    assert_eq!(none.map_err(|error| error.kind()), Err(Kind::NotFound));
}

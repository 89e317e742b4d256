//! Archiving ahead and the markers it leaves.

use super::*;

#[tokio::test]
async fn what_waits_is_archived_ahead_and_acknowledged_once() {
    let scene = scene(Compression::Zstd);
    let names = ["01", "02", "03", "04"].map(|last| format!("0000000100000000000000{last}"));
    for name in &names {
        scene.ready(name);
    }
    // Neither of these is a segment, and the partial one never gets a marker.
    for other in ["00000002.history", "000000010000000000000003.partial"] {
        fs::write(
            scene.path("archive_status").join(format!("{other}.ready")),
            "",
        )
        .expect("ours");
    }
    assert_eq!(scene.outcome(&names[1]).await, "Stored and 2 ahead");
    assert_eq!(scene.keys().len(), 3);
    for name in &names[2..] {
        scene.stores[0]
            .delete(&[Key::verbatim(format!("{DIRECTORY}/{name}.zst"))])
            .await;
        assert_eq!(scene.outcome(name).await, "Acknowledged");
    }
    assert_eq!(
        scene.keys().len(),
        1,
        "acknowledging asks nothing and stores nothing"
    );
    // Twice is not once.
    assert_eq!(scene.outcome(&names[2]).await, "Stored and 1 ahead");
}

#[tokio::test]
async fn a_marker_acknowledges_only_the_file_that_was_archived() {
    let scene = scene(Compression::None);
    scene.ready(FIRST);
    scene.ready(SECOND);
    assert_eq!(scene.outcome(FIRST).await, "Stored and 1 ahead");
    scene.write(SECOND, &segment(SECOND, OURS, 9));
    assert!(scene.outcome(SECOND).await.starts_with("Refused: "));
}

#[tokio::test]
async fn a_marker_says_nothing_about_a_destination_that_is_required_since() {
    let mut scene = scene(Compression::None);
    scene.ready(FIRST);
    scene.ready(SECOND);
    assert_eq!(scene.outcome(FIRST).await, "Stored and 1 ahead");
    let later = Memory::new(now());
    scene.targets.push(target("later", Arc::new(later.clone())));
    scene.stores.push(later);
    assert_eq!(scene.outcome(SECOND).await, "Stored");
    assert_eq!(scene.keys_of(1), [format!("{DIRECTORY}/{SECOND}")]);
}

#[tokio::test]
async fn archiving_ahead_stops_where_something_is_wrong() {
    let mut scene = scene(Compression::None);
    scene.options.backlog.parallel = NonZeroUsize::MIN;
    for last in 1..6 {
        scene.ready(&format!("00000001000000000000000{last}"));
    }
    let third = "000000010000000000000003";
    scene.write(third, &segment(third, 5, 1));
    let archived = scene.archive(FIRST).await.expect("the asked one is well");
    assert_eq!(archived.ahead, 1);
    let [Warning::Ahead { file, .. }] = &archived.warnings[..] else {
        panic!("{:?}", archived.warnings);
    };
    assert_eq!(file.to_string(), third);
    assert_eq!(scene.keys().len(), 2, "nothing is archived beyond it");
}

#[tokio::test]
async fn only_so_many_are_archived_ahead_and_none_without_a_spool() {
    let mut scene = scene(Compression::None);
    for last in 1..6 {
        scene.ready(&format!("00000001000000000000000{last}"));
    }
    scene.options.backlog.segments_max = 2;
    assert_eq!(scene.outcome(FIRST).await, "Stored and 2 ahead");
    scene.options.spool = None;
    assert_eq!(scene.outcome("000000010000000000000004").await, "Stored");
}

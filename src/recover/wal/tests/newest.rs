//! The newest bytes: as much of a segment as was received, where nobody has it whole.

use super::*;
use crate::{
    model::timeline::{Position, TimelineId},
    spool::Kept,
};

/// Two destinations without the segment, of whose beginning the first has the first 9,000 bytes, in pieces that overlap.
async fn with_tail() -> Scene {
    let mut scene = scene_of(2);
    scene.options.partial = Partial::DeliverNewest;
    for (start, end, compression) in [
        (0, 4_000, Compression::Zstd),
        (3_000, 9_000, Compression::None),
        (10_000, 20_000, Compression::None),
    ] {
        scene.piece(0, start, end, compression).await;
    }
    scene
}

impl Scene {
    async fn piece(&self, store: usize, start: usize, end: usize, compression: Compression) {
        let extension = compression.extension();
        let key = format!("srv/barkeep/tail/{FIRST}/{start:08X}-{end:08X}{extension}");
        let content = compressed(&segment(FIRST, OURS, 1)[start..end], compression);
        self.put(store, &key, content).await;
    }

    /// What is delivered up to there, and how many bytes of the segment that are.
    async fn newest(&self) -> String {
        let outcome = self.restore(FIRST).await;
        let Ok(Restored::Delivered(Delivered { from, .. })) = outcome else {
            return self.outcome(FIRST).await;
        };
        let delivered = fs::read(self.target()).expect("a file");
        let whole = segment(FIRST, OURS, 1);
        assert_eq!(delivered.len(), whole.len(), "filled up");
        let same = delivered.iter().zip(&whole).take_while(|(a, b)| a == b);
        let same = same.count();
        assert!(delivered[same..].iter().all(|byte| *byte == 0));
        format!("{same} bytes from {from:?}")
    }
}

#[tokio::test]
async fn what_reaches_furthest_is_delivered_up_to_the_first_byte_that_is_missing() {
    let mut scene = with_tail().await;
    let first = "9000 bytes from Destination(DestinationName(\"d0\"))";
    assert_eq!(scene.newest().await, first);
    scene.piece(1, 0, 9_500, Compression::Lz4).await;
    let second = first.replace("9000", "9500").replace("d0", "d1");
    assert_eq!(scene.newest().await, second);
    let spool = Spool::new(scene.root.path().join("received"));
    let size = SegmentSize::new(1 << 20).expect("a valid size");
    let begin = Position {
        timeline: TimelineId::FIRST,
        lsn: crate::model::wal::Lsn(1 << 20),
    };
    let received = spool.received("srv", Kept::Durably).expect("a directory");
    let mut writer = received.writer(begin, size);
    let content = &segment(FIRST, OURS, 1)[..9_600];
    writer.append(begin.lsn, content).expect("written");
    scene.options.received = Some(spool);
    assert_eq!(scene.newest().await, "9600 bytes from Received");
}

#[tokio::test]
async fn the_newest_bytes_never_come_before_what_is_whole_or_not_known() {
    let mut scene = with_tail().await;
    let outage = Rule::nth(0, Effect::Before(Meaning::Unreachable)).for_ever();
    scene.faults[1].add(outage);
    assert!(scene.outcome(FIRST).await.starts_with("Unreachable: "));
    scene.faults[1] = Faults::default();
    scene.options.partial = Partial::Deliver;
    assert_eq!(scene.outcome(FIRST).await, "absent", "Barman has none");
    scene.options.partial = Partial::DeliverNewest;
    let partial = format!("{DIRECTORY}/{FIRST}.partial");
    scene.put(1, &partial, segment(FIRST, OURS, 1)).await;
    let told = format!("{FIRST}.partial from d1");
    assert_eq!(scene.outcome(FIRST).await, told);
    scene.has(1, FIRST, Compression::Gzip).await;
    assert_eq!(scene.outcome(FIRST).await, "d1, 0 ahead");
}

#[tokio::test]
async fn a_beginning_that_tells_nothing_or_is_foreign_is_none() {
    let mut scene = scene_of(1);
    scene.options.partial = Partial::DeliverNewest;
    scene.piece(0, 0, 20, Compression::None).await;
    assert_eq!(
        scene.outcome(FIRST).await,
        "absent",
        "it has no whole header"
    );
    let foreign = segment(FIRST, 1, 1);
    let key = format!("srv/barkeep/tail/{FIRST}/00000000-00001000");
    scene.put(0, &key, foreign[..4096].to_vec()).await;
    assert_eq!(
        scene.outcome(FIRST).await,
        "absent",
        "it is another cluster's"
    );
}

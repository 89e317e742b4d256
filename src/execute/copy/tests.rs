use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc};

use bytes::Bytes;

use super::{
    super::{Workshop, one},
    *,
};
use crate::{
    clock::Clock,
    model::{
        action::Action,
        backup::KeepTarget,
        names::{DestinationName, ServerName},
        scene,
        semantics::SAFE,
        snapshot::Access,
    },
    plan::{Step, Weight, testing::World},
    snapshot::AllClouds,
    store::{
        Key, Meaning, Operation, SharedStore,
        fault::{Effect, Faults, Faulty, Rule},
        memory::Memory,
        meter::{Counts, Meter},
        scene::{Bed, paths, put},
    },
};

fn server() -> ServerName {
    "orders".parse().expect("a name")
}

struct Copies {
    bed: Bed,
    target: Memory,
}

impl Copies {
    async fn new(text: &str) -> Self {
        Self {
            bed: Bed::new(text).await,
            target: Memory::new(scene::now()),
        }
    }

    async fn copy(&self, label: &str, target: SharedStore) -> Result<Copied, Error> {
        let id = self.bed.id(label);
        let version = self.bed.version(&id).await;
        let target = Archive::new(target, &server());
        let cancel = CancellationToken::new();
        let copying = Copying {
            source: &self.bed.archive,
            target: &target,
            part_bytes: 5 << 20,
            throttle: None,
            cancel: &cancel,
        };
        backup(&copying, &id, &version).await
    }

    fn target(&self) -> SharedStore {
        Arc::new(self.target.clone())
    }

    async fn left(&self) -> Vec<String> {
        paths(&Archive::new(self.target(), &server())).await
    }
}

/// Everything of the source that belongs to the copy is the same there.
fn same(copies: &Copies) {
    let (source, target) = (copies.bed.memory.contents(), copies.target.contents());
    for (key, content) in &target {
        assert_eq!(source.get(key), Some(content), "{key}");
    }
}

#[tokio::test]
async fn a_backup_arrives_with_its_wal_its_keep_and_its_record_last() {
    let copies = Copies::new("done 1d | done 8d").await;
    let id = copies.bed.id("8d");
    let long = "x".repeat(18 << 20);
    put(&copies.bed.archive, &format!("base/{id}/16384.tar"), &long).await;
    copies
        .bed
        .archive
        .write_keep(&id, KeepTarget::Full)
        .await
        .expect("memory");
    let faults = Faults::default();
    let store = Faulty::new(copies.target(), faults.clone());
    let copied = copies.copy("8d", Arc::new(store)).await.expect("copied");
    assert_eq!(copied.objects, 6);
    same(&copies);
    let left = copies.left().await;
    let ends = ["annotations/keep", "16384.tar", "data.tar", "backup.info"];
    for end in ends {
        assert!(
            left.contains(&format!("base/{id}/{end}")),
            "{end}: {left:?}"
        );
    }
    assert_eq!(
        left.iter().filter(|path| path.starts_with("wals/")).count(),
        2
    );
    let writes = faults
        .calls()
        .into_iter()
        .filter(|(operation, _)| operation.is_write());
    let writes: Vec<String> = writes
        .filter_map(|(_, key)| key)
        .map(|key| key.as_str().to_owned())
        .collect();
    assert!(writes[0].contains("/wals/") && writes[1].contains("/wals/"));
    let last = writes.last().expect("writes");
    assert!(last.ends_with("backup.info"), "{writes:?}");
}

#[tokio::test]
async fn interrupted_at_any_request_the_next_try_ends_where_an_undisturbed_one_does() {
    let undisturbed = Copies::new("done 1d").await;
    let faults = Faults::default();
    let store = Faulty::new(undisturbed.target(), faults.clone());
    undisturbed
        .copy("1d", Arc::new(store))
        .await
        .expect("copied");
    let expected = undisturbed.target.contents();
    let calls = faults.calls().len() as u64;
    for nth in 0..calls {
        for effect in [Effect::Before, Effect::After].map(|effect| effect(Meaning::Unreachable)) {
            let copies = Copies::new("done 1d").await;
            let faults = Faults::default();
            faults.add(Rule::nth(nth, effect).for_ever());
            let store = Faulty::new(copies.target(), faults);
            let first = copies.copy("1d", Arc::new(store)).await;
            assert!(first.is_err(), "{nth} {effect:?}");
            let counts = Counts::default();
            let store = Meter::new(copies.target(), counts.clone());
            copies.copy("1d", Arc::new(store)).await.expect("copied");
            assert_eq!(copies.target.contents(), expected, "{nth} {effect:?}");
        }
    }
}

#[tokio::test]
async fn what_is_there_already_is_not_sent_again() {
    let copies = Copies::new("done 1d").await;
    copies.copy("1d", copies.target()).await.expect("copied");
    let info = copies
        .bed
        .archive
        .key(&ObjectKey::info(&copies.bed.id("1d")));
    crate::store::Store::delete(&copies.target, &[info]).await;
    let copied = copies.copy("1d", copies.target()).await.expect("copied");
    assert_eq!((copied.objects, copied.bytes), (1, 0));
}

#[tokio::test]
async fn nothing_is_written_over_something_else() {
    let copies = Copies::new("done 1d").await;
    let id = copies.bed.id("1d");
    let target = Archive::new(copies.target(), &server());
    put(&target, &format!("base/{id}/data.tar"), "something else").await;
    let error = copies
        .copy("1d", copies.target())
        .await
        .expect_err("another object");
    let key = format!("orders/base/{id}/data.tar");
    assert_eq!(
        error.to_string(),
        format!("`{key}` is another object in the destination")
    );
    assert!(
        !copies
            .left()
            .await
            .contains(&format!("base/{id}/backup.info"))
    );
}

#[tokio::test]
async fn a_keep_that_the_target_has_of_its_own_stands() {
    let copies = Copies::new("done 1d").await;
    let id = copies.bed.id("1d");
    let target = Archive::new(copies.target(), &server());
    let kept = copies.bed.archive.write_keep(&id, KeepTarget::Full).await;
    kept.expect("memory");
    let note = format!("barkeep/keeps/{id}");
    put(&copies.bed.archive, &note, "of the source").await;
    // From a try that was interrupted before the source was kept otherwise.
    let kept = target.write_keep(&id, KeepTarget::Standalone).await;
    kept.expect("memory");
    put(&target, &note, "of the target").await;
    copies.copy("1d", copies.target()).await.expect("copied");
    let read = async |object: ObjectKey| {
        let found = target.read(&object).await.expect("memory");
        String::from_utf8(found.expect("it is there").0.to_vec()).expect("text")
    };
    assert_eq!(read(ObjectKey::keep(&id)).await, "standalone");
    let note = ObjectKey::Own(OwnObject::Keep(id));
    assert_eq!(read(note).await, "of the target");
}

#[tokio::test]
async fn a_backup_whose_wal_is_gone_is_not_copied() {
    let copies = Copies::new("done 1d | wal 1:990-990").await;
    let error = copies
        .copy("1d", copies.target())
        .await
        .expect_err("no WAL");
    assert!(matches!(error, Error::NoWal(_)), "{error}");
    assert!(
        !copies
            .left()
            .await
            .iter()
            .any(|path| path.ends_with("backup.info"))
    );
}

#[tokio::test(start_paused = true)]
async fn wal_flows_no_faster_than_its_destination_takes_it() {
    let copies = Copies::new("done 1d").await;
    let world = World::parse("| done 1d");
    let names = ["near", "far"].map(|name| name.parse::<DestinationName>().expect("a name"));
    let [near, far] = &names;
    let run = Run {
        first: SegmentNumber(1),
        last: SegmentNumber(20),
    };
    let timeline = TimelineId::new(1).expect("not zero");
    let spans = [WalSpan { timeline, run }];
    let action = Action::CopyWal {
        from: near.clone(),
        spans: spans.to_vec(),
        histories: Vec::new(),
    };
    let step = Step {
        destination: far.clone(),
        action,
        reasons: Vec::new(),
        weight: Weight::default(),
    };
    let target = Archive::new(copies.target(), &server());
    let workshop = Workshop {
        server: &world.server,
        archives: &[
            (near.clone(), copies.bed.archive.clone()),
            (far.clone(), target),
        ]
        .into(),
        throttles: &[(far.clone(), Throttle::new(NonZeroU64::MIN))].into(),
        fences: &BTreeMap::new(),
        observed: &world.observed,
        clouds: &AllClouds,
        access: &Access::default(),
        semantics: SAFE,
        clock: Clock::System,
        cancel: &CancellationToken::new(),
    };
    let began = tokio::time::Instant::now();
    let copied = one(&step, &copies.bed.archive, &workshop).await;
    copied.expect("copied");
    let bytes: usize = copies.target.contents().values().map(Bytes::len).sum();
    assert_eq!(bytes, 20, "a byte in each");
    assert_eq!(
        began.elapsed().as_secs(),
        19,
        "one a second, after the first"
    );
}

#[tokio::test]
async fn what_arrives_broken_is_no_copy() {
    let copies = Copies::new("done 1d").await;
    let faults = Faults::default();
    let broken = Effect::After(Meaning::Checksum);
    faults.add(Rule::next(Operation::Get, "data.tar", broken));
    let source = Faulty::new(Arc::new(copies.bed.memory.clone()), faults);
    let bed = Bed {
        archive: Archive::new(Arc::new(source), &server()),
        ..copies.bed
    };
    let copies = Copies { bed, ..copies };
    let error = copies
        .copy("1d", copies.target())
        .await
        .expect_err("broken");
    assert_eq!(error.kind(), Kind::Verification);
    let key = |path: &String| Key::verbatim(format!("orders/{path}"));
    assert!(
        copies
            .left()
            .await
            .iter()
            .all(|path| !key(path).as_str().ends_with("data.tar"))
    );
}

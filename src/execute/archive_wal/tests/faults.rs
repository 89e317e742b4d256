//! What happens when a destination fails, before or after the effect.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;

use super::*;
use crate::store::{
    Meaning, Operation,
    fault::{Call, Fault, Faulty},
};

/// A scene whose first destination fails by a rule.
fn faulty(
    rule: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static,
) -> (Scene, Faulty<Memory>) {
    let mut scene = scene(Compression::None);
    let store = Faulty::new(scene.stores[0].clone(), rule);
    scene.targets[0] = target("d0", Arc::new(store.clone()));
    (scene, store)
}

/// Fails the first write of a segment, and no other call.
fn first_put(name: &str, fault: Fault) -> impl Fn(&Call) -> Option<Fault> + use<> {
    let (name, struck) = (name.to_owned(), AtomicBool::new(false));
    move |call| {
        let hit = call.operation == Operation::Put && call.key.ends_with(&name);
        (hit && !struck.swap(true, Ordering::SeqCst)).then_some(fault)
    }
}

fn operations(store: &Faulty<Memory>) -> Vec<Operation> {
    store.calls().iter().map(|call| call.operation).collect()
}

#[tokio::test]
async fn a_segment_takes_a_list_and_a_put_and_an_acknowledged_one_nothing() {
    let (scene, store) = faulty(|_| None);
    scene.ready(FIRST);
    scene.ready(SECOND);
    assert_eq!(scene.outcome(FIRST).await, "Stored and 1 ahead");
    let before = operations(&store).len();
    assert_eq!(scene.outcome(SECOND).await, "Acknowledged");
    assert_eq!(operations(&store).len(), before);
    scene.write(
        "000000010000000000000003",
        &segment("000000010000000000000003", OURS, 1),
    );
    assert_eq!(scene.outcome("000000010000000000000003").await, "Stored");
    assert_eq!(
        operations(&store)[before..],
        [Operation::List, Operation::Put]
    );
}

#[tokio::test]
async fn a_refusal_because_of_our_own_earlier_try_is_success() {
    let (scene, _) = faulty(first_put(FIRST, Fault::After(Meaning::AlreadyExists)));
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    assert_eq!(scene.outcome(FIRST).await, "AlreadyThere");
}

#[tokio::test]
async fn a_write_without_an_answer_is_found_by_the_next_call() {
    let (scene, _) = faulty(first_put(FIRST, Fault::After(Meaning::Unreachable)));
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    assert!(scene.outcome(FIRST).await.starts_with("Unreachable: "));
    assert_eq!(scene.outcome(FIRST).await, "AlreadyThere");
}

#[tokio::test]
async fn whoever_comes_between_the_list_and_the_put_is_seen() {
    for (fill, expected) in [(1, "AlreadyThere"), (2, "Refused")] {
        let memory = Memory::new(now());
        let (put, theirs) = (first_put(FIRST, Fault::Hang), memory.clone());
        let rule = move |call: &Call| {
            if put(call).is_some() {
                let content = segment(FIRST, OURS, fill);
                let key = Key::verbatim(call.key.clone());
                let put = theirs.put(&key, content.into(), PutOptions::default());
                put.now_or_never()
                    .expect("memory answers at once")
                    .expect("memory");
            }
            None
        };
        let mut scene = scene(Compression::None);
        let store = Faulty::new(memory.clone(), rule);
        scene.targets[0] = target("d0", Arc::new(store));
        scene.stores[0] = memory;
        scene.write(FIRST, &segment(FIRST, OURS, 1));
        let told = scene.outcome(FIRST).await;
        assert!(told.starts_with(expected), "{told}");
        let key = format!("{DIRECTORY}/{FIRST}");
        assert!(
            scene.contents(0)[&key] == segment(FIRST, OURS, fill),
            "theirs stays"
        );
    }
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_written_to_where_nothing_was() {
    let (scene, _) = faulty(first_put(FIRST, Fault::Before(Meaning::Unsupported)));
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    let archived = scene.archive(FIRST).await.expect("success");
    assert_eq!(archived.how, How::Stored);
    assert!(matches!(archived.warnings[..], [Warning::Unconditional(_)]));
}

#[tokio::test]
async fn success_needs_every_required_destination() {
    let (mut scene, _) = faulty(first_put(FIRST, Fault::Before(Meaning::Unreachable)));
    let other = Memory::new(now());
    scene.targets.push(target("other", Arc::new(other.clone())));
    scene.stores.push(other);
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    assert!(scene.outcome(FIRST).await.starts_with("Unreachable: "));
    assert_eq!(
        scene.keys_of(1).len(),
        1,
        "the other one has it all the same"
    );
    assert_eq!(scene.outcome(FIRST).await, "Stored");
    assert_eq!(scene.keys_of(0), scene.keys_of(1));
}

#[tokio::test(start_paused = true)]
async fn an_optional_destination_is_told_of_and_waited_for_so_long() {
    for fault in [Fault::Before(Meaning::PermissionDenied), Fault::Hang] {
        let mut scene = scene_of(Compression::None, 2);
        let store = Faulty::new(scene.stores[1].clone(), move |call| {
            (call.operation == Operation::Put).then_some(fault)
        });
        let optional = Requirement::Optional(Duration::from_secs(5));
        scene.targets[1] = ArchiveTarget {
            requirement: optional,
            ..target("d1", Arc::new(store))
        };
        scene.write(FIRST, &segment(FIRST, OURS, 1));
        let start = tokio::time::Instant::now();
        let archived = scene
            .archive(FIRST)
            .await
            .expect("the required one is well");
        assert_eq!(archived.how, How::Stored);
        let [Warning::Optional { destination, .. }] = &archived.warnings[..] else {
            panic!("{:?}", archived.warnings);
        };
        assert_eq!(destination.as_str(), "d1");
        assert!(start.elapsed() < Duration::from_secs(6));
    }
}

#[tokio::test]
async fn what_was_stored_without_leaving_a_marker_is_asked_for_again() {
    let (scene, _) = faulty(first_put(SECOND, Fault::After(Meaning::Unreachable)));
    scene.ready(FIRST);
    scene.ready(SECOND);
    assert_eq!(scene.outcome(FIRST).await, "Stored");
    assert_eq!(scene.keys().len(), 2, "it is there, but nobody knows");
    assert_eq!(scene.outcome(SECOND).await, "AlreadyThere");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_killed_leaves_markers_for_what_is_durable_only() {
    let third = "000000010000000000000003";
    let (mut scene, _) = faulty(first_put(third, Fault::Hang));
    scene.options.backlog.parallel = NonZeroUsize::MIN;
    for name in [FIRST, SECOND, third] {
        scene.ready(name);
    }
    let killed = tokio::time::timeout(Duration::from_secs(9), scene.archive(FIRST));
    assert!(killed.await.is_err());
    assert_eq!(scene.outcome(SECOND).await, "Acknowledged");
    assert_eq!(scene.outcome(third).await, "Stored");
}

#[tokio::test]
async fn an_unusable_spool_is_told_and_costs_nothing_else() {
    let mut scene = scene(Compression::None);
    let file = scene.root.path().join("file");
    fs::write(&file, "").expect("a writable directory");
    scene.options.spool = Some(Spool::new(file));
    scene.ready(FIRST);
    scene.ready(SECOND);
    let archived = scene.archive(FIRST).await.expect("success");
    assert_eq!((archived.how, archived.ahead), (How::Stored, 0));
    assert!(matches!(
        archived.warnings[..],
        [Warning::Spool(_), Warning::Spool(_)]
    ));
}

//! What happens when a destination fails, before or after the effect.

use super::*;
use crate::store::{
    Meaning, Operation,
    fault::{Effect, Faults, Faulty, Rule},
};

/// A scene whose first destination fails by these rules.
fn faulty(rules: impl IntoIterator<Item = Rule>) -> (Scene, Faults) {
    let mut scene = scene(Compression::None);
    let faults = Faults::default();
    rules.into_iter().for_each(|rule| faults.add(rule));
    let store = Faulty::new(Arc::new(scene.stores[0].clone()), faults.clone());
    scene.targets[0] = target("d0", Arc::new(store));
    (scene, faults)
}

/// Fails the first write of a segment, and no other call.
fn first_put(name: &str, effect: Effect) -> [Rule; 1] {
    [Rule::next(Operation::Put, name, effect)]
}

fn operations(faults: &Faults) -> Vec<Operation> {
    faults
        .calls()
        .into_iter()
        .map(|(operation, _)| operation)
        .collect()
}

#[tokio::test]
async fn a_segment_takes_a_list_and_a_put_and_an_acknowledged_one_nothing() {
    let (scene, faults) = faulty([]);
    scene.ready(FIRST);
    scene.ready(SECOND);
    assert_eq!(scene.outcome(FIRST).await, "Stored and 1 ahead");
    let before = operations(&faults).len();
    assert_eq!(scene.outcome(SECOND).await, "Acknowledged");
    assert_eq!(operations(&faults).len(), before);
    scene.write(
        "000000010000000000000003",
        &segment("000000010000000000000003", OURS, 1),
    );
    assert_eq!(scene.outcome("000000010000000000000003").await, "Stored");
    assert_eq!(
        operations(&faults)[before..],
        [Operation::List, Operation::Put]
    );
}

#[tokio::test]
async fn a_refusal_because_of_our_own_earlier_try_is_success() {
    let (scene, _) = faulty(first_put(FIRST, Effect::After(Meaning::AlreadyExists)));
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    assert_eq!(scene.outcome(FIRST).await, "AlreadyThere");
}

#[tokio::test]
async fn a_write_without_an_answer_is_found_by_the_next_call() {
    let (scene, _) = faulty(first_put(FIRST, Effect::After(Meaning::Unreachable)));
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    assert!(scene.outcome(FIRST).await.starts_with("Unreachable: "));
    assert_eq!(scene.outcome(FIRST).await, "AlreadyThere");
}

#[tokio::test]
async fn of_two_that_find_nothing_at_once_one_is_refused_unless_they_agree() {
    for (fill, expected) in [(1, "AlreadyThere"), (2, "Refused")] {
        let (ours, mut theirs) = (scene(Compression::None), scene(Compression::None));
        // The identity is pinned already, so that both only list and write.
        ours.write(SECOND, &segment(SECOND, OURS, 1));
        assert_eq!(ours.outcome(SECOND).await, "Stored");
        theirs.targets.clone_from(&ours.targets);
        ours.write(FIRST, &segment(FIRST, OURS, 1));
        theirs.write(FIRST, &segment(FIRST, OURS, fill));
        let (one, two) = future::join(ours.outcome(FIRST), theirs.outcome(FIRST)).await;
        let mut told = [one, two];
        told.sort();
        assert!(told[0].starts_with(expected), "{told:?}");
        assert_eq!(told[1], "Stored");
    }
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_written_to_where_nothing_was() {
    let (scene, _) = faulty(first_put(FIRST, Effect::Before(Meaning::Unsupported)));
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    let archived = scene.archive(FIRST).await.expect("success");
    assert_eq!(archived.how, How::Stored);
    assert!(matches!(archived.warnings[..], [Warning::Unconditional(_)]));
}

#[tokio::test]
async fn success_needs_every_required_destination() {
    let (mut scene, _) = faulty(first_put(FIRST, Effect::Before(Meaning::Unreachable)));
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
    for effect in [Effect::Before(Meaning::PermissionDenied), Effect::Hang] {
        let mut scene = scene_of(Compression::None, 2);
        let faults = Faults::default();
        faults.add(Rule::next(Operation::Put, "", effect));
        let store = Faulty::new(Arc::new(scene.stores[1].clone()), faults);
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
    let (scene, _) = faulty(first_put(SECOND, Effect::After(Meaning::Unreachable)));
    scene.ready(FIRST);
    scene.ready(SECOND);
    assert_eq!(scene.outcome(FIRST).await, "Stored");
    assert_eq!(scene.keys().len(), 2, "it is there, but nobody knows");
    assert_eq!(scene.outcome(SECOND).await, "AlreadyThere");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_killed_leaves_markers_for_what_is_durable_only() {
    let third = "000000010000000000000003";
    let (mut scene, _) = faulty(first_put(third, Effect::Hang));
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
    assert!(matches!(archived.warnings[..], [Warning::Spool(_)]));
    let asked = scene.acknowledges(SECOND).await;
    assert!(matches!(asked, Err(Warning::Spool(_))), "{asked:?}");
}

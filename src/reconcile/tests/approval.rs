//! What somebody has to say yes to.

use super::*;
use crate::reconcile::approval::Approved;

/// Plans, and carries out what has the plan's digest; says what is left.
async fn approved(bed: &Bed) -> String {
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let digest = ports.plan(bed.server()).await.plan.digest();
    let done = ports.carry_out_approved(bed.server(), &digest).await;
    let Ok(Approved::Done {
        outcomes, refusals, ..
    }) = done
    else {
        panic!("{done:?}");
    };
    assert_eq!(refusals, []);
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    bed.backups().await
}

#[tokio::test]
async fn a_shortened_policy_deletes_when_somebody_has_approved_exactly_that() {
    let text = "retention=1x | done 1d | done 8d | done 9d | baseline retention=9x";
    let bed = Bed::new(text).await;
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    assert!(report.outcomes.is_empty());
    assert_eq!(report.last.plan.standing().to_string(), "blocked");
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let before = bed.left().await;
    let other = ports.carry_out_approved(bed.server(), "01234567").await;
    assert!(matches!(other, Ok(Approved::Stale)), "{other:?}");
    assert_eq!(bed.left().await, before);
    assert_eq!(approved(&bed).await, "1d DONE");
    let again = bed.once(Arc::new(bed.memory.clone())).await;
    assert!(again.last.plan.is_empty());
    assert_eq!(again.last.plan.standing().to_string(), "converged");
}

#[tokio::test]
async fn an_approved_plan_goes_beyond_the_budget_and_no_other_does() {
    let text = "retention=1x budget=1/100 | done 1d | done 8d | done 9d | done 10d";
    let bed = Bed::new(text).await;
    bed.once(Arc::new(bed.memory.clone())).await;
    assert_eq!(bed.backups().await, "9d DONE | 8d DONE | 1d DONE");
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let seen = ports.plan(bed.server()).await;
    let digest = seen.plan.digest();
    // Somebody keeps one of them after the plan was shown.
    let kept = bed.world.id("9d");
    let keep = bed.archive.write_keep(&kept, KeepTarget::Full);
    keep.await.expect("memory");
    let stale = ports.carry_out_approved(bed.server(), &digest).await;
    assert!(matches!(stale, Ok(Approved::Stale)), "{stale:?}");
    assert_eq!(approved(&bed).await, "9d DONE | 1d DONE");
}

#[tokio::test]
async fn what_no_run_has_seen_is_observed_until_it_is_adopted() {
    let text = "schedule=@hourly retention=1x | done 1d | done 8d | baseline none";
    let bed = Bed::new(&text.replace("schedule=@hourly ", "")).await;
    let before = scene::paths(&bed.archive).await;
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    assert!(report.outcomes.is_empty());
    assert_eq!(scene::paths(&bed.archive).await, before);
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let seen = ports.plan(bed.server()).await.observed;
    let (adopted, words) = ports.adopted(bed.server(), &seen, None).await;
    assert!(!adopted.plan.is_empty());
    assert_eq!(scene::paths(&bed.archive).await, before, "it is only shown");
    let recorded = ports.put_on_record(bed.server(), &seen, &words).await;
    recorded.expect("memory");
    bed.once(Arc::new(bed.memory.clone())).await;
    assert_eq!(bed.backups().await, "1d DONE");
}

#[tokio::test]
async fn an_empty_prefix_is_taken_up_by_the_first_run() {
    let bed = Bed::new("retention=1x | nothing | baseline none").await;
    bed.once(Arc::new(bed.memory.clone())).await;
    assert_eq!(bed.left().await, ["barkeep/baseline"]);
    let mut observed = Bed::new("mode=observe | nothing | baseline none").await;
    observed.world.server.mode = Mode::Observe;
    observed.once(Arc::new(observed.memory.clone())).await;
    assert_eq!(observed.left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_that_somebody_took_away_stops_deletes_until_that_is_accepted() {
    let bed = Bed::new("retention=2x | done 1d | done 8d | done 9d").await;
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let gone = bed.world.id("1d");
    for object in bed.left().await {
        if object.starts_with("base/1d/") {
            let key = bed.archive.join(&object.replace("1d", gone.as_str()));
            let deleted = bed.archive.store().delete(&[key]).await;
            assert!(deleted[0].outcome.is_ok());
        }
    }
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    assert!(report.outcomes.is_empty());
    assert_eq!(report.last.plan.standing().to_string(), "stalled");
    let seen = ports.plan(bed.server()).await.observed;
    let (_, words) = ports.adopted(bed.server(), &seen, None).await;
    let recorded = ports.put_on_record(bed.server(), &seen, &words).await;
    recorded.expect("memory");
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    assert_eq!(report.last.plan.standing().to_string(), "converged");
}

#[tokio::test]
async fn a_run_writes_down_what_it_has_seen() {
    let bed = Bed::new("retention=1x | done 1d | done 8d").await;
    bed.once(Arc::new(bed.memory.clone())).await;
    let read = bed.archive.read_record(OwnObject::Baseline).await;
    let (baseline, _): (crate::model::record::Baseline, _) = read.expect("memory").expect("one");
    assert_eq!(baseline.backups, BTreeSet::from([bed.world.id("1d")]));
    let deleted: Vec<_> = baseline.deleted.keys().cloned().collect();
    assert_eq!(deleted, [bed.world.id("8d")]);
}

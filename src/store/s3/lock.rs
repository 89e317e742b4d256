//! Locks of objects, in as few requests as S3 allows.
//!
//! No listing tells them. A bucket without Object Lock costs one request; one with it costs two more and one HEAD per object. The
//! headers of a HEAD are absent where nothing locks and also where the caller may not see the locks: whether they may be seen is
//! therefore asked once per call, of the first object.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    operation::head_object::HeadObjectOutput,
    types::{ObjectLockEventHold, ObjectLockLegalHoldStatus, ObjectLockMode},
};
use futures_util::{StreamExt, stream};

use super::{
    super::{Error, Key, Meaning, Operation, Result},
    answer::instant,
    bucket::Bucket,
    retention,
};
use crate::{
    failure::chain,
    model::lock::{Lock, LockMode, Locking},
};

const HEADS_PARALLEL: usize = 16;

/// What the headers of an object's lock are worth when they are absent.
enum Absence {
    /// The bucket has no locks.
    NoLocks,
    /// The object is free.
    Free,
    /// The caller may not see them.
    Hidden(String),
}

/// The verdict on each object, in their order.
pub(super) async fn locks(bucket: &Bucket, keys: &[Key]) -> Result<Vec<Lock>> {
    let Some(sample) = keys.first() else {
        return Ok(Vec::new());
    };
    let all = |lock: Lock| Ok(vec![lock; keys.len()]);
    if retention::locking(bucket).await? == Locking::Off {
        return all(Lock::Free);
    }
    match absence(bucket, sample).await? {
        Absence::NoLocks => return all(Lock::Free),
        Absence::Hidden(why) => return all(Lock::Unknown(why)),
        Absence::Free => {}
    }
    let heads: Vec<_> = keys.iter().map(|key| one(bucket, key)).collect();
    Ok(stream::iter(heads).buffered(HEADS_PARALLEL).collect().await)
}

async fn one(bucket: &Bucket, key: &Key) -> Lock {
    match bucket.head(key).await {
        Ok(head) => head.meta.lock.unwrap_or(Lock::Free).at(head.date),
        // There is nothing to destroy.
        Err(error) if error.is_not_found() => Lock::Free,
        Err(error) => Lock::Unknown(chain(&error)),
    }
}

async fn absence(bucket: &Bucket, sample: &Key) -> Result<Absence> {
    let key = bucket.full(sample);
    let retention = bucket.client().get_object_retention();
    let retention = retention.bucket(&bucket.name).key(&key).send().await;
    let retention = shown(bucket, sample, retention.err())?;
    let Absence::Free = retention else {
        return Ok(retention);
    };
    let hold = bucket.client().get_object_legal_hold();
    let hold = hold.bucket(&bucket.name).key(&key).send().await;
    shown(bucket, sample, hold.err())
}

/// What it says of the caller's rights that a direct question for a lock was answered like this.
fn shown<E>(bucket: &Bucket, key: &Key, error: Option<SdkError<E>>) -> Result<Absence>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Some(error) = error else {
        return Ok(Absence::Free);
    };
    let response = error.raw_response();
    if response.is_some_and(|response| response.status().is_success()) {
        // Some stores answer with the object itself: whoever may read that may see all they have.
        return Ok(Absence::Free);
    }
    if error.code() == Some("InvalidRequest") {
        return Ok(Absence::NoLocks);
    }
    let error: Error = bucket.error(Operation::Locks, key, &error);
    match error.meaning {
        Meaning::PermissionDenied => Ok(Absence::Hidden(chain(&error))),
        // No such lock, no such object, no such question.
        Meaning::NotFound | Meaning::Unsupported => Ok(Absence::Free),
        _ => Err(error),
    }
}

/// The verdict that the headers give; `None` where they are absent.
pub(super) fn told(output: &HeadObjectOutput) -> Option<Lock> {
    let held = output.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On)
        || output.object_lock_event_hold() == Some(&ObjectLockEventHold::On);
    if held {
        return Some(Lock::Held);
    }
    let mode = match output.object_lock_mode() {
        Some(ObjectLockMode::Governance) => LockMode::Governance,
        // What is not known is the firmer.
        Some(_) => LockMode::Compliance,
        None => output
            .object_lock_retain_until_date()
            .map(|_| LockMode::Compliance)?,
    };
    let until = output.object_lock_retain_until_date();
    Some(Lock::LockedUntil {
        until: until.map(|until| instant(Some(until))),
        mode,
    })
}

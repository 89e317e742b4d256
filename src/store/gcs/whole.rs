//! What must hold of an object made of parts, before and after it is made.

use super::{
    super::{Checksum, Key, Meaning, ObjectMeta, Operation, Part, PutMode, Result},
    bucket::Bucket,
};

/// Refuses what the mode forbids, as far as a look can tell.
pub(super) async fn look_before(bucket: &Bucket, key: &Key, mode: &PutMode) -> Result<()> {
    if *mode == PutMode::Overwrite {
        return Ok(());
    }
    let found = match bucket.head(key).await {
        Ok(head) => Some(head.meta.version),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.during(Operation::CompleteUpload).about(key)),
    };
    let refused = match (mode, found) {
        (PutMode::Create, Some(_)) => Meaning::AlreadyExists,
        (PutMode::Replace(version), found) if found.as_ref() != Some(version) => {
            Meaning::Precondition
        }
        _ => return Ok(()),
    };
    Err(bucket.error(refused, Operation::CompleteUpload).about(key))
}

/// Whether the object is what its parts are together.
pub(super) fn check(bucket: &Bucket, meta: &ObjectMeta, parts: &[Part]) -> Result<()> {
    if is_made_of(meta, parts) {
        return Ok(());
    }
    let error = bucket.error(Meaning::Checksum, Operation::CompleteUpload);
    Err(error
        .about(&meta.key)
        .because("what was stored is not what was sent"))
}

/// By length and CRC-32C, which the service has computed of the whole and we of every part.
pub(super) fn is_made_of(meta: &ObjectMeta, parts: &[Part]) -> bool {
    let size: u64 = parts.iter().map(|part| part.size).sum();
    let told = meta.checksum.as_ref().and_then(Checksum::crc32c);
    let sums = parts.iter().map(|part| {
        let length = usize::try_from(part.size).ok()?;
        Some((part.checksum.as_ref()?.crc32c()?, length))
    });
    let sums: Option<Vec<_>> = sums.collect();
    let whole = sums.map(|sums| {
        let mut sums = sums.into_iter();
        let first = sums.next().map_or(0, |(crc, _)| crc);
        sums.fold(first, |whole, (crc, length)| {
            crc32c::crc32c_combine(whole, crc, length)
        })
    });
    meta.size == size && (told.is_none() || told == whole)
}

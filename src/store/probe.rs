//! What a store can do, found out by doing it.
//!
//! Stores that speak one protocol differ in what they heed: a condition may be ignored, a checksum dropped, overwriting forbidden. The probe
//! writes a few small objects and one of two parts below a prefix that is of no other use, looks at what came of it, and deletes them
//! again, with what an earlier probe left there when it was cut off. It speaks to the port only, so every store can be probed.
//!
//! It judges nothing. A store that refuses the very first object is not probed further: that is an error, not an ability.

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::{
    ChecksumAlgorithm, Error, Key, Meaning, ObjectVersion, Operation, PutMode, Result, Store,
    StoreExt, Stored, Tags, UploadOptions,
};
use crate::{failure::chain, model::lock::BucketRetention};

/// Whether a store can do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It can.
    Has,
    /// It cannot, or says that it can and does not.
    Lacks(String),
    /// The request failed for another reason.
    Unknown(String),
}

impl Ability {
    fn lacks(why: &str) -> Self {
        Self::Lacks(why.to_owned())
    }

    /// What an error says of the ability that the request needed.
    fn of(error: &Error) -> Self {
        match error.meaning {
            Meaning::Unreachable | Meaning::Throttled | Meaning::Interrupted => {
                Self::Unknown(chain(error))
            }
            _ => Self::Lacks(chain(error)),
        }
    }

    fn of_outcome<T>(outcome: &Result<T>) -> Self {
        match outcome {
            Ok(_) => Self::Has,
            Err(error) => Self::of(error),
        }
    }
}

/// What a store can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// To create an object only if there is none.
    pub create_once: Ability,
    /// To replace an object only if it is still the one that was read.
    pub compare_and_swap: Ability,
    /// To replace an object.
    pub overwriting: Ability,
    /// The checksum that it verifies, if any.
    pub checksum: Option<ChecksumAlgorithm>,
    /// To make an object of parts as short as they may be.
    pub parts: Ability,
    /// To delete what was written.
    pub deleting: Ability,
    /// How many objects one request deletes.
    pub delete_batch_max: usize,
    /// What it does by itself to keep what it holds; the reason where it does not say.
    pub retention: Result<BucketRetention, String>,
}

/// Tries out what a store can do, with objects below `prefix`, which ends with a slash.
///
/// Fails if not even one object can be written there. What was written is deleted also then.
pub async fn probe(store: &dyn Store, prefix: &str) -> Result<Capabilities> {
    // What cannot be deleted shows below.
    let _cleaned = clean(store, prefix).await;
    let probed = Probe { store, prefix }.run().await;
    let deleting = clean(store, prefix).await;
    let mut capabilities = probed?;
    capabilities.deleting = Ability::of_outcome(&deleting);
    // Only now it is known to whoever found out by deleting.
    capabilities.delete_batch_max = store.limits().delete_batch_max;
    Ok(capabilities)
}

/// Whether a store heeds conditions, without which there are no leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// What exists is not created again, and only what was read is replaced.
    Heeded,
    /// One of them is ignored, or refused.
    Ignored,
}

/// Finds out only whether a store heeds conditions, with one object below `prefix`, which ends with a slash.
///
/// Fails where that cannot be told.
pub async fn conditions(store: &dyn Store, prefix: &str) -> Result<Conditions> {
    let probe = Probe { store, prefix };
    let key = probe.key("a");
    let found = probe.conditions(&key).await;
    clean(store, prefix).await?;
    let unknown = |why: &str| {
        let error = Error::new(Meaning::Unreachable, Operation::Put, store.location());
        Err(error.about(&key).because(why.to_owned()))
    };
    match found? {
        [Ability::Has, Ability::Has] => Ok(Conditions::Heeded),
        [Ability::Unknown(why), _] | [_, Ability::Unknown(why)] => unknown(&why),
        _ => Ok(Conditions::Ignored),
    }
}

struct Probe<'a> {
    store: &'a dyn Store,
    prefix: &'a str,
}

impl Probe<'_> {
    async fn run(&self) -> Result<Capabilities> {
        let key = self.key("a");
        let create_once = self.create(&key).await?;
        let created = self.store.head(&key).await?.meta;
        let compare_and_swap = self.swap(&key, created.version).await;
        let overwritten = self.put(&key, "last", PutMode::Overwrite).await;
        let told = overwritten.as_ref().ok();
        let told = told.and_then(|stored| stored.checksum.clone());
        let checksum = told.or(created.checksum);
        Ok(Capabilities {
            create_once,
            compare_and_swap,
            overwriting: match overwritten {
                Ok(_) => self.is_last(&key).await,
                Err(error) => Ability::of(&error),
            },
            checksum: checksum.map(|checksum| checksum.algorithm),
            parts: self.upload().await,
            deleting: Ability::Has,
            delete_batch_max: self.store.limits().delete_batch_max,
            retention: self.store.retention().await.map_err(|error| chain(&error)),
        })
    }

    async fn conditions(&self, key: &Key) -> Result<[Ability; 2]> {
        let create_once = self.create(key).await?;
        let version = self.store.head(key).await?.meta.version;
        Ok([create_once, self.swap(key, version).await])
    }

    fn key(&self, name: &str) -> Key {
        Key::verbatim(format!("{}{name}", self.prefix))
    }

    async fn put(&self, key: &Key, text: &str, mode: PutMode) -> Result<Stored> {
        self.store.put_text(key, text, mode).await
    }

    async fn create(&self, key: &Key) -> Result<Ability> {
        match self.put(key, "first", PutMode::Create).await {
            Ok(_) => {}
            // By what an earlier probe could not delete, or by its own earlier try, whose answer was lost.
            Err(error) if error.is_conflict() => return Ok(Ability::Has),
            Err(error) if error.meaning == Meaning::Unsupported => {
                self.put(key, "first", PutMode::Overwrite).await?;
                return Ok(Ability::of(&error));
            }
            Err(error) => return Err(error),
        }
        Ok(match self.put(key, "second", PutMode::Create).await {
            Err(error) if error.is_conflict() => Ability::Has,
            Ok(_) => Ability::lacks("what exists is created again"),
            Err(error) => Ability::of(&error),
        })
    }

    async fn swap(&self, key: &Key, version: ObjectVersion) -> Ability {
        let swapped = self.put(key, "swapped", PutMode::Replace(version.clone()));
        if let Err(error) = swapped.await {
            return Ability::of(&error);
        }
        // The version that has just been replaced.
        match self.put(key, "again", PutMode::Replace(version)).await {
            Err(error) if error.is_conflict() => Ability::Has,
            Ok(_) => Ability::lacks("what has changed meanwhile is replaced"),
            Err(error) => Ability::of(&error),
        }
    }

    async fn is_last(&self, key: &Key) -> Ability {
        match self.store.get_text(key).await {
            Ok(text) if text == "last" => Ability::Has,
            Ok(_) => Ability::lacks("what is read is not what was written last"),
            Err(error) => Ability::of(&error),
        }
    }

    async fn upload(&self) -> Ability {
        let outcome = self.try_upload().await;
        match outcome {
            Ok(true) => Ability::Has,
            Ok(false) => Ability::lacks("the object has not the length of its parts"),
            Err(error) => Ability::of(&error),
        }
    }

    /// Two parts, of which the first is the shortest that may be followed by another.
    async fn try_upload(&self) -> Result<bool> {
        let (store, key) = (self.store, self.key("b"));
        let part_bytes = store.limits().part_bytes_min.max(1);
        let options = UploadOptions {
            part_bytes,
            mode: PutMode::Overwrite,
            tags: Tags::Configured,
        };
        let upload = store.begin_upload(&key, options).await?;
        let length = usize::try_from(part_bytes).map_err(|error| {
            let error =
                Error::new(Meaning::Other, Operation::PutPart, store.location()).because(error);
            error.about(&key)
        })?;
        let sent = async {
            let first = upload.put_part(1, Bytes::from(vec![0; length])).await?;
            let second = upload.put_part(2, Bytes::from_static(b"x")).await?;
            upload.complete(vec![first, second]).await
        };
        match sent.await {
            Ok(_) => Ok(store.head(&key).await?.meta.size == part_bytes + 1),
            Err(error) => {
                // The first error is the one to tell.
                let _aborted = upload.abort().await;
                Err(error)
            }
        }
    }
}

/// Deletes everything below a prefix, unfinished uploads too.
async fn clean(store: &dyn Store, prefix: &str) -> Result<()> {
    let objects: Vec<_> = store.list_all(prefix).try_collect().await?;
    let keys: Vec<Key> = objects.into_iter().map(|object| object.key).collect();
    let deleted = store.delete(&keys).await;
    deleted
        .into_iter()
        .try_for_each(|deleted| deleted.outcome)?;
    let uploads = match store.list_uploads(prefix).await {
        Err(error) if error.meaning == Meaning::Unsupported => Vec::new(),
        uploads => uploads?,
    };
    for upload in &uploads {
        store.abort_upload(upload).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::time::Timestamp;
    use crate::store::{
        fault::{Effect, Faults, Faulty, Rule},
        memory::Memory,
    };

    const PREFIX: &str = "srv/barkeep/probe/";

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().expect("an instant")
    }

    async fn probed(rules: Vec<Rule>) -> (Result<Capabilities>, Memory) {
        let memory = Memory::new(now());
        let faults = Faults::default();
        for rule in rules {
            faults.add(rule);
        }
        let store = Faulty::new(Arc::new(memory.clone()), faults);
        (probe(&store, PREFIX).await, memory)
    }

    /// All writes of a small object from this one on, counted from 0.
    fn puts_from(first: u64, meaning: Meaning) -> Rule {
        let rule = Rule::next(Operation::Put, "probe/a", Effect::Before(meaning));
        Rule {
            after: first,
            ..rule.for_ever()
        }
    }

    #[tokio::test]
    async fn conditions_alone_are_found_out_also_after_a_crash_and_nothing_is_left() {
        let memory = Memory::new(now());
        let leftover = Key::verbatim(format!("{PREFIX}a"));
        for heeded in [true, true, false] {
            if !heeded {
                memory.ignore_conditions();
            }
            let written = memory.put_text(&leftover, "old", PutMode::Overwrite);
            written.await.expect("memory");
            let found = conditions(&memory, PREFIX).await.expect("an answer");
            assert_eq!(found == Conditions::Heeded, heeded);
            assert!(memory.contents().is_empty());
        }
        let faults = Faults::default();
        faults.add(puts_from(1, Meaning::Unreachable));
        let silent = Faulty::new(Arc::new(memory), faults);
        assert!(conditions(&silent, PREFIX).await.is_err());
    }

    #[tokio::test]
    async fn a_store_that_can_everything_is_told_and_left_as_it_was() {
        let (capabilities, memory) = probed(Vec::new()).await;
        let capabilities = capabilities.expect("it can be probed");
        for ability in [
            &capabilities.create_once,
            &capabilities.compare_and_swap,
            &capabilities.overwriting,
            &capabilities.parts,
            &capabilities.deleting,
        ] {
            assert_eq!(*ability, Ability::Has, "{capabilities:?}");
        }
        assert!(memory.contents().is_empty());
    }

    #[tokio::test]
    async fn what_is_refused_is_lacking_and_what_got_no_answer_is_unknown() {
        let (found, memory) = probed(vec![puts_from(2, Meaning::Locked)]).await;
        let found = found.expect("it can be probed");
        assert_eq!(found.create_once, Ability::Has);
        assert!(matches!(found.overwriting, Ability::Lacks(_)), "{found:?}");
        let (found, _) = probed(vec![puts_from(4, Meaning::Unreachable)]).await;
        let found = found.expect("it can be probed");
        assert_eq!(found.compare_and_swap, Ability::Has);
        assert!(
            matches!(found.overwriting, Ability::Unknown(_)),
            "{found:?}"
        );
        assert!(memory.contents().is_empty());
    }

    #[tokio::test]
    async fn a_store_that_refuses_the_first_object_is_not_probed() {
        let (found, _) = probed(vec![puts_from(0, Meaning::PermissionDenied)]).await;
        let meaning = found.expect_err("it was refused").meaning;
        assert_eq!(meaning, Meaning::PermissionDenied);
    }

    #[tokio::test]
    async fn what_an_earlier_probe_left_is_no_hindrance_and_goes() {
        let memory = Memory::new(now());
        let left = Key::verbatim(format!("{PREFIX}a"));
        let put = memory.put_text(&left, "left", PutMode::Create).await;
        put.expect("it is written");
        let found = probe(&memory, PREFIX).await.expect("it can be probed");
        assert_eq!(found.create_once, Ability::Has);
        assert!(memory.contents().is_empty());
    }
}

//! Locks of objects, and what a bucket does by itself to keep what it holds.
//!
//! Listings tell the locks of what they show. What lies in one directory is asked for with one listing, from the first to the last of it.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use http::Method;
use serde::Deserialize;

use super::{
    super::{Key, ListRequest, Meaning, Operation, Result},
    bucket::Bucket,
    client::Request,
    resource::mode,
};
use crate::{
    failure::chain,
    model::lock::{BucketRetention, DefaultLock, Lock, LockMode, Locking, Remains},
};

const LISTINGS_PARALLEL: usize = 8;

/// The verdict on each object, in their order.
pub(super) async fn locks(bucket: &Bucket, keys: &[Key]) -> Vec<Lock> {
    let mut directories: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    for key in keys {
        let end = key.as_str().rfind('/').map_or(0, |at| at + 1);
        directories
            .entry(&key.as_str()[..end])
            .or_default()
            .push(key);
    }
    let asked = directories
        .into_iter()
        .map(|(directory, keys)| of_one(bucket, directory, keys));
    let asked: Vec<_> = asked.collect();
    let told = stream::iter(asked).buffer_unordered(LISTINGS_PARALLEL);
    let told: BTreeMap<Key, Lock> = told.map(stream::iter).flatten().collect().await;
    // What no listing shows is not there.
    let lock = |key| told.get(key).cloned().unwrap_or(Lock::Free);
    keys.iter().map(lock).collect()
}

/// The locks of what is there of these keys of one directory.
async fn of_one(bucket: &Bucket, directory: &str, mut keys: Vec<&Key>) -> Vec<(Key, Lock)> {
    keys.sort_unstable();
    let told = match keys.as_slice() {
        [key] => headed(bucket, key).await,
        keys => listed(bucket, directory, keys).await,
    };
    told.unwrap_or_else(|error| {
        let unknown = Lock::Unknown(chain(&error.during(Operation::Locks)));
        keys.into_iter()
            .map(|key| (key.clone(), unknown.clone()))
            .collect()
    })
}

async fn headed(bucket: &Bucket, key: &Key) -> Result<Vec<(Key, Lock)>> {
    match bucket.head(key).await {
        Ok(head) => Ok(vec![(head.meta.key, head.meta.lock.unwrap_or(Lock::Free))]),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

async fn listed(bucket: &Bucket, directory: &str, keys: &[&Key]) -> Result<Vec<(Key, Lock)>> {
    let (first, last) = (
        keys.first().expect("several"),
        keys.last().expect("several"),
    );
    // What a key begins with comes before it.
    let mut before = first.as_str().to_owned();
    before.pop();
    let mut request = ListRequest {
        start_after: Some(before),
        ..ListRequest::below(directory)
    };
    let mut found = Vec::new();
    loop {
        let page = bucket.list(&request).await?;
        let is_beyond = page
            .objects
            .last()
            .is_some_and(|object| object.key >= **last);
        let objects = page.objects.into_iter();
        found.extend(objects.filter_map(|object| Some((object.key, object.lock?))));
        match page.next.filter(|_| !is_beyond) {
            Some(token) => request.token = Some(token),
            None => return Ok(found),
        }
    }
}

/// A bucket as the JSON interface describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Described {
    retention_policy: Option<RetentionPolicy>,
    default_event_based_hold: bool,
    versioning: Option<Versioning>,
    soft_delete_policy: Option<SoftDeletePolicy>,
    lifecycle: Option<Lifecycle>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RetentionPolicy {
    retention_period: String,
    is_locked: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versioning {
    enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SoftDeletePolicy {
    retention_duration_seconds: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lifecycle {
    rule: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    action: Action,
    condition: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Action {
    #[serde(rename = "type")]
    kind: String,
}

/// What the bucket does by itself.
pub(super) async fn retention(bucket: &Bucket) -> Result<BucketRetention> {
    let operation = Operation::Retention;
    let fields = "retentionPolicy,defaultEventBasedHold,versioning,softDeletePolicy,lifecycle";
    let url = bucket
        .client
        .endpoint
        .bucket()
        .with("projection", "noAcl")
        .with("fields", fields);
    let answer = bucket
        .client
        .ask(&Request::new(operation, Method::GET, url))
        .await;
    let described = answer.and_then(|answer| bucket.understood::<Described>(operation, &answer));
    match described {
        Ok(described) => Ok(BucketRetention {
            locking: described.locking(),
            remains: described.remains(&bucket.root),
        }),
        Err(error) => match error.meaning {
            Meaning::NotFound | Meaning::Unsupported => Ok(BucketRetention::NONE),
            Meaning::Unreachable | Meaning::Throttled | Meaning::BucketMissing => Err(error),
            _ => Ok(BucketRetention {
                locking: Locking::Unknown(chain(&error)),
                remains: Remains::Unknown(chain(&error)),
            }),
        },
    }
}

impl Described {
    /// Any object of any bucket can be held.
    fn locking(&self) -> Locking {
        let policy = self.retention_policy.as_ref().map(|policy| DefaultLock {
            mode: mode(!policy.is_locked),
            period: seconds(&policy.retention_period),
        });
        let hold = self.default_event_based_hold.then_some(DefaultLock {
            mode: LockMode::Governance,
            period: None,
        });
        Locking::On {
            default: policy.or(hold),
        }
    }

    fn remains(&self, root: &str) -> Remains {
        let soft = self.soft_delete_policy.as_ref();
        let soft = soft.and_then(|policy| seconds(&policy.retention_duration_seconds));
        let soft = soft.filter(|kept| !kept.is_zero());
        if self
            .versioning
            .as_ref()
            .is_some_and(|versioning| versioning.enabled)
        {
            // What a rule removes is softly deleted, too.
            let kept = self.versions_kept(root);
            return Remains::Version {
                kept: kept.map(|kept| kept + soft.unwrap_or_default()),
            };
        }
        soft.map_or(Remains::Nothing, |kept| Remains::SoftDeleted { kept })
    }

    /// For how long a version stays that is no longer current, if a rule says so for all of the destination.
    fn versions_kept(&self, root: &str) -> Option<Duration> {
        const DAY: u64 = 24 * 3600;
        let rules = self.lifecycle.as_ref()?.rule.iter();
        let days = rules
            .filter(|rule| rule.action.kind == "Delete")
            .filter_map(|rule| {
                let applies = rule
                    .condition
                    .iter()
                    .all(|(name, value)| match name.as_str() {
                        "daysSinceNoncurrentTime" => true,
                        "isLive" => value == false,
                        "matchesPrefix" => value.as_array().is_some_and(|prefixes| {
                            let mut prefixes = prefixes.iter().filter_map(|prefix| prefix.as_str());
                            prefixes.any(|prefix| root.starts_with(prefix))
                        }),
                        // What narrows the rule otherwise may leave some.
                        _ => false,
                    });
                let days = rule.condition.get("daysSinceNoncurrentTime")?.as_u64();
                days.filter(|_| applies)
            });
        days.min().map(|days| Duration::from_secs(days * DAY))
    }
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str) -> BucketRetention {
        let described: Described = serde_json::from_str(text).expect("a bucket");
        BucketRetention {
            locking: described.locking(),
            remains: described.remains("prod/"),
        }
    }

    #[test]
    fn a_bucket_tells_what_it_keeps_by_itself() {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let rule = |condition: &str| {
            format!(
                r#"{{"versioning": {{"enabled": true}}, "lifecycle": {{"rule": [
                    {{"action": {{"type": "Delete"}}, "condition": {{{condition}}}}}]}}}}"#
            )
        };
        let version = |kept| Remains::Version { kept };
        let cases = [
            ("{}".to_owned(), Remains::Nothing),
            (
                r#"{"softDeletePolicy": {"retentionDurationSeconds": "604800"}}"#.to_owned(),
                Remains::SoftDeleted { kept: days(7) },
            ),
            (
                r#"{"softDeletePolicy": {"retentionDurationSeconds": "0"}}"#.to_owned(),
                Remains::Nothing,
            ),
            (rule(r#""age": 3"#), version(None)),
            (
                rule(r#""daysSinceNoncurrentTime": 30"#),
                version(Some(days(30))),
            ),
            (
                rule(r#""daysSinceNoncurrentTime": 30, "numNewerVersions": 1"#),
                version(None),
            ),
            (
                rule(r#""daysSinceNoncurrentTime": 30, "matchesPrefix": ["prod/"]"#),
                version(Some(days(30))),
            ),
            (
                rule(r#""daysSinceNoncurrentTime": 30, "matchesPrefix": ["prod/srv/"]"#),
                version(None),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(described(&text).remains, expected, "{text}");
        }
        let policy = r#"{"retentionPolicy": {"retentionPeriod": "86400", "isLocked": true}}"#;
        let firm = DefaultLock {
            mode: LockMode::Compliance,
            period: Some(days(1)),
        };
        let default = Some(firm);
        assert_eq!(described(policy).locking, Locking::On { default });
        assert_eq!(described("{}").locking, Locking::On { default: None });
    }
}

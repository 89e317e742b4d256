//! Locks of objects, and what a bucket does by itself to keep what it holds.
//!
//! Listings tell the locks of what they show. Several objects therefore cost one listing, which begins at the first of them and leaps over
//! what nobody has asked for: never more requests than there are pages up to the last, nor than there are objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use http::Method;
use serde::Deserialize;

use super::{
    super::{Key, ListRequest, Meaning, Operation, PageToken, Result},
    bucket::Bucket,
    client::{Request, date},
    resource::mode,
};
use crate::{
    failure::chain,
    model::lock::{BucketRetention, DefaultLock, Lock, LockMode, Locking, Remains},
};

/// The verdict on each object, in their order.
pub(super) async fn locks(bucket: &Bucket, keys: &[Key]) -> Vec<Lock> {
    let wanted: BTreeSet<&Key> = keys.iter().collect();
    let told = match keys {
        [] => Ok(BTreeMap::new()),
        [key] => headed(bucket, key).await,
        _ => listed(bucket, &wanted).await,
    };
    match told {
        // What no listing shows is not there.
        Ok(told) => {
            let lock = |key| told.get(key).cloned().unwrap_or(Lock::Free);
            keys.iter().map(lock).collect()
        }
        Err(error) => vec![Lock::Unknown(chain(&error.during(Operation::Locks))); keys.len()],
    }
}

async fn headed(bucket: &Bucket, key: &Key) -> Result<BTreeMap<Key, Lock>> {
    match bucket.head(key).await {
        Ok(head) => {
            let lock = head.meta.lock.unwrap_or(Lock::Free);
            Ok(BTreeMap::from([(head.meta.key, lock)]))
        }
        Err(error) if error.is_not_found() => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// The locks of those that are there.
async fn listed(bucket: &Bucket, wanted: &BTreeSet<&Key>) -> Result<BTreeMap<Key, Lock>> {
    // The service begins with the key itself.
    let from = |key: &Key| ListRequest {
        start_after: Some(key.as_str().to_owned()),
        ..ListRequest::default()
    };
    let mut found = BTreeMap::new();
    let Some(first) = wanted.first() else {
        return Ok(found);
    };
    let mut request = from(first);
    loop {
        let (page, headers) = bucket.page(&request).await?;
        let mut last = None;
        for object in &page.items {
            let Some(key) = bucket.relative(&object.name) else {
                continue;
            };
            if wanted.contains(&key) {
                found.insert(key.clone(), object.lock().at(date(&headers)));
            }
            last = Some(key);
        }
        let Some(token) = page.next_page_token else {
            return Ok(found);
        };
        let Some(last) = last else {
            request.token = Some(PageToken(token));
            continue;
        };
        match wanted
            .range::<&Key, _>((Excluded(&&last), Unbounded))
            .next()
        {
            Some(next) => request = from(next),
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

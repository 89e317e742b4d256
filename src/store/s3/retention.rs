//! What a bucket does by itself to keep what it holds: Object Lock, versions, and the rule that ends them.

use std::time::Duration;

use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    types::{
        BucketVersioningStatus, ExpirationStatus, LifecycleRule, ObjectLockEnabled,
        ObjectLockRetentionMode,
    },
};

use super::{
    super::{Meaning, Operation, Result},
    bucket::Bucket,
};
use crate::{
    failure::chain,
    model::lock::{BucketRetention, DefaultLock, LockMode, Locking, Remains},
};

const DAY: u64 = 24 * 3600;

pub(super) async fn retention(bucket: &Bucket) -> Result<BucketRetention> {
    let locking = locking(bucket).await?;
    let remains = match &locking {
        // There are no locks without versions.
        Locking::On { .. } => Remains::Version {
            kept: versions_kept(bucket).await,
        },
        Locking::Off | Locking::Unknown(_) => remains(bucket).await?,
    };
    Ok(BucketRetention { locking, remains })
}

/// Whether the bucket has Object Lock. A store that does not know the question has none.
pub(super) async fn locking(bucket: &Bucket) -> Result<Locking> {
    let request = bucket.client().get_object_lock_configuration();
    let output = match request.bucket(&bucket.name).send().await {
        Ok(output) => output,
        Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => {
            return Ok(Locking::Off);
        }
        Err(error) => {
            let error = bucket.failed(Operation::Retention, &error);
            return match error.meaning {
                Meaning::NotFound | Meaning::Unsupported => Ok(Locking::Off),
                Meaning::Unreachable | Meaning::Throttled | Meaning::BucketMissing => Err(error),
                _ => Ok(Locking::Unknown(chain(&error))),
            };
        }
    };
    let Some(configuration) = output.object_lock_configuration() else {
        return Ok(Locking::Off);
    };
    if configuration.object_lock_enabled() != Some(&ObjectLockEnabled::Enabled) {
        return Ok(Locking::Off);
    }
    let rule = configuration
        .rule()
        .and_then(|rule| rule.default_retention());
    let default = rule.and_then(|rule| {
        let days = |count: Option<i32>, each: u64| {
            let count = count.and_then(|count| u64::try_from(count).ok());
            count.filter(|count| *count > 0).map(|count| count * each)
        };
        let days = days(rule.days(), 1).or_else(|| days(rule.years(), 365));
        Some(DefaultLock {
            mode: match rule.mode()? {
                ObjectLockRetentionMode::Governance => LockMode::Governance,
                _ => LockMode::Compliance,
            },
            period: days.map(|days| Duration::from_secs(days * DAY)),
        })
    });
    Ok(Locking::On { default })
}

async fn remains(bucket: &Bucket) -> Result<Remains> {
    let request = bucket.client().get_bucket_versioning();
    let status = match request.bucket(&bucket.name).send().await {
        Ok(output) => output.status().cloned(),
        Err(error) => {
            let error = bucket.failed(Operation::Retention, &error);
            return match error.meaning {
                Meaning::NotFound | Meaning::Unsupported => Ok(Remains::Nothing),
                Meaning::Unreachable | Meaning::Throttled | Meaning::BucketMissing => Err(error),
                _ => Ok(Remains::Unknown(chain(&error))),
            };
        }
    };
    match status {
        None => Ok(Remains::Nothing),
        Some(BucketVersioningStatus::Enabled) => Ok(Remains::Version {
            kept: versions_kept(bucket).await,
        }),
        Some(_) => {
            let why = "versioning is suspended: what was written before stays";
            Ok(Remains::Unknown(why.to_owned()))
        }
    }
}

/// For how long a version stays that is no longer current, if a rule says so for all of the destination.
async fn versions_kept(bucket: &Bucket) -> Option<Duration> {
    let request = bucket.client().get_bucket_lifecycle_configuration();
    let output = request.bucket(&bucket.name).send().await.ok()?;
    let days = output
        .rules()
        .iter()
        .filter_map(|rule| days(rule, &bucket.root));
    days.min().map(|days| Duration::from_secs(days * DAY))
}

/// After how many days a rule removes old versions of everything below a prefix.
fn days(rule: &LifecycleRule, root: &str) -> Option<u64> {
    let expiration = rule.noncurrent_version_expiration()?;
    let keeps_some = expiration
        .newer_noncurrent_versions()
        .is_some_and(|kept| kept > 0);
    let filter = rule.filter();
    let is_narrow = filter.is_some_and(|filter| {
        filter.tag().is_some()
            || filter.and().is_some()
            || filter.object_size_greater_than().is_some()
            || filter.object_size_less_than().is_some()
    });
    #[expect(deprecated, reason = "older rules have their prefix there")]
    let older = rule.prefix();
    let prefix = filter
        .and_then(|filter| filter.prefix())
        .or(older)
        .unwrap_or_default();
    let applies = *rule.status() == ExpirationStatus::Enabled
        && !keeps_some
        && !is_narrow
        && root.starts_with(prefix);
    applies
        .then_some(expiration.noncurrent_days()?)?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{LifecycleRuleFilter, NoncurrentVersionExpiration, Tag};

    use super::*;

    fn rule(filter: Option<LifecycleRuleFilter>, newer: Option<i32>) -> LifecycleRule {
        let expiration = NoncurrentVersionExpiration::builder()
            .noncurrent_days(30)
            .set_newer_noncurrent_versions(newer)
            .build();
        LifecycleRule::builder()
            .status(ExpirationStatus::Enabled)
            .set_filter(filter)
            .noncurrent_version_expiration(expiration)
            .build()
            .expect("a rule")
    }

    #[test]
    fn only_a_rule_for_all_of_the_destination_tells_when_bytes_go() {
        let prefix = |prefix: &str| Some(LifecycleRuleFilter::builder().prefix(prefix).build());
        let tag = Tag::builder().key("a").value("b").build().expect("a tag");
        let tagged = LifecycleRuleFilter::builder().tag(tag).build();
        for (rule, expected) in [
            (rule(None, None), Some(30)),
            (rule(prefix("prod/"), None), Some(30)),
            (rule(prefix("prod/orders/base/"), None), None),
            (rule(prefix("test/"), None), None),
            (rule(Some(tagged), None), None),
            (rule(None, Some(1)), None),
        ] {
            assert_eq!(days(&rule, "prod/"), expected, "{rule:?}");
        }
    }
}

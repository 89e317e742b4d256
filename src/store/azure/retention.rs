//! What a container does by itself to keep what it holds: policies, versions, and what can be brought back.
//!
//! Source: Microsoft's "Get Container Properties", "Get Blob Service Properties" and "List Blobs". How long versions stay is a matter of
//! rules on another interface of the service, and never told here.

use std::time::Duration;

use azure_core::http::Method;

use super::{
    super::{Error, ListRequest, Meaning, Operation, Result},
    container::{Container, Telling},
    failure::element,
    lock::Whole,
    page::Blob,
};
use crate::{
    failure::chain,
    model::lock::{BucketRetention, DefaultLock, LockMode, Locking, Remains},
};

const DAY: u64 = 24 * 3600;

pub(super) async fn retention(container: &Container) -> Result<BucketRetention> {
    let default = DefaultLock {
        mode: LockMode::Compliance,
        period: None,
    };
    let locking = match container.ask_whole(Operation::Retention).await {
        Ok(Whole::Free) => Locking::Off,
        Ok(Whole::Each) => Locking::On { default: None },
        Ok(Whole::Policy | Whole::Held) => Locking::On {
            default: Some(default),
        },
        Err(error) => Locking::Unknown(unless_silent(error)?),
    };
    Ok(BucketRetention {
        locking,
        remains: remains(container).await?,
    })
}

async fn remains(container: &Container) -> Result<Remains> {
    match has_versions(container).await {
        Ok(true) => return Ok(Remains::Version { kept: None }),
        Ok(false) => {}
        Err(error) => return Ok(Remains::Unknown(unless_silent(error)?)),
    }
    match soft_delete(container).await {
        Ok(None) => Ok(Remains::Nothing),
        Ok(Some(kept)) => Ok(Remains::SoftDeleted { kept }),
        Err(error) => Ok(Remains::Unknown(unless_silent(error)?)),
    }
}

/// Silence is an error; what may not be seen, or is not known there, is unknown.
fn unless_silent(error: Error) -> Result<String> {
    match error.meaning {
        Meaning::Unreachable | Meaning::Throttled | Meaning::BucketMissing => Err(error),
        _ => Ok(chain(&error)),
    }
}

/// Whether what is written here is a version, as far as any blob shows it.
async fn has_versions(container: &Container) -> Result<bool> {
    let request = ListRequest {
        limit: Some(1),
        ..ListRequest::default()
    };
    match container.page(&request, Telling::Versions).await {
        Ok((page, _)) => Ok(page.blobs.iter().any(Blob::is_version)),
        Err(error) if error.meaning == Meaning::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

/// For how long what is deleted can be brought back.
async fn soft_delete(container: &Container) -> Result<Option<Duration>> {
    let connection = &container.connection;
    let mut request = connection.account_request(Method::Get);
    request
        .url_mut()
        .query_pairs_mut()
        .append_pair("restype", "service")
        .append_pair("comp", "properties");
    let answer = connection.send(request).await;
    let answer = answer.map_err(|error| container.error(Operation::Retention, &error))?;
    let text = String::from_utf8_lossy(answer.body());
    let Some(policy) = element(&text, "DeleteRetentionPolicy") else {
        return Ok(None);
    };
    let days = element(policy, "Days").and_then(|days| days.parse::<u64>().ok());
    let is_on = element(policy, "Enabled") == Some("true");
    Ok(days
        .filter(|_| is_on)
        .map(|days| Duration::from_secs(days * DAY)))
}

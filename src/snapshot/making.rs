//! What a cloud is asked for to get back from snapshots: disks that are made of them, and attached to an instance.
//!
//! Every disk that is made carries tags, by which the next run finds what one left that was interrupted. Nothing is detached or deleted.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Error, Result, Tag};
use crate::clock;

/// How often the cloud is asked, at first and in the end.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A cloud that makes disks of snapshots.
#[async_trait]
pub trait Makes: Send + Sync {
    /// Begins a disk where its instance can use it.
    async fn make(&self, wanted: &Making<'_>) -> Result<()>;

    /// The disks that carry all of these tags.
    async fn made(&self, tags: &[Tag]) -> Result<Vec<Made>>;

    /// Attaches a disk to the one instance with this name or identifier.
    async fn attach(&self, instance: &str, disk: &Made) -> Result<()>;
}

/// A disk that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// Of which snapshot: what the cloud knows it by.
    pub snapshot: &'a str,
    /// The instance that is to have it.
    pub instance: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Of which kind, in the cloud's word.
    pub kind: Option<&'a str>,
    /// Its tags.
    pub tags: &'a [Tag],
}

/// A disk that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What the cloud knows it by.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How far it is.
    pub state: MadeState,
}

/// How far a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeState {
    /// The cloud is making it.
    Making,
    /// It can be attached.
    Ready,
    /// It is attached to some instance.
    Attached,
    /// It cannot be used, in the cloud's word.
    Failed(String),
}

/// Waits until the one disk with these tags can be attached, or is.
pub async fn ready(
    cloud: &dyn Makes,
    tags: &[Tag],
    (until, cancel): (Instant, &CancellationToken),
) -> Result<Made> {
    let mut pause = POLL.0;
    loop {
        let made = cloud.made(tags).await?.pop();
        let name = made.as_ref().map(|made| made.name.clone());
        match made.map(|made| (made.state.clone(), made)) {
            Some((MadeState::Ready | MadeState::Attached, made)) => return Ok(made),
            Some((MadeState::Failed(why), made)) => {
                let name = made.name;
                return Err(Error::DiskFailed { name, why });
            }
            // What was made a moment ago may not be listed yet.
            Some((MadeState::Making, _)) | None => {}
        }
        if Instant::now() >= until {
            let doing = format!("make the disk `{}`", name.unwrap_or_default());
            let why = "it is not ready in time; the next run goes on with it".to_owned();
            return Err(Error::Unreachable { doing, why });
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::Interrupted),
            () = clock::pause(pause) => {}
        }
        pause = (pause * 2).min(POLL.1);
    }
}

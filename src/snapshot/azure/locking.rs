//! Immutability policies of snapshots, which Azure has since the version of its interface that is asked here.
//!
//! An unlocked policy can be shortened by those with the right to, as governance; a locked one only grows, as compliance. Either lasts whole days
//! from the instant at which it was set, and until then nobody deletes the snapshot. Source: the operations *Snapshots - Update Immutability
//! Policy* and *… Lock* of Azure's REST reference.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Azure, ENDING, POLL};
use crate::{
    clock,
    model::{
        lock::{Lock, LockMode},
        snapshot::{LockEnd, SnapshotLock},
    },
    snapshot::{
        Error, Result,
        rest::{Ask, moment},
    },
};

/// The first version that knows such policies.
const VERSION: &str = "2026-03-02";

/// What an Azure says that is older than that: it has no such policies.
const TOO_NEW: [&str; 2] = ["InvalidApiVersionParameter", "NoRegisteredProviderFound"];

impl Azure {
    fn policy(&self, method: Method, id: &str, doing: &str) -> Ask {
        let mut ask = self.snapshot(method, id, doing);
        ask.url.set_query(Some(&format!("api-version={VERSION}")));
        ask
    }

    /// Makes a snapshot immutable, as soon as it is one.
    pub(super) async fn protect(&self, id: &str, lock: &SnapshotLock) -> Result<()> {
        let Some(LockEnd::Days(days)) = lock.end else {
            return Err(Error::Unsupported("Azure that are locked but for days"));
        };
        let (action, kind) = match lock.mode {
            LockMode::Governance => ("updateImmutabilityPolicy", "Unlocked"),
            LockMode::Compliance => ("updateImmutabilityPolicyLock", "Locked"),
        };
        self.provisioned(id).await?;
        let mut ask = self.policy(Method::POST, id, "lock");
        if let Ok(mut path) = ask.url.path_segments_mut() {
            path.push(action);
        }
        ask.content = Some(json!({ "type": kind, "immutabilityDurationDays": days }));
        let answer = self.rest.ask(&ask).await?;
        self.settled(&answer, &ask.doing).await
    }

    /// Waits until there is a snapshot that can have a policy.
    async fn provisioned(&self, id: &str) -> Result<()> {
        let ask = self.snapshot(Method::GET, id, "lock");
        let until = Instant::now() + ENDING;
        let mut pause = POLL.0;
        loop {
            let found = self.rest.find(&ask).await?;
            let state = found.map(|mut found| found.body["properties"]["provisioningState"].take());
            // Whoever waits for the snapshot tells why it failed.
            match state.as_ref().and_then(Value::as_str) {
                Some("Succeeded" | "Failed" | "Canceled") => return Ok(()),
                _ if Instant::now() > until => {
                    let (doing, why) = (ask.doing, "it is not there".to_owned());
                    return Err(Error::Unreachable { doing, why });
                }
                _ => clock::pause(pause).await,
            }
            pause = (pause * 2).min(POLL.1);
        }
    }

    /// How a snapshot is locked.
    pub(super) async fn protection(&self, id: &str) -> Result<Lock> {
        let ask = self.policy(Method::GET, id, "look at the lock of");
        let found = match self.rest.find(&ask).await {
            Err(error) if TOO_NEW.iter().any(|code| error.is_called(code)) => None,
            found => found?,
        };
        let policy = found.map(|mut found| found.body["properties"]["immutabilityPolicy"].take());
        Ok(policy.as_ref().map_or(Lock::Free, told))
    }
}

/// What a policy comes to.
fn told(policy: &Value) -> Lock {
    let mode = match policy["type"].as_str() {
        _ if policy["isPolicyExpired"] == true => return Lock::Free,
        None => return Lock::Free,
        Some("Unlocked") => LockMode::Governance,
        Some(_) => LockMode::Compliance,
    };
    let until = moment(&policy["policyExpirationTime"]);
    Lock::LockedUntil { until, mode }
}

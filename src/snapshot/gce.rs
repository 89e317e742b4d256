//! Persistent disks of Google Cloud, over the JSON interface of Compute Engine.
//!
//! Disks of a zone and of a region are snapshotted alike; the boot disk and disks that go with their instance are refused. Everything that
//! changes something is an operation, whose end is waited for and whose error counts: a quota may be refused only there. Every request that
//! changes something carries an identifier made of what it asks for, so that its repetition is the same request.
//!
//! Labels are made of lower case letters, digits, dashes and underscores, at most 63 of them. A tag that is no such text is spelled with
//! what fits of it and a checksum.

use std::fmt::Write as _;

use async_trait::async_trait;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::{Duration, Instant};

use super::{
    BACKUP, Begun, Deleted, Described, Device, Disk, Error, Provider, Result, Role, Stage, Tag,
    Wanted,
    rest::{Ask, Rest, Tokens, moment, refused},
};
use crate::{
    clock::{self, Clock},
    cloud::google::Credentials,
    model::{
        backup::BackupId,
        lock::Lock,
        snapshot::{Account, Recorded, SnapshotLock},
    },
};

mod making;

/// What a token allows, within what its owner may.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// How long the end of an operation is waited for, and how often it is asked for.
const ENDING: Duration = Duration::from_mins(10);
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A project, and a zone of it.
#[derive(Debug)]
pub(super) struct Gce {
    pub(super) rest: Rest,
    pub(super) project: String,
    /// Only instances need one.
    pub(super) zone: Option<String>,
}

#[async_trait]
impl Tokens for Credentials {
    async fn headers(&self) -> Result<HeaderMap, String> {
        let headers = self.headers().await;
        headers.map_err(|refused| refused.why)
    }
}

impl Gce {
    fn about(&self, method: Method, path: &[&str], doing: String) -> Ask {
        let path: Vec<&str> = ["projects", &self.project]
            .into_iter()
            .chain(path.iter().copied())
            .collect();
        self.rest.about(method, &path, doing)
    }

    fn snapshot(&self, method: Method, name: &str, doing: &str) -> Ask {
        let doing = format!("{doing} the snapshot `{name}`");
        self.about(method, &["global", "snapshots", name], doing)
    }

    /// The operation at a path, as it is now; its failure is an error.
    async fn operation(&self, path: &[&str], doing: &str) -> Result<Value> {
        let ask = self.about(Method::GET, path, doing.to_owned());
        let operation = self.rest.ask(&ask).await?.body;
        let error = &operation["error"]["errors"][0];
        if !error.is_null() {
            let code = error["code"].as_str().unwrap_or("unknown");
            let message = error["message"].as_str().unwrap_or_default();
            return Err(refused(&ask, code, message));
        }
        for warning in operation["warnings"].as_array().into_iter().flatten() {
            tracing::warn!("asked to {doing}, the cloud warns: {warning}");
        }
        Ok(operation)
    }

    /// Waits for the end of an operation.
    async fn ended(&self, path: &[&str], doing: &str) -> Result<()> {
        let until = Instant::now() + ENDING;
        let mut pause = POLL.0;
        while self.operation(path, doing).await?["status"] != "DONE" {
            if Instant::now() > until {
                return Err(Error::Unreachable {
                    doing: doing.to_owned(),
                    why: format!("the operation `{}` does not end", path.join("/")),
                });
            }
            clock::pause(pause).await;
            pause = (pause * 2).min(POLL.1);
        }
        Ok(())
    }

    /// All items of a list, page after page.
    async fn all(&self, mut ask: Ask) -> Result<Vec<Value>> {
        let first = ask.url.clone();
        let mut found = Vec::new();
        loop {
            let mut page = self.rest.ask(&ask).await?.body;
            if let Value::Array(items) = page["items"].take() {
                found.extend(items);
            }
            let Some(next) = page["nextPageToken"].as_str() else {
                return Ok(found);
            };
            ask.url = first.clone();
            ask.url.query_pairs_mut().append_pair("pageToken", next);
        }
    }
}

#[async_trait]
impl Provider for Gce {
    async fn attached(&self, instance: &str) -> Result<Vec<Disk>> {
        let zone = self.zone()?;
        let doing = format!("look at the instance `{instance}`");
        let ask = self.about(Method::GET, &["zones", zone, "instances", instance], doing);
        let answer = self.rest.find(&ask).await?;
        let answer = answer.ok_or_else(|| Error::NoInstance(instance.to_owned()))?;
        let disks = answer.body["disks"].as_array().into_iter().flatten();
        disks
            .filter_map(|disk| self::disk(disk).transpose())
            .collect()
    }

    async fn detailed(&self, disk: Disk) -> Result<Disk> {
        let doing = format!("look at the disk `{}`", disk.id);
        let path: Vec<&str> = disk.id.split('/').collect();
        let answer = self
            .rest
            .ask(&self.rest.about(Method::GET, &path, doing))
            .await?;
        let source = answer.body["sourceSnapshot"].as_str();
        let source = source.and_then(|url| Some(url.rsplit('/').next()?.to_owned()));
        Ok(Disk { source, ..disk })
    }

    async fn begin(&self, wanted: &Wanted<'_>) -> Result<Begun> {
        let doing = format!("take the snapshot `{}`", wanted.name);
        let mut ask = self.about(Method::POST, &["global", "snapshots"], doing);
        identify(&mut ask, wanted.name);
        let labels = wanted
            .tags
            .iter()
            .map(|(key, value)| (label(key), label(value).into()));
        let labels: serde_json::Map<String, Value> = labels.collect();
        let mut content = json!({ "name": wanted.name, "sourceDisk": wanted.disk.id });
        if !labels.is_empty() {
            content["labels"] = labels.into();
        }
        ask.content = Some(content);
        let operation = self.rest.ask(&ask).await?.body;
        Ok(Begun {
            id: wanted.name.to_owned(),
            name: wanted.name.to_owned(),
            owner: None,
            operation: Some(told(&operation, "name", &ask.doing)?),
        })
    }

    async fn stage(&self, begun: &Begun) -> Result<Stage> {
        let name = &begun.name;
        let failed = |why: String| Error::Failed {
            name: name.clone(),
            why,
        };
        let mut percent = None;
        if let Some(operation) = &begun.operation {
            let doing = format!("take the snapshot `{name}`");
            let path = ["global", "operations", operation];
            let operation = self.operation(&path, &doing).await;
            let operation = operation.map_err(|error| match error {
                Error::Cloud { code, message, .. } => failed(format!("{code}: {message}")),
                error => error,
            })?;
            let progress = operation["progress"].as_u64();
            percent = progress.and_then(|progress| u8::try_from(progress).ok());
        }
        let ask = self.snapshot(Method::GET, name, "look at");
        let snapshot = self.rest.find(&ask).await?;
        let status = snapshot
            .as_ref()
            .and_then(|found| found.body["status"].as_str());
        match status {
            Some("READY") => Ok(Stage::Usable),
            Some("UPLOADING") => Ok(Stage::Fixed(percent)),
            Some("FAILED" | "DELETING") => Err(failed(status.unwrap_or_default().to_owned())),
            _ => Ok(Stage::Accepted),
        }
    }

    async fn lock(&self, _id: &str, _lock: &SnapshotLock) -> Result<()> {
        Err(Error::Unsupported("Google Cloud that are locked"))
    }

    async fn locks(&self, ids: &[String]) -> Result<Vec<Lock>> {
        Ok(vec![Lock::Free; ids.len()])
    }

    async fn describe(&self, id: &str) -> Result<Option<Described>> {
        let ask = self.snapshot(Method::GET, id, "look at");
        let found = self.rest.find(&ask).await?;
        Ok(found.and_then(|found| described(&found.body)))
    }

    async fn delete(&self, id: &str) -> Result<Deleted> {
        let mut ask = self.snapshot(Method::DELETE, id, "delete");
        identify_once(&mut ask, id);
        let Some(answer) = self.rest.find(&ask).await? else {
            return Ok(Deleted::Absent);
        };
        let operation = told(&answer.body, "name", &ask.doing)?;
        let path = ["global", "operations", &operation];
        self.ended(&path, &ask.doing).await?;
        Ok(Deleted::Gone)
    }

    async fn tagged(&self, tags: &[Tag]) -> Result<Vec<Described>> {
        let doing = "list the snapshots".to_owned();
        let mut ask = self.about(Method::GET, &["global", "snapshots"], doing);
        let filter = filter(tags);
        ask.url.query_pairs_mut().append_pair("filter", &filter);
        Ok(self.all(ask).await?.iter().filter_map(described).collect())
    }

    fn carries(&self, described: &Described, tags: &[Tag]) -> bool {
        let carries = |(key, value): &Tag| described.tags.contains(&(label(key), label(value)));
        tags.iter().all(carries)
    }

    fn backup_of(&self, described: &Described) -> Option<BackupId> {
        let mut labels = described.tags.iter();
        let (_, value) = labels.find(|(key, _)| key == BACKUP)?;
        unlabelled(value)
    }

    fn found(&self, described: &Described) -> Recorded {
        Recorded::Gcp {
            device: None,
            name: described.id.clone(),
            project: Some(self.project.clone()),
        }
    }

    fn recorded(&self, disk: &Disk, begun: &Begun, _lock: Option<&SnapshotLock>) -> Recorded {
        Recorded::Gcp {
            device: match &disk.device {
                Device::Google(name) => Some(name.clone()),
                _ => None,
            },
            name: begun.name.clone(),
            project: Some(self.project.clone()),
        }
    }

    fn account(&self, _begun: &[Begun]) -> Account {
        Account::Gcp {
            project: Some(self.project.clone()),
        }
    }
}

/// An attached disk; nothing for one that goes with its instance.
fn disk(attached: &Value) -> Result<Option<Disk>> {
    let Some(source) = attached["source"].as_str() else {
        return Ok(None);
    };
    let doing = "look at the instance's disks";
    let resource = source.find("projects/").map(|at| &source[at..]);
    let resource = resource.ok_or_else(|| Error::Answer {
        doing: doing.to_owned(),
        why: format!("`{source}` is no disk"),
    })?;
    let role = match (&attached["boot"], attached["type"].as_str()) {
        (Value::Bool(true), _) => Role::Refused("is the boot disk of its instance"),
        (_, Some("SCRATCH")) => Role::Refused("is a local disk, which has no snapshots"),
        _ => Role::Data,
    };
    Ok(Some(Disk {
        id: resource.to_owned(),
        name: resource.rsplit('/').next().map(str::to_owned),
        device: Device::Google(told(attached, "deviceName", doing)?),
        role,
        source: None,
        location: None,
    }))
}

fn described(snapshot: &Value) -> Option<Described> {
    let name = snapshot["name"].as_str()?.to_owned();
    let labels = snapshot["labels"].as_object().into_iter().flatten();
    let tag = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    Some(Described {
        id: name.clone(),
        name: Some(name),
        tags: labels.filter_map(tag).collect(),
        begun_at: moment(&snapshot["creationTimestamp"]),
    })
}

fn told(value: &Value, field: &str, doing: &str) -> Result<String> {
    let text = value[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Error::Answer {
        doing: doing.to_owned(),
        why: format!("it has no `{field}`"),
    })
}

/// The same request has the same identifier, whoever sends it how often.
fn identify(ask: &mut Ask, name: &str) {
    let sum = Sha256::digest(format!("{} {} {name}", ask.method, ask.url));
    let mut hex = String::new();
    for byte in sum.iter().take(16) {
        write!(hex, "{byte:02x}").expect("a string grows");
    }
    // Of version 4 and the usual variant, as the interface demands.
    let id = format!(
        "{}-{}-4{}-8{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    );
    ask.url.query_pairs_mut().append_pair("requestId", &id);
}

/// The same for a request that may be meant again later: after somebody has undone it, or when it has failed.
fn identify_once(ask: &mut Ask, name: &str) {
    let now = Clock::System.now().utc().to_rfc3339();
    identify(ask, &format!("{name} {now}"));
}

/// What selects those that carry all of these tags.
fn filter(tags: &[Tag]) -> String {
    let each = tags.iter().map(|(key, value)| {
        let (key, value) = (label(key), label(value));
        format!("(labels.{key} = \"{value}\")")
    });
    each.collect::<Vec<_>>().join(" AND ")
}

/// A text as a label: itself if it can be one.
fn label(text: &str) -> String {
    const CHARACTERS: usize = 63;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if text.len() <= CHARACTERS && text.chars().all(plain) {
        return text.to_owned();
    }
    let lower = text.chars().map(|c| c.to_ascii_lowercase());
    let fitting = lower.map(|c| if plain(c) { c } else { '_' });
    let fitting: String = fitting.take(CHARACTERS - 9).collect();
    format!("{fitting}-{:08x}", crc32c::crc32c(text.as_bytes()))
}

/// The backup whose id a label was made of. Only capitals get lost in a label, and its checksum tells whether they were found again.
fn unlabelled(value: &str) -> Option<BackupId> {
    let (lower, _) = value.rsplit_once('-')?;
    let id = lower.to_ascii_uppercase();
    (label(&id) == value).then(|| BackupId::new(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_no_label_keeps_apart_from_others() {
        assert_eq!(label("srv-1"), "srv-1");
        let (upper, lower) = (label("Srv.1"), label("srv_1"));
        assert_ne!(upper, lower);
        assert!(upper.starts_with("srv_1-"), "{upper}");
        assert_eq!(label(&"x".repeat(99)).len(), 63);
    }

    #[test]
    fn the_id_of_a_backup_is_read_back_from_its_label() {
        let id = "20261120T235109";
        assert_eq!(unlabelled(&label(id)), Some(BackupId::new(id)));
        for other in ["20261120t235109", "20261120t235109-00000000", "x"] {
            assert_eq!(unlabelled(other), None, "{other}");
        }
    }
}

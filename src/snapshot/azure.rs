//! Managed disks of Azure, over the Resource Manager.
//!
//! Snapshots are incremental. What takes long is an operation, told by a header of the answer, in one of three styles: a resource with a
//! status, a place that answers 202 until the end, or only the state of what is made. All are understood everywhere. The disk of the operating
//! system and disks that are not managed are refused. A lock is a snapshot's immutability policy; one of the Resource Manager shows when a
//! deletion is refused.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{
    Begun, Deleted, Described, Device, Disk, Error, Provider, Result, Role, Stage, Tag, Wanted,
    rest::{Answer, Ask, Rest, Tokens, bearer, moment, refused, retry_after},
};
use crate::{
    clock,
    cloud::azure::Chain,
    model::{
        lock::Lock,
        snapshot::{Account, Recorded, SnapshotLock},
    },
};

mod locking;
mod making;

/// What a token is for.
pub(super) const SCOPE: &str = "https://management.azure.com/.default";

/// The versions of the interface that the requests here are written for.
const DISKS: &str = "2023-04-02";
const MACHINES: &str = "2024-07-01";

/// How long the end of an operation is waited for, and how often it is asked for.
const ENDING: Duration = Duration::from_mins(10);
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A group of resources in a subscription.
#[derive(Debug)]
pub(super) struct Azure {
    pub(super) rest: Rest,
    pub(super) subscription: String,
    pub(super) resource_group: String,
}

/// An identity that asks for tokens.
pub(super) struct Bearer(pub(super) Arc<Chain>);

#[async_trait]
impl Tokens for Bearer {
    async fn headers(&self) -> Result<HeaderMap, String> {
        let token = self.0.token().await.map_err(|error| error.to_string())?;
        bearer(token.expose())
    }
}

impl Azure {
    fn about(&self, method: Method, kind: &str, name: Option<&str>, doing: String) -> Ask {
        let mut path = vec![
            "subscriptions",
            &self.subscription,
            "resourceGroups",
            &self.resource_group,
            "providers",
            "Microsoft.Compute",
            kind,
        ];
        path.extend(name);
        let mut ask = self.rest.about(method, &path, doing);
        let version = match kind {
            "virtualMachines" => MACHINES,
            _ => DISKS,
        };
        ask.url
            .query_pairs_mut()
            .append_pair("api-version", version);
        ask
    }

    fn snapshot(&self, method: Method, name: &str, doing: &str) -> Ask {
        let doing = format!("{doing} the snapshot `{name}`");
        self.about(method, "snapshots", Some(name), doing)
    }

    /// Whether an operation has ended; its failure is an error.
    async fn has_ended(&self, url: &str, doing: &str) -> Result<bool> {
        let ask = self.rest.at(url, doing)?;
        let answer = self.rest.ask(&ask).await?;
        let error = &answer.body["error"];
        let message = error["message"].as_str().unwrap_or_default();
        match answer.body["status"].as_str() {
            Some("Failed" | "Canceled") => {
                let code = error["code"].as_str().unwrap_or("Failed");
                Err(refused(&ask, code, message))
            }
            Some("Succeeded") => Ok(true),
            Some(_) => Ok(false),
            // Of this style only the number of the answer tells.
            None => Ok(answer.status != 202),
        }
    }

    async fn settled(&self, answer: &Answer, doing: &str) -> Result<()> {
        let Some(operation) = operation(answer) else {
            return Ok(());
        };
        let until = Instant::now() + ENDING;
        let mut pause = retry_after(&answer.headers).unwrap_or(POLL.0);
        while !self.has_ended(&operation, doing).await? {
            if Instant::now() > until {
                return Err(Error::Unreachable {
                    doing: doing.to_owned(),
                    why: "the operation does not end".to_owned(),
                });
            }
            clock::pause(pause).await;
            pause = (pause * 2).min(POLL.1);
        }
        Ok(())
    }
}

#[async_trait]
impl Provider for Azure {
    async fn attached(&self, instance: &str) -> Result<Vec<Disk>> {
        let doing = format!("look at the virtual machine `{instance}`");
        let ask = self.about(Method::GET, "virtualMachines", Some(instance), doing);
        let answer = self.rest.find(&ask).await?;
        let answer = answer.ok_or_else(|| Error::NoInstance(instance.to_owned()))?;
        let profile = &answer.body["properties"]["storageProfile"];
        let system = [&profile["osDisk"]]
            .into_iter()
            .filter(|disk| !disk.is_null());
        let system =
            system.map(|one| disk(one, Role::Refused("is the disk of the operating system")));
        let data = profile["dataDisks"].as_array().into_iter().flatten();
        Ok(system
            .chain(data.map(|one| disk(one, Role::Data)))
            .collect())
    }

    async fn detailed(&self, disk: Disk) -> Result<Disk> {
        let doing = format!("look at the disk `{}`", disk.id);
        let path: Vec<&str> = disk.id.split('/').filter(|part| !part.is_empty()).collect();
        let mut ask = self.rest.about(Method::GET, &path, doing);
        ask.url.query_pairs_mut().append_pair("api-version", DISKS);
        let answer = self.rest.ask(&ask).await?.body;
        let made = &answer["properties"]["creationData"];
        let source = made["sourceResourceId"].as_str();
        let source = source.filter(|_| made["createOption"] == "Copy");
        let source = source.and_then(|id| id.split_once("/snapshots/"));
        Ok(Disk {
            source: source.map(|(_, name)| name.to_owned()),
            location: answer["location"].as_str().map(str::to_owned),
            ..disk
        })
    }

    async fn begin(&self, wanted: &Wanted<'_>) -> Result<Begun> {
        let mut ask = self.snapshot(Method::PUT, wanted.name, "take");
        let mut content = json!({
            "location": wanted.disk.location,
            "properties": {
                "incremental": true,
                "creationData": { "createOption": "Copy", "sourceResourceId": wanted.disk.id },
            },
        });
        if !wanted.tags.is_empty() {
            let tags = wanted.tags.iter();
            let tags = tags.map(|(key, value)| (key.clone(), value.clone().into()));
            content["tags"] = Value::Object(tags.collect());
        }
        ask.content = Some(content);
        let answer = self.rest.ask(&ask).await?;
        Ok(Begun {
            id: wanted.name.to_owned(),
            name: wanted.name.to_owned(),
            owner: None,
            operation: operation(&answer),
        })
    }

    async fn stage(&self, begun: &Begun) -> Result<Stage> {
        let name = &begun.name;
        let failed = |why: String| Error::Failed {
            name: name.clone(),
            why,
        };
        if let Some(operation) = &begun.operation {
            let doing = format!("take the snapshot `{name}`");
            match self.has_ended(operation, &doing).await {
                Ok(true) => {}
                Ok(false) => return Ok(Stage::Accepted),
                Err(Error::Cloud { code, message, .. }) => {
                    return Err(failed(format!("{code}: {message}")));
                }
                Err(error) => return Err(error),
            }
        }
        let ask = self.snapshot(Method::GET, name, "look at");
        let Some(answer) = self.rest.find(&ask).await? else {
            return Ok(Stage::Accepted);
        };
        let properties = &answer.body["properties"];
        match properties["provisioningState"].as_str() {
            None | Some("Succeeded") => {}
            Some(state @ ("Failed" | "Canceled")) => return Err(failed(state.to_owned())),
            Some(_) => return Ok(Stage::Accepted),
        }
        if let Some(message) = properties["copyCompletionError"]["errorMessage"].as_str() {
            return Err(failed(message.to_owned()));
        }
        // Only disks of the newer kinds are copied in the background.
        match properties["completionPercent"].as_f64() {
            Some(percent) if percent < 100.0 => {
                let percent = format!("{percent:.0}").parse().ok();
                Ok(Stage::Fixed(percent))
            }
            _ => Ok(Stage::Usable),
        }
    }

    async fn lock(&self, id: &str, lock: &SnapshotLock) -> Result<()> {
        self.protect(id, lock).await
    }

    async fn locks(&self, ids: &[String]) -> Result<Vec<Lock>> {
        let mut locks = Vec::new();
        for id in ids {
            let lock = self.protection(id).await;
            locks.push(lock.unwrap_or_else(|error| Lock::Unknown(error.to_string())));
        }
        Ok(locks)
    }

    async fn describe(&self, id: &str) -> Result<Option<Described>> {
        let ask = self.snapshot(Method::GET, id, "look at");
        let found = self.rest.find(&ask).await?;
        Ok(found.and_then(|found| described(&found.body)))
    }

    async fn delete(&self, id: &str) -> Result<Deleted> {
        let ask = self.snapshot(Method::DELETE, id, "delete");
        let answer = match self.rest.ask(&ask).await {
            Ok(answer) => answer,
            Err(error) if error.is_called("ResourceNotFound") => return Ok(Deleted::Absent),
            Err(Error::Cloud { code, message, .. }) if code == "ScopeLocked" => {
                return Err(Error::Locked {
                    id: id.to_owned(),
                    lock: Lock::Unknown(message),
                });
            }
            Err(error) => return Err(error),
        };
        if answer.status == 204 {
            return Ok(Deleted::Absent);
        }
        self.settled(&answer, &ask.doing).await?;
        Ok(Deleted::Gone)
    }

    async fn tagged(&self, tags: &[Tag]) -> Result<Vec<Described>> {
        let doing = "list the snapshots";
        let mut ask = self.about(Method::GET, "snapshots", None, doing.to_owned());
        let mut found = Vec::new();
        loop {
            let page = self.rest.ask(&ask).await?.body;
            let all = page["value"].as_array().into_iter().flatten();
            let carries = |snapshot: &Described| tags.iter().all(|tag| snapshot.tags.contains(tag));
            found.extend(all.filter_map(described).filter(carries));
            let Some(next) = page["nextLink"].as_str() else {
                return Ok(found);
            };
            ask = self.rest.at(next, doing)?;
        }
    }

    fn found(&self, described: &Described) -> Recorded {
        Recorded::Azure {
            location: None,
            lun: None,
            name: described.id.clone(),
        }
    }

    fn recorded(&self, disk: &Disk, begun: &Begun, _lock: Option<&SnapshotLock>) -> Recorded {
        Recorded::Azure {
            location: disk.location.clone(),
            lun: match disk.device {
                Device::Lun(lun) => Some(lun),
                _ => None,
            },
            name: begun.name.clone(),
        }
    }

    fn account(&self, _begun: &[Begun]) -> Account {
        Account::Azure {
            subscription: Some(self.subscription.clone()),
            resource_group: Some(self.resource_group.clone()),
        }
    }
}

/// Where the end of what was asked for is told.
fn operation(answer: &Answer) -> Option<String> {
    let header = |name| answer.header(name).map(str::to_owned);
    header("azure-asyncoperation").or_else(|| header("location"))
}

fn disk(attached: &Value, role: Role) -> Disk {
    let name = attached["name"].as_str().map(str::to_owned);
    let managed = attached["managedDisk"]["id"].as_str().map(str::to_owned);
    let lun = attached["lun"].as_u64();
    Disk {
        role: match &managed {
            None => Role::Refused("is not a managed disk"),
            Some(_) => role,
        },
        id: managed.or_else(|| name.clone()).unwrap_or_default(),
        name,
        device: Device::Lun(
            lun.and_then(|lun| u32::try_from(lun).ok())
                .unwrap_or_default(),
        ),
        source: None,
        location: None,
    }
}

fn described(snapshot: &Value) -> Option<Described> {
    let name = snapshot["name"].as_str()?.to_owned();
    let tags = snapshot["tags"].as_object().into_iter().flatten();
    let tag = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    Some(Described {
        id: name.clone(),
        name: Some(name),
        tags: tags.filter_map(tag).collect(),
        begun_at: moment(&snapshot["properties"]["timeCreated"]),
    })
}

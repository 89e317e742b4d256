//! Managed disks of snapshots. They are made in the region and the zone of their machine, and get the first number that it has free.

use std::collections::BTreeSet;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Azure, Described, described};
use crate::snapshot::{
    Error, Result, Tag,
    making::{Made, MadeState, Makes, Making},
};

/// What is made if nobody says otherwise: what every machine takes.
const KIND: &str = "StandardSSD_LRS";

/// How many data disks the largest machines take.
const LUNS: std::ops::Range<u64> = 0..64;

#[async_trait]
impl Makes for Azure {
    async fn make(&self, wanted: &Making<'_>) -> Result<()> {
        let machine = self.machine(wanted.instance).await?;
        let doing = format!("make the disk `{}`", wanted.name);
        let mut ask = self.about(Method::PUT, "disks", Some(wanted.name), doing);
        let (subscription, group) = (&self.subscription, &self.resource_group);
        let source = format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/snapshots/{}",
            wanted.snapshot
        );
        let tags = wanted.tags.iter();
        let tags = tags.map(|(key, value)| (key.clone(), value.clone().into()));
        let mut content = json!({
            "location": machine["location"],
            "sku": { "name": wanted.kind.unwrap_or(KIND) },
            "tags": Value::Object(tags.collect()),
            "properties": { "creationData": { "createOption": "Copy", "sourceResourceId": source } },
        });
        if !machine["zones"].is_null() {
            content["zones"] = machine["zones"].clone();
        }
        ask.content = Some(content);
        let answer = self.rest.ask(&ask).await?;
        self.settled(&answer, &ask.doing).await
    }

    async fn made(&self, tags: &[Tag]) -> Result<Vec<Made>> {
        let doing = "list the disks";
        let mut ask = self.about(Method::GET, "disks", None, doing.to_owned());
        let mut found = Vec::new();
        loop {
            let page = self.rest.ask(&ask).await?.body;
            for disk in page["value"].as_array().into_iter().flatten() {
                let carries = |it: &Described| tags.iter().all(|tag| it.tags.contains(tag));
                if described(disk).is_some_and(|it| carries(&it)) {
                    found.extend(made(disk));
                }
            }
            let Some(next) = page["nextLink"].as_str() else {
                return Ok(found);
            };
            ask = self.rest.at(next, doing)?;
        }
    }

    async fn attach(&self, instance: &str, disk: &Made) -> Result<()> {
        let machine = self.machine(instance).await?;
        let disks = machine["properties"]["storageProfile"]["dataDisks"].as_array();
        let luns = disks
            .into_iter()
            .flatten()
            .filter_map(|one| one["lun"].as_u64());
        let taken: BTreeSet<u64> = luns.collect();
        let doing = format!("attach the disk `{}`", disk.name);
        let mut free = LUNS.filter(|lun| !taken.contains(lun));
        let lun = free.next().ok_or_else(|| Error::Cloud {
            doing: doing.clone(),
            code: "NoFreeLun".to_owned(),
            message: format!("`{instance}` has a disk under every number"),
        })?;
        let mut ask = self.about(Method::POST, "virtualMachines", Some(instance), doing);
        if let Ok(mut path) = ask.url.path_segments_mut() {
            path.push("attachDetachDataDisks");
        }
        ask.content = Some(json!({ "dataDisksToAttach": [{ "diskId": disk.id, "lun": lun }] }));
        let answer = self.rest.ask(&ask).await?;
        self.settled(&answer, &ask.doing).await
    }
}

impl Azure {
    async fn machine(&self, instance: &str) -> Result<Value> {
        let doing = format!("look at the virtual machine `{instance}`");
        let ask = self.about(Method::GET, "virtualMachines", Some(instance), doing);
        let found = self.rest.find(&ask).await?;
        let found = found.ok_or_else(|| Error::NoInstance(instance.to_owned()))?;
        Ok(found.body)
    }
}

fn made(disk: &Value) -> Option<Made> {
    let properties = &disk["properties"];
    let state = match properties["provisioningState"].as_str() {
        Some("Failed" | "Canceled") => MadeState::Failed("provisioning failed".to_owned()),
        Some("Succeeded") | None if !disk["managedBy"].is_null() => MadeState::Attached,
        Some("Succeeded") | None => MadeState::Ready,
        Some(_) => MadeState::Making,
    };
    Some(Made {
        id: disk["id"].as_str()?.to_owned(),
        name: disk["name"].as_str()?.to_owned(),
        state,
    })
}

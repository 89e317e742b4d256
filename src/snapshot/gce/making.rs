//! Persistent disks of snapshots. They are made in the zone of their instance, and attached under their own names.

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Gce, identify_once, label, told};
use crate::snapshot::{
    Error, Result, Tag,
    making::{Made, MadeState, Makes, Making},
};

/// What is made if nobody says otherwise.
const KIND: &str = "pd-balanced";

#[async_trait]
impl Makes for Gce {
    async fn make(&self, wanted: &Making<'_>) -> Result<()> {
        let zone = self.zone()?;
        let project = &self.project;
        let kind = wanted.kind.unwrap_or(KIND);
        let labels = wanted.tags.iter();
        let labels = labels.map(|(key, value)| (label(key), label(value).into()));
        let content = json!({
            "name": wanted.name,
            "sourceSnapshot": format!("projects/{project}/global/snapshots/{}", wanted.snapshot),
            "type": format!("projects/{project}/zones/{zone}/diskTypes/{kind}"),
            "labels": Value::Object(labels.collect()),
        });
        let doing = format!("make the disk `{}`", wanted.name);
        self.change(&["zones", zone, "disks"], content, doing).await
    }

    async fn made(&self, tags: &[Tag]) -> Result<Vec<Made>> {
        let zone = self.zone()?;
        let doing = "list the disks".to_owned();
        let mut ask = self.about(Method::GET, &["zones", zone, "disks"], doing);
        let filter = super::filter(tags);
        ask.url.query_pairs_mut().append_pair("filter", &filter);
        let disks = self.all(ask).await?;
        Ok(disks
            .iter()
            .filter_map(|disk| self.made_disk(zone, disk))
            .collect())
    }

    async fn attach(&self, instance: &str, disk: &Made) -> Result<()> {
        let zone = self.zone()?;
        let content = json!({ "source": disk.id, "deviceName": disk.name });
        let doing = format!("attach the disk `{}`", disk.name);
        let path = ["zones", zone, "instances", instance, "attachDisk"];
        self.change(&path, content, doing).await
    }
}

impl Gce {
    pub(super) fn zone(&self) -> Result<&str> {
        let (cloud, what) = ("Google Cloud", "a zone");
        self.zone.as_deref().ok_or(Error::Missing { cloud, what })
    }

    /// Asks for a change in a zone, and waits for its end.
    async fn change(&self, path: &[&str], content: Value, doing: String) -> Result<()> {
        let mut ask = self.about(Method::POST, path, doing);
        identify_once(&mut ask, &content.to_string());
        ask.content = Some(content);
        let operation = self.rest.ask(&ask).await?.body;
        let name = told(&operation, "name", &ask.doing)?;
        self.ended(&[path[0], path[1], "operations", &name], &ask.doing)
            .await
    }

    fn made_disk(&self, zone: &str, disk: &Value) -> Option<Made> {
        let name = disk["name"].as_str()?.to_owned();
        let used = disk["users"]
            .as_array()
            .is_some_and(|users| !users.is_empty());
        let state = match disk["status"].as_str() {
            Some("READY") if used => MadeState::Attached,
            Some("READY") => MadeState::Ready,
            Some("DELETING") => return None,
            Some(state @ ("FAILED" | "UNAVAILABLE")) => MadeState::Failed(state.to_owned()),
            _ => MadeState::Making,
        };
        Some(Made {
            id: format!("projects/{}/zones/{zone}/disks/{name}", self.project),
            name,
            state,
        })
    }
}

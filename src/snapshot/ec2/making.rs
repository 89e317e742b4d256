//! Volumes of snapshots. They are made in the zone of their instance, and get the first label that it has free.

use async_trait::async_trait;
use aws_sdk_ec2::types::{self, ResourceType, TagSpecification, VolumeState};

use super::{Ec2, failed, filter, tag};
use crate::snapshot::{
    Error, Result, Tag,
    making::{Made, MadeState, Makes, Making},
};

/// What is made if nobody says otherwise; the cloud's own default is the older `gp2`.
const KIND: &str = "gp3";

/// The labels that AWS recommends for data volumes.
const LABELS: std::ops::RangeInclusive<char> = 'f'..='p';

#[async_trait]
impl Makes for Ec2 {
    async fn make(&self, wanted: &Making<'_>) -> Result<()> {
        let instance = self.instance(wanted.instance).await?;
        let zone = instance
            .placement()
            .and_then(types::Placement::availability_zone);
        let name = ("Name".to_owned(), wanted.name.to_owned());
        let mut tags = TagSpecification::builder().resource_type(ResourceType::Volume);
        for (key, value) in [&name].into_iter().chain(wanted.tags) {
            tags = tags.tags(types::Tag::builder().key(key).value(value).build());
        }
        // The SDK gives every call a token of its own: its repetition makes no second volume.
        let request = self.client.create_volume().snapshot_id(wanted.snapshot);
        let kind = types::VolumeType::from(wanted.kind.unwrap_or(KIND));
        let request = request.set_availability_zone(zone.map(str::to_owned));
        let request = request.volume_type(kind).tag_specifications(tags.build());
        request.send().await.map_err(failed("make a volume"))?;
        Ok(())
    }

    async fn made(&self, tags: &[Tag]) -> Result<Vec<Made>> {
        let mut request = self.client.describe_volumes();
        for (key, value) in tags {
            request = request.filters(filter(&format!("tag:{key}"), [value.as_str()]));
        }
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("look for the volumes"))?;
            found.extend(page.volumes().iter().filter_map(made));
        }
        Ok(found)
    }

    async fn attach(&self, instance: &str, disk: &Made) -> Result<()> {
        let instance = self.instance(instance).await?;
        let id = instance.instance_id().unwrap_or_default();
        let volumes = self.volumes(id).await?;
        let taken: Vec<&str> = volumes
            .iter()
            .flat_map(types::Volume::attachments)
            .filter_map(types::VolumeAttachment::device)
            .collect();
        let is_free = |letter: &char| {
            let has_it = |device: &&str| device.chars().nth("/dev/sd".len()) == Some(*letter);
            !taken.iter().any(has_it)
        };
        let mut letters = LABELS;
        let letter = letters.find(is_free).ok_or_else(|| Error::Cloud {
            doing: "attach a volume".to_owned(),
            code: "NoFreeDevice".to_owned(),
            message: format!("`{id}` has a volume under every label"),
        })?;
        let request = self.client.attach_volume().instance_id(id);
        let request = request
            .volume_id(&disk.id)
            .device(format!("/dev/sd{letter}"));
        request.send().await.map_err(failed("attach a volume"))?;
        Ok(())
    }
}

fn made(volume: &types::Volume) -> Option<Made> {
    let id = volume.volume_id()?.to_owned();
    let state = match volume.state()? {
        VolumeState::Creating => MadeState::Making,
        VolumeState::Available => MadeState::Ready,
        VolumeState::InUse => MadeState::Attached,
        // It is on its way out, and another one can be made.
        VolumeState::Deleted | VolumeState::Deleting => return None,
        other => MadeState::Failed(other.as_str().to_owned()),
    };
    Some(Made {
        name: tag(volume.tags(), "Name").unwrap_or_else(|| id.clone()),
        id,
        state,
    })
}

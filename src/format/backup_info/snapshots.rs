//! `snapshots_info`: the snapshots that a backup consists of, as a Python dictionary.
//!
//! Keys and their order are Barman's of each provider. What a record lacks beside the names of its snapshots is no error.

use super::python::Value;
use crate::model::snapshot::{Account, DiskSnapshot, Mount, Recorded, SnapshotSet};

/// Reads one; `None` where it is not what Barman writes.
pub(super) fn parse(info: &Value) -> Option<SnapshotSet> {
    let of = |key: &str| text(info.get("provider_info"), key);
    let account = match info.get("provider")?.as_str()? {
        "aws" => Account::Aws {
            account_id: of("account_id"),
            region: of("region"),
        },
        "azure" => Account::Azure {
            subscription: of("subscription_id"),
            resource_group: of("resource_group"),
        },
        "gcp" => Account::Gcp {
            project: of("project"),
        },
        _ => return None,
    };
    let disks = info.get("snapshots")?.items()?.iter();
    let disks = disks.map(|snapshot| disk(&account, snapshot));
    let disks = disks.collect::<Option<Vec<_>>>()?;
    Some(SnapshotSet { account, disks })
}

fn disk(account: &Account, snapshot: &Value) -> Option<DiskSnapshot> {
    let provider = snapshot.get("provider");
    let of = |key: &str| text(provider, key);
    let recorded = match account {
        Account::Aws { .. } => Recorded::Aws {
            device: of("device_name"),
            id: of("snapshot_id")?,
            name: of("snapshot_name"),
            lock: of("snapshot_lock_mode"),
        },
        Account::Azure { .. } => Recorded::Azure {
            location: of("location"),
            lun: match provider?.get("lun") {
                Some(Value::Int(lun)) => u32::try_from(*lun).ok(),
                _ => None,
            },
            name: of("snapshot_name")?,
        },
        Account::Gcp { .. } => Recorded::Gcp {
            device: of("device_name"),
            name: of("snapshot_name")?,
            project: of("snapshot_project"),
        },
    };
    let mount = snapshot.get("mount");
    let point = text(mount, "mount_point");
    let mount = point.map(|point| Mount {
        point,
        options: text(mount, "mount_options").unwrap_or_default(),
    });
    Some(DiskSnapshot { mount, recorded })
}

fn text(dictionary: Option<&Value>, key: &str) -> Option<String> {
    Some(dictionary?.get(key)?.as_str()?.to_owned())
}

/// Writes one.
pub(super) fn render(set: &SnapshotSet) -> Value {
    let (provider, account) = match &set.account {
        Account::Aws { account_id, region } => (
            "aws",
            vec![
                ("account_id", maybe(account_id.as_ref())),
                ("region", maybe(region.as_ref())),
            ],
        ),
        Account::Azure {
            subscription,
            resource_group,
        } => (
            "azure",
            vec![
                ("subscription_id", maybe(subscription.as_ref())),
                ("resource_group", maybe(resource_group.as_ref())),
            ],
        ),
        Account::Gcp { project } => ("gcp", vec![("project", maybe(project.as_ref()))]),
    };
    dictionary(vec![
        ("provider", provider.into()),
        ("provider_info", dictionary(account)),
        (
            "snapshots",
            Value::List(set.disks.iter().map(rendered).collect()),
        ),
    ])
}

fn rendered(disk: &DiskSnapshot) -> Value {
    let mount = disk.mount.as_ref();
    let options = mount.map(|mount| &mount.options);
    let point = mount.map(|mount| &mount.point);
    let recorded = match &disk.recorded {
        Recorded::Aws {
            device,
            id,
            name,
            lock,
        } => vec![
            ("device_name", maybe(device.as_ref())),
            ("snapshot_id", id.as_str().into()),
            ("snapshot_name", maybe(name.as_ref())),
            ("snapshot_lock_mode", maybe(lock.as_ref())),
        ],
        Recorded::Azure {
            location,
            lun,
            name,
        } => vec![
            ("location", maybe(location.as_ref())),
            ("lun", lun.map_or(Value::None, |lun| Value::Int(lun.into()))),
            ("snapshot_name", name.as_str().into()),
        ],
        Recorded::Gcp {
            device,
            name,
            project,
        } => vec![
            ("device_name", maybe(device.as_ref())),
            ("snapshot_name", name.as_str().into()),
            ("snapshot_project", maybe(project.as_ref())),
        ],
    };
    dictionary(vec![
        (
            "mount",
            dictionary(vec![
                ("mount_options", maybe(options)),
                ("mount_point", maybe(point)),
            ]),
        ),
        ("provider", dictionary(recorded)),
    ])
}

fn maybe(text: Option<&String>) -> Value {
    text.map_or(Value::None, |text| text.as_str().into())
}

fn dictionary(pairs: Vec<(&str, Value)>) -> Value {
    let pairs = pairs.into_iter();
    Value::Dict(pairs.map(|(key, value)| (key.into(), value)).collect())
}

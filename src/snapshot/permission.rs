//! What the clouds must grant to whoever takes, deletes and restores snapshots, in the clouds' own words.
//!
//! Sources: the *Actions defined by* page of Amazon EC2 in the AWS service authorization reference, the operations of
//! `Microsoft.Compute` in Azure's REST reference, *IAM permissions* of Compute Engine.

use serde_json::{Value, json};

use crate::model::snapshot::Place;

/// What somebody does with snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Takes them, and removes what failed.
    Take,
    /// Deletes them with their backups.
    Delete,
    /// Makes disks of them.
    Restore,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Take, Self::Delete, Self::Restore];

    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Delete => "delete",
            Self::Restore => "restore",
        }
    }
}

/// What a use needs in a cloud.
pub fn actions(place: &Place, use_: Use) -> &'static [&'static str] {
    match (place, use_) {
        (_, Use::Restore) => restoring(place),
        (Place::Aws { .. }, Use::Take) => &[
            "ec2:CreateSnapshot",
            "ec2:CreateTags",
            "ec2:DeleteSnapshot",
            "ec2:DescribeInstances",
            "ec2:DescribeSnapshots",
            "ec2:DescribeVolumes",
            "ec2:LockSnapshot",
        ],
        (Place::Aws { .. }, Use::Delete) => &[
            "ec2:DeleteSnapshot",
            "ec2:DescribeLockedSnapshots",
            "ec2:DescribeSnapshots",
        ],
        (Place::Azure { .. }, Use::Take) => &[
            "Microsoft.Compute/disks/beginGetAccess/action",
            "Microsoft.Compute/disks/read",
            "Microsoft.Compute/snapshots/delete",
            "Microsoft.Compute/snapshots/read",
            "Microsoft.Compute/snapshots/updateImmutabilityPolicy/action",
            "Microsoft.Compute/snapshots/updateImmutabilityPolicyLock/action",
            "Microsoft.Compute/snapshots/write",
            "Microsoft.Compute/virtualMachines/read",
        ],
        (Place::Azure { .. }, Use::Delete) => &[
            "Microsoft.Compute/snapshots/delete",
            "Microsoft.Compute/snapshots/read",
        ],
        (Place::Gcp { .. }, Use::Take) => &[
            "compute.disks.createSnapshot",
            "compute.disks.get",
            "compute.globalOperations.get",
            "compute.instances.get",
            "compute.snapshots.create",
            "compute.snapshots.delete",
            "compute.snapshots.get",
            "compute.snapshots.list",
            "compute.snapshots.setLabels",
        ],
        (Place::Gcp { .. }, Use::Delete) => &[
            "compute.globalOperations.get",
            "compute.snapshots.delete",
            "compute.snapshots.get",
            "compute.snapshots.list",
        ],
    }
}

/// What making disks of snapshots needs.
fn restoring(place: &Place) -> &'static [&'static str] {
    match place {
        Place::Aws { .. } => &[
            "ec2:AttachVolume",
            "ec2:CreateTags",
            "ec2:CreateVolume",
            "ec2:DescribeInstances",
            "ec2:DescribeSnapshots",
            "ec2:DescribeVolumes",
        ],
        Place::Azure { .. } => &[
            "Microsoft.Compute/disks/read",
            "Microsoft.Compute/disks/write",
            "Microsoft.Compute/snapshots/read",
            "Microsoft.Compute/virtualMachines/attachDetachDataDisks/action",
            "Microsoft.Compute/virtualMachines/read",
            "Microsoft.Compute/virtualMachines/write",
        ],
        Place::Gcp { .. } => &[
            "compute.disks.create",
            "compute.disks.get",
            "compute.disks.list",
            "compute.disks.setLabels",
            "compute.disks.use",
            "compute.instances.attachDisk",
            "compute.instances.get",
            "compute.snapshots.get",
            "compute.snapshots.useReadOnly",
            "compute.zoneOperations.get",
        ],
    }
}

/// The same as the cloud takes it: a policy, a custom role.
pub fn document(place: &Place, use_: Use) -> Value {
    let actions = actions(place, use_);
    let title = format!("barkeep snapshots: {}", use_.as_str());
    match place {
        Place::Aws { .. } => json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }],
        }),
        Place::Azure {
            subscription,
            resource_group,
            ..
        } => {
            let subscription = subscription.as_deref().unwrap_or("SUBSCRIPTION");
            let group = resource_group.as_deref().unwrap_or("GROUP");
            let scope = format!("/subscriptions/{subscription}/resourceGroups/{group}");
            json!({ "Name": title, "Actions": actions, "AssignableScopes": [scope] })
        }
        Place::Gcp { .. } => json!({ "title": title, "includedPermissions": actions }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_permissions_of_each_cloud_are_asked_for() {
        let aws = Place::Aws {
            profile: None,
            region: None,
        };
        let azure = Place::Azure {
            subscription: None,
            resource_group: None,
            credential: None,
        };
        let gcp = Place::Gcp {
            project: None,
            zone: None,
        };
        // What Barman's manual lists for each.
        let documented: [(&Place, &[&str]); 3] = [
            (
                &aws,
                &[
                    "ec2:CreateSnapshot",
                    "ec2:CreateTags",
                    "ec2:DeleteSnapshot",
                    "ec2:DescribeSnapshots",
                    "ec2:DescribeInstances",
                    "ec2:DescribeVolumes",
                ],
            ),
            (
                &azure,
                &[
                    "Microsoft.Compute/disks/read",
                    "Microsoft.Compute/virtualMachines/read",
                    "Microsoft.Compute/snapshots/read",
                    "Microsoft.Compute/snapshots/write",
                    "Microsoft.Compute/snapshots/delete",
                ],
            ),
            (
                &gcp,
                &[
                    "compute.disks.createSnapshot",
                    "compute.disks.get",
                    "compute.globalOperations.get",
                    "compute.instances.get",
                    "compute.snapshots.create",
                    "compute.snapshots.delete",
                    "compute.snapshots.list",
                ],
            ),
        ];
        for (place, documented) in documented {
            let asked: Vec<&str> = Use::ALL
                .iter()
                .flat_map(|use_| actions(place, *use_))
                .copied()
                .collect();
            for action in documented {
                assert!(asked.contains(action), "{action}");
            }
        }
    }

    #[test]
    fn each_list_is_in_order_and_names_nothing_twice() {
        let place = |cloud: &str| match cloud {
            "aws" => Place::Aws {
                profile: None,
                region: None,
            },
            "azure" => Place::Azure {
                subscription: None,
                resource_group: None,
                credential: None,
            },
            _ => Place::Gcp {
                project: None,
                zone: None,
            },
        };
        for cloud in ["aws", "azure", "gcp"] {
            for use_ in Use::ALL {
                let list = actions(&place(cloud), use_);
                assert!(list.is_sorted_by(|one, other| one < other), "{list:?}");
            }
        }
    }
}

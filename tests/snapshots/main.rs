//! Snapshots of disks in three clouds, asked for by Barman's commands and by ours, against stand-ins of these clouds.

#[path = "../support/mod.rs"]
mod support;

#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod backup;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod failures;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod fake;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod killed;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod leftover;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod loopback;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod mounts;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod place;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod reconcile;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod restored;
#[cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]
mod scene;

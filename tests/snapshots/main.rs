//! Snapshots of disks in three clouds, asked for by Barman's commands and by ours, against stand-ins of these clouds.

#![cfg(all(
    feature = "aws-ebs",
    feature = "aws",
    feature = "azure",
    feature = "gcp"
))]

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod conformance;
mod failures;
mod fake;
mod haste;
mod killed;
mod leftover;
mod loopback;
mod mounts;
mod peculiar;
mod place;
mod reconcile;
mod refusals;
mod restored;
mod scene;
mod sdk;
mod spans;

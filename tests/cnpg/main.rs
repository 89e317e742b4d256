//! The Barman Cloud plugin of CloudNativePG, without Kubernetes: what it does with the commands, step by step.
//!
//! [`plugin`] does what the plugin's sidecar does (version 0.14, with Barman 3.19.1): it builds the same command lines, passes the same
//! environment, keeps the same files and reads the same answers. [`place`] has the commands to be called: barkeep in the image of
//! `packaging/cnpg`, as uid 26 on a read-only root that has no users, and Barman's own, so that every expectation is one of both.

#[path = "../support/mod.rs"]
mod support;

mod backups;
mod place;
mod plugin;
mod wal;

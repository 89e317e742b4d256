//! Doing what a plan says.

pub mod base_backup;

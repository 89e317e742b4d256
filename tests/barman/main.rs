//! Against Barman 3.19.1's installed code: the same input to both, the same answer from both.

#[path = "../support/mod.rs"]
mod support;

mod codec;
#[cfg(feature = "aws")]
mod restore;
mod verdicts;
mod world;

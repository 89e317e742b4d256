//! Against Barman 3.19.1's installed code: the same input to both, the same answer from both.

#[path = "../support/mod.rs"]
mod support;

mod codec;
mod peer;
#[cfg(any(feature = "aws", feature = "azure"))]
mod place;
#[cfg(any(feature = "aws", feature = "azure"))]
mod restore;
mod verdicts;
mod world;

//! Against Barman 3.19.1's installed code: the same input to both, the same answer from both.

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "aws")]
mod chains;
mod codec;
#[cfg(feature = "aws")]
mod import;
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod place;
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod restore;
#[cfg(feature = "aws")]
mod streamed;
mod verdicts;
mod world;

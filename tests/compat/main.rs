//! The nine commands beside Barman's own: the same command line to both, the same end from both.

#[path = "../support/mod.rs"]
mod support;

mod arguments;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod base;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod case;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod differential;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod pair;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod place;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod ran;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod requests;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod state;
mod typed;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod wal_archive;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod wal_restore;

/// The script with Barman's programs in it.
const PEER: &str = "compat/peer.py";

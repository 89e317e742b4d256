//! The nine commands beside Barman's own: the same command line to both, the same end from both.

#[path = "../support/mod.rs"]
mod support;

mod arguments;
#[cfg(feature = "aws")]
mod base;
#[cfg(feature = "aws")]
mod case;
#[cfg(feature = "aws")]
mod differential;
#[cfg(feature = "aws")]
mod pair;
#[cfg(feature = "aws")]
mod place;
#[cfg(feature = "aws")]
mod state;
mod typed;
#[cfg(feature = "aws")]
mod wal_archive;
#[cfg(feature = "aws")]
mod wal_restore;

/// The script with Barman's programs in it.
const PEER: &str = "compat/peer.py";

//! Compression as it is named in the configuration and in object names.

use serde::{Deserialize, Serialize};

/// How an object is compressed. Only the extension of its name tells.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum Compression {
    /// Stored as it is.
    #[default]
    None,
    /// `.gz`
    Gzip,
    /// `.bz2`
    Bzip2,
    /// `.snappy`, the framing format
    Snappy,
    /// `.lz4`, the frame format
    Lz4,
    /// `.xz`
    Xz,
    /// `.zst`
    Zstd,
}

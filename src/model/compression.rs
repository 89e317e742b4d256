//! How stored bytes are compressed: the codecs of Barman's cloud catalog, their extensions and
//! their levels.
//!
//! A codec is recognised by the extension of the object's name and by nothing else, as Barman
//! does it. Levels are Barman's: the ranges and the meaning of low, medium and high for WAL, so
//! that one number means the same work in both programs. The streams themselves are made by
//! `pipeline::compress`.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

/// A codec of the catalog, or none.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Bytes as they are.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// bzip2.
    Bzip2,
    /// Snappy's framing format.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// The xz container.
    Xz,
    /// Zstandard frames (RFC 8878).
    Zstd,
}

/// Why a codec or its level was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The word names no codec.
    #[error("unknown compression `{0}`: expected one of {words}", words = words())]
    Word(String),
    /// The codec has no levels.
    #[error("{0} compression has no levels")]
    NoLevels(Compression),
    /// The level lies outside the codec's range.
    #[error(
        "level {level} is outside {compression}'s range of {from} to {to}",
        from = range.start(),
        to = range.end()
    )]
    Range {
        /// The codec.
        compression: Compression,
        /// The level asked for.
        level: i32,
        /// The levels it has.
        range: RangeInclusive<i32>,
    },
}

impl Error {
    /// The class of the failure: always a matter of what was written in the configuration.
    pub fn kind(&self) -> crate::failure::Kind {
        crate::failure::Kind::Usage
    }
}

impl Compression {
    /// Every codec, none first.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Gzip,
        Self::Bzip2,
        Self::Snappy,
        Self::Lz4,
        Self::Xz,
        Self::Zstd,
    ];

    /// The word of the configuration, which is also the word that people read.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// What the codec appends to an object's name, dot included; empty for none.
    pub fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Bzip2 => ".bz2",
            Self::Snappy => ".snappy",
            Self::Lz4 => ".lz4",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// The codec that an extension stands for, with or without its dot; the empty one is none.
    pub fn from_extension(extension: &str) -> Option<Self> {
        let bare = extension.strip_prefix('.').unwrap_or(extension);
        Self::ALL
            .into_iter()
            .find(|codec| codec.extension().trim_start_matches('.') == bare)
    }

    /// Splits an object's name into what it is called uncompressed and its codec.
    ///
    /// A name with no known extension is uncompressed and stays whole.
    pub fn split(name: &str) -> (&str, Self) {
        Self::ALL
            .into_iter()
            .skip(1)
            .find_map(|codec| Some((name.strip_suffix(codec.extension())?, codec)))
            .unwrap_or((name, Self::None))
    }

    /// Whether Barman 3.19 restores a base backup compressed like this.
    ///
    /// It reads xz and zstd in the WAL archive only.
    pub fn is_supported_for_base(self) -> bool {
        !matches!(self, Self::Xz | Self::Zstd)
    }

    /// The levels that Barman accepts for WAL, where the codec has levels.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy => None,
            Self::Gzip | Self::Bzip2 | Self::Xz => Some(1..=9),
            Self::Lz4 => Some(0..=16),
            Self::Zstd => Some(-22..=22),
        }
    }

    /// The number behind one of Barman's three words, where the codec has levels.
    fn named_level(self, level: Level) -> Option<i32> {
        let [low, medium, high] = match self {
            Self::None | Self::Snappy => return None,
            Self::Gzip => [1, 6, 9],
            Self::Bzip2 => [1, 5, 9],
            Self::Lz4 => [0, 6, 10],
            Self::Xz => [1, 3, 5],
            Self::Zstd => [1, 4, 9],
        };
        Some(match level {
            Level::Low => low,
            Level::Medium => medium,
            Level::High => high,
            Level::Exact(number) => number,
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.word() == word)
            .ok_or_else(|| Error::Word(word.to_owned()))
    }
}

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Fast.
    Low,
    /// Barman's default for WAL.
    Medium,
    /// Small.
    High,
    /// A number of the codec's own scale.
    Exact(i32),
}

/// A codec with a level that is known to be in its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    compression: Compression,
    level: i32,
}

impl Codec {
    /// No compression.
    pub const NONE: Self = Self {
        compression: Compression::None,
        level: 0,
    };

    /// The codec of a base backup; without a level, gzip 6, bzip2 9, lz4 0, xz 3, zstd 3.
    ///
    /// Whether Barman can restore it is a question of its own
    /// ([`Compression::is_supported_for_base`]).
    pub fn for_base(compression: Compression, level: Option<Level>) -> Result<Self, Error> {
        let default = match compression {
            Compression::None | Compression::Snappy => None,
            Compression::Gzip => Some(6),
            Compression::Bzip2 => Some(9),
            Compression::Lz4 => Some(0),
            Compression::Xz | Compression::Zstd => Some(3),
        };
        Self::new(compression, level.or(default.map(Level::Exact)))
    }

    /// The codec of a WAL file; without a level, Barman's medium.
    pub fn for_wal(compression: Compression, level: Option<Level>) -> Result<Self, Error> {
        let default = compression.levels().map(|_| Level::Medium);
        Self::new(compression, level.or(default))
    }

    /// The codec.
    pub fn compression(self) -> Compression {
        self.compression
    }

    /// The level; 0 where the codec has none.
    pub fn level(self) -> i32 {
        self.level
    }

    fn new(compression: Compression, level: Option<Level>) -> Result<Self, Error> {
        let Some(level) = level else {
            return Ok(Self {
                compression,
                level: 0,
            });
        };
        let (Some(level), Some(range)) = (compression.named_level(level), compression.levels())
        else {
            return Err(Error::NoLevels(compression));
        };
        if range.contains(&level) {
            Ok(Self { compression, level })
        } else {
            Err(Error::Range {
                compression,
                level,
                range,
            })
        }
    }
}

fn words() -> String {
    Compression::ALL
        .map(|codec| format!("`{codec}`"))
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_is_found_again_by_its_word_and_its_extension() {
        for codec in Compression::ALL {
            assert_eq!(codec.word().parse(), Ok(codec));
            assert_eq!(Compression::from_extension(codec.extension()), Some(codec));
            let name = format!("000000010000000000000001{}", codec.extension());
            assert_eq!(
                Compression::split(&name),
                ("000000010000000000000001", codec)
            );
        }
    }

    #[test]
    fn an_unknown_extension_belongs_to_the_name() {
        assert_eq!(
            Compression::split("data.tar"),
            ("data.tar", Compression::None)
        );
        assert_eq!(Compression::from_extension("tar"), None);
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_known_ones() {
        assert_eq!(
            "gz".parse::<Compression>()
                .expect_err("no codec")
                .to_string(),
            "unknown compression `gz`: expected one of `none`, `gzip`, `bzip2`, `snappy`, `lz4`, \
             `xz`, `zstd`"
        );
    }

    #[test]
    fn levels_are_barmans() {
        let level = |compression, level| Codec::for_wal(compression, level).map(Codec::level);
        assert_eq!(level(Compression::Gzip, Some(Level::Low)), Ok(1));
        assert_eq!(level(Compression::Bzip2, None), Ok(5));
        assert_eq!(level(Compression::Lz4, Some(Level::High)), Ok(10));
        assert_eq!(level(Compression::Xz, None), Ok(3));
        assert_eq!(level(Compression::Zstd, Some(Level::Exact(-22))), Ok(-22));
        assert_eq!(level(Compression::Snappy, None), Ok(0));
        assert_eq!(
            level(Compression::Snappy, Some(Level::Low)),
            Err(Error::NoLevels(Compression::Snappy))
        );
        let refused = level(Compression::Gzip, Some(Level::Exact(0))).expect_err("out of range");
        assert_eq!(refused.kind(), crate::failure::Kind::Usage);
        assert_eq!(
            refused.to_string(),
            "level 0 is outside gzip's range of 1 to 9"
        );
    }

    #[test]
    fn base_backups_have_levels_of_their_own() {
        for (compression, level) in [
            (Compression::Snappy, 0),
            (Compression::Gzip, 6),
            (Compression::Bzip2, 9),
            (Compression::Lz4, 0),
            (Compression::Zstd, 3),
        ] {
            let codec = Codec::for_base(compression, None);
            assert_eq!(codec.map(Codec::level), Ok(level), "{compression}");
        }
    }
}

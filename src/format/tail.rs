//! The hot tail: the beginning of a WAL segment that is not whole yet, in pieces that are written once each.
//!
//! A piece is named by its segment and the bytes of it that it holds: `tail/<segment>/<start>-<end>`, two offsets of eight hexadecimal
//! digits, the second one exclusive, with the extension of its compression. Pieces of one segment may overlap where somebody began anew:
//! WAL at one position of one timeline has one content.

use std::fmt;

use crate::model::{
    compression::Compression,
    wal::{SegmentName, WalFile},
};

/// The directory of all pieces, below barkeep's own.
pub const TAIL: &str = "tail/";

/// A piece of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TailPiece {
    /// The segment.
    pub segment: SegmentName,
    /// The offset of its first byte.
    pub start: u32,
    /// The offset after its last byte.
    pub end: u32,
    /// How it is compressed.
    pub compression: Compression,
}

/// What a segment's pieces are below, with its trailing slash.
pub fn tail_directory(segment: SegmentName) -> String {
    format!("{TAIL}{segment}/")
}

impl TailPiece {
    /// Reads what follows [`TAIL`]; `None` if it is not spelled exactly so.
    pub fn parse(path: &str) -> Option<Self> {
        let (segment, name) = path.split_once('/')?;
        let (offsets, compression) = Compression::split(name);
        let (start, end) = offsets.split_once('-')?;
        let WalFile::Segment(segment) = segment.parse().ok()? else {
            return None;
        };
        let piece = Self {
            segment,
            start: u32::from_str_radix(start, 16).ok()?,
            end: u32::from_str_radix(end, 16).ok()?,
            compression,
        };
        let is_exact = piece.start < piece.end && piece.to_string() == path;
        is_exact.then_some(piece)
    }
}

impl fmt::Display for TailPiece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            start,
            end,
            compression,
        } = self;
        let extension = compression.extension();
        write!(formatter, "{segment}/{start:08X}-{end:08X}{extension}")
    }
}

/// The pieces that make up the beginning of a segment, as long as no byte is missing: each begins where the one before ends, or earlier.
pub fn beginning(mut pieces: Vec<TailPiece>) -> Vec<TailPiece> {
    pieces.sort_by_key(|piece| piece.start);
    let mut chosen: Vec<TailPiece> = Vec::new();
    let mut rest = pieces.into_iter().peekable();
    let mut end = 0;
    loop {
        let mut longest: Option<TailPiece> = None;
        while let Some(piece) = rest.next_if(|piece| piece.start <= end) {
            if piece.end > longest.map_or(end, |longest| longest.end) {
                longest = Some(piece);
            }
        }
        let Some(piece) = longest else {
            return chosen;
        };
        end = piece.end;
        chosen.push(piece);
    }
}

/// How many bytes of the segment's beginning these pieces hold.
pub fn reach(pieces: Vec<TailPiece>) -> u32 {
    beginning(pieces).last().map_or(0, |piece| piece.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start: u32, end: u32) -> TailPiece {
        TailPiece {
            segment: "000000010000000A000000FF".parse().expect("a name"),
            start,
            end,
            compression: Compression::None,
        }
    }

    #[test]
    fn a_piece_is_named_by_its_bytes() {
        for (path, is) in [
            ("000000010000000A000000FF/00000000-00002000", true),
            ("000000010000000A000000FF/00002000-00002001.zst", true),
            ("000000010000000A000000FF/00002000-00002000", false),
            ("000000010000000A000000FF/0-2000", false),
            ("000000010000000A000000FF/00000000-0000200a", false),
            ("000000010000000A000000FF.partial/00000000-00002000", false),
            ("000000010000000A000000FF", false),
        ] {
            let parsed = TailPiece::parse(path);
            assert_eq!(parsed.is_some(), is, "{path}");
            assert!(parsed.is_none_or(|piece| piece.to_string() == path));
        }
    }

    #[test]
    fn a_beginning_ends_where_the_first_byte_is_missing() {
        let cases = [
            ("", 0, 0),
            ("1-9", 0, 0),
            ("0-4 4-9 10-12", 9, 2),
            ("4-9 0-4 0-2 2-5", 9, 2),
            ("0-9 3-4 9-10", 10, 2),
            ("0-4 2-6 3-5 6-7", 7, 3),
        ];
        for (text, end, count) in cases {
            let ranges = text.split_whitespace().map(|range| {
                let (from, to) = range.split_once('-').expect("a range");
                piece(
                    from.parse().expect("a number"),
                    to.parse().expect("a number"),
                )
            });
            let pieces: Vec<_> = ranges.collect();
            assert_eq!(reach(pieces.clone()), end, "{text}");
            assert_eq!(beginning(pieces).len(), count, "{text}");
        }
    }
}

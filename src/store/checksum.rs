//! CRC-32 and CRC-32C of what is sent, in the form in which stores keep them.
//!
//! The one is what every S3-compatible store knows, the other is Google's. Both cost next to nothing, and can be combined: the checksum
//! of a whole object follows from those of its parts, without reading anything twice.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Checksum, ChecksumAlgorithm};

/// The CRC-32 of some bytes.
pub fn crc32(content: &[u8]) -> u32 {
    crc32fast::hash(content)
}

/// The CRC-32 of a whole, from those of its pieces and their lengths, in order.
pub fn combine(pieces: impl IntoIterator<Item = (u32, u64)>) -> u32 {
    let mut whole = crc32fast::Hasher::new();
    for (crc, length) in pieces {
        whole.combine(&crc32fast::Hasher::new_with_initial_len(crc, length));
    }
    whole.finalize()
}

impl Checksum {
    /// That of an object, or of a part, sent in one piece.
    pub fn of_crc32(crc: u32) -> Self {
        Self {
            algorithm: ChecksumAlgorithm::Crc32,
            value: STANDARD.encode(crc.to_be_bytes()),
        }
    }

    /// That of an object, or of a part, by Castagnoli's polynomial.
    pub fn of_crc32c(crc: u32) -> Self {
        Self {
            algorithm: ChecksumAlgorithm::Crc32c,
            value: STANDARD.encode(crc.to_be_bytes()),
        }
    }

    /// That of an object, by MD5.
    pub fn of_md5(digest: &[u8]) -> Self {
        Self {
            algorithm: ChecksumAlgorithm::Md5,
            value: STANDARD.encode(digest),
        }
    }

    /// The CRC-32C that this is, if it is one.
    pub fn crc32c(&self) -> Option<u32> {
        let bytes = STANDARD.decode(&self.value).ok()?;
        let crc = u32::from_be_bytes(bytes.try_into().ok()?);
        (self.algorithm == ChecksumAlgorithm::Crc32c).then_some(crc)
    }

    /// That of an object sent in parts with these CRC-32, as S3 computes it.
    pub fn of_crc32_parts(parts: &[u32]) -> Self {
        let bytes: Vec<u8> = parts.iter().flat_map(|crc| crc.to_be_bytes()).collect();
        let whole = Self::of_crc32(crc32(&bytes)).value;
        Self {
            algorithm: ChecksumAlgorithm::Crc32,
            value: format!("{whole}-{}", parts.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_follows_from_its_pieces() {
        let (head, tail) = b"123456789".split_at(4);
        let pieces = [head, tail].map(|piece| (crc32(piece), piece.len() as u64));
        assert_eq!(combine(pieces), 0xcbf4_3926);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_form_is_that_of_the_stores() {
        let google = Checksum::of_crc32c(crc32c::crc32c(b"123456789"));
        assert_eq!(
            (google.value.as_str(), google.crc32c()),
            ("4waSgw==", Some(0xe306_9283))
        );
        assert_eq!(Checksum::of_crc32(0).crc32c(), None);
        assert_eq!(Checksum::of_crc32(0xcbf4_3926).value, "y/Q5Jg==");
        assert!(Checksum::of_crc32_parts(&[1, 2]).value.ends_with("-2"));
    }
}

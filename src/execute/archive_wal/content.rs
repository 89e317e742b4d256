//! What a WAL file holds, as far as it tells two contents of one name apart.

use std::io::{self, Read};

use crate::{
    format::keys::DIGEST_DIGITS,
    pipeline::checksum::{Algorithm, Checksum, Hasher},
};

/// PostgreSQL's usual page of WAL, in bytes: the unit in which two contents are compared.
const PAGE_BYTES: usize = 8 << 10;

/// How much is read at once.
const BUFFER_BYTES: usize = 32 * PAGE_BYTES;

/// A content that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The first digits of its SHA-256, by which it is named among what collided.
    pub(super) digest: String,
    /// Its length in bytes.
    pub(super) bytes: u64,
    pages: Vec<Checksum>,
}

impl Content {
    /// Reads all of it.
    pub(super) fn read(mut content: impl Read) -> io::Result<Self> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (mut bytes, mut pages) = (0, Vec::new());
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        loop {
            buffer.clear();
            let count = content
                .by_ref()
                .take(BUFFER_BYTES as u64)
                .read_to_end(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            hasher.update(&buffer);
            let page = |page| Checksum::of(Algorithm::Crc32c, page);
            pages.extend(buffer.chunks(PAGE_BYTES).map(page));
        }
        let mut digest = hasher.finish().to_hex();
        digest.truncate(DIGEST_DIGITS);
        Ok(Self {
            digest,
            bytes,
            pages,
        })
    }

    /// Where the first page begins in which two contents are not the same, in bytes.
    pub(super) fn same_until(&self, other: &Self) -> u64 {
        let pages = self.pages.iter().zip(&other.pages);
        let same = pages.take_while(|(here, there)| here == there).count();
        (same * PAGE_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_contents_differ_from_the_page_on_in_which_they_do() {
        let content = |odd: Option<usize>| {
            let mut bytes = vec![7; 40 * PAGE_BYTES + 1];
            if let Some(odd) = odd {
                bytes[odd] = 8;
            }
            Content::read(&bytes[..]).expect("memory is read")
        };
        let plain = content(None);
        for (odd, page) in [
            (0, 0),
            (PAGE_BYTES - 1, 0),
            (PAGE_BYTES, 1),
            (40 * PAGE_BYTES, 40),
        ] {
            let other = content(Some(odd));
            assert_eq!(
                plain.same_until(&other),
                (page * PAGE_BYTES) as u64,
                "{odd}"
            );
            assert_ne!(plain.digest, other.digest);
        }
        assert_eq!(plain, content(None));
    }
}

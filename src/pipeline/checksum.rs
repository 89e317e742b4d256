//! Checksums of streams, and a meter that computes them in passing.
//!
//! The four algorithms are those by which stores confirm what they hold (CRC32C, CRC-32, SHA-256,
//! MD5) and by which manifests name it. None of them is used to keep secrets. Memory: a few
//! hundred bytes per algorithm.

use std::{
    fmt::{self, Write as _},
    io::{self, BufRead, Read, Write},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::Md5;
use sha2::{Digest as _, Sha256};

/// How a checksum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// CRC-32 as in gzip (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli), what PostgreSQL's control file and manifests use.
    Crc32c,
    /// SHA-256.
    Sha256,
    /// MD5, for stores that know nothing better.
    Md5,
}

/// A finished checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Algorithm,
    bytes: [u8; 32],
}

impl Checksum {
    /// The checksum of these bytes.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// How it was computed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes, the most significant first: 4, 16 or 32.
    pub fn as_bytes(&self) -> &[u8] {
        let length = match self.algorithm {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Md5 => 16,
            Algorithm::Sha256 => 32,
        };
        &self.bytes[..length]
    }

    /// In hexadecimal digits, lower case.
    pub fn to_hex(&self) -> String {
        self.as_bytes()
            .iter()
            .fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a string takes everything");
                text
            })
    }

    /// In base 64, as the headers of object stores have it.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.as_bytes())
    }

    fn new(algorithm: Algorithm, value: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes[..value.len()].copy_from_slice(value);
        Self { algorithm, bytes }
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}({})", self.algorithm, self.to_hex())
    }
}

/// A checksum of what has been seen so far.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Crc32(crc32fast::Hasher),
    Crc32c(u32),
    Sha256(Box<Sha256>),
    Md5(Box<Md5>),
}

impl Hasher {
    /// Starts with nothing seen.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Crc32 => State::Crc32(crc32fast::Hasher::new()),
            Algorithm::Crc32c => State::Crc32c(0),
            Algorithm::Sha256 => State::Sha256(Box::default()),
            Algorithm::Md5 => State::Md5(Box::default()),
        })
    }

    /// Sees these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(hasher) => hasher.update(bytes),
            State::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            State::Sha256(hasher) => hasher.update(bytes),
            State::Md5(hasher) => hasher.update(bytes),
        }
    }

    /// The checksum of everything seen.
    pub fn finish(self) -> Checksum {
        match self.0 {
            State::Crc32(hasher) => {
                Checksum::new(Algorithm::Crc32, &hasher.finalize().to_be_bytes())
            }
            State::Crc32c(crc) => Checksum::new(Algorithm::Crc32c, &crc.to_be_bytes()),
            State::Sha256(hasher) => Checksum::new(Algorithm::Sha256, &hasher.finalize()),
            State::Md5(hasher) => Checksum::new(Algorithm::Md5, &hasher.finalize()),
        }
    }
}

/// Counts and checks what passes through a reader or a writer.
pub struct Metered<T> {
    inner: T,
    count: u64,
    hashers: Vec<Hasher>,
}

impl<T> Metered<T> {
    /// Counts, and computes the checksums of these algorithms.
    pub fn new(inner: T, algorithms: &[Algorithm]) -> Self {
        Self {
            inner,
            count: 0,
            hashers: algorithms.iter().copied().map(Hasher::new).collect(),
        }
    }

    /// How many bytes have passed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What is metered.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// What is metered; bytes that pass here are not seen.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// What was metered, the number of bytes, and the checksums in the order they were asked for.
    pub fn finish(self) -> (T, u64, Vec<Checksum>) {
        let checksums = self.hashers.into_iter().map(Hasher::finish).collect();
        (self.inner, self.count, checksums)
    }

    fn see(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        for hasher in &mut self.hashers {
            hasher.update(bytes);
        }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.see(&buffer[..length]);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Metered<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        let Self {
            inner,
            count,
            hashers,
        } = self;
        // What is consumed has been filled in before, so this neither reads nor fails.
        if let Ok(filled) = inner.fill_buf() {
            let bytes = &filled[..amount.min(filled.len())];
            *count += bytes.len() as u64;
            for hasher in hashers {
                hasher.update(bytes);
            }
        }
        inner.consume(amount);
    }
}

impl<W: Write> Write for Metered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.see(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Algorithm; 4] = [
        Algorithm::Crc32,
        Algorithm::Crc32c,
        Algorithm::Sha256,
        Algorithm::Md5,
    ];

    /// The published check values of each algorithm.
    #[test]
    fn each_algorithm_gives_its_published_value() {
        let hex = |algorithm, text: &str| Checksum::of(algorithm, text.as_bytes()).to_hex();
        assert_eq!(hex(Algorithm::Crc32, "123456789"), "cbf43926");
        assert_eq!(hex(Algorithm::Crc32c, "123456789"), "e3069283");
        assert_eq!(
            hex(Algorithm::Md5, "abc"),
            "900150983cd24fb0d6963f7d28e17f72"
        );
        assert_eq!(
            hex(Algorithm::Sha256, "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn stores_get_base_64() {
        let checksum = Checksum::of(Algorithm::Crc32c, b"123456789");
        assert_eq!(checksum.to_base64(), "4waSgw==");
        assert_eq!(format!("{checksum:?}"), "Crc32c(e3069283)");
    }

    #[test]
    fn a_meter_sees_what_is_read_and_what_is_written() {
        let expected = ALL.map(|algorithm| Checksum::of(algorithm, b"abcdef"));
        let mut writer = Metered::new(Vec::new(), &ALL);
        for piece in [&b"ab"[..], b"", b"cdef"] {
            writer.write_all(piece).expect("memory takes it");
        }
        let (written, count, checksums) = writer.finish();
        assert_eq!((&written[..], count), (&b"abcdef"[..], 6));
        assert_eq!(checksums, expected);

        let mut reader = Metered::new(&written[..], &ALL);
        io::copy(&mut reader, &mut io::sink()).expect("memory gives it");
        let (_, count, checksums) = reader.finish();
        assert_eq!(count, 6);
        assert_eq!(checksums, expected);
    }
}

//! A server's manifest of a backup: handed on as it comes, and compared with the files that have come.
//!
//! It names every file with its size and CRC-32C, and ends in the SHA-256 of itself. What was received is remembered in 24 bytes per file
//! ([`Sums`]); the manifest is read as a stream, so that its length does not matter. The format is PostgreSQL's "Backup Manifest Format".

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io::{self, BufReader, Read, Write},
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::checksum::{Algorithm, Hasher};

/// The manifest is not that of what has come.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or not be stored.
    #[error("cannot read the backup manifest")]
    Read(#[source] io::Error),
    /// It is no manifest.
    #[error("cannot understand the backup manifest")]
    Malformed(#[source] serde_json::Error),
    /// Its own checksum is wrong.
    #[error("the backup manifest is damaged")]
    Damaged,
    /// A file is not what the server says that it sent.
    #[error("`{path}` is not what the server sent: {why}")]
    Differs {
        /// The file, relative to the data directory.
        path: String,
        /// What differs.
        why: &'static str,
    },
    /// Files have come that the manifest does not name.
    #[error("{0} files have come that the manifest does not name")]
    Unnamed(u64),
}

/// What was received of one file.
#[derive(Clone, Copy, Debug)]
struct Sum {
    path: u64,
    bytes: u64,
    crc: u32,
}

/// What was received of every file.
#[derive(Debug, Default)]
pub struct Sums {
    of_path: RandomState,
    files: Vec<Sum>,
    excused: Vec<&'static [u8]>,
}

impl Sums {
    /// The same, where files of these paths need not have come.
    pub fn excusing(paths: &[&'static [u8]]) -> Self {
        Self {
            excused: paths.to_vec(),
            ..Self::default()
        }
    }

    /// Takes note of a file.
    pub fn add(&mut self, path: &[u8], bytes: u64, crc: u32) {
        let path = self.of_path.hash_one(path);
        self.files.push(Sum { path, bytes, crc });
    }

    /// Reads the manifest, hands on what was read, and compares it with what has come.
    pub fn check(mut self, manifest: impl Read, store: impl Write) -> Result<(), Error> {
        self.files.sort_unstable_by_key(|file| file.path);
        let tee = Tee {
            source: manifest,
            sink: store,
            digest: Hasher::new(Algorithm::Sha256),
            line: Vec::new(),
            failed: None,
        };
        let mut reader = BufReader::with_capacity(64 << 10, tee);
        let mut text = serde_json::Deserializer::from_reader(&mut reader);
        let mut differs = None;
        let comparing = Comparing {
            sums: &self,
            differs: &mut differs,
        };
        let parsed = comparing.deserialize(&mut text);
        let parsed = parsed.and_then(|told| text.end().map(|()| told));
        drop(text);
        let mut tee = reader.into_inner();
        if let Some(error) = tee.failed.take() {
            return Err(Error::Read(error));
        }
        let told = match (parsed, differs) {
            (_, Some(error)) => return Err(error),
            (Err(error), None) => return Err(Error::Malformed(error)),
            (Ok(told), None) => told,
        };
        if !told
            .checksum
            .eq_ignore_ascii_case(&tee.digest.finish().to_hex())
        {
            return Err(Error::Damaged);
        }
        match (self.files.len() as u64).checked_sub(told.files) {
            Some(0) => Ok(()),
            unnamed => Err(Error::Unnamed(unnamed.unwrap_or_default())),
        }
    }

    fn find(&self, path: &[u8]) -> Option<Sum> {
        let path = self.of_path.hash_one(path);
        let at = self.files.binary_search_by_key(&path, |file| file.path);
        at.ok().map(|at| self.files[at])
    }

    /// Whether a file has not come and need not have.
    fn is_excused(&self, path: &[u8]) -> bool {
        self.excused.contains(&path) && self.find(path).is_none()
    }

    /// What is wrong with a file, if anything.
    fn compare(&self, file: &File) -> Option<&'static str> {
        let Some(sum) = self.find(&file.path()) else {
            return Some("it has not come");
        };
        if sum.bytes != file.size {
            return Some("its size differs");
        }
        let is_crc = file.algorithm.as_deref() == Some("CRC32C");
        // The server writes the number as its own memory holds it.
        let same = |bytes: [u8; 4]| file.checksum.eq_ignore_ascii_case(&hex(bytes));
        let matches = same(sum.crc.to_le_bytes()) || same(sum.crc.to_be_bytes());
        (is_crc && !matches).then_some("its checksum differs")
    }
}

fn hex(bytes: [u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(bytes))
}

/// What a manifest says of one file.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "Path")]
    path: Option<String>,
    /// In hexadecimal digits, for a path that is no UTF-8.
    #[serde(rename = "Encoded-Path")]
    encoded: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum", default)]
    checksum: String,
}

impl File {
    fn path(&self) -> Vec<u8> {
        match (&self.path, &self.encoded) {
            (Some(path), _) => path.clone().into_bytes(),
            (None, Some(encoded)) => decode(encoded).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }
}

fn decode(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

/// What a manifest says of itself.
struct Told {
    files: u64,
    checksum: String,
}

/// Reads a manifest and compares each file when it comes to it.
struct Comparing<'a> {
    sums: &'a Sums,
    differs: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Comparing<'_> {
    type Value = Told;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Told, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Comparing<'_> {
    type Value = Told;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a backup manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Told, A::Error> {
        let (mut files, mut checksum) = (0, String::new());
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "Files" => {
                    files = map.next_value_seed(Files {
                        sums: self.sums,
                        differs: self.differs,
                    })?;
                }
                "Manifest-Checksum" => checksum = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Told { files, checksum })
    }
}

struct Files<'a> {
    sums: &'a Sums,
    differs: &'a mut Option<Error>,
}

impl<'de> DeserializeSeed<'de> for Files<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Files<'_> {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut files: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while let Some(file) = files.next_element::<File>()? {
            if self.sums.is_excused(&file.path()) {
                continue;
            }
            count += 1;
            if let Some(why) = self.sums.compare(&file) {
                let path = String::from_utf8_lossy(&file.path()).into_owned();
                *self.differs = Some(Error::Differs { path, why });
                return Err(A::Error::custom("a file differs"));
            }
        }
        Ok(count)
    }
}

/// Hands on what is read, and computes the digest of all lines but the last, which holds it.
struct Tee<R, W> {
    source: R,
    sink: W,
    digest: Hasher,
    line: Vec<u8>,
    failed: Option<io::Error>,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer);
        let length = self.note(length)?;
        let written = self.sink.write_all(&buffer[..length]);
        self.note(written)?;
        for piece in buffer[..length].split_inclusive(|byte| *byte == b'\n') {
            if self.line.ends_with(b"\n") {
                self.digest.update(&self.line);
                self.line.clear();
            }
            self.line.extend_from_slice(piece);
        }
        Ok(length)
    }
}

impl<R, W> Tee<R, W> {
    /// The parser would make a parse error of it.
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::checksum::Checksum;

    /// A manifest of these files, as a server writes it.
    fn manifest(files: &[(&str, &[u8])]) -> String {
        let file = |(path, content): &(&str, &[u8])| {
            let crc = hex(crc32c::crc32c(content).to_le_bytes());
            let size = content.len();
            format!(
                "{{ \"Path\": \"{path}\", \"Size\": {size}, \"Last-Modified\": \"x\", \
                 \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{crc}\" }}"
            )
        };
        let files: Vec<_> = files.iter().map(file).collect();
        let text = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7,\n\
             \"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": 1 }}\n],\n",
            files.join(",\n")
        );
        let digest = Checksum::of(Algorithm::Sha256, text.as_bytes()).to_hex();
        format!("{text}\"Manifest-Checksum\": \"{digest}\"}}\n")
    }

    fn sums(files: &[(&str, &[u8])]) -> Sums {
        let mut sums = Sums::default();
        for (path, content) in files {
            sums.add(
                path.as_bytes(),
                content.len() as u64,
                crc32c::crc32c(content),
            );
        }
        sums
    }

    fn check(sent: &[(&str, &[u8])], come: &[(&str, &[u8])]) -> String {
        let mut stored = Vec::new();
        let text = manifest(sent);
        match sums(come).check(text.as_bytes(), &mut stored) {
            Ok(()) if stored == text.as_bytes() => "good".to_owned(),
            Ok(()) => "stored another one".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_has_come_is_compared_with_what_was_sent() {
        let all: [(&str, &[u8]); 2] = [("backup_label", b"label"), ("base/5/1259", b"page")];
        assert_eq!(check(&all, &all), "good");
        assert_eq!(check(&[], &[]), "good");
        let differs = |what| format!("`base/5/1259` is not what the server sent: {what}");
        let less = differs("it has not come");
        assert_eq!(check(&all, &all[..1]), less);
        let other = [all[0], ("base/5/1259", &b"pagf"[..])];
        assert_eq!(check(&all, &other), differs("its checksum differs"));
        let longer = [all[0], ("base/5/1259", &b"pages"[..])];
        assert_eq!(check(&all, &longer), differs("its size differs"));
        let more = "1 files have come that the manifest does not name";
        assert_eq!(check(&all[..1], &all), more);
    }

    #[test]
    fn a_manifest_that_was_changed_is_no_good() {
        let text = manifest(&[("a", b"a")]);
        let check = |text: &str| sums(&[("a", b"a")]).check(text.as_bytes(), io::sink());
        let changed = text.replace("\"x\"", "\"y\"");
        assert!(matches!(check(&changed), Err(Error::Damaged)));
        let cut = &text[..text.len() / 2];
        assert!(matches!(check(cut), Err(Error::Malformed(_))));
    }
}

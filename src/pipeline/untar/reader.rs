//! Reading a tar archive, entry by entry, as a stream.
//!
//! Reads ustar, pax (`x` and `g`), GNU long names and numbers in base 256, which covers what
//! Barman's Python, PostgreSQL and GNU tar write. Every header's checksum is verified, and an
//! archive without its end mark is an error: a stream that was cut off is never taken for a whole
//! one.
//!
//! Memory: one header and one extended header of at most 1 MiB.

use std::io::{self, Read};

use super::Error;
use crate::pipeline::tar::{BLOCK, FileTime};

/// The largest extended header or long name that is believed, in bytes.
const EXTENSION_MAX: u64 = 1 << 20;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// Another name of an earlier entry of this name.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
}

/// What the headers of an entry say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as it is written in the archive: nothing about it has been checked.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The length of its content in bytes; 0 unless it is a file.
    pub size: u64,
    /// The permission bits.
    pub mode: u32,
    /// The owner's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
    /// When it was last modified.
    pub modified: FileTime,
}

/// Reads an archive; as a [`Read`], the content of the entry that was returned last.
pub struct Reader<R> {
    source: R,
    /// What is left of the content of the current entry, and of its last block.
    content: u64,
    padding: u64,
    offset: u64,
    /// From the last global extended header.
    global: Extension,
}

impl<R: Read> Reader<R> {
    /// Reads an archive from its beginning.
    pub fn new(source: R) -> Self {
        Self {
            source,
            content: 0,
            padding: 0,
            offset: 0,
            global: Extension::default(),
        }
    }

    /// Reads up to the next entry, past what was not read of the one before.
    ///
    /// At the end mark it reads the rest of the source, so that whatever checks the source at its
    /// own end has done so, and answers nothing.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        self.skip(self.content + self.padding)?;
        (self.content, self.padding) = (0, 0);
        let mut extension = self.global.clone();
        loop {
            let block = self.block()?;
            if block.iter().all(|&byte| byte == 0) {
                if self.block()?.iter().any(|&byte| byte != 0) {
                    return Err(self.damaged("a lone zero block"));
                }
                io::copy(&mut self.source, &mut io::sink()).map_err(Error::read)?;
                return Ok(None);
            }
            let header = Header(&block);
            if !header.has_valid_checksum() {
                return Err(self.damaged("a header with a wrong checksum"));
            }
            let malformed = || self.damaged("a header with a malformed number");
            let size = header.number(124..136).ok_or_else(malformed)?;
            match header.type_flag() {
                b'x' => extension
                    .add(&self.extension(size)?)
                    .map_err(|what| self.damaged(what))?,
                b'g' => {
                    let text = self.extension(size)?;
                    self.global.add(&text).map_err(|what| self.damaged(what))?;
                    extension.add(&text).map_err(|what| self.damaged(what))?;
                }
                b'L' => extension.path = Some(until_zero(&self.extension(size)?).to_vec()),
                b'K' => extension.link_path = Some(until_zero(&self.extension(size)?).to_vec()),
                _ => {
                    let entry = header.entry(size, extension).ok_or_else(malformed)??;
                    self.content = entry.size;
                    self.padding = entry.size.next_multiple_of(BLOCK as u64) - entry.size;
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged {
            what,
            offset: self.offset,
        }
    }

    fn block(&mut self) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        self.source.read_exact(&mut block).map_err(Error::read)?;
        self.offset += BLOCK as u64;
        Ok(block)
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > EXTENSION_MAX {
            return Err(self.damaged("an extended header above 1 MiB"));
        }
        let length = usize::try_from(size).expect("at most 1 MiB");
        let mut text = vec![0; length.next_multiple_of(BLOCK)];
        self.source.read_exact(&mut text).map_err(Error::read)?;
        self.offset += text.len() as u64;
        text.truncate(length);
        Ok(text)
    }

    fn skip(&mut self, count: u64) -> Result<(), Error> {
        let skipped = io::copy(&mut (&mut self.source).take(count), &mut io::sink());
        if skipped.map_err(Error::read)? < count {
            return Err(Error::Truncated);
        }
        self.offset += count;
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.content)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let length = self.source.read(&mut buffer[..room])?;
        if length == 0 && room > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= length as u64;
        self.offset += length as u64;
        Ok(length)
    }
}

/// What extended headers say about the entry that follows them.
#[derive(Clone, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link_path: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<FileTime>,
    is_sparse: bool,
}

impl Extension {
    /// Adds pax records: `<length> <key>=<value>\n`, the length counting all of it.
    fn add(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        while !records.is_empty() {
            let (key, value, rest) = split_record(records).ok_or("a malformed pax record")?;
            records = rest;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link_path = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or("a malformed pax size")?),
                b"uid" => self.uid = Some(number(value).ok_or("a malformed pax uid")?),
                b"gid" => self.gid = Some(number(value).ok_or("a malformed pax gid")?),
                // A time that cannot be read is no reason to lose a file: the header has one.
                b"mtime" => self.modified = time(value),
                _ => self.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }
}

fn split_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = records.iter().position(|&byte| byte == b' ')?;
    let length: usize = number(&records[..blank])?;
    let (record, rest) = records.split_at_checked(length)?;
    let pair = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional fraction, of which nine digits count.
fn time(text: &[u8]) -> Option<FileTime> {
    let text = str::from_utf8(text).ok()?;
    let (negative, digits) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, _) => FileTime {
            seconds,
            nanoseconds,
        },
        (true, 0) => FileTime {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => FileTime {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// A header block.
struct Header<'a>(&'a [u8; BLOCK]);

impl Header<'_> {
    fn type_flag(&self) -> u8 {
        self.0[156]
    }

    fn has_valid_checksum(&self) -> bool {
        let counted = |at: usize| {
            if (148..156).contains(&at) {
                b' '
            } else {
                self.0[at]
            }
        };
        let sum = (0..BLOCK).map(|at| u64::from(counted(at))).sum::<u64>();
        self.number(148..156) == Some(sum)
    }

    /// A number in octal digits, or in base 256 where the first bit is set.
    fn number(&self, field: std::ops::Range<usize>) -> Option<u64> {
        let field = &self.0[field];
        if field[0] & 0x80 != 0 {
            // The second bit is the sign: below zero, and above 64 bits, is of no use here.
            let first = u64::from(field[0] & 0x7f);
            return field[1..].iter().try_fold(first, |number, &byte| {
                (number >> 56 == 0).then_some(number << 8 | u64::from(byte))
            });
        }
        let text = str::from_utf8(until_zero(field)).ok()?.trim();
        if text.is_empty() {
            return Some(0);
        }
        u64::from_str_radix(text, 8).ok()
    }

    /// The entry with its extensions; none if a number is malformed.
    fn entry(&self, size: u64, extension: Extension) -> Option<Result<Entry, Error>> {
        let name = extension.path.unwrap_or_else(|| self.name());
        let link = || until_zero(&self.0[157..257]).to_vec();
        let link = extension.link_path.unwrap_or_else(link);
        let kind = match self.type_flag() {
            0 if name.ends_with(b"/") => EntryKind::Directory,
            b'0' | b'7' | 0 if !extension.is_sparse => EntryKind::File,
            b'1' => EntryKind::HardLink(link),
            b'2' => EntryKind::Symlink(link),
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            _ => {
                return Some(Err(Error::Unsupported {
                    name: super::display(&name),
                }));
            }
        };
        let id = |field| self.number(field).and_then(|id| u32::try_from(id).ok());
        let is_file = kind == EntryKind::File;
        Some(Ok(Entry {
            name,
            kind,
            size: if is_file {
                extension.size.unwrap_or(size)
            } else {
                0
            },
            mode: u32::try_from(self.number(100..108)?).ok()? & 0o7777,
            uid: extension.uid.or_else(|| id(108..116))?,
            gid: extension.gid.or_else(|| id(116..124))?,
            modified: match extension.modified {
                Some(modified) => modified,
                None => FileTime {
                    seconds: self.number(136..148)?.try_into().ok()?,
                    nanoseconds: 0,
                },
            },
        }))
    }

    fn name(&self) -> Vec<u8> {
        let name = until_zero(&self.0[0..100]);
        let prefix = until_zero(&self.0[345..500]);
        // GNU's own format has other things in the place of the prefix.
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            [prefix, name].join(&b'/')
        } else {
            name.to_vec()
        }
    }
}

fn until_zero(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

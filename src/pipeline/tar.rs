//! Writing tar archives as Barman's: POSIX pax over ustar headers, streamed into any sink.
//!
//! An entry whose modification time has a fraction, whose name or owner does not fit the ustar
//! header, or whose size is 8 GiB or more is preceded by an extended header (`x`) that tells the
//! rest. Paths are bytes, as they are on Linux. The archive ends in two zero blocks and is padded
//! to 10240 bytes. Formats: POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Header
//! Block".
//!
//! A file's size is fixed when its header is written. One that has become shorter is filled up
//! with zeros, one that has grown is cut, and the caller is told ([`Copied`]). A sink that fails
//! and a file that cannot be read are two different errors.
//!
//! Memory: one copy buffer of 128 KiB.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    path::Path,
};

/// The unit of a tar archive in bytes.
pub const BLOCK: usize = 512;

/// What the archive's size is a multiple of.
const RECORD: u64 = 10_240;

/// The first size that the ustar header cannot hold: 8 GiB.
const SIZE_LIMIT: u64 = 1 << 33;

/// The first user or group id that the ustar header cannot hold.
const ID_LIMIT: u32 = 1 << 21;

const COPY_BUFFER: usize = 128 << 10;

/// What went wrong while an archive was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read; the archive is incomplete from here on.
    #[error("cannot read `{path}`")]
    Read {
        /// The entry's name.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The sink did not take the archive.
    #[error("cannot write the archive")]
    Write {
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> crate::failure::Kind {
        crate::failure::Kind::Failed
    }

    fn write(source: io::Error) -> Self {
        Self::Write { source }
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File {
        /// The size that its header tells.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to, as it is.
        target: &'a [u8],
    },
    /// Another name of a file that came before in the same archive.
    HardLink {
        /// The name of that entry.
        target: &'a [u8],
    },
    /// A named pipe.
    Fifo,
}

/// An instant as a file's metadata tells it: whole seconds since 1970 (negative before) and the
/// nanoseconds to add to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// Everything that a header tells.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The name in the archive: see [`data_directory_name`] and [`tablespace_name`].
    pub name: &'a [u8],
    /// What it is.
    pub kind: EntryKind<'a>,
    /// The permission bits; others are left out.
    pub mode: u32,
    /// The owner's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
    /// The owner's name, or nothing.
    pub owner: &'a str,
    /// The group's name, or nothing.
    pub group: &'a str,
    /// When it was last modified.
    pub modified: FileTime,
}

/// What became of a file between its header and its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It was as long as its header says.
    Whole,
    /// It was shorter; so many zeros stand in for the rest.
    Padded(u64),
    /// It was longer; the rest was left out.
    Cut,
}

/// The name that Barman gives an entry of a data directory, from its path relative to it.
///
/// The root is `./`; what lies in it and is no directory has `./` in front; directories end in `/`.
pub fn data_directory_name(relative: &Path, kind: EntryKind<'_>) -> Vec<u8> {
    let mut name = tablespace_name(relative, kind);
    let is_directory = kind == EntryKind::Directory;
    if name.is_empty() || !is_directory && !name.contains(&b'/') {
        name.splice(..0, *b"./");
    }
    name
}

/// The name that Barman gives an entry of a tablespace, from its path relative to it.
pub fn tablespace_name(relative: &Path, kind: EntryKind<'_>) -> Vec<u8> {
    let mut name = relative.as_os_str().as_encoded_bytes().to_vec();
    if kind == EntryKind::Directory && !name.is_empty() {
        name.push(b'/');
    }
    name
}

/// Writes one archive.
///
/// After an error the archive is of no use; a writer that is dropped leaves it without its end.
pub struct Writer<W: Write> {
    sink: W,
    written: u64,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(sink: W) -> Self {
        Self {
            sink,
            written: 0,
            buffer: Vec::new(),
        }
    }

    /// The archive's length so far, in bytes.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The sink.
    pub fn get_ref(&self) -> &W {
        &self.sink
    }

    /// The sink; what is written to it behind the writer's back becomes part of the archive.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Adds an entry that has no content: anything but a file, or a file of size 0.
    pub fn append(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        assert!(
            content_size(entry.kind) == 0,
            "a file's content is appended with it"
        );
        self.header(entry)
    }

    /// Adds a file with its content.
    pub fn append_file(
        &mut self,
        entry: &Entry<'_>,
        content: &mut impl Read,
    ) -> Result<Copied, Error> {
        self.header(entry)?;
        let size = content_size(entry.kind);
        let unread = |source| Error::Read {
            path: String::from_utf8_lossy(entry.name).into_owned(),
            source,
        };
        self.buffer.resize(COPY_BUFFER, 0);
        let mut missing = size;
        while missing > 0 {
            let room = usize::try_from(missing)
                .unwrap_or(usize::MAX)
                .min(COPY_BUFFER);
            let length = read_some(content, &mut self.buffer[..room]).map_err(unread)?;
            if length == 0 {
                self.zeros(missing)?;
                break;
            }
            self.sink
                .write_all(&self.buffer[..length])
                .map_err(Error::write)?;
            self.written += length as u64;
            missing -= length as u64;
        }
        self.zeros(padding(size))?;
        if missing > 0 {
            return Ok(Copied::Padded(missing));
        }
        match read_some(content, &mut [0]).map_err(unread)? {
            0 => Ok(Copied::Whole),
            _ => Ok(Copied::Cut),
        }
    }

    /// Ends the archive and gives the sink back; the sink itself is not flushed.
    pub fn finish(mut self) -> Result<W, Error> {
        self.zeros(2 * BLOCK as u64)?;
        self.zeros(self.written.next_multiple_of(RECORD) - self.written)?;
        Ok(self.sink)
    }

    fn header(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        let records = pax_records(entry);
        if !records.is_empty() {
            let size = records.len() as u64;
            self.block(&Header {
                name: b"././@PaxHeader",
                type_flag: b'x',
                size,
                ..Header::default()
            })?;
            self.sink.write_all(&records).map_err(Error::write)?;
            self.written += size;
            self.zeros(padding(size))?;
        }
        let (type_flag, link) = match entry.kind {
            EntryKind::File { .. } => (b'0', &b""[..]),
            EntryKind::HardLink { target } => (b'1', target),
            EntryKind::Symlink { target } => (b'2', target),
            EntryKind::Directory => (b'5', &b""[..]),
            EntryKind::Fifo => (b'6', &b""[..]),
        };
        self.block(&Header {
            name: entry.name,
            type_flag,
            size: content_size(entry.kind),
            link,
            mode: entry.mode & 0o7777,
            uid: entry.uid,
            gid: entry.gid,
            seconds: entry.modified.seconds,
            owner: entry.owner.as_bytes(),
            group: entry.group.as_bytes(),
        })
    }

    fn block(&mut self, header: &Header<'_>) -> Result<(), Error> {
        self.sink.write_all(&header.block()).map_err(Error::write)?;
        self.written += BLOCK as u64;
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> Result<(), Error> {
        io::copy(&mut io::repeat(0).take(count), &mut self.sink).map_err(Error::write)?;
        self.written += count;
        Ok(())
    }
}

/// The fields of a ustar header; what does not fit is cut or zero, and told by a pax record.
#[derive(Default)]
struct Header<'a> {
    name: &'a [u8],
    type_flag: u8,
    size: u64,
    link: &'a [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    owner: &'a [u8],
    group: &'a [u8],
}

impl Header<'_> {
    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        text(&mut block[0..100], self.name);
        octal(&mut block[100..108], self.mode.into());
        octal(&mut block[108..116], id_field(self.uid));
        octal(&mut block[116..124], id_field(self.gid));
        octal(
            &mut block[124..136],
            if self.size < SIZE_LIMIT { self.size } else { 0 },
        );
        octal(&mut block[136..148], time_field(self.seconds));
        block[156] = self.type_flag;
        text(&mut block[157..257], self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        // The last byte of the names stays zero, as POSIX wants it.
        text(&mut block[265..296], self.owner);
        text(&mut block[297..328], self.group);
        octal(&mut block[329..337], 0);
        octal(&mut block[337..345], 0);
        // The checksum counts its own field as blanks, and ends in a zero and a blank.
        block[148..156].fill(b' ');
        let sum = block.iter().map(|&byte| u64::from(byte)).sum();
        octal(&mut block[148..155], sum);
        block
    }
}

/// The records of the extended header, or nothing where the ustar header says it all.
fn pax_records(entry: &Entry<'_>) -> Vec<u8> {
    let mut records = Vec::new();
    if !fits(entry.name, 100) {
        record(&mut records, "path", entry.name);
    }
    if let EntryKind::Symlink { target } | EntryKind::HardLink { target } = entry.kind
        && !fits(target, 100)
    {
        record(&mut records, "linkpath", target);
    }
    if content_size(entry.kind) >= SIZE_LIMIT {
        record(
            &mut records,
            "size",
            content_size(entry.kind).to_string().as_bytes(),
        );
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id >= ID_LIMIT {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    for (key, name) in [("uname", entry.owner), ("gname", entry.group)] {
        if !fits(name.as_bytes(), 31) {
            record(&mut records, key, name.as_bytes());
        }
    }
    let FileTime {
        seconds,
        nanoseconds,
    } = entry.modified;
    if nanoseconds > 0 || time_field(seconds).cast_signed() != seconds {
        record(&mut records, "mtime", decimal(entry.modified).as_bytes());
    }
    records
}

/// Appends `<length> <key>=<value>\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds as a decimal fraction without trailing zeros.
fn decimal(time: FileTime) -> String {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let (whole, fraction) = (
        nanoseconds.abs() / 1_000_000_000,
        nanoseconds.abs() % 1_000_000_000,
    );
    let mut text = String::from(if nanoseconds < 0 { "-" } else { "" });
    write!(text, "{whole}.{fraction:09}").expect("a string takes everything");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn fits(text: &[u8], length_max: usize) -> bool {
    text.is_ascii() && text.len() <= length_max
}

fn id_field(id: u32) -> u64 {
    if id < ID_LIMIT { id.into() } else { 0 }
}

fn time_field(seconds: i64) -> u64 {
    u64::try_from(seconds)
        .ok()
        .filter(|&seconds| seconds < SIZE_LIMIT)
        .unwrap_or(0)
}

fn text(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// Octal digits with leading zeros, ended by a zero byte.
fn octal(field: &mut [u8], mut value: u64) {
    let (end, digits) = field.split_last_mut().expect("a field has a last byte");
    *end = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7).to_le_bytes()[0];
        value >>= 3;
    }
    assert!(
        value == 0,
        "what does not fit an octal field is told by a pax record"
    );
}

fn content_size(kind: EntryKind<'_>) -> u64 {
    match kind {
        EntryKind::File { size } => size,
        _ => 0,
    }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;

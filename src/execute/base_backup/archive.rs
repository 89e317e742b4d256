//! One tar archive being built: files of a running cluster, read, framed and compressed into a sink.
//!
//! Everything here blocks and is meant for a thread of its own. A file that vanished is left out; one that shrank is filled up
//! and one that grew is cut, which the replay of WAL mends. One that cannot be read is an error that names it. Data pages are
//! verified in passing; a damaged one is read again before it is called so, and recorded, never mended.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    queue::InHand,
    walk::{Attributes, Found, FoundKind},
};
use crate::{
    model::{backup::ArchiveRoot, compression::Codec, record::DamagedPages, wal::Lsn},
    pipeline::{
        compress::parallel::{Encoder, Workers},
        page::{self, PAGE, PAGES_PER_FILE, PageVerdict, Verified},
        tar::{self, Entry, EntryKind},
        untar,
    },
};

/// How often a page that looks damaged is read again.
const PAGE_RETRIES: u32 = 3;

/// How long PostgreSQL gets to finish a write that was caught half done.
const PAGE_PAUSE: Duration = Duration::from_millis(20);

/// An archive could not be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// What was built could not be handed on.
    #[error("cannot store the archive `{0}`", in_hand_name(*archive))]
    Write { archive: InHand, source: io::Error },
}

fn in_hand_name(archive: InHand) -> String {
    format!("{} {}", archive.root, archive.part)
}

/// What all builders of one backup share.
pub(super) struct Reading {
    /// Pages older than this are verified; none if the cluster has no checksums.
    pub(super) verify_before: Option<Lsn>,
    /// The names of users and groups.
    pub(super) owners: Owners,
    /// How many bytes were read.
    pub(super) bytes: AtomicU64,
    /// Stops every builder at its next read.
    pub(super) cancel: CancellationToken,
}

/// A file that somebody else has read.
pub(super) struct Received<'a, R> {
    /// What its header says.
    pub(super) entry: &'a untar::Entry,
    /// Its content, as long as the header says.
    pub(super) content: &'a mut R,
}

/// One archive.
pub(super) struct OpenArchive<S: Write> {
    name: InHand,
    writer: tar::Writer<Encoder<S>>,
    /// Files with several names, by device and inode: the name that came first.
    links: BTreeMap<(u64, u64), Vec<u8>>,
    files: u64,
}

impl<S: Write> OpenArchive<S> {
    /// Begins an archive, with at most `depth` compressed blocks on their way.
    pub(super) fn begin(
        name: InHand,
        codec: Codec,
        (workers, depth): (&Workers, usize),
        sink: S,
    ) -> Result<Self, ArchiveError> {
        let encoder = Encoder::new(codec, workers, depth, sink).map_err(unwritten(name))?;
        Ok(Self {
            name,
            writer: tar::Writer::new(encoder),
            links: BTreeMap::new(),
            files: 0,
        })
    }

    /// Which archive it is.
    pub(super) fn name(&self) -> InHand {
        self.name
    }

    /// The sink.
    pub(super) fn sink(&self) -> &S {
        self.writer.get_ref().get_ref()
    }

    /// How many files it holds.
    pub(super) fn files(&self) -> u64 {
        self.files
    }

    /// Adds what the walk has found; the pages of a relation that are damaged are the answer.
    pub(super) fn add(
        &mut self,
        found: &Found,
        reading: &Reading,
    ) -> Result<Option<DamagedPages>, ArchiveError> {
        let kind = match &found.kind {
            FoundKind::File(_) => return self.add_file(found, reading),
            FoundKind::Directory => EntryKind::Directory,
            FoundKind::Fifo => EntryKind::Fifo,
            FoundKind::Symlink(target) => EntryKind::Symlink {
                target: target.as_os_str().as_encoded_bytes(),
            },
        };
        let name = self.entry_name(&found.relative, kind);
        let entry = entry(&name, kind, found.attributes, &reading.owners);
        self.writer
            .append(&entry)
            .map_err(self.failed(&found.path))?;
        Ok(None)
    }

    /// Adds a text as a file.
    pub(super) fn add_text(
        &mut self,
        name: &[u8],
        text: &[u8],
        attributes: Attributes,
        owners: &Owners,
    ) -> Result<(), ArchiveError> {
        let size = text.len() as u64;
        let entry = entry(name, EntryKind::File { size }, attributes, owners);
        let written = self.writer.append_file(&entry, &mut &*text);
        self.files += 1;
        written.map(|_| ()).map_err(|error| match error {
            tar::Error::Read { source, .. } | tar::Error::Write { source } => {
                unwritten(self.name)(source)
            }
        })
    }

    /// Adds an entry without content that somebody else has read.
    pub(super) fn add_entry(
        &mut self,
        relative: &Path,
        received: &untar::Entry,
    ) -> Result<(), ArchiveError> {
        let kind = match &received.kind {
            untar::EntryKind::Directory => EntryKind::Directory,
            untar::EntryKind::File => EntryKind::File { size: 0 },
            untar::EntryKind::Symlink(target) => EntryKind::Symlink { target },
            untar::EntryKind::HardLink(target) => EntryKind::HardLink { target },
            untar::EntryKind::Fifo => EntryKind::Fifo,
        };
        let name = self.entry_name(relative, kind);
        let written = self.writer.append(&foreign(&name, kind, received));
        written.map_err(self.failed(relative))
    }

    /// Adds a file that somebody else has read.
    pub(super) fn add_received<R: Read>(
        &mut self,
        relative: &Path,
        Received { entry, content }: Received<'_, R>,
    ) -> Result<(), ArchiveError> {
        let size = entry.size;
        let kind = EntryKind::File { size };
        let name = self.entry_name(relative, kind);
        let entry = foreign(&name, kind, entry);
        let written = self.writer.append_file(&entry, content);
        self.files += 1;
        written.map(|_| ()).map_err(self.failed(relative))
    }

    /// Ends the archive and gives the sink back.
    pub(super) fn finish(self) -> Result<S, ArchiveError> {
        let name = self.name;
        let encoder = self.writer.finish().map_err(|error| match error {
            tar::Error::Read { source, .. } | tar::Error::Write { source } => {
                unwritten(name)(source)
            }
        })?;
        encoder.finish().map_err(unwritten(name))
    }

    fn add_file(
        &mut self,
        found: &Found,
        reading: &Reading,
    ) -> Result<Option<DamagedPages>, ArchiveError> {
        let unread = |source| ArchiveError::Read {
            path: found.path.clone(),
            source,
        };
        let file = match File::open(&found.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unread(error)),
        };
        // What the walk saw may be a while ago.
        let metadata = file.metadata().map_err(unread)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let size = metadata.len();
        let kind = EntryKind::File { size };
        let name = self.entry_name(&found.relative, kind);
        let attributes = Attributes::of(&metadata);
        if let Some(target) = self.linked(&metadata, &name) {
            let kind = EntryKind::HardLink { target: &target };
            let entry = entry(&name, kind, attributes, &reading.owners);
            self.writer
                .append(&entry)
                .map_err(self.failed(&found.path))?;
            return Ok(None);
        }
        advise_sequential(&file);
        let entry = entry(&name, kind, attributes, &reading.owners);
        let mut content = Counted {
            inner: &file,
            reading,
        };
        self.files += 1;
        let pages = reading
            .verify_before
            .zip(page::file_number(&found.relative));
        let Some((start, number)) = pages else {
            self.writer
                .append_file(&entry, &mut content)
                .map_err(self.failed(&found.path))?;
            return Ok(None);
        };
        let mut content = Verified::new(content, number, start);
        self.writer
            .append_file(&entry, &mut content)
            .map_err(self.failed(&found.path))?;
        let report = content.finish();
        if report.damaged == 0 {
            return Ok(None);
        }
        let first = number * PAGES_PER_FILE;
        let stays_damaged = |block: &u32| is_damaged(&file, block - first, (*block, start));
        let blocks: Vec<u32> = report.blocks.into_iter().filter(stays_damaged).collect();
        let named = blocks.len() as u64;
        let unnamed = report.damaged.saturating_sub(page::DAMAGED_MAX as u64);
        Ok((named > 0).then(|| DamagedPages {
            path: found.path.clone(),
            blocks,
            pages: named + unnamed,
        }))
    }

    /// The name under which this file is in the archive already, if it is; else it is remembered.
    fn linked(&mut self, metadata: &fs::Metadata, name: &[u8]) -> Option<Vec<u8>> {
        if metadata.nlink() < 2 {
            return None;
        }
        let inode = (metadata.dev(), metadata.ino());
        let first = self.links.get(&inode).cloned();
        if first.is_none() {
            self.links.insert(inode, name.to_vec());
        }
        first
    }

    fn entry_name(&self, relative: &Path, kind: EntryKind<'_>) -> Vec<u8> {
        match self.name.root {
            ArchiveRoot::Data => tar::data_directory_name(relative, kind),
            ArchiveRoot::Tablespace(_) => tar::tablespace_name(relative, kind),
        }
    }

    fn failed(&self, path: &Path) -> impl FnOnce(tar::Error) -> ArchiveError + use<S> {
        let (archive, path) = (self.name, path.to_owned());
        move |error| match error {
            tar::Error::Read { source, .. } => ArchiveError::Read { path, source },
            tar::Error::Write { source } => ArchiveError::Write { archive, source },
        }
    }
}

fn unwritten(archive: InHand) -> impl FnOnce(io::Error) -> ArchiveError {
    move |source| ArchiveError::Write { archive, source }
}

fn entry<'a>(
    name: &'a [u8],
    kind: EntryKind<'a>,
    attributes: Attributes,
    owners: &'a Owners,
) -> Entry<'a> {
    Entry {
        name,
        kind,
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        owner: owners.user(attributes.uid),
        group: owners.group(attributes.gid),
        modified: attributes.modified,
    }
}

/// An entry of a server elsewhere: its owner has the number from there, and the name that PostgreSQL's own archives give every owner.
fn foreign<'a>(name: &'a [u8], kind: EntryKind<'a>, received: &untar::Entry) -> Entry<'a> {
    Entry {
        name,
        kind,
        mode: received.mode,
        uid: received.uid,
        gid: received.gid,
        owner: "postgres",
        group: "postgres",
        modified: received.modified,
    }
}

/// Whether a page is still damaged when it is read again: a write that was caught half done is finished by then.
fn is_damaged(file: &File, index: u32, (block, start): (u32, Lsn)) -> bool {
    for attempt in 0..PAGE_RETRIES {
        if attempt > 0 {
            #[expect(
                clippy::disallowed_methods,
                reason = "bounded: lets PostgreSQL finish writing this page"
            )]
            std::thread::sleep(PAGE_PAUSE);
        }
        let mut page = [0; PAGE];
        let offset = u64::from(index) * PAGE as u64;
        if file.read_exact_at(&mut page, offset).is_err() {
            // It has been cut off meanwhile.
            return false;
        }
        if page::judge(&page, block, start) != PageVerdict::Damaged {
            return false;
        }
    }
    true
}

/// The system may read ahead further and forget sooner. Where it cannot, nothing is lost.
fn advise_sequential(file: &File) {
    let _advised = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
}

/// Counts what is read, and stops when told to.
struct Counted<'a> {
    inner: &'a File,
    reading: &'a Reading,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reading.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        let length = self.inner.read(buffer)?;
        let read = length as u64;
        self.reading.bytes.fetch_add(read, Ordering::Relaxed);
        Ok(length)
    }
}

/// The names of users and groups, as the machine's own files tell them; others have only their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Owners {
    /// Reads `/etc/passwd` and `/etc/group`. A file that is not there names nobody.
    pub(super) fn load() -> Self {
        Self {
            users: names(Path::new("/etc/passwd")),
            groups: names(Path::new("/etc/group")),
        }
    }

    fn user(&self, id: u32) -> &str {
        self.users.get(&id).map_or("", String::as_str)
    }

    fn group(&self, id: u32) -> &str {
        self.groups.get(&id).map_or("", String::as_str)
    }
}

/// The first name of each number in a file of the form `name:password:number:…`.
fn names(path: &Path) -> BTreeMap<u32, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        if let Ok(number) = number.parse() {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

//! The archives of a backup, read to their last byte, several at a time.

use std::{
    io::{self, BufRead, Read},
    panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{StreamExt as _, future::join, stream};
use tokio::task::JoinSet;

use super::{Error, Faults, Verifier};
use crate::{
    execute::base_backup::LEFT_OUT,
    format::keys::{ArchiveName, ObjectKey, OwnObject},
    model::{
        backup::{ArchiveRoot, Backup, BackupId, StoredArchive},
        compression::Compression,
        progress::{Event, Progress},
        record::{ArchiveEvidence, ArchiveRecord},
    },
    pipeline::{
        checksum::{self, Algorithm, Metered},
        compress::Decoder,
        manifest::Sums,
        untar::{self, Entry, EntryKind, Reader},
    },
    store::{
        self, Checksum, ChecksumAlgorithm, Head, Meaning,
        download::{Arrivals, Source, Window, download},
    },
};

/// How many archives are read at once. With [`WINDOW`] and the codecs' own memory: 80 MiB.
const PARALLEL: usize = 4;

const WINDOW: Window = Window {
    range_bytes: 4 << 20,
    ranges: 2,
};

/// How much of a file is read at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// The longest file whose content is looked at, in bytes.
const SMALL_MAX: u64 = 64 << 10;

/// How often progress is told, in bytes.
const TELL_EVERY: u64 = 8 << 20;

/// What was found in the archives.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) archives: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// What says which cluster it is, and where recovery starts; by the names of [`SMALL`].
    pub(super) small: [Option<Vec<u8>>; 3],
}

/// The files whose content is looked at.
pub(super) const SMALL: [&[u8]; 3] = [b"PG_VERSION", b"global/pg_control", b"backup_label"];

type Shared = Option<Arc<Mutex<Sums>>>;

/// Reads every archive.
pub(super) async fn read(
    verifier: &Verifier<'_>,
    backup: &Backup,
    sent: Option<&ArchiveEvidence>,
    faults: &mut Faults,
) -> Result<Contents, Error> {
    missing(backup, sent, faults);
    let manifest = ObjectKey::Own(OwnObject::Manifest(backup.id.clone()));
    let head = verifier.archive.head(&manifest).await;
    let head = head.map_err(Error::read(&manifest))?;
    let sums: Shared = head
        .as_ref()
        .map(|_| Arc::new(Mutex::new(Sums::excusing(&LEFT_OUT))));
    let told = Arc::new(AtomicU64::new(0));
    let all = backup.archives.iter().map(|stored| {
        let sent = sent.and_then(|sent| sent.archives.iter().find(|sent| is_same(sent, stored)));
        let reading = Reading {
            verifier,
            id: &backup.id,
            name: ArchiveName::from(stored),
            sent,
            sums: sums.clone(),
            told: told.clone(),
        };
        reading.run()
    });
    let mut all = stream::iter(all).buffer_unordered(PARALLEL);
    let mut contents = Contents::default();
    while let Some(found) = all.next().await {
        contents.add(found?, faults);
    }
    drop(all);
    if let (Some(head), Some(sums)) = (head, sums)
        && let Some(what) = compare(verifier, &manifest, head, sums).await?
    {
        faults.add(manifest, what);
    }
    Ok(contents)
}

/// What a restore would look for and not find.
fn missing(backup: &Backup, sent: Option<&ArchiveEvidence>, faults: &mut Faults) {
    let object = |record: &ArchiveRecord| {
        let name = ArchiveName {
            root: record.root,
            part: record.part,
            compression: record.compression,
        };
        ObjectKey::archive(&backup.id, name)
    };
    let sent = sent.into_iter().flat_map(|sent| &sent.archives);
    let gone = sent.filter(|sent| !backup.archives.iter().any(|stored| is_same(sent, stored)));
    let before = faults.0.len();
    for record in gone {
        faults.add(object(record), "it is gone");
    }
    if faults.0.len() == before
        && let Some(root) = backup.missing_archive()
    {
        faults.add(
            ObjectKey::info(&backup.id),
            format!("an archive of `{root}` is missing or empty"),
        );
    }
}

fn is_same(sent: &ArchiveRecord, stored: &StoredArchive) -> bool {
    (sent.root, sent.part, sent.compression) == (stored.root, stored.part, stored.compression)
}

impl Contents {
    fn add(&mut self, one: Found, faults: &mut Faults) {
        for what in one.wrong {
            faults.add(&one.object, what);
        }
        self.archives += 1;
        self.files += one.files;
        self.bytes += one.bytes;
        for (known, found) in self.small.iter_mut().zip(one.small) {
            *known = found.or(known.take());
        }
    }
}

/// What was found in one archive.
#[derive(Debug)]
struct Found {
    object: ObjectKey,
    files: u64,
    bytes: u64,
    small: [Option<Vec<u8>>; 3],
    wrong: Vec<String>,
}

/// One archive on its way.
struct Reading<'a> {
    verifier: &'a Verifier<'a>,
    id: &'a BackupId,
    name: ArchiveName,
    sent: Option<&'a ArchiveRecord>,
    sums: Shared,
    told: Arc<AtomicU64>,
}

impl Reading<'_> {
    async fn run(self) -> Result<Found, Error> {
        let archive = self.verifier.archive;
        let object = ObjectKey::archive(self.id, self.name);
        let mut found = Found {
            object: object.clone(),
            files: 0,
            bytes: 0,
            small: Default::default(),
            wrong: Vec::new(),
        };
        let head = archive.head(&object).await.map_err(Error::read(&object))?;
        let Some(head) = head else {
            found.wrong.push("it is gone".to_owned());
            return Ok(found);
        };
        if let Some(sent) = self.sent.filter(|sent| sent.bytes != head.meta.size) {
            let (here, there) = (sent.bytes, head.meta.size);
            let what = format!("{here} bytes were sent, {there} are there");
            found.wrong.push(what);
        }
        let expected = Expected::of(self.sent, &head);
        let work = Work {
            root: self.name.root,
            compression: self.name.compression,
            algorithms: expected.0.iter().map(|(algorithm, _)| *algorithm).collect(),
            sums: self.sums,
            progress: self.verifier.progress.clone(),
            told: self.told,
        };
        let key = archive.key(&object);
        match fetch(
            self.verifier,
            source(self.verifier, key, head),
            |arrivals| work.run(arrivals),
        )
        .await?
        {
            Fetched::Vanished => found.wrong.push("it vanished while it was read".to_owned()),
            Fetched::Read(Err(error)) => found.wrong.push(crate::failure::chain(&error)),
            Fetched::Read(Ok(unpacked)) => {
                found.wrong.extend(expected.differing(&unpacked.checksums));
                found.files = unpacked.files;
                found.bytes = unpacked.bytes;
                found.small = unpacked.small;
            }
        }
        Ok(found)
    }
}

fn source(verifier: &Verifier<'_>, key: store::Key, head: Head) -> Source {
    Source {
        store: Arc::clone(verifier.archive.store()),
        key,
        version: head.meta.version,
        size: head.meta.size,
    }
}

enum Fetched<T> {
    /// It is not there any more, or another object is.
    Vanished,
    Read(T),
}

/// Has a thread read an object as it arrives.
async fn fetch<T: Send + 'static>(
    verifier: &Verifier<'_>,
    source: Source,
    work: impl FnOnce(Arrivals) -> T + Send + 'static,
) -> Result<Fetched<T>, Error> {
    let object = source.key.to_string();
    let (arrivals, fetching) = download(source, WINDOW, verifier.cancel.clone());
    let mut thread = JoinSet::new();
    thread.spawn_blocking(move || work(arrivals));
    let joined = async {
        let joined = thread.join_next().await.expect("one was started");
        joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
    };
    let (fetched, read) = join(fetching.run(), joined).await;
    if verifier.cancel.is_cancelled() {
        return Err(Error::Interrupted);
    }
    match fetched {
        Ok(()) => Ok(Fetched::Read(read)),
        Err(error) if error.is_not_found() || error.meaning == Meaning::Precondition => {
            Ok(Fetched::Vanished)
        }
        Err(source) => Err(Error::read(object)(source)),
    }
}

/// The checksums that an archive must have, each with what says so.
struct Expected(Vec<(Algorithm, Known)>);

enum Known {
    /// As it was sent.
    Sent(u32),
    /// As the store tells.
    Told(Checksum),
}

impl Expected {
    fn of(sent: Option<&ArchiveRecord>, head: &Head) -> Self {
        let sent = sent.and_then(|sent| sent.crc32c);
        let sent = sent.map(|crc| (Algorithm::Crc32c, Known::Sent(crc)));
        // That of an object sent in parts is not one of its bytes.
        let told = head.meta.checksum.as_ref();
        let told = told.filter(|checksum| !checksum.value.contains('-'));
        let told = told.and_then(|checksum| {
            let algorithm = match checksum.algorithm {
                ChecksumAlgorithm::Crc32 => Algorithm::Crc32,
                ChecksumAlgorithm::Crc32c => Algorithm::Crc32c,
                ChecksumAlgorithm::Sha256 => Algorithm::Sha256,
                ChecksumAlgorithm::Md5 => Algorithm::Md5,
                ChecksumAlgorithm::Crc64Nvme | ChecksumAlgorithm::Sha1 => return None,
            };
            Some((algorithm, Known::Told(checksum.clone())))
        });
        Self(sent.into_iter().chain(told).collect())
    }

    /// What does not agree with what was read.
    fn differing(&self, read: &[checksum::Checksum]) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .zip(read)
            .filter_map(|((_, known), read)| match known {
                Known::Sent(crc) => {
                    let same = read.as_bytes() == crc.to_be_bytes();
                    (!same).then(|| "its bytes are not those that were sent".to_owned())
                }
                Known::Told(checksum) => {
                    let same = read.to_base64() == checksum.value;
                    let algorithm = checksum.algorithm;
                    (!same).then(|| {
                        format!("its bytes do not have the {algorithm} that the store tells")
                    })
                }
            })
    }
}

/// What a thread does with an archive.
struct Work {
    root: ArchiveRoot,
    compression: Compression,
    algorithms: Vec<Algorithm>,
    sums: Shared,
    progress: Arc<dyn Progress>,
    told: Arc<AtomicU64>,
}

#[derive(Default)]
struct Unpacked {
    files: u64,
    bytes: u64,
    small: [Option<Vec<u8>>; 3],
    checksums: Vec<checksum::Checksum>,
}

impl Work {
    /// Blocks.
    fn run(self, arrivals: Arrivals) -> Result<Unpacked, untar::Error> {
        let passing = Passing {
            inner: arrivals,
            progress: &*self.progress,
            told: &self.told,
            untold: 0,
        };
        let mut metered = Metered::new(passing, &self.algorithms);
        let broken = |source| untar::Error::Read { source };
        let decoder = Decoder::new(self.compression, &mut metered).map_err(broken)?;
        let mut reader = Reader::new(decoder);
        let mut unpacked = Unpacked::default();
        let mut buffer = vec![0; BUFFER];
        while let Some(entry) = reader.next_entry()? {
            if entry.kind == EntryKind::File {
                self.file(&entry, &mut reader, &mut buffer, &mut unpacked)?;
            }
        }
        drop(reader);
        // A codec may end before the object does.
        io::copy(&mut metered, &mut io::sink()).map_err(broken)?;
        unpacked.checksums = metered.finish().2;
        Ok(unpacked)
    }

    fn file(
        &self,
        entry: &Entry,
        content: &mut impl Read,
        buffer: &mut [u8],
        unpacked: &mut Unpacked,
    ) -> Result<(), untar::Error> {
        let name = entry.name.strip_prefix(b"./").unwrap_or(&entry.name);
        let is_data = self.root == ArchiveRoot::Data;
        let small = SMALL.iter().position(|small| is_data && *small == name);
        let mut kept = Vec::new();
        let mut crc = 0;
        let mut missing = entry.size;
        while missing > 0 {
            let room = usize::try_from(missing)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let length = content
                .read(&mut buffer[..room])
                .map_err(|source| untar::Error::Read { source })?;
            if length == 0 {
                return Err(untar::Error::Truncated);
            }
            if self.sums.is_some() {
                crc = crc32c::crc32c_append(crc, &buffer[..length]);
            }
            if small.is_some() && entry.size <= SMALL_MAX {
                kept.extend_from_slice(&buffer[..length]);
            }
            missing -= length as u64;
        }
        unpacked.files += 1;
        unpacked.bytes += entry.size;
        if let Some(small) = small {
            unpacked.small[small] = Some(kept);
        }
        if let Some(sums) = &self.sums {
            let path = match self.root {
                ArchiveRoot::Data => name.to_vec(),
                ArchiveRoot::Tablespace(oid) => {
                    [format!("pg_tblspc/{oid}/").as_bytes(), name].concat()
                }
            };
            let mut sums = sums.lock().expect("no thread panics with it");
            sums.add(&path, entry.size, crc);
        }
        Ok(())
    }
}

/// Compares what was found in all archives with the server's manifest; what is wrong, if anything.
async fn compare(
    verifier: &Verifier<'_>,
    manifest: &ObjectKey,
    head: Head,
    sums: Arc<Mutex<Sums>>,
) -> Result<Option<String>, Error> {
    let source = source(verifier, verifier.archive.key(manifest), head);
    let compared = fetch(verifier, source, move |arrivals| {
        let sums = std::mem::take(&mut *sums.lock().expect("no thread panics with it"));
        sums.check(arrivals, io::sink())
    });
    Ok(match compared.await? {
        Fetched::Vanished => Some("it vanished while it was read".to_owned()),
        Fetched::Read(compared) => compared.err().map(|error| crate::failure::chain(&error)),
    })
}

/// Tells how much has been taken from a download.
struct Passing<'a> {
    inner: Arrivals,
    progress: &'a dyn Progress,
    told: &'a AtomicU64,
    untold: u64,
}

impl Passing<'_> {
    fn tell(&mut self, bytes: usize) {
        self.untold += bytes as u64;
        if self.untold >= TELL_EVERY {
            let before = self.told.fetch_add(self.untold, Ordering::Relaxed);
            let bytes = before + self.untold;
            self.progress.report(Event::Advanced { bytes });
            self.untold = 0;
        }
    }
}

impl Read for Passing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.tell(length);
        Ok(length)
    }
}

impl BufRead for Passing<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
        self.tell(amount);
    }
}

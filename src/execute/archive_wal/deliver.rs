//! One file and one destination: what is there, whether it is the same, and sending it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write},
    path::Path,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    ArchiveOptions, ArchiveTarget, Error, How, WalConflict, Warning, blocking,
    content::Content,
    identity::{self, Pin},
    prepare::Prepared,
};
use crate::{
    format::keys::{CollidedWal, ObjectKey, OwnObject, WalObject, wal_stem},
    model::{
        compression::{Codec, Compression},
        semantics::Records,
        wal::WalFile,
    },
    pipeline::{
        compress::{Decoder, Encoder},
        feed::{Feed, feed},
    },
    store::{
        self, GetOptions, Key, Meaning, Part, PutMode, PutOptions, StoreExt as _, Stored, Tags,
        Upload, UploadOptions,
    },
};

/// What a destination says before anything is sent to it.
#[derive(Debug)]
pub(super) struct Looked {
    /// The objects that hold the file, under any extension.
    there: Vec<Existing>,
    pin: Pin,
}

#[derive(Debug)]
struct Existing {
    key: Key,
    compression: Compression,
    bytes: u64,
}

/// How a destination came to have the file.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) how: How,
    pub(super) warning: Option<Warning>,
}

impl From<How> for Delivery {
    fn from(how: How) -> Self {
        Self { how, warning: None }
    }
}

/// Asks what is there. Needs nothing of the file but its name.
pub(super) async fn look(
    target: &ArchiveTarget,
    file: WalFile,
    options: &ArchiveOptions,
) -> Result<Looked, Error> {
    let list = async {
        match options.conflict {
            WalConflict::Compare => match existing(target, file).await {
                // Barman only ever writes, so its users need not be allowed to list: a name that is taken is noticed by the
                // conditional write.
                Err(error) if options.records == Records::None && error.is_denied() => {
                    Ok(Vec::new())
                }
                there => there,
            },
            WalConflict::Overwrite => Ok(Vec::new()),
        }
    };
    let (there, pin) = tokio::try_join!(list, identity::look(target, file, options))?;
    Ok(Looked { there, pin })
}

async fn existing(target: &ArchiveTarget, file: WalFile) -> Result<Vec<Existing>, Error> {
    let listed = target.archive.objects(&wal_stem(file)).await;
    let objects = listed.map_err(|source| failed(target, file, source))?;
    let holds = |object: store::ObjectMeta| match target.archive.parse(&object.key)? {
        ObjectKey::Wal(wal) if wal.file == file => Some(Existing {
            compression: wal.compression,
            bytes: object.size,
            key: object.key,
        }),
        _ => None,
    };
    Ok(objects.into_iter().filter_map(holds).collect())
}

fn failed(target: &ArchiveTarget, file: WalFile, source: store::Error) -> Error {
    Error::Store {
        destination: target.destination.clone(),
        file,
        source,
    }
}

/// Brings a file into a destination.
pub(super) async fn deliver(
    target: &ArchiveTarget,
    prepared: &Prepared,
    looked: Looked,
    options: &ArchiveOptions,
) -> Result<Delivery, Error> {
    let whose = (prepared.file, prepared.system_id);
    identity::ensure(target, whose, looked.pin, options).await?;
    for existing in &looked.there {
        if !is_same(target, prepared, existing).await? {
            return collision(target, prepared, existing.key.clone(), options).await;
        }
    }
    if !looked.there.is_empty() {
        return Ok(How::AlreadyThere.into());
    }
    let object = WalObject {
        file: prepared.file,
        compression: options.codec.compression(),
    };
    let sending = Sending {
        target,
        prepared,
        options,
        key: target.archive.key(&ObjectKey::Wal(object)),
    };
    let mode = match options.conflict {
        WalConflict::Compare => PutMode::Create,
        WalConflict::Overwrite => PutMode::Overwrite,
    };
    match sending.send(mode).await {
        Ok(_) => Ok(How::Stored.into()),
        Err(Error::Store { source, .. }) if source.is_conflict() => sending.taken(object).await,
        Err(Error::Store { source, .. }) if source.meaning == Meaning::Unsupported => {
            sending.send(PutMode::Overwrite).await?;
            Ok(Delivery {
                how: How::Stored,
                warning: Some(Warning::Unconditional(target.destination.clone())),
            })
        }
        Err(error) => Err(error),
    }
}

/// A file on its way to one key.
struct Sending<'a> {
    target: &'a ArchiveTarget,
    prepared: &'a Prepared,
    options: &'a ArchiveOptions,
    key: Key,
}

impl Sending<'_> {
    async fn send(&self, mode: PutMode) -> Result<Stored, Error> {
        let file = self.prepared.file;
        let tags = self.target.tags(file);
        match &self.prepared.content {
            Some(content) => {
                let options = PutOptions { mode, tags };
                let stored = content.stored.clone();
                let put = self
                    .target
                    .archive
                    .store()
                    .put(&self.key, stored, options)
                    .await;
                put.map_err(|source| failed(self.target, file, source))
            }
            None => self.stream(mode, tags).await,
        }
    }

    /// The conditional write was refused: by our own earlier try, whose answer was lost, or by somebody else's object.
    async fn taken(&self, object: WalObject) -> Result<Delivery, Error> {
        let head = self.target.archive.store().head(&self.key).await;
        let head = head.map_err(|source| failed(self.target, self.prepared.file, source))?;
        let existing = Existing {
            key: self.key.clone(),
            compression: object.compression,
            bytes: head.meta.size,
        };
        if is_same(self.target, self.prepared, &existing).await? {
            return Ok(How::AlreadyThere.into());
        }
        collision(self.target, self.prepared, existing.key, self.options).await
    }

    /// Compresses in one thread while parts are sent.
    async fn stream(&self, mode: PutMode, tags: Tags) -> Result<Stored, Error> {
        let file = self.prepared.file;
        let lost = |source| failed(self.target, file, source);
        let least = self.target.archive.store().limits().part_bytes_min;
        let part_bytes = self.options.part_bytes.max(least);
        let options = UploadOptions {
            part_bytes,
            mode,
            tags,
        };
        let upload = self.target.archive.store().begin_upload(&self.key, options);
        let upload = upload.await.map_err(lost)?;
        let (sender, parts) = mpsc::channel(1);
        let codec = self.options.codec;
        let (path, bytes) = (self.prepared.path.clone(), self.prepared.stamp.bytes);
        let compress = blocking(move || compress(&path, bytes, codec, part_bytes, sender));
        let (compressed, sent) = tokio::join!(compress, send_parts(upload.as_ref(), parts));
        let outcome = match (compressed, sent) {
            (_, Err(source)) => Err(lost(source)),
            (Err(source), _) => Err(Error::Read {
                path: self.prepared.path.clone(),
                source,
            }),
            (Ok(()), Ok(parts)) => upload.complete(parts).await.map_err(lost),
        };
        if outcome.is_err() {
            // The first error is the one to tell; parts that stay behind are found by their age.
            let _aborted = upload.abort().await;
        }
        outcome
    }
}

async fn send_parts(
    upload: &dyn Upload,
    mut contents: mpsc::Receiver<Bytes>,
) -> Result<Vec<Part>, store::Error> {
    let mut parts = Vec::new();
    while let Some(content) = contents.recv().await {
        let number = u32::try_from(parts.len() + 1).expect("a segment has few parts");
        parts.push(upload.put_part(number, content).await?);
    }
    Ok(parts)
}

fn compress(
    path: &Path,
    bytes: u64,
    codec: Codec,
    part_bytes: u64,
    parts: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let sink = Cutter {
        filling: Vec::new(),
        bytes_max: usize::try_from(part_bytes).map_err(io::Error::other)?,
        parts,
    };
    let mut encoder = Encoder::new(codec, Some(bytes), sink)?;
    let copied = io::copy(&mut File::open(path)?.take(bytes), &mut encoder)?;
    if copied != bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut sink = encoder.finish()?;
    sink.part()
}

/// Cuts what is written to it into parts.
struct Cutter {
    filling: Vec<u8>,
    bytes_max: usize,
    parts: mpsc::Sender<Bytes>,
}

impl Cutter {
    fn part(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.filling);
        self.parts
            .blocking_send(part.into())
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filling.len() == self.bytes_max {
            self.part()?;
        }
        let taken = bytes.len().min(self.bytes_max - self.filling.len());
        self.filling.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether an object, decompressed, holds the file byte for byte.
async fn is_same(
    target: &ArchiveTarget,
    prepared: &Prepared,
    existing: &Existing,
) -> Result<bool, Error> {
    let is_plain = existing.compression == Compression::None;
    if is_plain && existing.bytes != prepared.stamp.bytes {
        return Ok(false);
    }
    let lost = |source| failed(target, prepared.file, source);
    let got = target
        .archive
        .store()
        .get(&existing.key, GetOptions::default())
        .await;
    let body = got.map_err(lost)?.body;
    let (path, compression) = (prepared.path.clone(), existing.compression);
    let compared = feed(body, move |feed| same(&path, compression, feed)).await;
    compared.map_err(lost)?.map_err(|source| Error::Read {
        path: prepared.path.clone(),
        source,
    })
}

/// An object that cannot be decompressed is other content; only reading the file itself can fail.
fn same(path: &Path, compression: Compression, stored: Feed) -> io::Result<bool> {
    let mut ours = BufReader::with_capacity(256 << 10, File::open(path)?);
    let Ok(mut theirs) = Decoder::new(compression, stored) else {
        return Ok(false);
    };
    let mut buffer = vec![0; 256 << 10];
    loop {
        let Ok(count) = theirs.read(&mut buffer) else {
            return Ok(false);
        };
        if count == 0 {
            return Ok(ours.fill_buf()?.is_empty());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let here = ours.fill_buf()?;
            let common = here.len().min(rest.len());
            if common == 0 || here[..common] != rest[..common] {
                return Ok(false);
            }
            ours.consume(common);
            rest = &rest[common..];
        }
    }
}

/// The name is taken by other content: ours is put aside, once, and somebody must hear of it.
///
/// A `.partial` does not stop archiving. Up to the switch its content is in the next timeline's first segment too, and beyond
/// it no recovery that follows this server reads; the one that came first may be another promotion's, so it stays.
async fn collision(
    target: &ArchiveTarget,
    prepared: &Prepared,
    existing: Key,
    options: &ArchiveOptions,
) -> Result<Delivery, Error> {
    let ours = match options.records {
        Records::Written => Some(put_aside(target, prepared, options).await?),
        Records::None => None,
    };
    if let WalFile::Partial(_) = prepared.file {
        return Ok(Delivery {
            how: How::FirstKept,
            warning: Some(Warning::PartialDiffers {
                destination: target.destination.clone(),
                first: existing,
                aside: ours,
            }),
        });
    }
    Err(Error::Conflict {
        destination: target.destination.clone(),
        file: prepared.file,
        existing,
        ours,
    })
}

/// The key holds a digest of the content, so that PostgreSQL's endless retries put one object there and not one each.
async fn put_aside(
    target: &ArchiveTarget,
    prepared: &Prepared,
    options: &ArchiveOptions,
) -> Result<Key, Error> {
    let path = prepared.path.clone();
    let content = blocking(move || Content::read(File::open(path)?)).await;
    let content = content.map_err(|source| Error::Read {
        path: prepared.path.clone(),
        source,
    })?;
    let name = OwnObject::Conflict(CollidedWal {
        file: prepared.file,
        digest: content.digest,
        compression: options.codec.compression(),
    });
    let sending = Sending {
        target,
        prepared,
        options,
        key: target.archive.key(&ObjectKey::Own(name)),
    };
    let there = target.archive.store().exists(&sending.key).await;
    if !there.map_err(|source| failed(target, prepared.file, source))? {
        match sending.send(PutMode::Create).await {
            Err(Error::Store { source, .. }) if source.is_conflict() => {}
            Err(Error::Store { source, .. }) if source.meaning == Meaning::Unsupported => {
                sending.send(PutMode::Overwrite).await?;
            }
            sent => {
                sent?;
            }
        }
    }
    Ok(sending.key)
}

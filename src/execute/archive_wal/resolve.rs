//! A conflict in the WAL archive, settled as a person says.
//!
//! Two contents came under one name: the first has the place, the other was put aside below `barkeep/conflicts/`, and archiving stands still.
//! [`conflicts`] tells what there is and from where on it differs; [`take`] gives the place to the content that is right. What was in the place is put
//! aside before, so nothing is ever lost, and the name is never without a content. Killed at any instant, the same again finishes.

use std::{collections::BTreeMap, io};

use tokio_util::sync::CancellationToken;

use super::content::Content;
use crate::{
    execute::copy::{Copying, object},
    failure::Kind,
    format::keys::{self, CollidedWal, ObjectKey, OwnObject, WalObject, wal_stem},
    model::{
        compression::Compression,
        time::Timestamp,
        wal::{Lsn, SegmentSize, WalFile},
    },
    pipeline::{compress::Decoder, feed::feed},
    store::{self, Archive, GetOptions, Key, Meaning, ObjectMeta, PutMode},
};

/// The size of the parts in which a long file is moved, in bytes.
const PART_BYTES: u64 = 8 << 20;

/// All that came under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The name.
    pub file: WalFile,
    /// What has the place first, and then what was put aside, the oldest first.
    pub claims: Vec<Claim>,
    /// From where on they differ, if the file is a whole segment and all can be read.
    pub differs_from: Option<Lsn>,
}

/// One content of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where it is.
    pub place: Place,
    /// The object.
    pub key: Key,
    /// When it was stored, by the store's clock.
    pub stored_at: Timestamp,
    /// What it holds; `None` where it cannot be decompressed.
    pub digest: Option<String>,
}

/// Where a content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the archive: it is what a recovery gets.
    Taken,
    /// Below `barkeep/conflicts/`.
    Aside,
}

/// What came of [`take`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The content had the place already.
    AsItWas(Key),
    /// It has the place now, and what had it lies there.
    Moved {
        /// In the archive.
        now: Key,
        /// Among what collided.
        aside: Vec<Key>,
    },
}

/// Why a conflict was not told or settled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What there is could not be listed.
    #[error("cannot list what collided with WAL of `{server}`")]
    List {
        /// The server.
        server: String,
        /// What the store said.
        #[source]
        source: store::Error,
    },
    /// A content could not be read.
    #[error("cannot read `{key}`")]
    Read {
        /// The object.
        key: Key,
        /// What the store said.
        #[source]
        source: store::Error,
    },
    /// A content could not be brought to its new place; it is still where it was.
    #[error("cannot store `{key}` as `{to}`")]
    Move {
        /// The object.
        key: Key,
        /// Its new name.
        to: Key,
        /// What the store said.
        #[source]
        source: store::Error,
    },
    /// What was put aside could not be taken out of the archive.
    #[error("cannot take `{key}` out of the archive, where `{now}` is right")]
    Remove {
        /// The object.
        key: Key,
        /// What has the place.
        now: Key,
        /// What the store said.
        #[source]
        source: store::Error,
    },
    /// Nothing collided with the file.
    #[error("nothing collided with {0}")]
    NoConflict(WalFile),
    /// The digest is that of none, or of several.
    #[error("`{digest}` is not one content of {file}: there are {known}")]
    Which {
        /// The file.
        file: WalFile,
        /// What was asked for.
        digest: String,
        /// The digests of all.
        known: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::List { source, .. }
            | Self::Read { source, .. }
            | Self::Move { source, .. }
            | Self::Remove { source, .. } => source.kind(),
            Self::NoConflict(_) | Self::Which { .. } => Kind::NotFound,
            Self::Interrupted => Kind::Interrupted,
        }
    }
}

/// An object that holds a content of a file.
struct Found {
    place: Place,
    compression: Compression,
    meta: ObjectMeta,
    content: Option<Content>,
}

/// Everything that collided and was put aside, with what has its place.
pub async fn conflicts(archive: &Archive) -> Result<Vec<Conflict>, Error> {
    let mut files = BTreeMap::<WalFile, Vec<Found>>::new();
    for (file, found) in aside(archive, None).await? {
        files.entry(file).or_default().push(found);
    }
    let mut conflicts = Vec::new();
    for (file, found) in files {
        let mut all = in_place(archive, file).await?;
        all.extend(found);
        read(archive, &mut all).await?;
        conflicts.push(told(file, &all));
    }
    Ok(conflicts)
}

fn told(file: WalFile, found: &[Found]) -> Conflict {
    let claim = |found: &Found| Claim {
        place: found.place,
        key: found.meta.key.clone(),
        stored_at: found.meta.last_modified,
        digest: found.content.as_ref().map(|content| content.digest.clone()),
    };
    Conflict {
        file,
        claims: found.iter().map(claim).collect(),
        differs_from: differs_from(file, found),
    }
}

fn differs_from(file: WalFile, found: &[Found]) -> Option<Lsn> {
    let WalFile::Segment(segment) = file else {
        return None;
    };
    let contents: Option<Vec<&Content>> = found.iter().map(|one| one.content.as_ref()).collect();
    let contents = contents?;
    let (first, others) = contents.split_first()?;
    let size = SegmentSize::new(first.bytes).ok()?;
    let unlike = others.iter().filter(|other| **other != *first);
    let same = unlike.map(|other| first.same_until(other)).min()?;
    Some(Lsn(segment.number(size).start(size).0 + same))
}

/// What was put aside of one file, or of all, the oldest first.
async fn aside(archive: &Archive, file: Option<WalFile>) -> Result<Vec<(WalFile, Found)>, Error> {
    let mut listed = list(archive, &keys::conflicts_directory(file)).await?;
    listed.sort_by_key(|meta| meta.last_modified);
    let found = listed.into_iter().filter_map(|meta| {
        let ObjectKey::Own(OwnObject::Conflict(collided)) = archive.parse(&meta.key)? else {
            return None;
        };
        let found = Found {
            place: Place::Aside,
            compression: collided.compression,
            meta,
            content: None,
        };
        Some((collided.file, found))
    });
    Ok(found.collect())
}

async fn in_place(archive: &Archive, file: WalFile) -> Result<Vec<Found>, Error> {
    let listed = list(archive, &wal_stem(file)).await?;
    let found = listed
        .into_iter()
        .filter_map(|meta| match archive.parse(&meta.key)? {
            ObjectKey::Wal(wal) if wal.file == file => Some(Found {
                place: Place::Taken,
                compression: wal.compression,
                meta,
                content: None,
            }),
            _ => None,
        });
    Ok(found.collect())
}

async fn list(archive: &Archive, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
    let listed = archive.objects(prefix).await;
    listed.map_err(|source| Error::List {
        server: archive.server().to_owned(),
        source,
    })
}

async fn read(archive: &Archive, found: &mut [Found]) -> Result<(), Error> {
    for one in found {
        let lost = |source| Error::Read {
            key: one.meta.key.clone(),
            source,
        };
        let got = archive.store().get(&one.meta.key, GetOptions::default());
        let body = got.await.map_err(lost)?.body;
        let compression = one.compression;
        let content = feed(body, move |stored| {
            Content::read(Decoder::new(compression, stored)?)
        });
        let content: io::Result<Content> = content.await.map_err(lost)?;
        // What cannot be decompressed is a content that nobody can want.
        one.content = content.ok();
    }
    Ok(())
}

/// Gives the place to the content whose digest begins so, and puts what else has it aside.
pub async fn take(
    archive: &Archive,
    file: WalFile,
    digest: &str,
    cancel: &CancellationToken,
) -> Result<Settled, Error> {
    let others = aside(archive, Some(file)).await?;
    if others.is_empty() {
        return Err(Error::NoConflict(file));
    }
    let mut found = in_place(archive, file).await?;
    found.extend(others.into_iter().map(|(_, found)| found));
    read(archive, &mut found).await?;
    let right = right(file, digest, &found)?;
    let moving = Moving {
        archive,
        file,
        copying: Copying {
            source: archive,
            target: archive,
            part_bytes: PART_BYTES,
            throttle: None,
            cancel,
        },
    };
    moving.settle(right, &found).await
}

/// The object with the content that is meant; one that has the place already comes first.
fn right<'a>(file: WalFile, digest: &str, found: &'a [Found]) -> Result<&'a Found, Error> {
    let digest_of = |found: &'a Found| found.content.as_ref().map(|content| &content.digest);
    let mut known: Vec<&String> = found.iter().filter_map(digest_of).collect();
    known.sort();
    known.dedup();
    let meant: Vec<&&String> = known
        .iter()
        .filter(|known| known.starts_with(digest))
        .collect();
    let [meant] = meant[..] else {
        return Err(Error::Which {
            file,
            digest: digest.to_owned(),
            known: known
                .iter()
                .map(|known| &known[..12])
                .collect::<Vec<_>>()
                .join(", "),
        });
    };
    let mut right = found.iter().filter(|found| digest_of(found) == Some(meant));
    Ok(right.next().expect("its digest was read of one of them"))
}

/// One file whose contents change places.
struct Moving<'a> {
    archive: &'a Archive,
    file: WalFile,
    copying: Copying<'a>,
}

impl Moving<'_> {
    async fn settle(&self, right: &Found, found: &[Found]) -> Result<Settled, Error> {
        let is_wrong =
            |found: &&Found| found.place == Place::Taken && digest(found) != digest(right);
        let wrong: Vec<&Found> = found.iter().filter(is_wrong).collect();
        let mut aside = Vec::new();
        for wrong in &wrong {
            aside.push(self.put_aside(wrong).await?);
        }
        let now = match right.place {
            Place::Taken => right.meta.key.clone(),
            Place::Aside => self.put_in_place(right, &wrong).await?,
        };
        if right.place == Place::Taken && wrong.is_empty() {
            return Ok(Settled::AsItWas(now));
        }
        // Where it has the place, it needs no other.
        let rest = wrong.iter().copied().chain([right]);
        let rest = rest.map(|found| found.meta.key.clone());
        let rest: Vec<Key> = rest.filter(|key| *key != now).collect();
        for deleted in self.archive.store().delete(&rest).await {
            deleted.outcome.map_err(|source| Error::Remove {
                key: deleted.key,
                now: now.clone(),
                source,
            })?;
        }
        Ok(Settled::Moved { now, aside })
    }

    /// What cannot be read is put aside, too, as what it is: under the digest of nothing.
    async fn put_aside(&self, wrong: &Found) -> Result<Key, Error> {
        let digest =
            digest(wrong).map_or_else(|| "0".repeat(keys::DIGEST_DIGITS), ToOwned::to_owned);
        let collided = OwnObject::Conflict(CollidedWal {
            file: self.file,
            digest,
            compression: wrong.compression,
        });
        let to = self.archive.key(&ObjectKey::Own(collided));
        self.send(wrong, &to, PutMode::Overwrite).await?;
        Ok(to)
    }

    /// Over what is wrong where that has the very same name, so that there is no instant without any.
    async fn put_in_place(&self, right: &Found, wrong: &[&Found]) -> Result<Key, Error> {
        let to = self.archive.key(&ObjectKey::Wal(WalObject {
            file: self.file,
            compression: right.compression,
        }));
        let under = wrong.iter().find(|wrong| wrong.meta.key == to);
        let mode = under.map_or(PutMode::Create, |wrong| {
            PutMode::Replace(wrong.meta.version.clone())
        });
        self.send(right, &to, mode).await?;
        Ok(to)
    }

    async fn send(&self, found: &Found, to: &Key, mode: PutMode) -> Result<(), Error> {
        let route = object::Route::new(&self.copying);
        let sent = match object::send(&route, &found.meta, (to, mode)).await {
            Err(object::Stopped::Store(error)) if error.meaning == Meaning::Unsupported => {
                object::send(&route, &found.meta, (to, PutMode::Overwrite)).await
            }
            sent => sent,
        };
        sent.map_err(|stopped| match stopped {
            object::Stopped::Cancelled => Error::Interrupted,
            object::Stopped::Store(source) => Error::Move {
                key: found.meta.key.clone(),
                to: to.clone(),
                source,
            },
        })
    }
}

fn digest(found: &Found) -> Option<&str> {
    found.content.as_ref().map(|content| &content.digest[..])
}

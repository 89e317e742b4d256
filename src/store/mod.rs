//! Port 1: objects in a destination.
//!
//! [`Store`] is the contract with whoever implements a destination: few methods, option structs, no default methods, so that a
//! decorator that forgets one does not compile. [`StoreExt`] is the contract with whoever uses one. Keys are relative to the
//! destination's URL; its prefix never shows.
//!
//! A store never decides anything: no retention, no schedule, no layout. Requests are retried inside the store and nowhere else.
//!
//! **After a timeout it is not known whether a write happened.** Such an error answers [`Disposition::Unknown`]: look before
//! acting again. For the same reason a conditional write may be refused because of the very object that its own earlier try has
//! written: on [`Meaning::AlreadyExists`] or [`Meaning::Precondition`], compare what is there before calling it somebody else's.
//!
//! [`Disposition::Unknown`]: crate::failure::Disposition::Unknown

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::model::{
    lock::{BucketRetention, Lock},
    time::Timestamp,
};

mod archive;
#[cfg(feature = "azure")]
pub mod azure;
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod batches;
pub mod checksum;
pub mod conformance;
pub mod control;
pub mod directory;
mod error;
mod ext;
pub mod fault;
pub mod fenced;
#[cfg(feature = "gcp")]
pub mod gcs;
pub mod lease;
mod listing;
pub mod memory;
pub mod meter;
mod object;
mod open;
pub mod permission;
pub mod probe;
pub mod read_only;
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod reading;
mod request;
#[cfg(feature = "aws")]
pub mod s3;
#[cfg(test)]
pub(crate) mod scene;
pub mod tenure;

pub use archive::{Archive, ArchiveError, StoredInfo};
pub use error::{Error, Meaning, Operation};
pub use ext::StoreExt;
pub use object::{Checksum, ChecksumAlgorithm, Key, KeyError, ObjectMeta, ObjectVersion};
pub use open::{open, open_location};
pub use request::{
    Deleted, GetOptions, GetRange, Head, Limits, ListPage, ListRequest, PageToken, Part,
    PendingUpload, PutMode, PutOptions, Stored, Tags, UploadId, UploadOptions,
};

/// What this module's operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A store that several owners share.
pub type SharedStore = Arc<dyn Store>;

/// A place that holds objects, from the side of whoever implements it.
///
/// An object is visible whole or not at all, and durable when the call that wrote it returns. Listings are in the order of the
/// keys' bytes and show every object whose write had returned before the listing began. Dropping a future abandons the call: a
/// write may still take effect.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// The URL of the destination, for messages.
    fn location(&self) -> &str;

    /// The bounds of this store.
    fn limits(&self) -> Limits;

    /// Writes one object. `content` is not copied.
    ///
    /// [`Meaning::AlreadyExists`] under [`PutMode::Create`], [`Meaning::Precondition`] under [`PutMode::Replace`] when the
    /// object is absent or another version.
    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored>;

    /// Reads one object or a range of it. [`Meaning::NotFound`] only when the store says that this object is not there: a missing
    /// bucket, a refusal or silence are other meanings.
    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult>;

    /// What the store knows about one object, with its checksum where it has one.
    async fn head(&self, key: &Key) -> Result<Head>;

    /// One page of a listing. Pages may be of any size, also empty with a continuation.
    async fn list(&self, request: ListRequest) -> Result<ListPage>;

    /// Deletes any number of objects, in as few requests as the store allows, and answers for each of them, in the order given.
    /// An object that is not there counts as deleted. Where a bucket keeps versions, the current one is hidden, not destroyed.
    async fn delete(&self, keys: &[Key]) -> Vec<Deleted>;

    /// Whether each of these objects may be destroyed, in the order given, in as few requests as the store allows: none where it
    /// has no locks. An object that is not there is free, and so is one whose retention has passed by the store's clock. What the caller may not see is [`Lock::Unknown`], never free; so
    /// is everything when the store does not answer.
    async fn locks(&self, keys: &[Key]) -> Vec<Lock>;

    /// What the destination does by itself to keep what is written there. What the caller may not see of it is told as unknown
    /// in its place; an error is silence.
    async fn retention(&self) -> Result<BucketRetention>;

    /// Begins an object that is sent in parts. Nothing is visible before [`Upload::complete`].
    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>>;

    /// The uploads below a prefix that were begun and neither completed nor aborted, also those of others. Where the store has
    /// no such listing, [`Meaning::Unsupported`].
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>>;

    /// Ends an upload and frees its parts. One that is not there counts as aborted.
    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()>;

    /// Proves with one reading request that the destination answers, exists and lets itself be read.
    async fn check_reachable(&self) -> Result<()>;

    /// Creates the bucket or directory if it is missing.
    async fn create_destination(&self) -> Result<()>;

    /// The store's clock.
    async fn time(&self) -> Result<Timestamp>;
}

/// An object that is sent in parts.
///
/// Parts are numbered from 1 without gaps, and all but the last are exactly [`UploadOptions::part_bytes`] long: some stores demand
/// it, so all refuse anything else. Dropping an upload leaves its parts in the store: abort it.
#[async_trait]
pub trait Upload: fmt::Debug + Send + Sync {
    /// Its name in the store.
    fn id(&self) -> &UploadId;

    /// Sends one part; any number of them at once, in any order. Sending a number again replaces the part.
    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part>;

    /// Makes the object of the parts, which must be all of them, in order. Fails as [`Store::put`] with the mode that the upload
    /// was begun with.
    async fn complete(&self, parts: Vec<Part>) -> Result<Stored>;

    /// Gives up the object and frees its parts.
    async fn abort(&self) -> Result<()>;
}

/// The bytes of an object, as they arrive.
pub type Body = BoxStream<'static, Result<Bytes>>;

/// An object or a range of it, being read.
pub struct GetResult {
    /// The object that is being read. Its lock is not told.
    pub meta: ObjectMeta,
    /// The bytes that `body` holds, as offsets in the object.
    pub range: std::ops::Range<u64>,
    /// When the store answered, by its own clock.
    pub date: Timestamp,
    /// The bytes. It ends early only with an error, and with [`Meaning::Checksum`] if they are not what was stored.
    pub body: Body,
}

impl fmt::Debug for GetResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GetResult")
            .field("meta", &self.meta)
            .field("range", &self.range)
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

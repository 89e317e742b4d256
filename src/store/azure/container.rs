//! One container, as one client sees it.

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use azure_core::{
    Bytes,
    http::{AsyncRawResponse, Etag, Method, Request, headers::Headers},
};
use azure_storage_blob::models::{BlockBlobClientUploadOptions, BlockBlobClientUploadResult};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::{
    super::{
        Checksum, Error, GetOptions, GetRange, Head, Key, ListPage, ListRequest, Meaning,
        ObjectMeta, Operation, PageToken, PutMode, PutOptions, Result, Stored, Tags,
        batches::Batches,
        reading::{Chunks, Source},
    },
    PAGE_SIZE, answer,
    client::{Connection, ContentMd5},
    failure::{conditional, failed, failed_with},
    lock::Whole,
    page::{self, Page},
};
use crate::{
    failure::chain,
    model::{desired::AzureOptions, time::Timestamp},
};

/// Up to here an object is one request, unless the configuration says otherwise.
const SINGLE_PUT_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: u64 = 8 << 20;
const CONCURRENCY: NonZero<usize> = NonZero::new(4).expect("not zero");

/// A container, or what is below a prefix of it.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) connection: Connection,
    /// With a slash at its end, unless empty.
    pub(super) root: String,
    pub(super) location: Arc<str>,
    pub(super) options: AzureOptions,
    pub(super) batches: Batches,
    /// What was last told of the container as a whole.
    pub(super) whole: Mutex<Option<Whole>>,
    /// Whether the service is known to refuse what not every version and emulator of it knows of listings.
    is_plain: AtomicBool,
}

/// What a listing tells besides names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// The locks; and it begins where it is asked to.
    Locks,
    /// Only what every version and emulator of the service knows.
    Plain,
    /// Also blobs that were never committed.
    Uploads,
    /// The versions of blobs.
    Versions,
}

impl Container {
    pub(super) fn new(
        connection: Connection,
        prefix: &str,
        location: Arc<str>,
        options: &AzureOptions,
    ) -> Self {
        Self {
            connection,
            root: match prefix {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            location,
            options: options.clone(),
            batches: Batches::default(),
            whole: Mutex::new(None),
            is_plain: AtomicBool::new(false),
        }
    }

    /// The name in the container. The service would take a backslash for a slash, and so another object for this one.
    pub(super) fn full(&self, operation: Operation, key: &Key) -> Result<String> {
        let name = format!("{}{key}", self.root);
        if name.contains('\\') {
            let why = "Azure does not tell a backslash from a slash";
            return Err(self
                .problem(Meaning::Unsupported, operation, why)
                .about(key));
        }
        Ok(name)
    }

    /// The key in the destination, of a name in the container.
    pub(super) fn relative(&self, full: &str) -> Option<Key> {
        full.strip_prefix(&self.root).map(Key::verbatim)
    }

    /// Tags as a header holds them: escaped pairs, as in a query, with spaces escaped too.
    pub(super) fn tagging(&self, tags: &Tags) -> Option<String> {
        let tags = match tags {
            Tags::Configured => &self.options.tags,
            Tags::Exactly(tags) => tags,
        };
        let mut url = self.connection.container().url().clone();
        url.query_pairs_mut().clear().extend_pairs(tags);
        let pairs = url.query().unwrap_or_default().replace('+', "%20");
        (!pairs.is_empty()).then_some(pairs)
    }

    pub(super) fn error(&self, operation: Operation, error: &azure_core::Error) -> Error {
        failed(&self.connection, &self.location, operation, error)
    }

    pub(super) fn error_about(
        &self,
        operation: Operation,
        key: &Key,
        error: &azure_core::Error,
    ) -> Error {
        failed_with(&self.connection, &self.location, (operation, key), error)
    }

    /// An error of our own making.
    pub(super) fn problem(&self, meaning: Meaning, operation: Operation, why: &str) -> Error {
        Error::new(meaning, operation, self.location.clone()).because(why)
    }
}

impl Container {
    pub(super) async fn put(
        &self,
        key: &Key,
        content: Bytes,
        options: &PutOptions,
    ) -> Result<Stored> {
        let md5 = ContentMd5::of(&content);
        let length = content.len() as u64;
        let single = self
            .options
            .max_single_put_bytes
            .unwrap_or(SINGLE_PUT_BYTES);
        let block = self.options.max_block_bytes.unwrap_or(BLOCK_BYTES);
        let (if_none_match, if_match) = conditions(&options.mode);
        let mut upload = BlockBlobClientUploadOptions {
            blob_content_md5: Some(md5.digest()),
            blob_tags_string: self.tagging(&options.tags),
            encryption_scope: self.options.encryption_scope.clone(),
            if_match,
            if_none_match,
            parallel: Some(self.options.max_concurrency.unwrap_or(CONCURRENCY)),
            partition_size: NonZero::new(if length <= single { length } else { block }),
            ..BlockBlobClientUploadOptions::default()
        };
        if length <= single {
            upload.method_options = md5.options();
        }
        let client = self.connection.block_blob(&self.full(Operation::Put, key)?);
        let sent = client.upload(content.into(), Some(upload));
        let answer = self
            .connection
            .within(length, sent)
            .await
            .map_err(|error| {
                conditional(self.error_about(Operation::Put, key, &error), &options.mode)
            })?;
        Ok(stored(&answer, &md5))
    }

    pub(super) async fn head(&self, key: &Key) -> Result<Head> {
        let client = self.connection.blob(&self.full(Operation::Head, key)?);
        let answer = self.connection.within(0, client.get_properties(None)).await;
        let answer = answer.map_err(|error| self.error_about(Operation::Head, key, &error))?;
        let headers = answer.headers();
        Ok(Head {
            meta: self.meta(Operation::Head, key, headers)?,
            date: answer::date(headers),
        })
    }

    pub(super) fn meta(
        &self,
        operation: Operation,
        key: &Key,
        headers: &Headers,
    ) -> Result<ObjectMeta> {
        let meta = answer::meta(key, headers).ok_or_else(|| {
            let why = "the service does not tell its length";
            self.problem(Meaning::Other, operation, why).about(key)
        })?;
        Ok(self.with_lock(meta, answer::date(headers)))
    }

    pub(super) async fn get(&self, key: &Key, options: &GetOptions) -> Result<AsyncRawResponse> {
        let name = self.full(Operation::Get, key)?;
        let mut request = self.connection.request(Method::Get, Some(&name));
        if let Some(range) = &options.range {
            request.insert_header("x-ms-range", range_header(range));
        }
        if let Some(version) = &options.version {
            request.insert_header("if-match", version.entity_tag());
        }
        let answer = self.connection.stream(request).await;
        let answer = answer.map_err(|error| self.error_about(Operation::Get, key, &error))?;
        let read = answer::version(answer.headers());
        match &options.version {
            // Not every emulator heeds the condition.
            Some(wanted) if *wanted != read => {
                let why = "it is another version";
                Err(self
                    .problem(Meaning::Precondition, Operation::Get, why)
                    .about(key))
            }
            _ => Ok(answer),
        }
    }

    /// The bytes of an answer. Silence ends it.
    pub(super) fn chunks(&self, answer: AsyncRawResponse) -> Chunks {
        let authorization = self.connection.authorization.clone();
        let limit = self.connection.read_timeout();
        let reading = Some((answer.into_body(), authorization));
        stream::unfold(reading, move |reading| async move {
            let (mut body, authorization) = reading?;
            match timeout(limit, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some((body, authorization)))),
                Ok(Some(Err(error))) => Some((Err(authorization.blot(&chain(&error))), None)),
                Err(_) => Some((Err(format!("silent for {} s", limit.as_secs())), None)),
            }
        })
        .boxed()
    }

    pub(super) async fn create(&self) -> Result<()> {
        let created = self
            .connection
            .within(0, self.connection.container().create(None));
        match created.await {
            Ok(_) => Ok(()),
            Err(error) => match self.error(Operation::CreateDestination, &error) {
                error if error.meaning == Meaning::AlreadyExists => Ok(()),
                error => Err(error),
            },
        }
    }
}

impl Container {
    /// One page of names below a prefix of the destination.
    pub(super) async fn page(
        &self,
        request: &ListRequest,
        telling: Telling,
    ) -> Result<(Page, Timestamp)> {
        let operation = match telling {
            Telling::Locks | Telling::Plain => Operation::List,
            Telling::Uploads => Operation::ListUploads,
            Telling::Versions => Operation::Retention,
        };
        let about = Key::verbatim(request.prefix.clone());
        let answer = self
            .connection
            .send(self.list_request(request, telling))
            .await;
        let answer = answer.map_err(|error| self.error_about(operation, &about, &error))?;
        let page = page::read(answer.body()).map_err(|problem| {
            // Such as a proxy's page.
            self.problem(Meaning::Unreachable, operation, &chain(&problem))
                .about(&about)
        })?;
        Ok((page, answer::date(answer.headers())))
    }

    /// The same, with the locks where the service tells them.
    async fn told_page(&self, request: &ListRequest) -> Result<(Page, Timestamp)> {
        if self.is_plain.load(Ordering::Relaxed) {
            return self.page(request, Telling::Plain).await;
        }
        match self.page(request, Telling::Locks).await {
            Err(error) if error.meaning == Meaning::Unsupported => {
                self.is_plain.store(true, Ordering::Relaxed);
                self.page(request, Telling::Plain).await
            }
            result => result,
        }
    }

    fn list_request(&self, request: &ListRequest, telling: Telling) -> Request {
        let mut sent = self.connection.request(Method::Get, None);
        let limit = request.limit.unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE);
        let mut query = sent.url_mut().query_pairs_mut();
        query
            .append_pair("restype", "container")
            .append_pair("comp", "list")
            .append_pair("maxresults", &limit.to_string());
        let prefix = format!("{}{}", self.root, request.prefix);
        if !prefix.is_empty() {
            query.append_pair("prefix", &prefix);
        }
        if let Some(delimiter) = request.delimiter {
            query.append_pair("delimiter", delimiter.encode_utf8(&mut [0; 4]));
        }
        match telling {
            Telling::Locks => query.append_pair("include", "immutabilitypolicy,legalhold"),
            Telling::Uploads => query.append_pair("include", "uncommittedblobs"),
            Telling::Versions => query.append_pair("include", "versions"),
            Telling::Plain => &mut query,
        };
        match (&request.token, &request.start_after) {
            (Some(PageToken(marker)), _) => {
                query.append_pair("marker", marker);
            }
            // Older services ignore it: what comes before is left out here.
            (None, Some(after))
                if after.starts_with(&request.prefix) && telling == Telling::Locks =>
            {
                query.append_pair("startFrom", &format!("{}{after}", self.root));
            }
            _ => {}
        }
        drop(query);
        sent
    }

    pub(super) async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let (page, date) = self.told_page(request).await?;
        let after = request.start_after.as_deref().unwrap_or_default();
        let objects = page.blobs.iter().filter_map(|blob| {
            let key = self.relative(&blob.name)?;
            let is_after = after.is_empty() || key.as_str() > after;
            let meta = is_after.then(|| blob.meta(key))??;
            Some(self.with_lock(meta, date))
        });
        let prefixes = page
            .prefixes
            .iter()
            .filter_map(|prefix| self.relative(prefix));
        Ok(ListPage {
            objects: objects.collect(),
            prefixes: prefixes.map(|key| key.as_str().to_owned()).collect(),
            next: Some(page.next)
                .filter(|next| !next.is_empty())
                .map(PageToken),
            date,
        })
    }
}

#[async_trait]
impl Source for Arc<Container> {
    fn location(&self) -> &str {
        &self.location
    }

    async fn reopen(&self, key: &Key, options: &GetOptions) -> Result<Chunks> {
        Ok(self.chunks(self.get(key, options).await?))
    }
}

fn stored(answer: &BlockBlobClientUploadResult, md5: &ContentMd5) -> Stored {
    let headers = answer.raw_response.headers();
    Stored {
        version: answer::version(headers),
        checksum: Some(Checksum::of_md5(&md5.digest())),
        date: answer::date(headers),
    }
}

/// `If-None-Match` and `If-Match`.
pub(super) fn conditions(mode: &PutMode) -> (Option<Etag>, Option<Etag>) {
    match mode {
        PutMode::Overwrite => (None, None),
        PutMode::Create => (Some(Etag::from("*")), None),
        PutMode::Replace(version) => (None, Some(Etag::from(version.entity_tag()))),
    }
}

fn range_header(range: &GetRange) -> String {
    match range {
        GetRange::Bounded(range) => {
            format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
        }
        GetRange::From(start) => format!("bytes={start}-"),
    }
}

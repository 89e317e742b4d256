//! One bucket, as one client sees it: single objects and listings, over the JSON interface.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use reqwest::Response;
use serde_json::{Value, json};

use super::{
    super::{
        Checksum, Error, GetOptions, GetRange, Head, Key, ListPage, ListRequest, Meaning,
        ObjectMeta, ObjectVersion, Operation, PageToken, PutMode, PutOptions, Result, Stored, Tags,
        batches::Batches,
    },
    client::{Answer, Client, Request, date},
    components,
    endpoint::Url,
    failure::{conditional, names_object},
    resource::{FIELDS, Page, Resource, downloaded, read},
};
use crate::model::desired::GcsOptions;

const PAGE_SIZE: usize = 1000;
/// What Barman's library calls what it writes.
pub(super) const MEDIA_TYPE: &str = "application/octet-stream";

/// A bucket, or what is below a prefix of it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) name: String,
    /// With a slash at its end, unless empty.
    pub(super) root: String,
    pub(super) options: GcsOptions,
    pub(super) project: Option<String>,
    pub(super) batches: Batches,
    /// What the service turned out not to know.
    pub(super) lacks: Lacks,
}

/// What a service does not know that Google's does.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    pub(super) uploads_in_parts: AtomicBool,
    /// What is read, told with its content.
    pub(super) descriptions: AtomicBool,
}

impl Lacks {
    pub(super) fn note(what: &AtomicBool) {
        what.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_noted(what: &AtomicBool) -> bool {
        what.load(Ordering::Relaxed)
    }
}

impl Bucket {
    /// The name in the bucket.
    pub(super) fn full(&self, key: &Key) -> String {
        format!("{}{key}", self.root)
    }

    /// The key in the destination, of a name in the bucket.
    pub(super) fn relative(&self, full: &str) -> Option<Key> {
        full.strip_prefix(&self.root).map(Key::verbatim)
    }

    pub(super) fn error(&self, meaning: Meaning, operation: Operation) -> Error {
        Error::new(meaning, operation, self.client.location.as_str())
    }

    pub(super) fn metadata<'a>(&'a self, tags: &'a Tags) -> &'a BTreeMap<String, String> {
        match tags {
            Tags::Configured => &self.options.tags,
            Tags::Exactly(tags) => tags,
        }
    }

    /// The parameters of a request that writes an object.
    pub(super) fn writing(&self, url: Url, condition: Option<&str>) -> Url {
        url.with_some("ifGenerationMatch", condition)
            .with_some("kmsKeyName", self.options.kms_key.as_deref())
    }

    /// Sends an object in one piece, under its full name.
    pub(super) async fn send(&self, request: Upload<'_>) -> Result<(Resource, Answer)> {
        let Upload {
            operation,
            key,
            name,
            content,
            condition,
            metadata,
        } = request;
        let checksum = Checksum::of_crc32c(crc32c::crc32c(&content));
        let description = json!({
            "name": name,
            "contentType": MEDIA_TYPE,
            "crc32c": checksum.value,
            "metadata": metadata,
        });
        let url = self
            .client
            .endpoint
            .upload()
            .with("uploadType", "multipart");
        let url = self.writing(url.with("name", name), condition);
        let (media_type, pieces) = related(&description, content);
        let asked = Request::new(operation, Method::POST, url).about(key);
        let answer = self
            .client
            .ask(&asked.with_content(&media_type, pieces))
            .await?;
        let stored = self.understood::<Resource>(operation, &answer)?;
        match stored.checksum() {
            Some(kept) if kept != checksum => {
                let error = self.error(Meaning::Checksum, operation).about(key);
                Err(error.because("what was stored is not what was sent"))
            }
            _ => Ok((stored, answer)),
        }
    }

    pub(super) async fn put(
        &self,
        key: &Key,
        content: Bytes,
        options: &PutOptions,
    ) -> Result<Stored> {
        let condition = self.condition(Operation::Put, key, &options.mode)?;
        let request = Upload {
            operation: Operation::Put,
            key,
            name: &self.full(key),
            content,
            condition: condition.as_deref(),
            metadata: self.metadata(&options.tags),
        };
        let sent = self.send(request).await;
        let (stored, answer) = sent.map_err(|error| conditional(error, &options.mode))?;
        Ok(Stored {
            version: stored.version(),
            checksum: stored.checksum(),
            date: answer.date(),
        })
    }

    /// The generation that must be there; zero stands for none.
    pub(super) fn condition(
        &self,
        operation: Operation,
        key: &Key,
        mode: &PutMode,
    ) -> Result<Option<String>> {
        match mode {
            PutMode::Overwrite => Ok(None),
            PutMode::Create => Ok(Some("0".to_owned())),
            PutMode::Replace(version) => self.generation(operation, key, version).map(Some),
        }
    }

    /// A version as the service numbers them. What is no number is no version of this object.
    fn generation(
        &self,
        operation: Operation,
        key: &Key,
        version: &ObjectVersion,
    ) -> Result<String> {
        match version.0.parse::<u64>() {
            Ok(generation) if generation > 0 => Ok(generation.to_string()),
            _ => {
                let error = self.error(Meaning::Precondition, operation).about(key);
                Err(error.because(format!("`{version}` is no generation")))
            }
        }
    }

    pub(super) async fn head(&self, key: &Key) -> Result<Head> {
        let url = self.client.endpoint.object(&self.full(key));
        let url = url.with("projection", "noAcl").with("fields", FIELDS);
        let request = Request::new(Operation::Head, Method::GET, url).about(key);
        let answer = self.client.ask(&request).await;
        let answer = self.missing(answer, Operation::Head, key).await?;
        let resource: Resource = self.understood(Operation::Head, &answer)?;
        Ok(Head {
            meta: resource.headed(key, answer.date()),
            date: answer.date(),
        })
    }

    /// Where a service does not say whether the object or the bucket is missing, it is asked what only a bucket answers.
    async fn missing<T>(&self, answer: Result<T>, operation: Operation, key: &Key) -> Result<T> {
        match answer {
            Err(error) if error.is_not_found() && !names_object(&error) => {
                Err(match self.page(&first()).await {
                    Err(other) if other.meaning == Meaning::BucketMissing => {
                        other.during(operation).about(key)
                    }
                    _ => error,
                })
            }
            answer => answer,
        }
    }

    /// Begins to read an object, and tells what the service says of it.
    pub(super) async fn get(
        &self,
        key: &Key,
        options: &GetOptions,
    ) -> Result<(ObjectMeta, Response)> {
        let operation = Operation::Get;
        let version = options.version.as_ref();
        let generation = version.map(|version| self.generation(operation, key, version));
        let generation = generation.transpose()?;
        let url = self
            .client
            .endpoint
            .object(&self.full(key))
            .with("alt", "media");
        let url = url.with_some("ifGenerationMatch", generation.as_deref());
        let mut request = Request::new(operation, Method::GET, url).about(key);
        if let Some(range) = &options.range {
            request = request.with_header("range", &range_header(range));
        }
        let (meta, response) = self.opened(key, &request).await?;
        match version {
            // Not every emulator heeds the condition.
            Some(wanted) if *wanted != meta.version => {
                let error = self.error(Meaning::Precondition, operation).about(key);
                Err(error.because("it is another version"))
            }
            _ => Ok((meta, response)),
        }
    }

    /// The beginning of a download, with what is said of the object.
    async fn opened(&self, key: &Key, request: &Request) -> Result<(ObjectMeta, Response)> {
        let lacks = &self.lacks.descriptions;
        if !Lacks::is_noted(lacks) {
            let response = self.client.open(request).await;
            let response = self.missing(response, Operation::Get, key).await?;
            if let Some(meta) = downloaded(key, response.headers()) {
                return Ok((meta, response));
            }
            Lacks::note(lacks);
        }
        // Never beside a download: an emulator may serve one request at a time.
        let head = self.head(key).await;
        let head = head.map_err(|error| error.during(Operation::Get).about(key))?;
        Ok((head.meta, self.client.open(request).await?))
    }

    /// One page, as the service gives it.
    pub(super) async fn page(&self, request: &ListRequest) -> Result<(Page, HeaderMap)> {
        let limit = request.limit.unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE);
        let delimiter = request.delimiter.map(String::from);
        let token = request.token.as_ref().map(|token| token.0.as_str());
        let after = request.start_after.as_ref();
        let offset = after.map(|after| format!("{}{after}", self.root));
        let fields = format!("nextPageToken,prefixes,items({FIELDS})");
        let url = self
            .client
            .endpoint
            .objects()
            .with("prefix", &format!("{}{}", self.root, request.prefix))
            .with("maxResults", &limit.to_string())
            .with("projection", "noAcl")
            .with("fields", &fields)
            .with_some("delimiter", delimiter.as_deref())
            .with_some("startOffset", offset.as_deref())
            .with_some("pageToken", token);
        let asked = Request::new(Operation::List, Method::GET, url);
        let asked = asked.about(&Key::verbatim(request.prefix.as_str()));
        let answer = self.client.ask(&asked).await.map_err(|mut error| {
            // A listing finds nothing only where there is no bucket.
            if error.is_not_found() {
                error.meaning = Meaning::BucketMissing;
            }
            error
        })?;
        let page = self.understood(Operation::List, &answer)?;
        Ok((page, answer.headers))
    }

    pub(super) async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        let (page, headers) = self.page(request).await?;
        let now = date(&headers);
        // The service begins with the key itself, and barkeep's own parts are no objects.
        let is_wanted = |key: &Key| {
            let after = request.start_after.as_deref();
            after.is_none_or(|after| key.as_str() > after)
                && !components::is_part(key.as_str(), &request.prefix)
        };
        let objects = page.items.iter().filter_map(|object| {
            let key = self.relative(&object.name).filter(is_wanted)?;
            Some(object.listed(key, now))
        });
        let prefixes = page.prefixes.iter();
        let prefixes = prefixes.filter_map(|prefix| self.relative(prefix).filter(is_wanted));
        Ok(ListPage {
            objects: objects.collect(),
            prefixes: prefixes.map(|prefix| prefix.as_str().to_owned()).collect(),
            next: page.next_page_token.map(PageToken),
            date: now,
        })
    }

    pub(super) async fn create(&self) -> Result<()> {
        let operation = Operation::CreateDestination;
        let Some(project) = &self.project else {
            let error = self.error(Meaning::Unsupported, operation);
            return Err(error.because("no project is known: set `GOOGLE_CLOUD_PROJECT`"));
        };
        let url = self.client.endpoint.buckets().with("project", project);
        let description = json!({ "name": self.name }).to_string();
        let request = Request::new(operation, Method::POST, url)
            .with_content("application/json", vec![description.into()]);
        match self.client.ask(&request).await {
            Ok(_) => Ok(()),
            // Somebody was faster; whether it is ours to use, whoever looks at it will see.
            Err(error) if error.meaning == Meaning::Precondition => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads an answer, which may be something else than it should be.
    pub(super) fn understood<T>(&self, operation: Operation, answer: &Answer) -> Result<T>
    where
        T: for<'d> serde::Deserialize<'d>,
    {
        read(&answer.body).ok_or_else(|| {
            let error = self.error(Meaning::Unreachable, operation);
            error.because("what answers is not Google Cloud Storage")
        })
    }
}

/// An object that is sent in one piece.
pub(super) struct Upload<'a> {
    pub(super) operation: Operation,
    /// What it is called in messages.
    pub(super) key: &'a Key,
    /// What it is called in the bucket.
    pub(super) name: &'a str,
    pub(super) content: Bytes,
    pub(super) condition: Option<&'a str>,
    pub(super) metadata: &'a BTreeMap<String, String>,
}

/// The least that can be listed.
pub(super) fn first() -> ListRequest {
    ListRequest {
        limit: Some(1),
        ..ListRequest::default()
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

/// A description and its content in one body, which does not copy the content.
fn related(description: &Value, content: Bytes) -> (String, Vec<Bytes>) {
    let boundary = unlikely();
    let head = format!(
        "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{description}\r\n\
         --{boundary}\r\nContent-Type: {MEDIA_TYPE}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let pieces = vec![head.into(), content, tail.into()];
    (format!("multipart/related; boundary={boundary}"), pieces)
}

/// A text that nobody else has made.
pub(super) fn unlikely() -> String {
    // The standard library's hashers are seeded at random, which is all that is needed here.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

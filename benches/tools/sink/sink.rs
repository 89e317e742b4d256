//! `sink ADDRESS`: S3, Azure Blob Storage and Google Cloud Storage in memory, at little cost: a
//! benchmark then measures their clients.
//!
//! On the standard library alone, built with `rustc -O`. A thread serves a connection. Objects keep
//! the buffers that they were received in; nothing is hashed, signed or written to disk, and no
//! signature or checksum is checked. A checksum that was sent is kept and told.
//!
//! One set of buckets serves all three: what a request looks like says which of them is spoken.
//! What each can do is written in `s3.rs`, `azure.rs` and `gcs.rs`.
//!
//! For the benchmarks themselves:
//! - `GET /__stats[?reset]`: requests so far, by kind
//! - `POST /__latency?ms=N`: every later request takes that much longer
//! - `POST /__seed/BUCKET`: a line `KEY<tab>SIZE` makes an object of zeros that takes no memory
//! - `POST /__drop/BUCKET[/PREFIX]`: forgets the objects, so that their memory serves the next run

mod azure;
mod batch;
mod content;
mod gcs;
mod http;
mod s3;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use azure::Blocks;
use content::Content;
use http::{Body, Request, Response};
use text::{http_time, now};

fn main() {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:5750".to_owned());
    let listener = match TcpListener::bind(&address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("sink: cannot listen on {address}: {error}");
            std::process::exit(1);
        }
    };
    // Port 0 takes a free one; whoever started us reads which.
    println!(
        "{}",
        listener
            .local_addr()
            .expect("a bound listener has an address")
    );
    let sink = Arc::new(Sink::default());
    for connection in listener.incoming().flatten() {
        let sink = Arc::clone(&sink);
        // A client that hangs up ends its thread; there is nobody to tell.
        thread::spawn(move || serve(connection, &sink));
    }
}

fn serve(stream: TcpStream, sink: &Sink) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    while let Some(request) = Request::read(&mut reader, &mut writer)? {
        let last = request.header("connection").eq_ignore_ascii_case("close");
        let with_body = request.method != "HEAD";
        sink.delay();
        sink.answer(request).write(&mut writer, with_body)?;
        if last {
            break;
        }
    }
    Ok(())
}

// ---- What is stored ---------------------------------------------------------------------------

#[derive(Default)]
struct Sink {
    buckets: RwLock<HashMap<String, Bucket>>,
    /// In parts, of S3 and of Google's XML interface.
    uploads: Mutex<BTreeMap<String, Upload>>,
    /// Of Google's JSON interface: one chunk after another.
    sessions: Mutex<BTreeMap<String, Upload>>,
    /// Sent to Azure and not committed, by container and blob.
    blocks: Mutex<HashMap<(String, String), Blocks>>,
    requests: Mutex<BTreeMap<String, u64>>,
    latency_ms: AtomicU64,
    numbers: AtomicU64,
}

type Bucket = BTreeMap<String, Object>;

#[derive(Clone)]
struct Object {
    content: Content,
    /// Another for every object that was ever written.
    number: u64,
    modified: u64,
    /// The header line that tells it, such as `x-amz-checksum-crc32: …`.
    checksum: Option<Arc<str>>,
}

struct Upload {
    bucket: String,
    key: String,
    started: u64,
    parts: BTreeMap<u32, Arc<Vec<u8>>>,
}

/// What must be so for an object to be written or deleted.
enum Condition {
    None,
    Absent,
    /// It has this entity tag.
    Is(String),
}

enum Refusal {
    NoBucket,
    Exists,
    Changed,
    Missing,
}

/// What a listing finds.
enum Entry {
    Object(String, Object),
    /// Everything below it, up to the delimiter and with it.
    Folder(String),
}

struct Page {
    entries: Vec<Entry>,
    /// The next page begins behind this.
    more: Option<String>,
}

impl Object {
    /// Not 32 hexadecimal digits: a client would take those for an MD5.
    fn etag(&self) -> String {
        etag_of(self.number)
    }
}

fn etag_of(number: u64) -> String {
    format!("\"sink-{number}\"")
}

impl Condition {
    /// As S3 and Azure ask for it.
    fn of_headers(request: &Request) -> Self {
        match (request.header("if-none-match"), request.header("if-match")) {
            ("*", _) => Self::Absent,
            (_, "") => Self::None,
            (_, etag) => Self::Is(etag.to_owned()),
        }
    }

    fn holds(&self, existing: Option<&Object>) -> Result<(), Refusal> {
        match (self, existing) {
            (Self::Absent, Some(_)) => Err(Refusal::Exists),
            (Self::Is(_), None) => Err(Refusal::Missing),
            (Self::Is(etag), Some(object)) if *etag != object.etag() => Err(Refusal::Changed),
            _ => Ok(()),
        }
    }
}

// ---- What is answered -------------------------------------------------------------------------

impl Sink {
    fn delay(&self) {
        let latency = self.latency_ms.load(Ordering::Relaxed);
        if latency > 0 {
            thread::sleep(Duration::from_millis(latency));
        }
    }

    fn answer(&self, request: Request) -> Response {
        match request.bucket.as_str() {
            "__stats" => return self.stats(&request),
            "__latency" => return self.set_latency(&request),
            "__seed" => return self.seed(&request),
            "__drop" => return self.drop_objects(&request),
            _ => {}
        }
        if !request.header("x-ms-version").is_empty() {
            return self.answer_azure(request);
        }
        match gcs::target(&request.path) {
            Some(target) => self.answer_gcs(&target, request),
            None => self.answer_s3(request),
        }
    }

    fn count(&self, kind: String) {
        let mut requests = self.requests.lock().expect("no panic");
        *requests.entry(kind).or_default() += 1;
    }

    fn has_bucket(&self, name: &str) -> bool {
        self.buckets.read().expect("no panic").contains_key(name)
    }

    fn create_bucket(&self, name: &str) {
        let mut buckets = self.buckets.write().expect("no panic");
        buckets.entry(name.to_owned()).or_default();
    }

    /// Stores an object at the request's place unless the condition forbids it.
    fn store(
        &self,
        request: &Request,
        content: Content,
        checksum: Option<Arc<str>>,
        condition: &Condition,
    ) -> Result<Object, Refusal> {
        let object = Object {
            content,
            number: self.new_number(),
            modified: now(),
            checksum,
        };
        let mut buckets = self.buckets.write().expect("no panic");
        let bucket = buckets.get_mut(&request.bucket).ok_or(Refusal::NoBucket)?;
        condition.holds(bucket.get(&request.key))?;
        bucket.insert(request.key.clone(), object.clone());
        Ok(object)
    }

    fn remove(&self, bucket: &str, key: &str, condition: &Condition) -> Result<(), Refusal> {
        let mut buckets = self.buckets.write().expect("no panic");
        let bucket = buckets.get_mut(bucket).ok_or(Refusal::NoBucket)?;
        condition.holds(bucket.get(key))?;
        bucket.remove(key).map(drop).ok_or(Refusal::Missing)
    }

    fn new_number(&self) -> u64 {
        1 + self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn find(&self, bucket: &str, key: &str) -> Option<Object> {
        self.buckets
            .read()
            .expect("no panic")
            .get(bucket)?
            .get(key)
            .cloned()
    }

    /// An object or a range of it, as all three services send it.
    fn download(&self, request: &Request, object: Object) -> Response {
        let len = object.content.len();
        let range = match request.range(len) {
            Ok(range) => range,
            Err(refusal) => return refusal.header("x-ms-error-code", "InvalidRange"),
        };
        let mut response = Response::empty(if range.is_some() { 206 } else { 200 })
            .header("ETag", &object.etag())
            .header("Last-Modified", &http_time(object.modified))
            .header("Accept-Ranges", "bytes")
            .header("Content-Type", "binary/octet-stream");
        match &range {
            Some(Range { start, end }) => {
                let content_range = format!("bytes {start}-{}/{len}", end - 1);
                response = response.header("Content-Range", &content_range);
            }
            // The checksum is that of the whole.
            None => response = response.line(object.checksum.as_deref()),
        }
        response.body = Body::Object(object.content, range.unwrap_or(0..len));
        response
    }

    /// One page of what begins with the prefix, in order; nothing where there is no bucket.
    fn page(
        &self,
        request: &Request,
        (prefix, delimiter): (&str, &str),
        mut from: Bound<String>,
        page_max: usize,
    ) -> Option<Page> {
        let buckets = self.buckets.read().expect("no panic");
        let bucket = buckets.get(&request.bucket)?;
        let (mut entries, mut last) = (Vec::new(), None);
        loop {
            let begin = match &from {
                Bound::Excluded(after) if after.as_str() >= prefix => Bound::Excluded(&**after),
                Bound::Included(first) if first.as_str() >= prefix => Bound::Included(&**first),
                _ => Bound::Included(prefix),
            };
            let mut next = bucket.range::<str, _>((begin, Bound::Unbounded));
            let Some((key, object)) = next.next().filter(|(key, _)| key.starts_with(prefix)) else {
                return Some(Page {
                    entries,
                    more: None,
                });
            };
            if entries.len() == page_max {
                return Some(Page {
                    entries,
                    more: last,
                });
            }
            let folder = match delimiter {
                "" => None,
                _ => key[prefix.len()..].find(delimiter),
            };
            let passed = if let Some(at) = folder {
                let common = &key[..prefix.len() + at + delimiter.len()];
                entries.push(Entry::Folder(common.to_owned()));
                // The last string there is with this prefix: the rest of the folder is passed over.
                format!("{common}{}", char::MAX)
            } else {
                entries.push(Entry::Object(key.clone(), object.clone()));
                key.clone()
            };
            last = Some(passed.clone());
            from = Bound::Excluded(passed);
        }
    }
}

// ---- For the benchmarks -----------------------------------------------------------------------

impl Sink {
    fn stats(&self, request: &Request) -> Response {
        let mut requests = self.requests.lock().expect("no panic");
        let mut answer = String::new();
        for (kind, count) in requests.iter() {
            let _ = writeln!(answer, "{count}\t{kind}");
        }
        if request.query.contains_key("reset") {
            requests.clear();
        }
        Response::text(answer)
    }

    fn set_latency(&self, request: &Request) -> Response {
        let Ok(latency) = request.query("ms").parse() else {
            return Response::error(400, "InvalidArgument");
        };
        self.latency_ms.store(latency, Ordering::Relaxed);
        Response::empty(200)
    }

    fn drop_objects(&self, request: &Request) -> Response {
        let (bucket, prefix) = request.key.split_once('/').unwrap_or((&request.key, ""));
        if let Some(bucket) = self.buckets.write().expect("no panic").get_mut(bucket) {
            bucket.retain(|key, _| !key.starts_with(prefix));
        }
        Response::empty(200)
    }

    /// All seeded objects share one ETag: what they have in common is that nobody wrote them.
    fn seed(&self, request: &Request) -> Response {
        let (number, modified) = (self.new_number(), now());
        let mut buckets = self.buckets.write().expect("no panic");
        let bucket = buckets.entry(request.key.clone()).or_default();
        for line in String::from_utf8_lossy(&request.body).lines() {
            let Some((key, Ok(size))) = line.split_once('\t').map(|(k, size)| (k, size.parse()))
            else {
                return Response::error(400, "InvalidArgument");
            };
            let object = Object {
                content: Content::Zeros(size),
                number,
                modified,
                checksum: None,
            };
            bucket.insert(key.to_owned(), object);
        }
        Response::empty(200)
    }
}

//! `s3sink ADDRESS`: an S3 store in memory that costs little: a benchmark then measures its client.
//!
//! On the standard library alone, built with `rustc -O`. A thread serves a connection. Objects keep
//! the buffers that they were received in; nothing is hashed, signed or written to disk.
//!
//! Buckets (create, head), objects (put, get with a range, head, copy, delete, delete many),
//! multipart uploads, listings (versions 1 and 2, prefix, delimiter, pages), `If-None-Match: *` and
//! `If-Match` when writing, bodies in chunks (HTTP's and AWS's, with trailing checksums, which are
//! kept and returned). It never checks a signature or checksum; no versions, no locks, no tags.
//!
//! For the benchmarks themselves:
//! - `GET /__stats[?reset]`: requests so far, by kind
//! - `POST /__latency?ms=N`: every later request takes that much longer
//! - `POST /__seed/BUCKET`: a line `KEY<tab>SIZE` makes an object of zeros that takes no memory
//! - `POST /__drop/BUCKET[/PREFIX]`: forgets the objects, so that their memory serves the next run

mod http;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use http::{Body, Request, Response};
use text::unescaped;
use text::{Plus, elements, escaped, http_time, iso_time, now, percent_decoded, percent_encoded};

fn main() {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:5750".to_owned());
    let listener = match TcpListener::bind(&address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("s3sink: cannot listen on {address}: {error}");
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
    uploads: Mutex<BTreeMap<String, Upload>>,
    requests: Mutex<BTreeMap<String, u64>>,
    latency_ms: AtomicU64,
    numbers: AtomicU64,
}

type Bucket = BTreeMap<String, Object>;

#[derive(Clone)]
struct Object {
    content: Content,
    etag: Arc<str>,
    modified: u64,
    /// A header line as it was sent, such as `x-amz-checksum-crc32: …`.
    checksum: Option<Arc<str>>,
}

#[derive(Clone)]
enum Content {
    Parts(Arc<[Arc<Vec<u8>>]>),
    Zeros(usize),
}

struct Upload {
    bucket: String,
    key: String,
    started: u64,
    parts: BTreeMap<u32, Arc<Vec<u8>>>,
}

impl Content {
    fn of(bytes: Vec<u8>) -> Self {
        Self::Parts(Arc::from([Arc::new(bytes)]))
    }

    fn len(&self) -> usize {
        match self {
            Self::Parts(parts) => parts.iter().map(|part| part.len()).sum(),
            Self::Zeros(len) => *len,
        }
    }

    fn write(&self, range: Range<usize>, writer: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Parts(parts) => {
                let mut begin = 0;
                for part in parts.iter() {
                    let from = range.start.clamp(begin, begin + part.len()) - begin;
                    let to = range.end.clamp(begin, begin + part.len()) - begin;
                    writer.write_all(&part[from..to])?;
                    begin += part.len();
                }
                Ok(())
            }
            Self::Zeros(_) => {
                let zeros = io::repeat(0).take(range.len() as u64);
                io::copy(&mut BufReader::with_capacity(1 << 16, zeros), writer).map(|_| ())
            }
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
        *self
            .requests
            .lock()
            .expect("no panic")
            .entry(request.kind())
            .or_default() += 1;
        let on_object = !request.key.is_empty();
        let has = |name: &str| request.query.contains_key(name);
        match (request.method.as_str(), on_object) {
            ("POST", _) if has("delete") => self.delete_many(&request),
            ("PUT", false) => self.create_bucket(request),
            (_, _) if !self.has_bucket(&request.bucket) => Response::error(404, "NoSuchBucket"),
            ("HEAD", false) => Response::empty(200),
            ("GET", false) if has("uploads") => self.list_uploads(&request),
            ("GET", false) if has("location") => Response::xml("<LocationConstraint/>".into()),
            ("GET", false) if has("versioning") => {
                Response::xml("<VersioningConfiguration/>".into())
            }
            ("GET", false) if has("object-lock") => {
                Response::error(404, "ObjectLockConfigurationNotFoundError")
            }
            ("GET", false) => self.list(&request),
            ("POST", true) if has("uploads") => self.start_upload(request),
            ("POST", true) if has("uploadId") => self.complete_upload(request),
            ("PUT", true) if has("partNumber") => self.put_part(request),
            ("DELETE", true) if has("uploadId") => self.abort_upload(&request),
            ("GET", true) if has("tagging") => Response::xml("<Tagging><TagSet/></Tagging>".into()),
            ("GET", true) if has("retention") || has("legal-hold") => {
                Response::error(404, "NoSuchObjectLockConfiguration")
            }
            ("PUT", true) if !request.header("x-amz-copy-source").is_empty() => self.copy(request),
            ("PUT", true) => self.put(request),
            ("GET" | "HEAD", true) => self.get(&request),
            ("DELETE", true) => self.delete(&request),
            _ => Response::error(501, "NotImplemented"),
        }
    }

    fn has_bucket(&self, name: &str) -> bool {
        self.buckets.read().expect("no panic").contains_key(name)
    }

    fn create_bucket(&self, request: Request) -> Response {
        self.buckets
            .write()
            .expect("no panic")
            .entry(request.bucket)
            .or_default();
        Response::empty(200)
    }

    /// Stores an object unless the request's condition forbids it.
    fn store(&self, request: Request, content: Content) -> Result<Object, Response> {
        let object = Object {
            content,
            etag: self.new_etag(),
            modified: now(),
            checksum: request.checksum(),
        };
        let mut buckets = self.buckets.write().expect("no panic");
        let Some(bucket) = buckets.get_mut(&request.bucket) else {
            return Err(Response::error(404, "NoSuchBucket"));
        };
        let existing = bucket.get(&request.key).map(|object| &*object.etag);
        let if_match = request.header("if-match");
        if request.header("if-none-match") == "*" && existing.is_some()
            || !if_match.is_empty() && existing.is_some_and(|etag| etag != if_match)
        {
            return Err(Response::error(412, "PreconditionFailed"));
        }
        if !if_match.is_empty() && existing.is_none() {
            return Err(Response::error(404, "NoSuchKey"));
        }
        bucket.insert(request.key, object.clone());
        Ok(object)
    }

    /// Not 32 hexadecimal digits: a client would take those for an MD5.
    fn new_etag(&self) -> Arc<str> {
        format!("\"sink-{}\"", self.numbers.fetch_add(1, Ordering::Relaxed)).into()
    }

    fn put(&self, mut request: Request) -> Response {
        let content = Content::of(std::mem::take(&mut request.body));
        match self.store(request, content) {
            Ok(object) => Response::empty(200)
                .header("ETag", &object.etag)
                .line(object.checksum.as_deref()),
            Err(refusal) => refusal,
        }
    }

    fn copy(&self, request: Request) -> Response {
        let source = percent_decoded(request.header("x-amz-copy-source"), Plus::IsPlus);
        let Some((bucket, key)) = source.trim_start_matches('/').split_once('/') else {
            return Response::error(400, "InvalidArgument");
        };
        let Some(object) = self.find(bucket, key) else {
            return Response::error(404, "NoSuchKey");
        };
        match self.store(request, object.content) {
            Ok(object) => Response::xml(format!(
                "<CopyObjectResult><ETag>{}</ETag><LastModified>{}</LastModified>\
                 </CopyObjectResult>",
                escaped(&object.etag),
                iso_time(object.modified)
            )),
            Err(refusal) => refusal,
        }
    }

    fn find(&self, bucket: &str, key: &str) -> Option<Object> {
        self.buckets
            .read()
            .expect("no panic")
            .get(bucket)?
            .get(key)
            .cloned()
    }

    fn get(&self, request: &Request) -> Response {
        let Some(object) = self.find(&request.bucket, &request.key) else {
            return Response::error(404, "NoSuchKey");
        };
        let len = object.content.len();
        let range = match request.range(len) {
            Ok(range) => range,
            Err(refusal) => return refusal,
        };
        let mut response = Response::empty(if range.is_some() { 206 } else { 200 })
            .header("ETag", &object.etag)
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

    fn delete(&self, request: &Request) -> Response {
        let mut buckets = self.buckets.write().expect("no panic");
        if let Some(bucket) = buckets.get_mut(&request.bucket) {
            bucket.remove(&request.key);
        }
        Response::empty(204)
    }

    fn delete_many(&self, request: &Request) -> Response {
        let text = String::from_utf8_lossy(&request.body);
        let quiet = text.contains("<Quiet>true</Quiet>");
        let mut answer = String::from("<DeleteResult>");
        let mut buckets = self.buckets.write().expect("no panic");
        let Some(bucket) = buckets.get_mut(&request.bucket) else {
            return Response::error(404, "NoSuchBucket");
        };
        for key in elements(&text, "Key") {
            bucket.remove(&unescaped(key));
            if !quiet {
                let _ = write!(answer, "<Deleted><Key>{key}</Key></Deleted>");
            }
        }
        answer += "</DeleteResult>";
        Response::xml(answer)
    }
}

// ---- Multipart uploads ------------------------------------------------------------------------

impl Sink {
    fn start_upload(&self, request: Request) -> Response {
        let id = format!("upload-{}", self.numbers.fetch_add(1, Ordering::Relaxed));
        let answer = format!(
            "<InitiateMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key>\
             <UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            request.bucket,
            escaped(&request.key)
        );
        let upload = Upload {
            bucket: request.bucket,
            key: request.key,
            started: now(),
            parts: BTreeMap::new(),
        };
        self.uploads.lock().expect("no panic").insert(id, upload);
        Response::xml(answer)
    }

    fn put_part(&self, request: Request) -> Response {
        let Ok(number) = request.query("partNumber").parse() else {
            return Response::error(400, "InvalidArgument");
        };
        let checksum = request.checksum();
        match self
            .uploads
            .lock()
            .expect("no panic")
            .get_mut(request.query("uploadId"))
        {
            Some(upload) => upload.parts.insert(number, Arc::new(request.body)),
            None => return Response::error(404, "NoSuchUpload"),
        };
        Response::empty(200)
            .header("ETag", &self.new_etag())
            .line(checksum.as_deref())
    }

    fn complete_upload(&self, request: Request) -> Response {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let id = request.query("uploadId").to_owned();
        let content = {
            let uploads = self.uploads.lock().expect("no panic");
            let Some(upload) = uploads.get(&id) else {
                return Response::error(404, "NoSuchUpload");
            };
            let part = |number: &str| upload.parts.get(&number.trim().parse().ok()?).cloned();
            match elements(&text, "PartNumber")
                .map(part)
                .collect::<Option<Vec<_>>>()
            {
                Some(parts) => Content::Parts(parts.into()),
                None => return Response::error(400, "InvalidPart"),
            }
        };
        let place = format!(
            "<Bucket>{}</Bucket><Key>{}</Key>",
            request.bucket,
            escaped(&request.key)
        );
        match self.store(request, content) {
            Ok(object) => {
                self.uploads.lock().expect("no panic").remove(&id);
                let etag = escaped(&object.etag);
                Response::xml(format!(
                    "<CompleteMultipartUploadResult>{place}<ETag>{etag}</ETag>\
                     </CompleteMultipartUploadResult>"
                ))
            }
            Err(refusal) => refusal,
        }
    }

    fn abort_upload(&self, request: &Request) -> Response {
        let removed = self
            .uploads
            .lock()
            .expect("no panic")
            .remove(request.query("uploadId"));
        if removed.is_some() {
            Response::empty(204)
        } else {
            Response::error(404, "NoSuchUpload")
        }
    }

    fn list_uploads(&self, request: &Request) -> Response {
        let mut answer =
            String::from("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>");
        for (id, upload) in self.uploads.lock().expect("no panic").iter() {
            if upload.bucket == request.bucket && upload.key.starts_with(request.query("prefix")) {
                let _ = write!(
                    answer,
                    "<Upload><Key>{}</Key><UploadId>{id}</UploadId><Initiated>{}</Initiated>\
                     </Upload>",
                    escaped(&upload.key),
                    iso_time(upload.started)
                );
            }
        }
        answer += "</ListMultipartUploadsResult>";
        Response::xml(answer)
    }
}

// ---- Listings ---------------------------------------------------------------------------------

impl Sink {
    fn list(&self, request: &Request) -> Response {
        let page_max = request.query("max-keys").parse().unwrap_or(1000).min(1000);
        let (prefix, delimiter) = (request.query("prefix"), request.query("delimiter"));
        let encode = match request.query("encoding-type") {
            "url" => percent_encoded,
            _ => escaped,
        };
        let buckets = self.buckets.read().expect("no panic");
        let Some(bucket) = buckets.get(&request.bucket) else {
            return Response::error(404, "NoSuchBucket");
        };
        let mut entries = String::new();
        let mut count = 0;
        let mut after = request.listing_starts_after();
        let mut more = None;
        loop {
            let from = match &after {
                Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
                _ => Bound::Included(prefix),
            };
            let mut next = bucket.range::<str, _>((from, Bound::Unbounded));
            let Some((key, object)) = next.next().filter(|(key, _)| key.starts_with(prefix)) else {
                break;
            };
            if count == page_max {
                more = after;
                break;
            }
            count += 1;
            let folder = match delimiter {
                "" => None,
                _ => key[prefix.len()..].find(delimiter),
            };
            after = Some(if let Some(at) = folder {
                let common = &key[..prefix.len() + at + delimiter.len()];
                let _ = write!(
                    entries,
                    "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                    encode(common)
                );
                // The last string there is with this prefix: the rest of the folder is passed over.
                format!("{common}{}", char::MAX)
            } else {
                entries += &listed(&encode(key), object);
                key.clone()
            });
        }
        let marker = match (&more, request.query("list-type")) {
            (None, _) => String::new(),
            (Some(last), "2") => {
                format!(
                    "<NextContinuationToken>{}</NextContinuationToken>",
                    percent_encoded(last)
                )
            }
            (Some(last), _) => format!("<NextMarker>{}</NextMarker>", encode(last)),
        };
        let encoding = match request.query("encoding-type") {
            "url" => "<EncodingType>url</EncodingType>",
            _ => "",
        };
        Response::xml(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Name>{}</Name><Prefix>{}</Prefix>\
             <KeyCount>{count}</KeyCount><MaxKeys>{page_max}</MaxKeys>\
             <IsTruncated>{}</IsTruncated>{marker}{encoding}{entries}</ListBucketResult>",
            request.bucket,
            encode(prefix),
            more.is_some(),
        ))
    }
}

/// An object as a listing shows it.
fn listed(key: &str, object: &Object) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{}</ETag>\
         <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
        iso_time(object.modified),
        escaped(&object.etag),
        object.content.len()
    )
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
        let (etag, modified) = (self.new_etag(), now());
        let mut buckets = self.buckets.write().expect("no panic");
        let bucket = buckets.entry(request.key.clone()).or_default();
        for line in String::from_utf8_lossy(&request.body).lines() {
            let Some((key, Ok(size))) = line.split_once('\t').map(|(k, size)| (k, size.parse()))
            else {
                return Response::error(400, "InvalidArgument");
            };
            let etag = Arc::clone(&etag);
            let object = Object {
                content: Content::Zeros(size),
                etag,
                modified,
                checksum: None,
            };
            bucket.insert(key.to_owned(), object);
        }
        Response::empty(200)
    }
}

//! The JSON interface of Google Cloud Storage. Its XML interface is served as S3's.
//!
//! Buckets (create, get), objects (upload in one request, plain or with a description, and
//! resumable; get with a range, describe, delete, delete in a batch, compose), listings (prefix,
//! delimiter, first name, pages), conditions on the generation. No versions, no holds, no metadata
//! of one's own.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::content::Content;
use crate::http::{Request, Response};
use crate::text::{Plus, iso_time, now, percent_decoded, percent_encoded, quoted, strings};
use crate::{Condition, Entry, Object, Page, Refusal, Sink, Upload, batch, etag_of};

const PAGE_MAX: usize = 1000;
const INTERFACE: &str = "storage/v1";

/// What a path of this interface names.
pub struct Target {
    is_batch: bool,
    is_upload: bool,
    /// Behind the interface's own; a slash of a name is none between them.
    segments: Vec<String>,
}

/// None for the path of another interface.
pub fn target(path: &str) -> Option<Target> {
    let path = path.trim_start_matches('/');
    let (before, rest) = path.split_once(INTERFACE)?;
    if !["", "upload/", "download/", "batch/"].contains(&before) {
        return None;
    }
    let segments = rest.trim_start_matches('/').split('/');
    Some(Target {
        is_batch: before == "batch/",
        is_upload: before == "upload/",
        segments: segments
            .map(|segment| percent_decoded(segment, Plus::IsPlus))
            .collect(),
    })
}

// ---- What is answered -------------------------------------------------------------------------

impl Sink {
    pub fn answer_gcs(&self, target: &Target, request: Request) -> Response {
        if target.is_batch {
            self.count("POST batch".to_owned());
            return self.answer_each(&request);
        }
        let segments: Vec<&str> = target.segments.iter().map(String::as_str).collect();
        let (bucket, name) = match segments.as_slice() {
            ["b", bucket, "o", name, ..] => (*bucket, *name),
            ["b", bucket, ..] => (*bucket, ""),
            _ => ("", ""),
        };
        let request = request.at(bucket, name);
        self.count(kind(target, &request));
        let composes = segments.get(4) == Some(&"compose");
        match (request.method.as_str(), bucket, name) {
            ("POST", "", _) => self.insert_bucket(&request),
            (_, "", _) => refusal(501, "not one of its calls"),
            (_, _, _) if !self.has_bucket(bucket) => refused(&request, &Refusal::NoBucket),
            (_, _, "") if target.is_upload => self.upload(request),
            ("GET", _, "") if segments.len() == 2 => Response::json(described_bucket(bucket)),
            ("GET", _, "") => self.list_gcs(&request),
            ("POST", _, _) if composes => self.compose(&request),
            ("GET", _, _) if request.query("alt") == "media" => self.get_media(&request),
            ("GET", _, _) => self.describe(&request),
            ("DELETE", _, _) => self.delete_gcs(&request),
            _ => refusal(501, "not one of its calls"),
        }
    }

    fn insert_bucket(&self, request: &Request) -> Response {
        let text = String::from_utf8_lossy(&request.body);
        let Some(name) = strings(&text, "name").next() else {
            return refusal(400, "Required");
        };
        if self.has_bucket(&name) {
            return refusal(409, "You already own it.");
        }
        self.create_bucket(&name);
        Response::json(described_bucket(&name))
    }

    fn get_media(&self, request: &Request) -> Response {
        let Some(object) = self.find(&request.bucket, &request.key) else {
            return refused(request, &Refusal::Missing);
        };
        if let Err(why) = condition(request).holds(Some(&object)) {
            return refused(request, &why);
        }
        let length = object.content.len().to_string();
        let generation = object.number.to_string();
        self.download(request, object)
            .header("x-goog-generation", &generation)
            .header("x-goog-metageneration", "1")
            .header("x-goog-stored-content-encoding", "identity")
            .header("x-goog-stored-content-length", &length)
    }

    fn describe(&self, request: &Request) -> Response {
        match self.find(&request.bucket, &request.key) {
            Some(object) => Response::json(described(&request.bucket, &request.key, &object)),
            None => refused(request, &Refusal::Missing),
        }
    }

    fn delete_gcs(&self, request: &Request) -> Response {
        match self.remove(&request.bucket, &request.key, &condition(request)) {
            Ok(()) => Response::empty(204),
            Err(why) => refused(request, &why),
        }
    }

    /// Deletes only: nobody packs anything else.
    fn answer_each(&self, request: &Request) -> Response {
        let answers = batch::parts(request).into_iter().map(|part| {
            // Google's client for Python sends the whole URL.
            let at = part.target.find("/storage/").unwrap_or_default();
            let path = part.target[at..].split('?').next().unwrap_or_default();
            let segments = target(path).map_or_else(Vec::new, |target| target.segments);
            let answer = match segments.as_slice() {
                [_, bucket, _, name] if part.method == "DELETE" => {
                    match self.remove(bucket, name, &Condition::None) {
                        Ok(()) => Response::empty(204),
                        Err(_) => refusal(404, &format!("No such object: {bucket}/{name}")),
                    }
                }
                _ => refusal(501, "not one of its calls"),
            };
            let id = part.id.trim_matches(['<', '>']);
            (format!("<response-{id}>"), answer)
        });
        batch::response(200, answers)
    }
}

// ---- Uploads ----------------------------------------------------------------------------------

impl Sink {
    fn upload(&self, mut request: Request) -> Response {
        match request.query("uploadType") {
            _ if request.query.contains_key("upload_id") => self.go_on(request),
            "resumable" => self.begin(request),
            "multipart" => match related(&mut request) {
                Some((description, content)) => self.insert(request, &description, content),
                None => refusal(400, "badContent"),
            },
            _ => {
                let content = std::mem::take(&mut request.body);
                self.insert(request, "", content)
            }
        }
    }

    fn insert(&self, request: Request, description: &str, content: Vec<u8>) -> Response {
        let checksum = checksum(&request, description);
        let name = name(&request, description);
        let bucket = request.bucket.clone();
        self.write(&request.at(&bucket, &name), Content::of(content), checksum)
    }

    fn write(&self, request: &Request, content: Content, checksum: Option<Arc<str>>) -> Response {
        match self.store(request, content, checksum, &condition(request)) {
            Ok(object) => Response::json(described(&request.bucket, &request.key, &object)),
            Err(why) => refused(request, &why),
        }
    }

    fn begin(&self, request: Request) -> Response {
        let id = format!("session-{}", self.new_number());
        let place = format!(
            "http://{}{}?{}&upload_id={id}",
            request.header("host"),
            request.path,
            request.parameters
        );
        let upload = Upload {
            key: name(&request, &String::from_utf8_lossy(&request.body)),
            bucket: request.bucket,
            started: now(),
            parts: BTreeMap::new(),
        };
        self.sessions.lock().expect("no panic").insert(id, upload);
        Response::empty(200).header("Location", &place)
    }

    /// One more chunk: `bytes 0-9/*`, of the last one `bytes 10-14/15`, or `bytes */0`. No chunk
    /// comes twice.
    fn go_on(&self, mut request: Request) -> Response {
        let id = request.query("upload_id").to_owned();
        let mut sessions = self.sessions.lock().expect("no panic");
        let Some(upload) = sessions.get_mut(&id) else {
            return refusal(404, "No such upload");
        };
        if request.method == "DELETE" {
            sessions.remove(&id);
            return Response::empty(499);
        }
        let number = upload.parts.len() as u32;
        let chunk = Arc::new(std::mem::take(&mut request.body));
        upload.parts.insert(number, chunk);
        let len: usize = upload.parts.values().map(|part| part.len()).sum();
        let range = request.header("content-range");
        let (_, total) = range.rsplit_once('/').unwrap_or_default();
        if !range.is_empty() && total.parse() != Ok(len) {
            let last = len.saturating_sub(1);
            return Response::empty(308).header("Range", &format!("bytes=0-{last}"));
        }
        let upload = sessions.remove(&id).expect("it was there");
        drop(sessions);
        let checksum = checksum(&request, "");
        let content = Content::Parts(upload.parts.into_values().collect());
        self.write(&request.at(&upload.bucket, &upload.key), content, checksum)
    }

    fn compose(&self, request: &Request) -> Response {
        let text = String::from_utf8_lossy(&request.body);
        let sources = text.split_once("\"sourceObjects\"").unwrap_or_default().1;
        let sources = sources.split(']').next().unwrap_or_default();
        let mut parts = Vec::new();
        for name in strings(sources, "name") {
            match self.find(&request.bucket, &name).map(|it| it.content) {
                Some(Content::Parts(more)) => parts.extend(more.iter().cloned()),
                _ => return refusal(404, "Object not found."),
            }
        }
        self.write(request, Content::Parts(parts.into()), None)
    }
}

/// The description and the content of `multipart/related`. The content keeps its buffer.
fn related(request: &mut Request) -> Option<(String, Vec<u8>)> {
    let boundary = batch::boundary(request);
    let mut body = std::mem::take(&mut request.body);
    let end = last(&body, format!("\r\n{boundary}--").as_bytes())?;
    body.truncate(end);
    let head = &body[..body.len().min(1 << 16)];
    let blank = |from: usize| Some(from + first(&head[from..], b"\r\n\r\n")? + 4);
    let described = blank(0)?;
    let next = described + first(&head[described..], boundary.as_bytes())?;
    let description = String::from_utf8_lossy(&head[described..next]).into_owned();
    let begin = blank(next)?;
    body.drain(..begin);
    Some((description, body))
}

fn first(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|it| it == wanted)
}

fn last(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|it| it == wanted)
}

fn name(request: &Request, description: &str) -> String {
    match request.query("name") {
        "" => strings(description, "name").next().unwrap_or_default(),
        name => name.to_owned(),
    }
}

fn checksum(request: &Request, description: &str) -> Option<Arc<str>> {
    let header = request.header("x-goog-hash");
    let hashes = header.split(',').map(str::trim);
    let sent = hashes
        .filter_map(|hash| hash.strip_prefix("crc32c="))
        .map(str::to_owned)
        .next();
    let crc32c = sent.or_else(|| strings(description, "crc32c").next())?;
    Some(format!("x-goog-hash: crc32c={crc32c}\r\n").into())
}

// ---- Listings ---------------------------------------------------------------------------------

impl Sink {
    fn list_gcs(&self, request: &Request) -> Response {
        let page_max = request.query("maxResults").parse().unwrap_or(PAGE_MAX);
        let (prefix, delimiter) = (request.query("prefix"), request.query("delimiter"));
        let from = match (request.query("pageToken"), request.query("startOffset")) {
            ("", "") => Bound::Unbounded,
            ("", first) => Bound::Included(first.to_owned()),
            (token, _) => Bound::Excluded(percent_decoded(token, Plus::IsPlus)),
        };
        let page_max = page_max.clamp(1, PAGE_MAX);
        let Some(Page { entries, more }) = self.page(request, (prefix, delimiter), from, page_max)
        else {
            return refused(request, &Refusal::NoBucket);
        };
        let (mut items, mut prefixes) = (Vec::new(), Vec::new());
        for entry in &entries {
            match entry {
                Entry::Object(name, object) => items.push(described(&request.bucket, name, object)),
                Entry::Folder(name) => prefixes.push(quoted(name)),
            }
        }
        let mut page = String::from("{\"kind\": \"storage#objects\"");
        for (field, values) in [("items", items), ("prefixes", prefixes)] {
            if !values.is_empty() {
                page += &format!(", \"{field}\": [{}]", values.join(", "));
            }
        }
        if let Some(more) = more {
            page += &format!(", \"nextPageToken\": {}", quoted(&percent_encoded(&more)));
        }
        Response::json(page + "}")
    }
}

// ---- Words ------------------------------------------------------------------------------------

fn described_bucket(name: &str) -> String {
    let name = quoted(name);
    format!(
        "{{\"kind\": \"storage#bucket\", \"id\": {name}, \"name\": {name}, \"location\": \"US\", \
         \"storageClass\": \"STANDARD\"}}"
    )
}

fn described(bucket: &str, name: &str, object: &Object) -> String {
    let (time, generation) = (iso_time(object.modified), object.number);
    let line = object.checksum.as_deref().unwrap_or_default();
    let crc32c = match line.trim_end().strip_prefix("x-goog-hash: crc32c=") {
        Some(crc32c) => format!(", \"crc32c\": \"{crc32c}\""),
        None => String::new(),
    };
    format!(
        "{{\"kind\": \"storage#object\", \"bucket\": {}, \"name\": {}, \"size\": \"{}\", \
         \"generation\": \"{generation}\", \"metageneration\": \"1\", \"timeCreated\": \"{time}\", \
         \"updated\": \"{time}\", \"storageClass\": \"STANDARD\", \
         \"contentType\": \"application/octet-stream\"{crc32c}}}",
        quoted(bucket),
        quoted(name),
        object.content.len()
    )
}

fn condition(request: &Request) -> Condition {
    match request.query("ifGenerationMatch").parse() {
        Ok(0) => Condition::Absent,
        Ok(generation) => Condition::Is(etag_of(generation)),
        Err(_) => Condition::None,
    }
}

fn refused(request: &Request, why: &Refusal) -> Response {
    match why {
        Refusal::NoBucket => refusal(404, "The specified bucket does not exist."),
        Refusal::Missing => {
            let (bucket, name) = (&request.bucket, &request.key);
            refusal(404, &format!("No such object: {bucket}/{name}"))
        }
        Refusal::Exists | Refusal::Changed => refusal(412, "conditionNotMet"),
    }
}

fn refusal(status: u16, message: &str) -> Response {
    let message = quoted(message);
    Response::json(format!(
        "{{\"error\": {{\"code\": {status}, \"message\": {message}, \
         \"errors\": [{{\"message\": {message}, \"domain\": \"global\"}}]}}}}"
    ))
    .status(status)
}

/// What the request counts as in the statistics.
fn kind(target: &Target, request: &Request) -> String {
    let on = match (target.is_upload, target.segments.len()) {
        (true, _) => "upload",
        (_, ..=2) => "bucket",
        (_, 3) => "listing",
        _ => "object",
    };
    match request.query("alt") {
        "media" => format!("{} {on} ?alt=media", request.method),
        _ => format!("{} {on}", request.method),
    }
}

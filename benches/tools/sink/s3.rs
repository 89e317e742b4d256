//! S3, and as much of Google's XML interface, which is S3's in other words.
//!
//! Buckets (create, head), objects (put, get with a range, head, copy, delete, delete many),
//! multipart uploads, listings (versions 1 and 2, prefix, delimiter, pages), `If-None-Match: *` and
//! `If-Match` when writing, bodies in chunks (HTTP's and AWS's, with trailing checksums, which are
//! kept and returned). No versions, no locks, no tags.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

use crate::content::Content;
use crate::http::{Request, Response};
use crate::text::{
    Plus, elements, escaped, iso_time, now, percent_decoded, percent_encoded, unescaped,
};
use crate::{Condition, Entry, Object, Page, Refusal, Sink, Upload, etag_of};

// ---- What is answered -------------------------------------------------------------------------

impl Sink {
    pub fn answer_s3(&self, request: Request) -> Response {
        self.count(kind(&request));
        let on_object = !request.key.is_empty();
        let has = |name: &str| request.query.contains_key(name);
        match (request.method.as_str(), on_object) {
            ("POST", _) if has("delete") => self.delete_many(&request),
            ("PUT", false) => self.make_bucket(&request),
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
            ("GET", false) => self.list_s3(&request),
            ("POST", true) if has("uploads") => self.start_upload(request),
            ("POST", true) if has("uploadId") => self.complete_upload(&request),
            ("PUT", true) if has("partNumber") => self.put_part(request),
            ("DELETE", true) if has("uploadId") => self.abort_upload(&request),
            ("GET", true) if has("tagging") => Response::xml("<Tagging><TagSet/></Tagging>".into()),
            ("GET", true) if has("retention") || has("legal-hold") => {
                Response::error(404, "NoSuchObjectLockConfiguration")
            }
            ("PUT", true) if !request.header("x-amz-copy-source").is_empty() => self.copy(&request),
            ("PUT", true) => self.put(request),
            ("GET" | "HEAD", true) => self.get(&request),
            ("DELETE", true) => self.delete(&request),
            _ => Response::error(501, "NotImplemented"),
        }
    }

    fn make_bucket(&self, request: &Request) -> Response {
        self.create_bucket(&request.bucket);
        Response::empty(200)
    }

    fn copy(&self, request: &Request) -> Response {
        let source = percent_decoded(request.header("x-amz-copy-source"), Plus::IsPlus);
        let Some((bucket, key)) = source.trim_start_matches('/').split_once('/') else {
            return Response::error(400, "InvalidArgument");
        };
        let Some(object) = self.find(bucket, key) else {
            return Response::error(404, "NoSuchKey");
        };
        match self.stored(request, object.content) {
            Ok(object) => Response::xml(format!(
                "<CopyObjectResult><ETag>{}</ETag><LastModified>{}</LastModified>\
                 </CopyObjectResult>",
                escaped(&object.etag()),
                iso_time(object.modified)
            )),
            Err(refusal) => refusal,
        }
    }

    fn stored(&self, request: &Request, content: Content) -> Result<Object, Response> {
        let condition = Condition::of_headers(request);
        self.store(request, content, checksum(request), &condition)
            .map_err(|refusal| match refusal {
                Refusal::NoBucket => Response::error(404, "NoSuchBucket"),
                Refusal::Missing => Response::error(404, "NoSuchKey"),
                Refusal::Exists | Refusal::Changed => Response::error(412, "PreconditionFailed"),
            })
    }

    fn put(&self, mut request: Request) -> Response {
        let content = Content::of(std::mem::take(&mut request.body));
        match self.stored(&request, content) {
            Ok(object) => Response::empty(200)
                .header("ETag", &object.etag())
                .line(object.checksum.as_deref()),
            Err(refusal) => refusal,
        }
    }

    fn get(&self, request: &Request) -> Response {
        match self.find(&request.bucket, &request.key) {
            Some(object) => self.download(request, object),
            None => Response::error(404, "NoSuchKey"),
        }
    }

    fn delete(&self, request: &Request) -> Response {
        // What is not there is deleted already.
        let _ = self.remove(&request.bucket, &request.key, &Condition::None);
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
        let id = format!("upload-{}", self.new_number());
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
        let checksum = checksum(&request);
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
            .header("ETag", &etag_of(self.new_number()))
            .line(checksum.as_deref())
    }

    fn complete_upload(&self, request: &Request) -> Response {
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
        match self.stored(request, content) {
            Ok(object) => {
                self.uploads.lock().expect("no panic").remove(&id);
                let etag = escaped(&object.etag());
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
    fn list_s3(&self, request: &Request) -> Response {
        let page_max = request.query("max-keys").parse().unwrap_or(1000).min(1000);
        let (prefix, delimiter) = (request.query("prefix"), request.query("delimiter"));
        let encode = match request.query("encoding-type") {
            "url" => percent_encoded,
            _ => escaped,
        };
        let from = match listing_starts_after(request) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let Some(Page { entries, more }) = self.page(request, (prefix, delimiter), from, page_max)
        else {
            return Response::error(404, "NoSuchBucket");
        };
        let count = entries.len();
        let entries: String = entries.iter().map(|entry| listed(entry, encode)).collect();
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

/// An entry as a listing shows it.
fn listed(entry: &Entry, encode: fn(&str) -> String) -> String {
    match entry {
        Entry::Folder(name) => format!(
            "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
            encode(name)
        ),
        Entry::Object(key, object) => format!(
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag>\
             <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            encode(key),
            iso_time(object.modified),
            escaped(&object.etag()),
            object.content.len()
        ),
    }
}

fn listing_starts_after(request: &Request) -> Option<String> {
    let token = request.query("continuation-token");
    if !token.is_empty() {
        return Some(percent_decoded(token, Plus::IsPlus));
    }
    [request.query("start-after"), request.query("marker")]
        .into_iter()
        .find(|after| !after.is_empty())
        .map(str::to_owned)
}

/// What the request counts as in the statistics.
fn kind(request: &Request) -> String {
    const TELLING: [&str; 9] = [
        "uploads",
        "partNumber",
        "uploadId",
        "delete",
        "list-type",
        "versioning",
        "object-lock",
        "retention",
        "tagging",
    ];
    let on = if request.key.is_empty() {
        "bucket"
    } else {
        "object"
    };
    match TELLING
        .into_iter()
        .find(|name| request.query.contains_key(*name))
    {
        Some(name) => format!("{} {on} ?{name}", request.method),
        None => format!("{} {on}", request.method),
    }
}

/// The line that returns a checksum as it was sent, in the header or behind the body.
fn checksum(request: &Request) -> Option<Arc<str>> {
    const ALGORITHMS: [&str; 5] = ["crc64nvme", "crc32c", "crc32", "sha256", "sha1"];
    ALGORITHMS.into_iter().find_map(|algorithm| {
        let name = format!("x-amz-checksum-{algorithm}");
        let value = request.headers.get(&name)?;
        Some(format!("{name}: {value}\r\nx-amz-checksum-type: FULL_OBJECT\r\n").into())
    })
}

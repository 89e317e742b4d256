//! Azure Blob Storage. The account is the first component of the path, as with an emulator.
//!
//! Containers (create, properties), blobs (put, get with a range, properties, delete one or a
//! batch), blocks (put, commit, list what is not committed), listings (prefix, delimiter, markers),
//! conditions on entity tags when writing and deleting. What is not committed is not listed. No
//! snapshots, versions, leases, tags, tiers or policies.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

use crate::batch;
use crate::content::Content;
use crate::http::{Request, Response};
use crate::text::{Plus, elements, escaped, http_time, now, percent_decoded, percent_encoded};
use crate::{Condition, Entry, Object, Page, Refusal, Sink, etag_of};

/// By identifier, as it is in addresses: in base64.
pub type Blocks = HashMap<String, Arc<Vec<u8>>>;

const PAGE_MAX: usize = 5000;

// ---- What is answered -------------------------------------------------------------------------

impl Sink {
    /// Here a bucket is called a container, and lies in an account.
    pub fn answer_azure(&self, request: Request) -> Response {
        let place = request.key.clone();
        let (container, blob) = place.split_once('/').unwrap_or((&place, ""));
        let account = request.bucket.clone();
        let request = request.at(container, blob);
        self.count(kind(&request));
        self.about_container(&account, request)
            .header("x-ms-version", "2026-02-06")
            .header("x-ms-request-id", "sink")
    }

    fn about_container(&self, account: &str, request: Request) -> Response {
        let comp = request.query("comp").to_owned();
        let on_blob = !request.key.is_empty();
        match (request.method.as_str(), on_blob, comp.as_str()) {
            ("POST", false, "batch") => self.delete_batch(account, &request),
            ("GET", false, "properties") => Response::xml(
                "<StorageServiceProperties><DeleteRetentionPolicy><Enabled>false</Enabled>\
                 </DeleteRetentionPolicy></StorageServiceProperties>"
                    .into(),
            ),
            ("PUT", false, "") => self.create_container(&request),
            (_, _, _) if !self.has_bucket(&request.bucket) => refused(&Refusal::NoBucket),
            ("GET" | "HEAD", false, "") => Response::empty(200)
                .header("ETag", &etag_of(0))
                .header("Last-Modified", &http_time(now()))
                .header("x-ms-has-immutability-policy", "false")
                .header("x-ms-has-legal-hold", "false"),
            ("GET", false, "list") => self.list_blobs(&request),
            ("PUT", true, "block") => self.put_block(request),
            ("PUT", true, "blocklist") => self.put_block_list(&request),
            ("GET", true, "blocklist") => self.block_list(&request),
            ("PUT", true, "") if request.header("x-ms-copy-source").is_empty() => {
                self.put_blob(request)
            }
            ("GET" | "HEAD", true, "") => self.get_blob(&request),
            ("DELETE", true, "") => self.delete_blob(&request),
            _ => refusal(501, "NotImplemented"),
        }
    }

    fn create_container(&self, request: &Request) -> Response {
        if self.has_bucket(&request.bucket) {
            return refusal(409, "ContainerAlreadyExists");
        }
        self.create_bucket(&request.bucket);
        Response::empty(201)
            .header("ETag", &etag_of(0))
            .header("Last-Modified", &http_time(now()))
    }

    fn put_blob(&self, mut request: Request) -> Response {
        let content = Content::of(std::mem::take(&mut request.body));
        self.forget_blocks(&request);
        self.store_blob(&request, content)
    }

    fn store_blob(&self, request: &Request, content: Content) -> Response {
        let condition = Condition::of_headers(request);
        match self.store(request, content, checksum(request), &condition) {
            Ok(object) => Response::empty(201)
                .header("ETag", &object.etag())
                .header("Last-Modified", &http_time(object.modified))
                .header("x-ms-request-server-encrypted", "true"),
            Err(why) => refused(&why),
        }
    }

    fn get_blob(&self, request: &Request) -> Response {
        match self.find(&request.bucket, &request.key) {
            Some(object) => self
                .download(request, object)
                .header("x-ms-blob-type", "BlockBlob"),
            None => refused(&Refusal::Missing),
        }
    }

    fn delete_blob(&self, request: &Request) -> Response {
        let condition = Condition::of_headers(request);
        match self.remove(&request.bucket, &request.key, &condition) {
            Ok(()) => Response::empty(202),
            Err(why) => refused(&why),
        }
    }

    fn delete_batch(&self, account: &str, request: &Request) -> Response {
        let container = format!("/{}/", request.bucket);
        let answers = batch::parts(request).into_iter().map(|part| {
            let path = part.target.split('?').next().unwrap_or_default();
            let path = percent_decoded(path, Plus::IsPlus);
            // Where the account is part of the host, the path of a part begins with the container.
            let within = path.strip_prefix(&format!("/{account}")).unwrap_or(&path);
            let answer = match within.strip_prefix(container.as_str()) {
                Some(blob) if part.method == "DELETE" => {
                    match self.remove(&request.bucket, blob, &Condition::None) {
                        Ok(()) => Response::empty(202),
                        Err(why) => refused(&why),
                    }
                }
                _ => refusal(501, "NotImplemented"),
            };
            (part.id, answer)
        });
        batch::response(202, answers)
    }
}

// ---- Blocks -----------------------------------------------------------------------------------

impl Sink {
    fn put_block(&self, request: Request) -> Response {
        let id = request.query("blockid").to_owned();
        let mut blocks = self.blocks.lock().expect("no panic");
        let blocks = blocks.entry((request.bucket, request.key)).or_default();
        blocks.insert(id, Arc::new(request.body));
        Response::empty(201).header("x-ms-request-server-encrypted", "true")
    }

    /// Only of blocks that were not committed before.
    fn put_block_list(&self, request: &Request) -> Response {
        let text = String::from_utf8_lossy(&request.body);
        let content = {
            let all = self.blocks.lock().expect("no panic");
            let blocks = all.get(&place(request));
            let block = |id: &str| blocks?.get(id.trim()).cloned();
            elements(&text, "Latest")
                .map(block)
                .collect::<Option<Vec<_>>>()
        };
        let Some(content) = content else {
            return refusal(400, "InvalidBlockList");
        };
        let answer = self.store_blob(request, Content::Parts(content.into()));
        if answer.status == 201 {
            self.forget_blocks(request);
        }
        answer
    }

    fn block_list(&self, request: &Request) -> Response {
        let all = self.blocks.lock().expect("no panic");
        let blocks = all.get(&place(request));
        if blocks.is_none() && self.find(&request.bucket, &request.key).is_none() {
            return refused(&Refusal::Missing);
        }
        let mut listed = String::new();
        let sorted: BTreeMap<_, _> = blocks.into_iter().flatten().collect();
        for (id, content) in sorted {
            let size = content.len();
            let _ = write!(
                listed,
                "<Block><Name>{id}</Name><Size>{size}</Size></Block>"
            );
        }
        Response::xml(format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><CommittedBlocks/>\
             <UncommittedBlocks>{listed}</UncommittedBlocks></BlockList>"
        ))
    }

    fn forget_blocks(&self, request: &Request) {
        let mut blocks = self.blocks.lock().expect("no panic");
        blocks.remove(&place(request));
    }
}

fn place(request: &Request) -> (String, String) {
    (request.bucket.clone(), request.key.clone())
}

// ---- Listings ---------------------------------------------------------------------------------

impl Sink {
    fn list_blobs(&self, request: &Request) -> Response {
        let page_max = request.query("maxresults").parse().unwrap_or(PAGE_MAX);
        let (prefix, delimiter) = (request.query("prefix"), request.query("delimiter"));
        let from = match (request.query("marker"), request.query("startFrom")) {
            ("", "") => Bound::Unbounded,
            ("", first) => Bound::Included(first.to_owned()),
            (marker, _) => Bound::Excluded(percent_decoded(marker, Plus::IsPlus)),
        };
        let page_max = page_max.clamp(1, PAGE_MAX);
        let Some(Page { entries, more }) = self.page(request, (prefix, delimiter), from, page_max)
        else {
            return refused(&Refusal::NoBucket);
        };
        let entries: String = entries.iter().map(listed).collect();
        Response::xml(format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <EnumerationResults ServiceEndpoint=\"http://{}/\" ContainerName=\"{}\">\
             <Prefix>{}</Prefix><MaxResults>{page_max}</MaxResults><Blobs>{entries}</Blobs>\
             <NextMarker>{}</NextMarker></EnumerationResults>",
            request.header("host"),
            request.bucket,
            escaped(prefix),
            more.as_deref().map(percent_encoded).unwrap_or_default(),
        ))
    }
}

fn listed(entry: &Entry) -> String {
    match entry {
        Entry::Folder(name) => {
            format!("<BlobPrefix><Name>{}</Name></BlobPrefix>", escaped(name))
        }
        Entry::Object(name, object) => listed_blob(name, object),
    }
}

fn listed_blob(name: &str, object: &Object) -> String {
    let modified = http_time(object.modified);
    format!(
        "<Blob><Name>{}</Name><Properties><Creation-Time>{modified}</Creation-Time>\
         <Last-Modified>{modified}</Last-Modified><Etag>{}</Etag>\
         <Content-Length>{}</Content-Length><Content-Type>application/octet-stream</Content-Type>\
         <BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier></Properties></Blob>",
        escaped(name),
        object.etag().trim_matches('"'),
        object.content.len()
    )
}

// ---- Words ------------------------------------------------------------------------------------

fn refused(why: &Refusal) -> Response {
    match why {
        Refusal::NoBucket => refusal(404, "ContainerNotFound"),
        Refusal::Missing => refusal(404, "BlobNotFound"),
        Refusal::Exists => refusal(409, "BlobAlreadyExists"),
        Refusal::Changed => refusal(412, "ConditionNotMet"),
    }
}

fn refusal(status: u16, code: &str) -> Response {
    Response::error(status, code).header("x-ms-error-code", code)
}

/// What the request counts as in the statistics.
fn kind(request: &Request) -> String {
    let on = if request.key.is_empty() {
        "container"
    } else {
        "blob"
    };
    match request.query("comp") {
        "" => format!("{} {on}", request.method),
        comp => format!("{} {on} ?comp={comp}", request.method),
    }
}

fn checksum(request: &Request) -> Option<Arc<str>> {
    let sent = ["x-ms-blob-content-md5", "content-md5"].map(|name| request.header(name));
    let md5 = sent.into_iter().find(|md5| !md5.is_empty())?;
    // Of a block list, the plain one is that of the list.
    let is_of_list = request.query("comp") == "blocklist" && sent[0].is_empty();
    (!is_of_list).then(|| format!("Content-MD5: {md5}\r\n").into())
}

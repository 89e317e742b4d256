//! The XML interface, as far as uploads in parts go.

use std::fmt::Write;

use super::{
    super::http::Answer,
    answer,
    asked::Asked,
    state::{Answered, Multipart, Object, State, crc32c, instant, md5, now},
};

const PAGE_SIZE: usize = 1000;
const PART_BYTES_MIN: usize = 5 << 20;

/// Answers a request for `/BUCKET/NAME`.
pub(super) fn answer(state: &mut State, asked: &Asked) -> Answered {
    let path = asked.path.trim_start_matches('/');
    let (bucket, name) = path.split_once('/').unwrap_or((path, ""));
    let (bucket, name) = (
        Asked::segments(bucket).concat(),
        Asked::segments(name).join("/"),
    );
    if !state.buckets.contains_key(&bucket) {
        return Err(refusal(
            404,
            "NoSuchBucket",
            "The specified bucket does not exist.",
        ));
    }
    let id = asked.parameter("uploadId");
    let begins = asked.parameter("uploads").is_some();
    match (asked.method.as_str(), id) {
        ("POST", None) if begins => begin(state, asked, &bucket, &name),
        ("GET", None) if begins => pending(state, asked, &bucket),
        ("PUT", Some(id)) => part(state, asked, &bucket, id),
        ("POST", Some(id)) => complete(state, asked, &bucket, id),
        ("DELETE", Some(id)) => {
            let removed = state.bucket(&bucket)?.multiparts.remove(id);
            removed
                .map(|_| answer::empty(204))
                .ok_or_else(no_such_upload)
        }
        _ => Err(refusal(501, "NotImplemented", "Not one of its calls.")),
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    answer::xml(status, &body)
}

fn no_such_upload() -> Answer {
    refusal(404, "NoSuchUpload", "The requested upload was not found.")
}

fn begin(state: &mut State, asked: &Asked, bucket: &str, name: &str) -> Answered {
    let mut fields = serde_json::Map::new();
    let metadata: serde_json::Map<_, _> = asked
        .headers_below("x-goog-meta-")
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    if !metadata.is_empty() {
        fields.insert("metadata".to_owned(), metadata.into());
    }
    if let Some(key) = asked.header("x-goog-encryption-kms-key-name") {
        fields.insert("kmsKeyName".to_owned(), key.into());
    }
    if let Some(kind) = asked.header("content-type") {
        fields.insert("contentType".to_owned(), kind.into());
    }
    let id = format!("upload-{}", state.serial());
    let body = format!(
        "<InitiateMultipartUploadResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>\
         <Bucket>{bucket}</Bucket><Key>{}</Key><UploadId>{id}</UploadId>\
         </InitiateMultipartUploadResult>",
        escaped(name)
    );
    let begun = Multipart {
        name: name.to_owned(),
        fields,
        begun: now(),
        parts: std::collections::BTreeMap::new(),
    };
    state.bucket(bucket)?.multiparts.insert(id, begun);
    Ok(answer::xml(200, &body))
}

fn part(state: &mut State, asked: &Asked, bucket: &str, id: &str) -> Answered {
    let upload = state.bucket(bucket)?.multiparts.get_mut(id);
    let upload = upload.ok_or_else(no_such_upload)?;
    let number = asked
        .parameter("partNumber")
        .and_then(|text| text.parse().ok());
    let number = number.ok_or_else(|| refusal(400, "InvalidArgument", "partNumber"))?;
    let sum = crc32c(&asked.body);
    let sent = asked
        .header("x-goog-hash")
        .and_then(|hash| hash.strip_prefix("crc32c="));
    if sent.is_some_and(|sent| sent != sum) {
        return Err(refusal(
            400,
            "BadDigest",
            "The CRC32C you specified did not match.",
        ));
    }
    upload.parts.insert(number, asked.body.clone());
    let tag = format!("\"{}\"", md5(&asked.body));
    let hashes = format!("crc32c={sum},md5={}", md5(&asked.body));
    Ok(answer::empty(200)
        .with("ETag", &tag)
        .with("x-goog-hash", &hashes))
}

fn complete(state: &mut State, asked: &Asked, bucket: &str, id: &str) -> Answered {
    let upload = state.bucket(bucket)?.multiparts.get(id);
    let upload = upload.ok_or_else(no_such_upload)?;
    let list = String::from_utf8_lossy(&asked.body).into_owned();
    let named: Vec<(u32, String)> = list
        .split("<Part>")
        .skip(1)
        .filter_map(|part| {
            let tag = between(part, "<ETag>", "</ETag>")?.replace("&quot;", "\"");
            Some((
                between(part, "<PartNumber>", "</PartNumber>")?
                    .parse()
                    .ok()?,
                tag,
            ))
        })
        .collect();
    let mut content = Vec::new();
    for (place, (number, tag)) in named.iter().enumerate() {
        let part = upload
            .parts
            .get(number)
            .filter(|part| *tag == format!("\"{}\"", md5(part)));
        let invalid = || refusal(400, "InvalidPart", "One or more parts could not be found.");
        let part = part.ok_or_else(invalid)?;
        if place + 1 < named.len() && part.len() < PART_BYTES_MIN {
            return Err(refusal(400, "EntityTooSmall", "A part is too small."));
        }
        content.extend_from_slice(part);
    }
    let mut object = Object::new(&upload.name, content, upload.fields.clone());
    (object.components, object.has_md5) = (Some(named.len() as u64), false);
    let object = state.write(bucket, &std::collections::BTreeMap::new(), object)?;
    state.bucket(bucket)?.multiparts.remove(id);
    let body = format!(
        "<CompleteMultipartUploadResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>\
         <Bucket>{bucket}</Bucket><Key>{}</Key><ETag>&quot;x&quot;</ETag>\
         </CompleteMultipartUploadResult>",
        escaped(&object.name)
    );
    let hash = format!("crc32c={}", crc32c(&object.content));
    let answer = answer::xml(200, &body).with("x-goog-hash", &hash);
    Ok(answer.with("x-goog-generation", &object.generation.to_string()))
}

fn pending(state: &mut State, asked: &Asked, bucket: &str) -> Answered {
    let text = |parameter| asked.parameter(parameter).unwrap_or_default();
    let (prefix, marker) = (
        text("prefix"),
        (text("key-marker"), text("upload-id-marker")),
    );
    let all = state.bucket(bucket)?.multiparts.iter();
    let mut found: Vec<(&str, &str, &Multipart)> = all
        .map(|(id, upload)| (upload.name.as_str(), id.as_str(), upload))
        .filter(|(name, id, _)| name.starts_with(prefix) && (*name, *id) > marker)
        .collect();
    found.sort_by_key(|(name, id, _)| (*name, *id));
    let limit = asked
        .parameter("max-uploads")
        .and_then(|text| text.parse().ok());
    let limit = limit.unwrap_or(PAGE_SIZE);
    let is_truncated = found.len() > limit;
    found.truncate(limit);
    let mut body = "<ListMultipartUploadsResult>".to_owned();
    if let Some((name, id, _)) = found.last().filter(|_| is_truncated) {
        write!(
            body,
            "<NextKeyMarker>{}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>",
            escaped(name)
        )
        .expect("a string takes all");
    }
    write!(body, "<IsTruncated>{is_truncated}</IsTruncated>").expect("a string takes all");
    for (name, id, upload) in found {
        write!(
            body,
            "<Upload><Key>{}</Key><UploadId>{id}</UploadId><StorageClass>STANDARD</StorageClass>\
             <Initiated>{}</Initiated></Upload>",
            escaped(name),
            instant(upload.begun)
        )
        .expect("a string takes all");
    }
    body.push_str("</ListMultipartUploadsResult>");
    Ok(answer::xml(200, &body))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

fn escaped(text: &str) -> String {
    let pairs = [
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&quot;"),
        ('\'', "&#39;"),
    ];
    let escape = |c: char| {
        let pair = pairs.iter().find(|(plain, _)| *plain == c);
        pair.map_or_else(|| c.to_string(), |(_, escaped)| (*escaped).to_owned())
    };
    text.chars().map(escape).collect()
}

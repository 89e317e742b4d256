//! Content: sent in one piece, in one stream of several requests, and read.

use serde_json::{Map, Value};

use super::{
    super::http::Answer,
    answer::{self, refusal},
    asked::Asked,
    json::written,
    state::{Answered, Bucket, Object, Session, State, crc32c, etag, md5, no_such_object},
};

/// Answers a request below `/upload/storage/v1/`.
pub(super) fn upload(state: &mut State, asked: &Asked, path: &str) -> Answered {
    let segments = Asked::segments(path);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["b", bucket, "o"] = segments.as_slice() else {
        return Err(refusal(404, "notFound", "Not Found"));
    };
    state.bucket(bucket)?;
    let name = asked.parameter("name").map(str::to_owned);
    if let Some(session) = asked.parameter("upload_id") {
        return go_on(state, asked, bucket, session);
    }
    match asked.parameter("uploadType") {
        Some("media") => {
            let name = name.ok_or_else(|| refusal(400, "required", "Required"))?;
            let mut fields = written(&Value::Null, &asked.parameters);
            let kind = asked
                .header("content-type")
                .unwrap_or("application/octet-stream");
            fields.insert("contentType".to_owned(), kind.into());
            write(
                state,
                asked,
                bucket,
                Object::new(&name, asked.body.clone(), fields),
            )
        }
        Some("multipart") => {
            let (description, content) = related(asked)?;
            let name = name.or_else(|| Some(description["name"].as_str()?.to_owned()));
            let name = name.ok_or_else(|| refusal(400, "required", "Required"))?;
            let fields = written(&description, &asked.parameters);
            write(state, asked, bucket, Object::new(&name, content, fields))
        }
        Some("resumable") => begin(state, asked, bucket, name),
        _ => Err(refusal(400, "invalid", "Invalid upload type")),
    }
}

fn write(state: &mut State, asked: &Asked, bucket: &str, object: Object) -> Answered {
    let object = state.write(bucket, &asked.parameters, object)?;
    let described = state.bucket(bucket)?.described(bucket, &object);
    Ok(answer::json(&described))
}

/// Description and content of a body in two parts.
fn related(asked: &Asked) -> Result<(Value, Vec<u8>), Answer> {
    let malformed = || refusal(400, "badContent", "Malformed multipart body.");
    let kind = asked.header("content-type").unwrap_or_default();
    let (_, boundary) = kind.split_once("boundary=").ok_or_else(malformed)?;
    let boundary = boundary
        .split(';')
        .next()
        .unwrap_or(boundary)
        .trim_matches(['"', '\'']);
    let delimiter = format!("--{boundary}").into_bytes();
    let body = &asked.body;
    let first = find(body, &delimiter, 0).ok_or_else(malformed)?;
    let second = find(body, &delimiter, first + delimiter.len()).ok_or_else(malformed)?;
    let last = find_last(body, &[b"\r\n", delimiter.as_slice(), b"--"].concat());
    let last = last.filter(|last| *last > second).ok_or_else(malformed)?;
    let content_of = |from: usize, to: usize| {
        let start = find(body, b"\r\n\r\n", from)? + 4;
        body.get(start..to)
    };
    let description = content_of(first, second).ok_or_else(malformed)?;
    let content = content_of(second, last).ok_or_else(malformed)?;
    let description = description.trim_ascii();
    let description = serde_json::from_slice(description).map_err(|_| malformed())?;
    Ok((description, content.to_vec()))
}

fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let rest = body.get(from..)?;
    let at = rest
        .windows(wanted.len())
        .position(|window| window == wanted)?;
    Some(from + at)
}

fn find_last(body: &[u8], wanted: &[u8]) -> Option<usize> {
    body.windows(wanted.len())
        .rposition(|window| window == wanted)
}

fn begin(state: &mut State, asked: &Asked, bucket: &str, name: Option<String>) -> Answered {
    let mut description = match asked.json() {
        Value::Object(description) => description,
        _ => Map::new(),
    };
    if let Some(name) = name {
        description.insert("name".to_owned(), name.into());
    }
    if let Some(kind) = asked.header("x-upload-content-type") {
        let kind = Value::from(kind);
        description.entry("contentType").or_insert(kind);
    }
    let session = format!("session-{}", state.serial());
    let host = asked.header("host").unwrap_or_default();
    let place = format!(
        "http://{host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
    );
    let begun = Session {
        description,
        parameters: asked.parameters.clone(),
        content: Vec::new(),
    };
    state.bucket(bucket)?.sessions.insert(session, begun);
    Ok(answer::empty(200).with("Location", &place))
}

fn go_on(state: &mut State, asked: &Asked, bucket: &str, id: &str) -> Answered {
    let found = state.bucket(bucket)?;
    let gone = || refusal(404, "notFound", "No such upload");
    if asked.method == "DELETE" {
        found.sessions.remove(id).ok_or_else(gone)?;
        return Ok(answer::empty(499));
    }
    let session = found.sessions.get_mut(id).ok_or_else(gone)?;
    // `bytes 0-9/10`, `bytes 0-9/*`, `bytes */10`, `bytes */*`
    let range = asked.header("content-range").unwrap_or_default();
    let range = range.strip_prefix("bytes ").unwrap_or_default();
    let (span, total) = range.split_once('/').unwrap_or(("", ""));
    let start = span
        .split_once('-')
        .and_then(|(start, _)| start.parse::<usize>().ok());
    if let Some(start) = start {
        session.content.truncate(start);
        if session.content.len() < start {
            return Err(refusal(400, "invalid", "bytes are missing"));
        }
    }
    if span != "*" {
        session.content.extend_from_slice(&asked.body);
    }
    let is_whole = range.is_empty() || total.parse() == Ok(session.content.len());
    if !is_whole {
        let answer = answer::empty(308);
        return Ok(match session.content.len() {
            0 => answer,
            length => answer.with("Range", &format!("bytes=0-{}", length - 1)),
        });
    }
    let Session {
        description,
        parameters,
        content,
    } = found.sessions.remove(id).ok_or_else(gone)?;
    let name = description
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let object = Object::new(
        &name,
        content,
        written(&Value::Object(description), &parameters),
    );
    let object = state.write(bucket, &parameters, object)?;
    let described = state.bucket(bucket)?.described(bucket, &object);
    Ok(answer::json(&described))
}

/// Reads an object or a range of it.
pub(super) fn download(bucket: &Bucket, asked: &Asked, of: &str, name: &str) -> Answered {
    let object = bucket
        .object(asked, of, name)
        .map_err(|refusal| match refusal.status {
            // It is told in plain text there.
            404 => Answer {
                body: format!("No such object: {of}/{name}").into_bytes(),
                ..no_such_object(of, name)
            },
            _ => refusal,
        })?;
    let mut hashes = format!("crc32c={}", crc32c(&object.content));
    if object.has_md5 {
        hashes = format!("{hashes},md5={}", md5(&object.content));
    }
    let mut content = object.content.clone();
    if let Some(first) = content.first_mut().filter(|_| object.is_damaged) {
        *first = !*first;
    }
    let size = content.len();
    let answer = answer::empty(200)
        .with("Content-Type", "application/octet-stream")
        .with("x-goog-generation", &object.generation.to_string())
        .with("x-goog-metageneration", &object.metageneration.to_string())
        .with("x-goog-hash", &hashes)
        .with("x-goog-stored-content-length", &size.to_string())
        .with("ETag", &etag(object))
        .with(
            "Last-Modified",
            &object
                .created
                .format("%a, %d %b %Y %H:%M:%S GMT")
                .to_string(),
        );
    let Some(range) = asked
        .header("range")
        .and_then(|range| range.strip_prefix("bytes="))
    else {
        return Ok(Answer {
            body: content,
            ..answer
        });
    };
    let (start, end) = range.split_once('-').unwrap_or((range, ""));
    let start: usize = start.parse().unwrap_or(0);
    let end = end.parse().map_or(size, |last: usize| (last + 1).min(size));
    if start >= end {
        let answer = refusal(
            416,
            "requestedRangeNotSatisfiable",
            "Request range not satisfiable",
        );
        return Err(answer.with("Content-Range", &format!("bytes */{size}")));
    }
    Ok(Answer {
        status: 206,
        body: content[start..end].to_vec(),
        ..answer.with(
            "Content-Range",
            &format!("bytes {start}-{}/{size}", end - 1),
        )
    })
}

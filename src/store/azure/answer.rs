//! What the service's headers say, in the words of the port.

use azure_core::http::headers::Headers;
use base64::{Engine, engine::general_purpose::STANDARD};
use crc_fast::CrcAlgorithm;

use super::{
    super::{Checksum, ChecksumAlgorithm, Key, ObjectMeta, ObjectVersion},
    client::ContentMd5,
    lock::Written,
};
use crate::model::time::Timestamp;

/// A header, where it is there.
pub(super) fn header<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let mut headers = headers.iter();
    let found = headers.find(|(key, _)| key.as_str().eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// When the service answered. One without a clock, of which none is known, answered in 1970: too early for anything to expire.
pub(super) fn date(headers: &Headers) -> Timestamp {
    let date = header(headers, "date").and_then(instant);
    date.unwrap_or_else(|| chrono::DateTime::UNIX_EPOCH.into())
}

/// When something was written. What is not told was written at the end of time: too late for anything to be old.
pub(super) fn written(text: Option<&str>) -> Timestamp {
    text.and_then(instant).unwrap_or(Timestamp::MAX)
}

/// An instant as HTTP writes it.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    Some(date.to_utc().into())
}

/// Which version the headers are of.
pub(super) fn version(headers: &Headers) -> ObjectVersion {
    ObjectVersion::from_entity_tag(header(headers, "etag"))
}

/// The MD5 of the whole blob. With a range it has another name, since the first would be that of the range.
pub(super) fn checksum(headers: &Headers) -> Option<Checksum> {
    let whole = header(headers, "x-ms-blob-content-md5").or_else(|| {
        let is_range = header(headers, "content-range").is_some();
        header(headers, "content-md5").filter(|_| !is_range)
    });
    whole.map(|md5| Checksum {
        algorithm: ChecksumAlgorithm::Md5,
        value: md5.to_owned(),
    })
}

/// What the headers of a blob, or of a range of it, say of the blob; `None` if they do not tell its length.
pub(super) fn meta(key: &Key, headers: &Headers) -> Option<ObjectMeta> {
    let size = match header(headers, "content-range") {
        Some(range) => range.rsplit('/').next()?,
        None => header(headers, "content-length")?,
    };
    Some(ObjectMeta {
        key: key.clone(),
        size: size.parse().ok()?,
        last_modified: written(header(headers, "last-modified")),
        version: version(headers),
        checksum: checksum(headers),
        lock: Written::of_headers(headers),
    })
}

/// Whether what the service says to have received is what was sent; also if it says nothing.
///
/// It answers with a CRC-64 or an MD5, whichever its version prefers. The CRC's bytes are compared in both orders.
pub(super) fn received(headers: &Headers, content: &[u8]) -> bool {
    if let Some(md5) = header(headers, "content-md5") {
        return md5 == ContentMd5::of(content).text();
    }
    let Some(told) = header(headers, "x-ms-content-crc64") else {
        return true;
    };
    // Azure's polynomial is that of CRC-64/NVME.
    let crc = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, content);
    [crc.to_le_bytes(), crc.to_be_bytes()]
        .iter()
        .any(|bytes| STANDARD.encode(bytes) == told)
}

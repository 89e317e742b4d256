//! One page of a listing, as the service writes it.
//!
//! The SDK has no listing by delimiter. Names are taken byte for byte, spaces at their ends included; a name that XML cannot hold comes
//! percent-encoded and says so.
//!
//! Source of the format: Microsoft's "List Blobs".

use quick_xml::{
    Reader,
    events::{BytesRef, BytesStart, Event},
};

use super::{
    super::{Key, ObjectMeta, ObjectVersion},
    answer::{instant, written},
    lock::Written,
};
use crate::model::{lock::Lock, time::Timestamp};

/// A page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) blobs: Vec<Blob>,
    pub(super) prefixes: Vec<String>,
    /// Where the next page begins; empty on the last.
    pub(super) next: String,
}

/// A blob of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) name: String,
    size: String,
    last_modified: String,
    etag: String,
    until: String,
    mode: String,
    legal_hold: String,
    version_id: String,
}

impl Blob {
    /// What is told of the blob, under this key; `None` if its length is no number.
    pub(super) fn meta(&self, key: Key) -> Option<ObjectMeta> {
        Some(ObjectMeta {
            key,
            size: self.size.parse().ok()?,
            last_modified: written(told(&self.last_modified)),
            version: ObjectVersion::from_entity_tag(told(&self.etag)),
            checksum: None,
            lock: self.lock(),
        })
    }

    fn lock(&self) -> Option<Lock> {
        let written = Written {
            until: told(&self.until),
            mode: told(&self.mode),
            legal_hold: told(&self.legal_hold),
        };
        written.read()
    }

    /// Whether it is one of several versions, or could be.
    pub(super) fn is_version(&self) -> bool {
        !self.version_id.is_empty()
    }

    /// When it was written, if that is told.
    pub(super) fn last_modified(&self) -> Option<Timestamp> {
        told(&self.last_modified).and_then(instant)
    }

    /// Whether there is nothing in it, as in one whose blocks were never committed.
    pub(super) fn is_empty(&self) -> bool {
        self.size == "0"
    }
}

fn told(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("the listing is no XML")]
    Xml(#[from] quick_xml::Error),
    #[error("the listing is not UTF-8")]
    Encoding(#[from] quick_xml::encoding::EncodingError),
    #[error("the listing has an attribute that is none")]
    Attribute(#[from] quick_xml::events::attributes::AttrError),
    #[error("the listing refers to the unknown entity `{0}`")]
    Entity(String),
    #[error("the listing ends early")]
    Short,
}

/// Reads a page.
pub(super) fn read(body: &[u8]) -> Result<Page, Problem> {
    let mut reader = Reader::from_reader(body);
    let mut page = Page::default();
    let mut path: Vec<String> = Vec::new();
    let (mut text, mut is_encoded, mut blob) = (String::new(), false, Blob::default());
    loop {
        match reader.read_event()? {
            Event::Start(element) => {
                text.clear();
                is_encoded = says_encoded(&element)?;
                path.push(String::from_utf8_lossy(element.name().as_ref()).into_owned());
            }
            Event::Text(piece) => text.push_str(&piece.decode()?),
            Event::CData(piece) => text.push_str(&piece.decode()?),
            Event::GeneralRef(reference) => text.push_str(&resolve(&reference)?),
            Event::End(_) => {
                let element = path.pop().unwrap_or_default();
                let parent = path.last().map_or("", String::as_str);
                match (parent, element.as_str()) {
                    ("Blob", "Name") => blob.name = decoded(&text, is_encoded),
                    ("Blob", "VersionId") => blob.version_id.clone_from(&text),
                    ("BlobPrefix", "Name") => page.prefixes.push(decoded(&text, is_encoded)),
                    ("Blobs", "Blob") => page.blobs.push(std::mem::take(&mut blob)),
                    ("EnumerationResults", "NextMarker") => page.next.clone_from(&text),
                    ("Properties", name) => {
                        if let Some(property) = property(&mut blob, name) {
                            property.clone_from(&text);
                        }
                    }
                    ("", "EnumerationResults") => return Ok(page),
                    _ => {}
                }
                text.clear();
            }
            Event::Eof => return Err(Problem::Short),
            _ => {}
        }
    }
}

fn property<'b>(blob: &'b mut Blob, name: &str) -> Option<&'b mut String> {
    Some(match name {
        "Content-Length" => &mut blob.size,
        "Last-Modified" => &mut blob.last_modified,
        "Etag" => &mut blob.etag,
        "ImmutabilityPolicyUntilDate" => &mut blob.until,
        "ImmutabilityPolicyMode" => &mut blob.mode,
        "LegalHold" => &mut blob.legal_hold,
        _ => return None,
    })
}

fn says_encoded(element: &BytesStart<'_>) -> Result<bool, Problem> {
    let attribute = element.try_get_attribute("Encoded")?;
    Ok(attribute.is_some_and(|attribute| attribute.value.as_ref() == b"true"))
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, Problem> {
    if let Some(character) = reference.resolve_char_ref()? {
        return Ok(character.into());
    }
    let name = reference.decode()?;
    let known = quick_xml::escape::resolve_predefined_entity(&name);
    known
        .map(str::to_owned)
        .ok_or_else(|| Problem::Entity(name.into_owned()))
}

fn decoded(text: &str, is_encoded: bool) -> String {
    if !is_encoded {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let escaped = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lock::LockMode;

    fn page(blobs: &str) -> Page {
        let text = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <EnumerationResults ServiceEndpoint=\"https://a/\" ContainerName=\"c\"><Prefix>p/</Prefix>\
             <Blobs>{blobs}</Blobs><NextMarker>2!92!x</NextMarker></EnumerationResults>"
        );
        read(text.as_bytes()).expect("a page")
    }

    #[test]
    fn names_are_taken_as_they_are() {
        let page = page(
            "<Blob><Name> a&amp;b&#x20;</Name><Properties><Content-Length>3</Content-Length>\
             <Etag>0x8D</Etag><Last-Modified>Sat, 21 Nov 2026 10:00:00 GMT</Last-Modified>\
             </Properties></Blob>\
             <BlobPrefix><Name>p/&lt;x&gt;/</Name></BlobPrefix>\
             <Blob><Name Encoded=\"true\">a%EF%BF%BEb%20</Name><Properties>\
             <Content-Length>0</Content-Length></Properties></Blob>",
        );
        let names: Vec<_> = page.blobs.iter().map(|blob| blob.name.as_str()).collect();
        assert_eq!(names, [" a&b ", "a\u{fffe}b "]);
        assert_eq!(page.prefixes, ["p/<x>/"]);
        assert_eq!(page.next, "2!92!x");
        let meta = page.blobs[0].meta(Key::verbatim("k")).expect("a length");
        assert_eq!(
            (meta.size, meta.version.0.as_str(), meta.lock),
            (3, "0x8D", None)
        );
        assert_eq!(meta.last_modified.to_string(), "2026-11-21T10:00:00Z");
        assert!(page.blobs[1].is_empty());
    }

    #[test]
    fn a_listing_tells_the_locks_of_all_of_it() {
        let page = page(
            "<Blob><Name>a</Name><Properties><Content-Length>1</Content-Length>\
             <ImmutabilityPolicyUntilDate>Thu, 01 Jan 2099 00:00:00 GMT</ImmutabilityPolicyUntilDate>\
             <ImmutabilityPolicyMode>unlocked</ImmutabilityPolicyMode>\
             <LegalHold>false</LegalHold></Properties></Blob>",
        );
        let lock = page.blobs[0]
            .meta(Key::verbatim("a"))
            .and_then(|meta| meta.lock);
        let until = Timestamp::from_unix_seconds(4_070_908_800).expect("an instant");
        assert_eq!(lock, Some(Lock::until(until, LockMode::Governance)));
    }

    #[test]
    fn a_date_that_cannot_be_read_is_no_early_one() {
        let page = page(
            "<Blob><Name>a</Name><Properties><Content-Length>1</Content-Length>\
             <Last-Modified>lately</Last-Modified>\
             <ImmutabilityPolicyUntilDate>later</ImmutabilityPolicyUntilDate>\
             </Properties></Blob>",
        );
        let meta = page.blobs[0].meta(Key::verbatim("a")).expect("a length");
        assert_eq!(meta.last_modified, Timestamp::MAX);
        assert!(matches!(
            meta.lock,
            Some(Lock::LockedUntil { until: None, .. })
        ));
    }

    #[test]
    fn half_a_page_is_none() {
        let text = "<EnumerationResults><Blobs><Blob><Name>a</Name></Blob></Blobs>";
        assert!(read(text.as_bytes()).is_err());
        assert!(read(b"<html>sorry</html>").is_err());
    }
}

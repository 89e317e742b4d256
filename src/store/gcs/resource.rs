//! What the service's answers say of an object, in the words of the port.

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    super::{Checksum, ChecksumAlgorithm, Key, ObjectMeta, ObjectVersion},
    client::text,
};
use crate::model::{
    lock::{Lock, LockMode},
    time::Timestamp,
};

/// The fields of an object that are asked for.
pub(super) const FIELDS: &str = "name,size,timeCreated,updated,generation,crc32c,temporaryHold,\
                                 eventBasedHold,retentionExpirationTime,retention";

/// An object as the JSON interface describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resource {
    pub(super) name: String,
    #[serde(deserialize_with = "number")]
    size: u64,
    time_created: Option<String>,
    updated: Option<String>,
    #[serde(deserialize_with = "number")]
    generation: u64,
    crc32c: Option<String>,
    temporary_hold: bool,
    event_based_hold: bool,
    retention_expiration_time: Option<String>,
    retention: Option<Retention>,
}

/// The retention of one object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Retention {
    mode: String,
    retain_until_time: Option<String>,
}

/// A page of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Page {
    pub(super) items: Vec<Resource>,
    pub(super) prefixes: Vec<String>,
    pub(super) next_page_token: Option<String>,
}

/// Reads an answer; nothing if it is not what was asked for, such as a proxy's page.
pub(super) fn read<T: for<'d> Deserialize<'d>>(body: &Bytes) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// Numbers of 64 bits are texts in the JSON interface, but not in every emulator.
fn number<'d, D: Deserializer<'d>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let text = value.as_str().and_then(|text| text.parse().ok());
    Ok(text.or_else(|| value.as_u64()).unwrap_or_default())
}

impl Resource {
    pub(super) fn version(&self) -> ObjectVersion {
        ObjectVersion(self.generation.to_string())
    }

    pub(super) fn checksum(&self) -> Option<Checksum> {
        Some(crc32c(self.crc32c.as_deref()?))
    }

    /// As a listing tells it at an instant of the service's clock.
    pub(super) fn listed(&self, key: Key, now: Timestamp) -> ObjectMeta {
        let written = self.time_created.as_deref().or(self.updated.as_deref());
        ObjectMeta {
            key,
            size: self.size,
            last_modified: written.and_then(instant).unwrap_or_else(epoch),
            version: self.version(),
            checksum: None,
            lock: Some(self.lock().at(now)),
        }
    }

    /// As it is told when asked for by name.
    pub(super) fn headed(&self, key: &Key, now: Timestamp) -> ObjectMeta {
        ObjectMeta {
            checksum: self.checksum(),
            ..self.listed(key.clone(), now)
        }
    }

    /// Every answer that describes an object tells its locks; what it does not name is not there. An event-based hold is a hold: its
    /// release only begins the bucket's retention. Whether the bucket's policy may be shortened is not told: it is taken as firm.
    pub(super) fn lock(&self) -> Lock {
        if self.temporary_hold || self.event_based_hold {
            return Lock::Held;
        }
        let bucket = self.retention_expiration_time.as_deref();
        let bucket = bucket.map_or(Lock::Free, |text| locked(text, LockMode::Compliance));
        let own = self.retention.as_ref();
        let own =
            own.and_then(|retention| Some((retention.retain_until_time.as_deref()?, retention)));
        bucket.and(own.map_or(Lock::Free, |(until, retention)| {
            locked(until, mode(retention.mode == "Unlocked"))
        }))
    }
}

fn locked(until: &str, mode: LockMode) -> Lock {
    match instant(until) {
        Some(until) => Lock::until(until, mode),
        None => Lock::Unknown(format!("`{until}` is no instant")),
    }
}

/// A retention that its owner may still shorten, or one that nobody can.
pub(super) fn mode(is_unlocked: bool) -> LockMode {
    if is_unlocked {
        LockMode::Governance
    } else {
        LockMode::Compliance
    }
}

/// What the headers of a download tell of the object; nothing where they do not, as with some emulators.
pub(super) fn downloaded(key: &Key, headers: &HeaderMap) -> Option<ObjectMeta> {
    let version: u64 = text(headers, "x-goog-generation")?.parse().ok()?;
    let modified = text(headers, "last-modified").and_then(|date| {
        let date = chrono::DateTime::parse_from_rfc2822(date).ok()?;
        Some(Timestamp::from(date.to_utc()))
    });
    Some(ObjectMeta {
        key: key.clone(),
        size: whole_length(headers)?,
        last_modified: modified.unwrap_or_else(epoch),
        version: ObjectVersion(version.to_string()),
        checksum: sent_checksum(headers),
        lock: None,
    })
}

/// The length of the whole object, also when only a range was asked for.
fn whole_length(headers: &HeaderMap) -> Option<u64> {
    match text(headers, "content-range") {
        Some(range) => range.rsplit('/').next()?.parse().ok(),
        None => text(headers, "content-length")?.parse().ok(),
    }
}

/// The CRC-32C among the hashes of a header, `crc32c=n03x6A==,md5=…`.
pub(super) fn sent_checksum(headers: &HeaderMap) -> Option<Checksum> {
    let lines = headers.get_all("x-goog-hash").into_iter();
    let mut hashes = lines.filter_map(|line| line.to_str().ok());
    hashes.find_map(|line| {
        let mut hashes = line.split(',').map(str::trim);
        hashes.find_map(|hash| hash.strip_prefix("crc32c=").map(crc32c))
    })
}

fn crc32c(value: &str) -> Checksum {
    Checksum {
        algorithm: ChecksumAlgorithm::Crc32c,
        value: value.to_owned(),
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    let date = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(date.to_utc().into())
}

fn epoch() -> Timestamp {
    chrono::DateTime::UNIX_EPOCH.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(fields: &str) -> Lock {
        let text = format!(r#"{{"name": "a", "size": "1", "generation": "7" {fields}}}"#);
        let resource: Resource = serde_json::from_str(&text).expect("an object");
        resource.lock()
    }

    #[test]
    fn a_lock_is_whatever_lasts_longest() {
        let until = |text: &str, mode| Lock::until(instant(text).expect("an instant"), mode);
        let own =
            r#", "retention": {"mode": "Unlocked", "retainUntilTime": "2100-01-01T00:00:00Z"}"#;
        let bucket = r#", "retentionExpirationTime": "2099-01-01T00:00:00Z""#;
        let firm =
            r#", "retention": {"mode": "Locked", "retainUntilTime": "2030-01-01T00:00:00Z"}"#;
        let cases = [
            ("", Lock::Free),
            (r#", "temporaryHold": true"#, Lock::Held),
            (r#", "eventBasedHold": true"#, Lock::Held),
            (bucket, until("2099-01-01T00:00:00Z", LockMode::Compliance)),
            (firm, until("2030-01-01T00:00:00Z", LockMode::Compliance)),
            (own, until("2100-01-01T00:00:00Z", LockMode::Governance)),
            (
                &format!("{own}{bucket}"),
                until("2100-01-01T00:00:00Z", LockMode::Governance),
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(lock(fields), expected, "{fields}");
        }
    }

    #[test]
    fn a_download_tells_the_object_that_it_is_of() {
        let mut headers = HeaderMap::new();
        assert_eq!(downloaded(&Key::verbatim("a"), &headers), None);
        for (name, value) in [
            ("x-goog-generation", "7"),
            ("content-length", "3"),
            ("content-range", "bytes 2-4/10"),
            ("x-goog-hash", "crc32c=n03x6A==,md5=x"),
        ] {
            headers.append(name, value.parse().expect("a header"));
        }
        let meta = downloaded(&Key::verbatim("a"), &headers).expect("an object");
        assert_eq!((meta.size, meta.version.0.as_str()), (10, "7"));
        assert_eq!(meta.checksum, Some(crc32c("n03x6A==")));
    }
}

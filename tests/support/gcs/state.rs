//! Buckets, objects and the rules that hold for them.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};

use super::{
    super::http::Answer,
    answer::{self, refusal},
    asked::Asked,
};

/// What a bucket is made with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Whether what is replaced or deleted stays as an old version.
    pub(crate) has_versions: bool,
    /// For how many seconds objects are retained.
    pub(crate) retained_seconds: Option<i64>,
    /// For how many seconds deleted objects can be had back.
    pub(crate) soft_deleted_seconds: Option<i64>,
    /// Whether new objects are held.
    pub(crate) holds_new: bool,
}

/// Everything that the service has.
#[derive(Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<String, Bucket>,
    serial: u64,
}

/// A bucket.
#[derive(Default)]
pub(super) struct Bucket {
    pub(super) rules: Rules,
    pub(super) live: BTreeMap<String, Object>,
    /// Old versions.
    pub(super) old: Vec<Object>,
    pub(super) soft_deleted: Vec<Object>,
    /// Uploads of one stream, by name.
    pub(super) sessions: BTreeMap<String, Session>,
    /// Uploads in parts, by name.
    pub(super) multiparts: BTreeMap<String, Multipart>,
}

/// One generation of one object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
    pub(super) generation: u64,
    pub(super) metageneration: u64,
    pub(super) created: DateTime<Utc>,
    /// `metadata`, `contentType`, holds, `retention`, `kmsKeyName`: as they were written.
    pub(super) fields: Map<String, Value>,
    pub(super) components: Option<u64>,
    /// Whether the service has computed its MD5.
    pub(super) has_md5: bool,
    /// Whether readers get other bytes than were written.
    pub(super) is_damaged: bool,
}

/// An upload of one stream.
pub(super) struct Session {
    pub(super) description: Map<String, Value>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) content: Vec<u8>,
}

/// An upload in parts.
pub(super) struct Multipart {
    pub(super) name: String,
    pub(super) fields: Map<String, Value>,
    pub(super) begun: DateTime<Utc>,
    pub(super) parts: BTreeMap<u32, Vec<u8>>,
}

/// Either side is an answer.
pub(super) type Answered = Result<Answer, Answer>;

pub(super) fn now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    Utc::now()
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

pub(super) fn crc32c(content: &[u8]) -> String {
    STANDARD.encode(crc32c::crc32c(content).to_be_bytes())
}

pub(super) fn md5(content: &[u8]) -> String {
    STANDARD.encode(Md5::digest(content))
}

pub(super) fn no_such_object(bucket: &str, name: &str) -> Answer {
    let message = format!("No such object: {bucket}/{name}");
    refusal(404, "notFound", &message)
}

impl State {
    pub(super) fn create_bucket(&mut self, name: &str, rules: Rules) {
        let bucket = Bucket {
            rules,
            ..Bucket::default()
        };
        self.buckets.insert(name.to_owned(), bucket);
    }

    pub(super) fn bucket(&mut self, name: &str) -> Result<&mut Bucket, Answer> {
        let missing = || refusal(404, "notFound", "The specified bucket does not exist.");
        self.buckets.get_mut(name).ok_or_else(missing)
    }

    /// A name, or a generation, that was never given before.
    pub(super) fn serial(&mut self) -> u64 {
        let micros = u64::try_from(now().timestamp_micros()).expect("after 1970");
        self.serial = micros.max(self.serial + 1);
        self.serial
    }

    /// Writes an object under the conditions of a request.
    pub(super) fn write(
        &mut self,
        bucket: &str,
        conditions: &BTreeMap<String, String>,
        mut object: Object,
    ) -> Result<Object, Answer> {
        object.generation = self.serial();
        let bucket = self.bucket(bucket)?;
        let existing = bucket.live.get(&object.name);
        check_conditions(conditions, existing)?;
        if let Some(existing) = existing
            && !bucket.rules.has_versions
        {
            bucket.check_free(existing)?;
        }
        let sums = [
            ("crc32c", crc32c(&object.content)),
            ("md5Hash", md5(&object.content)),
        ];
        for (field, computed) in sums {
            let sent = object.fields.remove(field);
            if sent.is_some_and(|sent| sent != computed.as_str()) {
                let kind = if field == "crc32c" {
                    "CRC32C"
                } else {
                    "MD5 hash"
                };
                let message = format!("Provided {kind} doesn't match calculated {kind}.");
                return Err(refusal(400, "invalid", &message));
            }
        }
        if bucket.rules.holds_new {
            object
                .fields
                .insert("eventBasedHold".to_owned(), true.into());
        }
        let replaced = bucket.live.insert(object.name.clone(), object.clone());
        bucket.put_away(replaced);
        Ok(object)
    }
}

impl Bucket {
    /// The object of a request: its present generation, or the one that is asked for.
    pub(super) fn object(
        &self,
        asked: &Asked,
        bucket: &str,
        name: &str,
    ) -> Result<&Object, Answer> {
        let generation = asked
            .parameter("generation")
            .and_then(|text| text.parse().ok());
        let live = self.live.get(name).into_iter();
        let mut all = live.chain(self.old.iter().filter(|object| object.name == name));
        let found =
            all.find(|object| generation.is_none_or(|wanted: u64| wanted == object.generation));
        let found = found.filter(|_| generation.is_some() || self.live.contains_key(name));
        check_conditions(&asked.parameters, found)?;
        found.ok_or_else(|| no_such_object(bucket, name))
    }

    /// Deletes the present generation, or the one that is asked for.
    pub(super) fn delete(&mut self, asked: &Asked, bucket: &str, name: &str) -> Answered {
        let object = self.object(asked, bucket, name)?.clone();
        let is_exact = asked.parameter("generation").is_some();
        if is_exact || !self.rules.has_versions {
            self.check_free(&object)?;
        }
        if is_exact {
            self.old.retain(|old| old.generation != object.generation);
            if self
                .live
                .get(name)
                .is_some_and(|live| live.generation == object.generation)
            {
                self.live.remove(name);
            }
        } else {
            let removed = self.live.remove(name);
            self.put_away(removed);
        }
        Ok(answer::empty(204))
    }

    /// What becomes of a generation that is no longer the present one.
    fn put_away(&mut self, object: Option<Object>) {
        let Some(object) = object else { return };
        if self.rules.has_versions {
            self.old.push(object);
        } else if self.rules.soft_deleted_seconds.is_some() {
            self.soft_deleted.push(object);
        }
    }

    /// Refuses what a hold or a retention forbids.
    fn check_free(&self, object: &Object) -> Result<(), Answer> {
        for hold in ["temporaryHold", "eventBasedHold"] {
            if object.fields.get(hold) == Some(&Value::Bool(true)) {
                let message =
                    "Object is under active hold and cannot be deleted, overwritten or archived.";
                return Err(refusal(403, "objectUnderActiveHold", message));
            }
        }
        match self.retained_until(object).filter(|until| *until > now()) {
            Some(until) => {
                let message = format!(
                    "Object is subject to bucket's retention policy or object retention and cannot \
                     be deleted, overwritten or archived until {}",
                    instant(until)
                );
                Err(refusal(403, "retentionPolicyNotMet", &message))
            }
            None => Ok(()),
        }
    }

    fn retained_until(&self, object: &Object) -> Option<DateTime<Utc>> {
        let own = object.fields.get("retention");
        let own = own.and_then(|retention| retention.get("retainUntilTime")?.as_str());
        let own = own.and_then(|text| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc()));
        self.bucket_retention(object).into_iter().chain(own).max()
    }

    fn bucket_retention(&self, object: &Object) -> Option<DateTime<Utc>> {
        let seconds = self.rules.retained_seconds?;
        Some(object.created + TimeDelta::seconds(seconds))
    }

    /// The object as the JSON interface describes it.
    pub(super) fn described(&self, bucket: &str, object: &Object) -> Value {
        let Object {
            name, generation, ..
        } = object;
        let mut described = json!({
            "kind": "storage#object",
            "id": format!("{bucket}/{name}/{generation}"),
            "name": name,
            "bucket": bucket,
            "generation": generation.to_string(),
            "metageneration": object.metageneration.to_string(),
            "storageClass": "STANDARD",
            "size": object.content.len().to_string(),
            "crc32c": crc32c(&object.content),
            "etag": etag(object),
            "timeCreated": instant(object.created),
            "updated": instant(object.created),
        });
        let fields = described.as_object_mut().expect("it is one");
        fields.extend(object.fields.clone());
        if object.has_md5 {
            fields.insert("md5Hash".to_owned(), md5(&object.content).into());
        }
        if let Some(count) = object.components {
            fields.insert("componentCount".to_owned(), count.into());
        }
        // Under an event-based hold it is not known when the retention ends.
        let is_held = object.fields.get("eventBasedHold") == Some(&Value::Bool(true));
        if let Some(until) = self.bucket_retention(object).filter(|_| !is_held) {
            fields.insert("retentionExpirationTime".to_owned(), instant(until).into());
        }
        described
    }
}

impl Object {
    pub(super) fn new(name: &str, content: Vec<u8>, fields: Map<String, Value>) -> Self {
        Self {
            name: name.to_owned(),
            content,
            generation: 0,
            metageneration: 1,
            created: now(),
            fields,
            components: None,
            has_md5: true,
            is_damaged: false,
        }
    }
}

pub(super) fn etag(object: &Object) -> String {
    STANDARD.encode(format!("{}/{}", object.generation, object.metageneration))
}

/// Refuses what a condition of the request forbids.
fn check_conditions(
    conditions: &BTreeMap<String, String>,
    found: Option<&Object>,
) -> Result<(), Answer> {
    let number = |name: &str| {
        conditions
            .get(name)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let generation = found.map_or(0, |object| object.generation);
    let metageneration = found.map_or(0, |object| object.metageneration);
    let wrong = number("ifGenerationMatch").is_some_and(|wanted| wanted != generation)
        || number("ifMetagenerationMatch").is_some_and(|wanted| wanted != metageneration);
    if wrong {
        let message = "At least one of the pre-conditions you specified did not hold.";
        return Err(refusal(412, "conditionNotMet", message));
    }
    if number("ifGenerationNotMatch") == Some(generation) && found.is_some() {
        return Err(answer::empty(304));
    }
    Ok(())
}

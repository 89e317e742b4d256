//! The JSON interface: buckets, objects, listings, compositions, rewrites.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    super::http::Answer,
    answer::{self, refusal},
    asked::Asked,
    media,
    state::{Answered, Bucket, Object, Rules, State, instant, no_such_object, now},
};

/// How many objects one request composes.
const COMPOSED_MAX: usize = 32;
const PAGE_SIZE: usize = 1000;

/// Answers a request below `/storage/v1/`.
pub(super) fn answer(state: &mut State, asked: &Asked, path: &str) -> Answered {
    let segments = Asked::segments(path);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (asked.method.as_str(), segments.as_slice()) {
        ("GET", ["b"]) => Ok(buckets(state)),
        ("POST", ["b"]) => create(state, asked),
        ("GET", ["b", bucket]) => {
            let described = described(bucket, state.bucket(bucket)?);
            Ok(answer::json(&described))
        }
        ("PATCH", ["b", bucket]) => {
            let fields = asked.json();
            let found = state.bucket(bucket)?;
            found.rules = rules(&fields);
            Ok(answer::json(&described(bucket, found)))
        }
        ("GET", ["b", bucket, "o"]) => Ok(list(state.bucket(bucket)?, bucket, asked)),
        ("POST", ["b", bucket, "o", name, "compose"]) => compose(state, asked, bucket, name),
        ("POST", ["b", bucket, "o", name, "rewriteTo", "b", to, "o", target]) => {
            rewrite(state, asked, (bucket, name), (to, target))
        }
        ("GET", ["b", bucket, "o", name]) if asked.parameter("alt") == Some("media") => {
            media::download(state.bucket(bucket)?, asked, bucket, name)
        }
        ("GET", ["b", bucket, "o", name]) => {
            let found = state.bucket(bucket)?;
            let object = found.object(asked, bucket, name)?;
            Ok(answer::json(&found.described(bucket, object)))
        }
        ("PATCH", ["b", bucket, "o", name]) => patch(state.bucket(bucket)?, asked, bucket, name),
        ("DELETE", ["b", bucket, "o", name]) => state.bucket(bucket)?.delete(asked, bucket, name),
        _ => Err(refusal(501, "notImplemented", "not one of its calls")),
    }
}

fn buckets(state: &State) -> Answer {
    let all = state.buckets.iter();
    let items: Vec<Value> = all.map(|(name, bucket)| described(name, bucket)).collect();
    answer::json(&json!({ "kind": "storage#buckets", "items": items }))
}

fn create(state: &mut State, asked: &Asked) -> Answered {
    let description = asked.json();
    let name = description["name"].as_str().unwrap_or_default();
    if asked.parameter("project").is_none() {
        return Err(refusal(400, "required", "Required parameter: project"));
    }
    if state.buckets.contains_key(name) {
        let message =
            "Your previous request to create the named bucket succeeded and you already own it.";
        return Err(refusal(409, "conflict", message));
    }
    state.create_bucket(name, rules(&description));
    Ok(answer::json(&described(name, state.bucket(name)?)))
}

fn rules(fields: &Value) -> Rules {
    let seconds = |value: &Value| {
        value
            .as_str()
            .and_then(|text| text.parse().ok())
            .or(value.as_i64())
    };
    Rules {
        has_versions: fields["versioning"]["enabled"].as_bool().unwrap_or(false),
        retained_seconds: seconds(&fields["retentionPolicy"]["retentionPeriod"]),
        soft_deleted_seconds: seconds(&fields["softDeletePolicy"]["retentionDurationSeconds"]),
        holds_new: fields["defaultEventBasedHold"].as_bool().unwrap_or(false),
    }
}

fn described(name: &str, bucket: &Bucket) -> Value {
    let Rules {
        has_versions,
        retained_seconds,
        soft_deleted_seconds,
        holds_new,
    } = &bucket.rules;
    let mut described = json!({
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "location": "US",
        "storageClass": "STANDARD",
        "versioning": { "enabled": has_versions },
        "defaultEventBasedHold": holds_new,
        "softDeletePolicy": {
            "retentionDurationSeconds": soft_deleted_seconds.unwrap_or(0).to_string(),
        },
    });
    if let Some(seconds) = retained_seconds {
        described["retentionPolicy"] = json!({
            "retentionPeriod": seconds.to_string(),
            "effectiveTime": instant(now()),
            "isLocked": false,
        });
    }
    described
}

fn list(bucket: &Bucket, name: &str, asked: &Asked) -> Answer {
    let text = |parameter| asked.parameter(parameter).unwrap_or_default();
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    // A token is the first name of the next page.
    let first = text("startOffset").max(text("pageToken"));
    // Google's client for Python writes `True`.
    let is_asked = |parameter| {
        let value = asked.parameter(parameter);
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    };
    let mut all: Vec<&Object> = if is_asked("softDeleted") {
        bucket.soft_deleted.iter().collect()
    } else {
        bucket.live.values().collect()
    };
    if is_asked("versions") {
        all.extend(&bucket.old);
    }
    all.sort_by_key(|object| (&object.name, object.generation));
    let limit = asked
        .parameter("maxResults")
        .and_then(|text| text.parse().ok());
    let limit = limit.unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE);
    let (mut items, mut prefixes, mut next) = (Vec::new(), BTreeSet::new(), None);
    for object in all {
        let Some(rest) = object.name.strip_prefix(prefix) else {
            continue;
        };
        let end = (!delimiter.is_empty())
            .then(|| rest.find(delimiter))
            .flatten();
        let common = end.map(|end| format!("{prefix}{}", &rest[..end + delimiter.len()]));
        // What a prefix stands for is not told again on the page after it.
        if object.name.as_str() < first
            || common.as_deref().is_some_and(|common| {
                prefixes.contains(common) || (common < first && !first.starts_with(common))
            })
        {
            continue;
        }
        if items.len() + prefixes.len() == limit {
            next = Some(object.name.clone());
            break;
        }
        match common {
            Some(common) => drop(prefixes.insert(common)),
            None => items.push(bucket.described(name, object)),
        }
    }
    let mut page = json!({ "kind": "storage#objects" });
    for (field, value) in [("items", json!(items)), ("prefixes", json!(prefixes))] {
        if value != json!([]) {
            page[field] = value;
        }
    }
    if let Some(next) = next {
        page["nextPageToken"] = next.into();
    }
    answer::json(&page)
}

fn patch(bucket: &mut Bucket, asked: &Asked, of: &str, name: &str) -> Answered {
    bucket.object(asked, of, name)?;
    let fields = asked.json();
    let object = bucket.live.get_mut(name);
    let object = object.ok_or_else(|| no_such_object(of, name))?;
    object.metageneration += 1;
    for (field, value) in fields.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(object.fields.remove(field)),
            value => drop(object.fields.insert(field.clone(), value.clone())),
        }
    }
    let object = object.clone();
    Ok(answer::json(&bucket.described(of, &object)))
}

fn compose(state: &mut State, asked: &Asked, bucket: &str, name: &str) -> Answered {
    let description = asked.json();
    let sources = description["sourceObjects"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if sources.is_empty() || sources.len() > COMPOSED_MAX {
        let message = format!(
            "The number of source components provided ({}) exceeds the maximum",
            sources.len()
        );
        return Err(refusal(400, "invalid", &message));
    }
    let found = state.bucket(bucket)?;
    let (mut content, mut components) = (Vec::new(), 0);
    for source in &sources {
        let source = source["name"].as_str().unwrap_or_default();
        let object = found.live.get(source);
        let object = object.ok_or_else(|| no_such_object(bucket, source))?;
        content.extend_from_slice(&object.content);
        components += object.components.unwrap_or(1);
    }
    let mut object = Object::new(
        name,
        content,
        written(&description["destination"], &asked.parameters),
    );
    (object.components, object.has_md5) = (Some(components), false);
    let object = state.write(bucket, &asked.parameters, object)?;
    let described = state.bucket(bucket)?.described(bucket, &object);
    Ok(answer::json(&described))
}

fn rewrite(
    state: &mut State,
    asked: &Asked,
    (bucket, name): (&str, &str),
    (to, target): (&str, &str),
) -> Answered {
    let source = state.bucket(bucket)?.live.get(name).cloned();
    let source = source.ok_or_else(|| no_such_object(bucket, name))?;
    let object = Object {
        name: target.to_owned(),
        created: now(),
        ..source
    };
    let object = state.write(to, &asked.parameters, object)?;
    let resource = state.bucket(to)?.described(to, &object);
    let size = object.content.len().to_string();
    Ok(answer::json(&json!({
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": size,
        "objectSize": size,
        "done": true,
        "resource": resource,
    })))
}

/// The fields of an object that its writer chooses.
pub(super) fn written(
    description: &Value,
    parameters: &BTreeMap<String, String>,
) -> Map<String, Value> {
    const CHOSEN: [&str; 8] = [
        "contentType",
        "contentEncoding",
        "metadata",
        "temporaryHold",
        "eventBasedHold",
        "retention",
        "crc32c",
        "md5Hash",
    ];
    let all = description.as_object().into_iter().flatten();
    let chosen = all.filter(|(field, value)| CHOSEN.contains(&field.as_str()) && !value.is_null());
    let mut fields: Map<String, Value> = chosen
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    if let Some(key) = parameters.get("kmsKeyName") {
        fields.insert("kmsKeyName".to_owned(), key.as_str().into());
    }
    fields
}

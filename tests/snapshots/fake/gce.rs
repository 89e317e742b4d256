//! Compute Engine, as far as snapshots go.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Attaching, Disk, INSTANCE, PROJECT, RECOVERY, Snapshot, State, ZONE, quota::Exceeded};
use crate::support::http::{Answer, Request};

pub(super) fn refusal(status: u16, reason: &str, message: &str) -> Answer {
    let error = json!({ "code": status, "message": message, "errors": [{
        "message": message, "domain": "global", "reason": reason,
    }] });
    answered(status, &json!({ "error": error }))
}

fn answered(status: u16, body: &Value) -> Answer {
    Answer::new(status, body.to_string()).with("content-type", "application/json")
}

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let path = request.path().trim_start_matches('/').to_owned();
    let root = format!("compute/v1/projects/{PROJECT}/");
    let Some(rest) = path.strip_prefix(&root) else {
        return refusal(404, "notFound", &path);
    };
    // The same request again is the same operation.
    let known = identifier(request).and_then(|id| state.operations.get(id).cloned());
    if let Some(known) = known {
        return answered(200, &operation(state, &known));
    }
    let parts: Vec<&str> = rest.split('/').collect();
    match (request.method(), &parts[..]) {
        ("GET", ["zones", ZONE, "instances", name @ (INSTANCE | RECOVERY)]) => {
            instance(state, name)
        }
        ("POST", ["zones", ZONE, "instances", name, "attachDisk"]) => attach(state, request, name),
        ("GET", ["zones", ZONE, "disks"]) => disks(state, request),
        ("POST", ["zones", ZONE, "disks"]) => make(state, request),
        ("GET", ["zones" | "regions", _, "disks", _]) => disk(state, rest),
        ("POST", ["global", "snapshots"]) => insert(state, request),
        ("GET", ["zones", ZONE, "operations", name] | ["global", "operations", name]) => {
            answered(200, &operation(state, name))
        }
        ("GET", ["global", "snapshots"]) => list(state, request),
        ("GET", ["global", "snapshots", name]) => {
            state.say(format!("get {name}"));
            match state.snapshots.get(*name) {
                Some(snapshot) => answered(200, &told(state, snapshot)),
                None => refusal(404, "notFound", "no such snapshot"),
            }
        }
        ("DELETE", ["global", "snapshots", name]) => delete(state, request, name),
        _ => refusal(404, "notFound", rest),
    }
}

/// By what a request that changes something is known again.
fn identifier(request: &Request) -> Option<&str> {
    let mut pairs = request.query().split('&');
    pairs.find_map(|pair| pair.strip_prefix("requestId="))
}

fn instance(state: &mut State, instance: &str) -> Answer {
    state.say("instance");
    let attached = state.attached(instance);
    let disks = attached.iter().map(|disk| {
        let source = format!("https://www.googleapis.com/compute/v1/{}", disk.id);
        json!({
            "source": source, "deviceName": disk.device, "boot": disk.is_root, "type": "PERSISTENT",
            "mode": "READ_WRITE", "interface": "SCSI",
        })
    });
    let disks: Vec<Value> = disks.collect();
    answered(
        200,
        &json!({ "name": instance, "id": "17", "status": "RUNNING", "disks": disks }),
    )
}

fn disk(state: &mut State, path: &str) -> Answer {
    let name = path.rsplit('/').next().unwrap_or_default();
    state.say(format!("disk {name}"));
    let Some(disk) = state.disk(&format!("projects/{PROJECT}/{path}")) else {
        return refusal(404, "notFound", "no such disk");
    };
    answered(200, &resource(state, disk))
}

fn resource(state: &State, disk: &Disk) -> Value {
    let status = match disk.failure {
        Some(status) => status,
        None if state.is_usable(disk) => "READY",
        None => "CREATING",
    };
    let mut told = json!({
        "name": disk.name, "id": "18", "status": status, "sizeGb": "10", "labels": disk.tags,
    });
    if let Some(source) = &disk.source {
        let url = format!(
            "https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/snapshots/{source}"
        );
        told["sourceSnapshot"] = url.into();
    }
    if let Some(instance) = disk.instance {
        told["users"] = json!([format!(
            "projects/{PROJECT}/zones/{ZONE}/instances/{instance}"
        )]);
    }
    told
}

fn disks(state: &mut State, request: &Request) -> Answer {
    state.say("list disks");
    let wanted = wanted(request);
    let carries = |disk: &&Disk| {
        let mut wanted = wanted.iter();
        wanted.all(|(key, value)| disk.tags.get(key) == Some(value))
    };
    let disks = state.listed();
    let carrying = disks.iter().filter(carries);
    let found: Vec<Value> = carrying.map(|disk| resource(state, disk)).collect();
    page(request, state.page, &found)
}

fn make(state: &mut State, request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let (name, source) = (text("name"), text("sourceSnapshot"));
    let source = source.rsplit('/').next().unwrap_or_default().to_owned();
    if !state.snapshots.contains_key(&source) {
        return refusal(404, "notFound", "no such snapshot");
    }
    if state.disk(&name).is_some() {
        return refusal(409, "alreadyExists", "there is one");
    }
    state.say(format!("make {name} of {source}, {}", text("type")));
    let labels = body["labels"].as_object().cloned().unwrap_or_default();
    let label =
        |(key, value): (String, Value)| (key, value.as_str().unwrap_or_default().to_owned());
    let disk = Disk {
        id: format!("projects/{PROJECT}/zones/{ZONE}/disks/{name}"),
        name: name.clone(),
        device: String::new(),
        is_root: false,
        source: Some(source),
        instance: None,
        tags: labels.into_iter().map(label).collect(),
        age: 0,
        failure: None,
    };
    state.make(disk);
    begun(state, request, &name)
}

fn attach(state: &mut State, request: &Request, instance: &str) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let (source, device) = (text("source"), text("deviceName"));
    state.say(format!("attach {source} to {instance} as {device}"));
    match state.attach(&source, instance, &device) {
        Attaching::Unknown => refusal(404, "notFound", "no such disk"),
        Attaching::InUse => refusal(400, "resourceInUseByAnotherResource", "it is attached"),
        Attaching::TooEarly => refusal(400, "resourceNotReady", "it is being created"),
        Attaching::Done => begun(state, request, "attached"),
    }
}

fn insert(state: &mut State, request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let (name, source) = (text("name"), text("sourceDisk"));
    if state.snapshots.contains_key(&name) {
        return refusal(409, "alreadyExists", "there is one");
    }
    let Some(disk) = state.disk(&source).cloned() else {
        return refusal(404, "notFound", "no such disk");
    };
    let exceeded = state.exceeded(&disk.id);
    if exceeded == Some(Exceeded::InAll) {
        return refusal(403, "quotaExceeded", "there are too many");
    }
    state.say(format!("insert {name} of {source}"));
    let labels = body["labels"].as_object().cloned().unwrap_or_default();
    let labels = labels
        .into_iter()
        .map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned()));
    let snapshot = Snapshot {
        name: name.clone(),
        disk: disk.id,
        tags: labels.collect::<BTreeMap<_, _>>(),
        // This refusal comes with the operation.
        failure: exceeded.map(|_| "RESOURCE_OPERATION_RATE_EXCEEDED".to_owned()),
        ..Snapshot::default()
    };
    state.take(name.clone(), snapshot);
    begun(state, request, &name)
}

fn begun(state: &mut State, request: &Request, target: &str) -> Answer {
    let operation = format!("operation-{}-{target}", state.next());
    if let Some(id) = identifier(request) {
        state.operations.insert(id.to_owned(), operation.clone());
    }
    answered(
        200,
        &json!({ "name": operation, "id": "19", "status": "RUNNING", "progress": 0 }),
    )
}

/// An operation, one question later.
fn operation(state: &mut State, name: &str) -> Value {
    let target = name.splitn(3, '-').nth(2).unwrap_or_default().to_owned();
    state.grow_older(&target);
    if let Some(code) = state.fails.take() {
        let error = json!({ "errors": [{ "code": code, "message": "it failed" }] });
        return json!({ "name": name, "id": "19", "status": "DONE", "error": error });
    }
    let Some(snapshot) = state.snapshots.get(&target) else {
        return json!({ "name": name, "id": "19", "status": "DONE", "progress": 100 });
    };
    let stage = state.stage(snapshot);
    let (status, progress) = match stage {
        2 => ("DONE", 100),
        stage => ("RUNNING", u32::from(stage) * 40),
    };
    let mut told = json!({ "name": name, "id": "19", "status": status, "progress": progress });
    if let Some(why) = snapshot.failure.as_ref().filter(|_| stage > 0) {
        told["status"] = "DONE".into();
        told["error"] = json!({ "errors": [{ "code": why, "message": "it failed" }] });
        told["httpErrorStatusCode"] = 429.into();
        told["httpErrorMessage"] = "it failed".into();
    }
    told
}

fn told(state: &State, snapshot: &Snapshot) -> Value {
    let status = ["CREATING", "UPLOADING", "READY"][usize::from(state.stage(snapshot))];
    json!({
        "name": snapshot.name, "id": "20", "status": status, "sourceDisk": snapshot.disk, "labels": snapshot.tags,
        "diskSizeGb": "10", "creationTimestamp": "2026-01-01T00:00:00.000-08:00",
    })
}

/// What a filter selects by: labels and their values.
fn wanted(request: &Request) -> Vec<(String, String)> {
    let query = percent(request.query());
    let each = query.split("labels.").skip(1).filter_map(|part| {
        let (key, rest) = part.split_once(" = \"")?;
        Some((key.to_owned(), rest.split('"').next()?.to_owned()))
    });
    each.collect()
}

fn list(state: &mut State, request: &Request) -> Answer {
    state.say("list");
    let wanted = wanted(request);
    let carries = |snapshot: &&Snapshot| {
        let mut wanted = wanted.iter();
        wanted.all(|(key, value)| snapshot.tags.get(key) == Some(value))
    };
    let carrying = state.snapshots.values().filter(carries);
    let found: Vec<Value> = carrying.map(|snapshot| told(state, snapshot)).collect();
    page(request, state.page, &found)
}

fn page(request: &Request, length: usize, found: &[Value]) -> Answer {
    let query = percent(request.query());
    let start = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("pageToken="));
    let start: usize = start.map_or(0, |token| token.parse().expect("a page"));
    let page: Vec<&Value> = found.iter().skip(start).take(length).collect();
    let mut body = json!({ "items": page });
    if start + length < found.len() {
        body["nextPageToken"] = (start + length).to_string().into();
    }
    answered(200, &body)
}

fn delete(state: &mut State, request: &Request, name: &str) -> Answer {
    state.say(format!("delete {name}"));
    if state.snapshots.remove(name).is_none() {
        return refusal(404, "notFound", "no such snapshot");
    }
    begun(state, request, name)
}

/// A query as it was meant.
fn percent(query: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = query.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                let digits = std::str::from_utf8(&digits).expect("digits").to_owned();
                bytes.push(u8::from_str_radix(&digits, 16).expect("a number"));
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("text")
}

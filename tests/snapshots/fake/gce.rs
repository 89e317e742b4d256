//! Compute Engine, as far as snapshots go.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{INSTANCE, PROJECT, Snapshot, State, ZONE};
use crate::support::http::{Answer, Request};

/// How many snapshots a page has.
const PAGE: usize = 2;

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
    let parts: Vec<&str> = rest.split('/').collect();
    match (request.method(), &parts[..]) {
        ("GET", ["zones", ZONE, "instances", INSTANCE]) => instance(state),
        ("GET", ["zones", ZONE, "disks", name]) => disk(state, name),
        ("POST", ["global", "snapshots"]) => insert(state, request),
        ("GET", ["global", "operations", name]) => {
            let answer = operation(state, name);
            answered(200, &answer)
        }
        ("GET", ["global", "snapshots"]) => list(state, request),
        ("GET", ["global", "snapshots", name]) => {
            state.say(format!("get {name}"));
            match state.snapshots.get(*name) {
                Some(snapshot) => answered(200, &told(state, snapshot)),
                None => refusal(404, "notFound", "no such snapshot"),
            }
        }
        ("DELETE", ["global", "snapshots", name]) => delete(state, name),
        _ => refusal(404, "notFound", rest),
    }
}

fn instance(state: &mut State) -> Answer {
    state.say("instance");
    let disks = state.disks.iter().map(|disk| {
        let source = format!("https://www.googleapis.com/compute/v1/{}", disk.id);
        json!({
            "source": source, "deviceName": disk.device, "boot": disk.is_root, "type": "PERSISTENT",
            "mode": "READ_WRITE", "interface": "SCSI",
        })
    });
    let disks: Vec<Value> = disks.collect();
    answered(
        200,
        &json!({ "name": INSTANCE, "id": "17", "status": "RUNNING", "disks": disks }),
    )
}

fn disk(state: &mut State, name: &str) -> Answer {
    state.say(format!("disk {name}"));
    let Some(disk) = state.disk(name) else {
        return refusal(404, "notFound", "no such disk");
    };
    let mut told = json!({ "name": name, "id": "18", "status": "READY", "sizeGb": "10" });
    if let Some(source) = &disk.source {
        let url = format!(
            "https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/snapshots/{source}"
        );
        told["sourceSnapshot"] = url.into();
    }
    answered(200, &told)
}

fn insert(state: &mut State, request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let (name, source) = (text("name"), text("sourceDisk"));
    // The same request again is the same operation.
    let id = request
        .query()
        .split('&')
        .find_map(|pair| pair.strip_prefix("requestId="));
    if let Some(known) = id.and_then(|id| state.operations.get(id).cloned()) {
        let answer = operation(state, &known);
        return answered(200, &answer);
    }
    if state.snapshots.contains_key(&name) {
        return refusal(409, "alreadyExists", "there is one");
    }
    let Some(disk) = state.disk(&source).cloned() else {
        return refusal(404, "notFound", "no such disk");
    };
    state.say(format!("insert {name} of {source}"));
    let labels = body["labels"].as_object().cloned().unwrap_or_default();
    let labels = labels
        .into_iter()
        .map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned()));
    let snapshot = Snapshot {
        name: name.clone(),
        disk: disk.id,
        tags: labels.collect::<BTreeMap<_, _>>(),
        age: 0,
        lock: None,
        failure: None,
    };
    state.snapshots.insert(name.clone(), snapshot);
    begun(state, id, &name)
}

fn begun(state: &mut State, id: Option<&str>, target: &str) -> Answer {
    let operation = format!("operation-{}-{target}", state.next());
    if let Some(id) = id {
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
        "diskSizeGb": "10",
    })
}

fn list(state: &mut State, request: &Request) -> Answer {
    state.say("list");
    let query = percent(request.query());
    let wanted: Vec<(String, String)> = query
        .split("labels.")
        .skip(1)
        .filter_map(|part| {
            let (key, rest) = part.split_once(" = \"")?;
            Some((key.to_owned(), rest.split('"').next()?.to_owned()))
        })
        .collect();
    let carries = |snapshot: &&Snapshot| {
        wanted
            .iter()
            .all(|(key, value)| snapshot.tags.get(key) == Some(value))
    };
    let found: Vec<Value> = state
        .snapshots
        .values()
        .filter(carries)
        .map(|snapshot| told(state, snapshot))
        .collect();
    let start = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("pageToken="));
    let start: usize = start.map_or(0, |token| token.parse().expect("a page"));
    let page: Vec<&Value> = found.iter().skip(start).take(PAGE).collect();
    let mut body = json!({ "items": page });
    if start + PAGE < found.len() {
        body["nextPageToken"] = (start + PAGE).to_string().into();
    }
    answered(200, &body)
}

fn delete(state: &mut State, name: &str) -> Answer {
    state.say(format!("delete {name}"));
    if state.snapshots.remove(name).is_none() {
        return refusal(404, "notFound", "no such snapshot");
    }
    begun(state, None, name)
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

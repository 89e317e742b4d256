//! Azure's Resource Manager, as far as snapshots go.

use serde_json::{Value, json};

use super::{
    Attaching, Disk, GROUP, INSTANCE, RECOVERY, SUBSCRIPTION, Snapshot, State, Style,
    quota::Exceeded,
};
use crate::support::http::{Answer, Request};

/// The first version of the interface in which snapshots can be immutable.
const IMMUTABLE: &str = "2026-03-02";

const LOCATION: &str = "uksouth";

/// The lock of a resource group, which no answer tells.
pub(crate) const SCOPE: &str = "CanNotDelete";

/// The path of everything.
pub(super) fn below() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Compute")
}

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Answer {
    answered(
        status,
        &json!({ "error": { "code": code, "message": message } }),
    )
}

fn answered(status: u16, body: &Value) -> Answer {
    Answer::new(status, body.to_string()).with("content-type", "application/json")
}

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    if !request.query().contains("api-version=") && !request.path().contains("/Operations/") {
        return refusal(400, "MissingApiVersionParameter", "which version?");
    }
    if let Some((_, name)) = request.path().split_once("/Operations/") {
        return operation(state, name);
    }
    let Some(rest) = request.path().strip_prefix(&below()) else {
        return refusal(404, "ResourceGroupNotFound", request.path());
    };
    let parts: Vec<&str> = rest.trim_start_matches('/').split('/').collect();
    match (request.method(), &parts[..]) {
        ("GET", ["virtualMachines", name @ (INSTANCE | RECOVERY)]) => machine(state, name),
        ("POST", ["virtualMachines", name, "attachDetachDataDisks"]) => {
            attach(state, request, name)
        }
        ("GET", ["disks"]) => disks(state, request),
        ("GET", ["disks", name]) => disk(state, name),
        ("PUT", ["disks", name]) => make(state, request, name),
        ("PUT", ["snapshots", name]) => put(state, request, name),
        ("GET", ["snapshots"]) => list(state, request),
        ("GET", ["snapshots", name]) => {
            state.say(format!("get {name}"));
            if state.style == Style::State {
                state.grow_older(name);
            }
            match state.snapshots.get(*name) {
                Some(snapshot) => {
                    let mut told = told(state, snapshot);
                    if version(request) < IMMUTABLE {
                        told["properties"]["immutabilityPolicy"] = Value::Null;
                    }
                    answered(200, &told)
                }
                None => refusal(404, "ResourceNotFound", "no such snapshot"),
            }
        }
        ("POST", ["snapshots", name, action]) if action.starts_with("updateImmutability") => {
            protect(state, request, name)
        }
        ("DELETE", ["snapshots", name]) => delete(state, request, name),
        _ => refusal(404, "ResourceNotFound", rest),
    }
}

/// The version of the interface that a request is written for.
fn version(request: &Request) -> &str {
    let mut pairs = request.query().split('&');
    let version = pairs.find_map(|pair| pair.strip_prefix("api-version="));
    version.unwrap_or_default()
}

fn machine(state: &mut State, instance: &str) -> Answer {
    state.say("instance");
    let mut system = Value::Null;
    let mut data = Vec::new();
    for disk in state.attached(instance) {
        let lun: u32 = disk.device.parse().expect("a number");
        let told = json!({
            "name": disk.name, "lun": lun, "createOption": "Attach", "managedDisk": { "id": disk.id },
        });
        if disk.is_root {
            let managed = json!({ "id": disk.id });
            system =
                json!({ "name": disk.name, "createOption": "FromImage", "managedDisk": managed });
        } else {
            data.push(told);
        }
    }
    let profile = json!({ "osDisk": system, "dataDisks": data });
    answered(
        200,
        &json!({ "name": instance, "location": LOCATION, "properties": { "storageProfile": profile } }),
    )
}

fn disk(state: &mut State, name: &str) -> Answer {
    state.say(format!("disk {name}"));
    let Some(disk) = state.disk(&format!("{}/disks/{name}", below())) else {
        return refusal(404, "ResourceNotFound", "no such disk");
    };
    answered(200, &resource(state, disk))
}

fn resource(state: &State, disk: &Disk) -> Value {
    let made = match &disk.source {
        Some(source) => json!({
            "createOption": "Copy", "sourceResourceId": format!("{}/snapshots/{source}", below()),
        }),
        None => json!({ "createOption": "Empty" }),
    };
    let machine = |name: &str| format!("{}/virtualMachines/{name}", below());
    let provisioning = match disk.failure {
        Some(failure) => failure,
        None if state.is_usable(disk) => "Succeeded",
        None => "Creating",
    };
    json!({
        "id": disk.id, "name": disk.name, "location": LOCATION, "tags": disk.tags,
        "managedBy": disk.instance.map(machine),
        "properties": { "creationData": made, "provisioningState": provisioning },
    })
}

fn disks(state: &mut State, request: &Request) -> Answer {
    state.say("list disks");
    let disks = state.listed();
    let all: Vec<Value> = disks.iter().map(|disk| resource(state, disk)).collect();
    page((request, state.page), "disks", &all)
}

fn make(state: &mut State, request: &Request, name: &str) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let made = &body["properties"]["creationData"];
    let source = made["sourceResourceId"].as_str().unwrap_or_default();
    let source = source.rsplit('/').next().unwrap_or_default().to_owned();
    if !state.snapshots.contains_key(&source) {
        return refusal(404, "ResourceNotFound", "no such snapshot");
    }
    state.say(format!(
        "make {name} of {source}, {} in {}",
        body["sku"]["name"], body["location"]
    ));
    let tags = body["tags"].as_object().cloned().unwrap_or_default();
    let tag = |(key, value): (String, Value)| (key, value.as_str().unwrap_or_default().to_owned());
    let disk = Disk {
        name: name.to_owned(),
        id: format!("{}/disks/{name}", below()),
        device: String::new(),
        is_root: false,
        source: Some(source),
        instance: None,
        tags: tags.into_iter().map(tag).collect(),
        age: 0,
        failure: None,
    };
    let told = resource(state, &disk);
    state.make(disk);
    begun(state, request, answered(202, &told), name)
}

fn attach(state: &mut State, request: &Request, instance: &str) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let wanted = &body["dataDisksToAttach"][0];
    let (id, lun) = (
        wanted["diskId"].as_str().unwrap_or_default(),
        &wanted["lun"],
    );
    state.say(format!("attach {id} to {instance} as {lun}"));
    match state.attach(id, instance, &lun.to_string()) {
        Attaching::Unknown => refusal(404, "ResourceNotFound", "no such disk"),
        Attaching::InUse => refusal(409, "ConflictingUserInput", "it is attached"),
        Attaching::TooEarly => refusal(409, "OperationNotAllowed", "it is being created"),
        Attaching::Done => begun(state, request, answered(202, &Value::Null), "attached"),
    }
}

fn put(state: &mut State, request: &Request, name: &str) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let properties = &body["properties"];
    let made = &properties["creationData"];
    // The documented name, and the one that Barman sends.
    let source = made["sourceResourceId"]
        .as_str()
        .or(made["sourceUri"].as_str());
    let Some(disk) = source.and_then(|source| state.disk(source).cloned()) else {
        return refusal(404, "ResourceNotFound", "no such disk");
    };
    assert_eq!(made["createOption"], "Copy");
    match state.exceeded(&disk.id) {
        Some(Exceeded::Rate) => {
            return refusal(429, "TooManyRequests", "too often").with("retry-after", "303");
        }
        Some(_) => return refusal(409, "SnapshotsLimitReached", "there are too many"),
        None => {}
    }
    let (location, incremental) = (&body["location"], &properties["incremental"]);
    state.say(format!(
        "put {name} of {} in {location}, incremental {incremental}",
        disk.id
    ));
    let tags = body["tags"].as_object().cloned().unwrap_or_default();
    let tags = tags
        .into_iter()
        .map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned()));
    let snapshot = Snapshot {
        name: name.to_owned(),
        disk: disk.id,
        tags: tags.collect(),
        ..Snapshot::default()
    };
    let told = told(state, &snapshot);
    // Who puts the same again changes nothing.
    state.take(name.to_owned(), snapshot);
    begun(state, request, answered(202, &told), name)
}

/// Makes a snapshot immutable. What is locked stays locked, and only a snapshot that is there can be.
fn protect(state: &mut State, request: &Request, name: &str) -> Answer {
    if version(request) < IMMUTABLE {
        return refusal(400, "InvalidApiVersionParameter", "it is too old");
    }
    let body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let (kind, days) = (body["type"].as_str(), &body["immutabilityDurationDays"]);
    let kind = kind.expect("a type").to_owned();
    let is_lock = request.path().ends_with("Lock");
    state.say(format!("protect {name}: {kind}, {days} days"));
    let Some(stage) = state.snapshots.get(name).map(|it| state.stage(it)) else {
        return refusal(404, "ResourceNotFound", "no such snapshot");
    };
    if stage == 0 || is_lock != (kind == "Locked") {
        return refusal(409, "OperationNotAllowed", "not now, or not so");
    }
    let snapshot = state.snapshots.get_mut(name).expect("it is there");
    snapshot.lock = Some((kind, "2100-01-01T00:00:00+00:00".to_owned()));
    begun(state, request, Answer::new(202, ""), name)
}

fn begun(state: &State, request: &Request, answer: Answer, name: &str) -> Answer {
    let host = request.header("host").expect("a host");
    let url = format!("http://{host}/subscriptions/{SUBSCRIPTION}/Operations/{name}?api-version=1");
    match state.style {
        Style::AsyncOperation => answer.with("azure-asyncoperation", &url),
        Style::Location => answer.with("location", &url),
        Style::State => {
            let mut answer = answer;
            answer.status = 201;
            answer
        }
    }
}

fn operation(state: &mut State, name: &str) -> Answer {
    state.grow_older(name);
    if let Some(code) = state.fails.take() {
        let error = json!({ "code": code, "message": "it failed" });
        return answered(200, &json!({ "status": "Failed", "error": error }));
    }
    let snapshot = state.snapshots.get(name);
    let stage = snapshot.map_or(2, |snapshot| state.stage(snapshot));
    let failure = snapshot
        .and_then(|snapshot| snapshot.failure.clone())
        .filter(|_| stage > 0);
    match (state.style, failure) {
        (_, Some(code)) => answered(
            200,
            &json!({ "status": "Failed", "error": { "code": code, "message": "it failed" } }),
        ),
        (Style::AsyncOperation, None) => {
            let status = if stage > 0 { "Succeeded" } else { "InProgress" };
            answered(200, &json!({ "name": name, "status": status }))
        }
        (_, None) if stage == 0 => answered(202, &Value::Null),
        (_, None) => {
            let told = snapshot.map_or(Value::Null, |snapshot| told(state, snapshot));
            answered(200, &told)
        }
    }
}

fn told(state: &State, snapshot: &Snapshot) -> Value {
    let stage = state.stage(snapshot);
    let state = match (stage, &snapshot.failure) {
        (0, _) => "Creating",
        (_, Some(_)) => "Failed",
        _ => "Succeeded",
    };
    let policy = snapshot.lock.as_ref().map(|(kind, until)| {
        let expired = !snapshot.is_locked();
        json!({ "type": kind, "policyExpirationTime": until, "isPolicyExpired": expired })
    });
    json!({
        "id": format!("{}/snapshots/{}", below(), snapshot.name),
        "name": snapshot.name, "location": LOCATION, "tags": snapshot.tags,
        "properties": { "provisioningState": state, "timeCreated": "2026-01-01T00:00:00.1234567+00:00", "incremental": true, "creationData": {
            "createOption": "Copy", "sourceResourceId": snapshot.disk,
        }, "immutabilityPolicy": policy, "completionPercent": if stage < 2 { 50.0 } else { 100.0 } },
    })
}

fn list(state: &mut State, request: &Request) -> Answer {
    state.say("list");
    let all: Vec<Value> = state
        .snapshots
        .values()
        .map(|snapshot| told(state, snapshot))
        .collect();
    page((request, state.page), "snapshots", &all)
}

fn page((request, length): (&Request, usize), kind: &str, all: &[Value]) -> Answer {
    let start = request
        .query()
        .split('&')
        .find_map(|pair| pair.strip_prefix("skip="));
    let start: usize = start.map_or(0, |skip| skip.parse().expect("a number"));
    let page: Vec<&Value> = all.iter().skip(start).take(length).collect();
    let mut body = json!({ "value": page });
    if start + length < all.len() {
        let host = request.header("host").expect("a host");
        let (below, next) = (below(), start + length);
        body["nextLink"] = format!("http://{host}{below}/{kind}?api-version=1&skip={next}").into();
    }
    answered(200, &body)
}

fn delete(state: &mut State, request: &Request, name: &str) -> Answer {
    state.say(format!("delete {name}"));
    let Some(snapshot) = state.snapshots.get(name) else {
        return Answer::new(204, "");
    };
    match &snapshot.lock {
        Some((kind, _)) if kind == SCOPE => {
            return refusal(409, "ScopeLocked", "a lock of the resource group");
        }
        Some(_) if snapshot.is_locked() => {
            return refusal(409, "OperationNotAllowed", "it is immutable");
        }
        _ => {}
    }
    state.snapshots.remove(name);
    match state.style {
        Style::State => Answer::new(200, ""),
        _ => begun(state, request, Answer::new(202, ""), name),
    }
}

//! Azure's Resource Manager, as far as snapshots go.

use serde_json::{Value, json};

use super::{Disk, GROUP, INSTANCE, RECOVERY, SUBSCRIPTION, Snapshot, State, Style};
use crate::support::http::{Answer, Request};

/// How many snapshots a page has.
const PAGE: usize = 2;

const LOCATION: &str = "uksouth";

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
                Some(snapshot) => answered(200, &told(state, snapshot)),
                None => refusal(404, "ResourceNotFound", "no such snapshot"),
            }
        }
        ("DELETE", ["snapshots", name]) => delete(state, request, name),
        _ => refusal(404, "ResourceNotFound", rest),
    }
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
    let Some(disk) = state.disk(name) else {
        return refusal(404, "ResourceNotFound", "no such disk");
    };
    answered(200, &resource(disk))
}

fn resource(disk: &Disk) -> Value {
    let made = match &disk.source {
        Some(source) => json!({
            "createOption": "Copy", "sourceResourceId": format!("{}/snapshots/{source}", below()),
        }),
        None => json!({ "createOption": "Empty" }),
    };
    let machine = |name: &str| format!("{}/virtualMachines/{name}", below());
    json!({
        "id": disk.id, "name": disk.name, "location": LOCATION, "tags": disk.tags,
        "managedBy": disk.instance.map(machine),
        "properties": { "creationData": made, "provisioningState": "Succeeded" },
    })
}

fn disks(state: &mut State, request: &Request) -> Answer {
    state.say("list disks");
    let all: Vec<Value> = state.disks.iter().map(resource).collect();
    page(request, "disks", &all)
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
    };
    let told = resource(&disk);
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
    if !state.attach(id, instance, &lun.to_string()) {
        return refusal(409, "AttachDiskWhileBeingDetached", "it is attached");
    }
    begun(state, request, answered(202, &Value::Null), "attached")
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
        age: 0,
        lock: None,
        failure: None,
    };
    let told = told(state, &snapshot);
    // Who puts the same again changes nothing.
    state.take(name.to_owned(), snapshot);
    begun(state, request, answered(202, &told), name)
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
    json!({
        "id": format!("{}/snapshots/{}", below(), snapshot.name),
        "name": snapshot.name, "location": LOCATION, "tags": snapshot.tags,
        "properties": { "provisioningState": state, "timeCreated": "2026-01-01T00:00:00.1234567+00:00", "incremental": true, "creationData": {
            "createOption": "Copy", "sourceResourceId": snapshot.disk,
        } },
    })
}

fn list(state: &mut State, request: &Request) -> Answer {
    state.say("list");
    let all: Vec<Value> = state
        .snapshots
        .values()
        .map(|snapshot| told(state, snapshot))
        .collect();
    page(request, "snapshots", &all)
}

fn page(request: &Request, kind: &str, all: &[Value]) -> Answer {
    let start = request
        .query()
        .split('&')
        .find_map(|pair| pair.strip_prefix("skip="));
    let start: usize = start.map_or(0, |skip| skip.parse().expect("a number"));
    let page: Vec<&Value> = all.iter().skip(start).take(PAGE).collect();
    let mut body = json!({ "value": page });
    if start + PAGE < all.len() {
        let host = request.header("host").expect("a host");
        let (below, next) = (below(), start + PAGE);
        body["nextLink"] = format!("http://{host}{below}/{kind}?api-version=1&skip={next}").into();
    }
    answered(200, &body)
}

fn delete(state: &mut State, request: &Request, name: &str) -> Answer {
    state.say(format!("delete {name}"));
    let Some(snapshot) = state.snapshots.get(name) else {
        return Answer::new(204, "");
    };
    if snapshot.lock.is_some() {
        return refusal(409, "ScopeLocked", "a lock of the resource group");
    }
    state.snapshots.remove(name);
    match state.style {
        Style::State => Answer::new(200, ""),
        _ => begun(state, request, Answer::new(202, ""), name),
    }
}

//! EC2's query interface, as far as snapshots go, with the locks that moto lacks.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Disk, INSTANCE, RECOVERY, Snapshot, State};
use crate::support::http::{Answer, Request};

const OWNER: &str = "123456789012";
/// The instances' identifiers.
const IDS: [(&str, &str); 2] = [
    ("i-0aaaaaaaaaaaaaaaa", INSTANCE),
    ("i-0bbbbbbbbbbbbbbbb", RECOVERY),
];
/// When everything was made.
const LONG_AGO: &str = "2026-01-01T00:00:00.000Z";
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>r</RequestID></Response>"
    );
    Answer::new(status, body).with("content-type", "text/xml")
}

fn answered(action: &str, body: &str) -> Answer {
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><requestId>r</requestId>{body}</{action}Response>"
    );
    Answer::new(200, body).with("content-type", "text/xml;charset=UTF-8")
}

fn fields(request: &Request) -> BTreeMap<String, String> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                let digits = std::str::from_utf8(&digits).expect("digits").to_owned();
                bytes.push(u8::from_str_radix(&digits, 16).expect("a number"));
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).expect("text")
    };
    let text = request.text();
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

pub(super) fn changes(request: &Request) -> bool {
    let fields = fields(request);
    !fields
        .get("Action")
        .is_some_and(|action| action.starts_with("Describe"))
}

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let signed = request.header("authorization").unwrap_or_default();
    if !signed.contains("/ec2/aws4_request") {
        return refusal(401, "AuthFailure", "unsigned");
    }
    let fields = fields(request);
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let action = field("Action");
    match action.as_str() {
        "DescribeInstances" => instances(state, &fields),
        "DescribeVolumes" => volumes(state, &fields),
        "CreateVolume" => make(state, &fields),
        "AttachVolume" => attach(state, &fields),
        "CreateSnapshot" => create(state, &fields),
        "DescribeSnapshots" => snapshots(state, &fields),
        "LockSnapshot" => lock(state, &fields),
        "DescribeLockedSnapshots" => locked(state, &fields),
        "DeleteSnapshot" => {
            let id = field("SnapshotId");
            state.say(format!("delete {id}"));
            match state.snapshots.get(&id) {
                None => refusal(400, "InvalidSnapshot.NotFound", "no such snapshot"),
                Some(snapshot) if snapshot.lock.is_some() => {
                    refusal(400, "SnapshotLocked", "it is locked")
                }
                Some(_) => {
                    state.snapshots.remove(&id);
                    answered(&action, "<return>true</return>")
                }
            }
        }
        other => refusal(400, "InvalidAction", other),
    }
}

/// The values of a list of the request, in order.
fn listed(fields: &BTreeMap<String, String>, name: &str) -> Vec<String> {
    let key = |number: usize| format!("{name}.{number}");
    (1..)
        .map_while(|number| fields.get(&key(number)).cloned())
        .collect()
}

fn instances(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    state.say("instance");
    let ids = listed(fields, "InstanceId");
    let known = |(id, name): &&(&str, &str)| {
        ids.iter().any(|asked| asked == id) || fields.values().any(|value| value == name)
    };
    let Some((id, name)) = IDS.iter().find(known) else {
        if ids.is_empty() {
            return answered("DescribeInstances", "<reservationSet/>");
        }
        return refusal(400, "InvalidInstanceID.NotFound", "no such instance");
    };
    let mut mapped = String::new();
    for disk in state.attached(name) {
        write!(
            mapped,
            "<item><deviceName>{}</deviceName><ebs><volumeId>{}</volumeId></ebs></item>",
            disk.device, disk.id
        )
        .expect("a string grows");
    }
    answered(
        "DescribeInstances",
        &format!(
            "<reservationSet><item><reservationId>r-1</reservationId><instancesSet><item>\
             <instanceId>{id}</instanceId><rootDeviceName>/dev/xvda</rootDeviceName>\
             <placement><availabilityZone>us-east-1a</availabilityZone></placement>\
             <virtualizationType>hvm</virtualizationType>\
             <blockDeviceMapping>{mapped}</blockDeviceMapping></item></instancesSet></item></reservationSet>"
        ),
    )
}

/// The filters of a request; tags by their keys.
fn filters(fields: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    for number in 1.. {
        let Some(name) = fields.get(&format!("Filter.{number}.Name")) else {
            break;
        };
        let value = fields[&format!("Filter.{number}.Value.1")].clone();
        wanted.insert(name.trim_start_matches("tag:").to_owned(), value);
    }
    wanted
}

fn tags_of(fields: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for number in 1.. {
        let field = |name: &str| fields.get(&format!("TagSpecification.1.Tag.{number}.{name}"));
        let (Some(key), Some(value)) = (field("Key"), field("Value")) else {
            break;
        };
        tags.insert(key.clone(), value.clone());
    }
    tags
}

fn tag_set(tags: &BTreeMap<String, String>) -> String {
    let mut set = String::new();
    for (key, value) in tags {
        write!(set, "<item><key>{key}</key><value>{value}</value></item>").expect("a string grows");
    }
    set
}

fn volumes(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    state.say("disks");
    let mut wanted = filters(fields);
    let instance = wanted.remove("attachment.instance-id");
    let name = |id: &String| {
        IDS.iter()
            .find(|(known, _)| known == id)
            .map(|(_, name)| *name)
    };
    let instance = instance.as_ref().and_then(name);
    let mut volumes = String::new();
    for disk in &state.disks {
        let of_instance = instance.is_none() || disk.instance == instance;
        let carries = wanted
            .iter()
            .all(|(key, value)| disk.tags.get(key) == Some(value));
        if of_instance && carries {
            volumes.push_str(&volume(disk));
        }
    }
    answered(
        "DescribeVolumes",
        &format!("<volumeSet>{volumes}</volumeSet>"),
    )
}

fn volume(disk: &Disk) -> String {
    let source = disk.source.clone().unwrap_or_default();
    let own = [("Name".to_owned(), disk.name.clone())];
    let tags = disk.tags.clone().into_iter().chain(own).collect();
    let attached = IDS.iter().find(|(_, name)| disk.instance == Some(*name));
    let attachment = attached.map_or_else(String::new, |(id, _)| {
        format!(
            "<item><volumeId>{}</volumeId><instanceId>{id}</instanceId><device>{}</device></item>",
            disk.id, disk.device
        )
    });
    let state = if attached.is_some() {
        "in-use"
    } else {
        "available"
    };
    format!(
        "<item><volumeId>{}</volumeId><snapshotId>{source}</snapshotId><status>{state}</status>\
         <attachmentSet>{attachment}</attachmentSet><tagSet>{}</tagSet></item>",
        disk.id,
        tag_set(&tags)
    )
}

fn make(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let (snapshot, zone) = (field("SnapshotId"), field("AvailabilityZone"));
    if !state.snapshots.contains_key(&snapshot) {
        return refusal(400, "InvalidSnapshot.NotFound", "no such snapshot");
    }
    let tags = tags_of(fields);
    state.say(format!(
        "make a {} of {snapshot} in {zone}",
        field("VolumeType")
    ));
    // The same token is the same volume.
    let token = field("ClientToken");
    let id = match state.operations.get(&token) {
        Some(known) => known.clone(),
        None => format!("vol-{:017x}", state.next() + 100),
    };
    state.operations.insert(token, id.clone());
    let disk = Disk {
        name: tags.get("Name").cloned().unwrap_or_default(),
        id: id.clone(),
        device: String::new(),
        is_root: false,
        source: Some(snapshot),
        instance: None,
        tags,
    };
    state.make(disk);
    answered(
        "CreateVolume",
        &format!("<volumeId>{id}</volumeId><status>creating</status>"),
    )
}

fn attach(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let (id, device) = (field("VolumeId"), field("Device"));
    let instance = IDS.iter().find(|(known, _)| *known == field("InstanceId"));
    let name = instance.map_or("", |(_, name)| *name);
    state.say(format!("attach {id} to {name} as {device}"));
    if !state.attach(&id, name, &device) {
        return refusal(400, "VolumeInUse", "it is attached");
    }
    answered(
        "AttachVolume",
        &format!("<volumeId>{id}</volumeId><status>attaching</status>"),
    )
}

fn create(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    let volume = fields["VolumeId"].clone();
    let tags = tags_of(fields);
    let id = format!("snap-{:017x}", state.next());
    let kind = fields
        .get("TagSpecification.1.ResourceType")
        .map_or("", String::as_str);
    state.say(format!("create of {volume} with {kind} tags {tags:?}"));
    let snapshot = Snapshot {
        name: tags.get("Name").cloned().unwrap_or_default(),
        disk: volume.clone(),
        tags,
        age: 0,
        lock: None,
        failure: None,
    };
    state.take(id.clone(), snapshot);
    answered(
        "CreateSnapshot",
        &format!(
            "<snapshotId>{id}</snapshotId><volumeId>{volume}</volumeId><status>pending</status>\
             <ownerId>{OWNER}</ownerId><progress/>"
        ),
    )
}

fn snapshots(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    let ids = listed(fields, "SnapshotId");
    state.say("snapshots");
    let mut wanted = filters(fields);
    let volume = wanted.remove("volume-id");
    for id in &ids {
        state.grow_older(id);
        if !state.snapshots.contains_key(id) {
            return refusal(400, "InvalidSnapshot.NotFound", "no such snapshot");
        }
    }
    let mut items = String::new();
    for (id, snapshot) in &state.snapshots {
        let carries = wanted
            .iter()
            .all(|(key, value)| snapshot.tags.get(key) == Some(value));
        let other = volume
            .as_ref()
            .is_some_and(|volume| *volume != snapshot.disk);
        if !carries || other || !ids.is_empty() && !ids.contains(id) {
            continue;
        }
        let status = match (state.stage(snapshot), &snapshot.failure) {
            (1.., Some(_)) => "error",
            (2, None) => "completed",
            _ => "pending",
        };
        let tags = tag_set(&snapshot.tags);
        let message = snapshot.failure.clone().unwrap_or_default();
        write!(
            items,
            "<item><snapshotId>{id}</snapshotId><volumeId>{}</volumeId><status>{status}</status>\
             <statusMessage>{message}</statusMessage><progress>50%</progress><ownerId>{OWNER}</ownerId>\
             <startTime>{LONG_AGO}</startTime><tagSet>{tags}</tagSet></item>",
            snapshot.disk
        )
        .expect("a string grows");
    }
    answered(
        "DescribeSnapshots",
        &format!("<snapshotSet>{items}</snapshotSet>"),
    )
}

fn lock(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let (id, mode) = (field("SnapshotId"), field("LockMode"));
    let (days, until, hours) = (
        field("LockDuration"),
        field("ExpirationDate"),
        field("CoolOffPeriod"),
    );
    state.say(format!(
        "lock {id}: {mode}, {days} days, until {until}, {hours} hours"
    ));
    if days.is_empty() == until.is_empty() {
        return refusal(400, "MissingParameter", "a duration or an end");
    }
    let Some(snapshot) = state.snapshots.get_mut(&id) else {
        return refusal(400, "InvalidSnapshot.NotFound", "no such snapshot");
    };
    snapshot.lock = Some((mode.clone(), "2100-01-01T00:00:00.000Z".to_owned()));
    answered(
        "LockSnapshot",
        &format!("<snapshotId>{id}</snapshotId><lockState>{mode}</lockState>"),
    )
}

fn locked(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    state.say("locks");
    let ids = listed(fields, "SnapshotId");
    let mut items = String::new();
    for (id, snapshot) in &state.snapshots {
        if let Some((mode, until)) = snapshot.lock.as_ref().filter(|_| ids.contains(id)) {
            write!(
                items,
                "<item><snapshotId>{id}</snapshotId><lockState>{mode}</lockState>\
                 <lockExpiresOn>{until}</lockExpiresOn></item>"
            )
            .expect("a string grows");
        }
    }
    answered(
        "DescribeLockedSnapshots",
        &format!("<snapshotSet>{items}</snapshotSet>"),
    )
}

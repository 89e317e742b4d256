//! EC2's query interface, as far as snapshots go, with the locks that moto lacks.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{INSTANCE, Snapshot, State};
use crate::support::http::{Answer, Request};

const OWNER: &str = "123456789012";
const ID: &str = "i-0aaaaaaaaaaaaaaaa";
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
        "DescribeVolumes" => volumes(state),
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
    let named = fields.values().any(|value| value == INSTANCE);
    if !ids.is_empty() && ids != [ID] {
        return refusal(400, "InvalidInstanceID.NotFound", "no such instance");
    }
    if ids.is_empty() && !named {
        return answered("DescribeInstances", "<reservationSet/>");
    }
    let mut mapped = String::new();
    for disk in &state.disks {
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
             <instanceId>{ID}</instanceId><rootDeviceName>/dev/xvda</rootDeviceName>\
             <virtualizationType>hvm</virtualizationType>\
             <blockDeviceMapping>{mapped}</blockDeviceMapping></item></instancesSet></item></reservationSet>"
        ),
    )
}

fn volumes(state: &mut State) -> Answer {
    state.say("disks");
    let mut volumes = String::new();
    for disk in &state.disks {
        let source = disk.source.clone().unwrap_or_default();
        write!(
            volumes,
            "<item><volumeId>{}</volumeId><snapshotId>{source}</snapshotId><attachmentSet><item>\
             <volumeId>{}</volumeId><instanceId>{ID}</instanceId><device>{}</device></item></attachmentSet>\
             <tagSet><item><key>Name</key><value>{}</value></item></tagSet></item>",
            disk.id, disk.id, disk.device, disk.name
        )
        .expect("a string grows");
    }
    answered(
        "DescribeVolumes",
        &format!("<volumeSet>{volumes}</volumeSet>"),
    )
}

fn create(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    let volume = fields["VolumeId"].clone();
    let mut tags = BTreeMap::new();
    for number in 1.. {
        let field = |name: &str| fields.get(&format!("TagSpecification.1.Tag.{number}.{name}"));
        let (Some(key), Some(value)) = (field("Key"), field("Value")) else {
            break;
        };
        tags.insert(key.clone(), value.clone());
    }
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
    state.snapshots.insert(id.clone(), snapshot);
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
    let mut wanted = BTreeMap::new();
    for number in 1.. {
        let Some(name) = fields.get(&format!("Filter.{number}.Name")) else {
            break;
        };
        let value = fields[&format!("Filter.{number}.Value.1")].clone();
        wanted.insert(name.trim_start_matches("tag:").to_owned(), value);
    }
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
        if !carries || !ids.is_empty() && !ids.contains(id) {
            continue;
        }
        let status = match (state.stage(snapshot), &snapshot.failure) {
            (1.., Some(_)) => "error",
            (2, None) => "completed",
            _ => "pending",
        };
        let mut tags = String::new();
        for (key, value) in &snapshot.tags {
            write!(tags, "<item><key>{key}</key><value>{value}</value></item>")
                .expect("a string grows");
        }
        let message = snapshot.failure.clone().unwrap_or_default();
        write!(
            items,
            "<item><snapshotId>{id}</snapshotId><volumeId>{}</volumeId><status>{status}</status>\
             <statusMessage>{message}</statusMessage><progress>50%</progress><ownerId>{OWNER}</ownerId>\
             <tagSet>{tags}</tagSet></item>",
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

//! EC2's query interface, as far as snapshots go, with the locks that moto lacks.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Attaching, Disk, Snapshot, State, quota::Exceeded};
use crate::support::http::{Answer, Request};

const OWNER: &str = "123456789012";
/// When everything was made.
const LONG_AGO: &str = "2026-01-01T00:00:00.000Z";
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>r</RequestID></Response>"
    );
    let mut answer = Answer::new(status, body).with("content-type", "text/xml");
    // Where it has one, the SDK takes some refusals for clocks that differ, and asks again.
    answer.headers.retain(|(name, _)| name != "date");
    answer
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
                Some(snapshot) if snapshot.is_locked() => {
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

/// A page of what is listed, and where the next one begins.
fn page(state: &State, fields: &BTreeMap<String, String>, set: &str, items: &[String]) -> String {
    let start = fields.get("NextToken");
    let start: usize = start.map_or(0, |token| token.parse().expect("a token of ours"));
    let page = items.iter().skip(start).take(state.page);
    let page: String = page.map(String::as_str).collect();
    let next = start + state.page;
    let token = if next < items.len() {
        format!("<nextToken>{next}</nextToken>")
    } else {
        String::new()
    };
    format!("<{set}>{page}</{set}>{token}")
}

fn instances(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    state.say("instance");
    let ids = listed(fields, "InstanceId");
    for id in &ids {
        let digits = id.trim_start_matches("i-");
        if !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
            return refusal(400, "InvalidInstanceID.Malformed", "it is no identifier");
        }
        if state.instances.iter().all(|(known, _)| known != id) {
            return refusal(400, "InvalidInstanceID.NotFound", "no such instance");
        }
    }
    let wanted = filters(fields);
    let is_meant = |(id, name): &&(&str, &str)| {
        let is_named = wanted.get("Name").is_none_or(|wanted| wanted == name);
        is_named && (ids.is_empty() || ids.iter().any(|wanted| wanted == id))
    };
    let meant: Vec<_> = state.instances.iter().filter(is_meant).collect();
    let told: Vec<String> = meant.into_iter().map(|one| instance(state, one)).collect();
    let body = page(state, fields, "reservationSet", &told);
    answered("DescribeInstances", &body)
}

fn instance(state: &State, (id, name): &(&str, &str)) -> String {
    let mut mapped = String::new();
    for disk in state.attached(name) {
        write!(
            mapped,
            "<item><deviceName>{}</deviceName><ebs><volumeId>{}</volumeId></ebs></item>",
            disk.device, disk.id
        )
        .expect("a string grows");
    }
    format!(
        "<item><reservationId>r-1</reservationId><instancesSet><item>\
         <instanceId>{id}</instanceId><rootDeviceName>/dev/xvda</rootDeviceName>\
         <placement><availabilityZone>us-east-1a</availabilityZone></placement>\
         <virtualizationType>hvm</virtualizationType>\
         <blockDeviceMapping>{mapped}</blockDeviceMapping></item></instancesSet></item>"
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
    let instance = instance.map(|id| state.name_of(&id));
    let ids = listed(fields, "VolumeId");
    let disks = state.listed().into_iter();
    let disks = disks.filter(|disk| ids.is_empty() || ids.contains(&disk.id));
    let meant = disks.filter(|disk| {
        let of_instance = instance.is_none_or(|instance| disk.instance == instance);
        let mut wanted = wanted.iter();
        of_instance && wanted.all(|(key, value)| disk.tags.get(key) == Some(value))
    });
    let told: Vec<String> = meant.map(|disk| volume(state, &disk)).collect();
    let body = page(state, fields, "volumeSet", &told);
    answered("DescribeVolumes", &body)
}

impl State {
    /// The name of the instance with an identifier.
    fn name_of(&self, id: &str) -> Option<&'static str> {
        let mut known = self.instances.iter();
        known.find(|(known, _)| *known == id).map(|(_, name)| *name)
    }
}

fn volume(state: &State, disk: &Disk) -> String {
    let source = disk.source.clone().unwrap_or_default();
    let own = [("Name".to_owned(), disk.name.clone())];
    let tags = disk.tags.clone().into_iter().chain(own).collect();
    let mut instances = state.instances.iter();
    let attached = instances.find(|(_, name)| disk.instance == Some(*name));
    let attachment = attached.map_or_else(String::new, |(id, _)| {
        format!(
            "<item><volumeId>{}</volumeId><instanceId>{id}</instanceId><device>{}</device></item>",
            disk.id, disk.device
        )
    });
    let status = match (disk.failure, attached) {
        (Some(status), _) => status,
        (None, Some(_)) => "in-use",
        (None, None) if state.is_usable(disk) => "available",
        (None, None) => "creating",
    };
    format!(
        "<item><volumeId>{}</volumeId><snapshotId>{source}</snapshotId><status>{status}</status>\
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
        age: 0,
        failure: None,
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
    let name = state.name_of(&field("InstanceId")).unwrap_or_default();
    state.say(format!("attach {id} to {name} as {device}"));
    match state.attach(&id, name, &device) {
        Attaching::Unknown => refusal(400, "InvalidVolume.NotFound", "no such volume"),
        Attaching::InUse => refusal(400, "VolumeInUse", "it is attached"),
        Attaching::TooEarly => refusal(400, "IncorrectState", "it is being created"),
        Attaching::Done => answered(
            "AttachVolume",
            &format!("<volumeId>{id}</volumeId><status>attaching</status>"),
        ),
    }
}

fn create(state: &mut State, fields: &BTreeMap<String, String>) -> Answer {
    let volume = fields["VolumeId"].clone();
    if state.disk(&volume).is_none() {
        return refusal(400, "InvalidVolume.NotFound", "no such volume");
    }
    if let Some(exceeded) = state.exceeded(&volume) {
        let code = match exceeded {
            Exceeded::Pending => "ConcurrentSnapshotLimitExceeded",
            Exceeded::Rate => "SnapshotCreationPerVolumeRateExceeded",
            Exceeded::InAll | Exceeded::OfDisk => "SnapshotLimitExceeded",
        };
        return refusal(400, code, "there are too many");
    }
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
        ..Snapshot::default()
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
    let mut items = Vec::new();
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
        items.push(format!(
            "<item><snapshotId>{id}</snapshotId><volumeId>{}</volumeId><status>{status}</status>\
             <statusMessage>{message}</statusMessage><progress>50%</progress><ownerId>{OWNER}</ownerId>\
             <startTime>{LONG_AGO}</startTime><tagSet>{tags}</tagSet></item>",
            snapshot.disk
        ));
    }
    let body = page(state, fields, "snapshotSet", &items);
    answered("DescribeSnapshots", &body)
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
    if ids.iter().any(|id| !state.snapshots.contains_key(id)) {
        return refusal(400, "InvalidSnapshot.NotFound", "no such snapshot");
    }
    let mut items = Vec::new();
    for (id, snapshot) in &state.snapshots {
        if let Some((mode, until)) = snapshot.lock.as_ref().filter(|_| ids.contains(id)) {
            let is_held = snapshot.is_locked();
            let mode = if is_held { mode.as_str() } else { "expired" };
            items.push(format!(
                "<item><snapshotId>{id}</snapshotId><lockState>{mode}</lockState>\
                 <lockExpiresOn>{until}</lockExpiresOn></item>"
            ));
        }
    }
    let body = page(state, fields, "snapshotSet", &items);
    answered("DescribeLockedSnapshots", &body)
}

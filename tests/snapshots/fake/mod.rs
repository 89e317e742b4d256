//! Three clouds with instances, disks and snapshots, each spoken to in its own language, all with the same state behind it.
//!
//! Time passes when somebody asks: a snapshot takes so many questions until its point in time is fixed, and so many more until it is
//! complete. Every request is written down; a test can have the next ones fail.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::support::http::{Answer, Reply, Request, Standin};

mod arm;
mod ec2;
mod gce;

pub(crate) const INSTANCE: &str = "pg-1";
/// An instance without disks but its root.
pub(crate) const RECOVERY: &str = "pg-new";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const SUBSCRIPTION: &str = "0b1f6471-1bf0-4dda-aec3-111122223333";
pub(crate) const GROUP: &str = "group";
pub(crate) const PROJECT: &str = "project";
pub(crate) const ZONE: &str = "europe-west8-a";
pub(crate) const TOKEN: &str = "the-token";

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Aws,
    Azure,
    Google,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Aws, Self::Azure, Self::Google];
}

/// A running cloud.
pub(crate) struct Cloud {
    pub(crate) kind: Kind,
    standin: Standin,
    state: Arc<Mutex<State>>,
}

/// What a cloud has.
pub(crate) struct State {
    pub(crate) disks: Vec<Disk>,
    /// By identifier.
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    /// What the next requests that change something end with.
    pub(crate) faults: VecDeque<Fault>,
    /// What was asked, in words.
    pub(crate) asked: Vec<String>,
    /// How many questions it takes until a point in time is fixed, and from there to the end.
    pub(crate) pace: (u32, u32),
    /// Whether every request is refused for want of rights.
    pub(crate) denies: bool,
    /// After how many more requests nothing is answered any more; the last of them is carried out.
    pub(crate) answers: Option<u32>,
    /// Whether that has come to pass.
    pub(crate) is_silent: bool,
    /// How Azure tells that something takes long.
    pub(crate) style: Style,
    /// Told of what happens, at the instant at which it does.
    pub(crate) witness: Option<Witness>,
    operations: BTreeMap<String, String>,
    count: u32,
}

/// Whoever is told of what happens.
pub(crate) type Witness = Box<dyn Fn(&Event) + Send>;

/// What happens to disks.
pub(crate) enum Event {
    /// A snapshot is taken.
    Taken { snapshot: String },
    /// A disk is attached that was made of a snapshot.
    Attached { device: String, snapshot: String },
}

/// A disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) name: String,
    pub(crate) id: String,
    /// The name of the device, the number, the name of the attachment.
    pub(crate) device: String,
    pub(crate) is_root: bool,
    /// The snapshot that it was made of.
    pub(crate) source: Option<String>,
    /// The instance that it is attached to.
    pub(crate) instance: Option<&'static str>,
    pub(crate) tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) disk: String,
    pub(crate) tags: BTreeMap<String, String>,
    /// How often somebody has asked for it.
    pub(crate) age: u32,
    /// The mode and the end of its lock.
    pub(crate) lock: Option<(String, String)>,
    /// Why it fails when its time has come.
    pub(crate) failure: Option<String>,
}

/// How a request fails.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Not at all.
    None,
    /// With this status and this name.
    Refused(u16, &'static str),
    /// It is done, but nobody hears of it.
    Lost,
    /// It is accepted, and fails later.
    Later(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    AsyncOperation,
    Location,
    State,
}

impl Cloud {
    /// One with an instance that has a root disk and two more.
    pub(crate) fn start(kind: Kind) -> Self {
        let disk = |number: usize, name: &str| Disk {
            name: name.to_owned(),
            id: match kind {
                Kind::Aws => format!("vol-0000000000000000{number}"),
                Kind::Azure => format!("{}/disks/{name}", arm::below()),
                Kind::Google => format!("projects/{PROJECT}/zones/{ZONE}/disks/{name}"),
            },
            device: match kind {
                Kind::Aws if matches!(number, 0 | 3) => "/dev/xvda".to_owned(),
                Kind::Aws => format!("/dev/sd{}", ["a", "f", "g"][number]),
                Kind::Azure => format!("{}", number + 9),
                Kind::Google => format!("device-{number}"),
            },
            is_root: matches!(number, 0 | 3),
            source: None,
            instance: Some(if number == 3 { RECOVERY } else { INSTANCE }),
            tags: BTreeMap::new(),
        };
        let names = ["root", "pgdata", "pgwal", "root-of-new"];
        let state = State {
            disks: names
                .iter()
                .enumerate()
                .map(|(number, name)| disk(number, name))
                .collect(),
            snapshots: BTreeMap::new(),
            faults: VecDeque::new(),
            asked: Vec::new(),
            pace: (1, 1),
            denies: false,
            answers: None,
            is_silent: false,
            style: Style::AsyncOperation,
            witness: None,
            operations: BTreeMap::new(),
            count: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let respond = move |request: &Request| reply(kind, &shared, request);
        Self {
            kind,
            standin: Standin::new(respond),
            state,
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.standin.url()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers again, without an end.
    pub(crate) fn answer_again(&self) {
        let mut state = self.state();
        (state.answers, state.is_silent) = (None, false);
    }

    /// What was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    /// What leads to it, in the environment of any program.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let url = self.url().to_owned();
        match self.kind {
            Kind::Aws => vec![("AWS_ENDPOINT_URL_EC2", url)],
            Kind::Azure => vec![
                ("AZURE_RESOURCE_MANAGER_ENDPOINT", url.clone()),
                ("AZURE_POD_IDENTITY_AUTHORITY_HOST", url),
            ],
            Kind::Google => vec![(
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE",
                format!("{url}/compute/v1/"),
            )],
        }
    }
}

fn reply(kind: Kind, state: &Mutex<State>, request: &Request) -> Reply {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = token(request) {
        return answer.into();
    }
    let bearer = request.header("authorization").unwrap_or_default();
    if kind != Kind::Aws && bearer != format!("Bearer {TOKEN}") {
        return Answer::new(401, "{}").into();
    }
    let is_change = match kind {
        Kind::Aws => ec2::changes(request),
        Kind::Azure | Kind::Google => matches!(request.method(), "PUT" | "POST" | "DELETE"),
    };
    if state.denies {
        return match kind {
            Kind::Aws => ec2::refusal(403, "UnauthorizedOperation", "not allowed"),
            Kind::Azure => arm::refusal(403, "AuthorizationFailed", "not allowed"),
            Kind::Google => gce::refusal(403, "forbidden", "not allowed"),
        }
        .into();
    }
    if state.is_silent {
        return Reply::Silence;
    }
    if let Some(left) = state.answers.as_mut() {
        *left = left.saturating_sub(1);
        state.is_silent = state.answers == Some(0);
    }
    let is_last = state.is_silent;
    let fault = state.faults.front().cloned().filter(|_| is_change);
    let fault = fault.unwrap_or(Fault::None);
    if is_change {
        state.faults.pop_front();
    }
    if let Fault::Refused(status, code) = fault {
        let word = format!("refused with {code}");
        state.asked.push(word);
        return match kind {
            Kind::Aws => ec2::refusal(status, code, "refused"),
            Kind::Azure => arm::refusal(status, code, "refused"),
            Kind::Google => gce::refusal(status, code, "refused"),
        }
        .into();
    }
    let before: Vec<String> = state.snapshots.keys().cloned().collect();
    let answer = match kind {
        Kind::Aws => ec2::answer(&mut state, request),
        Kind::Azure => arm::answer(&mut state, request),
        Kind::Google => gce::answer(&mut state, request),
    };
    match fault {
        _ if is_last => Reply::Silence,
        Fault::Lost => Reply::Reset,
        Fault::Later(why) => {
            for (id, snapshot) in &mut state.snapshots {
                if !before.contains(id) {
                    snapshot.failure = Some(why.to_owned());
                }
            }
            answer.into()
        }
        Fault::None | Fault::Refused(..) => answer.into(),
    }
}

/// Whoever asks for a token gets one: a machine's identity on Azure, a login on Google Cloud.
fn token(request: &Request) -> Option<Answer> {
    let is_asked = request.path().starts_with("/metadata/identity") || request.path() == "/token";
    let body = serde_json::json!({
        "access_token": TOKEN,
        "expires_in": 3600,
        "expires_on": "4102444800",
        "token_type": "Bearer",
        "resource": "https://management.azure.com",
    });
    is_asked.then(|| Answer::new(200, body.to_string()).with("content-type", "application/json"))
}

impl State {
    fn take(&mut self, id: String, snapshot: Snapshot) {
        if let Some(witness) = &self.witness {
            witness(&Event::Taken {
                snapshot: id.clone(),
            });
        }
        self.snapshots.entry(id).or_insert(snapshot);
    }

    /// Makes a disk of a snapshot; a disk of the name that is there already stays.
    fn make(&mut self, disk: Disk) {
        if self.disks.iter().all(|other| other.id != disk.id) {
            self.disks.push(disk);
        }
    }

    /// Attaches a disk under a device's name; whether there is such a disk, unattached.
    fn attach(&mut self, id: &str, instance: &str, device: &str) -> bool {
        let instance = [INSTANCE, RECOVERY]
            .into_iter()
            .find(|known| *known == instance);
        let mut disks = self.disks.iter_mut();
        let free = disks.find(|disk| disk.id == id && disk.instance.is_none());
        let (Some(disk), Some(instance)) = (free, instance) else {
            return false;
        };
        disk.instance = Some(instance);
        device.clone_into(&mut disk.device);
        if let (Some(witness), Some(snapshot)) = (&self.witness, disk.source.clone()) {
            let device = device.to_owned();
            witness(&Event::Attached { device, snapshot });
        }
        true
    }

    fn attached(&self, instance: &str) -> Vec<Disk> {
        let own = self
            .disks
            .iter()
            .filter(|disk| disk.instance == Some(instance));
        own.cloned().collect()
    }

    fn disk(&self, id: &str) -> Option<&Disk> {
        self.disks
            .iter()
            .find(|disk| disk.id == id || disk.name == id)
    }

    fn next(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn say(&mut self, words: impl Into<String>) {
        self.asked.push(words.into());
    }

    /// How far a snapshot has come: 0 accepted, 1 fixed, 2 complete.
    fn stage(&self, snapshot: &Snapshot) -> u8 {
        let (fixed, complete) = self.pace;
        u8::from(snapshot.age >= fixed) + u8::from(snapshot.age >= fixed + complete)
    }

    fn grow_older(&mut self, id: &str) {
        if let Some(snapshot) = self.snapshots.get_mut(id) {
            snapshot.age += 1;
        }
    }
}

//! Three clouds with instances, disks and snapshots, each spoken to in its own language, all with the same state behind it.
//!
//! Time passes when somebody asks: a snapshot takes so many questions until its point in time is fixed, and so many more until it is
//! complete; a disk takes as many as the first until it can be used. Every request is written down; a test can have the next ones
//! fail, every so manieth come too often, and the cloud's own quotas count.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use barkeep::{
    model::snapshot::Place,
    secret::Secret,
    snapshot::{Provider, StandIn, open_at},
};

use crate::support::http::{Request, Standin};

mod answer;
mod arm;
mod ec2;
mod gce;
mod quota;

pub(crate) use self::{arm::SCOPE, quota::Quota};

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

    /// Runs a test on each of them, all at once: tests wait more than they work.
    pub(crate) fn each(test: impl AsyncFn(Self) + Sync) {
        std::thread::scope(|scope| {
            for kind in Self::ALL {
                let test = &test;
                scope.spawn(move || {
                    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                    runtime.block_on(test(kind));
                });
            }
        });
    }
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
    /// The instances, by their identifiers; only on AWS may two have one name.
    pub(crate) instances: Vec<(&'static str, &'static str)>,
    /// What the next requests that change something end with.
    pub(crate) faults: VecDeque<Fault>,
    /// What the next ones end with that change nothing.
    pub(crate) questions: VecDeque<Fault>,
    /// Every so manieth request is refused, for there are too many.
    pub(crate) throttles: Option<u32>,
    /// How many things of a list an answer holds.
    pub(crate) page: usize,
    /// How many snapshots there may be; any number, if it says nothing.
    pub(crate) quota: Option<Quota>,
    /// The time by which quotas count, in seconds.
    pub(crate) now: u64,
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
    /// What an operation on no snapshot ends with.
    fails: Option<&'static str>,
    operations: BTreeMap<String, String>,
    count: u32,
    heard: u32,
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
    /// How often somebody has asked for it.
    pub(crate) age: u32,
    /// Why it cannot be used.
    pub(crate) failure: Option<&'static str>,
}

/// When it is: locks have ended before, and hold until after.
const NOW: &str = "2026-11-21";

impl Snapshot {
    /// Whether a lock holds it.
    fn is_locked(&self) -> bool {
        let lock = self.lock.as_ref();
        lock.is_some_and(|(_, until)| until.as_str() > NOW)
    }
}

/// A disk that has always been there.
pub(crate) const OLD: u32 = 1000;

#[derive(Clone, Debug, Default)]
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
    /// When it was taken.
    pub(crate) taken: u64,
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
            age: OLD,
            failure: None,
        };
        let names = ["root", "pgdata", "pgwal", "root-of-new"];
        let state = State {
            disks: names
                .iter()
                .enumerate()
                .map(|(number, name)| disk(number, name))
                .collect(),
            snapshots: BTreeMap::new(),
            instances: vec![
                ("i-0aaaaaaaaaaaaaaaa", INSTANCE),
                ("i-0bbbbbbbbbbbbbbbb", RECOVERY),
            ],
            faults: VecDeque::new(),
            questions: VecDeque::new(),
            throttles: None,
            // Barman reads no second page on AWS.
            page: if kind == Kind::Aws { 1000 } else { 2 },
            quota: None,
            now: 0,
            asked: Vec::new(),
            pace: (1, 1),
            denies: false,
            answers: None,
            is_silent: false,
            style: Style::AsyncOperation,
            witness: None,
            fails: None,
            operations: BTreeMap::new(),
            count: 0,
            heard: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let respond = move |request: &Request| answer::reply(kind, &shared, request);
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

    /// Has the lock of a snapshot end.
    pub(crate) fn end_lock(&self, snapshot: &str) {
        let mut state = self.state();
        let snapshot = state.snapshots.get_mut(snapshot).expect("it is there");
        let (_, until) = snapshot.lock.as_mut().expect("it is locked");
        "2026-01-01T00:00:00.000Z".clone_into(until);
    }

    /// What was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    /// As the program sees it.
    pub(crate) async fn provider(&self) -> Arc<dyn Provider> {
        let url = match self.kind {
            Kind::Google => format!("{}/compute/v1", self.url()),
            Kind::Aws | Kind::Azure => self.url().to_owned(),
        };
        provider(self.kind, url).await
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

/// A cloud at a URL as the program sees it.
pub(crate) async fn provider(kind: Kind, url: String) -> Arc<dyn Provider> {
    let text = |text: &str| Some(text.to_owned());
    let place = match kind {
        Kind::Aws => Place::Aws {
            profile: None,
            region: text(REGION),
        },
        Kind::Azure => Place::Azure {
            subscription: text(SUBSCRIPTION),
            resource_group: text(GROUP),
            credential: None,
        },
        Kind::Google => Place::Gcp {
            project: text(PROJECT),
            zone: text(ZONE),
        },
    };
    let secret = Secret::new(TOKEN.to_owned());
    let opened = open_at(&place, &StandIn { url, secret }).await;
    opened.expect("a stand-in can be opened")
}

/// What becomes of a disk that is to be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attaching {
    Done,
    Unknown,
    InUse,
    TooEarly,
}

impl State {
    /// What the next requests of a kind end with.
    pub(crate) fn faults_of(&mut self, is_change: bool) -> &mut VecDeque<Fault> {
        if is_change {
            &mut self.faults
        } else {
            &mut self.questions
        }
    }

    fn take(&mut self, id: String, mut snapshot: Snapshot) {
        snapshot.taken = self.now;
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

    /// Attaches a disk under a device's name, if there is such a disk, unattached and usable.
    fn attach(&mut self, id: &str, instance: &str, device: &str) -> Attaching {
        let mut known = self.instances.iter().map(|(_, name)| *name);
        let instance = known.find(|known| *known == instance);
        let making = self.pace.0;
        let disk = self.disks.iter_mut().find(|disk| disk.id == id);
        let (Some(disk), Some(instance)) = (disk, instance) else {
            return Attaching::Unknown;
        };
        if disk.instance.is_some() {
            return Attaching::InUse;
        }
        if disk.age <= making {
            return Attaching::TooEarly;
        }
        disk.instance = Some(instance);
        device.clone_into(&mut disk.device);
        if let (Some(witness), Some(snapshot)) = (&self.witness, disk.source.clone()) {
            let device = device.to_owned();
            witness(&Event::Attached { device, snapshot });
        }
        Attaching::Done
    }

    /// The disks, all a question older.
    fn listed(&mut self) -> Vec<Disk> {
        for disk in &mut self.disks {
            disk.age += 1;
        }
        self.disks.clone()
    }

    /// Whether a disk can be used.
    fn is_usable(&self, disk: &Disk) -> bool {
        disk.age > self.pace.0
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

//! What clouds refuse, by the names that they have for it, and what each name comes to for whatever was asked.

use std::{collections::BTreeSet, path::Path};

use barkeep::{
    cli::exit::Exit,
    model::{
        lock::LockMode,
        snapshot::{LockEnd, SnapshotLock},
    },
    snapshot::{
        Begun, Device, Disk as Attached, Error, Provider, Role, Wanted,
        making::{Made, MadeState, Making},
    },
};

use crate::{
    fake::{Cloud, Disk, Fault, INSTANCE, Kind, OLD, Quota, RECOVERY, Snapshot},
    haste::in_haste,
};

/// What a provider is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Attached,
    Detailed,
    Begin,
    Stage,
    Lock,
    Locks,
    Describe,
    Delete,
    Tagged,
    Make,
    Made,
    Attach,
}

use Operation::{
    Attach, Attached as OfInstance, Begin, Delete, Describe, Detailed, Lock, Locks, Make, Stage,
    Tagged,
};

impl Operation {
    const ALL: [Self; 12] = [
        OfInstance,
        Detailed,
        Begin,
        Stage,
        Lock,
        Locks,
        Describe,
        Delete,
        Tagged,
        Make,
        Self::Made,
        Attach,
    ];

    fn changes(self) -> bool {
        matches!(self, Begin | Lock | Delete | Make | Attach)
    }

    /// Whether a cloud is asked at all.
    fn exists(self, kind: Kind) -> bool {
        // AWS tells all of a volume with its instance, and Google Cloud has no locks.
        !matches!(
            (kind, self),
            (Kind::Aws, Detailed) | (Kind::Google, Lock | Locks)
        )
    }
}

/// The names that each cloud has, with the status that comes with each.
const CODES: [(Kind, u16, &str); 37] = [
    (Kind::Aws, 400, "InvalidInstanceID.NotFound"),
    (Kind::Aws, 400, "InvalidInstanceID.Malformed"),
    (Kind::Aws, 400, "InvalidVolume.NotFound"),
    (Kind::Aws, 400, "InvalidSnapshot.NotFound"),
    (Kind::Aws, 400, "InvalidSnapshot.InUse"),
    (Kind::Aws, 400, "SnapshotLocked"),
    (Kind::Aws, 400, "IncorrectState"),
    (Kind::Aws, 400, "VolumeInUse"),
    (Kind::Aws, 400, "SnapshotCreationPerVolumeRateExceeded"),
    (Kind::Aws, 400, "ConcurrentSnapshotLimitExceeded"),
    (Kind::Aws, 400, "PendingSnapshotLimitExceeded"),
    (Kind::Aws, 400, "SnapshotLimitExceeded"),
    (Kind::Aws, 400, "AttachmentLimitExceeded"),
    (Kind::Aws, 400, "RequestExpired"),
    (Kind::Aws, 403, "UnauthorizedOperation"),
    (Kind::Aws, 403, "AuthFailure"),
    (Kind::Aws, 503, "RequestLimitExceeded"),
    (Kind::Azure, 400, "InvalidApiVersionParameter"),
    (Kind::Azure, 400, "NoRegisteredProviderFound"),
    (Kind::Azure, 401, "InvalidAuthenticationToken"),
    (Kind::Azure, 403, "AuthorizationFailed"),
    (Kind::Azure, 404, "ResourceNotFound"),
    (Kind::Azure, 404, "ResourceGroupNotFound"),
    (Kind::Azure, 409, "Conflict"),
    (Kind::Azure, 409, "OperationNotAllowed"),
    (Kind::Azure, 409, "ScopeLocked"),
    (Kind::Azure, 409, "SnapshotsLimitReached"),
    (Kind::Azure, 429, "TooManyRequests"),
    (Kind::Azure, 429, "SubscriptionRequestsThrottled"),
    (Kind::Google, 400, "resourceInUseByAnotherResource"),
    (Kind::Google, 400, "resourceNotReady"),
    (Kind::Google, 403, "forbidden"),
    (Kind::Google, 403, "quotaExceeded"),
    (Kind::Google, 403, "rateLimitExceeded"),
    (Kind::Google, 404, "notFound"),
    (Kind::Google, 409, "alreadyExists"),
    (Kind::Google, 412, "conditionNotMet"),
];

/// The names that come with the end of something that was accepted.
const LATER: [(Kind, &str); 5] = [
    (Kind::Azure, "Conflict"),
    (Kind::Azure, "CopySourceNotFound"),
    (Kind::Google, "RESOURCE_OPERATION_RATE_EXCEEDED"),
    (Kind::Google, "QUOTA_EXCEEDED"),
    (Kind::Google, "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"),
];

/// What a name comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// An error with the cloud's words.
    Told,
    /// There is no such instance.
    NoInstance,
    /// What is asked for is not there.
    Absent,
    /// It is locked.
    Locked,
    /// Whether it is locked is not known.
    Unknown,
    /// It passes, and the request is repeated.
    Passes,
}

fn meaning(code: &str, operation: Operation) -> Meaning {
    match (code, operation) {
        ("InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed", OfInstance) => {
            Meaning::NoInstance
        }
        ("ResourceNotFound" | "notFound", OfInstance) => Meaning::NoInstance,
        (
            "InvalidSnapshot.NotFound" | "ResourceNotFound" | "notFound",
            Describe | Delete | Stage | Locks,
        )
        | ("InvalidApiVersionParameter" | "NoRegisteredProviderFound", Locks) => Meaning::Absent,
        ("SnapshotLocked" | "ScopeLocked", Delete) => Meaning::Locked,
        ("SnapshotCreationPerVolumeRateExceeded", Begin)
        | (
            "RequestLimitExceeded"
            | "TooManyRequests"
            | "SubscriptionRequestsThrottled"
            | "rateLimitExceeded",
            _,
        ) => Meaning::Passes,
        (_, Locks) => Meaning::Unknown,
        _ => Meaning::Told,
    }
}

/// A cloud with one snapshot, an unattached disk, and a provider.
struct Scene {
    cloud: Cloud,
    provider: std::sync::Arc<dyn Provider>,
}

/// What the cloud knows the snapshot by.
fn id(kind: Kind) -> &'static str {
    match kind {
        Kind::Aws => "snap-00000000000000001",
        Kind::Azure | Kind::Google => "pgdata-one",
    }
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        let cloud = Cloud::start(kind);
        let provider = cloud.provider().await;
        Self { cloud, provider }
    }

    /// As it was in the beginning.
    fn reset(&self) {
        let kind = self.cloud.kind;
        let mut state = self.cloud.state();
        let free = Disk {
            id: format!("{}9", state.disks[1].id),
            name: format!("{}9", state.disks[1].name),
            instance: None,
            age: OLD,
            ..state.disks[1].clone()
        };
        let snapshot = Snapshot {
            name: "pgdata-one".to_owned(),
            disk: free.id.clone(),
            age: OLD,
            ..Snapshot::default()
        };
        state.disks.truncate(4);
        state.disks.push(free);
        state.snapshots = [(id(kind).to_owned(), snapshot)].into();
        state.faults.clear();
        state.questions.clear();
    }

    /// Asks for something; what came of it in words.
    async fn ask(&self, operation: Operation) -> Result<String, Error> {
        let (provider, kind) = (&*self.provider, self.cloud.kind);
        let id = id(kind);
        let free = {
            let state = self.cloud.state();
            (state.disks[1].id.clone(), state.disks[4].id.clone())
        };
        let tags = [("key".to_owned(), "value".to_owned())];
        let done = |()| "done".to_owned();
        match operation {
            OfInstance => {
                // Only on AWS an instance has an identifier.
                let name = if kind == Kind::Aws {
                    "i-0aaaaaaaaaaaaaaaa"
                } else {
                    INSTANCE
                };
                let disks = provider.attached(name).await?;
                Ok(disks.len().to_string())
            }
            Detailed => Ok(provider.detailed(disk(&free.0)).await?.id),
            Begin => {
                let disk = &disk(&free.0);
                let (name, tags) = ("pgdata-two", &tags[..]);
                Ok(provider.begin(&Wanted { disk, name, tags }).await?.name)
            }
            Stage => {
                let begun = Begun {
                    id: id.to_owned(),
                    name: "pgdata-one".to_owned(),
                    owner: None,
                    operation: None,
                };
                Ok(format!("{:?}", provider.stage(&begun).await?))
            }
            Lock => {
                let lock = SnapshotLock {
                    mode: LockMode::Governance,
                    end: Some(LockEnd::Days(7.try_into().expect("a number"))),
                    cool_off_hours: None,
                };
                provider.lock(id, &lock).await.map(done)
            }
            Locks => Ok(format!("{:?}", provider.locks(&[id.to_owned()]).await?)),
            Describe => {
                let described = provider.describe(id).await?;
                Ok(format!("{:?}", described.map(|it| it.name)))
            }
            Delete => Ok(format!("{:?}", provider.delete(id).await?)),
            Tagged => Ok(provider.tagged(&[]).await?.len().to_string()),
            Make => {
                let making = Making {
                    snapshot: id,
                    instance: RECOVERY,
                    name: "again",
                    kind: None,
                    tags: &tags,
                };
                provider.make(&making).await.map(done)
            }
            Operation::Made => Ok(provider.made(&[]).await?.len().to_string()),
            Attach => {
                let made = Made {
                    name: "pgdata9".to_owned(),
                    id: free.1,
                    state: MadeState::Ready,
                };
                provider.attach(RECOVERY, &made).await.map(done)
            }
        }
    }

    /// What comes of it when the cloud ends it so.
    async fn refused(&self, fault: Fault, operation: Operation) -> Result<String, Error> {
        self.reset();
        let is_change = operation.changes();
        self.cloud.state().faults_of(is_change).push_back(fault);
        let asked = self.ask(operation).await;
        let state = self.cloud.state();
        assert!(
            state.faults.is_empty() && state.questions.is_empty(),
            "it was asked"
        );
        drop(state);
        asked
    }
}

fn disk(id: &str) -> Attached {
    Attached {
        id: id.to_owned(),
        name: None,
        device: Device::Lun(1),
        role: Role::Data,
        source: None,
        location: None,
    }
}

/// Checks what was made of a refusal, by the message and the exit code that stand in the manual.
fn check(
    (operation, code): (Operation, &str),
    meaning: Meaning,
    asked: Result<String, Error>,
    usual: &str,
) {
    let expected = format!("{operation:?} {code}: {meaning:?}");
    match meaning {
        Meaning::Passes => assert_eq!(asked.expect(&expected), usual),
        Meaning::Absent => {
            let words = asked.expect(&expected);
            let absent = ["None", "Absent", "[Free]", "Fixed(None)", "Accepted"];
            assert!(absent.contains(&words.as_str()), "{expected}: {words}");
        }
        Meaning::Unknown => {
            let words = asked.expect(&expected);
            let is_told = words.contains("Unknown(") && words.contains(code);
            assert!(is_told, "{expected}: {words}");
        }
        Meaning::NoInstance => {
            let error = asked.expect_err(&expected);
            assert!(
                error
                    .to_string()
                    .starts_with("Cannot find compute instance ")
            );
            assert_eq!(Exit::from(error.kind()).code(), 1);
        }
        Meaning::Locked => {
            let error = asked.expect_err(&expected);
            assert!(
                error.to_string().starts_with("Locked snapshot: "),
                "{error}"
            );
            assert_eq!(Exit::from(error.kind()).code(), 4);
        }
        Meaning::Told => {
            let error = asked.expect_err(&expected);
            let told = error.to_string();
            assert!(told.starts_with("cannot "), "{told}");
            assert!(told.ends_with(&format!(": {code}: refused")), "{told}");
            assert_eq!(Exit::from(error.kind()).code(), 1);
        }
    }
}

async fn each_name_has_its_meaning(kind: Kind) {
    let scene = Scene::new(kind).await;
    let operations = Operation::ALL.into_iter();
    for operation in operations.filter(|operation| operation.exists(kind)) {
        let usual = scene.refused(Fault::None, operation).await;
        let usual = usual.unwrap_or_else(|error| panic!("{operation:?}: {error}"));
        let own = CODES.iter().filter(|(of, ..)| *of == kind);
        for (_, status, code) in own {
            let asked = scene
                .refused(Fault::Refused(*status, code), operation)
                .await;
            let meaning = meaning(code, operation);
            check((operation, code), meaning, asked, &usual);
        }
    }
}

#[tokio::test]
async fn each_name_that_aws_has_for_a_refusal_has_its_meaning() {
    in_haste(each_name_has_its_meaning(Kind::Aws)).await;
}

#[tokio::test]
async fn each_name_that_azure_has_for_a_refusal_has_its_meaning() {
    in_haste(each_name_has_its_meaning(Kind::Azure)).await;
}

#[tokio::test]
async fn each_name_that_google_cloud_has_for_a_refusal_has_its_meaning() {
    in_haste(each_name_has_its_meaning(Kind::Google)).await;
}

#[tokio::test]
async fn what_was_accepted_and_fails_is_told_by_its_name() {
    for (kind, code) in LATER {
        let scene = Scene::new(kind).await;
        for operation in [Delete, Make, Attach] {
            let failed = in_haste(scene.refused(Fault::Later(code), operation)).await;
            let failed = failed.expect_err("it fails").to_string();
            let told = format!(": {code}: it failed");
            assert!(failed.ends_with(&told), "{operation:?}: {failed}");
        }
    }
}

/// Takes one more snapshot of a disk that has so many like this one; by what name it fails.
async fn one_more((kind, quota): (Kind, Quota), count: usize, like: &Snapshot) -> Option<String> {
    let scene = Scene::new(kind).await;
    scene.reset();
    {
        let mut state = scene.cloud.state();
        let disk = state.disks[1].id.clone();
        let disk = Snapshot {
            disk,
            ..like.clone()
        };
        let all = (0..count).map(|count| (format!("one-{count}"), disk.clone()));
        state.snapshots = all.collect();
        (state.quota, state.now) = (Some(quota), 10_000);
    }
    match in_haste(scene.ask(Begin)).await {
        // What Google Cloud has accepted may fail later.
        Ok(_) => {
            let mut state = scene.cloud.state();
            let taken = state.snapshots.values_mut().find(|it| it.age == 0);
            taken.and_then(|taken| taken.failure.clone())
        }
        Err(error) => Some(error.to_string()),
    }
}

#[tokio::test]
async fn a_cloud_has_quotas_and_names_them() {
    let plain = Snapshot {
        age: OLD,
        ..Snapshot::default()
    };
    let lately = Snapshot {
        taken: 9_900,
        ..plain.clone()
    };
    let pending = Snapshot {
        // Asked for once, so that it is told from the next one.
        age: 1,
        ..Snapshot::default()
    };
    let cases = [
        (Kind::Aws, 5, &pending, "ConcurrentSnapshotLimitExceeded"),
        (Kind::Aws, 9, &plain, "SnapshotLimitExceeded"),
        (Kind::Azure, 500, &plain, "SnapshotsLimitReached"),
        (Kind::Azure, 7, &lately, "TooManyRequests"),
        (Kind::Google, 1000, &plain, "quotaExceeded"),
        (Kind::Google, 6, &lately, "RESOURCE_OPERATION_RATE_EXCEEDED"),
    ];
    for (kind, allowed, like, code) in cases {
        let mut quota = Quota::of(kind);
        if kind == Kind::Aws {
            // A hundred thousand are too many to pretend.
            quota.in_all = 9;
        }
        let kept = one_more((kind, quota), allowed - 1, like).await;
        assert_eq!(kept, None, "{code}");
        let told = one_more((kind, quota), allowed, like).await.expect(code);
        assert!(told.contains(code), "{code}: {told}");
    }
}

/// The manual's table of what clouds refuse names what is checked here, and nothing else.
#[test]
fn the_manual_has_each_name() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/snapshots.md");
    let manual = std::fs::read_to_string(manual).expect("a manual");
    let (_, section) = manual.split_once("## What a cloud refuses").expect("it");
    let section = section.split("\n## ").next().expect("text");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let told: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let names = CODES.iter().map(|(_, _, code)| *code);
    let names: BTreeSet<&str> = names.chain(LATER.iter().map(|(_, code)| *code)).collect();
    assert_eq!(told, names);
}

//! What every cloud must do for the program: clauses that run against each of them, whatever language it speaks.
//!
//! Each clause has a cloud of its own. Those of [`everywhere`] need nothing but the provider, so on AWS another hand's EC2 is held to them too.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use barkeep::{
    cli::exit::Exit,
    model::{
        backup::BackupId,
        lock::{Lock, LockMode},
        progress::{Event, Progress, Unwatched},
        snapshot::{DiskSnapshot, LockEnd, Mount, SnapshotLock, SnapshotSet},
    },
    recover::disks::making::{self as restoring, DiskStage, Wish},
    snapshot::{
        Begun, Deleted, Disk, Error, Found, Mounting, Order, Owner, Provider, Role, Stage, Tag,
        Taking, Waiting, Wanted,
        making::{Made, MadeState, Making, ready},
        survey,
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    fake::{Cloud, Fault, INSTANCE, Kind, RECOVERY, provider},
    haste::in_haste,
    support::{
        bed::{bed, run},
        s3::Server,
    },
};

/// What the clauses are about.
pub(crate) struct Subject {
    pub(crate) provider: Arc<dyn Provider>,
    /// The instance that gets disks.
    recovery: &'static str,
}

pub(crate) fn tags(backup: &str) -> Vec<Tag> {
    owner().tags(&BackupId::new(backup.to_owned()))
}

fn owner() -> Owner {
    Owner {
        server: "srv".to_owned(),
        catalog: "file:///Catalog".to_owned(),
    }
}

pub(crate) const FIRST: &str = "20261120T235109";
pub(crate) const SECOND: &str = "20261121T000000";

impl Subject {
    async fn found(&self, disks: &[&str]) -> Result<Vec<Found>, Error> {
        let mounts = disks.iter().map(|disk| {
            let mount = Mount {
                point: format!("/mnt/{disk}"),
                options: "rw".to_owned(),
            };
            ((*disk).to_owned(), mount)
        });
        let mounting = Mounting::Declared(mounts.collect::<BTreeMap<_, _>>());
        let order = Order {
            instance: INSTANCE.to_owned(),
            disks: disks.iter().map(|disk| (*disk).to_owned()).collect(),
        };
        let surveyed = survey(&*self.provider, &order, &mounting, &[]).await?;
        surveyed.complete()
    }

    async fn disk(&self, name: &str) -> Disk {
        let found = self.found(&[name]).await.expect("it is attached");
        found.into_iter().next().expect("one").disk
    }

    /// Takes a snapshot and waits until it can be used.
    pub(crate) async fn take(&self, name: &str, tags: &[Tag]) -> Begun {
        let disk = self.disk("pgdata").await;
        let disk = &disk;
        let begun = self.provider.begin(&Wanted { disk, name, tags }).await;
        let begun = begun.expect("it is accepted");
        while self.provider.stage(&begun).await.expect("it goes on") != Stage::Usable {}
        begun
    }

    async fn ids(&self, tags: &[Tag]) -> Vec<String> {
        let found = self.provider.tagged(tags).await.expect("a list");
        let mut ids: Vec<String> = found.into_iter().map(|found| found.id).collect();
        ids.sort();
        ids
    }

    async fn make(&self, snapshot: &str, tags: &[Tag]) -> Result<(), Error> {
        let making = Making {
            snapshot,
            instance: self.recovery,
            name: "pgdata-again",
            kind: None,
            tags,
        };
        self.provider.make(&making).await
    }

    /// Makes a disk, and waits until it can be attached.
    async fn made(&self, snapshot: &str, tags: &[Tag]) -> Result<Made, Error> {
        self.make(snapshot, tags).await?;
        let until = Instant::now() + Duration::from_mins(1);
        ready(&*self.provider, tags, (until, &CancellationToken::new())).await
    }
}

/// The clauses that need nothing but the provider.
pub(crate) async fn everywhere(subject: &Subject) {
    disks_are_told_with_their_names_and_what_they_are_for(subject).await;
    a_disk_is_meant_by_its_name_and_by_its_identifier(subject).await;
    what_is_not_there_is_told_with_what_is(subject).await;
    a_snapshot_is_taken_found_by_its_tags_and_deleted_once(subject).await;
    what_is_absent_is_free_and_no_error(subject).await;
    a_disk_is_made_of_a_snapshot_and_attached(subject).await;
}

async fn disks_are_told_with_their_names_and_what_they_are_for(subject: &Subject) {
    let disks = subject.provider.attached(INSTANCE).await.expect("disks");
    let data = disks.iter().filter(|disk| disk.role == Role::Data);
    let mut names: Vec<_> = data.filter_map(|disk| disk.name.as_deref()).collect();
    names.sort_unstable();
    assert_eq!((names, disks.len()), (vec!["pgdata", "pgwal"], 3));
    for disk in disks {
        let (id, device) = (disk.id.clone(), disk.device.clone());
        let detailed = subject.provider.detailed(disk).await.expect("a disk");
        assert_eq!((detailed.id, detailed.device), (id, device));
        assert_eq!(detailed.source, None, "it was made of nothing");
    }
}

async fn a_disk_is_meant_by_its_name_and_by_its_identifier(subject: &Subject) {
    let by_name = subject.disk("pgwal").await;
    assert_eq!(by_name.name.as_deref(), Some("pgwal"));
    assert_eq!(subject.disk(&by_name.id).await, by_name);
}

async fn what_is_not_there_is_told_with_what_is(subject: &Subject) {
    let unknown = subject.provider.attached("pg-9").await;
    let unknown = unknown.expect_err("there is none");
    assert_eq!(unknown.to_string(), "Cannot find compute instance pg-9");
    assert_eq!(Exit::from(unknown.kind()).code(), 1);
    let missing = subject.found(&["pgdata", "other"]).await;
    let missing = missing.expect_err("there is none").to_string();
    let told = "Cannot find disks attached to compute instance pg-1: other (attached are: ";
    assert!(missing.starts_with(told), "{missing}");
    assert!(
        missing.contains("pgdata (") && missing.contains("pgwal ("),
        "{missing}"
    );
    let disks = subject.provider.attached(INSTANCE).await.expect("disks");
    let root = disks.iter().find(|disk| disk.role != Role::Data);
    let refused = subject.found(&[&root.expect("a root").id]).await;
    let refused = refused.expect_err("it is refused");
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    assert_eq!(Exit::from(refused.kind()).code(), 4);
}

async fn a_snapshot_is_taken_found_by_its_tags_and_deleted_once(subject: &Subject) {
    let provider = &*subject.provider;
    let mut first = Vec::new();
    for name in ["pgdata-a", "pgdata-b", "pgdata-c"] {
        let begun = subject.take(name, &tags(FIRST)).await;
        assert_eq!(begun.name, name);
        first.push(begun.id);
    }
    first.sort();
    let second = subject.take("pgdata-d", &tags(SECOND)).await.id;
    assert_eq!(subject.ids(&tags(FIRST)).await, first);
    let all = subject.ids(&owner().of_catalog()).await;
    assert_eq!(all.len(), 4, "{all:?}");
    let other = Owner {
        server: "other".to_owned(),
        ..owner()
    };
    assert!(subject.ids(&other.of_catalog()).await.is_empty());

    let described = provider.describe(&second).await.expect("an answer");
    let described = described.expect("it is there");
    assert_eq!(described.name.as_deref(), Some("pgdata-d"));
    assert!(described.begun_at.is_some(), "when");
    assert!(provider.carries(&described, &tags(SECOND)));
    assert!(
        !provider.carries(&described, &tags(FIRST)),
        "another backup's"
    );
    let backup = provider.backup_of(&described);
    assert_eq!(backup, Some(BackupId::new(SECOND.to_owned())));
    assert_eq!(provider.found(&described).id(), second);

    for expected in [Deleted::Gone, Deleted::Absent] {
        let deleted = provider.delete(&second).await.expect("an answer");
        assert_eq!(deleted, expected);
        assert_eq!(provider.describe(&second).await.expect("an answer"), None);
    }
    assert_eq!(subject.ids(&owner().of_catalog()).await, first);
}

async fn what_is_absent_is_free_and_no_error(subject: &Subject) {
    let (provider, absent) = (&*subject.provider, "snap-00000000000000abc");
    assert_eq!(provider.describe(absent).await.expect("an answer"), None);
    assert_eq!(
        provider.delete(absent).await.expect("an answer"),
        Deleted::Absent
    );
    assert_eq!(provider.locks(&[]).await.expect("an answer"), []);
}

async fn a_disk_is_made_of_a_snapshot_and_attached(subject: &Subject) {
    let provider = &*subject.provider;
    let snapshot = subject.take("pgdata-e", &tags(FIRST)).await.id;
    let tags = [("barkeep-restored".to_owned(), FIRST.to_owned())];
    assert_eq!(provider.made(&tags).await.expect("a list"), []);
    let made = subject.made(&snapshot, &tags).await.expect("a disk");
    assert_eq!(
        (made.name.as_str(), &made.state),
        ("pgdata-again", &MadeState::Ready)
    );
    let attached = provider.attach(subject.recovery, &made).await;
    attached.expect("it is attached");
    let made = provider.made(&tags).await.expect("a list");
    assert_eq!(
        made.iter().map(|made| &made.state).collect::<Vec<_>>(),
        [&MadeState::Attached]
    );
    let disks = provider.attached(subject.recovery).await.expect("disks");
    let mut own = disks.into_iter().filter(|disk| disk.id == made[0].id);
    let own = own.next().expect("it is attached");
    let detailed = provider.detailed(own).await.expect("a disk");
    assert_eq!(detailed.source, Some(snapshot));
}

/// A stand-in, and the provider that speaks to it.
pub(crate) struct Own {
    pub(crate) cloud: Cloud,
    pub(crate) subject: Subject,
}

impl Own {
    pub(crate) async fn new(kind: Kind) -> Self {
        let cloud = Cloud::start(kind);
        let subject = Subject {
            provider: cloud.provider().await,
            recovery: RECOVERY,
        };
        Self { cloud, subject }
    }

    fn count(&self) -> usize {
        self.cloud.state().snapshots.len()
    }
}

/// Progress that is written down.
#[derive(Default)]
struct Watched(Mutex<Vec<u8>>);

impl Progress for Watched {
    fn report(&self, event: Event) {
        if let Event::Snapshots { percent } = event {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(percent);
        }
    }
}

async fn pages_change_nothing(kind: Kind) {
    let own = Own::new(kind).await;
    own.cloud.state().page = 1;
    everywhere(&own.subject).await;
}

async fn too_many_requests_change_nothing(kind: Kind) {
    let own = Own::new(kind).await;
    own.cloud.state().throttles = Some(3);
    everywhere(&own.subject).await;
}

async fn a_name_of_two_disks_is_refused_with_both(kind: Kind) {
    let own = Own::new(kind).await;
    let mut disk = own.cloud.state().disks[1].clone();
    let first = disk.id.clone();
    disk.id = match kind {
        // A disk's name is the end of its identifier, and one of the region may have it too.
        Kind::Google => first.replace("zones", "regions"),
        Kind::Aws | Kind::Azure => format!("{first}0"),
    };
    let second = disk.id.clone();
    own.cloud.state().disks.push(disk);
    let refused = own.subject.found(&["pgdata"]).await;
    let refused = refused.expect_err("two have this name");
    assert_eq!(
        refused.to_string(),
        format!(
            "`pgdata` is no unique name of a disk: it means pgdata ({first}), pgdata ({second})"
        )
    );
    assert_eq!(Exit::from(refused.kind()).code(), 4);
    assert_eq!(own.subject.disk(&second).await.id, second);
}

/// Waits for two snapshots, in so many seconds.
async fn reach(own: &Own, limit: u64, progress: &dyn Progress) -> (Result<(), Error>, usize) {
    let cancel = CancellationToken::new();
    let provider = &*own.subject.provider;
    let mut taking = Taking::new(provider, None, (&[], tags(FIRST)));
    for found in own
        .subject
        .found(&["pgdata", "pgwal"])
        .await
        .expect("disks")
    {
        let begun = taking.begin(found, &BackupId::new(FIRST.to_owned())).await;
        begun.expect("it is accepted");
    }
    let limit = Duration::from_secs(limit);
    let waiting = Waiting {
        until: Instant::now() + limit,
        limit,
        cancel: &cancel,
        progress,
    };
    let reached = match taking.reach(Stage::Fixed(None), &waiting).await {
        Ok(()) => taking.reach(Stage::Usable, &waiting).await,
        late => late,
    };
    let recorded = taking.set().disks.len();
    if reached.is_err() {
        assert_eq!(taking.undo().await, None, "all of it is removed");
    }
    (reached, recorded)
}

async fn snapshots_are_waited_for_until_a_deadline(kind: Kind) {
    let own = Own::new(kind).await;
    own.cloud.state().pace = (3, 3);
    let watched = Watched::default();
    let (reached, recorded) = reach(&own, 600, &watched).await;
    reached.expect("they are complete");
    assert_eq!((recorded, own.count()), (2, 2));
    let seen = watched.0.into_inner().expect("no panic");
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(
        seen.first() < Some(&100) && seen.last() == Some(&100),
        "{seen:?}"
    );

    own.cloud.state().snapshots.clear();
    own.cloud.state().pace = (1000, 0);
    let (reached, _) = reach(&own, 2, &Unwatched).await;
    let late = reached.expect_err("it takes longer").to_string();
    let names = format!("pgdata-{0}, pgwal-{0}", FIRST.to_lowercase());
    assert_eq!(
        late,
        format!("the snapshots {names} are not complete after 2 seconds")
    );
    assert_eq!(own.count(), 0);
}

async fn a_snapshot_that_fails_is_told_and_removed(kind: Kind) {
    let own = Own::new(kind).await;
    let later = Fault::Later("OutOfSpace");
    own.cloud.state().faults.extend([Fault::None, later]);
    let (reached, _) = reach(&own, 600, &Unwatched).await;
    let failed = reached.expect_err("one failed");
    let name = format!("pgwal-{}", FIRST.to_lowercase());
    let told = failed.to_string();
    assert!(
        told.starts_with(&format!("Snapshot '{name}' failed: ")),
        "{told}"
    );
    assert!(told.contains("OutOfSpace"), "{told}");
    assert_eq!(Exit::from(failed.kind()).code(), 1);
    assert_eq!(own.count(), 0);
}

async fn a_snapshot_that_is_not_listed_yet_is_waited_for(kind: Kind) {
    let own = Own::new(kind).await;
    let begun = own.subject.take("pgdata-a", &tags(FIRST)).await;
    let begun = Begun {
        operation: None,
        ..begun
    };
    own.cloud.state().questions.push_back(match kind {
        Kind::Aws => Fault::Refused(400, "InvalidSnapshot.NotFound"),
        Kind::Azure => Fault::Refused(404, "ResourceNotFound"),
        Kind::Google => Fault::Refused(404, "notFound"),
    });
    let provider = &*own.subject.provider;
    assert_ne!(
        provider.stage(&begun).await.expect("no error"),
        Stage::Usable
    );
    assert_eq!(
        provider.stage(&begun).await.expect("no error"),
        Stage::Usable
    );
}

async fn a_lost_answer_changes_nothing(kind: Kind) {
    let own = Own::new(kind).await;
    let lost = || own.cloud.state().faults.push_back(Fault::Lost);
    lost();
    let snapshot = own.subject.take("pgdata-a", &tags(FIRST)).await.id;
    assert_eq!(own.count(), 1);
    lost();
    let made = own.subject.made(&snapshot, &tags(FIRST)).await;
    let made = made.expect("a disk");
    assert_eq!(own.cloud.state().disks.len(), 5);
    assert_eq!(made.state, MadeState::Ready);
    lost();
    let deleted = own.subject.provider.delete(&snapshot).await;
    deleted.expect("whoever deletes again finds nothing");
    assert_eq!(own.count(), 0);
}

async fn a_disk_that_cannot_be_used_is_told(kind: Kind) {
    let own = Own::new(kind).await;
    let snapshot = own.subject.take("pgdata-a", &tags(FIRST)).await.id;
    own.subject
        .make(&snapshot, &tags(FIRST))
        .await
        .expect("accepted");
    let word = match kind {
        Kind::Aws => "error",
        Kind::Azure => "Failed",
        Kind::Google => "FAILED",
    };
    own.cloud.state().disks[4].failure = Some(word);
    let until = Instant::now() + Duration::from_mins(1);
    let waiting = (until, &CancellationToken::new());
    let failed = ready(&*own.subject.provider, &tags(FIRST), waiting).await;
    let failed = failed.expect_err("it cannot be used");
    assert!(
        matches!(&failed, Error::DiskFailed { name, .. } if name == "pgdata-again"),
        "{failed}"
    );
    own.cloud.state().disks[4].age = 0;
    own.cloud.state().disks[4].failure = None;
    own.cloud.state().pace.0 = 1000;
    let until = Instant::now() + Duration::from_secs(1);
    let waiting = (until, &CancellationToken::new());
    let late = ready(&*own.subject.provider, &tags(FIRST), waiting).await;
    let late = late.expect_err("it takes longer").to_string();
    assert!(
        late.contains("pgdata-again") && late.contains("not ready in time"),
        "{late}"
    );
}

/// Google Cloud has no locks of snapshots.
async fn a_lock_keeps_one_snapshot_and_no_other(kind: Kind) {
    let own = Own::new(kind).await;
    let provider = &*own.subject.provider;
    let lock = |mode| SnapshotLock {
        mode,
        end: Some(LockEnd::Days(7.try_into().expect("a number"))),
        cool_off_hours: None,
    };
    let free = own.subject.take("pgdata-a", &tags(FIRST)).await.id;
    for mode in [LockMode::Governance, LockMode::Compliance] {
        let name = format!("pgdata-{mode:?}").to_lowercase();
        let held = own.subject.take(&name, &tags(FIRST)).await.id;
        let locked = provider.lock(&held, &lock(mode)).await;
        if kind == Kind::Google {
            assert_eq!(Exit::from(locked.expect_err("none").kind()).code(), 3);
            continue;
        }
        locked.expect("it is locked");
        let asked = [
            "snap-00000000000000abc".to_owned(),
            held.clone(),
            free.clone(),
        ];
        let locks = provider.locks(&asked).await.expect("locks");
        let is_it = matches!(
            &locks[1],
            Lock::LockedUntil { until: Some(_), mode: told } if *told == mode
        );
        assert!(is_it, "{locks:?}");
        assert_eq!((&locks[0], &locks[2]), (&Lock::Free, &Lock::Free));
        let refused = provider.delete(&held).await.expect_err("it is locked");
        let code = if kind == Kind::Aws { 4 } else { 1 };
        assert_eq!(Exit::from(refused.kind()).code(), code, "{refused}");
        own.cloud.end_lock(&held);
        let locks = provider.locks(std::slice::from_ref(&held)).await;
        assert_eq!(locks.expect("locks"), [Lock::Free], "it has ended");
        assert_eq!(
            provider.delete(&held).await.expect("it goes"),
            Deleted::Gone
        );
    }
}

async fn a_restore_goes_on_when_answers_are_lost(kind: Kind) {
    let own = Own::new(kind).await;
    let provider = &*own.subject.provider;
    let disk = own.subject.disk("pgdata").await;
    let begun = own.subject.take("pgdata-a", &tags(FIRST)).await;
    let set = SnapshotSet {
        disks: vec![DiskSnapshot {
            mount: None,
            recorded: provider.recorded(&disk, &begun, None),
        }],
        account: provider.account(&[begun]),
    };
    let wish = Wish {
        backup: BackupId::new(FIRST.to_owned()),
        owner: owner(),
        instance: RECOVERY.to_owned(),
        kind: None,
        limit: Duration::from_mins(10),
    };
    // Making it, and attaching it: AWS refuses to attach a volume twice.
    let faults = [Fault::Lost, Fault::None, Fault::Lost, Fault::None];
    own.cloud.state().faults.extend(faults);
    let made = restoring::make(provider, &set, &wish, &CancellationToken::new()).await;
    let made = made.expect("it goes on");
    assert!(matches!(made[0].stage, DiskStage::Attached(_)), "{made:?}");
    let state = own.cloud.state();
    assert_eq!((state.disks.len(), state.faults.len()), (5, 0));
}

async fn conforms(kind: Kind) {
    everywhere(&Own::new(kind).await.subject).await;
    pages_change_nothing(kind).await;
    too_many_requests_change_nothing(kind).await;
    a_name_of_two_disks_is_refused_with_both(kind).await;
    snapshots_are_waited_for_until_a_deadline(kind).await;
    a_snapshot_that_fails_is_told_and_removed(kind).await;
    a_snapshot_that_is_not_listed_yet_is_waited_for(kind).await;
    a_lost_answer_changes_nothing(kind).await;
    a_restore_goes_on_when_answers_are_lost(kind).await;
    a_disk_that_cannot_be_used_is_told(kind).await;
    a_lock_keeps_one_snapshot_and_no_other(kind).await;
}

#[tokio::test]
async fn aws_conforms() {
    in_haste(conforms(Kind::Aws)).await;
}

#[tokio::test]
async fn azure_conforms() {
    in_haste(conforms(Kind::Azure)).await;
}

#[tokio::test]
async fn google_cloud_conforms() {
    in_haste(conforms(Kind::Google)).await;
}

/// Another hand's EC2: what the stand-in says is not what we wish that EC2 says.
#[tokio::test]
async fn moto_agrees_with_the_stand_in_of_aws() {
    let (Some(server), Some(programs)) = (Server::moto(), bed().get("BARMAN_BIN")) else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/python/instance.py");
    run(Command::new(programs.join("python"))
        .arg(script)
        .arg(server.url())
        .env("AWS_ACCESS_KEY_ID", "testkey")
        .env("AWS_SECRET_ACCESS_KEY", "testsecret1"));
    let subject = Subject {
        provider: provider(Kind::Aws, server.url()).await,
        recovery: INSTANCE,
    };
    everywhere(&subject).await;
}

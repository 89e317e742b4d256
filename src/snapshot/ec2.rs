//! EBS volumes of AWS, on the official SDK.
//!
//! Snapshots have no name but their tag `Name`. Their point in time is the moment at which their creation is acknowledged. A root volume is
//! refused. A profile that is given gives the credentials; a region that is given beats the profile's.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, profile::ProfileFileCredentialsProvider};
use aws_sdk_ec2::{
    Client,
    config::{Config, retry::RetryConfig, timeout::TimeoutConfig},
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    primitives::DateTime,
    types::{
        self, Filter, Instance, ResourceType, SnapshotState, TagSpecification, VirtualizationType,
        Volume, builders::FilterBuilder,
    },
};

use super::{
    Begun, Deleted, Described, Device, Disk, Error, Provider, Result, Role, Stage, Tag, Wanted,
};
use crate::{
    clock,
    cloud::aws::shared_files,
    model::{
        lock::{Lock, LockMode},
        snapshot::{Account, LockEnd, Recorded, SnapshotLock},
        time::Timestamp,
    },
};

mod making;

/// Everything but what has ended for good.
const STATES: [&str; 5] = ["pending", "running", "shutting-down", "stopping", "stopped"];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// A snapshot of a volume is refused for seconds after another one of it; the SDK's pauses grow to twenty seconds.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What EC2 says to a second snapshot of a volume within 15 seconds.
const TOO_SOON: &str = "SnapshotCreationPerVolumeRateExceeded";
const TOO_SOON_PAUSE: Duration = Duration::from_secs(15);

/// What may be otherwise a moment later.
const PASSING: [&str; 8] = [
    TOO_SOON,
    "InternalError",
    "InternalFailure",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "Throttling",
    "Unavailable",
];

/// An account and a region.
pub(super) struct Ec2 {
    client: Client,
    region: Option<String>,
}

impl fmt::Debug for Ec2 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Ec2").field(&self.region).finish()
    }
}

impl Ec2 {
    /// Those of a profile, or of the environment.
    pub(super) async fn open(profile: Option<&str>, region: Option<&str>) -> Result<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .profile_files(shared_files())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        if let Some(profile) = profile {
            let credentials = ProfileFileCredentialsProvider::builder()
                .profile_files(shared_files())
                .profile_name(profile);
            loader = loader
                .profile_name(profile)
                .credentials_provider(credentials.build());
        }
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        let config = loader.load().await;
        if config.region().is_none() {
            let (cloud, what) = ("AWS", "a region");
            return Err(Error::Missing { cloud, what });
        }
        Ok(Self {
            region: config.region().map(|region| region.as_ref().to_owned()),
            client: Client::new(&config),
        })
    }

    /// The one instance that an identifier or a name means.
    async fn instance(&self, name: &str) -> Result<Instance> {
        let mut found = self.called(name).await?;
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(Error::NoInstance(name.to_owned())),
            (Some(instance), true) => Ok(instance),
            (Some(instance), false) => {
                let all = found.iter().chain([&instance]);
                let ids = all.filter_map(|instance| instance.instance_id().map(str::to_owned));
                Err(Error::Ambiguous {
                    what: "instance",
                    name: name.to_owned(),
                    candidates: ids.collect(),
                })
            }
        }
    }

    /// The instances with this identifier or, if it can be none, with this name.
    async fn called(&self, name: &str) -> Result<Vec<Instance>> {
        if name.starts_with("i-") {
            match self.instances(Some(name), Vec::new()).await {
                Err(error) if error.is_called("InvalidInstanceID.Malformed") => {}
                Err(error) if error.is_called("InvalidInstanceID.NotFound") => {
                    return Ok(Vec::new());
                }
                found => return found,
            }
        }
        let by_name = vec![filter("tag:Name", [name])];
        self.instances(None, by_name).await
    }

    async fn instances(&self, id: Option<&str>, filters: Vec<Filter>) -> Result<Vec<Instance>> {
        let mut request = self.client.describe_instances();
        if let Some(id) = id {
            request = request.instance_ids(id);
        }
        for one in filters {
            request = request.filters(one);
        }
        request = request.filters(filter("instance-state-name", STATES));
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("look for the instance"))?;
            for reservation in page.reservations() {
                found.extend(reservation.instances().iter().cloned());
            }
        }
        Ok(found)
    }

    async fn volumes(&self, instance: &str) -> Result<Vec<Volume>> {
        let attached = filter("attachment.instance-id", [instance]);
        let request = self.client.describe_volumes().filters(attached);
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("look for the volumes"))?;
            found.extend(page.volumes().iter().cloned());
        }
        Ok(found)
    }

    /// Asks once for a snapshot.
    async fn create(&self, wanted: &Wanted<'_>) -> Result<Begun> {
        let name = ("Name".to_owned(), wanted.name.to_owned());
        let mut tags = TagSpecification::builder().resource_type(ResourceType::Snapshot);
        for (key, value) in [&name].into_iter().chain(wanted.tags) {
            tags = tags.tags(types::Tag::builder().key(key).value(value).build());
        }
        let request = self.client.create_snapshot().volume_id(&wanted.disk.id);
        let answer = request.tag_specifications(tags.build()).customize();
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let answer = answer.config_override(once).send().await;
        let answer = answer.map_err(failed("take the snapshot"))?;
        let id = answer.snapshot_id().ok_or_else(|| Error::Answer {
            doing: "take the snapshot".to_owned(),
            why: "it has no identifier".to_owned(),
        })?;
        Ok(Begun {
            id: id.to_owned(),
            name: wanted.name.to_owned(),
            owner: answer.owner_id().map(str::to_owned),
            operation: None,
        })
    }

    /// The snapshot that was asked for before, if there is one.
    async fn begun(&self, wanted: &Wanted<'_>) -> Result<Option<Begun>> {
        let mut request = self.client.describe_snapshots().owner_ids("self");
        let name = ("Name".to_owned(), wanted.name.to_owned());
        for (key, value) in [&name].into_iter().chain(wanted.tags) {
            request = request.filters(filter(&format!("tag:{key}"), [value.as_str()]));
        }
        let request = request.filters(filter("volume-id", [wanted.disk.id.as_str()]));
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("look for the snapshot"))?;
            let all = page.snapshots().iter();
            let mut usable = all.filter(|found| found.state() != Some(&SnapshotState::Error));
            if let Some(found) = usable.find_map(|found| begun(found, wanted)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn snapshot(&self, id: &str) -> Result<Option<types::Snapshot>> {
        let request = self.client.describe_snapshots().snapshot_ids(id);
        match request.send().await.map_err(failed("look at the snapshot")) {
            Ok(answer) => Ok(answer.snapshots().first().cloned()),
            Err(error) if error.is_called("InvalidSnapshot.NotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Provider for Ec2 {
    async fn attached(&self, instance: &str) -> Result<Vec<Disk>> {
        let instance = self.instance(instance).await?;
        let id = instance.instance_id().unwrap_or_default();
        let volumes = self.volumes(id).await?;
        Ok(volumes
            .iter()
            .filter_map(|volume| disk(volume, &instance))
            .collect())
    }

    async fn detailed(&self, disk: Disk) -> Result<Disk> {
        Ok(disk)
    }

    /// The call has no token that makes its repetition the same call. So the SDK does not repeat it, and whoever heard no answer looks first
    /// whether there is a snapshot of this volume under this name.
    async fn begin(&self, wanted: &Wanted<'_>) -> Result<Begun> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let error = match self.create(wanted).await {
                Ok(begun) => return Ok(begun),
                Err(error) if passes(&error) => error,
                Err(error) => return Err(error),
            };
            clock::pause(if error.is_called(TOO_SOON) {
                TOO_SOON_PAUSE
            } else {
                pause
            })
            .await;
            pause *= 2;
            if let Some(begun) = self.begun(wanted).await? {
                return Ok(begun);
            }
        }
        self.create(wanted).await
    }

    async fn stage(&self, begun: &Begun) -> Result<Stage> {
        // What was created a moment ago may not be listed yet.
        let Some(snapshot) = self.snapshot(&begun.id).await? else {
            return Ok(Stage::Fixed(None));
        };
        match snapshot.state() {
            Some(SnapshotState::Completed) => Ok(Stage::Usable),
            Some(SnapshotState::Error) => Err(Error::Failed {
                name: begun.name.clone(),
                why: snapshot.state_message().unwrap_or("error").to_owned(),
            }),
            _ => {
                let percent = snapshot.progress().map(|text| text.trim_end_matches('%'));
                Ok(Stage::Fixed(percent.and_then(|text| text.parse().ok())))
            }
        }
    }

    async fn lock(&self, id: &str, lock: &SnapshotLock) -> Result<()> {
        let number = |value: std::num::NonZeroU32| i32::try_from(value.get()).unwrap_or(i32::MAX);
        let mode = match lock.mode {
            LockMode::Governance => types::LockMode::Governance,
            LockMode::Compliance => types::LockMode::Compliance,
        };
        let mut request = self.client.lock_snapshot().snapshot_id(id).lock_mode(mode);
        match lock.end {
            Some(LockEnd::Days(days)) => request = request.lock_duration(number(days)),
            Some(LockEnd::At(time)) => {
                request = request.expiration_date(DateTime::from_secs(time.unix_seconds()));
            }
            None => {}
        }
        if let Some(hours) = lock.cool_off_hours {
            request = request.cool_off_period(number(hours));
        }
        let answer = request.send().await.map_err(failed("lock the snapshot"))?;
        let state = answer.lock_state().map_or("", types::LockState::as_str);
        tracing::info!(snapshot = id, state, "Snapshot locked");
        Ok(())
    }

    async fn locks(&self, ids: &[String]) -> Result<Vec<Lock>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = BTreeMap::new();
        let mut next = None;
        loop {
            let request = self.client.describe_locked_snapshots();
            let request = request.set_snapshot_ids(Some(ids.to_vec()));
            let answer = request.set_next_token(next).send().await;
            let answer = match answer.map_err(failed("look at the locks of the snapshots")) {
                Ok(answer) => answer,
                Err(error) if error.is_called("InvalidSnapshot.NotFound") => break,
                // Whether they are locked shows when they are deleted, one by one.
                Err(error) => return Ok(vec![Lock::Unknown(error.to_string()); ids.len()]),
            };
            for locked in answer.snapshots() {
                if let Some(id) = locked.snapshot_id() {
                    known.insert(id.to_owned(), lock(locked));
                }
            }
            next = answer.next_token().map(str::to_owned);
            if next.as_deref().is_none_or(str::is_empty) {
                break;
            }
        }
        let locks = ids.iter().map(|id| known.remove(id).unwrap_or(Lock::Free));
        Ok(locks.collect())
    }

    async fn describe(&self, id: &str) -> Result<Option<Described>> {
        let found = self.snapshot(id).await?;
        Ok(found.as_ref().and_then(described))
    }

    async fn delete(&self, id: &str) -> Result<Deleted> {
        let request = self.client.delete_snapshot().snapshot_id(id);
        match request.send().await.map_err(failed("delete the snapshot")) {
            Ok(_) => Ok(Deleted::Gone),
            Err(error) if error.is_called("InvalidSnapshot.NotFound") => Ok(Deleted::Absent),
            Err(Error::Cloud { code, message, .. }) if code == "SnapshotLocked" => {
                Err(Error::Locked {
                    id: id.to_owned(),
                    lock: Lock::Unknown(message),
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn tagged(&self, tags: &[Tag]) -> Result<Vec<Described>> {
        let mut request = self.client.describe_snapshots().owner_ids("self");
        for (key, value) in tags {
            request = request.filters(filter(&format!("tag:{key}"), [value.as_str()]));
        }
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("list the snapshots"))?;
            found.extend(page.snapshots().iter().filter_map(described));
        }
        Ok(found)
    }

    fn found(&self, described: &Described) -> Recorded {
        Recorded::Aws {
            device: None,
            id: described.id.clone(),
            name: described.name.clone(),
            lock: None,
        }
    }

    fn recorded(&self, disk: &Disk, begun: &Begun, lock: Option<&SnapshotLock>) -> Recorded {
        Recorded::Aws {
            device: match &disk.device {
                Device::Ebs { label, .. } => Some(label.clone()),
                _ => None,
            },
            id: begun.id.clone(),
            name: Some(begun.name.clone()),
            lock: lock.map(|lock| match lock.mode {
                LockMode::Governance => "governance".to_owned(),
                LockMode::Compliance => "compliance".to_owned(),
            }),
        }
    }

    fn account(&self, begun: &[Begun]) -> Account {
        Account::Aws {
            account_id: begun.last().and_then(|begun| begun.owner.clone()),
            region: self.region.clone(),
        }
    }
}

/// A volume as it is attached to this instance.
fn disk(volume: &Volume, instance: &Instance) -> Option<Disk> {
    let id = volume.volume_id()?;
    let mut attachments = volume.attachments().iter();
    let attached = attachments.find(|one| one.instance_id() == instance.instance_id())?;
    let label = attached.device().unwrap_or_default();
    let is_root =
        Some(label) == instance.root_device_name() || matches!(label, "/dev/sda1" | "/dev/xvda");
    let source = volume.snapshot_id().filter(|id| !id.is_empty());
    let virtualization = instance.virtualization_type();
    Some(Disk {
        id: id.to_owned(),
        name: tag(volume.tags(), "Name"),
        device: Device::Ebs {
            volume: id.to_owned(),
            label: label.to_owned(),
            paravirtual: virtualization == Some(&VirtualizationType::Paravirtual),
        },
        role: if is_root {
            Role::Refused("is the root volume of its instance")
        } else {
            Role::Data
        },
        source: source.map(str::to_owned),
        location: volume.availability_zone().map(str::to_owned),
    })
}

fn described(snapshot: &types::Snapshot) -> Option<Described> {
    let tags = snapshot.tags().iter();
    let pair = |tag: &types::Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
    Some(Described {
        id: snapshot.snapshot_id()?.to_owned(),
        name: tag(snapshot.tags(), "Name"),
        tags: tags.filter_map(pair).collect(),
        begun_at: snapshot.start_time().and_then(moment),
    })
}

fn lock(locked: &types::LockedSnapshotsInfo) -> Lock {
    let mode = match locked.lock_state() {
        Some(types::LockState::Expired) | None => return Lock::Free,
        Some(types::LockState::Governance) => LockMode::Governance,
        Some(_) => LockMode::Compliance,
    };
    let until = locked.lock_expires_on().and_then(moment);
    Lock::LockedUntil { until, mode }
}

fn moment(time: &DateTime) -> Option<Timestamp> {
    Timestamp::from_unix_seconds(time.secs())
}

fn tag(tags: &[types::Tag], key: &str) -> Option<String> {
    let found = tags.iter().find(|tag| tag.key() == Some(key));
    found.and_then(types::Tag::value).map(str::to_owned)
}

fn filter<const N: usize>(name: &str, values: [&str; N]) -> Filter {
    let filter = Filter::builder().name(name);
    let values = values.into_iter();
    values.fold(filter, FilterBuilder::values).build()
}

fn begun(snapshot: &types::Snapshot, wanted: &Wanted<'_>) -> Option<Begun> {
    Some(Begun {
        id: snapshot.snapshot_id()?.to_owned(),
        name: wanted.name.to_owned(),
        owner: snapshot.owner_id().map(str::to_owned),
        operation: None,
    })
}

/// Whether a request that failed so may succeed if it is sent again.
fn passes(error: &Error) -> bool {
    let unheard = matches!(error, Error::Unreachable { .. });
    unheard || PASSING.iter().any(|code| error.is_called(code))
}

/// What the SDK says of a failure.
fn failed<E, R>(doing: &'static str) -> impl FnOnce(SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: fmt::Debug + 'static,
{
    move |error| {
        let doing = doing.to_owned();
        match error.as_service_error() {
            Some(refused) => Error::Cloud {
                doing,
                code: refused.code().unwrap_or("unknown").to_owned(),
                message: refused.message().unwrap_or_default().to_owned(),
            },
            None => Error::Unreachable {
                doing,
                why: DisplayErrorContext(error).to_string(),
            },
        }
    }
}

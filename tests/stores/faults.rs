//! Every call of a store, with every fault at every request of it.

use std::sync::{Arc, Mutex};

use barkeep::{
    failure::chain,
    store::{
        Key, Meaning, PendingUpload, PutMode, Result, SharedStore, Store, StoreExt, Tags,
        UploadOptions,
    },
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    key,
    support::http::{Answer, Reply, Request, Standin, forward},
};

/// What befalls a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is reset, and nothing arrives.
    Reset,
    /// It is answered with a status and no words, and nothing arrives.
    Status(u16),
    /// It arrives, and half of the answer comes back.
    Truncated,
    /// It arrives, and no answer comes back.
    Unanswered,
}

pub(crate) const FAULTS: [Fault; 6] = [
    Fault::Reset,
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(403),
    Fault::Truncated,
    Fault::Unanswered,
];

/// How many calls are under way at once, each with a server of its own in between.
const PARALLEL: usize = 12;

/// Stands between a store and its server, and strikes when told to.
pub(crate) struct Proxy {
    server: Standin,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    asked: usize,
    strike: Option<(usize, Fault)>,
    is_struck: bool,
}

impl Proxy {
    pub(crate) fn new(upstream: String) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let server = Standin::new(move |request| {
            let fault = {
                let mut state = shared.lock().expect("no panic");
                let number = state.asked;
                state.asked += 1;
                let fault = state.strike.filter(|(strike, _)| *strike == number);
                state.is_struck |= fault.is_some();
                fault.map(|(_, fault)| fault)
            };
            fault.map_or_else(
                || forward(request, &upstream).into(),
                |fault| struck(fault, request, &upstream),
            )
        });
        Self { server, state }
    }

    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    /// Lets the request with this number from now on meet a fault.
    fn strike(&self, number: usize, fault: Fault) {
        *self.state.lock().expect("no panic") = State {
            strike: Some((number, fault)),
            ..State::default()
        };
    }

    fn asked(&self) -> usize {
        self.state.lock().expect("no panic").asked
    }

    fn is_struck(&self) -> bool {
        self.state.lock().expect("no panic").is_struck
    }
}

pub(crate) fn struck(fault: Fault, request: &Request, upstream: &str) -> Reply {
    match fault {
        Fault::Reset => Reply::Reset,
        Fault::Status(status) => Answer::new(status, "").into(),
        Fault::Truncated => Reply::Broken(forward(request, upstream)),
        Fault::Unanswered => {
            forward(request, upstream);
            Reply::Silence
        }
    }
}

/// What is asked of a store that has `a` with the content `plain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Put,
    Create,
    Get,
    Head,
    List,
    Children,
    Delete,
    DeleteMany,
    Upload,
    UploadCreating,
    ListUploads,
    AbortUpload,
    Locks,
    Retention,
    CheckReachable,
    Time,
}

const CALLS: [Call; 16] = [
    Call::Put,
    Call::Create,
    Call::Get,
    Call::Head,
    Call::List,
    Call::Children,
    Call::Delete,
    Call::DeleteMany,
    Call::Upload,
    Call::UploadCreating,
    Call::ListUploads,
    Call::AbortUpload,
    Call::Locks,
    Call::Retention,
    Call::CheckReachable,
    Call::Time,
];

impl Call {
    /// Asks it, and says what was found, for comparison.
    async fn of(self, store: &dyn Store) -> Result<String> {
        let a = key("a");
        match self {
            Self::Put => store
                .put_text(&a, "new", PutMode::Overwrite)
                .await
                .map(drop),
            Self::Create => store
                .put_text(&key("b"), "new", PutMode::Create)
                .await
                .map(drop),
            Self::Get => return store.get_text(&a).await,
            Self::Head => return store.head(&a).await.map(|head| head.meta.size.to_string()),
            Self::List => return keys(store).await.map(|keys| format!("{keys:?}")),
            Self::Children => {
                let (prefixes, objects) = store.list_children("").await?;
                return Ok(format!("{prefixes:?} {}", objects.len()));
            }
            Self::Delete => deleted(store, &[a]).await,
            Self::DeleteMany => deleted(store, &[a, key("b"), key("c")]).await,
            Self::Upload => upload(store, PutMode::Overwrite).await,
            Self::UploadCreating => upload(store, PutMode::Create).await,
            Self::ListUploads => {
                let uploads = store.list_uploads("pending").await?;
                return Ok(uploads.len().to_string());
            }
            Self::AbortUpload => abort(store).await,
            Self::Locks => return Ok(format!("{:?}", store.locks(&[a]).await)),
            Self::Retention => return store.retention().await.map(|told| format!("{told:?}")),
            Self::CheckReachable => store.check_reachable().await,
            Self::Time => store.time().await.map(drop),
        }
        .map(|()| String::new())
    }
}

async fn keys(store: &dyn Store) -> Result<Vec<Key>> {
    let objects: Vec<_> = store.list_all("").try_collect().await?;
    Ok(objects.into_iter().map(|object| object.key).collect())
}

async fn deleted(store: &dyn Store, keys: &[Key]) -> Result<()> {
    let outcomes = store.delete(keys).await;
    outcomes.into_iter().try_for_each(|deleted| deleted.outcome)
}

fn options(store: &dyn Store, mode: PutMode) -> UploadOptions {
    UploadOptions {
        part_bytes: store.limits().part_bytes_min,
        mode,
        tags: Tags::default(),
    }
}

async fn upload(store: &dyn Store, mode: PutMode) -> Result<()> {
    let options = options(store, mode);
    let length = usize::try_from(options.part_bytes).expect("a part in memory");
    let upload = store.begin_upload(&key("u"), options).await?;
    let first = upload.put_part(1, Bytes::from(vec![1; length])).await?;
    let second = upload.put_part(2, Bytes::from_static(b"rest")).await?;
    upload.complete(vec![first, second]).await.map(drop)
}

async fn abort(store: &dyn Store) -> Result<()> {
    let uploads: Vec<PendingUpload> = store.list_uploads("pending").await?;
    for upload in uploads {
        store.abort_upload(&upload).await?;
    }
    Ok(())
}

/// An object and an upload that was not ended.
async fn prepare(store: &dyn Store) {
    let put = store.put_text(&key("a"), "plain", PutMode::Create).await;
    put.expect("written");
    let begun = store
        .begin_upload(&key("pending/u"), options(store, PutMode::Create))
        .await;
    let sent = begun
        .expect("begun")
        .put_part(1, Bytes::from_static(b"part"))
        .await;
    sent.expect("sent");
}

/// Opens a place of its own for each call: by its name, at a URL.
type Open<'o> = dyn Fn(&str, &str) -> SharedStore + 'o;

/// One fault is made good wherever it strikes, a refusal is told, and what was asked for has happened once.
pub(crate) async fn one_fault_is_made_good(upstream: &str, open: &Open<'_>) {
    let mut cases = Vec::new();
    for call in CALLS {
        let proxy = Proxy::new(upstream.to_owned());
        let store = open(&format!("{call:?}-undisturbed"), proxy.url());
        prepare(&*store).await;
        let before = proxy.asked();
        let found = call.of(&*store).await.expect("it succeeds undisturbed");
        let requests = proxy.asked() - before;
        assert!(requests > 0, "{call:?}");
        let left = keys(&*store).await.expect("a listing");
        for number in 0..requests {
            cases.extend(FAULTS.map(|fault| (call, number, fault, found.clone(), left.clone())));
        }
    }
    let runs = cases
        .iter()
        .map(|(call, number, fault, found, left)| async move {
            let proxy = Proxy::new(upstream.to_owned());
            let store = open(&format!("{call:?}-{number}-{fault:?}"), proxy.url());
            prepare(&*store).await;
            proxy.strike(*number, *fault);
            let outcome = call.of(&*store).await;
            let case = format!("{call:?}, request {number}, {fault:?}");
            assert!(proxy.is_struck(), "{case}");
            let is_lost = matches!(fault, Fault::Truncated | Fault::Unanswered);
            match (outcome, fault) {
                // It is told where the answer is an observation.
                (Ok(said), Fault::Status(403)) => {
                    assert!(said.contains("Unknown") || said == *found, "{case}: {said}");
                }
                (Err(error), Fault::Status(403)) => {
                    assert_eq!(
                        error.meaning,
                        Meaning::PermissionDenied,
                        "{case}: {}",
                        chain(&error)
                    );
                }
                (Ok(said), _) => {
                    assert_eq!(said, *found, "{case}");
                    assert_eq!(keys(&*store).await.expect("a listing"), *left, "{case}");
                }
                // Its own earlier try is in its way: the contract says so.
                (Err(error), _) if *call == Call::Create && is_lost => {
                    assert_eq!(error.meaning, Meaning::AlreadyExists, "{case}");
                    let text = store.get_text(&key("b")).await;
                    assert_eq!(text.expect("it is there"), "new", "{case}");
                }
                (Err(error), _) => panic!("{case}: {}", chain(&error)),
            }
        });
    stream::iter(runs)
        .buffer_unordered(PARALLEL)
        .collect::<Vec<()>>()
        .await;
}

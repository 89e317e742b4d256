//! A decorator that fails as real stores do: before the effect, or after it.
//!
//! For tests and for the simulation. A rule looks at every call and decides; it may count, so that a failure strikes once. A call
//! that fails [`Fault::After`] has had its effect, which is what a lost answer looks like. Calls are recorded.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::{
    Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Meaning,
    Operation, PendingUpload, PutOptions, Result, Store, Stored, Upload, UploadOptions,
};
use crate::model::time::Timestamp;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no effect.
    Before(Meaning),
    /// It has its effect, and nobody hears of it.
    After(Meaning),
    /// A download ends with an error after so many bytes.
    Cut(usize),
    /// There is never an answer.
    Hang,
}

/// One call, as a rule sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub operation: Operation,
    /// Of which object or prefix; empty if of none.
    pub key: String,
    /// How many calls there were before.
    pub number: usize,
}

type Rule = dyn Fn(&Call) -> Option<Fault> + Send + Sync;

/// A store that fails by a rule.
#[derive(Clone)]
pub struct Faulty<S> {
    inner: S,
    rule: Arc<Rule>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl<S> Faulty<S> {
    /// Fails the calls for which the rule names a fault. Parts of uploads, and deletions of several objects, are not asked about.
    pub fn new(inner: S, rule: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self {
            inner,
            rule: Arc::new(rule),
            calls: Arc::default(),
        }
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        let calls = self.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fault(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let call = Call {
            operation,
            key: key.to_owned(),
            number: calls.len(),
        };
        calls.push(call.clone());
        drop(calls);
        (self.rule)(&call)
    }
}

impl<S: Store> Faulty<S> {
    /// Runs a call with whatever the rule has for it.
    async fn run<T>(
        &self,
        operation: Operation,
        key: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let fault = self.fault(operation, key);
        self.fail(fault, operation, key, call).await
    }

    async fn fail<T>(
        &self,
        fault: Option<Fault>,
        operation: Operation,
        key: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let error = |meaning| {
            let error = Error::new(meaning, operation, self.location());
            match key {
                "" => error,
                key => error.about(&Key::verbatim(key)),
            }
        };
        match fault {
            Some(Fault::Before(meaning)) => Err(error(meaning)),
            Some(Fault::After(meaning)) => call.await.and_then(|_| Err(error(meaning))),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Cut(_)) | None => call.await,
        }
    }
}

impl<S: Store> std::fmt::Debug for Faulty<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        let call = self.inner.put(key, content, options);
        self.run(Operation::Put, key.as_str(), call).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let call = self.inner.get(key, options);
        let fault = self.fault(Operation::Get, key.as_str());
        let mut result = self.fail(fault, Operation::Get, key.as_str(), call).await?;
        if let Some(Fault::Cut(bytes)) = fault {
            let location = self.location().to_owned();
            let lost = Error::new(Meaning::Unreachable, Operation::Get, location).about(key);
            let first = result.body.next().await.transpose()?.unwrap_or_default();
            let kept = first.slice(..first.len().min(bytes));
            result.body = stream::iter([Ok(kept), Err(lost)]).boxed();
        }
        Ok(result)
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let call = self.inner.head(key);
        self.run(Operation::Head, key.as_str(), call).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let prefix = request.prefix.clone();
        let call = self.inner.list(request);
        self.run(Operation::List, &prefix, call).await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        self.inner.delete(keys).await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let call = self.inner.begin_upload(key, options);
        self.run(Operation::BeginUpload, key.as_str(), call).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let call = self.inner.list_uploads(prefix);
        self.run(Operation::ListUploads, prefix, call).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        let call = self.inner.abort_upload(upload);
        self.run(Operation::AbortUpload, upload.key.as_str(), call)
            .await
    }

    async fn check_reachable(&self) -> Result<()> {
        let call = self.inner.check_reachable();
        self.run(Operation::CheckReachable, "", call).await
    }

    async fn create_destination(&self) -> Result<()> {
        let call = self.inner.create_destination();
        self.run(Operation::CreateDestination, "", call).await
    }

    async fn time(&self) -> Result<Timestamp> {
        self.run(Operation::Time, "", self.inner.time()).await
    }
}

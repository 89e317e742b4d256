//! A destination that forbids overwriting, with another one that holds what barkeep itself must rewrite.
//!
//! What lies below `<server>/barkeep/` is kept in the control destination below `<server>/barkeep/control/<destination>/`, where it cannot be
//! taken for that destination's own; everything else stays in the data destination. Whoever uses the store sees one place.

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Deleted, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, PendingUpload,
    PutOptions, Result, SharedStore, Store, Stored, Upload, UploadOptions,
};
use crate::model::{
    lock::{BucketRetention, Lock},
    names::DestinationName,
    time::Timestamp,
};

/// The directory of barkeep's own objects, below that of a server.
const OWN: &str = "barkeep/";

/// Two destinations that look like one.
#[derive(Debug)]
pub struct Controlled {
    data: SharedStore,
    control: SharedStore,
    /// Where the own objects are, below a server's own directory in the control destination.
    inside: String,
}

/// Which of the two, and the key there.
struct Place<'a> {
    store: &'a SharedStore,
    key: Key,
}

impl Controlled {
    /// Keeps the own objects of `destination` in `control`.
    pub fn new(data: SharedStore, control: SharedStore, destination: &DestinationName) -> Self {
        Self {
            data,
            control,
            inside: format!("control/{destination}/"),
        }
    }

    fn place(&self, key: &Key) -> Place<'_> {
        match self.moved(key.as_str()) {
            Some(moved) => Place {
                store: &self.control,
                key: Key::verbatim(moved),
            },
            None => Place {
                store: &self.data,
                key: key.clone(),
            },
        }
    }

    /// The key in the control destination of one of the own objects.
    fn moved(&self, key: &str) -> Option<String> {
        let (server, rest) = key.split_once('/')?;
        let rest = rest.strip_prefix(OWN)?;
        Some(format!("{server}/{OWN}{}{rest}", self.inside))
    }

    /// The key that users know of one in the control destination.
    fn back(&self, key: &str) -> String {
        let Some((server, rest)) = key.split_once('/') else {
            return key.to_owned();
        };
        let inside = format!("{OWN}{}", self.inside);
        match rest.strip_prefix(&inside) {
            Some(rest) => format!("{server}/{OWN}{rest}"),
            None => key.to_owned(),
        }
    }

    fn back_key(&self, key: &mut Key) {
        *key = Key::verbatim(self.back(key.as_str()));
    }
}

#[async_trait]
impl Store for Controlled {
    fn location(&self) -> &str {
        self.data.location()
    }

    fn limits(&self) -> Limits {
        self.data.limits()
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        let place = self.place(key);
        place.store.put(&place.key, content, options).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let place = self.place(key);
        let mut read = place.store.get(&place.key, options).await?;
        self.back_key(&mut read.meta.key);
        Ok(read)
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let place = self.place(key);
        let mut head = place.store.head(&place.key).await?;
        self.back_key(&mut head.meta.key);
        Ok(head)
    }

    async fn list(&self, mut request: ListRequest) -> Result<ListPage> {
        let Some(prefix) = self.moved(&request.prefix) else {
            return self.data.list(request).await;
        };
        request.prefix = prefix;
        let after = request.start_after.as_deref();
        request.start_after = after.and_then(|after| self.moved(after));
        let mut page = self.control.list(request).await?;
        for object in &mut page.objects {
            self.back_key(&mut object.key);
        }
        for prefix in &mut page.prefixes {
            *prefix = self.back(prefix);
        }
        Ok(page)
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        let own = |key: &&Key| self.moved(key.as_str()).is_some();
        let (own, data): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(own);
        let data: Vec<Key> = data.into_iter().cloned().collect();
        let own: Vec<Key> = own.into_iter().map(|key| self.place(key).key).collect();
        let mut data = self.data.delete(&data).await.into_iter();
        let mut own = self.control.delete(&own).await.into_iter();
        let answer = |key: &Key| {
            let next = match self.moved(key.as_str()) {
                Some(_) => own.next(),
                None => data.next(),
            };
            let deleted = next.expect("one answer for each key");
            Deleted {
                key: key.clone(),
                ..deleted
            }
        };
        keys.iter().map(answer).collect()
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        let own = |key: &&Key| self.moved(key.as_str()).is_some();
        let (own, data): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(own);
        let data: Vec<Key> = data.into_iter().cloned().collect();
        let own: Vec<Key> = own.into_iter().map(|key| self.place(key).key).collect();
        let mut data = self.data.locks(&data).await.into_iter();
        let mut own = self.control.locks(&own).await.into_iter();
        let answer = |key: &Key| {
            let next = match self.moved(key.as_str()) {
                Some(_) => own.next(),
                None => data.next(),
            };
            next.expect("one answer for each key")
        };
        keys.iter().map(answer).collect()
    }

    async fn retention(&self) -> Result<BucketRetention> {
        self.data.retention().await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let place = self.place(key);
        place.store.begin_upload(&place.key, options).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let Some(prefix) = self.moved(prefix) else {
            return self.data.list_uploads(prefix).await;
        };
        let mut uploads = self.control.list_uploads(&prefix).await?;
        for upload in &mut uploads {
            self.back_key(&mut upload.key);
        }
        Ok(uploads)
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        let place = self.place(&upload.key);
        let upload = PendingUpload {
            key: place.key,
            ..upload.clone()
        };
        place.store.abort_upload(&upload).await
    }

    async fn check_reachable(&self) -> Result<()> {
        self.data.check_reachable().await?;
        self.control.check_reachable().await
    }

    async fn create_destination(&self) -> Result<()> {
        self.data.create_destination().await?;
        self.control.create_destination().await
    }

    async fn time(&self) -> Result<Timestamp> {
        self.data.time().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{PutMode, StoreExt, conformance, memory::Memory};

    fn memory() -> Memory {
        Memory::new(Timestamp::from_unix_seconds(1_000_000).expect("an instant"))
    }

    fn controlled(data: &Memory, control: &Memory) -> Controlled {
        let name = "dr".parse().expect("a name");
        Controlled::new(Arc::new(data.clone()), Arc::new(control.clone()), &name)
    }

    #[tokio::test]
    async fn two_that_look_like_one_conform() {
        conformance::all(&controlled(&memory(), &memory())).await;
    }

    #[tokio::test]
    async fn own_objects_are_rewritten_elsewhere_and_seen_here() {
        let (data, control) = (memory().forbidding_overwriting(), memory());
        let store = controlled(&data, &control);
        let own = Key::verbatim("orders/barkeep/attempts/1");
        let other = Key::verbatim("orders/base/1/data.tar");
        for key in [&own, &other] {
            store
                .put_text(key, "x", PutMode::Create)
                .await
                .expect("written");
        }
        store
            .put_text(&own, "y", PutMode::Overwrite)
            .await
            .expect("rewritten");
        assert!(
            store
                .put_text(&other, "y", PutMode::Overwrite)
                .await
                .is_err()
        );
        let keys = |memory: &Memory| -> Vec<String> {
            memory.contents().keys().map(ToString::to_string).collect()
        };
        assert_eq!(keys(&data), ["orders/base/1/data.tar"]);
        assert_eq!(keys(&control), ["orders/barkeep/control/dr/attempts/1"]);
        let (prefixes, objects) = store
            .list_children("orders/barkeep/")
            .await
            .expect("listed");
        assert_eq!(prefixes, ["orders/barkeep/attempts/"]);
        assert_eq!(objects, []);
        assert_eq!(store.get_text(&own).await.expect("read"), "y");
        let deleted = store.delete(&[own.clone(), other, own]).await;
        assert!(deleted.iter().all(|deleted| deleted.outcome.is_ok()));
        assert!(keys(&control).is_empty() && keys(&data).is_empty());
    }
}

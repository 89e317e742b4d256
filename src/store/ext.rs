//! What users of a store call, in terms of what stores implement.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::{
    Error, GetOptions, Head, Key, ListRequest, Meaning, ObjectMeta, Operation, PutMode, PutOptions,
    Result, Store, Stored,
};
use crate::model::lock::Lock;

/// Conveniences over any [`Store`].
#[async_trait]
pub trait StoreExt: Store {
    /// A whole object in memory. Only for what is known to be small.
    async fn get_bytes(&self, key: &Key) -> Result<Bytes>;

    /// A whole object as text; [`Meaning::Other`] if it is not UTF-8.
    async fn get_text(&self, key: &Key) -> Result<String>;

    /// Writes a text as a whole object.
    async fn put_text(&self, key: &Key, text: &str, mode: PutMode) -> Result<Stored>;

    /// What is there, or `None` when the store says that nothing is.
    async fn find(&self, key: &Key) -> Result<Option<Head>>;

    /// Whether the object is there.
    async fn exists(&self, key: &Key) -> Result<bool>;

    /// All objects below a prefix, in order, one page in memory. It ends at the first error.
    fn list_all<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<ObjectMeta>>;

    /// All objects below a prefix with `after < key <= until`, in order.
    fn list_range<'a>(
        &'a self,
        prefix: &str,
        after: Option<String>,
        until: Option<String>,
    ) -> BoxStream<'a, Result<ObjectMeta>>;

    /// The same, page by page, as the store gives them.
    fn list_pages<'a>(
        &'a self,
        prefix: &str,
        after: Option<String>,
        until: Option<String>,
    ) -> BoxStream<'a, Result<Vec<ObjectMeta>>>;

    /// All objects below a prefix, in ranges of which at most `parallel` are listed at once. `bounds` are the texts between the
    /// ranges, in order; a key equal to one belongs to the range before it.
    ///
    /// Each item is one page of one range, with the range's index from 0. The pages of one range come in order, those of
    /// different ranges as they arrive. In memory are at most `parallel` pages.
    fn list_parallel<'a>(
        &'a self,
        prefix: &str,
        bounds: Vec<String>,
        parallel: usize,
    ) -> BoxStream<'a, Result<(usize, Vec<ObjectMeta>)>>;

    /// Whether each of these objects may be destroyed, in the order given: as their listing told, and asked for where it did not.
    async fn locks_of(&self, listed: &[ObjectMeta]) -> Vec<Lock>;

    /// The texts up to and including the next slash below a prefix, and the objects beside them.
    async fn list_children(&self, prefix: &str) -> Result<(Vec<String>, Vec<ObjectMeta>)>;
}

#[async_trait]
impl<S: Store + ?Sized> StoreExt for S {
    async fn get_bytes(&self, key: &Key) -> Result<Bytes> {
        let result = self.get(key, GetOptions::default()).await?;
        let mut chunks: Vec<Bytes> = result.body.try_collect().await?;
        if chunks.len() == 1 {
            return Ok(chunks.swap_remove(0));
        }
        let mut all = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
        for chunk in chunks {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    async fn get_text(&self, key: &Key) -> Result<String> {
        let bytes = self.get_bytes(key).await?;
        String::from_utf8(bytes.into()).map_err(|error| {
            Error::new(Meaning::Other, Operation::Get, self.location())
                .about(key)
                .because(error)
        })
    }

    async fn put_text(&self, key: &Key, text: &str, mode: PutMode) -> Result<Stored> {
        let content = Bytes::copy_from_slice(text.as_bytes());
        self.put(key, content, PutOptions::mode(mode)).await
    }

    async fn find(&self, key: &Key) -> Result<Option<Head>> {
        match self.head(key).await {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn exists(&self, key: &Key) -> Result<bool> {
        Ok(self.find(key).await?.is_some())
    }

    fn list_all<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<ObjectMeta>> {
        self.list_range(prefix, None, None)
    }

    fn list_range<'a>(
        &'a self,
        prefix: &str,
        after: Option<String>,
        until: Option<String>,
    ) -> BoxStream<'a, Result<ObjectMeta>> {
        pages(self, prefix, after, until)
            .map_ok(|page| stream::iter(page).map(Ok))
            .try_flatten()
            .boxed()
    }

    fn list_pages<'a>(
        &'a self,
        prefix: &str,
        after: Option<String>,
        until: Option<String>,
    ) -> BoxStream<'a, Result<Vec<ObjectMeta>>> {
        pages(self, prefix, after, until).boxed()
    }

    fn list_parallel<'a>(
        &'a self,
        prefix: &str,
        bounds: Vec<String>,
        parallel: usize,
    ) -> BoxStream<'a, Result<(usize, Vec<ObjectMeta>)>> {
        let starts = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
        let ends = bounds.iter().cloned().map(Some).chain([None]);
        let ranges: Vec<_> = starts.zip(ends).enumerate().collect();
        let prefix = prefix.to_owned();
        stream::iter(ranges)
            .map(move |(index, (after, until))| {
                pages(self, &prefix, after, until)
                    .map_ok(move |page| (index, page))
                    .boxed()
            })
            .flatten_unordered(parallel.max(1))
            .boxed()
    }

    async fn locks_of(&self, listed: &[ObjectMeta]) -> Vec<Lock> {
        let untold = listed.iter().filter(|meta| meta.lock.is_none());
        let untold: Vec<Key> = untold.map(|meta| meta.key.clone()).collect();
        let mut asked = if untold.is_empty() {
            Vec::new().into_iter()
        } else {
            self.locks(&untold).await.into_iter()
        };
        let lock = |meta: &ObjectMeta| {
            let told = meta.lock.clone().or_else(|| asked.next());
            told.expect("one answer for each")
        };
        listed.iter().map(lock).collect()
    }

    async fn list_children(&self, prefix: &str) -> Result<(Vec<String>, Vec<ObjectMeta>)> {
        let mut request = ListRequest::children(prefix);
        let (mut prefixes, mut objects) = (Vec::new(), Vec::new());
        loop {
            let page = self.list(request.clone()).await?;
            prefixes.extend(page.prefixes);
            objects.extend(page.objects);
            match page.next {
                Some(token) => request.token = Some(token),
                None => return Ok((prefixes, objects)),
            }
        }
    }
}

/// The pages with `after < key <= until`. Ends with the first page that reaches beyond.
fn pages<'a, S: Store + ?Sized>(
    store: &'a S,
    prefix: &str,
    after: Option<String>,
    until: Option<String>,
) -> impl Stream<Item = Result<Vec<ObjectMeta>>> + Send + use<'a, S> {
    let first = ListRequest {
        start_after: after,
        ..ListRequest::below(prefix)
    };
    stream::try_unfold((Some(first), until), move |(request, until)| async move {
        let Some(mut request) = request else {
            return Ok(None);
        };
        let page = store.list(request.clone()).await?;
        let mut objects = page.objects;
        let listed = objects.len();
        if let Some(until) = &until {
            objects.retain(|object| object.key.as_str() <= until.as_str());
        }
        let beyond = objects.len() < listed;
        let rest = page.next.filter(|_| !beyond).map(|token| {
            request.token = Some(token);
            request
        });
        Ok(Some((objects, (rest, until))))
    })
}

//! Deleting blobs: many in one request, or one.

use async_trait::async_trait;
use azure_core::http::{Method, Request};

use super::{
    super::{
        Deleted, Error, Key, Meaning, Operation, Result,
        batches::{Batches, Deletes},
    },
    DELETE_BATCH_MAX,
    batch::{self, Answer},
    container::Container,
    failure::meaning,
};

#[async_trait]
impl Deletes for Container {
    const BATCH_MAX: usize = DELETE_BATCH_MAX;

    fn batches(&self) -> &Batches {
        &self.batches
    }

    async fn batch(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        send(self, keys).await
    }

    async fn single(&self, key: &Key) -> Result<()> {
        let connection = &self.connection;
        let client = connection.blob(&self.full(Operation::Delete, key)?);
        let deleted = connection.within(0, client.delete(None)).await;
        deleted
            .map(drop)
            .map_err(|error| self.error_about(Operation::Delete, key, &error))
    }
}

async fn send(container: &Container, keys: &[Key]) -> Result<Vec<Deleted>> {
    let connection = &container.connection;
    let failed = |error: &azure_core::Error| container.error(Operation::Delete, error);
    let mut parts = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        let Ok(name) = container.full(Operation::Delete, key) else {
            continue;
        };
        let mut part = connection.request(Method::Delete, Some(&name));
        // The version of the whole is that of its parts.
        part.headers_mut().remove("x-ms-version");
        connection
            .authorization
            .sign(&mut part)
            .await
            .map_err(|error| failed(&error))?;
        parts.push((index, part));
    }
    let answer = connection.send(whole(container, &parts)).await;
    let answer = answer.map_err(|error| failed(&error))?;
    let answers = batch::answers(&String::from_utf8_lossy(answer.body()));
    let deleted = keys.iter().enumerate().map(|(index, key)| {
        let named = container.full(Operation::Delete, key);
        let outcome = named.and_then(|_| outcome(container, answers.get(&index)));
        Deleted::of(key, outcome.map_err(|error| error.about(key)))
    });
    Ok(deleted.collect())
}

fn whole(container: &Container, parts: &[(usize, Request)]) -> Request {
    let mut whole = container.connection.request(Method::Post, None);
    let mut query = whole.url_mut().query_pairs_mut();
    query
        .append_pair("restype", "container")
        .append_pair("comp", "batch");
    drop(query);
    whole.insert_header("content-type", batch::content_type());
    whole.set_body(batch::body(parts));
    whole
}

/// A success for the batch is none for each of it, and silence is no success.
fn outcome(container: &Container, answer: Option<&Answer>) -> Result<()> {
    let error = |meaning, why: String| {
        let error = Error::new(meaning, Operation::Delete, container.location.clone());
        Err(error.because(why))
    };
    match answer {
        Some(answer) if (200..300).contains(&answer.status) => Ok(()),
        Some(Answer { status, code, text }) => {
            let why = format!("{code}: {text} (status {status})");
            error(meaning(code, *status), why)
        }
        None => error(
            Meaning::Unreachable,
            "the service's answer leaves it out".to_owned(),
        ),
    }
}

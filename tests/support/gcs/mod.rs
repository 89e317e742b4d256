//! A Google Cloud Storage of the tests' own: one process, everything in memory, gone when dropped.
//!
//! It keeps the rules that the emulators leave out: generations and conditions on them, holds, retention, versions, soft deletion, uploads in
//! parts, batches, checksums. Google's own clients take it for the service through `STORAGE_EMULATOR_HOST`. It can be told to
//! fail at any request, and remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::{asked::Asked, state::State};
use super::http::{Answer, Request, listen};

mod answer;
mod asked;
mod batch;
mod json;
mod media;
mod state;
mod xml;

pub(crate) use state::Rules;

/// A running service.
pub(crate) struct Gcs {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    talk: Mutex<Talk>,
}

/// What is said between the service and the test.
#[derive(Default)]
struct Talk {
    /// Method and path with parameters, of every request.
    asked: Vec<String>,
    /// With what the next requests are refused.
    refusals: VecDeque<u16>,
    /// The only token that is taken, if any is asked for.
    token: Option<String>,
    /// The tokens that came.
    tokens: Vec<String>,
}

impl Gcs {
    /// A service without buckets.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        Self {
            port: listen(None, move |request| serving.reply(request).into()),
            shared,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket with these rules.
    pub(crate) fn create_bucket(&self, name: &str, rules: Rules) {
        lock(&self.shared.state).create_bucket(name, rules);
    }

    /// Sends a request from within, for what the store's contract has no words for. It must succeed.
    pub(crate) fn send(&self, method: &str, target: &str, body: &str) -> String {
        let asked = Asked::from_within(method, target, body);
        let answer = self.shared.answer(&asked);
        assert!(is_success(&answer), "{method} {target}: {answer:?}");
        String::from_utf8(answer.body).expect("text")
    }

    /// The same with a body of any type, which may be refused.
    pub(crate) fn try_send(
        &self,
        method: &str,
        target: &str,
        media_type: &str,
        body: &str,
    ) -> Result<(), u16> {
        let headers = vec![("content-type".to_owned(), media_type.to_owned())];
        let asked = Asked::new(method, target, headers, body.as_bytes().to_vec());
        let answer = self.shared.answer(&asked);
        is_success(&answer).then_some(()).ok_or(answer.status)
    }

    /// Changes what is sent of an object, but not what is said of it.
    pub(crate) fn damage(&self, bucket: &str, name: &str) {
        let mut state = lock(&self.shared.state);
        let bucket = state.buckets.get_mut(bucket).expect("a bucket");
        let object = bucket.live.get_mut(name).expect("an object");
        object.is_damaged = true;
    }

    /// Refuses the next requests, each with one of these.
    pub(crate) fn refuse(&self, statuses: &[u16]) {
        lock(&self.shared.talk).refusals.extend(statuses);
    }

    /// From now on, refuses every request without this token.
    pub(crate) fn require_token(&self, token: &str) {
        lock(&self.shared.talk).token = Some(token.to_owned());
    }

    /// The tokens that came since the last look.
    pub(crate) fn tokens(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.talk).tokens)
    }

    /// What it was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.talk).asked)
    }
}

impl Shared {
    fn reply(&self, request: &Request) -> Answer {
        let asked = Asked::of(request);
        match self.note(&asked) {
            None => self.answer(&asked),
            Some(401) => answer::refusal(401, "authError", "Invalid Credentials"),
            Some(status) => answer::refusal(status, "", "refused"),
        }
    }

    /// Remembers it, and says whether it is to be refused.
    fn note(&self, asked: &Asked) -> Option<u16> {
        let mut talk = lock(&self.talk);
        let line = format!("{} {}", asked.method, asked.target);
        talk.asked.push(line);
        let token = asked.header("authorization").unwrap_or_default();
        let token = token.strip_prefix("Bearer ").unwrap_or_default().to_owned();
        let is_strange = talk.token.as_ref().is_some_and(|wanted| *wanted != token);
        talk.tokens.push(token);
        let refusal = talk.refusals.pop_front();
        refusal.or_else(|| is_strange.then_some(401))
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let mut state = lock(&self.state);
        if asked.path.starts_with("/batch/storage/v1") {
            return batch::answer(&mut state, asked);
        }
        one(&mut state, asked)
    }
}

/// Answers one request that is not a batch.
fn one(state: &mut State, asked: &Asked) -> Answer {
    let places = [
        "/upload/storage/v1/",
        "/download/storage/v1/",
        "/storage/v1/",
    ];
    let found = places.iter().find_map(|place| {
        let rest = asked.path.strip_prefix(place)?;
        Some((*place, rest))
    });
    let answer = match found {
        Some(("/upload/storage/v1/", rest)) => media::upload(state, asked, rest),
        Some((_, rest)) => json::answer(state, asked, rest),
        None => xml::answer(state, asked),
    };
    answer.unwrap_or_else(|refusal| refusal)
}

fn is_success(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

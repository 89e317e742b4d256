//! What every request meets first, whatever its language: tokens, rights, silence, too many of its kind, and the faults that a test wants.

use std::sync::{Mutex, PoisonError};

use super::{Fault, Kind, State, TOKEN, arm, ec2, gce};
use crate::support::http::{Answer, Reply, Request};

pub(super) fn reply(kind: Kind, state: &Mutex<State>, request: &Request) -> Reply {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = token(request) {
        return answer.into();
    }
    let bearer = request.header("authorization").unwrap_or_default();
    if kind != Kind::Aws && bearer != format!("Bearer {TOKEN}") {
        return Answer::new(401, "{}").into();
    }
    let is_change = match kind {
        Kind::Aws => ec2::changes(request),
        Kind::Azure | Kind::Google => matches!(request.method(), "PUT" | "POST" | "DELETE"),
    };
    if state.denies {
        return match kind {
            Kind::Aws => ec2::refusal(403, "UnauthorizedOperation", "not allowed"),
            Kind::Azure => arm::refusal(403, "AuthorizationFailed", "not allowed"),
            Kind::Google => gce::refusal(403, "forbidden", "not allowed"),
        }
        .into();
    }
    if state.is_silent {
        return Reply::Silence;
    }
    if let Some(left) = state.answers.as_mut() {
        *left = left.saturating_sub(1);
        state.is_silent = state.answers == Some(0);
    }
    let is_last = state.is_silent;
    state.heard += 1;
    if state
        .throttles
        .is_some_and(|every| state.heard.is_multiple_of(every))
    {
        return match kind {
            Kind::Aws => ec2::refusal(503, "RequestLimitExceeded", "too many"),
            Kind::Azure => {
                arm::refusal(429, "TooManyRequests", "too many").with("retry-after", "1")
            }
            Kind::Google => gce::refusal(403, "rateLimitExceeded", "too many"),
        }
        .into();
    }
    let faults = state.faults_of(is_change);
    let fault = faults.pop_front().unwrap_or(Fault::None);
    if let Fault::Refused(status, code) = fault {
        let word = format!("refused with {code}");
        state.asked.push(word);
        return match kind {
            Kind::Aws => ec2::refusal(status, code, "refused"),
            Kind::Azure => arm::refusal(status, code, "refused"),
            Kind::Google => gce::refusal(status, code, "refused"),
        }
        .into();
    }
    let before: Vec<String> = state.snapshots.keys().cloned().collect();
    let answer = match kind {
        Kind::Aws => ec2::answer(&mut state, request),
        Kind::Azure => arm::answer(&mut state, request),
        Kind::Google => gce::answer(&mut state, request),
    };
    match fault {
        _ if is_last => Reply::Silence,
        Fault::Lost => Reply::Reset,
        Fault::Later(why) => {
            let mut begun = state.snapshots.iter_mut();
            match begun.find(|(id, _)| !before.contains(id)) {
                Some((_, snapshot)) => snapshot.failure = Some(why.to_owned()),
                None => state.fails = Some(why),
            }
            answer.into()
        }
        Fault::None | Fault::Refused(..) => answer.into(),
    }
}

/// Whoever asks for a token gets one: a machine's identity on Azure, a login on Google Cloud.
fn token(request: &Request) -> Option<Answer> {
    let is_asked = request.path().starts_with("/metadata/identity") || request.path() == "/token";
    let body = serde_json::json!({
        "access_token": TOKEN,
        "expires_in": 3600,
        "expires_on": "4102444800",
        "token_type": "Bearer",
        "resource": "https://management.azure.com",
    });
    is_asked.then(|| Answer::new(200, body.to_string()).with("content-type", "application/json"))
}

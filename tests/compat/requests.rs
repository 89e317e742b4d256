//! What a command line says about the writing of objects is in the requests that it leads to.
//!
//! Both talk to the server through a stand-in that remembers what was asked.

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;

use crate::{
    base,
    case::{Case, cases},
    pair::{Pair, Whose},
    support::{
        azurite::connection_string,
        cloud::Cloud,
        cluster::Cluster,
        dice::Dice,
        http::{Request, Standin, forward},
    },
};

const SEGMENT: &str = "00000002000000000000000A";

/// The two that write objects with options of their own, each with these.
fn lines(variable: &str, options: &str) -> [Case; 2] {
    let archive = format!("{variable} barman-cloud-wal-archive {options} {{url}} srv {{wal}}");
    let backup = format!(
        "{variable} barman-cloud-backup {{pg}} --immediate-checkpoint {options} {{url}} srv"
    );
    [archive, backup].map(|line| {
        let line = base::with_server(line.trim_start());
        cases(&line).swap_remove(0)
    })
}

/// A pair with a server and, in `{wal}`, a segment.
fn pair(cloud: Option<Cloud>) -> Option<(Pair, Cluster)> {
    let (mut pair, cluster) = base::pair(cloud)?;
    let path = pair.home().join(SEGMENT);
    let mut dice = Dice(7);
    let words = (0..(16 << 20) / 8).flat_map(|_| dice.roll(u64::MAX).to_le_bytes());
    std::fs::write(&path, words.collect::<Vec<u8>>()).expect("a file");
    pair.words.insert("{wal}", path.display().to_string());
    Some((pair, cluster))
}

/// What each request that writes an object says under this name: nothing where it has no such header.
fn said(asked: &[Request], header: &str) -> BTreeSet<Option<String>> {
    let writes = asked.iter().filter(|asked| {
        let query = asked.query();
        match asked.method() {
            // A part of S3's has the options of its upload.
            "PUT" => !query.contains("partNumber") && !query.contains("restype"),
            "POST" => query.starts_with("uploads"),
            _ => false,
        }
    });
    let told = writes.map(|asked| asked.header(header).map(str::to_owned));
    told.collect()
}

/// Runs both programs once each, and compares what their requests say.
fn all_say(pair: &Pair, standin: &Standin, case: &Case, header: &str, expected: &str) {
    let expected = BTreeSet::from([Some(expected.to_owned())]);
    for whose in Whose::BOTH {
        let before = standin.asked().len();
        let ran = pair.run_one(whose, case);
        assert_eq!(ran.code, 0, "{ran:?}");
        let asked = &standin.asked()[before..];
        assert_eq!(said(asked, header), expected, "{whose:?}: {}", case.line);
    }
}

fn between(cloud: &Cloud) -> Standin {
    let upstream = cloud.endpoint();
    Standin::new(move |request: &Request| forward(request, &upstream))
}

#[test]
fn on_s3_every_object_is_encrypted_with_the_key() {
    let Some((mut pair, _cluster)) = pair(Cloud::moto()) else {
        return;
    };
    let standin = between(&pair.cloud);
    pair.words.insert("{through}", standin.url().to_owned());
    let options = "-e aws:kms --sse-kms-key-id alias/x";
    for case in lines("AWS_ENDPOINT_URL={through}", options) {
        let header = "x-amz-server-side-encryption-aws-kms-key-id";
        all_say(&pair, &standin, &case, header, "alias/x");
    }
}

#[test]
fn on_azure_every_request_names_the_scope() {
    let Some((mut pair, _cluster)) = pair(Cloud::azurite()) else {
        return;
    };
    let standin = between(&pair.cloud);
    let through = connection_string(standin.url());
    pair.words.insert("{through}", through);
    let variable = "AZURE_STORAGE_CONNECTION_STRING={through}";
    for case in lines(variable, "--encryption-scope scope1") {
        all_say(&pair, &standin, &case, "x-ms-encryption-scope", "scope1");
    }
}

#[test]
fn on_google_cloud_every_object_is_encrypted_with_the_key() {
    let Some((pair, _cluster)) = pair(Cloud::gcs()) else {
        return;
    };
    let key = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
    for case in lines("", &format!("--kms-key-name {key}")) {
        pair.run(&case);
    }
    let Cloud::Gcs(service) = &pair.cloud else {
        unreachable!("it was opened so");
    };
    for whose in Whose::BOTH {
        let listing = format!("/storage/v1/b/{}/o", whose.bucket());
        let listed: Value = serde_json::from_str(&service.send("GET", &listing, "")).expect("JSON");
        let objects = listed["items"].as_array().expect("objects");
        assert!(objects.len() > 2, "{whose:?}: {objects:?}");
        for object in objects {
            assert_eq!(object["kmsKeyName"], key, "{whose:?}: {}", object["name"]);
        }
    }
}

/// Lets nothing on before so many are there, or nobody comes any more.
#[derive(Default)]
struct Gate {
    /// How many are there, and how many were at most.
    state: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass<T>(&self, together: usize, passing: impl FnOnce() -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        state.1 = state.1.max(state.0);
        self.changed.notify_all();
        let patience = Duration::from_secs(2);
        let few = |(_, most): &mut (usize, usize)| *most < together;
        drop(self.changed.wait_timeout_while(state, patience, few));
        let passed = passing();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
        passed
    }
}

#[test]
fn on_azure_a_segment_is_cut_and_sent_as_asked() {
    const AT_ONCE: usize = 3;
    let Some((mut pair, _cluster)) = pair(Cloud::azurite()) else {
        return;
    };
    let gate = Arc::new(Gate::default());
    let (upstream, at) = (pair.cloud.endpoint(), gate.clone());
    let standin = Standin::new(move |request: &Request| {
        let passing = || forward(request, &upstream);
        if is_block(request) {
            at.pass(AT_ONCE, passing)
        } else {
            passing()
        }
    });
    pair.words
        .insert("{through}", connection_string(standin.url()));
    let archive = |more: &str, server: &str| {
        let line = format!(
            "AZURE_STORAGE_CONNECTION_STRING={{through}} barman-cloud-wal-archive {more} \
             {{url}} {server} {{wal}}"
        );
        let ran = pair.run_one(Whose::Ours, &cases(&line)[0]);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    let blocks = || -> Vec<usize> {
        let asked = standin.asked();
        let blocks = asked.iter().filter(|asked| is_block(asked));
        blocks.map(|asked| asked.body.len()).collect()
    };
    archive(
        "--max-single-put-size 2MB --max-block-size 1MB --max-concurrency 3",
        "cut",
    );
    assert_eq!(blocks(), [1 << 20; 16]);
    let most = gate.state.lock().expect("nobody panics with it").1;
    assert_eq!(most, AT_ONCE, "so many blocks at once");
    archive("--max-single-put-size 16MB", "whole");
    assert_eq!(blocks().len(), 16, "nothing more is cut");
    let asked = standin.asked();
    let is_whole = |asked: &Request| asked.method() == "PUT" && asked.body.len() == 16 << 20;
    assert!(asked.iter().any(is_whole), "it is sent whole");
}

/// Whether it sends one block of a blob.
fn is_block(asked: &Request) -> bool {
    asked.query().split('&').any(|pair| pair == "comp=block")
}

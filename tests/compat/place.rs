//! A cloud as the tables see it: which of their lines mean anything there, and by what its objects are told apart.

use barkeep::store::ObjectMeta;

use crate::{state::Lock, support::cloud::Cloud};

/// What of the tables is about S3 only.
const OF_S3: [&str; 8] = [
    "AWS_",
    "http:",
    "gs://",
    "--addressing-style",
    "--cloud-provider",
    "--endpoint",
    "--profile",
    "-P ",
];

/// Buckets that a line may name instead of a URL.
const NAMED: [&str; 3] = ["{bucket}", "{missing}", "no-such-bucket"];

impl Cloud {
    /// Makes a bucket, on S3 with these headers.
    pub(crate) fn create_with(&self, bucket: &str, headers: &str) {
        match self {
            Self::Moto(server) => drop(server.send("PUT", &format!("/{bucket}"), headers, "")),
            _ => self.create_bucket(bucket),
        }
    }

    /// Locks an object; on Google Cloud it is held, however it should be.
    pub(crate) fn lock(&self, bucket: &str, key: &str, lock: &Lock) {
        match self {
            Self::Moto(server) => {
                let path = format!("/{bucket}/{key}?{}", lock.path);
                server.send("PUT", &path, "", &lock.body);
            }
            Self::Gcs(server) => {
                let path = format!("/storage/v1/b/{bucket}/o/{}", key.replace('/', "%2F"));
                server.send("PATCH", &path, "{\"temporaryHold\": true}");
            }
            _ => panic!("nothing is locked there"),
        }
    }

    /// Whether a command line of a table means anything here: those of S3's own are about S3.
    pub(crate) fn takes(&self, line: &str) -> bool {
        let named = NAMED.iter().fold(line.to_owned(), |line, bucket| {
            line.replace(&format!("s3://{bucket}"), "{url}")
        });
        let is_general = (named.contains("{url}") || named.contains("{from}"))
            && !named.contains("s3://")
            && !OF_S3.iter().any(|word| named.contains(word));
        is_general || matches!(self, Self::Moto(_))
    }

    /// The bucket's URL where a line has that of S3.
    pub(crate) fn translated(&self, word: &str) -> String {
        NAMED.iter().fold(word.to_owned(), |word, bucket| {
            word.replace(&format!("s3://{bucket}"), &self.url(bucket, ""))
        })
    }

    /// Which of the differences that a line tells are there: `objects@s3+azure` is one only on those.
    pub(crate) fn expected(&self, told: &[String]) -> Vec<String> {
        let here = match self {
            Self::Moto(_) | Self::S3s(_) => "s3",
            Self::Azure(_) => "azure",
            Self::Gcs(_) | Self::GcsEmulator(_) => "gcs",
        };
        let is_here = |places: &str| places.split('+').any(|place| place == here);
        let word = |told: &String| match told.split_once('@') {
            None => Some(told.clone()),
            Some((word, places)) => is_here(places).then(|| word.to_owned()),
        };
        told.iter().filter_map(word).collect()
    }

    /// By what a listed object is told from another under its key.
    pub(crate) fn tag(&self, meta: &ObjectMeta) -> String {
        match self {
            Self::Moto(_) => meta.version.0.clone(),
            // Elsewhere versions are of the writing, not of the content.
            _ => meta.size.to_string(),
        }
    }

    /// The same of a text.
    pub(crate) fn tag_of(&self, text: &str) -> String {
        match self {
            Self::Moto(_) => md5(text),
            _ => text.len().to_string(),
        }
    }
}

/// What moto answers for a text.
fn md5(text: &str) -> String {
    use std::fmt::Write as _;

    use md5::{Digest as _, Md5};
    let mut tag = String::from("\"");
    for byte in Md5::digest(text.as_bytes()) {
        write!(tag, "{byte:02x}").expect("a string grows");
    }
    tag.push('"');
    tag
}

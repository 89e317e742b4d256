//! Where the service is, and how its two interfaces spell what they speak of.
//!
//! Whatever is not plain in a name is escaped, slashes too in the JSON interface, so that a key means itself.

use std::fmt::Write;

use crate::cloud::google::Environment;

/// A service, and a bucket of it.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Without a slash at its end.
    base: String,
    bucket: String,
    pub(super) caller: Caller,
}

/// Who the service takes callers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever their token says.
    Authenticated,
    /// Nobody: an emulator must never see a token.
    Anonymous,
}

impl Endpoint {
    /// What is configured, else the emulator of the environment, else Google's own in its universe.
    pub(super) fn find(
        bucket: &str,
        configured: Option<&str>,
        around: &Environment,
        universe: Option<&str>,
    ) -> Self {
        let (base, caller) = match (configured, &around.emulator) {
            (Some(url), _) => (url.to_owned(), Caller::Authenticated),
            (None, Some(host)) if host.contains("://") => (host.clone(), Caller::Anonymous),
            // As Google's client for Go reads it.
            (None, Some(host)) => (format!("http://{host}"), Caller::Anonymous),
            (None, None) => {
                let universe = universe.unwrap_or("googleapis.com");
                (format!("https://storage.{universe}"), Caller::Authenticated)
            }
        };
        Self {
            base: base.trim_end_matches('/').to_owned(),
            bucket: escaped(bucket, ""),
            caller,
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        self.base.starts_with("http://")
    }

    /// All buckets.
    pub(super) fn buckets(&self) -> Url {
        self.url("/storage/v1/b")
    }

    /// The bucket itself.
    pub(super) fn bucket(&self) -> Url {
        self.url(&format!("/storage/v1/b/{}", self.bucket))
    }

    /// The objects of the bucket.
    pub(super) fn objects(&self) -> Url {
        self.url(&format!("/storage/v1/b/{}/o", self.bucket))
    }

    /// One object.
    pub(super) fn object(&self, name: &str) -> Url {
        self.url(&self.object_path(name))
    }

    /// The path of one object, for a request within a batch.
    pub(super) fn object_path(&self, name: &str) -> String {
        format!("/storage/v1/b/{}/o/{}", self.bucket, escaped(name, ""))
    }

    /// What makes one object of several.
    pub(super) fn composition(&self, name: &str) -> Url {
        self.url(&format!("{}/compose", self.object_path(name)))
    }

    /// Where objects are sent in one piece.
    pub(super) fn upload(&self) -> Url {
        self.url(&format!("/upload/storage/v1/b/{}/o", self.bucket))
    }

    /// Where several requests are sent in one.
    pub(super) fn batch(&self) -> Url {
        self.url("/batch/storage/v1")
    }

    /// The bucket in the XML interface, which alone knows uploads in parts.
    pub(super) fn xml_bucket(&self) -> Url {
        self.url(&format!("/{}", self.bucket))
    }

    /// One object in the XML interface.
    pub(super) fn xml_object(&self, name: &str) -> Url {
        self.url(&format!("/{}/{}", self.bucket, escaped(name, "/")))
    }

    fn url(&self, path: &str) -> Url {
        Url {
            text: format!("{}{path}", self.base),
            joint: '?',
        }
    }
}

/// A URL that grows.
#[derive(Clone, Debug)]
pub(super) struct Url {
    text: String,
    /// What the next parameter begins with.
    joint: char,
}

impl Url {
    /// The same with a parameter.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let (joint, value) = (self.joint, escaped(value, ""));
        write!(self.text, "{joint}{name}={value}").expect("a string takes all");
        self.joint = '&';
        self
    }

    /// The same with a parameter, if there is one.
    #[must_use]
    pub(super) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The same with a parameter that has no value.
    #[must_use]
    pub(super) fn with_word(mut self, name: &str) -> Self {
        write!(self.text, "{}{name}", self.joint).expect("a string takes all");
        self.joint = '&';
        self
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// What is asked for, without what is asked about it.
    pub(super) fn path(&self) -> &str {
        self.text.split('?').next().unwrap_or(&self.text)
    }
}

/// A text in a URL; `plain` are characters that may stay, beside those that always may.
fn escaped(text: &str, plain: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        let character = char::from(byte);
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(character);
            }
            _ if plain.contains(character) => escaped.push(character),
            byte => write!(escaped, "%{byte:02X}").expect("a string takes all"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_where_its_service_is() {
        let own = Some("https://storage-x.p.googleapis.com/");
        let (emulated, plainly) = (Some("http://x:9/"), Some("127.0.0.1:9"));
        let (asked, nobody) = (Caller::Authenticated, Caller::Anonymous);
        let cases = [
            (None, None, None, "https://storage.googleapis.com", asked),
            (None, None, Some("u.goog"), "https://storage.u.goog", asked),
            (
                own,
                emulated,
                None,
                "https://storage-x.p.googleapis.com",
                asked,
            ),
            (None, plainly, None, "http://127.0.0.1:9", nobody),
            (None, emulated, None, "http://x:9", nobody),
        ];
        for (configured, emulator, universe, base, caller) in cases {
            let around = Environment {
                emulator: emulator.map(str::to_owned),
                ..Environment::default()
            };
            let endpoint = Endpoint::find("b", configured, &around, universe);
            let expected = format!("{base}/storage/v1/b/b/o/a%2F%C3%BC%20%2B%25");
            assert_eq!(endpoint.object("a/ü +%").as_str(), expected);
            assert_eq!(endpoint.caller, caller, "{base}");
        }
    }

    #[test]
    fn parameters_are_joined_and_escaped() {
        let endpoint = Endpoint::find("b", None, &Environment::default(), None);
        let url = endpoint.xml_object("a/b c").with_word("uploads");
        let url = url.with("x", "1&2").with_some("y", None);
        assert!(url.as_str().ends_with("/b/a/b%20c?uploads&x=1%262"));
        assert!(url.path().ends_with("/b/a/b%20c"));
    }
}

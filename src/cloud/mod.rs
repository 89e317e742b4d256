//! The clouds themselves: whose credentials a request carries, and where they were found.
//!
//! Stores and disk snapshots ask for them alike; what a token may be used for, its scope, is theirs to say. Nothing is contacted before a
//! token is needed, and no secret is in any message.

use std::fmt;

#[cfg(any(feature = "aws", feature = "aws-ebs"))]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
#[cfg(feature = "gcp")]
pub mod google;

/// Whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    /// Amazon Web Services, and stores that speak S3.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Cloud.
    Google,
}

impl fmt::Display for Cloud {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Aws => "AWS",
            Self::Azure => "Azure",
            Self::Google => "Google Cloud",
        })
    }
}

/// Whom a cloud has refused, as far as it can be told without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Whose credentials they are.
    pub cloud: Cloud,
    /// What they are: an abbreviated key, an account, an address. Never a secret.
    pub name: String,
    /// Where they were found.
    pub origin: String,
}

impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cloud,
            name,
            origin,
        } = self;
        write!(formatter, "{cloud} {name} from {origin}")
    }
}

/// The name of a key, short enough for a message and long enough to be found again.
pub fn abbreviated(key: &str) -> String {
    const ENDS: usize = 4;
    let characters = key.chars().count();
    if characters <= 2 * ENDS {
        return key.to_owned();
    }
    let head: String = key.chars().take(ENDS).collect();
    let tail: String = key.chars().skip(characters - ENDS).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_by_its_ends() {
        let cases = [
            ("AKIAIOSFODNN7EXAMPLE", "AKIA…MPLE"),
            ("testkey", "testkey"),
        ];
        for (key, expected) in cases {
            assert_eq!(abbreviated(key), expected);
        }
    }
}

//! Names that people choose: servers, destinations, policies. Parsed once, valid for ever.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing in it.
    #[error("a name must not be empty")]
    Empty,
    /// It means a directory rather than a name.
    #[error("`{0}` cannot be a name")]
    Reserved(String),
    /// One of its characters has another meaning in a path or an object key.
    #[error(
        "the name `{name}` contains `{character}`; allowed are letters, digits, `.`, `_` and `-`"
    )]
    Character {
        /// The whole text.
        name: String,
        /// The character.
        character: char,
    },
    /// It is longer than a path component may be.
    #[error("the name `{0}` is longer than 200 characters")]
    Long(String),
}

fn check(text: &str) -> Result<(), Error> {
    const LENGTH_MAX: usize = 200;
    if text.is_empty() {
        return Err(Error::Empty);
    }
    if text == "." || text == ".." {
        return Err(Error::Reserved(text.to_owned()));
    }
    if text.chars().count() > LENGTH_MAX {
        return Err(Error::Long(text.to_owned()));
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text.chars().find(|&c| !allowed(c)) {
        Some(character) => Err(Error::Character {
            name: text.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks a text and takes it as a name.
            pub fn parse(text: &str) -> Result<Self, Error> {
                check(text).map(|()| Self(text.to_owned()))
            }

            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A PostgreSQL cluster under protection; also the first component of its keys in the catalog.
    ServerName
);
impl ServerName {
    /// Takes the name of a server that another program's catalog has: one path component, whatever its characters.
    pub fn verbatim(text: &str) -> Result<Self, Error> {
        match text {
            "" => Err(Error::Empty),
            "." | ".." => Err(Error::Reserved(text.to_owned())),
            _ => match text.chars().find(|&c| c == '/' || c.is_control()) {
                Some(character) => Err(Error::Character {
                    name: text.to_owned(),
                    character,
                }),
                None => Ok(Self(text.to_owned())),
            },
        }
    }
}

name!(
    /// A place where backups live.
    DestinationName
);
name!(
    /// A named schedule with its retention.
    PolicyName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_harmless_path_component() {
        for good in ["orders", "db-1.eu_south", "größe"] {
            assert!(ServerName::parse(good).is_ok(), "{good}");
        }
        for verbatim in ["orders", "two words", "*"] {
            assert!(ServerName::verbatim(verbatim).is_ok(), "{verbatim}");
        }
        for bad in ["", ".", "..", "a/b", "a\n"] {
            assert!(ServerName::verbatim(bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a\n", "*", &"x".repeat(201)] {
            assert!(ServerName::parse(bad).is_err(), "{bad:?}");
        }
    }
}

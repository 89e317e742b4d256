//! barkeep's own objects as JSON.
//!
//! Each carries `format`, the version of its layout, and `min_reader`, the oldest version whose
//! reader does no harm with it. A reader that is too old says so by [`Error::Later`], and whoever
//! asked goes on without acting on it. Fields that this version does not know are skipped, which is
//! what `min_reader` allows.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    failure::Kind,
    model::record::{
        ArchiveEvidence, Attempt, Baseline, Deletion, Identity, KeepRecord, Mark, PageEvidence,
        Verification,
    },
};

/// The version of every layout that this program writes.
const FORMAT: u32 = 1;
/// The oldest reader that understands what this program writes.
const MIN_READER: u32 = 1;

/// Why an object of barkeep's own cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON, or not of the kind asked for.
    #[error("cannot read the {what} record")]
    Json {
        /// The kind of record.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A later version of barkeep wrote it and says that this one must not act on it.
    #[error("the {what} record needs barkeep with format {min_reader} or later")]
    Later {
        /// The kind of record.
        what: &'static str,
        /// The format that its reader must know.
        min_reader: u32,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        Kind::Failed
    }
}

/// Something that barkeep writes down beside a catalog.
pub trait Record: Serialize + DeserializeOwned {
    /// Its kind, for people.
    const WHAT: &'static str;
}

macro_rules! records {
    ($($type:ident: $what:literal),* $(,)?) => {$(
        impl Record for $type {
            const WHAT: &'static str = $what;
        }
    )*};
}
records! {
    Identity: "identity",
    Attempt: "attempt",
    Deletion: "deletion",
    KeepRecord: "keep",
    Mark: "mark",
    Baseline: "baseline",
    PageEvidence: "evidence",
    ArchiveEvidence: "evidence",
    Verification: "verification",
}

#[derive(Serialize, Deserialize)]
struct Versions {
    format: u32,
    min_reader: u32,
}

#[derive(Serialize)]
struct Written<'a, T> {
    #[serde(flatten)]
    versions: Versions,
    #[serde(flatten)]
    record: &'a T,
}

/// Writes a record as indented JSON with a line end.
pub fn render<T: Record>(record: &T) -> String {
    let versions = Versions {
        format: FORMAT,
        min_reader: MIN_READER,
    };
    let written = Written { versions, record };
    let json = serde_json::to_string_pretty(&written);
    json.expect("a record has text keys and cannot fail") + "\n"
}

/// Reads a record.
pub fn parse<T: Record>(content: &[u8]) -> Result<T, Error> {
    let error = |source| Error::Json {
        what: T::WHAT,
        source,
    };
    // The versions come first: a later layout need not even look like a record of today.
    let versions: Versions = serde_json::from_slice(content).map_err(error)?;
    if versions.min_reader > FORMAT {
        return Err(Error::Later {
            what: T::WHAT,
            min_reader: versions.min_reader,
        });
    }
    serde_json::from_slice(content).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        backup::{BackupId, KeepTarget},
        record::SetBy,
        wal::SystemId,
    };

    fn identity() -> Identity {
        Identity {
            system_id: SystemId(7_710_387_505_871_624_418),
            pinned_at: "2026-11-20T22:43:33Z".parse().expect("an instant"),
        }
    }

    #[test]
    fn a_record_tells_its_versions_and_is_read_back() {
        let text = render(&identity());
        assert_eq!(
            text,
            "{\n  \"format\": 1,\n  \"min_reader\": 1,\n  \
             \"system_id\": \"7710387505871624418\",\n  \
             \"pinned_at\": \"2026-11-20T22:43:33Z\"\n}\n"
        );
        assert_eq!(
            parse::<Identity>(text.as_bytes()).expect("a record"),
            identity()
        );
        let keep = KeepRecord {
            backup: BackupId::new("20261101T020004"),
            target: KeepTarget::Standalone,
            reason: "first of the month".to_owned(),
            until: None,
            set_at: identity().pinned_at,
            by: SetBy::Person("alice".to_owned()),
        };
        assert_eq!(
            parse::<KeepRecord>(render(&keep).as_bytes()).expect("a record"),
            keep
        );
    }

    #[test]
    fn a_later_record_is_read_only_where_it_allows_it() {
        let later = |min_reader: u32| {
            let text = render(&identity()).replace("\"format\": 1", "\"format\": 9, \"more\": 1");
            text.replace(
                "\"min_reader\": 1",
                &format!("\"min_reader\": {min_reader}"),
            )
        };
        assert!(parse::<Identity>(later(1).as_bytes()).is_ok());
        let error = parse::<Identity>(later(2).as_bytes()).map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("the identity record needs barkeep with format 2 or later".to_owned())
        );
        let empty = parse::<Identity>(b"{}").expect_err("it tells no version");
        assert_eq!(empty.kind(), Kind::Failed);
        assert!(parse::<Identity>(b"{\"format\": 1, \"min_reader\": 1}").is_err());
    }
}

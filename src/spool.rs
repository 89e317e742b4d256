//! The local cache of the WAL commands: what was archived ahead, what was fetched ahead, whose archive it is.
//!
//! Nothing in it is needed, but for what was received durably ([`Received`]), which is why that lies where the configuration says. Deleting all of it, at any time, costs requests and never correctness; so whoever uses it treats a
//! failure here as an empty cache, and checks what it reads. Absence is never cached.
//!
//! Everything lies in directories named by a digest of what it is about (destinations, server, data directory), so that two
//! servers, or one server and its restored copy, never see each other's. A directory must belong to the user of the process and
//! be writable to nobody else: what lies in a shared place such as `/var/tmp` could otherwise be put there by anyone. Files
//! appear under their names only whole and durable.

use std::{
    fmt::Write as _,
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{failure::Kind, model::wal::SystemId};

mod fetched;
mod marker;
mod received;
mod writer;

pub use fetched::Fetched;
pub use marker::{FileStamp, Marker, Markers};
pub use received::{Kept, Received};
pub use writer::SegmentWriter;

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory cannot be made or looked at.
    #[error("cannot use the spool directory `{path}`")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory belongs to somebody else, or others may write to it.
    #[error("the spool directory `{path}` is open to other users")]
    Shared {
        /// The directory.
        path: PathBuf,
    },
    /// Another process holds a directory.
    #[error("another process receives WAL into `{path}`")]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// A directory holds WAL of another cluster.
    #[error("`{path}` holds WAL of the system identifier {known}, not of {found}")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose WAL is there.
        known: SystemId,
        /// Whose was to be put there.
        found: SystemId,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written or removed.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Directory { .. }
            | Self::Shared { .. }
            | Self::Read { .. }
            | Self::Write { .. } => Kind::Failed,
            Self::Taken { .. } | Self::Foreign { .. } => Kind::Refused,
        }
    }
}

/// A directory that holds the caches of any number of servers.
#[derive(Clone, Debug)]
pub struct Spool {
    root: PathBuf,
}

impl Spool {
    /// Names the directory; it is made when something is first written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The markers of a server's segments that were archived ahead. `data_directory` holds the segments.
    pub fn markers(&self, server: &str, data_directory: &Path) -> Markers {
        let path = data_directory.to_string_lossy();
        Markers::new(self.folder("archive", &[server, &path]))
    }

    /// The segments that were fetched ahead from these destinations for the recovery of one data directory.
    pub fn fetched(&self, locations: &[&str], server: &str, data_directory: &Path) -> Fetched {
        let path = data_directory.to_string_lossy();
        let about: Vec<&str> = [server, &path]
            .into_iter()
            .chain(locations.iter().copied())
            .collect();
        Fetched::new(self.folder("restore", &about))
    }

    /// The cluster that a server's directory in a destination was found to belong to.
    pub fn identity(&self, location: &str, server: &str) -> Result<Option<SystemId>, Error> {
        let folder = self.folder("identity", &[location, server]);
        let content = folder.read("system-id")?;
        Ok(content.and_then(|content| String::from_utf8(content).ok()?.trim().parse().ok()))
    }

    /// Remembers the cluster that a server's directory in a destination belongs to.
    pub fn set_identity(
        &self,
        location: &str,
        server: &str,
        system_id: SystemId,
    ) -> Result<(), Error> {
        let folder = self.folder("identity", &[location, server]);
        folder.write("system-id", system_id.to_string().as_bytes())
    }

    fn folder(&self, purpose: &str, about: &[&str]) -> Folder {
        let mut digest = Sha256::new();
        for part in about {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let digest = digest.finalize();
        let mut name = format!("{purpose}-");
        for byte in &digest[..12] {
            write!(name, "{byte:02x}").expect("a text takes everything");
        }
        Folder {
            path: self.root.join(name),
        }
    }
}

/// One directory of the cache.
#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Whether the directory is there and safe to read from.
    fn exists(&self) -> Result<bool, Error> {
        let failed = |source| Error::Directory {
            path: self.path.clone(),
            source,
        };
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if metadata.is_dir() && ours && metadata.mode() & 0o022 == 0 {
            return Ok(true);
        }
        Err(Error::Shared {
            path: self.path.clone(),
        })
    }

    /// Makes the directory unless it is there.
    fn create(&self) -> Result<(), Error> {
        if self.exists()? {
            return Ok(());
        }
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path);
        made.map_err(|source| Error::Directory {
            path: self.path.clone(),
            source,
        })?;
        self.exists().map(|_| ())
    }

    /// A file's content; `None` if it is not there.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if !self.exists()? {
            return Ok(None);
        }
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Writes a file whole and durable.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.create()?;
        let path = self.path.join(name);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            file.write_all(content)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            fs::File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| Error::Write {
            path: path.clone(),
            source,
        })
    }

    /// Removes a file; one that is not there counts as removed.
    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Write {
                path,
                source: error,
            }),
            _ => Ok(()),
        }
    }

    /// The names of all files.
    fn names(&self) -> Result<Vec<String>, Error> {
        if !self.exists()? {
            return Ok(Vec::new());
        }
        let names = || -> io::Result<Vec<String>> {
            let entries = fs::read_dir(&self.path)?;
            let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
            entries
                .filter_map(|entry| name(entry).transpose())
                .collect()
        };
        names().map_err(|source| Error::Directory {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_identity_is_remembered_per_destination_and_server() -> Result<(), Error> {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path().join("made/on/demand"));
        spool.set_identity("s3://a", "x", SystemId(7))?;
        assert_eq!(spool.identity("s3://a", "x")?, Some(SystemId(7)));
        assert_eq!(spool.identity("s3://a", "y")?, None);
        assert_eq!(spool.identity("s3://b", "x")?, None);
        Ok(())
    }

    #[test]
    fn what_others_could_have_put_there_is_not_read() -> Result<(), Error> {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path());
        spool.set_identity("s3://a", "x", SystemId(7))?;
        let folder = spool.folder("identity", &["s3://a", "x"]);
        let open = fs::Permissions::from_mode(0o770);
        fs::set_permissions(&folder.path, open).expect("our own directory");
        let refused = spool.identity("s3://a", "x");
        assert!(matches!(refused, Err(Error::Shared { .. })));
        Ok(())
    }

    #[test]
    fn a_link_to_another_directory_is_not_followed() {
        let root = tempfile::tempdir().expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path());
        let folder = spool.folder("identity", &["s3://a", "x"]);
        std::os::unix::fs::symlink(elsewhere.path(), &folder.path).expect("a link");
        let refused = spool.set_identity("s3://a", "x", SystemId(7));
        assert!(matches!(refused, Err(Error::Shared { .. })));
    }

    #[test]
    fn nonsense_in_the_cache_is_an_empty_cache() -> Result<(), Error> {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path());
        spool.set_identity("s3://a", "x", SystemId(7))?;
        let folder = spool.folder("identity", &["s3://a", "x"]);
        folder.write("system-id", b"seven")?;
        assert_eq!(spool.identity("s3://a", "x")?, None);
        Ok(())
    }
}

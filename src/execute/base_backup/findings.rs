//! What is noticed while files are copied and does not stop a backup.

use std::{fmt, path::PathBuf};

use crate::model::record::DamagedPages;

/// How many damaged files and how many warnings are named; the rest is counted.
const NAMED_MAX: usize = 1000;

/// Something that people should know about a backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A link to a directory that is not PostgreSQL's own: neither the link nor what lies behind it is in the backup.
    DirectoryLink(PathBuf),
    /// A socket or a device, which is not in the backup.
    Special(PathBuf),
    /// This file alone made an archive larger than the limit.
    LargeFile {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
    },
    /// It was to be an incremental backup, and the server made a full one.
    NotIncremental {
        /// What the server said.
        why: String,
    },
    /// A file of the server is on a disk of which no snapshot is taken.
    Uncovered(String),
    /// A file that supplies settings lies outside PGDATA and is not in the backup.
    IncludedFile(PathBuf),
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DirectoryLink(path) => write!(
                formatter,
                "`{}` is a link to a directory and is not in the backup",
                path.display()
            ),
            Self::Special(path) => write!(
                formatter,
                "`{}` is a socket or a device and is not in the backup",
                path.display()
            ),
            Self::LargeFile { path, bytes } => write!(
                formatter,
                "`{}` alone is larger than an archive may become: {bytes} bytes",
                path.display()
            ),
            Self::NotIncremental { why } => {
                write!(
                    formatter,
                    "a full backup instead of an incremental one: {why}"
                )
            }
            Self::Uncovered(what) => formatter.write_str(what),
            Self::IncludedFile(path) => write!(
                formatter,
                "the configuration file `{}` lies outside PGDATA and is not in the backup",
                path.display()
            ),
        }
    }
}

/// What was noticed while copying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) damaged: Vec<DamagedPages>,
    pub(super) damaged_files: u64,
    pub(super) warnings: Vec<Warning>,
    pub(super) files: u64,
}

impl Findings {
    pub(super) fn warn(&mut self, warning: Warning) {
        if self.warnings.len() < NAMED_MAX {
            self.warnings.push(warning);
        }
    }

    pub(super) fn damage(&mut self, damaged: DamagedPages) {
        self.damaged_files += 1;
        if self.damaged.len() < NAMED_MAX {
            self.damaged.push(damaged);
        }
    }
}

//! Why a snapshot cannot be taken, looked at or deleted.

use crate::{failure::Kind, model::lock::Lock};

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This build knows nothing of the cloud.
    #[error("this build has no snapshots of {0}")]
    Unsupported(&'static str),
    /// Something that the cloud needs to know was not said.
    #[error("snapshots of {cloud} need {what}")]
    Missing {
        /// The cloud.
        cloud: &'static str,
        /// What was not said.
        what: &'static str,
    },
    /// A client for the cloud cannot be made.
    #[error("cannot speak to {cloud}: {why}")]
    Client {
        /// The cloud.
        cloud: &'static str,
        /// Why not.
        why: String,
    },
    /// There is no such instance.
    #[error("Cannot find compute instance {0}")]
    NoInstance(String),
    /// A name means several things.
    #[error("`{name}` is no unique name of a {what}: it means {}", .candidates.join(", "))]
    Ambiguous {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
        /// All that it means.
        candidates: Vec<String>,
    },
    /// Disks are not attached to the instance.
    #[error("Cannot find disks attached to compute instance {instance}: {} (attached are: {})", .disks.join(", "), .attached.join(", "))]
    NotAttached {
        /// The instance.
        instance: String,
        /// The disks that are not.
        disks: Vec<String>,
        /// Those that are.
        attached: Vec<String>,
    },
    /// Disks are not mounted.
    #[error("Cannot find disks mounted on compute instance {instance}: {}", .disks.join(", "))]
    NotMounted {
        /// The instance.
        instance: String,
        /// The disks, each with the reason.
        disks: Vec<String>,
    },
    /// No snapshot is taken of such a disk.
    #[error("the disk `{disk}` {why}")]
    Refused {
        /// The disk.
        disk: String,
        /// Why not.
        why: &'static str,
    },
    /// Files of the server are on a disk of which no snapshot would be taken.
    #[error("`{path}` is on `{mount}`{}, of which no snapshot would be taken", on(.disks))]
    Uncovered {
        /// What is there.
        path: String,
        /// The mounted file system.
        mount: String,
        /// What is known of the disks below it, in words.
        disks: Vec<String>,
    },
    /// A file system spans several disks.
    #[error(
        "`{path}` is on `{mount}`, a file system over several disks ({}), whose snapshots would show different instants",
        .disks.join(", ")
    )]
    Spans {
        /// What is there.
        path: String,
        /// The mounted file system.
        mount: String,
        /// The disks.
        disks: Vec<String>,
    },
    /// Where things are mounted cannot be found out.
    #[error("cannot find out what is mounted where")]
    Mounts(#[source] std::io::Error),
    /// The command that tells what is mounted on another host does not.
    #[error("cannot learn from `{command}` what is mounted where: {why}")]
    MountsCommand {
        /// The command.
        command: String,
        /// Why not.
        why: String,
    },
    /// The cloud does not answer.
    #[error("cannot {doing}: the cloud does not answer: {why}")]
    Unreachable {
        /// What it was asked.
        doing: String,
        /// Why not.
        why: String,
    },
    /// The cloud refuses.
    #[error("cannot {doing}: {code}: {message}")]
    Cloud {
        /// What it was asked.
        doing: String,
        /// Its name for the failure.
        code: String,
        /// What it says.
        message: String,
    },
    /// The cloud answers something else than it should.
    #[error("cannot {doing}: the answer is not understood: {why}")]
    Answer {
        /// What it was asked.
        doing: String,
        /// What is wrong with it.
        why: String,
    },
    /// A snapshot failed after it was accepted.
    #[error("Snapshot '{name}' failed: {why}")]
    Failed {
        /// The snapshot.
        name: String,
        /// What the cloud says.
        why: String,
    },
    /// A snapshot is not there any more.
    #[error("the snapshot `{0}` is not there any more, nor a disk that was made of it")]
    Gone(String),
    /// A disk that was made of a snapshot cannot be used.
    #[error("the disk `{name}` cannot be used: {why}; delete it and restore again")]
    DiskFailed {
        /// The disk.
        name: String,
        /// What the cloud says.
        why: String,
    },
    /// A snapshot took too long.
    #[error("the snapshots {} are not complete after {seconds} seconds", .names.join(", "))]
    Late {
        /// Those that are not.
        names: Vec<String>,
        /// How long they were waited for.
        seconds: u64,
    },
    /// A snapshot is locked.
    #[error(
        "Locked snapshot: {id}.\nBefore deleting a snapshot, please ensure that it is not locked or that the lock has \
         expired."
    )]
    Locked {
        /// The snapshot.
        id: String,
        /// How.
        lock: Lock,
    },
    /// What is there under a snapshot's name is another one.
    #[error("the snapshot `{id}` is not the one that was recorded: {why}")]
    Another {
        /// The snapshot.
        id: String,
        /// How that shows.
        why: String,
    },
    /// The operator stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unsupported(_) | Self::Missing { .. } => Kind::Usage,
            Self::NoInstance(_) | Self::Gone(_) => Kind::NotFound,
            Self::Ambiguous { .. }
            | Self::NotAttached { .. }
            | Self::NotMounted { .. }
            | Self::Refused { .. }
            | Self::Uncovered { .. }
            | Self::Spans { .. }
            | Self::Locked { .. }
            | Self::Another { .. } => Kind::Refused,
            Self::Unreachable { .. } => Kind::Unreachable,
            Self::Interrupted => Kind::Interrupted,
            Self::Client { .. }
            | Self::Mounts(_)
            | Self::MountsCommand { .. }
            | Self::Cloud { .. }
            | Self::Answer { .. }
            | Self::Failed { .. }
            | Self::DiskFailed { .. }
            | Self::Late { .. } => Kind::Failed,
        }
    }

    /// What to do about it, where that is something about the disks or where they are mounted.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoInstance(_) => "name the server's own in `instance`",
            Self::Ambiguous { .. } => "name it by its identifier",
            Self::NotAttached { .. } => "name those in `disks` that are",
            Self::NotMounted { .. } => {
                "mount them on the server's host; where that is another one, `mounts_command` or `mounts` says where"
            }
            Self::Refused { .. } => "move the files to a disk for data, and name that in `disks`",
            Self::Uncovered { .. } => "name its disk in `disks`, or move the files",
            Self::Spans { .. } => "move the files to a file system on one disk",
            Self::MountsCommand { .. } => {
                "run it by hand on this host, as the user that barkeep runs as"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether it says of the disks what is wrong with them, instead of that nothing could be learned.
    pub fn is_finding(&self) -> bool {
        matches!(self.kind(), Kind::Refused | Kind::NotFound)
    }

    /// Whether the cloud has said so, by this name.
    #[cfg(any(feature = "azure", feature = "gcp", feature = "aws-ebs"))]
    pub(super) fn is_called(&self, name: &str) -> bool {
        matches!(self, Self::Cloud { code, .. } if code == name)
    }

    #[cfg(any(feature = "azure", feature = "gcp"))]
    pub(super) fn unreachable(doing: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unreachable {
            doing: doing.to_owned(),
            why: crate::failure::chain(error),
        }
    }
}

/// ` of the disk so-and-so`, if anything is known.
fn on(disks: &[String]) -> String {
    if disks.is_empty() {
        return String::new();
    }
    format!(" of {}", disks.join(" and "))
}

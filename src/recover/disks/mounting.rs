//! Mounting disks that were made of snapshots where their originals were.

use std::{
    fmt,
    path::Path,
    process::{Command, Stdio},
};

use super::{
    Error,
    making::{DiskStage, Looked},
};
use crate::{
    model::snapshot::Mount,
    snapshot::mounts::{Host, path_of},
};

/// Options of `mount(8)` that any file system takes. Of what the kernel lists, others are its own business.
const OPTIONS: [&str; 12] = [
    "discard",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nosuid",
    "nouuid",
    "relatime",
    "ro",
    "rw",
    "strictatime",
    "sync",
];

/// How one disk is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStep {
    /// The device: the whole disk, or what on it holds the file system.
    pub device: String,
    /// Where it goes.
    pub mount: Mount,
}

impl fmt::Display for MountStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = quoted(&self.mount.point);
        let (options, device) = (options(&self.mount), quoted(&self.device));
        write!(
            formatter,
            "mkdir -p {point} && mount -o {options} {device} {point}"
        )
    }
}

/// The steps that mount what is attached, in the order in which points lie within one another.
pub fn steps(looked: &[Looked]) -> Vec<MountStep> {
    let step = |one: &Looked| {
        let DiskStage::Attached(device) = &one.stage else {
            return None;
        };
        Some(MountStep {
            device: path_of(device),
            mount: one.snapshot.mount.clone()?,
        })
    };
    let mut steps: Vec<MountStep> = looked.iter().filter_map(step).collect();
    steps.sort_by(|one, other| one.mount.point.cmp(&other.mount.point));
    steps
}

/// Mounts what is attached to this host and not mounted yet. Blocks.
pub fn mount(host: &Host, looked: &[Looked]) -> Result<(), Error> {
    let mut attached: Vec<&Looked> = looked.iter().collect();
    attached.sort_by_key(|one| one.snapshot.mount.as_ref().map(|mount| mount.point.clone()));
    for one in attached {
        let (DiskStage::Attached(device), Some(mount)) = (&one.stage, &one.snapshot.mount) else {
            continue;
        };
        if host.of(device).is_ok() {
            continue;
        }
        let failed = |why: String| Error::Mount {
            disk: one.name.clone(),
            why,
        };
        let step = MountStep {
            device: host.mountable(device).map_err(failed)?,
            mount: mount.clone(),
        };
        run(&step).map_err(failed)?;
    }
    Ok(())
}

fn run(step: &MountStep) -> Result<(), String> {
    let point = Path::new(&step.mount.point);
    std::fs::create_dir_all(point).map_err(|error| error.to_string())?;
    tracing::info!("Mounting {} on {}", step.device, step.mount.point);
    let output = Command::new("mount")
        .args(["-o", &options(&step.mount), &step.device])
        .arg(point)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn options(mount: &Mount) -> String {
    let known = mount
        .options
        .split(',')
        .filter(|option| OPTIONS.contains(option));
    let known: Vec<&str> = known.collect();
    if known.is_empty() {
        return "defaults".to_owned();
    }
    known.join(",")
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_line_for_the_shell_with_options_that_every_file_system_takes() {
        let step = |point: &str, options: &str| {
            let step = MountStep {
                device: "/dev/disk/by-id/google-pg".to_owned(),
                mount: Mount {
                    point: point.to_owned(),
                    options: options.to_owned(),
                },
            };
            step.to_string()
        };
        assert_eq!(
            step("/srv/pg", "rw,noatime,attr2,inode64,logbufs=8"),
            "mkdir -p /srv/pg && mount -o rw,noatime /dev/disk/by-id/google-pg /srv/pg"
        );
        assert_eq!(
            step("/srv/it's", ""),
            r"mkdir -p '/srv/it'\''s' && mount -o defaults /dev/disk/by-id/google-pg '/srv/it'\''s'"
        );
    }
}

//! `mountinfo`, the kernel's table of mounts, read as `findmnt` reads it.
//!
//! Format: `proc_pid_mountinfo(5)`. Options are those of the mount and of the file system in one list, joined as libmount joins them, for
//! that is what a restore compares.

use crate::model::snapshot::Mount;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// The device's `major:minor`.
    pub(super) number: String,
    /// What was mounted.
    pub(super) source: String,
    pub(super) mount: Mount,
    /// Its line.
    pub(super) order: usize,
}

/// Reads a table. Of one file system that is mounted in several places, only the mounts of its root count, unless there are none.
pub(super) fn parse(text: &str) -> Vec<Mounted> {
    let lines: Vec<_> = text.lines().enumerate().filter_map(line).collect();
    let has_whole = |number: &str| {
        let mut others = lines.iter();
        others.any(|(root, mounted)| root == "/" && mounted.number == number)
    };
    let counts = |(root, mounted): &&(String, Mounted)| root == "/" || !has_whole(&mounted.number);
    let mounts = lines.iter().filter(counts);
    mounts.map(|(_, mounted)| mounted.clone()).collect()
}

/// The directory of the file system that is mounted, and the mount.
fn line((order, line): (usize, &str)) -> Option<(String, Mounted)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let [_, _, number, root, point, of_mount, ..] = mount[..] else {
        return None;
    };
    let mut file_system = file_system.split(' ').skip(1);
    let (source, of_file_system) = (file_system.next()?, file_system.next()?);
    let mounted = Mounted {
        number: number.to_owned(),
        source: unescaped(source),
        mount: Mount {
            point: unescaped(point),
            options: joined(of_mount, of_file_system),
        },
        order,
    };
    Some((unescaped(root), mounted))
}

/// As libmount joins them: who of the two is read-only makes the whole so, and that comes first.
fn joined(of_mount: &str, of_file_system: &str) -> String {
    if of_mount == of_file_system {
        return of_mount.to_owned();
    }
    let all = of_mount.split(',').chain(of_file_system.split(','));
    let writable = |option: &str| matches!(option, "rw" | "ro");
    let is_read_only = all.clone().any(|option| option == "ro");
    let first = if is_read_only { "ro" } else { "rw" };
    let rest = all.filter(|option| !writable(option) && !option.is_empty());
    let options: Vec<&str> = std::iter::once(first).chain(rest).collect();
    options.join(",")
}

/// Spaces, tabs, line ends and backslashes are written in octal.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

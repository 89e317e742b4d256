//! A directory tree with everything that a data directory may hold, and how two of them compare.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use barkeep::pipeline::tar::{Copied, Entry, EntryKind, FileTime, Writer, data_directory_name};

/// A tree in a temporary directory.
pub(crate) struct Tree {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("tree");
        let long = format!("base/5/{}", "1".repeat(150));
        for name in ["", "base", "base/5", "empty", "größe"] {
            fs::create_dir(path.join(name)).expect("a new directory");
        }
        for (name, content) in [
            ("PG_VERSION", b"17\n".to_vec()),
            ("base/5/1259", noise(3_000_000)),
            ("base/5/1260", vec![0; 2_500_000]),
            ("base/5/511", noise(511)),
            ("base/5/512", noise(512)),
            ("base/5/513", noise(513)),
            (&long, noise(10)),
            ("größe/ä", Vec::new()),
        ] {
            let mut file = File::create_new(path.join(name)).expect("a new file");
            file.write_all(&content).expect("the disk takes it");
            // A binary fraction, which a reader that uses floating point keeps, too.
            let modified = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
            file.set_modified(modified).expect("ours");
        }
        let closed = fs::Permissions::from_mode(0o400);
        fs::set_permissions(path.join("base/5/513"), closed).expect("ours");
        symlink("/etc/postgresql.conf", path.join("postgresql.conf")).expect("new");
        symlink("../nowhere", path.join("base/dangling")).expect("new");
        // After the first name in any order of reading, since only that one is a file.
        fs::hard_link(path.join("PG_VERSION"), path.join("base/5/link")).expect("new");
        super::run(Command::new("mkfifo").arg(path.join("pipe")));
        Self { directory, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path outside the tree that goes away with it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn assert_same_as(&self, other: &Path) {
        let (expected, found) = (describe(&self.path), describe(other));
        for (name, expected) in &expected {
            assert_eq!(found.get(name), Some(expected), "{}", name.display());
        }
        assert_eq!(found.len(), expected.len(), "{}", other.display());
    }
}

/// Bytes that compress a little.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u64 | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0] & 0x3f
    })
    .take(length)
    .collect()
}

/// Adds everything below a directory, as Barman names it.
pub(crate) fn append<W: Write>(writer: &mut Writer<W>, root: &Path) {
    let mut linked = BTreeMap::<u64, Vec<u8>>::new();
    for relative in walk(root) {
        let path = root.join(&relative);
        let stat = fs::symlink_metadata(&path).expect("it was listed");
        let target;
        let kind = if stat.is_dir() {
            EntryKind::Directory
        } else if stat.is_symlink() {
            target = fs::read_link(&path).expect("a link").into_os_string();
            EntryKind::Symlink {
                target: target.as_bytes(),
            }
        } else if stat.file_type().is_fifo() {
            EntryKind::Fifo
        } else if let Some(first) = linked.get(&stat.ino()) {
            EntryKind::HardLink { target: first }
        } else {
            EntryKind::File { size: stat.size() }
        };
        let name = data_directory_name(&relative, kind);
        let entry = Entry {
            name: &name,
            kind,
            mode: stat.mode(),
            uid: stat.uid(),
            gid: stat.gid(),
            owner: "",
            group: "",
            modified: FileTime {
                seconds: stat.mtime(),
                nanoseconds: stat.mtime_nsec().try_into().expect("below a second"),
            },
        };
        if let EntryKind::File { .. } = kind {
            let mut file = File::open(&path).expect("readable");
            let copied = writer.append_file(&entry, &mut file).expect("it fits");
            assert_eq!(copied, Copied::Whole);
            linked.insert(stat.ino(), name);
        } else {
            writer.append(&entry).expect("it fits");
        }
    }
}

/// All paths below a directory, parents first.
pub(crate) fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    let mut next = 0;
    while next < found.len() {
        let path = root.join(&found[next]);
        if fs::symlink_metadata(&path).expect("it was listed").is_dir() {
            for entry in fs::read_dir(&path).expect("readable") {
                found.push(found[next].join(entry.expect("readable").file_name()));
            }
        }
        next += 1;
    }
    found
}

/// What must be the same after a restore, by relative path.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let files = walk(root).into_iter().map(|relative| {
        let path = root.join(&relative);
        let stat = fs::symlink_metadata(&path).expect("it was listed");
        let mode = stat.mode();
        let content = if stat.is_symlink() {
            format!("to {}", fs::read_link(&path).expect("a link").display())
        } else if stat.is_file() {
            let content = fs::read(&path).expect("readable");
            let sum = content.iter().fold(0_u64, |sum, &byte| {
                sum.wrapping_mul(31).wrapping_add(byte.into())
            });
            let (seconds, nanoseconds) = (stat.mtime(), stat.mtime_nsec());
            format!(
                "{} {sum:x} {seconds}.{nanoseconds} {}",
                stat.len(),
                stat.nlink()
            )
        } else {
            String::new()
        };
        (relative, format!("{mode:o} {content}"))
    });
    files.collect()
}

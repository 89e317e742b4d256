//! Which of a cluster's files a base backup leaves out.
//!
//! What PostgreSQL throws away or makes anew at its start is left out, but the directories that it expects stay, empty. The rules
//! are Barman's with its slips mended: temporary relations are recognised, an excluded directory is left out with all that is
//! below it, a tablespace that lies inside PGDATA is stored once. `docs/base-backup.md` tells people.
//!
//! Left out beyond Barman, because a restore must not find them: `backup_label`, `tablespace_map` (with it PostgreSQL would put
//! remapped tablespaces back to where they were), `backup_manifest`, `recovery.signal`, and `lost+found`, which nobody may read.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::model::backup::ArchiveRoot;

/// The directories below PGDATA whose content is of no use in another place or at another time.
const EMPTIED: [&[u8]; 11] = [
    b"pg_wal",
    b"pg_xlog",
    b"pg_replslot",
    b"pg_dynshmem",
    b"pg_notify",
    b"pg_serial",
    b"pg_snapshots",
    b"pg_stat_tmp",
    b"pg_subtrans",
    b"pg_log",
    b"log",
];

/// The files directly below PGDATA that belong to the running server or to another backup.
const LEFT_AT_ROOT: [&[u8]; 11] = [
    b"postmaster.pid",
    b"postmaster.opts",
    b"postgresql.auto.conf.tmp",
    b"current_logfiles.tmp",
    b"recovery.conf",
    b"recovery.signal",
    b"standby.signal",
    b"backup_label",
    b"tablespace_map",
    b"backup_manifest",
    b"lost+found",
];

/// Those of them that make a directory a backup.
const OF_BACKUP: [&[u8]; 2] = [b"backup_label", b"backup_manifest"];

/// The directories below PGDATA without which there is no cluster: a link in their place is followed.
const OWN: [&[u8]; 10] = [
    b"base",
    b"global",
    b"pg_commit_ts",
    b"pg_logical",
    b"pg_multixact",
    b"pg_stat",
    b"pg_twophase",
    b"pg_xact",
    b"pg_clog",
    b"pg_tblspc",
];

/// What happens to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is stored, a directory with what is below it.
    Include,
    /// The directory is stored, what is below it is not.
    Empty,
    /// It is left out with all that is below it.
    Leave,
    /// `pg_control`: stored after everything else.
    Last,
}

/// What an entry is, as far as the rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A directory.
    Directory,
    /// A symbolic link to a directory.
    DirectoryLink,
    /// Anything else.
    Other,
}

/// The rules of one directory tree.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    root: ArchiveRoot,
    major: u32,
    /// Paths relative to PGDATA of the tablespaces that lie inside it.
    elsewhere: Vec<PathBuf>,
    /// Names in the root that something else gets in the archive.
    replaced: Vec<OsString>,
    /// Names in the root that belong to the backup that lies there, rather than to a server that runs there.
    backup: &'static [&'static [u8]],
}

impl Rules {
    /// The rules of a data directory in which tablespaces may lie.
    pub(super) fn data(pgdata: &Path, tablespaces: &[PathBuf]) -> Self {
        let inside = |location: &PathBuf| {
            let relative = location.strip_prefix(pgdata).ok()?;
            // What lies in `pg_tblspc` is no tablespace outside but one in its place.
            (!relative.starts_with("pg_tblspc")).then(|| relative.to_owned())
        };
        Self {
            root: ArchiveRoot::Data,
            major: 0,
            elsewhere: tablespaces.iter().filter_map(inside).collect(),
            replaced: Vec::new(),
            backup: &[],
        }
    }

    /// The rules of a tablespace of a server of this major version.
    pub(super) fn tablespace(oid: u32, major: u32) -> Self {
        Self {
            root: ArchiveRoot::Tablespace(oid),
            major,
            elsewhere: Vec::new(),
            replaced: Vec::new(),
            backup: &[],
        }
    }

    /// The same, without files of these names in the root: those of the configuration that lies elsewhere are stored there.
    pub(super) fn without(self, replaced: Vec<OsString>) -> Self {
        Self { replaced, ..self }
    }

    /// The same, for a directory that holds a backup instead of a running server: what makes it one is stored.
    pub(super) fn of_backup(self) -> Self {
        Self {
            backup: &OF_BACKUP,
            ..self
        }
    }

    /// Judges the entry at a path relative to the tree's root, which is not the root itself.
    pub(super) fn judge(&self, relative: &Path, shape: Shape) -> Verdict {
        let path = relative.as_os_str().as_encoded_bytes();
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        if name.starts_with(b"pgsql_tmp") || name.starts_with(b"pg_internal.init") {
            return Verdict::Leave;
        }
        if shape == Shape::Other && is_number(file_name(parent)) && is_temporary_relation(name) {
            return Verdict::Leave;
        }
        match (self.root, parent.is_empty()) {
            (ArchiveRoot::Data, true) if self.backup.contains(&name) => Verdict::Include,
            (ArchiveRoot::Data, true) => judge_top(name, shape, self.is_elsewhere(relative)),
            (ArchiveRoot::Data, false) => {
                // Where its tablespace is not here, as in a backup on another host, the link leads nowhere.
                let is_space_link = parent == b"pg_tblspc" && shape != Shape::Directory;
                match path {
                    b"global/pg_control" => Verdict::Last,
                    _ if is_space_link || self.is_elsewhere(relative) => Verdict::Leave,
                    _ => Verdict::Include,
                }
            }
            (ArchiveRoot::Tablespace(_), true) => {
                let mine = name.starts_with(format!("PG_{}_", self.major).as_bytes());
                if mine && shape != Shape::Other {
                    Verdict::Include
                } else {
                    Verdict::Leave
                }
            }
            (ArchiveRoot::Tablespace(_), false) => Verdict::Include,
        }
    }

    /// Whether a link to a directory is followed, because what PostgreSQL itself keeps lies behind it.
    pub(super) fn follows(&self, relative: &Path) -> bool {
        let first = relative.iter().next().map(OsStr::as_encoded_bytes);
        match self.root {
            ArchiveRoot::Data => first.is_some_and(|name| OWN.contains(&name)),
            ArchiveRoot::Tablespace(_) => true,
        }
    }

    fn is_elsewhere(&self, relative: &Path) -> bool {
        let is_replaced = |name: &OsString| relative.as_os_str() == name;
        self.elsewhere.iter().any(|inside| inside == relative)
            || self.replaced.iter().any(is_replaced)
    }
}

fn judge_top(name: &[u8], shape: Shape, is_elsewhere: bool) -> Verdict {
    if LEFT_AT_ROOT.contains(&name) || is_elsewhere {
        return Verdict::Leave;
    }
    if shape != Shape::Other && EMPTIED.contains(&name) {
        return Verdict::Empty;
    }
    Verdict::Include
}

/// Whether a file in a database's directory belongs to a temporary relation: `t<backend>_<number>` with the fork and the segment
/// that may follow (PostgreSQL's `looks_like_temp_rel_name`).
fn is_temporary_relation(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"t") else {
        return false;
    };
    let Some(underscore) = rest.iter().position(|&byte| byte == b'_') else {
        return false;
    };
    let (backend, relation) = (&rest[..underscore], &rest[underscore + 1..]);
    let digits = relation.iter().take_while(|byte| byte.is_ascii_digit());
    let (relation, suffix) = relation.split_at(digits.count());
    let suffix = [&b"_fsm"[..], b"_vm", b"_init"]
        .iter()
        .find_map(|fork| suffix.strip_prefix(*fork))
        .unwrap_or(suffix);
    let is_suffix = suffix.is_empty() || suffix.strip_prefix(b".").is_some_and(is_number);
    is_number(backend) && is_number(relation) && is_suffix
}

fn file_name(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    &path[slash.map_or(0, |slash| slash + 1)..]
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(path: &str, shape: Shape) -> Verdict {
        let inside = [PathBuf::from("/pg/tsin"), PathBuf::from("/pg/a/deep")];
        Rules::data(Path::new("/pg"), &inside).judge(Path::new(path), shape)
    }

    #[test]
    fn what_a_server_makes_anew_is_left_out() {
        for path in [
            "postmaster.pid",
            "backup_label",
            "tablespace_map",
            "standby.signal",
            "base/5/pg_internal.init.77",
            "global/pg_internal.init",
            "base/pgsql_tmp",
            "base/pgsql_tmp/pgsql_tmp12.3",
            "base/5/t3_12345",
            "base/5/t3_12345_fsm",
            "base/5/t3_12345_vm.2",
            "base/5/t3_12345.1",
        ] {
            assert_eq!(data(path, Shape::Other), Verdict::Leave, "{path}");
        }
    }

    #[test]
    fn what_makes_a_directory_a_backup_is_stored_with_it() {
        let judge = |rules: Rules, name| rules.judge(Path::new(name), Shape::Other);
        let server = || Rules::data(Path::new("/pg"), &[]);
        for name in ["backup_label", "backup_manifest"] {
            assert_eq!(judge(server(), name), Verdict::Leave);
            assert_eq!(judge(server().of_backup(), name), Verdict::Include);
        }
        let pid = judge(server().of_backup(), "postmaster.pid");
        assert_eq!(pid, Verdict::Leave);
    }

    #[test]
    fn what_only_looks_alike_is_stored() {
        for path in [
            "base/5/1259",
            "base/5/16384_init",
            "base/5/t_1",
            "base/5/t3_x",
            "base/5/t3_1.x",
            "base/5/table",
            "mine/t3_12345",
            "extension/postmaster.pid",
            "postgresql.auto.conf",
            "log",
            "PG_VERSION",
        ] {
            assert_eq!(data(path, Shape::Other), Verdict::Include, "{path}");
        }
    }

    #[test]
    fn a_directory_that_is_emptied_stays_as_directory() {
        for path in ["pg_wal", "pg_replslot", "log", "pg_subtrans"] {
            assert_eq!(data(path, Shape::Directory), Verdict::Empty, "{path}");
            assert_eq!(data(path, Shape::DirectoryLink), Verdict::Empty, "{path}");
        }
    }

    #[test]
    fn a_tablespace_is_no_part_of_pgdata() {
        assert_eq!(
            data("pg_tblspc/16384", Shape::DirectoryLink),
            Verdict::Leave
        );
        assert_eq!(data("pg_tblspc/16384", Shape::Other), Verdict::Leave);
        assert_eq!(data("pg_tblspc/16384", Shape::Directory), Verdict::Include);
        assert_eq!(data("tsin", Shape::Directory), Verdict::Leave);
        assert_eq!(data("a/deep", Shape::Directory), Verdict::Leave);
        assert_eq!(data("a", Shape::Directory), Verdict::Include);
    }

    #[test]
    fn pg_control_comes_last() {
        assert_eq!(data("global/pg_control", Shape::Other), Verdict::Last);
        assert_eq!(data("pg_control", Shape::Other), Verdict::Include);
    }

    #[test]
    fn of_a_tablespace_only_this_version_is_stored() {
        let judge = |path: &str, shape| {
            let rules = Rules::tablespace(16384, 17);
            rules.judge(Path::new(path), shape)
        };
        assert_eq!(judge("PG_17_202406281", Shape::Directory), Verdict::Include);
        assert_eq!(
            judge("PG_17_202406281/5/16385", Shape::Other),
            Verdict::Include
        );
        assert_eq!(
            judge("PG_17_202406281/5/t1_2", Shape::Other),
            Verdict::Leave
        );
        assert_eq!(judge("PG_16_202307071", Shape::Directory), Verdict::Leave);
        assert_eq!(judge("lost+found", Shape::Directory), Verdict::Leave);
        assert_eq!(judge("PG_17_file", Shape::Other), Verdict::Leave);
    }
}

//! Whether what `backup.info` says agrees with itself, and with what is in the archives.

use super::{Faults, archives::Contents};
use crate::{
    format::keys::ObjectKey,
    model::{backup::Backup, timeline::TimelineId, wal::Lsn},
    postgres::control_file::{self, ControlFile},
};

/// Names what does not agree.
pub(super) fn check(backup: &Backup, contents: &Contents, faults: &mut Faults) {
    let info = ObjectKey::info(&backup.id);
    for what in of_info(backup) {
        faults.add(&info, what);
    }
    // The files of a snapshot are on its disks, not here.
    if !backup.snapshots.is_empty() {
        return;
    }
    let [version, control, label] = &contents.small;
    let archive = format!("base/{}/data.tar", backup.id);
    let found = [
        version_differs(backup, version.as_deref()),
        cluster_differs(backup, control.as_deref()),
        label_differs(backup, label.as_deref()),
    ];
    // Where an archive could not be read to its end, that says it all.
    let is_read = faults.0.iter().all(|fault| !fault.object.contains("/data"));
    for what in found.into_iter().flatten() {
        if is_read {
            faults.add(&archive, what);
        }
    }
}

fn of_info(backup: &Backup) -> Vec<&'static str> {
    let (Some(begin), Some(end)) = (backup.begin_lsn, backup.end_lsn) else {
        return vec!["it does not say between which positions recovery must read"];
    };
    let (Some(begin_wal), Some(end_wal)) = (backup.begin_wal, backup.end_wal) else {
        return vec!["it does not say which WAL it needs"];
    };
    let size = backup.segment_size;
    let holds = |lsn: Lsn, timeline: TimelineId| {
        // A backup that ends where a segment begins needs the one before.
        [
            lsn.segment(timeline, size),
            lsn.segment_before(timeline, size),
        ]
    };
    let checks = [
        (begin <= end, "it ends before it begins"),
        (
            backup.begin_time <= backup.end_time && backup.end_time.is_some(),
            "its times make no sense",
        ),
        (
            begin.segment(begin_wal.timeline, size) == begin_wal,
            "it does not begin in the segment that it names",
        ),
        (
            holds(end, end_wal.timeline).contains(&end_wal),
            "it does not end in the segment that it names",
        ),
        (
            backup.timeline.is_none_or(|on| on == begin_wal.timeline),
            "its WAL is of another timeline than it says",
        ),
    ];
    let wrong = checks.into_iter().filter(|(holds, _)| !holds);
    wrong.map(|(_, what)| what).collect()
}

fn version_differs(backup: &Backup, version: Option<&[u8]>) -> Option<String> {
    let Some(version) = version else {
        return Some("it holds no `PG_VERSION`".to_owned());
    };
    let version = String::from_utf8_lossy(version);
    let major = backup.major()?.to_string();
    // Before PostgreSQL 10 two numbers made a major version.
    let same = version.trim() == major || version.trim().starts_with(&format!("{major}."));
    (!same).then(|| format!("its `PG_VERSION` is {}, not {major}", version.trim()))
}

fn cluster_differs(backup: &Backup, control: Option<&[u8]>) -> Option<String> {
    let Some(control) = control else {
        return Some("it holds no `global/pg_control`".to_owned());
    };
    match ControlFile::parse(control) {
        Ok(control) => {
            let (said, found) = (backup.system_id?, control.system_id);
            (said != found).then(|| format!("it is of the cluster {found}, not {said}"))
        }
        // Of a version that is not known here nothing can be said.
        Err(control_file::Error::Version(_)) => None,
        Err(error) => Some(error.to_string()),
    }
}

fn label_differs(backup: &Backup, label: Option<&[u8]>) -> Option<String> {
    let Some(label) = label else {
        return Some("it holds no `backup_label`".to_owned());
    };
    let (begin, segment) = (backup.begin_lsn?, backup.begin_wal?);
    let label = String::from_utf8_lossy(label);
    let expected = format!("START WAL LOCATION: {begin} (file {segment})");
    let same = label.lines().any(|line| line.trim_end() == expected);
    (!same)
        .then(|| "its `backup_label` starts recovery elsewhere than `backup.info` says".to_owned())
}

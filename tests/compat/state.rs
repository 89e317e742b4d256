//! Catalogs to begin with, as `states.txt` describes them.
//!
//! `state NAME [prefix=PATH]` begins one; then, one a line:
//! `backup LABEL AGE [field=value]...`, where `id`, `keep`, `keep-slashed` (the same below an
//! empty component), `data` (names, `-` for none) and `first` (the number of the first
//! segment, hexadecimal) are ours and all others fields of `backup.info`, `@LABEL` being a backup's
//! id; `wal TIMELINE:FIRST-LAST[EXTENSION]`; `object KEY [TEXT]`;
//! `lock LABEL NAME HOW` of one of a backup's objects.

use std::{collections::BTreeMap, time::Duration};

use barkeep::{
    format::backup_info::{BackupInfo, FIELDS, render_time},
    model::{
        backup::BackupId,
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentNumber, SegmentSize},
        zone::Zone,
    },
};

use crate::support::peer::ZONE;

/// What a bucket holds at the beginning.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// The path in the bucket that the URL names.
    pub(crate) prefix: String,
    /// Content by key, the whole key.
    pub(crate) objects: BTreeMap<String, String>,
    /// The ids of the backups by their labels.
    pub(crate) ids: BTreeMap<String, String>,
    /// What is locked, by key.
    pub(crate) locks: BTreeMap<String, Lock>,
}

/// A lock, as it is asked of S3.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    /// Of what kind.
    pub(crate) path: &'static str,
    pub(crate) body: String,
}

/// Windows count whole days: hours away from their edges, no judgement changes while two programs run one after the other.
const OFF_THE_EDGE: Duration = Duration::from_hours(6);

/// All states of a text, with ages counted from an instant.
pub(crate) fn states(text: &str, now: Timestamp) -> BTreeMap<String, State> {
    let mut states: BTreeMap<String, State> = BTreeMap::new();
    let mut current = String::new();
    for line in text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
    {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "state" {
            let (name, options) = rest.split_once(' ').unwrap_or((rest, ""));
            let prefix = options.strip_prefix("prefix=").unwrap_or("pre/fix");
            name.clone_into(&mut current);
            let state = State {
                prefix: prefix.to_owned(),
                objects: BTreeMap::new(),
                ids: BTreeMap::new(),
                locks: BTreeMap::new(),
            };
            states.insert(current.clone(), state);
            continue;
        }
        let state = states.get_mut(&current).expect("a state was begun");
        match word {
            "backup" => state.backup(rest, now),
            "wal" => state.wal(rest),
            "object" => {
                let (key, text) = rest.split_once(' ').unwrap_or((rest, "x"));
                let text = text.replace("\\t", "\t").replace("\\n", "\n");
                state.put(&key.replace("%20", " "), &text);
            }
            "lock" => {
                let (label, rest) = rest.split_once(' ').expect("a backup");
                let (name, how) = rest.split_once(' ').expect("an object");
                let key = state.key(&format!("base/{}/{name}", state.ids[label]));
                state.locks.insert(key, lock(how, now));
            }
            _ => panic!("`{line}` means nothing"),
        }
    }
    states
}

impl State {
    fn put(&mut self, key: &str, text: &str) {
        self.objects.insert(self.key(key), text.to_owned());
    }

    fn key(&self, key: &str) -> String {
        // A key that begins with a slash is taken as it is below the bucket.
        match (key.strip_prefix('/'), self.prefix.as_str()) {
            (Some(key), _) => key.to_owned(),
            (None, "") => format!("srv/{key}"),
            (None, prefix) => format!("{prefix}/srv/{key}"),
        }
    }

    fn backup(&mut self, line: &str, now: Timestamp) {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let label = words.next().expect("a label");
        let begin = now - age(words.next().expect("an age")) - OFF_THE_EDGE;
        let given = words.map(|word| word.split_once('=').expect("field=value"));
        let plain = |value: &str| match value.strip_prefix('@') {
            Some(label) => self.ids[label].clone(),
            None => value.replace("%20", " ").replace("%0A", "\n"),
        };
        let given: BTreeMap<&str, String> =
            given.map(|(field, value)| (field, plain(value))).collect();
        let of = |field: &str| given.get(field).cloned();
        let zone = Zone::new(ZONE, jiff::tz::TimeZone::get(ZONE).expect("a zone"));
        let id = of("id").unwrap_or_else(|| BackupId::at(zone.local(begin)).to_string());
        let directory = format!("base/{id}");
        let data = of("data").unwrap_or_else(|| "data.tar".to_owned());
        for archive in data.split(',').filter(|name| *name != "-") {
            self.put(
                &format!("{directory}/{archive}"),
                &format!("{label} {archive}"),
            );
        }
        if let Some(keep) = of("keep") {
            self.put(&format!("{directory}/annotations/keep"), &keep);
        }
        if let Some(keep) = of("keep-slashed") {
            let key = format!("/{}//srv/{directory}/annotations/keep", self.prefix);
            self.put(&key, &keep);
        }
        self.put(&format!("{directory}/backup.info"), &record(begin, &given));
        self.ids.insert(label.to_owned(), id);
    }

    fn wal(&mut self, text: &str) {
        let (timeline, rest) = text.split_once(':').expect("a timeline");
        let (range, extension) = match rest.find('.') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let timeline = TimelineId::new(timeline.parse().expect("a number")).expect("not zero");
        for segment in number(first)..=number(last) {
            let name = SegmentNumber(segment).name(timeline, SegmentSize::DEFAULT);
            let directory = name.directory();
            self.put(
                &format!("wals/{directory}/{name}{extension}"),
                &format!("{name}{extension}"),
            );
        }
    }
}

/// `hold`, or a mode with when it ends: `governance 3d`, `compliance -3d`.
fn lock(how: &str, now: Timestamp) -> Lock {
    let Some((mode, end)) = how.split_once(' ') else {
        return Lock {
            path: "legal-hold",
            body: "<LegalHold><Status>ON</Status></LegalHold>".to_owned(),
        };
    };
    let end = match end.strip_prefix('-') {
        Some(passed) => now - age(passed),
        None => now + age(end),
    };
    let mode = mode.to_uppercase();
    Lock {
        path: "retention",
        body: format!(
            "<Retention><Mode>{mode}</Mode><RetainUntilDate>{end}</RetainUntilDate></Retention>"
        ),
    }
}

/// `3d`, `12h`, `5m`
fn age(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().expect("a number");
    Duration::from_secs(
        60 * number
            * match unit {
                "d" => 24 * 60,
                "h" => 60,
                "m" => 1,
                _ => panic!("`{text}` is no age"),
            },
    )
}

/// A `backup.info` as Barman writes it.
fn record(begin: Timestamp, given: &BTreeMap<&str, String>) -> String {
    if let Some(raw) = given.get("raw") {
        return raw.clone();
    }
    let size = SegmentSize::DEFAULT;
    let timeline = given.get("timeline").map(String::as_str);
    let timeline = timeline.filter(|text| *text != "None").unwrap_or("1");
    let timeline = timeline.parse().expect("a number");
    let timeline = TimelineId::new(timeline).expect("not zero");
    let first = given.get("first").map_or("100", String::as_str);
    let first = SegmentNumber(u64::from_str_radix(first, 16).expect("hexadecimal"));
    let lsn = |offset| Lsn(first.start(size).0 + offset);
    let name = first.name(timeline, size).to_string();
    let mut info = BackupInfo::default();
    for field in FIELDS {
        info.set(field, None);
    }
    let label = format!(
        "START WAL LOCATION: {} (file {name})\\nLABEL: x\\n",
        lsn(40)
    );
    let fields = [
        ("backup_label", format!("'{label}'")),
        ("begin_offset", "40".to_owned()),
        (
            "begin_time",
            render_time(begin + Duration::from_micros(130_666)),
        ),
        ("begin_wal", name.clone()),
        ("begin_xlog", lsn(40).to_string()),
        ("cluster_size", "23281357".to_owned()),
        ("config_file", "/srv/pg/data/postgresql.conf".to_owned()),
        ("data_checksums", "on".to_owned()),
        ("end_offset", "256".to_owned()),
        ("end_time", render_time(begin + Duration::from_secs(61))),
        ("end_wal", name),
        ("end_xlog", lsn(256).to_string()),
        ("hba_file", "/srv/pg/data/pg_hba.conf".to_owned()),
        ("pgdata", "/srv/pg/data".to_owned()),
        ("server_name", "cloud".to_owned()),
        ("status", "DONE".to_owned()),
        ("systemid", "7710387505871624418".to_owned()),
        ("timeline", "1".to_owned()),
        ("version", "150018".to_owned()),
        ("xlog_segment_size", size.bytes().to_string()),
    ];
    let own = ["id", "keep", "keep-slashed", "data", "first"];
    let given = given.iter().filter(|(field, _)| !own.contains(field));
    let all = fields
        .into_iter()
        .chain(given.map(|(field, value)| (*field, value.clone())));
    for (field, value) in all {
        info.set(field, Some(value).filter(|value| value != "None"));
    }
    info.render()
}

//! The configuration of a restored cluster, as text.
//!
//! A backup brings the configuration of the server that it was taken from, and some of it is wrong in another place: paths that do not
//! exist here, a data directory that is another one's, commands that would clean up the original's archive, recovery targets of an
//! earlier restore. Here that is found in the configuration files that lie in the data directory, and overridden. Everything is pure:
//! whether a path exists is asked of the caller.
//!
//! Overrides go to the end of `postgresql.auto.conf`, which PostgreSQL reads last. What cannot be overridden there (`data_directory`,
//! an `include` of something missing) is commented out where it stands. Source of the syntax: PostgreSQL's `guc-file.l`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::model::recovery::{RecoveryTarget, TargetTimeline};

/// The line before what a restore wrote.
const MARK: &str = "# Written by barkeep's restore:";

/// Settings that name files without which a server does not start, or which belong to the original.
const PATHS: [&str; 12] = [
    "external_pid_file",
    "hba_file",
    "ident_file",
    "krb_server_keyfile",
    "log_directory",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_dir",
    "ssl_crl_file",
    "ssl_dh_params_file",
    "ssl_key_file",
    "stats_temp_directory",
];

/// Settings of an earlier recovery, or of the original's standby, that would act in this one.
const INHERITED: [&str; 12] = [
    "archive_cleanup_command",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
];

/// What recovery does when it has reached its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetAction {
    /// It waits, so that people can look before they promote; PostgreSQL's own default.
    Pause,
    /// The cluster becomes a primary on a new timeline.
    #[default]
    Promote,
    /// The server shuts down.
    Shutdown,
}

impl TargetAction {
    fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Promote => "promote",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What a restored cluster becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Becomes {
    /// It recovers to its target: `recovery.signal`.
    #[default]
    Primary,
    /// It follows: `standby.signal`.
    Standby,
}

/// Whether the restored cluster archives WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchiveMode {
    /// It does not, so that it cannot write into the original's archive.
    #[default]
    Off,
    /// As the original.
    Inherit,
}

/// How a restored cluster recovers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Where recovery stops.
    pub target: RecoveryTarget,
    /// Whether what happened exactly at the target is in. PostgreSQL's default is that it is.
    pub inclusive: Inclusive,
    /// Which timeline it follows.
    pub timeline: TargetTimeline,
    /// What happens then.
    pub action: TargetAction,
    /// The command that fetches WAL.
    pub restore_command: String,
    /// What the cluster becomes.
    pub becomes: Becomes,
    /// Whether it archives WAL.
    pub archive_mode: ArchiveMode,
}

/// Whether what happened exactly at the target is recovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inclusive {
    /// It is.
    #[default]
    Yes,
    /// Recovery stops just before.
    No,
}

/// One setting that a restore changed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The setting.
    pub name: String,
    /// What it was.
    pub was: String,
    /// What it is now; `None` where the line was commented out.
    pub now: Option<String>,
}

impl fmt::Display for Override {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, was, now } = self;
        match now.as_deref() {
            Some("") => write!(formatter, "emptied {name}, was {was}"),
            Some(now) => write!(formatter, "changed {name} from {was} to {now}"),
            None => write!(formatter, "commented out {name}, was {was}"),
        }
    }
}

/// The configuration files of a restored cluster, by their paths below the data directory.
pub(super) type Files = BTreeMap<PathBuf, String>;

/// What to do to the configuration files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Files with their new texts.
    pub(super) files: Files,
    /// What was changed.
    pub(super) overrides: Vec<Override>,
}

/// A line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// In lower case.
    name: String,
    value: String,
}

/// Reads a line; `None` if it sets nothing.
fn parse(line: &str) -> Option<Line> {
    let line = line.trim_start();
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')))?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted)?,
        None => rest
            .split(|c: char| c.is_whitespace() || c == '#')
            .next()?
            .to_owned(),
    };
    Some(Line {
        name: name.to_ascii_lowercase(),
        value,
    })
}

/// The text up to the closing quote: `''` and `\'` stand for a quote.
fn unquote(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars().peekable();
    loop {
        match chars.next()? {
            '\'' if chars.peek() == Some(&'\'') => value.extend(chars.next()),
            '\'' => return Some(value),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

/// A value as a configuration file has it.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Works out what must be changed in the configuration of a cluster that was restored into `pgdata`.
pub(super) fn adapt(
    pgdata: &Path,
    files: &Files,
    recovery: &Recovery,
    exists: &dyn Fn(&Path) -> bool,
) -> Changes {
    let mut changes = Changes::default();
    let main = Path::new("postgresql.conf");
    for (path, text) in files.iter().filter(|(path, _)| *path != Path::new(AUTO)) {
        let directory = pgdata.join(path).parent().unwrap_or(pgdata).to_owned();
        let text = comment_out(text, &directory, exists, &mut changes.overrides);
        changes.files.insert(path.clone(), text);
    }
    let auto = files.get(Path::new(AUTO)).map_or("", String::as_str);
    let (mut auto, inherited) = strip(auto);
    changes.overrides.extend(inherited);
    let effective = effective(files, main);
    let mut lines = recovery_lines(recovery);
    overrides(pgdata, &effective, exists, &mut lines, &mut changes);
    if !auto.is_empty() && !auto.ends_with('\n') {
        auto.push('\n');
    }
    writeln!(auto, "{MARK}").expect("a string takes everything");
    for (name, value) in lines {
        writeln!(auto, "{name} = {}", quote(&value)).expect("a string takes everything");
    }
    changes.files.insert(PathBuf::from(AUTO), auto);
    let unchanged = |path: &PathBuf, text: &mut String| files.get(path) == Some(text);
    changes.files.retain(|path, text| !unchanged(path, text));
    changes
}

/// The file that PostgreSQL reads last.
pub(super) const AUTO: &str = "postgresql.auto.conf";

/// Comments out what no later line can override.
fn comment_out(
    text: &str,
    directory: &Path,
    exists: &dyn Fn(&Path) -> bool,
    overrides: &mut Vec<Override>,
) -> String {
    let mut result = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let harmful = parse(line).filter(|line| match line.name.as_str() {
            "data_directory" | "config_file" => true,
            "include" | "include_dir" => !exists(&directory.join(&line.value)),
            _ => false,
        });
        if let Some(Line { name, value }) = harmful {
            result.push('#');
            overrides.push(Override {
                name,
                was: value,
                now: None,
            });
        }
        result.push_str(line);
    }
    result
}

/// Takes what an earlier recovery left out of the file that this one writes to.
fn strip(auto: &str) -> (String, Vec<Override>) {
    let mut overrides = Vec::new();
    let mut result = String::with_capacity(auto.len());
    for line in auto.split_inclusive('\n') {
        let parsed = parse(line);
        let inherited = parsed.filter(|line| INHERITED.contains(&line.name.as_str()));
        match inherited {
            Some(Line { value, .. }) if value.is_empty() => {}
            Some(Line { name, value }) => overrides.push(Override {
                name,
                was: value,
                now: None,
            }),
            None if line.trim_end() == MARK => {}
            None => result.push_str(line),
        }
    }
    (result, overrides)
}

/// What the configuration sets in the end, as far as it lies in the data directory.
fn effective(files: &Files, main: &Path) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    read_into(files, main, 0, &mut settings);
    read_into(files, Path::new(AUTO), 0, &mut settings);
    settings
}

fn read_into(files: &Files, path: &Path, depth: u32, settings: &mut BTreeMap<String, String>) {
    // PostgreSQL's own limit.
    const DEPTH_MAX: u32 = 10;
    let Some(text) = files.get(path).filter(|_| depth <= DEPTH_MAX) else {
        return;
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    for Line { name, value } in text.lines().filter_map(parse) {
        let target = directory.join(&value);
        match name.as_str() {
            "include" | "include_if_exists" => read_into(files, &target, depth + 1, settings),
            "include_dir" => {
                let inside = files.keys().filter(|file| file.parent() == Some(&target));
                for file in inside.filter(|file| file.extension().is_some_and(|e| e == "conf")) {
                    read_into(files, file, depth + 1, settings);
                }
            }
            _ => drop(settings.insert(name, value)),
        }
    }
}

/// What recovery needs to know.
fn recovery_lines(recovery: &Recovery) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut set = |name: &str, value: &str| lines.push((name.to_owned(), value.to_owned()));
    set("restore_command", &recovery.restore_command);
    // PostgreSQL refuses two targets at once. One that is left in another file is undone first: the order matters.
    for name in [
        "recovery_target",
        "recovery_target_time",
        "recovery_target_lsn",
        "recovery_target_xid",
        "recovery_target_name",
    ] {
        set(name, "");
    }
    match &recovery.target {
        RecoveryTarget::Latest => {}
        RecoveryTarget::Immediate => set("recovery_target", "immediate"),
        RecoveryTarget::Time(time) => {
            let time = time.utc().format("%Y-%m-%d %H:%M:%S%.6f+00");
            set("recovery_target_time", &time.to_string());
        }
        RecoveryTarget::Lsn(lsn) => set("recovery_target_lsn", &lsn.to_string()),
        RecoveryTarget::Xid(xid) => set("recovery_target_xid", &xid.to_string()),
        RecoveryTarget::Name(name) => set("recovery_target_name", name),
    }
    let inclusive = recovery.inclusive == Inclusive::Yes;
    set(
        "recovery_target_inclusive",
        if inclusive { "on" } else { "off" },
    );
    set("recovery_target_action", recovery.action.word());
    let timeline = match recovery.timeline {
        TargetTimeline::Latest => "latest".to_owned(),
        TargetTimeline::Current => "current".to_owned(),
        TargetTimeline::Number(timeline) => timeline.number().to_string(),
    };
    set("recovery_target_timeline", &timeline);
    if recovery.archive_mode == ArchiveMode::Off {
        set("archive_mode", "off");
    }
    lines
}

/// Overrides what is set to something that is not here, or must not act here.
fn overrides(
    pgdata: &Path,
    effective: &BTreeMap<String, String>,
    exists: &dyn Fn(&Path) -> bool,
    lines: &mut Vec<(String, String)>,
    changes: &mut Changes,
) {
    let mut replace = |name: &str, was: &str, now: String| {
        lines.push((name.to_owned(), now.clone()));
        changes.overrides.push(Override {
            name: name.to_owned(),
            was: was.to_owned(),
            now: Some(now),
        });
    };
    for name in ["archive_cleanup_command", "recovery_end_command"] {
        if let Some(was) = effective.get(name).filter(|was| !was.is_empty()) {
            replace(name, was, String::new());
        }
    }
    let is_missing = |value: &str| !value.is_empty() && !exists(&pgdata.join(value));
    let mut has_keys = true;
    for name in PATHS {
        let Some(was) = effective.get(name) else {
            continue;
        };
        // The files that say who may log in are those of the backup, wherever the original had them.
        let foreign = Path::new(was).is_absolute() && !Path::new(was).starts_with(pgdata);
        let stored = match name {
            "hba_file" => Some("pg_hba.conf"),
            "ident_file" => Some("pg_ident.conf"),
            _ => None,
        };
        if let Some(stored) = stored {
            let here = Path::new(was).file_name().map(|name| pgdata.join(name));
            let here = here.filter(|here| exists(here));
            let here = here.unwrap_or_else(|| pgdata.join(stored));
            if foreign {
                replace(name, was, here.to_string_lossy().into_owned());
            }
            continue;
        }
        if name == "external_pid_file" && foreign {
            replace(name, was, String::new());
            continue;
        }
        if !is_missing(was) {
            continue;
        }
        match name {
            "log_directory" if !foreign => {}
            "log_directory" => replace(name, was, "log".to_owned()),
            "stats_temp_directory" => replace(name, was, "pg_stat_tmp".to_owned()),
            "ssl_cert_file" | "ssl_key_file" => has_keys = false,
            _ => replace(name, was, String::new()),
        }
    }
    let ssl = effective.get("ssl").map(String::as_str);
    let has_ssl = matches!(ssl, Some("on" | "true" | "yes" | "1"));
    let default_keys = ["ssl_cert_file", "ssl_key_file"]
        .into_iter()
        .zip(["server.crt", "server.key"])
        .all(|(name, default)| effective.contains_key(name) || exists(&pgdata.join(default)));
    if has_ssl && !(has_keys && default_keys) {
        replace("ssl", ssl.unwrap_or_default(), "off".to_owned());
    }
    if let Some(was) = effective.get("unix_socket_directories") {
        let is_gone = |directory: &str| {
            let directory = directory.trim();
            !directory.is_empty() && !directory.starts_with('@') && !exists(Path::new(directory))
        };
        if was.split(',').any(is_gone) {
            replace("unix_socket_directories", was, "/tmp".to_owned());
        }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;

//! What becomes of a configuration in another place.

use super::*;

const PGDATA: &str = "/new/data";

fn recovery(target: RecoveryTarget) -> Recovery {
    Recovery {
        target,
        inclusive: Inclusive::Yes,
        timeline: TargetTimeline::Latest,
        action: TargetAction::Promote,
        restore_command: "barkeep wal-restore 'orders' %f %p".to_owned(),
        becomes: Becomes::Primary,
        archive_mode: ArchiveMode::Off,
    }
}

fn adapted(files: &[(&str, &str)]) -> (Files, Vec<String>) {
    let files = files
        .iter()
        .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
        .collect();
    let recovery = recovery(RecoveryTarget::Latest);
    let exists = |path: &Path| {
        let path = path.to_str().expect("a path");
        path.starts_with("/here") || path == "/new/data/pg_hba.conf"
    };
    let changes = adapt(Path::new(PGDATA), &files, &recovery, &exists);
    let told = changes.overrides.iter().map(|change| match &change.now {
        Some(now) => format!("{}: {} -> {now}", change.name, change.was),
        None => format!("{}: {}", change.name, change.was),
    });
    (changes.files, told.collect())
}

#[test]
fn a_line_is_read_as_postgresql_reads_it() {
    for (line, name, value) in [
        ("port = 5432 # the port", "port", "5432"),
        ("  Port 5432", "port", "5432"),
        ("a='it''s' # x", "a", "it's"),
        (r"a = 'it\'s'", "a", "it's"),
        ("pg_stat_statements.max=7", "pg_stat_statements.max", "7"),
        ("include_dir='conf.d'", "include_dir", "conf.d"),
    ] {
        let line = parse(line).expect("a setting");
        assert_eq!((line.name.as_str(), line.value.as_str()), (name, value));
    }
    for line in ["", "# a = b", "   ", "a = 'open"] {
        assert_eq!(parse(line), None, "{line}");
    }
}

#[test]
fn a_value_survives_quoting() {
    let value = r"C:\x 'y' %p";
    let line = format!("a = {}", quote(value));
    assert_eq!(parse(&line).map(|line| line.value).as_deref(), Some(value));
}

#[test]
fn recovery_is_written_last_and_an_earlier_one_is_removed() {
    let (files, told) = adapted(&[(
        AUTO,
        "work_mem = '4MB'\nrecovery_target_time = 'yesterday'\nrestore_command = 'old'\n",
    )]);
    let auto = &files[Path::new(AUTO)];
    assert!(auto.starts_with("work_mem = '4MB'\n# Written by"), "{auto}");
    assert!(auto.contains("restore_command = 'barkeep wal-restore ''orders'' %f %p'\n"));
    assert!(auto.contains("archive_mode = 'off'\n"));
    assert!(!auto.contains("yesterday"));
    assert_eq!(
        told,
        ["recovery_target_time: yesterday", "restore_command: old"]
    );
    // Restoring again from a backup of what was restored.
    let (again, _) = adapted(&[(AUTO, auto)]);
    let again = &again[Path::new(AUTO)];
    assert_eq!(again.matches("restore_command").count(), 1, "{again}");
}

#[test]
fn a_target_comes_after_the_others_are_undone() {
    let lsn = "0/3000028".parse().expect("a position");
    let lines = recovery_lines(&recovery(RecoveryTarget::Lsn(lsn)));
    let of = |value: &str| lines.iter().position(|(_, line)| line == value);
    let last_empty = lines.iter().rposition(|(_, line)| line.is_empty());
    assert!(of("0/3000028") > last_empty);
}

#[test]
fn what_points_elsewhere_is_overridden_and_named() {
    let (files, told) = adapted(&[(
        "postgresql.conf",
        "data_directory = '/old/data'\n\
         hba_file = '/etc/postgresql/pg_hba.conf'\n\
         include_dir = 'conf.d'\n\
         include = '/here/x.conf'\n\
         ssl = on\n\
         ssl_cert_file = '/etc/ssl/gone.pem'\n\
         log_directory = '/var/log/gone'\n\
         unix_socket_directories = '/run/gone, @x'\n\
         archive_cleanup_command = 'pg_archivecleanup /srv %r'\n",
    )]);
    assert_eq!(
        told,
        [
            "data_directory: /old/data",
            "include_dir: conf.d",
            "archive_cleanup_command: pg_archivecleanup /srv %r -> ",
            "hba_file: /etc/postgresql/pg_hba.conf -> /new/data/pg_hba.conf",
            "log_directory: /var/log/gone -> log",
            "ssl: on -> off",
            "unix_socket_directories: /run/gone, @x -> /tmp",
        ]
    );
    let main = &files[Path::new("postgresql.conf")];
    assert!(main.starts_with("#data_directory"), "{main}");
    assert!(main.contains("\n#include_dir") && main.contains("\ninclude ="));
}

#[test]
fn what_is_here_is_left_alone() {
    let (files, told) = adapted(&[(
        "postgresql.conf",
        "ssl = on\nssl_cert_file = '/here/c'\nssl_key_file = '/here/k'\nlog_directory = 'log'\n",
    )]);
    assert_eq!(told, [""; 0]);
    assert_eq!(files.len(), 1, "only what recovery needs is written");
}

#[test]
fn settings_are_found_through_includes() {
    let (_, told) = adapted(&[
        ("postgresql.conf", "include_if_exists = 'more.conf'\n"),
        ("more.conf", "unix_socket_directories = '/run/gone'\n"),
    ]);
    assert_eq!(told, ["unix_socket_directories: /run/gone -> /tmp"]);
}

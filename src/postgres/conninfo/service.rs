//! Service files: named groups of settings, `pg_service.conf`.
//!
//! The first group of the name counts. Lines are `keyword=value` with the value as it stands, `#` comments and blank lines. A service
//! cannot name another one, and looking services up in LDAP is refused. Source: "The Connection Service File" in libpq's documentation.

use std::path::{Path, PathBuf};

use super::{Environment, Error, Settings};

/// Where the system's service file may lie; distributions differ.
const SYSTEM_DIRECTORIES: [&str; 3] = [
    "/etc/postgresql-common",
    "/etc/sysconfig/pgsql",
    "/usr/local/pgsql/etc",
];

/// Finds a service: in the file named, else in the user's own, then in the system's.
pub(super) fn find(
    service: &str,
    named: Option<&str>,
    environment: &Environment,
) -> Result<Settings, Error> {
    let candidates = match named {
        Some(path) => vec![(PathBuf::from(path), Presence::Required)],
        None => own(environment),
    };
    for (path, presence) in candidates.into_iter().chain(system(environment)) {
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match presence {
                Presence::Optional => continue,
                Presence::Required => {
                    return Err(Error::Read {
                        path,
                        source: error,
                    });
                }
            },
            read => read.map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?,
        };
        if let Some(settings) = parse(&text, service, &path)? {
            return Ok(settings);
        }
    }
    Err(Error::NoService(service.to_owned()))
}

#[derive(Clone, Copy)]
enum Presence {
    Required,
    Optional,
}

fn own(environment: &Environment) -> Vec<(PathBuf, Presence)> {
    let home = environment.home();
    home.map(|home| (home.join(".pg_service.conf"), Presence::Optional))
        .into_iter()
        .collect()
}

fn system(environment: &Environment) -> Vec<(PathBuf, Presence)> {
    let directories: Vec<&str> = match environment.variable("PGSYSCONFDIR") {
        Some(directory) => vec![directory],
        None => SYSTEM_DIRECTORIES.to_vec(),
    };
    directories
        .into_iter()
        .map(|directory| Path::new(directory).join("pg_service.conf"))
        .map(|path| (path, Presence::Optional))
        .collect()
}

fn parse(text: &str, service: &str, path: &Path) -> Result<Option<Settings>, Error> {
    let mut found: Option<Settings> = None;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        let malformed = || Error::ServiceFile {
            path: path.to_owned(),
            line: number,
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(group) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            let name = group.strip_suffix(']').ok_or_else(malformed)?;
            found = (name == service).then(Settings::default);
            continue;
        }
        let Some(settings) = &mut found else {
            continue;
        };
        let (keyword, value) = line.split_once('=').ok_or_else(malformed)?;
        if keyword == "service" || keyword == "servicefile" || line.starts_with("ldap") {
            return Err(malformed());
        }
        settings.set(keyword, value.to_owned())?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[other]\nhost=wrong\n\n[billing]\n  host=a,b\nport=1\n\
        # password=x\nuser=it's = me\n[billing]\nhost=second\n";

    fn read(text: &str, service: &str) -> String {
        match parse(text, service, Path::new("/s")) {
            Ok(Some(settings)) => settings.shown(),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_first_group_of_the_name_counts() {
        assert_eq!(read(FILE, "billing"), "host=a,b port=1 user=it's = me");
        assert_eq!(read(FILE, "orders"), "none");
    }

    #[test]
    fn a_service_that_cannot_be_honoured_is_an_error_at_its_line() {
        let malformed = "line 2 of the service file `/s` cannot be understood";
        for line in ["service=x", "ldap://h/x", "host"] {
            assert_eq!(read(&format!("[a]\n{line}"), "a"), malformed);
        }
        let unknown = "`hots` is no keyword of a connection string; did you mean `host`?";
        assert_eq!(read("[a]\nhots=x", "a"), unknown);
    }

    #[test]
    fn the_own_file_comes_before_the_system_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let home = directory.path().join("home");
        let system = directory.path().join("system");
        std::fs::create_dir_all(&home).expect("mkdir");
        std::fs::create_dir_all(&system).expect("mkdir");
        std::fs::write(home.join(".pg_service.conf"), "[a]\nhost=own\n").expect("write");
        std::fs::write(
            system.join("pg_service.conf"),
            "[a]\nhost=x\n[b]\nhost=system\n",
        )
        .expect("write");
        let environment =
            Environment::new([("PGSYSCONFDIR", system.to_str().expect("UTF-8"))]).at_home(&home);
        let host =
            |service: &str| find(service, None, &environment).map(|settings| settings.shown());
        assert_eq!(host("a").expect("found"), "host=own");
        assert_eq!(host("b").expect("found"), "host=system");
        assert!(matches!(host("c"), Err(Error::NoService(_))));
        let missing = find("a", Some("/nonexistent/file"), &environment);
        assert!(matches!(missing, Err(Error::Read { .. })));
    }
}

//! The connection string that `-h`, `-p`, `-U` and `-d` make.
//!
//! A database that contains `=` is a connection string and counts alone, as an empty one does; so does a URI, which Barman takes for the
//! name of a database unless there is a `=` in it. What the string leaves open libpq's environment says, and the defaults.

use super::backup::Backup;

/// What a session is called unless the string says otherwise, and whatever the environment says.
const APPLICATION_NAME: &str = "barman_cloud_backup";

/// What was typed, as libpq reads it.
pub(super) fn conninfo(typed: &Backup) -> String {
    let database = typed.dbname.trim();
    let named = |text: &str| text.contains("application_name");
    if is_uri(database) {
        let sign = if database.contains('?') { '&' } else { '?' };
        let query = format!("{sign}application_name={APPLICATION_NAME}");
        let query = if named(database) { "" } else { &query };
        return format!("{database}{query}");
    }
    let mut words = Vec::new();
    if database.is_empty() || database.contains('=') {
        words.push(database.to_owned());
    } else {
        let options = [
            ("host", &typed.host),
            ("port", &typed.port),
            ("user", &typed.user),
            ("dbname", &Some(database.to_owned())),
        ];
        let given = options
            .into_iter()
            .filter_map(|(keyword, value)| Some((keyword, value.as_deref()?)));
        words.extend(given.map(|(keyword, value)| format!("{keyword}={}", quoted(value))));
    }
    if !named(database) {
        words.push(format!("application_name={APPLICATION_NAME}"));
    }
    words.join(" ")
}

fn is_uri(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::barman::arguments::Taken;

    fn of(words: &[&str]) -> String {
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        all.extend(["s3://b".to_owned(), "srv".to_owned()]);
        let grammar = crate::cli::barman::grammars();
        let grammar = grammar
            .into_iter()
            .find(|one| one.program == "barman-cloud-backup");
        let values = crate::cli::barman::argparse::parse(grammar.expect("one of nine"), &all);
        let Ok(values) = values else {
            panic!("{words:?} is refused");
        };
        conninfo(&Backup::from(Taken(values)))
    }

    #[test]
    fn options_make_a_string_and_a_string_counts_alone() {
        let name = "application_name=barman_cloud_backup";
        for (words, expected) in [
            (&[][..], format!("dbname='postgres' {name}")),
            (
                &["-h", "/run/a b", "-p", "5433", "-U", "o'x"],
                format!("host='/run/a b' port='5433' user='o\\'x' dbname='postgres' {name}"),
            ),
            (&["-h", "x", "-d", "service=y"], format!("service=y {name}")),
            (&["-h", "x", "-d", ""], format!(" {name}")),
            (
                &["-d", "user=a application_name=b"],
                "user=a application_name=b".to_owned(),
            ),
            (
                &["-d", "postgresql://h/db"],
                format!("postgresql://h/db?{name}"),
            ),
            (
                &["-d", "postgres://h/db?port=1"],
                format!("postgres://h/db?port=1&{name}"),
            ),
        ] {
            assert_eq!(of(words), expected, "{words:?}");
        }
    }
}

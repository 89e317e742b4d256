//! The rights that a backup needs, so that it needs no superuser.
//!
//! `docs/postgresql-role.md` is this table for people; the tests on every major version take backups with exactly these grants.

use super::{
    Error,
    session::{Session, get},
};

/// The statements that let a role take backups on a server of this major version, in the database that it connects to.
///
/// The role must exist and be allowed to log in. Functions are granted per database, roles per cluster. All are harmless when repeated.
pub fn statements(major: u32, role: &str) -> Vec<String> {
    let role = quoted(role);
    let memberships = MEMBERSHIPS
        .iter()
        .map(|granted| format!("GRANT {granted} TO {role}"));
    let functions = FUNCTIONS
        .iter()
        .filter(|function| function.majors.contains(&major))
        .map(|function| format!("GRANT EXECUTE ON FUNCTION {} TO {role}", function.signature));
    memberships.chain(functions).collect()
}

/// A right that a role lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The statement that gives it.
    pub statement: String,
    /// Whether it is one of those without which no backup of files begins or ends.
    pub stops_backups: bool,
}

impl Session {
    /// Asks which of the rights of `docs/postgresql-role.md` the session's role lacks, but for `REPLICATION`.
    pub async fn lacking(&self, role: &str) -> Result<Vec<Lacking>, Error> {
        const DOING: &str = "say what the role may do";
        let major = self.major();
        let known = FUNCTIONS
            .iter()
            .filter(|function| function.majors.contains(&major));
        let functions = known.map(|function| {
            let signature = function.signature;
            let sql = format!("has_function_privilege('{signature}', 'EXECUTE')");
            (sql, signature.contains("_backup"))
        });
        let members = MEMBERSHIPS.map(|name| (format!("pg_has_role('{name}', 'USAGE')"), false));
        let asked: Vec<_> = members.into_iter().chain(functions).collect();
        let columns: Vec<_> = asked.iter().map(|(sql, _)| sql.as_str()).collect();
        let sql = format!("SELECT {}", columns.join(", "));
        let row = self.row(DOING, &sql, &[]).await?;
        let mut lacking = Vec::new();
        for (column, statement) in statements(major, role).into_iter().enumerate() {
            if !get::<bool>(&row, DOING, column)? {
                let stops_backups = asked[column].1;
                lacking.push(Lacking {
                    statement,
                    stops_backups,
                });
            }
        }
        Ok(lacking)
    }
}

/// The statement that lets a role have the server send its files and its WAL.
pub fn replication(role: &str) -> String {
    format!("ALTER ROLE {} REPLICATION", quoted(role))
}

/// The statement that mends a refusal for lack of privilege, by what the server's message names.
pub(super) fn hint(message: &str, role: &str) -> String {
    let role = quoted(role);
    let named = FUNCTIONS.iter().find(|function| {
        let name = function.signature.split('(').next().unwrap_or_default();
        message.split_whitespace().any(|word| word == name)
    });
    if let Some(function) = named {
        return format!("GRANT EXECUTE ON FUNCTION {} TO {role}", function.signature);
    }
    // Open to everyone unless somebody revoked that; those that are asked here take no argument.
    if let Some(name) = message.strip_prefix("permission denied for function ") {
        return format!("GRANT EXECUTE ON FUNCTION {name}() TO {role}");
    }
    // Settings that only superusers see are named by the setting, not by the role that would open them.
    format!("GRANT {} TO {role}", MEMBERSHIPS[0])
}

/// What settings and sizes need: `data_directory` and its like are hidden from others.
const MEMBERSHIPS: [&str; 2] = ["pg_read_all_settings", "pg_read_all_stats"];

struct Function {
    signature: &'static str,
    majors: std::ops::RangeInclusive<u32>,
}

const FUNCTIONS: [Function; 7] = [
    function("pg_start_backup(text, boolean, boolean)", 13, 14),
    function("pg_stop_backup(boolean, boolean)", 13, 14),
    function("pg_backup_start(text, boolean)", 15, u32::MAX),
    function("pg_backup_stop(boolean)", 15, u32::MAX),
    function("pg_switch_wal()", 13, u32::MAX),
    function("pg_create_restore_point(text)", 13, u32::MAX),
    function("pg_ls_archive_statusdir()", 13, u32::MAX),
];

const fn function(signature: &'static str, first: u32, last: u32) -> Function {
    Function {
        signature,
        majors: first..=last,
    }
}

/// A role as it must be written in SQL.
fn quoted(role: &str) -> String {
    let mut letters = role.chars();
    let plain = letters
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain {
        role.to_owned()
    } else {
        format!("\"{}\"", role.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_have_the_names_of_their_major() {
        let old = statements(14, "backup").join("\n");
        let new = statements(15, "backup").join("\n");
        assert!(old.contains("pg_start_backup") && !old.contains("pg_backup_start"));
        assert!(new.contains("pg_backup_start") && !new.contains("pg_start_backup"));
    }

    #[test]
    fn the_documentation_has_every_statement() {
        let documentation = include_str!("../../docs/postgresql-role.md");
        for statement in (13..=18).flat_map(|major| statements(major, "barkeep")) {
            assert!(
                documentation.contains(&format!("{statement};\n")),
                "{statement}"
            );
        }
    }

    #[test]
    fn a_role_is_quoted_where_it_must_be() {
        assert!(statements(17, "a\"B")[0].ends_with("TO \"a\"\"B\""));
        let refused = "permission denied to examine \"data_directory\"";
        assert_eq!(hint(refused, "b"), "GRANT pg_read_all_settings TO b");
        let revoked = "permission denied for function pg_control_system";
        assert_eq!(
            hint(revoked, "b"),
            "GRANT EXECUTE ON FUNCTION pg_control_system() TO b"
        );
    }
}

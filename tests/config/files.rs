//! Includes, staged files, and what is refused on disk.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use barkeep::config::{self, Report, Severity, Staged, Style};
use insta::assert_snapshot;
use tempfile::TempDir;

const MAIN: &str = "version = 1\ninclude = [\"conf.d/*.toml\"]\n[destinations.d]\n\
    url = \"file:///d\"\n\
                    [defaults]\ndestination = \"d\"\nschedule = \"none\"\nretention = \"none\"\n";

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        fs::write(path, text).expect("write");
    }
    directory
}

/// What a report says, with the directory's own path taken out.
fn said(directory: &TempDir, report: &Report) -> String {
    // Wrapping depends on the length of the path, so the findings are printed and not the drawing.
    let root = format!("{}/", directory.path().display());
    let findings = report.findings().into_iter().map(|finding| {
        let place = finding.places.first().map(|at| format!("{}: ", at.place));
        let help = finding.help.map(|help| format!(" ({help})"));
        let text = format!(
            "{}{}{}",
            place.unwrap_or_default(),
            finding.message,
            help.unwrap_or_default()
        );
        text.replace(&root, "")
    });
    findings.collect::<Vec<_>>().join("\n")
}

fn validate(directory: &TempDir, staged: Option<&Staged>) -> String {
    let report = config::validate(&directory.path().join("barkeep.toml"), staged);
    said(directory, &report)
}

fn servers(path: &Path, staged: Option<&Staged>) -> String {
    let compiled = config::read(path, staged)
        .unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    let names = compiled.desired.servers.keys().map(ToString::to_string);
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_pattern_includes_what_fits_in_the_order_of_names() {
    let directory = directory(&[
        ("barkeep.toml", MAIN),
        ("conf.d/b.toml", "[servers.b]\n"),
        (
            "conf.d/a.toml",
            "include = [\"more/x.toml\", \"b.toml\"]\n[servers.a]\n",
        ),
        ("conf.d/more/x.toml", "[servers.x]\n"),
        ("conf.d/.hidden.toml", "[servers.hidden]\n"),
        ("conf.d/c.toml.bak", "[servers.c]\n"),
        // Two spellings of one file.
        (
            "conf.d/d.toml",
            "include = [\"../conf.d/b.toml\", \"../other/../conf.d/b.toml\"]\n",
        ),
        ("other/x", ""),
    ]);
    assert_eq!(
        servers(&directory.path().join("barkeep.toml"), None),
        "a b x"
    );
}

#[test]
fn a_pattern_may_fit_nothing_but_a_plain_path_must_exist() {
    let empty = directory(&[("barkeep.toml", MAIN)]);
    assert_eq!(servers(&empty.path().join("barkeep.toml"), None), "");
    let missing = directory(&[("barkeep.toml", "version = 1\ninclude = [\"x.toml\"]\n")]);
    assert_snapshot!(validate(&missing, None), @r#"
    barkeep.toml:2:12: there is no file `x.toml` (paths are relative to the including file: `x.toml`)
    "#);
    let none = directory(&[]);
    assert_snapshot!(validate(&none, None), @r#"
    cannot read `barkeep.toml`: No such file or directory (os error 2)
    "#);
}

#[test]
fn a_file_that_everybody_may_change_is_refused() {
    let directory = directory(&[("barkeep.toml", MAIN), ("conf.d/a.toml", "[servers.a]\n")]);
    let open = fs::Permissions::from_mode(0o666);
    fs::set_permissions(directory.path().join("conf.d/a.toml"), open).expect("chmod");
    assert_snapshot!(validate(&directory, None), @r#"
    everybody may change `conf.d/a.toml`; restrict it with `chmod o-w`
    "#);
}

#[test]
fn a_name_in_two_files_is_refused_with_both() {
    let directory = directory(&[
        ("barkeep.toml", MAIN),
        ("conf.d/a.toml", "[servers.a]\n"),
        ("conf.d/b.toml", "[servers.a]\n"),
    ]);
    let report = config::validate(&directory.path().join("barkeep.toml"), None);
    let findings = report.findings();
    let root = format!("{}/", directory.path().display());
    let places = findings[0]
        .places
        .iter()
        .map(|at| at.place.to_string().replace(&root, ""));
    assert_eq!(
        places.collect::<Vec<_>>(),
        ["conf.d/b.toml:1:10", "conf.d/a.toml:1:10"]
    );
}

#[test]
fn a_staged_file_is_checked_in_its_place() {
    let directory = directory(&[
        ("barkeep.toml", MAIN),
        ("conf.d/a.toml", "[servers.a]\n"),
        ("staged/good", "[servers.z]\n"),
        ("staged/bad", "[servers.z]\nmdoe = \"full\"\n"),
    ]);
    let main = directory.path().join("barkeep.toml");
    let staged = |place: &str, file: &str| Staged {
        place: place.into(),
        file: directory.path().join("staged").join(file),
    };
    assert_eq!(servers(&main, Some(&staged("conf.d/a.toml", "good"))), "z");
    assert_eq!(
        servers(&main, Some(&staged("conf.d/new.toml", "good"))),
        "a z"
    );
    let absolute = directory.path().join("conf.d/new.toml");
    let absolute = absolute.to_str().expect("a path");
    assert_eq!(servers(&main, Some(&staged(absolute, "good"))), "a z");
    let bad = staged("conf.d/new.toml", "bad");
    assert_snapshot!(validate(&directory, Some(&bad)), @r#"
    conf.d/new.toml:2:1: unknown key `mdoe` (did you mean `mode`?)
    "#);
    let elsewhere = staged("conf.d/new.conf", "good");
    assert_snapshot!(validate(&directory, Some(&elsewhere)), @r#"
    `conf.d/new.conf` is not part of this configuration (no `include` would read it)
    "#);
}

#[test]
fn nothing_is_followed_that_a_configuration_refers_to() {
    // Neither the secret nor the destination exists, and the command would fail.
    let directory = directory(&[
        ("barkeep.toml", MAIN),
        (
            "conf.d/a.toml",
            "[servers.a]\nconnection = \"host=/nowhere\"\npassword = { command = [\"false\"] }\n",
        ),
        (
            "conf.d/b.toml",
            "[servers.b]\nconnection = \"\"\npassword = { file = \"/nowhere\" }\n",
        ),
    ]);
    let report = config::validate(&directory.path().join("barkeep.toml"), None);
    assert_eq!(
        report.count(Severity::Error),
        0,
        "{}",
        said(&directory, &report)
    );
}

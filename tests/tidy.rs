//! The house rules that no compiler checks: who may name whom, how large things are, where words are printed.
//!
//! | Layer | Modules | May name |
//! |---|---|---|
//! | 0 | `model`, `failure` | each other |
//! | 1 | `format`, `config`, `plan` | layer 0; not each other |
//! | 2 | `clock`, `actor`, `secret`, `cloud`, `spool`, `pipeline`, `store`, `snapshot`, `postgres` | layer 0, `format`, `clock`, `secret`, `cloud`; not each other |
//! | 3 | `observe`, `execute`, `recover` | layers 0 and 2, `format`; not each other; `execute` also `plan`, for only a guarded plan is executed |
//! | 4 | `reconcile` | all of these but `config` |
//! | 4 | `status`, then `serve` | `reconcile`, `plan`, layer 0; `serve` also `status`, `clock` |
//! | 5 | `cli` | everything |
//!
//! Layers 0 and 1 are pure: no async, no I/O, no clock, no logging, and no order that depends on a hash. `config::load` reads files
//! for the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each module may name, itself apart.
const MAY_NAME: [(&str, &str); 20] = [
    ("failure", "model"),
    ("model", "failure"),
    ("format", "model failure"),
    ("config", "model failure"),
    ("plan", "model failure"),
    ("clock", "model"),
    ("actor", "model"),
    ("secret", "model failure"),
    ("spool", "model failure format clock"),
    ("pipeline", "model failure format clock"),
    ("cloud", "model failure clock secret"),
    ("store", "model failure format clock secret cloud"),
    ("snapshot", "model failure format clock secret cloud"),
    ("postgres", "model failure format clock secret"),
    (
        "observe",
        "model failure format clock actor secret cloud spool pipeline store snapshot postgres",
    ),
    (
        "execute",
        "model failure format clock actor secret cloud spool pipeline store snapshot postgres plan",
    ),
    (
        "recover",
        "model failure format clock actor secret cloud spool pipeline store snapshot postgres",
    ),
    (
        "reconcile",
        "model failure format clock actor secret cloud spool pipeline store snapshot postgres plan observe execute recover",
    ),
    ("status", "model failure plan reconcile"),
    ("serve", "clock model reconcile status"),
];

/// Words that have no place in layers 0 and 1.
const IMPURE: [&str; 7] = [
    "async ",
    "tokio::",
    "tracing::",
    "std::fs",
    "HashMap",
    "HashSet",
    "Instant::now",
];

/// A file may be so long, soft and hard.
const LINES: (usize, usize) = (400, 700);

/// A function may be so long, between its braces.
const FUNCTION_LINES: usize = 70;

/// A test may, whose table or golden text is most of it.
const TEST_LINES: usize = 100;

const FORBIDDEN_NAMES: [&str; 7] = [
    "utils", "util", "common", "helpers", "helper", "manager", "misc",
];

struct Source {
    /// Below the root of the repository.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below some directories, in order.
fn sources(directories: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for directory in directories {
        walk(&root().join(directory), &mut paths);
    }
    let rust = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| Source {
        text: fs::read_to_string(&path).expect("a source"),
        path: below_root(&path),
    })
    .collect()
}

fn walk(directory: &Path, paths: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

fn below_root(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("it lies below the root");
    path.to_string_lossy().into_owned()
}

/// The lines of code, numbered from 1, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| {
        let comment = line.find("//").filter(|at| !line[..*at].ends_with(':'));
        (index + 1, comment.map_or(line, |at| &line[..at]))
    })
}

/// `src/store/s3/mod.rs` is of `store`, `src/clock.rs` of `clock`.
fn module(path: &str) -> &str {
    let below = path.strip_prefix("src/").expect("it lies below src");
    let first = below.split('/').next().expect("a name");
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The top modules that a file names by a path from the crate's root, with the lines.
fn named(text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let mut depth = 0;
    for (number, line) in code(text) {
        let mut rest = line;
        if depth == 0 {
            while let Some(at) = ["crate::", "barkeep::"]
                .iter()
                .find_map(|root| find(rest, root))
            {
                rest = &rest[at..];
                if let Some(inside) = rest.strip_prefix('{') {
                    (rest, depth) = (inside, 1);
                    break;
                }
                named.push((number, word(rest)));
            }
        }
        if depth > 0 {
            depth = group(rest, depth, |word| named.push((number, word)));
        }
    }
    named
}

/// Where the path goes on behind the crate's root.
fn find(text: &str, root: &str) -> Option<usize> {
    let at = text.find(root)?;
    let alone = text[..at].chars().last().is_none_or(|before| {
        !before.is_alphanumeric() && before != '_' && before != ':' && before != '$'
    });
    alone.then_some(at + root.len())
}

fn word(text: &str) -> String {
    let letters = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_');
    letters.collect()
}

/// Reads on in a braced group of imports and tells its outermost words. Returns how deep it is at the end.
fn group(line: &str, mut depth: usize, mut tell: impl FnMut(String)) -> usize {
    let mut start = true;
    for (at, letter) in line.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => start = true,
            ' ' => continue,
            _ if start && depth == 1 => {
                tell(word(&line[at..]));
                start = false;
            }
            _ => start = false,
        }
        if depth == 0 {
            return 0;
        }
    }
    depth
}

fn report(what: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{what}:\n{}", violations.join("\n"));
}

#[test]
fn no_file_names_a_layer_above_its_own() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = MAY_NAME
        .into_iter()
        .map(|(module, names)| (module, names.split(' ').chain([module]).collect()))
        .collect();
    let mut violations = Vec::new();
    let mut known = BTreeSet::from(["cli", "lib", "main"]);
    known.extend(allowed.keys());
    for source in sources(&["src"]) {
        let module = module(&source.path);
        assert!(
            known.contains(module),
            "`{module}` has no layer: add it to the table"
        );
        let Some(allowed) = allowed.get(module) else {
            continue;
        };
        for (line, name) in named(&source.text) {
            if known.contains(name.as_str()) && !allowed.contains(name.as_str()) {
                violations.push(format!("{}:{line} names `{name}`", source.path));
            }
        }
    }
    report(
        "a layer is named from below, or from beside it",
        &violations,
    );
}

#[test]
fn paths_are_found_however_they_are_written() {
    let found = |text: &str| {
        let named = named(text).into_iter();
        named
            .map(|(line, name)| format!("{line}:{name}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        found("use crate::cli::x; // crate::plan\nlet a = crate::store::open();"),
        "1:cli 2:store"
    );
    assert_eq!(
        found(
            "use crate::{\n    model::{a, b::{c}},\n    plan,\n    store::{\n        x, y,\n    },\n};\nplan::x"
        ),
        "2:model 3:plan 4:store"
    );
    assert_eq!(
        found("use crate::{model::a, plan::{b, c}};"),
        "1:model 1:plan"
    );
    assert_eq!(
        found("pub(crate) fn a(b: crate::clock::Clock) -> crate::secret::S"),
        "1:clock 1:secret"
    );
    assert_eq!(
        found("use barkeep::{failure::Kind, model::x};"),
        "1:failure 1:model"
    );
    assert_eq!(
        found("let url = \"https://x\"; some_crate::x; $crate::y"),
        ""
    );
}

#[test]
fn what_decides_is_pure() {
    let mut violations = Vec::new();
    for source in sources(&["src"]) {
        let pure = matches!(
            module(&source.path),
            "model" | "failure" | "format" | "plan" | "config"
        );
        // Tests may do what they like.
        let tests = source.path.contains("/tests") || source.path.ends_with("/testing.rs");
        if !pure || tests || source.path == "src/config/load.rs" {
            continue;
        }
        let before_tests = source
            .text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        for (line, text) in code(before_tests) {
            let impure = IMPURE.iter().filter(|word| text.contains(**word));
            violations
                .extend(impure.map(|word| format!("{}:{line} `{}`", source.path, word.trim())));
        }
    }
    report("layers 0 and 1 are pure", &violations);
}

#[test]
fn only_the_command_line_prints() {
    const PRINTERS: [&str; 5] = [
        "println!",
        "print!(",
        "dbg!",
        "io::stdout()",
        "io::stderr()",
    ];
    let mut violations = Vec::new();
    for source in sources(&["src"]) {
        if matches!(module(&source.path), "cli" | "main") {
            continue;
        }
        for (line, text) in code(&source.text) {
            let printers = PRINTERS.iter().filter(|word| text.contains(**word));
            violations.extend(printers.map(|word| format!("{}:{line} `{word}`", source.path)));
        }
    }
    report("something below `cli` prints", &violations);
}

#[test]
fn files_and_functions_are_small() {
    let mut violations = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let lines = source.text.lines().count();
        if lines > LINES.1 {
            violations.push(format!("{} has {lines} lines", source.path));
        } else if lines > LINES.0 {
            #[expect(
                clippy::print_stdout,
                reason = "what is long, but not yet too long, is told"
            )]
            {
                println!("{} has {lines} lines, more than {}", source.path, LINES.0);
            }
        }
        let is_test = source.path.contains("tests/");
        let most = if is_test { TEST_LINES } else { FUNCTION_LINES };
        for (line, name, length) in functions(&source.text) {
            if length > most {
                violations.push(format!(
                    "{}:{line} `{name}` has {length} lines",
                    source.path
                ));
            }
        }
    }
    report("too long", &violations);
}

/// Functions by line, name, and the lines between their braces. The house's formatting closes each at the indentation of its beginning.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        let Some(at) = words.find("fn ").filter(|at| {
            let before = words[..*at].trim_end();
            let modifiers = ["", "pub", "async", "const", "pub async", "pub const"];
            modifiers.contains(&before) || (before.starts_with("pub(") && !before.contains('='))
        }) else {
            continue;
        };
        let is_end = |line: &&str| line.starts_with(&format!("{}}}", " ".repeat(indent)));
        let body = lines[index..].iter().take_while(|line| !is_end(line));
        let signature = body
            .clone()
            .position(|line| line.ends_with('{') || line.ends_with(';'));
        if let Some(signature) = signature.filter(|at| lines[index + at].ends_with('{')) {
            functions.push((
                index + 1,
                word(&words[at + 3..]),
                body.count() - signature - 1,
            ));
        }
    }
    functions
}

#[test]
fn names_say_what_is_inside() {
    let mut violations = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        let forbidden =
            |part: &str| FORBIDDEN_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part));
        if source.path.split('/').any(forbidden) {
            violations.push(source.path);
        }
    }
    report("a name that says nothing", &violations);
}

#[test]
fn every_file_is_compiled() {
    let all = sources(&["src", "tests"]);
    let declares = |of: &[String], name: &str| {
        let declared = [format!("mod {name};"), format!("mod {name} {{")];
        let texts = all.iter().filter(|source| of.contains(&source.path));
        texts
            .flat_map(|source| code(&source.text))
            .any(|(_, line)| {
                let line = line.trim();
                let line = line.rsplit_once(") ").map_or(line, |(_, line)| line);
                let line = line.strip_prefix("pub ").unwrap_or(line);
                declared
                    .iter()
                    .any(|declaration| line.starts_with(declaration.as_str()))
            })
    };
    let mut violations = Vec::new();
    for Source { path, .. } in &all {
        let (directory, file) = path.rsplit_once('/').expect("a directory");
        let (parents, name) = match file.strip_suffix(".rs").expect("a source") {
            "main" | "lib" => continue,
            // A test binary of one file.
            _ if directory == "tests" => continue,
            "mod" => {
                let (above, name) = directory.rsplit_once('/').expect("a directory");
                // What several test binaries share is declared by each of them.
                if above == "tests" {
                    continue;
                }
                (parents(above), name)
            }
            name => (parents(directory), name),
        };
        // A place of its own choice.
        let placed = format!("#[path = \"{file}\"]");
        let placed = all.iter().any(|source| source.text.contains(&placed));
        if !placed && !declares(&parents, name) {
            violations.push(format!("{path} is declared nowhere"));
        }
    }
    report("dead files", &violations);
}

/// The files that may declare the modules of a directory.
fn parents(directory: &str) -> Vec<String> {
    let inside = ["mod.rs", "main.rs", "lib.rs"].map(|file| format!("{directory}/{file}"));
    inside
        .into_iter()
        .chain([format!("{directory}.rs")])
        .collect()
}

#[test]
fn nothing_speaks_of_one_machine() {
    // Put together here, so that this file does not speak of them either.
    let places = ["/work", "/root"].map(|path| format!("{path}/"));
    let hosts = [
        "index.crates",
        "static.crates",
        "pypi",
        "pythonhosted",
        "npmjs",
        "deb.debian",
    ];
    let hosts = hosts.map(|host| match host {
        "pypi" => format!("{host}.org"),
        host => format!("{host}."),
    });
    let mut paths = Vec::new();
    for directory in [
        "src",
        "tests",
        "benches",
        "docs",
        "examples",
        "policies",
        "packaging",
    ] {
        walk(&root().join(directory), &mut paths);
    }
    let entries = fs::read_dir(root()).expect("the root");
    let top = entries.map(|entry| entry.expect("an entry").path());
    paths.extend(top.filter(|path| path.extension().is_some_and(|e| e == "md" || e == "toml")));
    let mut violations = Vec::new();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            let told = places
                .iter()
                .chain(&hosts)
                .filter(|told| line.contains(told.as_str()));
            let at = |told| format!("{}:{} `{told}`", below_root(&path), index + 1);
            violations.extend(told.map(at));
        }
    }
    report(
        "a path of a machine, or the host of a registry",
        &violations,
    );
}

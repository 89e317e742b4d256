//! What the program says of itself.

use std::{fs, path::Path};

use barkeep::cli::args::Arguments;
use clap::CommandFactory as _;
use insta::assert_snapshot;

use crate::{documents::compare, scene::Scene, scene::files};

#[test]
fn without_a_command_it_helps_and_fails() {
    let scene = Scene::new();
    let said = scene.run(&[]);
    assert!(
        said.starts_with("exit 3\n--- stderr\nDeclarative"),
        "{said}"
    );
    assert_eq!(
        said.replace("exit 3\n--- stderr", ""),
        scene.barkeep("-h").replace("exit 0\n--- stdout", "")
    );
}

#[test]
fn the_version_is_data() {
    assert_snapshot!(Scene::new().barkeep("--version"), @r"
    exit 0
    --- stdout
    barkeep 0.1.0
    ");
}

/// `tests/cli/help.txt` is what `--help` prints for each command.
#[test]
fn every_command_helps() {
    let scene = Scene::new();
    let mut program = Arguments::command();
    program.build();
    let mut text = scene.barkeep("--help");
    let mut names = Vec::new();
    for command in program.get_subcommands() {
        names.push(vec![command.get_name()]);
        let inner = command.get_subcommands();
        names.extend(inner.map(|inner| vec![command.get_name(), inner.get_name()]));
    }
    for mut name in names {
        let title = format!("\n$ barkeep {} --help\n", name.join(" "));
        name.push("--help");
        text.extend([title, scene.run(&name)]);
    }
    compare("tests/cli/help.txt", &text);
}

#[test]
fn man_pages_completions_and_the_schema_are_generated() {
    let scene = Scene::new();
    let man = scene.path("man");
    assert_snapshot!(scene.barkeep("generate man man"), @"exit 0");
    let pages = files(&man);
    assert!(pages.contains(&"barkeep.1".to_owned()), "{pages:?}");
    assert!(
        pages.contains(&"barkeep-wal-archive.1".to_owned()),
        "{pages:?}"
    );
    let page = fs::read_to_string(man.join("barkeep-plan.1")).expect("read the page");
    assert!(page.contains("detailed\\-exitcode"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let said = scene.run(&["generate", "completions", shell]);
        assert!(said.starts_with("exit 0\n--- stdout"), "{said}");
        assert!(said.contains("wal-archive"), "{shell}");
    }
    let schema = scene
        .command(&["generate", "schema"])
        .output()
        .expect("it starts");
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert!(schema["properties"]["servers"].is_object());
    assert!(Path::new(&man).is_dir());
}

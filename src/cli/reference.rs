//! The reference of the command line as a document, from the same definitions as the help.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::args::Arguments;

const INTRODUCTION: &str = "\
# Commands

`barkeep COMMAND --help` says the same. Results go to standard output, as text or with `--format json` as one JSON document whose
`format` tells the version of its shape; everything else goes to standard error. Instants are UTC, in the form in which they can be
typed back. How a command ends is told by its [exit code](exit-codes.md).

A backup is named by its id (`20261120T020003`), by the name that it was given, or by a shortcut: `latest` or `last`, `oldest` or
`first`, `last-failed`.

The first signal (an interrupt or SIGTERM) asks for the next safe point: a running backup is declared failed and leaves nothing behind.
The second leaves at once; the next run settles what was left.
";

/// `docs/commands.md`: every command with its arguments and options.
pub fn reference() -> String {
    let mut program = Arguments::command();
    program.build();
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Options of all commands\n\n");
    let shared = |arg: &&Arg| arg.is_global_set();
    table(&mut page, program.get_arguments().filter(shared));
    for command in program.get_subcommands_mut() {
        section(&mut page, command, "##");
    }
    page
}

fn section(page: &mut String, command: &mut Command, level: &str) {
    let path = command.get_bin_name().unwrap_or_default().to_owned();
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim_end();
    let own = |arg: &&Arg| !arg.is_global_set() && !is_help(arg) && !arg.is_hide_set();
    // Writing to a text does not fail.
    let _ = write!(page, "\n{level} `{path}`\n\n{}\n", sentences(&about));
    if command.get_subcommands().next().is_none() {
        let _ = write!(page, "\n```\n{usage}\n```\n");
    }
    if command.get_arguments().any(|arg| own(&arg)) {
        page.push('\n');
        table(page, command.get_arguments().filter(own));
    }
    for inner in command.get_subcommands_mut() {
        section(page, inner, "###");
    }
}

/// The heading of a help text has no full stop; in a paragraph it needs one.
fn sentences(about: &str) -> String {
    let paragraphs = about.split("\n\n").map(|paragraph| {
        let end = if paragraph.ends_with('.') { "" } else { "." };
        format!("{paragraph}{end}")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

fn table<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    page.push_str("| argument | meaning |\n|---|---|\n");
    for arg in arguments {
        let _ = writeln!(page, "| `{}` | {} |", name(arg), meaning(arg));
    }
}

fn name(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().first();
    let value = values.map(ToString::to_string).unwrap_or_default();
    if arg.is_positional() {
        return value;
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let takes = arg.get_action().takes_values();
    let value = if takes {
        format!(" {value}")
    } else {
        String::new()
    };
    format!("{}{value}", names.join("`, `"))
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{}.", help.trim_end_matches('.'));
    let possible = arg.get_possible_values();
    if arg.get_action().takes_values() && !possible.is_empty() {
        let values = possible
            .iter()
            .map(|value| format!("`{}`", value.get_name()));
        let _ = write!(text, " One of {}.", values.collect::<Vec<_>>().join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, " Else `${}`.", variable.to_string_lossy());
    }
    if arg.get_action().takes_values()
        && let Some(default) = arg.get_default_values().first()
    {
        let _ = write!(text, " Default: `{}`.", default.to_string_lossy());
    }
    text
}

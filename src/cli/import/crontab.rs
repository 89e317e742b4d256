//! The lines of a crontab that call Barman: when backups are taken, and whatever their options say.
//!
//! A user's crontab, `/etc/crontab` and the files of `/etc/cron.d` are read alike: what stands between the five fields and the program, be it a
//! user or `nice`, says nothing. Lines that have nothing to do with Barman are passed over.

use super::{
    command_line::{self, Runs},
    fleet::{Fleet, ServerIndex},
    note::Place,
    shell::{self, Command},
};
use crate::model::schedule::{Schedule, Zone};

/// Programs whose argument behind `-c` is a line of shell itself.
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];

/// What the Barman server's command is told to do by the clock. A word behind a user of that name is none of these.
const BARMANS: [&str; 12] = [
    "archive-wal",
    "backup",
    "check",
    "cron",
    "delete",
    "generate-manifest",
    "keep",
    "receive-wal",
    "switch-wal",
    "sync-backup",
    "sync-wals",
    "verify-backup",
];

/// Variables that hold for all lines below, as far as they say something of a destination.
const RELEVANT: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Takes in every line that calls Barman.
pub(in crate::cli) fn import(fleet: &mut Fleet, file: &str, text: &str) {
    let mut variables = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = Place::new(file, number);
        if let Some(variable) = variable(line) {
            match variable.split_once('=') {
                Some(("CRON_TZ" | "TZ", zone)) => {
                    fleet.time_zone.get_or_insert_with(|| zone.to_owned());
                }
                Some((name, _)) if RELEVANT.iter().any(|start| name.starts_with(start)) => {
                    variables.push(variable);
                }
                _ => {}
            }
            continue;
        }
        let Some((schedule, rest)) = parted(line) else {
            continue;
        };
        for mut command in calls(rest) {
            command.variables.splice(0..0, variables.iter().cloned());
            said(fleet, schedule, &command, &place);
        }
    }
}

/// `NAME = value`, with or without quotes and spaces.
fn variable(line: &str) -> Option<String> {
    let (name, value) = line.split_once('=')?;
    let value = value.trim().trim_matches(['"', '\'']);
    let variable = format!("{}={value}", name.trim());
    shell::is_assignment(&variable).then_some(variable)
}

/// When, and what: five fields or a word such as `@daily`, and the rest, up to where its input begins.
fn parted(line: &str) -> Option<(&str, String)> {
    let fields = if line.starts_with('@') { 1 } else { 5 };
    let mut at = 0;
    for _ in 0..fields {
        let rest = line[at..].trim_start();
        at = line.len() - rest.len();
        at += rest.find(char::is_whitespace)?;
    }
    let mut command = String::new();
    let mut characters = line[at..].chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'%') => command.extend(characters.next()),
            '%' => break,
            other => command.push(other),
        }
    }
    Some((&line[..at], command))
}

/// The calls of Barman's programs in a line of shell.
fn calls(line: String) -> Vec<Command> {
    let mut found = Vec::new();
    let mut lines = vec![line];
    while let Some(line) = lines.pop() {
        for Command {
            mut variables,
            words,
        } in shell::commands(&line)
        {
            if let Some(at) = (0..words.len()).find(|at| is_call(&words[*at..])) {
                let before = words[..at].iter().filter(|word| shell::is_assignment(word));
                variables.extend(before.cloned());
                let words = words[at..].to_vec();
                found.push(Command { variables, words });
            } else if let Some(at) = words
                .iter()
                .position(|word| SHELLS.contains(&shell::program(word)))
            {
                lines.extend(
                    words[at..]
                        .iter()
                        .skip_while(|word| *word != "-c")
                        .nth(1)
                        .cloned(),
                );
            }
        }
    }
    found
}

/// Whether words begin with a program of Barman's, and not with a user who is called like it.
fn is_call(words: &[String]) -> bool {
    let Some((first, rest)) = words.split_first() else {
        return false;
    };
    let told = rest.iter().find(|word| !word.starts_with('-'));
    match shell::program(first) {
        "barman" => told.is_some_and(|told| BARMANS.contains(&told.as_str())),
        program => program.starts_with("barman-cloud-"),
    }
}

fn said(fleet: &mut Fleet, schedule: &str, command: &Command, place: &Place) {
    if shell::program(&command.words[0]) == "barman" {
        return of_barman(fleet, schedule, &command.words[1..], place);
    }
    let Some(said) = command_line::read(fleet, command, Runs::OnServer, place) else {
        return;
    };
    if said.program == "barman-cloud-backup" {
        scheduled(fleet, said.server, schedule, place);
    }
}

/// A call of the Barman server's own command.
fn of_barman(fleet: &mut Fleet, schedule: &str, words: &[String], place: &Place) {
    let mut words = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-'));
    match words.next() {
        Some("backup") => {
            let names: Vec<&str> = words.collect();
            if names.contains(&"all") {
                for server in fleet.indexes() {
                    scheduled(fleet, server, schedule, place);
                }
                return;
            }
            for name in names {
                match fleet.labelled(name) {
                    Some(server) => scheduled(fleet, server, schedule, place),
                    None => fleet.lost(
                        place,
                        format!("barman backup {name}"),
                        "there is no such server here",
                    ),
                }
            }
        }
        Some("cron") => {
            fleet.needless(place, "barman cron", "`barkeep reconcile` does what is due");
        }
        other => {
            let what = format!("barman {}", other.unwrap_or_default());
            fleet.lost(place, what, "there is nothing that does it by the clock");
        }
    }
}

fn scheduled(fleet: &mut Fleet, server: ServerIndex, schedule: &str, place: &Place) {
    let schedule = schedule.split_whitespace().collect::<Vec<_>>().join(" ");
    match Schedule::parse(&schedule, &Zone::utc()) {
        Ok(_) => fleet.set(server, "schedule", schedule, place),
        Err(why) => fleet.lost(place, schedule, why),
    }
}

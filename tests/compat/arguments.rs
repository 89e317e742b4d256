//! Generated command lines: what Barman's parsers make of them is what ours make of them, values and refusals alike.

use barkeep::{
    cli::barman::{
        argparse::{Argument, Grammar, Stop, Takes, parse},
        grammars,
    },
    format::python::Value as Literal,
};
use serde_json::{Value, json};

use crate::{
    PEER,
    support::{dice::Dice, peer::Peer},
    typed::command_line,
};

/// How many command lines are generated for each command.
const EACH: u64 = 450;

/// How a parser ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The values, as Python writes them.
    Values(String),
    /// With this code, and this complaint.
    Stopped(i64, String),
}

fn theirs(peer: &mut Peer, program: &str, words: &[String]) -> End {
    let answer = peer.ask(&json!({ "ask": "parse", "program": program, "argv": words }));
    match answer["values"].as_str() {
        Some(values) => End::Values(values.to_owned()),
        None => {
            let code = answer["code"].as_i64().expect("a code");
            let complaint = answer["complaint"].as_str().unwrap_or_default();
            End::Stopped(code, complaint.to_owned())
        }
    }
}

fn ours(grammar: &'static Grammar, words: &[String]) -> End {
    let values = match parse(grammar, words) {
        Ok(values) => values,
        Err(Stop::Version | Stop::Help) => return End::Stopped(0, String::new()),
        Err(Stop::Usage(complaint) | Stop::Bare(complaint)) => return End::Stopped(3, complaint),
    };
    let instant = |name: &str, value: Literal| match value {
        Literal::Str(_) if name == "aws_snapshot_lock_expiration_date" => {
            Literal::from("an instant")
        }
        value => value,
    };
    let entries = values.into_iter();
    let entries = entries.map(|(name, value)| (Literal::from(name), instant(name, value)));
    End::Values(Literal::Dict(entries.collect()).to_string())
}

#[test]
fn generated_command_lines_are_read_as_barman_reads_them() {
    let Some(mut peer) = Peer::start(PEER) else {
        return;
    };
    let mut seen = [0; 3];
    for (number, grammar) in grammars().enumerate() {
        for seed in 0..EACH {
            let mut dice = Dice((number as u64) << 32 | seed);
            let words = command_line(grammar, &mut dice);
            let (theirs, ours) = (
                theirs(&mut peer, grammar.program, &words),
                ours(grammar, &words),
            );
            match (&theirs, &ours) {
                (End::Values(_), _) => seen[0] += 1,
                (End::Stopped(0 | 3, _), _) => seen[1] += 1,
                // Where Barman breaks down, a refusal like any other is expected.
                (End::Stopped(..), End::Stopped(3, _)) => {
                    seen[2] += 1;
                    continue;
                }
                _ => {}
            }
            let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
            let quoted = quoted.join(" ");
            assert_eq!(ours, theirs, "{} {quoted}", grammar.program);
        }
    }
    // A comparison of refusals only would pass too.
    assert!(seen[0] > 1000 && seen[1] > 1000 && seen[2] > 0, "{seen:?}");
}

/// An argument as Barman's parser has it, as far as the two can be compared.
fn row(argument: &Argument, grammar: &Grammar) -> Value {
    let action = match argument.takes {
        Takes::Nothing => "StoreTrue",
        Takes::Word(_) => "StoreConst",
        Takes::Count => "Count",
        Takes::One(_) | Takes::Any(_) | Takes::Maybe(_) => "Store",
        Takes::Each(_) => "Append",
        Takes::Version => "Version",
        Takes::Help => "Help",
    };
    let nothing = json!([]);
    let default = match argument.takes {
        Takes::Nothing => json!("False"),
        Takes::Count => json!("0"),
        Takes::Each(_) => nothing,
        _ => argument.default.map_or(Value::Null, Value::from),
    };
    let members = |of| {
        let of_group = move |one: &&Argument| one.group == Some(of);
        let all = grammar.arguments.iter().flat_map(|some| some.iter());
        all.filter(of_group)
            .map(|one| one.flags[0])
            .collect::<Vec<_>>()
    };
    json!({
        "name": argument.name,
        "flags": argument.flags,
        "action": action,
        "word": match argument.takes {
            Takes::Word(word) => Value::from(word),
            _ => Value::Null,
        },
        "many": match argument.takes {
            Takes::Any(_) => "*",
            Takes::Maybe(_) => "?",
            _ => "",
        },
        "default": default,
        "excludes": argument.group.map(members),
    })
}

/// The same of Barman's.
fn their_row(argument: &Value, groups: &[Value]) -> Value {
    let action = argument["action"].as_str().expect("an action");
    let flag = argument["flags"].get(0);
    let has = |group: &&Value| {
        group[0]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| Some(one) == flag))
    };
    json!({
        "name": argument["name"],
        "flags": argument["flags"],
        "action": action,
        "word": if action == "StoreConst" { argument["const"].clone() } else { Value::Null },
        "many": argument["nargs"].as_str().unwrap_or_default(),
        "default": match &argument["default"] {
            Value::Number(number) => json!(number.to_string()),
            Value::Bool(false) => json!("False"),
            other => other.clone(),
        },
        "excludes": groups.iter().find(has).map(|group| group[0].clone()),
    })
}

#[test]
fn every_option_of_barmans_is_there_with_its_spellings_and_its_default() {
    let Some(mut peer) = Peer::start(PEER) else {
        return;
    };
    for grammar in grammars() {
        let answer = peer.ask(&json!({ "ask": "grammar", "program": grammar.program }));
        let groups = answer["groups"].as_array().expect("groups");
        let theirs = answer["arguments"].as_array().expect("arguments").iter();
        let theirs: Vec<_> = theirs.map(|argument| their_row(argument, groups)).collect();
        let all = grammar.arguments.iter().flat_map(|some| some.iter());
        let ours: Vec<_> = all.map(|argument| row(argument, grammar)).collect();
        assert_eq!(ours, theirs, "{}", grammar.program);
    }
}

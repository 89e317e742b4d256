//! Command lines as people and scripts type them, and as they mistype them.

use barkeep::cli::barman::{
    argparse::{Argument, Grammar, Takes},
    kinds::Kind,
};

use crate::support::dice::Dice;

const TEXTS: [&str; 12] = [
    "x",
    "s3://bucket/path",
    "20261120T234333",
    "latest",
    "a b",
    "-",
    "",
    "é'\"\\n",
    "000000010000000000000001",
    "key=value",
    "-1",
    "a,b",
];

const NUMBERS: [&str; 18] = [
    "0",
    "1",
    "2",
    "72",
    "73",
    "36500",
    "36501",
    "-1",
    "+3",
    " 7 ",
    "1_000",
    "1__0",
    "_1",
    "x",
    "1.5",
    "1e3",
    "99999999999999999999",
    "0x10",
];

const SIZES: [&str; 26] = [
    "1", "0", "5KB", "5kib", "1.5GB", "1.5GiB", "100G", "100GB", "1234B", "1234iB", "12.5B",
    " 5 MB", "5 MB", "-1KB", "1_0KB", "1_KB", "1e3MB", "0.0001KB", "2YB", ".5TB", "xKB", "KB",
    "infKB", "nanKB", "B", "1.GB",
];

const TAGS: [&str; 18] = [
    "a,1",
    "a b,c d",
    "aws:x,1",
    "k",
    "k,",
    ",v",
    "a,b,c",
    "a;b,c",
    "é,v",
    " a , b ",
    "k-e.y,v:/=+-@_",
    "\"a,b\",c",
    "\"a\"\"b\",c",
    "\"a,b",
    "a,\"b\"c",
    "",
    "k,v\n",
    "k,v'",
];

const LEVELS: [&str; 10] = [
    "low", "Medium", "HIGH", "5", "-5", "--5", "99", "-99", "fast", "",
];

const TIMELINES: [&str; 7] = ["current", "latest", "1", "0", "-1", "Latest", "x"];

const NAMES: [&str; 7] = [
    "nightly",
    "",
    "20261120T234333",
    "latest",
    "auto",
    "last-full",
    "20261120T2343333",
];

const INSTANTS: [&str; 7] = [
    "2027-01-01T00:00:00.000Z",
    "2027-01-01T00:00:00.123456Z",
    "2027-01-01T00:00:00.1234567Z",
    "2027-01-01T00:00:00Z",
    "2027-13-01T00:00:00.000Z",
    "tomorrow",
    "2027-01-01 00:00:00.000Z",
];

fn word(kind: Kind, dice: &mut Dice) -> String {
    let words: &[&str] = match kind {
        Kind::Text => &TEXTS,
        Kind::Choice(words) if dice.percent(85) => words,
        Kind::Choice(_) => &["AWS-S3", "", "x'y", "full "],
        // Most of what is typed is right.
        Kind::Integer | Kind::Positive | Kind::NonNegative | Kind::CoolOff | Kind::LockDays
            if dice.percent(60) =>
        {
            &["1", "2", "30"]
        }
        Kind::Integer | Kind::Positive | Kind::NonNegative | Kind::CoolOff | Kind::LockDays => {
            &NUMBERS
        }
        Kind::Size if dice.percent(50) => &["100MB", "64MB", "1.5GiB"],
        Kind::Size => &SIZES,
        Kind::Tag | Kind::CsvTag if dice.percent(60) => &["team,db", "a b,c d"],
        Kind::Tag | Kind::CsvTag => &TAGS,
        Kind::Level => &LEVELS,
        Kind::Timeline => &TIMELINES,
        Kind::BackupName => &NAMES,
        Kind::Instant => &INSTANTS,
    };
    dice.pick(words).to_owned()
}

/// A long option in full, or as much of it as somebody would type.
fn spelled(flag: &str, dice: &mut Dice) -> String {
    let letters = u64::try_from(flag.len()).expect("a short word");
    if !flag.starts_with("--") || dice.percent(60) {
        return flag.to_owned();
    }
    let length = 3 + dice.roll(letters - 2);
    flag[..usize::try_from(length).expect("small").min(flag.len())].to_owned()
}

fn option(argument: &Argument, dice: &mut Dice) -> Vec<String> {
    let flag = dice.pick(argument.flags);
    let spelled = spelled(flag, dice);
    let kind = match argument.takes {
        Takes::One(kind) | Takes::Each(kind) => kind,
        Takes::Any(kind) => {
            let values = (0..dice.roll(4)).map(|_| word(kind, dice));
            let mut words: Vec<_> = std::iter::once(spelled).chain(values).collect();
            if dice.percent(50) {
                words.push("--".to_owned());
            }
            return words;
        }
        // With a value that it does not take.
        _ if dice.percent(4) => return vec![format!("{spelled}={}", dice.pick(&["x", "", "1"]))],
        _ => return vec![spelled],
    };
    let value = word(kind, dice);
    match dice.roll(10) {
        0 => vec![spelled],
        1..=3 => vec![format!("{spelled}={value}")],
        4..=5 if !flag.starts_with("--") => vec![format!("{flag}{value}")],
        _ => vec![spelled, value],
    }
}

/// Short options that take nothing, in one word, perhaps with one behind them that takes something.
fn bundle(grammar: &Grammar, dice: &mut Dice) -> String {
    let short = |argument: &&Argument| argument.flags.first().is_some_and(|flag| flag.len() == 2);
    let all = grammar.arguments.iter().flat_map(|some| some.iter());
    let short: Vec<_> = all
        .filter(short)
        .map(|argument| argument.flags[0])
        .collect();
    let letters = (0..2 + dice.roll(3)).map(|_| &dice.pick(&short)[1..]);
    format!("-{}", letters.collect::<String>())
}

/// A command line for a command: mostly a right one.
pub(crate) fn command_line(grammar: &Grammar, dice: &mut Dice) -> Vec<String> {
    let all = grammar.arguments.iter().flat_map(|some| some.iter());
    let (positionals, options): (Vec<_>, Vec<_>) = all.partition(|one| one.flags.is_empty());
    let mut groups: Vec<Vec<String>> = Vec::new();
    for positional in &positionals {
        let optional = matches!(positional.takes, Takes::Maybe(_));
        if dice.percent(if optional { 70 } else { 97 }) {
            groups.push(vec![word(Kind::Text, dice)]);
        }
    }
    if dice.percent(3) {
        groups.push(vec![word(Kind::Text, dice)]);
    }
    let required = options.iter().filter(|one| {
        let name = one.group.map(|group| format!("{group:?}"));
        matches!(name.as_deref(), Some("Doomed" | "Keep"))
    });
    let required: Vec<&Argument> = required.copied().collect();
    if !required.is_empty() && dice.percent(90) {
        insert(&mut groups, option(dice.pick(&required), dice), dice);
    }
    for _ in 0..dice.roll(5) {
        let chosen = dice.pick(&options);
        // Help and the version end it all; rarely is enough.
        let ends = matches!(chosen.takes, Takes::Version | Takes::Help);
        if !ends || dice.percent(15) {
            insert(&mut groups, option(chosen, dice), dice);
        }
    }
    if dice.percent(4) {
        let unknown = dice.pick(&[
            "--unknown",
            "--no such",
            "-h",
            "-x1",
            "--",
            "--=x",
            "-é",
            "--tagsx",
        ]);
        insert(&mut groups, vec![unknown.to_owned()], dice);
    }
    if dice.percent(6) {
        let bundle = bundle(grammar, dice);
        insert(&mut groups, vec![bundle], dice);
    }
    groups.concat()
}

/// Puts words somewhere between the others.
fn insert(groups: &mut Vec<Vec<String>>, words: Vec<String>, dice: &mut Dice) {
    let places = groups.len() + 1;
    let at = dice.roll(u64::try_from(places).expect("few words"));
    groups.insert(usize::try_from(at).expect("small"), words);
}

//! A command line as Python's `argparse` reads it.
//!
//! What that library does and `clap` does not: any unambiguous beginning of a long option, options between positionals, options that
//! take any number of words, exclusive groups that are told in its words, and its order of complaints. [`parse`] follows the documented
//! behaviour of Python 3.13: an optional positional is still free behind options that follow the others, which older Pythons refuse.
//! What is read is a value for every argument, in Python's own terms, so that it can be held against Barman's parsers.
//!
//! Nothing here knows a command; the grammars are in `options`, what values mean is in `kinds`.

mod shape;

use std::collections::{BTreeMap, BTreeSet};

use shape::{Shape, exact, shape};

use super::kinds::{Kind, Refused};
use crate::format::python::Value;

/// The command line of one program.
#[derive(Debug)]
pub struct Grammar {
    /// The program's name.
    pub program: &'static str,
    /// What it is for, in a sentence.
    pub about: &'static str,
    /// Positionals and options, in the order in which they are declared.
    pub arguments: &'static [&'static [Argument]],
}

/// A positional or an option.
#[derive(Debug)]
pub struct Argument {
    /// Which value it sets.
    pub name: &'static str,
    /// Its spellings; none for a positional.
    pub flags: &'static [&'static str],
    /// What follows it, and what becomes of that.
    pub takes: Takes,
    /// What counts if it is not given.
    pub default: Option<&'static str>,
    /// Arguments of one group exclude each other.
    pub group: Option<Group>,
    /// One line of help.
    pub help: &'static str,
}

/// What follows an argument, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing; it is then true.
    Nothing,
    /// Nothing; it stands for this word.
    Word(&'static str),
    /// Nothing; it is counted.
    Count,
    /// One word; the last one counts.
    One(Kind),
    /// One word each time; all of them count.
    Each(Kind),
    /// All words that follow.
    Any(Kind),
    /// A word or none: positionals only.
    Maybe(Kind),
    /// Nothing: tell the version.
    Version,
    /// Nothing: help.
    Help,
}

/// Arguments that exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// More or less log lines.
    Verbosity,
    /// The codecs.
    Compression,
    /// The two ways to give tags.
    Tags,
    /// The two ways to give tags of history files.
    HistoryTags,
    /// Until when snapshots are locked.
    LockEnd,
    /// What is deleted: one of them must be given.
    Doomed,
    /// What is done with a keep: one of them must be given.
    Keep,
    /// Where recovery ends.
    Target,
}

impl Group {
    /// The groups of which one argument must be given.
    const REQUIRED: [Self; 2] = [Self::Doomed, Self::Keep];
}

/// A value for each argument, by name.
pub type Values = BTreeMap<&'static str, Value>;

/// Why nothing is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The version was asked for.
    Version,
    /// Help was asked for.
    Help,
    /// The command line is wrong: `argparse`'s complaint, which is told below the usage.
    Usage(String),
    /// A value is wrong in a way that is told without the usage.
    Bare(String),
}

impl Grammar {
    pub(super) fn all(&self) -> impl Iterator<Item = &'static Argument> + use<> {
        self.arguments.iter().flat_map(|some| some.iter())
    }
}

impl Argument {
    /// As complaints call it.
    fn called(&self) -> String {
        if self.flags.is_empty() {
            self.name.to_owned()
        } else {
            self.flags.join("/")
        }
    }

    fn complain(&self, complaint: &str) -> Stop {
        Stop::Usage(format!("argument {}: {complaint}", self.called()))
    }

    fn convert(&self, kind: Kind, word: &str) -> Result<Value, Stop> {
        kind.convert(word).map_err(|refused| match refused {
            Refused::Because(why) => self.complain(&why),
            Refused::Bare(why) => Stop::Bare(why),
        })
    }

    fn is_required(&self) -> bool {
        self.flags.is_empty() && !matches!(self.takes, Takes::Maybe(_))
    }
}

/// Reads the words of a command line, without the program's name.
pub fn parse(grammar: &Grammar, words: &[String]) -> Result<Values, Stop> {
    let mut reader = Reader::new(grammar, words)?;
    reader.read()?;
    reader.finish()
}

struct Reader<'a> {
    arguments: Vec<&'static Argument>,
    words: &'a [String],
    shapes: Vec<Shape>,
    /// The positionals that are still to be read.
    free: Vec<&'static Argument>,
    values: Values,
    seen: BTreeSet<&'static str>,
    /// Those given that exclude others, by how they are called.
    given: BTreeMap<Group, Vec<&'static Argument>>,
    extras: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn new(grammar: &Grammar, words: &'a [String]) -> Result<Self, Stop> {
        let arguments: Vec<_> = grammar.all().collect();
        let mut shapes = Vec::with_capacity(words.len());
        for (index, word) in words.iter().enumerate() {
            if word == "--" {
                shapes.push(Shape::Separator);
                shapes.extend(words[index + 1..].iter().map(|_| Shape::Word));
                break;
            }
            shapes.push(shape(&arguments, word)?);
        }
        let mut values = Values::new();
        for argument in &arguments {
            if let Some(value) = initial(argument) {
                values.entry(argument.name).or_insert(value);
            }
        }
        let free = arguments.iter().copied().filter(|a| a.flags.is_empty());
        Ok(Self {
            free: free.collect(),
            arguments,
            words,
            shapes,
            values,
            seen: BTreeSet::new(),
            given: BTreeMap::new(),
            extras: Vec::new(),
        })
    }

    /// Reads options and the positionals between them by turns.
    fn read(&mut self) -> Result<(), Stop> {
        let mut at = 0;
        while let Some(next) = self.next_option(at) {
            if at != next {
                let behind = self.positionals(at)?;
                if behind > at {
                    at = behind;
                    continue;
                }
                self.extras
                    .extend(self.words[at..next].iter().map(String::as_str));
            }
            at = self.option(next)?;
        }
        let behind = self.positionals(at)?;
        self.extras
            .extend(self.words[behind..].iter().map(String::as_str));
        Ok(())
    }

    fn next_option(&self, from: usize) -> Option<usize> {
        let rest = self.shapes.get(from..)?;
        Some(from + rest.iter().position(Shape::is_option)?)
    }

    /// Reads as many of the free positionals as the words in front of the next option allow.
    fn positionals(&mut self, mut at: usize) -> Result<usize, Stop> {
        let counts = self.matched(at);
        let matched: Vec<_> = self.free.drain(..counts.len()).collect();
        for (argument, count) in matched.into_iter().zip(counts) {
            let words = (at..at + count).filter(|index| matches!(self.shapes[*index], Shape::Word));
            let words: Vec<_> = words.map(|index| self.words[index].clone()).collect();
            at += count;
            self.take(argument, &words)?;
        }
        Ok(at)
    }

    /// How many words, separators included, each of the next positionals gets.
    fn matched(&self, from: usize) -> Vec<usize> {
        let mut at = from;
        let mut counts = Vec::new();
        for argument in &self.free {
            let start = at;
            at += self.run(at, |shape| matches!(shape, Shape::Separator));
            if matches!(self.shapes.get(at), Some(Shape::Word)) {
                at += 1;
            } else if argument.is_required() {
                at = start;
                break;
            }
            at += self.run(at, |shape| matches!(shape, Shape::Separator));
            counts.push(at - start);
        }
        // An optional one that got nothing may still find something behind the option.
        if self.shapes.get(at).is_some_and(Shape::is_option) {
            while counts.last() == Some(&0) {
                counts.pop();
            }
        }
        counts
    }

    fn run(&self, from: usize, is: impl Fn(&Shape) -> bool) -> usize {
        let rest = self.shapes.get(from..).unwrap_or_default();
        rest.iter().take_while(|shape| is(shape)).count()
    }

    /// Reads an option with what belongs to it; says where the next word is.
    fn option(&mut self, at: usize) -> Result<usize, Stop> {
        let Shape::Option(mut argument, mut flag, ref inside) = self.shapes[at] else {
            self.extras.push(&self.words[at]);
            return Ok(at + 1);
        };
        let mut inside = inside.clone();
        let mut bundled = Vec::new();
        let (words, next) = loop {
            let Some(text) = inside else {
                break self.following(argument, at + 1)?;
            };
            let ignored =
                || argument.complain(&format!("ignored explicit argument {}", quoted(&text)));
            match argument.takes {
                Takes::One(_) | Takes::Each(_) if text == "--" => {
                    return Err(argument.complain("expected one argument"));
                }
                Takes::One(_) | Takes::Each(_) | Takes::Any(_) => break (vec![text], at + 1),
                _ if flag.starts_with("--") || text.is_empty() => return Err(ignored()),
                // `-vt` is `-v -t`.
                _ => {
                    let mut rest = text.chars();
                    let short = format!("-{}", rest.next().unwrap_or_default());
                    let found = exact(&self.arguments, &short).ok_or_else(ignored)?;
                    bundled.push(argument);
                    (argument, flag) = found;
                    inside = Some(rest.as_str().to_owned()).filter(|rest| !rest.is_empty());
                }
            }
        };
        for argument in bundled {
            self.take(argument, &[])?;
        }
        self.take(argument, &words)?;
        Ok(next)
    }

    /// The words behind an option that belong to it.
    fn following(&self, argument: &Argument, from: usize) -> Result<(Vec<String>, usize), Stop> {
        let words = self.run(from, |shape| matches!(shape, Shape::Word));
        let count = match argument.takes {
            Takes::One(_) | Takes::Each(_) if words == 0 => {
                return Err(argument.complain("expected one argument"));
            }
            Takes::One(_) | Takes::Each(_) => 1,
            Takes::Any(_) => words,
            _ => 0,
        };
        Ok((self.words[from..from + count].to_vec(), from + count))
    }

    /// Sets the value of an argument that was met.
    fn take(&mut self, argument: &'static Argument, words: &[String]) -> Result<(), Stop> {
        self.seen
            .insert(argument.flags.first().unwrap_or(&argument.name));
        let convert = |kind, word: &String| argument.convert(kind, word);
        let value = match (argument.takes, words) {
            (Takes::One(kind) | Takes::Each(kind) | Takes::Maybe(kind), [word, ..]) => {
                convert(kind, word)?
            }
            (Takes::Any(kind), words) => {
                let values: Result<_, _> = words.iter().map(|word| convert(kind, word)).collect();
                Value::List(values?)
            }
            (Takes::Nothing, _) => Value::Bool(true),
            (Takes::Word(word), _) => Value::from(word),
            (Takes::Count, _) => Value::Int(1),
            _ => Value::None,
        };
        self.exclude(argument)?;
        match argument.takes {
            Takes::Version => return Err(Stop::Version),
            Takes::Help => return Err(Stop::Help),
            Takes::Maybe(_) if words.is_empty() => {}
            Takes::Count => {
                if let Some(Value::Int(count)) = self.values.get_mut(argument.name) {
                    *count += 1;
                }
            }
            Takes::Each(_) => {
                if let Some(Value::List(values)) = self.values.get_mut(argument.name) {
                    values.push(value);
                }
            }
            _ => drop(self.values.insert(argument.name, value)),
        }
        Ok(())
    }

    fn exclude(&mut self, argument: &'static Argument) -> Result<(), Stop> {
        let Some(group) = argument.group else {
            return Ok(());
        };
        let given = self.given.entry(group).or_default();
        if !given.iter().any(|other| std::ptr::eq(*other, argument)) {
            given.push(argument);
        }
        let members = self.arguments.iter().filter(|a| a.group == Some(group));
        let mut others = members.filter(|other| !std::ptr::eq(**other, argument));
        let met = |other: &&&Argument| given.iter().any(|one| std::ptr::eq(*one, **other));
        match others.find(met) {
            Some(other) => {
                Err(argument.complain(&format!("not allowed with argument {}", other.called())))
            }
            None => Ok(()),
        }
    }

    /// Complains about what is missing or too much, and fills in what was not given.
    fn finish(mut self) -> Result<Values, Stop> {
        let missing = self.free.iter().filter(|argument| argument.is_required());
        let missing: Vec<_> = missing.map(|argument| argument.name).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Stop::Usage(format!(
                "the following arguments are required: {missing}"
            )));
        }
        for argument in &self.arguments {
            let first = argument.flags.first().unwrap_or(&argument.name);
            if let (Some(default), Takes::One(kind)) = (argument.default, argument.takes)
                && !self.seen.contains(first)
            {
                let value = argument.convert(kind, default)?;
                self.values.insert(argument.name, value);
            }
        }
        for group in Group::REQUIRED {
            let members = self.arguments.iter().filter(|a| a.group == Some(group));
            let members: Vec<_> = members.map(|argument| argument.called()).collect();
            if !members.is_empty() && !self.given.contains_key(&group) {
                let members = members.join(" ");
                return Err(Stop::Usage(format!(
                    "one of the arguments {members} is required"
                )));
            }
        }
        if !self.extras.is_empty() {
            let extras = self.extras.join(" ");
            return Err(Stop::Usage(format!("unrecognized arguments: {extras}")));
        }
        Ok(self.values)
    }
}

/// What an argument is worth before anything is read.
fn initial(argument: &Argument) -> Option<Value> {
    match argument.takes {
        Takes::Nothing => Some(Value::Bool(false)),
        Takes::Count => Some(Value::Int(0)),
        Takes::Each(_) => Some(Value::List(Vec::new())),
        Takes::Word(_) | Takes::One(_) | Takes::Any(_) | Takes::Maybe(_) => Some(Value::None),
        Takes::Version | Takes::Help => None,
    }
}

/// A text as Python writes it.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

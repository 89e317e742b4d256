//! What each word of a command line is taken for, before any is read: a value, a separator, or an option, perhaps cut short or with its
//! value in the same word.

use super::{Argument, Stop};

/// What a word is taken for before anything is read.
#[derive(Debug)]
pub(super) enum Shape {
    /// A value.
    Word,
    /// The first `--`.
    Separator,
    /// An option, perhaps with its value in the same word.
    Option(&'static Argument, &'static str, Option<String>),
    /// It looks like an option, and there is none.
    Unknown,
}

impl Shape {
    /// Whether the words for positionals end here.
    pub(super) fn is_option(&self) -> bool {
        matches!(self, Self::Option(..) | Self::Unknown)
    }
}

/// The argument with this spelling.
pub(super) fn exact(
    arguments: &[&'static Argument],
    word: &str,
) -> Option<(&'static Argument, &'static str)> {
    flags(arguments).find(|(_, flag)| *flag == word)
}

fn flags(
    arguments: &[&'static Argument],
) -> impl Iterator<Item = (&'static Argument, &'static str)> {
    let each = arguments.iter();
    each.flat_map(|argument| argument.flags.iter().map(|flag| (*argument, *flag)))
}

/// What a word in front of any `--` is taken for.
pub(super) fn shape(arguments: &[&'static Argument], word: &str) -> Result<Shape, Stop> {
    if !word.starts_with('-') || word == "-" {
        return Ok(Shape::Word);
    }
    if let Some((argument, flag)) = exact(arguments, word) {
        return Ok(Shape::Option(argument, flag, None));
    }
    let halves = word.split_once('=');
    if let Some((head, value)) = halves
        && let Some((argument, flag)) = exact(arguments, head)
    {
        return Ok(Shape::Option(argument, flag, Some(value.to_owned())));
    }
    let mut candidates = if word.starts_with("--") {
        let (head, value) = halves.map_or((word, None), |(head, value)| (head, Some(value)));
        beginning(arguments, head, value)
    } else {
        bundle(arguments, word)
    };
    match candidates.len() {
        0 if is_negative_number(word) || word.contains(' ') => Ok(Shape::Word),
        0 => Ok(Shape::Unknown),
        1 => Ok(candidates.remove(0).1),
        _ => {
            let matches: Vec<_> = candidates.iter().map(|(flag, _)| *flag).collect();
            let matches = matches.join(", ");
            Err(Stop::Usage(format!(
                "ambiguous option: {word} could match {matches}"
            )))
        }
    }
}

type Candidates = Vec<(&'static str, Shape)>;

/// The long options that begin so.
fn beginning(arguments: &[&'static Argument], head: &str, value: Option<&str>) -> Candidates {
    let found = flags(arguments).filter(|(_, flag)| flag.starts_with(head));
    let option = |(argument, flag)| {
        let value = value.map(str::to_owned);
        (flag, Shape::Option(argument, flag, value))
    };
    found.map(option).collect()
}

/// The short option that a word begins with; the rest is its value or further short options.
fn bundle(arguments: &[&'static Argument], word: &str) -> Candidates {
    let split = word.char_indices().nth(2).map_or(word.len(), |(at, _)| at);
    let (short, rest) = word.split_at(split);
    let found = flags(arguments).filter(|(_, flag)| *flag == short || flag.starts_with(word));
    let option = |(argument, flag)| {
        let value = (flag == short).then(|| rest.to_owned());
        (flag, Shape::Option(argument, flag, value))
    };
    found.map(option).collect()
}

fn is_negative_number(word: &str) -> bool {
    let Some(number) = word.strip_prefix('-') else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match number.split_once('.') {
        None => !number.is_empty() && digits(number),
        Some((whole, fraction)) => digits(whole) && !fraction.is_empty() && digits(fraction),
    }
}

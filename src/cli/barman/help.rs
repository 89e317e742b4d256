//! How a command is used, from its grammar.

use std::fmt;

use super::argparse::{Argument, Grammar, Takes};

/// The first line: how the command is called.
pub(super) struct Usage(pub(super) &'static Grammar);

/// The whole help.
pub(super) struct Help(pub(super) &'static Grammar);

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "usage: {} [OPTION]...", self.0.program)?;
        for argument in self.0.all().filter(|argument| argument.flags.is_empty()) {
            match argument.takes {
                Takes::Maybe(_) => write!(formatter, " [{}]", argument.name)?,
                _ => write!(formatter, " {}", argument.name)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Help {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n\n{}\n", Usage(self.0), self.0.about)?;
        let (positionals, options): (Vec<_>, Vec<_>) =
            self.0.all().partition(|argument| argument.flags.is_empty());
        writeln!(formatter, "positional arguments:")?;
        for argument in positionals {
            line(formatter, argument.name, argument)?;
        }
        writeln!(formatter, "\noptions:")?;
        for argument in options {
            let name = argument.name.to_uppercase();
            let value = match argument.takes {
                Takes::One(_) | Takes::Each(_) => format!(" {name}"),
                Takes::Any(_) => format!(" [{name} ...]"),
                _ => String::new(),
            };
            line(
                formatter,
                &format!("{}{value}", argument.flags.join(", ")),
                argument,
            )?;
        }
        Ok(())
    }
}

fn line(formatter: &mut fmt::Formatter<'_>, head: &str, argument: &Argument) -> fmt::Result {
    let help = argument.help;
    writeln!(formatter, "  {head}\n      {help}")?;
    match argument.default {
        Some(default) => writeln!(formatter, "      (default: {default})"),
        None => Ok(()),
    }
}

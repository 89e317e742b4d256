//! A command line of one of the nine that somebody else wrote, read and not run.

use super::{
    argparse::{self, Argument, Grammar, Stop, Takes, Values},
    arguments::Taken,
    grammars,
};
use crate::{
    format::python::Value,
    model::{location::Location, names::ServerName},
};

/// What was typed behind the name of one of the nine.
pub(in crate::cli) struct Typed {
    grammar: &'static Grammar,
    values: Values,
}

impl Typed {
    /// Reads the words behind a program's name; `None` if it is none of the nine. The error is the complaint.
    pub(in crate::cli) fn read(program: &str, words: &[String]) -> Option<Result<Self, String>> {
        let grammar = grammars().find(|grammar| grammar.program == program)?;
        let values = argparse::parse(grammar, words).map_err(|stop| match stop {
            Stop::Usage(complaint) | Stop::Bare(complaint) => complaint,
            Stop::Version | Stop::Help => "it does nothing".to_owned(),
        });
        Some(values.map(|values| Self { grammar, values }))
    }

    /// Which of the nine.
    pub(in crate::cli) fn program(&self) -> &'static str {
        self.grammar.program
    }

    /// Where the catalog is, and whose. The error is Barman's.
    pub(in crate::cli) fn catalog(&self) -> Result<(Location, ServerName), String> {
        let mut taken = Taken(self.values.clone());
        let connection = if self.values.contains_key("source_url") {
            taken.source()
        } else {
            taken.destination()
        };
        let location = connection.location();
        let location = location.map_err(|error| error.to_string())?;
        let name = connection.server_name();
        Ok((location, name.map_err(|error| error.to_string())?))
    }

    /// What was given that is not what counts anyway, once each, by the name of the value that it sets.
    pub(in crate::cli) fn given(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let mut seen = Vec::new();
        let options = self.grammar.all();
        let options = options.filter(|argument| !argument.flags.is_empty());
        options.filter_map(move |argument| {
            let value = self.values.get(argument.name)?;
            let says = says(argument, value) && !seen.contains(&argument.name);
            says.then(|| {
                seen.push(argument.name);
                (argument.name, value)
            })
        })
    }

    /// A value by its name.
    pub(in crate::cli) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}

/// Whether a value differs from what counts if nothing is given.
fn says(argument: &Argument, value: &Value) -> bool {
    let default = argument.default.and_then(|word| match argument.takes {
        Takes::One(kind) => kind.convert(word).ok(),
        _ => None,
    });
    let nothing = match value {
        Value::None | Value::Bool(false) => true,
        Value::List(values) => values.is_empty(),
        Value::Int(count) => argument.takes == Takes::Count && *count == 0,
        _ => false,
    };
    !nothing && default.as_ref() != Some(value)
}

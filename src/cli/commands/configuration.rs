//! `validate` and `show-config`, and how every other command loads the configuration.

use std::path::Path;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, output},
    config::{self, Origins, Report, Severity, Staged, Style},
    model::desired::Desired,
};

/// Whether oddities of the configuration are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Warnings {
    /// To whoever typed the command.
    Told,
    /// PostgreSQL, which runs a command for every segment, would fill its log with them.
    Untold,
}

/// Loads the configuration. Whatever is wrong with it has been said when this returns; whatever is only odd, if that is wanted.
pub(in crate::cli) fn load(path: &Path, warnings: Warnings) -> Result<Desired, Error> {
    match config::read(path, None) {
        Ok(compiled) => {
            if warnings == Warnings::Told {
                say(&compiled.warnings);
            }
            Ok(compiled.desired)
        }
        Err(report) => {
            say(&report);
            Err(Error::Configuration)
        }
    }
}

pub(in crate::cli) fn say(report: &Report) {
    if !report.is_empty() {
        let style = if output::wants_colour() {
            Style::Colour
        } else {
            Style::Plain
        };
        output::talk(&report.render(style));
    }
}

pub(in crate::cli) fn validate(
    arguments: &args::Validate,
    session: &Session,
) -> Result<Exit, Error> {
    let staged = arguments.place.as_ref().zip(arguments.staged.as_ref());
    let staged = staged.map(|(place, file)| Staged {
        place: place.clone(),
        file: file.clone(),
    });
    let report = config::validate(&session.config, staged.as_ref());
    let errors = report.count(Severity::Error);
    if session.output.format() == args::Format::Text {
        say(&report);
    }
    let warnings = report.count(Severity::Warning);
    let text = match (errors, warnings) {
        (0, 0) => "The configuration is valid.\n".to_owned(),
        (0, count) => format!("The configuration is valid, with warnings: {count}.\n"),
        (count, _) => format!("The configuration cannot be used; errors: {count}.\n"),
    };
    let json = serde_json::json!({
        "format": 1,
        "valid": errors == 0,
        "findings": report.findings(),
    });
    session.output.result(&text, &json)?;
    Ok(if errors > 0 { Exit::Usage } else { Exit::Done })
}

pub(in crate::cli) fn show(arguments: &args::ShowConfig, session: &Session) -> Result<Exit, Error> {
    let origins = if arguments.origin {
        Origins::Shown
    } else {
        Origins::Hidden
    };
    let shown = config::show(&session.config, origins).map_err(|report| {
        say(&report);
        Error::Configuration
    })?;
    let value: serde_json::Value = toml::from_str(&shown.text).expect("what is shown is TOML");
    let mut json = serde_json::json!({ "format": 1, "configuration": value });
    if let Some(origins) = &shown.origins {
        json["origins"] = serde_json::json!(origins);
    }
    session.output.result(&shown.text, &json)?;
    Ok(Exit::Done)
}

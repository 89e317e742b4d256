//! `init`: a configuration for one server and one destination, from what both tell of themselves.
//!
//! What was typed becomes a configuration first, which is compiled like any other; with it server and destination are asked, and what
//! they tell completes it. It is compiled once more before anybody sees it. Nothing is written but a few objects of the probe, which go
//! again, and the file, which must be a new one.

mod found;
mod next;
mod place;
mod written;

use std::path::Path;

use serde::Serialize;

use self::{found::Found, place::Place};
use super::new_file;
use crate::{
    cli::{
        Session,
        args::{self, Format},
        error::Error,
        exit::Exit,
        output, selection,
    },
    clock::Clock,
};

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    configuration: &'a str,
    next: &'a [next::Step],
}

pub(in crate::cli) async fn run(arguments: args::Init, session: &Session) -> Result<Exit, Error> {
    let place = Place::of(&arguments, &session.config)?;
    let asked = written::draft(&arguments, &place, None).to_string();
    let desired = place.compiled(&asked)?.desired;
    let ports = session.open(desired, Clock::System).await;
    let server = selection::server(&ports.desired, &arguments.server)?;
    // Much is held across its awaits; on the heap it costs nothing.
    let found = Box::pin(Found::look(&ports, server)).await?;
    let text = written::draft(&arguments, &place, Some(&found)).to_string();
    place.compiled(&text)?;
    if let Some(file) = &arguments.output {
        new_file::create(file, &text)?;
    }
    let steps = next::steps(&arguments.server, place.configuration(), &found)?;
    let result = Written {
        format: 1,
        file: arguments.output.as_deref(),
        configuration: &text,
        next: &steps,
    };
    match (&arguments.output, session.output.format()) {
        (None, _) | (_, Format::Json) => session.output.result(&text, &result)?,
        (Some(file), Format::Text) => output::talk(&format!("wrote {}", file.display())),
    }
    output::talk(&next::Text(&steps));
    Ok(Exit::Done)
}

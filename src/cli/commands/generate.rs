//! `generate`: man pages, completions and the JSON Schema, all from the definitions that the program itself uses.

use std::{fs, path::Path};

use clap::CommandFactory as _;

use crate::{
    cli::{args, error::Error, exit::Exit, output},
    config,
};

pub(in crate::cli) fn run(arguments: args::Generate) -> Result<Exit, Error> {
    match arguments.what {
        args::Generated::Man { directory } => man(&directory)?,
        args::Generated::Completions { shell } => {
            let mut text = Vec::new();
            let mut command = args::Arguments::command();
            clap_complete::generate(shell, &mut command, "barkeep", &mut text);
            output::data(&String::from_utf8_lossy(&text))?;
        }
        args::Generated::Schema => output::data(&format!("{:#}\n", config::schema::schema()))?,
    }
    Ok(Exit::Done)
}

fn man(directory: &Path) -> Result<(), Error> {
    let file = |source| Error::File {
        doing: "write",
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(file)?;
    clap_mangen::generate_to(args::Arguments::command(), directory).map_err(file)
}

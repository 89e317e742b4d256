//! Other programs' configurations, as one of barkeep's that only observes.
//!
//! Text in, a draft and notes out: nothing here reads a file, asks a clock or contacts anything. [`fleet`] gathers what is found; each source
//! is a module. Whatever has no equivalent is noted with its place, and no key is passed over in silence. It lies beside the commands
//! because it reads the command lines of `barman-cloud-*` with the parsers of these commands.

pub(super) mod barman;
pub(super) mod crontab;
pub(super) mod fleet;
pub(super) mod kubernetes;
pub(super) mod note;

mod command_line;
mod ini;
mod options;
mod shell;
mod written;
mod yaml;

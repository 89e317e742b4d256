//! The `barkeep` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    barkeep::cli::main(std::env::args_os())
}

//! Base backup from local files.

mod archive;
mod exclude;
mod queue;
mod sink;
mod walk;

pub use archive::DamagedFile;

//! The pure core from outside: laws over generated worlds, and the lives of servers as golden transcripts.

/// The worlds of the unit tests, at the paths that they have there.
#[allow(dead_code, reason = "the unit tests use the rest")]
#[path = "../../src/model"]
mod model {
    pub(crate) mod scene;
}
#[allow(dead_code, reason = "the unit tests use the rest")]
#[path = "../../src/plan"]
mod plan {
    pub(crate) mod testing;
}

mod generate;
mod laws;
mod life;
mod oracle;
mod scenarios;

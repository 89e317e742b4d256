//! barkeep: declarative PostgreSQL backups in Barman's cloud catalog.
//!
//! The program is a pure function with a thin shell. Text becomes [`Desired`](model::desired::Desired), the world becomes
//! [`Observed`](model::observed::Observed), and [`plan`](plan::plan) turns the two and an instant into a [`Plan`](plan::Plan) in which every
//! line has its reason. Everything that can fail happens before that, while observing, or after it, while executing.
//!
//! ```text
//! TOML ── config ──▶ Desired ──┐
//!                              ├─ plan(desired, observed, now) ─▶ Plan ─ guard ─▶ execute ──▶ cloud, PostgreSQL
//! cloud ─ observe ─▶ Observed ─┘        pure                       │                 │
//!    ▲                                                           render          attempts
//!    └────────────────────────── the next activation ◀───────────────────────────────┘
//! ```
//!
//! [`reconcile`] is this picture. Below it, from the ground up; a module names those above it in this list, never those below:
//!
//! | layer | modules |
//! |---|---|
//! | values and laws | [`model`], [`failure`] |
//! | pure texts and decisions | [`format`](mod@format), [`config`], [`plan`] |
//! | ports and bytes | [`store`], [`snapshot`], [`postgres`], [`pipeline`], [`spool`], [`cloud`], [`actor`], [`clock`], [`secret`] |
//! | facts and effects | [`observe`], [`execute`], [`recover`] |
//! | the loop | [`reconcile`] |
//! | how things stand | [`status`], [`serve`] |
//! | the face | [`cli`] |
//!
//! What is stored is Barman's own catalog, so Barman reads it and barkeep reads Barman's; ARCHITECTURE.md has the rest: what must always
//! hold, what is stored where, and why each dependency is there.

// The scenes of the tests are compiled here and with `tests/pure`, and name what they use in the same words.
#[cfg(test)]
extern crate self as barkeep;

pub mod actor;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod execute;
pub mod failure;
pub mod format;
pub mod model;
pub mod observe;
pub mod pipeline;
pub mod plan;
pub mod postgres;
pub mod reconcile;
pub mod recover;
pub mod secret;
pub mod serve;
pub mod snapshot;
pub mod spool;
pub mod status;
pub mod store;

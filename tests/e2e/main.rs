//! The program as people run it: the binary itself, by a user without privileges, on real servers that archive their WAL with it.

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod check;
#[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
mod clouds;
mod commands;
mod copies;
mod damage;
mod harness;
mod healing;
mod identity;
mod init;
mod interruption;
mod locks;
mod main_job;
mod plan;
mod receive;
mod receive_failover;
mod receive_into;
mod receive_standby;
mod restore;
mod retention;
mod saved;
mod service;
mod standby;
mod stream;
mod wal;

//! Getting back what was stored: whole clusters, and WAL file by file.
//!
//! Both read what barkeep and what Barman wrote, alike, and write only where they were told to. What cannot be read is never taken for
//! absent: half a cluster cannot be started, and a recovery never ends early because a destination did not answer.

pub mod base;
pub mod disks;
pub mod wal;

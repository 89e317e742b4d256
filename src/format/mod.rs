//! What is stored, as text and as names: Barman's cloud catalog and barkeep's own objects, in both
//! directions.
//!
//! Pure: bytes and texts in, values out. Barman's catalog is the format, so what is rendered here
//! is what Barman 3.19 writes, byte for byte, and what is parsed here is what it writes and reads.
//! barkeep's own objects lie apart, under `barkeep/`.

pub mod annotations;
pub mod backup_info;
pub mod history;
pub mod keys;
pub mod python;
pub mod records;
pub mod tail;
pub mod wal_header;

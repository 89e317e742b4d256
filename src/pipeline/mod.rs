//! The data plane: bytes in, bytes out, in bounded memory and without any policy.
//!
//! Everything here is synchronous (`std::io`) and is meant to run in threads that may block. The
//! pieces are made to be stacked:
//!
//! ```text
//! backup   file → page::Verified → tar::Writer → compress::parallel::Encoder → upload
//! restore  download → compress::Decoder → untar::Destination → files
//! WAL      file → compress::Encoder → upload     download → compress::Decoder → file
//! ```
//!
//! `checksum::Metered` and `throttle::Throttled` fit anywhere in between.
//!
//! What to back up, how to name it, where to put it and what a damaged page means is decided by
//! the callers. Each module's documentation states how much memory it holds; none of it grows
//! with the length of a stream, except where a list of findings is the result.

pub mod checksum;
pub mod compress;
pub mod feed;
pub mod manifest;
pub mod page;
pub mod tar;
pub mod throttle;
pub mod untar;

//! How many threads, blocks and parts a copy has, and what memory that makes: bounded, whatever the cluster's size.

use std::thread;

use crate::{model::compression::Codec, pipeline::compress::parallel::memory_bound, store::Limits};

/// What compressing may hold for all archives together, in bytes.
const BLOCKS_BYTES: usize = 24 << 20;

/// The memory that a copy holds at most, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Parts of archives, being filled and being sent.
    pub parts: u64,
    /// Blocks being compressed.
    pub blocks: u64,
    /// Entries waiting and buffers for reading.
    pub reading: u64,
}

impl Memory {
    /// All of it.
    pub fn total(self) -> u64 {
        self.parts + self.blocks + self.reading
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) codec: Codec,
    /// How many archives are built at once.
    pub(super) jobs: usize,
    pub(super) part_bytes: u64,
    /// When an archive is closed and the next begun, in bytes as stored.
    pub(super) max_archive_bytes: u64,
}

/// How a copy is dimensioned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dimensions {
    /// The threads that compress.
    pub(super) threads: usize,
    /// How many blocks of one archive are being compressed at most.
    pub(super) depth: usize,
    /// How many parts there are at once.
    pub(super) parts: usize,
    pub(super) part_bytes: u64,
    /// When an archive is closed: as asked, or where the store ends.
    pub(super) archive_bytes_max: u64,
    pub(super) parts_max: u32,
    /// The threads that build archives.
    pub(super) jobs: usize,
    codec: Codec,
}

impl Dimensions {
    pub(super) fn of(wanted: &Wanted, limits: Limits) -> Self {
        let jobs = wanted.jobs.max(1);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        // Deep enough for one archive to keep all threads busy, as far as memory allows.
        let block = memory_bound(wanted.codec, 2) / 2;
        let depth = (BLOCKS_BYTES / jobs / block.max(1)).clamp(2, 2 * threads.max(1));
        let part_bytes = wanted
            .part_bytes
            .clamp(limits.part_bytes_min, limits.part_bytes_max);
        let by_parts = part_bytes.saturating_mul(limits.parts_max.into());
        Self {
            threads,
            depth,
            // One more than one per open archive, `data.tar` included, or nobody could go on; and as many to be sent meanwhile.
            parts: 2 * jobs + 2,
            part_bytes,
            archive_bytes_max: wanted
                .max_archive_bytes
                .min(limits.object_bytes_max)
                .min(by_parts),
            parts_max: limits.parts_max,
            jobs,
            codec: wanted.codec,
        }
    }

    pub(super) fn memory(&self) -> Memory {
        let (jobs, parts) = (self.jobs as u64, self.parts as u64);
        Memory {
            parts: parts * self.part_bytes,
            blocks: (jobs + 1) * memory_bound(self.codec, self.depth) as u64,
            reading: jobs * (128 << 10) + (1 << 20),
        }
    }
}

//! One stream out of blocks that were compressed independently of each other.
//!
//! [`Scratch::compress`] does the work on one block and may run anywhere; [`Framing`] puts the
//! results together, in order, into a stream that a reader cannot tell from one made in one go:
//!
//! - gzip (RFC 1951, 1952): each block is deflated with the 32 KiB before it as its dictionary
//!   and ends in a sync flush; one header, one empty final block, one trailer whose CRC is
//!   combined from the blocks' CRCs. The size is within some hundredths of a percent of one go.
//! - bzip2: each block is compressed as a stream of its own, of which the bits between header and
//!   footer are joined without gaps; the footer's CRC is computed from the blocks' CRCs.
//! - lz4: one frame of independent blocks of 1 MiB (LZ4 Frame Format Description 1.6).
//! - snappy: one framed stream, chunks of 64 KiB (Snappy's framing format).
//! - xz and zstd: one stream or frame per block, in a row.

use std::io::{self, Write};

use flate2::{Compress, FlushCompress, Status};
use lz4_flex::{
    block::{CompressTable, compress_into_with_table, get_maximum_output_size},
    frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo},
};

use crate::model::compression::{Codec, Compression};

/// What a Snappy stream begins with: chunk type, length 6, the magic.
pub(super) const SNAPPY_START: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// How far back deflate refers.
const WINDOW: usize = 32 << 10;

/// The largest piece that Snappy's framing format allows in one chunk.
const SNAPPY_CHUNK: usize = 64 << 10;

/// The magic numbers of bzip2's stream footer and the length of footer and header in bits.
const BZIP2_FOOTER_MAGIC: u64 = 0x1772_4538_5090;
const BZIP2_FOOTER_BITS: usize = 80;
const BZIP2_HEADER: usize = 4;

/// How much of the stream is compressed in one piece.
pub(super) fn block_size(codec: Codec) -> usize {
    match codec.compression() {
        Compression::None | Compression::Gzip => 512 << 10,
        // One bzip2 block, even when its first pass, which makes 5 bytes of every 4 equal ones,
        // finds nothing else.
        Compression::Bzip2 => {
            (usize::try_from(codec.level()).expect("1 to 9") * 100_000 - 20) / 5 * 4
        }
        Compression::Snappy | Compression::Lz4 => 1 << 20,
        Compression::Xz | Compression::Zstd => 2 << 20,
    }
}

/// A piece of the stream on its way through a compressor.
#[derive(Default)]
pub(super) struct Block {
    /// What came before the piece, then the piece.
    pub(super) input: Vec<u8>,
    /// How much of `input` came before.
    pub(super) history: usize,
    /// The compressed piece.
    pub(super) output: Vec<u8>,
    /// CRC-32 of the piece, for the codecs that need it.
    crc: u32,
}

impl Block {
    /// Empties the block, keeping its buffers and what the next piece needs of `before`.
    pub(super) fn restart(&mut self, codec: Codec, before: &[u8]) {
        self.input.clear();
        self.output.clear();
        if codec.compression() == Compression::Gzip {
            self.input
                .extend_from_slice(&before[before.len().saturating_sub(WINDOW)..]);
        }
        self.history = self.input.len();
    }

    /// The piece itself.
    pub(super) fn piece(&self) -> &[u8] {
        &self.input[self.history..]
    }
}

/// The compressors' state that can be used again for the next block.
pub(super) struct Scratch {
    lz4: CompressTable,
    snappy: snap::raw::Encoder,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            lz4: CompressTable::large(),
            snappy: snap::raw::Encoder::new(),
        }
    }

    /// Compresses the piece of a block into its output.
    pub(super) fn compress(&mut self, codec: Codec, block: &mut Block) -> io::Result<()> {
        match codec.compression() {
            Compression::None => {
                let Block { input, output, .. } = block;
                output.extend_from_slice(input);
                Ok(())
            }
            Compression::Gzip => Self::deflate(codec.level(), block),
            Compression::Snappy => self.snappy(block),
            Compression::Lz4 => self.lz4(block),
            Compression::Bzip2 | Compression::Xz | Compression::Zstd => {
                let Block {
                    input,
                    history,
                    output,
                    ..
                } = block;
                let mut stream = super::Encoder::new(codec, None, output)?;
                stream.write_all(&input[*history..])?;
                stream.finish().map(drop)
            }
        }
    }

    fn deflate(level: i32, block: &mut Block) -> io::Result<()> {
        // A compressor that is reset instead does not always make the same bytes again; making a
        // new one costs a hundredth of what compressing a block costs.
        let level = flate2::Compression::new(super::unsigned(level));
        let mut deflate = Compress::new(level, false);
        let (history, piece) = block.input.split_at(block.history);
        if !history.is_empty() {
            deflate.set_dictionary(history).map_err(io::Error::other)?;
        }
        block.crc = crc32fast::hash(piece);
        // As long as the result can get, so that one call does it and the result does not depend on
        // the room that a used buffer happens to have.
        block.output.reserve(piece.len() + piece.len() / 8 + 64);
        loop {
            let done = usize::try_from(deflate.total_in()).expect("a block fits in memory");
            let status = deflate
                .compress_vec(&piece[done..], &mut block.output, FlushCompress::Sync)
                .map_err(io::Error::other)?;
            let has_room = block.output.len() < block.output.capacity();
            let consumed = deflate.total_in() == piece.len() as u64;
            if consumed && (has_room || status == Status::BufError) {
                return Ok(());
            }
            block.output.reserve(piece.len() / 4 + 64);
        }
    }

    fn lz4(&mut self, block: &mut Block) -> io::Result<()> {
        let Block { input, output, .. } = block;
        output.resize(4 + get_maximum_output_size(input.len()), 0);
        let length = compress_into_with_table(input, &mut output[4..], &mut self.lz4)
            .map_err(io::Error::other)?;
        let head = if length < input.len() {
            output.truncate(4 + length);
            length
        } else {
            // The top bit marks a block that is stored as it is.
            output.truncate(4);
            output.extend_from_slice(input);
            input.len() | 1 << 31
        };
        let head = u32::try_from(head).expect("a block has 1 MiB at most");
        output[..4].copy_from_slice(&head.to_le_bytes());
        Ok(())
    }

    fn snappy(&mut self, block: &mut Block) -> io::Result<()> {
        const COMPRESSED: u32 = 0x00;
        const UNCOMPRESSED: u32 = 0x01;
        let Block { input, output, .. } = block;
        for piece in input.chunks(SNAPPY_CHUNK) {
            let head = output.len();
            output.resize(head + 8 + snap::raw::max_compress_len(piece.len()), 0);
            let length = self
                .snappy
                .compress(piece, &mut output[head + 8..])
                .map_err(io::Error::other)?;
            let (kind, length) = if length < piece.len() - piece.len() / 8 {
                (COMPRESSED, length)
            } else {
                output[head + 8..head + 8 + piece.len()].copy_from_slice(piece);
                (UNCOMPRESSED, piece.len())
            };
            output.truncate(head + 8 + length);
            let length = u32::try_from(length + 4).expect("a chunk has 64 KiB at most");
            output[head..head + 4].copy_from_slice(&(kind | length << 8).to_le_bytes());
            let masked = crc32c::crc32c(piece)
                .rotate_right(15)
                .wrapping_add(0xa282_ead8);
            output[head + 4..head + 8].copy_from_slice(&masked.to_le_bytes());
        }
        Ok(())
    }
}

/// Puts compressed blocks together into one stream.
pub(super) struct Framing {
    codec: Codec,
    crc: crc32fast::Hasher,
    length: u64,
    bits: Bits,
}

impl Framing {
    /// Begins a stream.
    pub(super) fn start(codec: Codec, sink: &mut impl Write) -> io::Result<Self> {
        match codec.compression() {
            Compression::None | Compression::Xz | Compression::Zstd => {}
            // Magic, deflate, no flags, no time, no hint, operating system unknown.
            Compression::Gzip => sink.write_all(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")?,
            Compression::Bzip2 => sink.write_all(&bzip2_header(codec.level()))?,
            Compression::Snappy => sink.write_all(SNAPPY_START)?,
            Compression::Lz4 => sink.write_all(&lz4_header()?)?,
        }
        Ok(Self {
            codec,
            crc: crc32fast::Hasher::new(),
            length: 0,
            bits: Bits::default(),
        })
    }

    /// Adds the next block.
    pub(super) fn add(&mut self, block: &Block, sink: &mut impl Write) -> io::Result<()> {
        match self.codec.compression() {
            Compression::Gzip => {
                let length = block.piece().len() as u64;
                self.crc
                    .combine(&crc32fast::Hasher::new_with_initial_len(block.crc, length));
                self.length += length;
            }
            Compression::Bzip2 => return self.add_bzip2(&block.output, sink),
            _ => {}
        }
        sink.write_all(&block.output)
    }

    /// Ends the stream.
    pub(super) fn end(mut self, sink: &mut impl Write) -> io::Result<()> {
        match self.codec.compression() {
            Compression::None | Compression::Xz | Compression::Zstd | Compression::Snappy => Ok(()),
            Compression::Gzip => {
                // An empty final block with fixed codes; CRC; length modulo 2^32.
                sink.write_all(&[0x03, 0x00])?;
                sink.write_all(&self.crc.finalize().to_le_bytes())?;
                let [a, b, c, d, ..] = self.length.to_le_bytes();
                sink.write_all(&[a, b, c, d])
            }
            Compression::Bzip2 => {
                let mut tail = Vec::new();
                self.bits.put(BZIP2_FOOTER_MAGIC >> 24, 24, &mut tail);
                self.bits.put(BZIP2_FOOTER_MAGIC & 0xff_ffff, 24, &mut tail);
                self.bits.put(u64::from(self.bits.crc), 32, &mut tail);
                self.bits.pad(&mut tail);
                sink.write_all(&tail)
            }
            Compression::Lz4 => sink.write_all(&[0; 4]),
        }
    }

    /// Joins the bits of a stream of one block to what is there.
    fn add_bzip2(&mut self, stream: &[u8], sink: &mut impl Write) -> io::Result<()> {
        let (end, crc) = bzip2_footer(stream)
            .ok_or_else(|| io::Error::other("the bzip2 codec made no stream of one block"))?;
        self.bits.crc = self.bits.crc.rotate_left(1) ^ crc;
        let mut joined = Vec::with_capacity(stream.len());
        for &byte in &stream[BZIP2_HEADER..end / 8] {
            self.bits.put(u64::from(byte), 8, &mut joined);
        }
        let rest = end % 8;
        if rest > 0 {
            self.bits
                .put(u64::from(stream[end / 8] >> (8 - rest)), rest, &mut joined);
        }
        sink.write_all(&joined)
    }
}

/// Bits on their way into bytes, the highest first, and the CRC of the blocks so far.
#[derive(Default)]
struct Bits {
    held: u64,
    count: usize,
    crc: u32,
}

impl Bits {
    /// Appends the lowest `count` bits of a value, 32 at most.
    fn put(&mut self, value: u64, count: usize, bytes: &mut Vec<u8>) {
        self.held = self.held << count | value;
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            bytes.push((self.held >> self.count).to_le_bytes()[0]);
        }
        self.held &= (1 << self.count) - 1;
    }

    fn pad(&mut self, bytes: &mut Vec<u8>) {
        if self.count > 0 {
            self.put(0, 8 - self.count, bytes);
        }
    }
}

/// The bit at which the footer of a bzip2 stream begins, and the CRC that it holds, provided that
/// the stream has one block, whose own CRC is then the same.
fn bzip2_footer(stream: &[u8]) -> Option<(usize, u32)> {
    let block_crc = u32::from_be_bytes(stream.get(10..14)?.try_into().ok()?);
    (0..8).find_map(|padding| {
        let start = (stream.len() * 8).checked_sub(BZIP2_FOOTER_BITS + padding)?;
        let magic = bits_at(stream, start, 48);
        let crc = bits_at(stream, start + 48, 32);
        (start >= 14 * 8 && magic == BZIP2_FOOTER_MAGIC && crc == u64::from(block_crc))
            .then_some((start, block_crc))
    })
}

/// Reads `count` bits from the bit `start` on.
fn bits_at(bytes: &[u8], start: usize, count: usize) -> u64 {
    (start..start + count).fold(0, |value, bit| {
        value << 1 | u64::from(bytes[bit / 8] >> (7 - bit % 8) & 1)
    })
}

fn bzip2_header(level: i32) -> [u8; BZIP2_HEADER] {
    let digit = u8::try_from(level).expect("1 to 9") + b'0';
    [b'B', b'Z', b'h', digit]
}

/// The header of a frame of independent blocks of 1 MiB: an empty frame without its end mark.
fn lz4_header() -> io::Result<Vec<u8>> {
    let frame = FrameInfo::new()
        .block_size(BlockSize::Max1MB)
        .block_mode(BlockMode::Independent);
    let mut header = FrameEncoder::with_frame_info(frame, Vec::new()).finish()?;
    let end = header.split_off(header.len() - 4);
    assert_eq!(end, [0; 4], "an lz4 frame ends in its end mark");
    Ok(header)
}

//! The codecs of the catalog as streams: encoders that are `Write`, decoders that are `Read`.
//!
//! [`Encoder`] makes one stream in the calling thread, which is what a WAL file wants.
//! [`parallel::Encoder`] cuts a long stream into blocks and compresses them on all cores, which
//! is what an archive wants; for every codec that Barman restores a base backup from it still
//! writes *one* member, stream or frame, because Barman's streaming reader stops at the end of
//! the first. [`Decoder`] accepts any number of them, one after the other, and tells a stream
//! that was cut off from one that ended (but Snappy's format has no end mark: whoever reads a
//! tar archive notices there).
//!
//! Memory: one encoder or decoder holds the codec's state and a few blocks: below 1 MiB for
//! gzip, snappy and lz4, 8 MiB for bzip2, 3 to 94 MiB for xz and up to 128 MiB for zstd's highest
//! levels, whatever the length of the stream.
//!
//! A stream that is dropped instead of finished is left incomplete; nothing is written on drop
//! that would make it look whole.

mod blocks;
pub mod parallel;

use std::io::{self, BufRead, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use crate::model::compression::{Codec, Compression};

/// Compresses what is written to it into one stream.
pub struct Encoder<W: Write>(Inner<W>);

enum Inner<W: Write> {
    None(W),
    Gzip(flate2::write::GzEncoder<W>),
    Bzip2(bzip2::write::BzEncoder<W>),
    Snappy(Box<snap::write::FrameEncoder<SnappyStart<W>>>),
    Lz4(Box<FrameEncoder<W>>),
    Xz(liblzma::write::XzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Starts a stream.
    ///
    /// `content_size` is what will be written in all, where it is known: the lz4 frame then
    /// carries it, as Barman's WAL files do, and finishing with another size is an error. Other
    /// codecs have no use for it. lz4 has one effort, whatever the level.
    pub fn new(codec: Codec, content_size: Option<u64>, sink: W) -> io::Result<Self> {
        let level = codec.level();
        Ok(Self(match codec.compression() {
            Compression::None => Inner::None(sink),
            Compression::Gzip => Inner::Gzip(
                flate2::GzBuilder::new().write(sink, flate2::Compression::new(unsigned(level))),
            ),
            Compression::Bzip2 => Inner::Bzip2(bzip2::write::BzEncoder::new(
                sink,
                bzip2::Compression::new(unsigned(level)),
            )),
            Compression::Snappy => {
                let sink = SnappyStart::new(sink)?;
                Inner::Snappy(Box::new(snap::write::FrameEncoder::new(sink)))
            }
            Compression::Lz4 => {
                let frame = FrameInfo::new()
                    .block_size(BlockSize::Max64KB)
                    .block_mode(BlockMode::Linked)
                    .content_size(content_size);
                Inner::Lz4(Box::new(FrameEncoder::with_frame_info(frame, sink)))
            }
            Compression::Xz => Inner::Xz(liblzma::write::XzEncoder::new_stream(
                sink,
                xz_stream(level)?,
            )),
            Compression::Zstd => Inner::Zstd(zstd::stream::write::Encoder::new(sink, level)?),
        }))
    }

    /// Ends the stream and gives the sink back; the sink itself is not flushed.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Inner::None(sink) => Ok(sink),
            Inner::Gzip(encoder) => encoder.finish(),
            Inner::Bzip2(encoder) => encoder.finish(),
            Inner::Snappy(encoder) => match encoder.into_inner() {
                Ok(start) => Ok(start.sink),
                Err(failed) => Err(failed.into_error()),
            },
            Inner::Lz4(encoder) => encoder.finish().map_err(io::Error::from),
            Inner::Xz(encoder) => encoder.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::None(sink) => sink.write(bytes),
            Inner::Gzip(encoder) => encoder.write(bytes),
            Inner::Bzip2(encoder) => encoder.write(bytes),
            Inner::Snappy(encoder) => encoder.write(bytes),
            Inner::Lz4(encoder) => encoder.write(bytes),
            Inner::Xz(encoder) => encoder.write(bytes),
            Inner::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing: a flush in mid-stream would only make the stream longer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that already holds Snappy's stream identifier and drops the one that the codec writes
/// before its first chunk: without this an empty stream would be no stream at all.
struct SnappyStart<W> {
    sink: W,
    skip: usize,
}

impl<W: Write> SnappyStart<W> {
    fn new(mut sink: W) -> io::Result<Self> {
        sink.write_all(blocks::SNAPPY_START)?;
        Ok(Self {
            sink,
            skip: blocks::SNAPPY_START.len(),
        })
    }
}

impl<W: Write> Write for SnappyStart<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len());
        if skipped > 0 {
            self.skip -= skipped;
            return Ok(skipped);
        }
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Decompresses what it reads: any number of members, streams or frames in a row.
pub struct Decoder<R: BufRead>(Outer<R>);

enum Outer<R: BufRead> {
    None(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<R>),
    Snappy(Box<snap::read::FrameDecoder<R>>),
    Lz4(Box<Lz4Decoder<R>>),
    Xz(liblzma::bufread::XzDecoder<R>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
}

impl<R: BufRead> Decoder<R> {
    /// Reads a stream of the given codec.
    pub fn new(compression: Compression, source: R) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::None => Outer::None(source),
            Compression::Gzip => {
                Outer::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source)))
            }
            Compression::Bzip2 => Outer::Bzip2(bzip2::bufread::MultiBzDecoder::new(source)),
            Compression::Snappy => Outer::Snappy(Box::new(snap::read::FrameDecoder::new(source))),
            Compression::Lz4 => Outer::Lz4(Box::new(Lz4Decoder::new(source))),
            Compression::Xz => Outer::Xz(liblzma::bufread::XzDecoder::new_multi_decoder(source)),
            Compression::Zstd => Outer::Zstd(zstd::stream::read::Decoder::with_buffer(source)?),
        }))
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Outer::None(source) => source.read(buffer),
            Outer::Gzip(decoder) => decoder.read(buffer),
            Outer::Bzip2(decoder) => decoder.read(buffer),
            Outer::Snappy(decoder) => decoder.read(buffer),
            Outer::Lz4(decoder) => decoder.read(buffer),
            Outer::Xz(decoder) => decoder.read(buffer),
            Outer::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// lz4 frames in a row, with the truncation check that the codec leaves out: it answers "end" both
/// at the end mark of a frame and where the input stops in front of a block.
struct Lz4Decoder<R: Read> {
    frames: FrameDecoder<Watched<R>>,
    position: FramePosition,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FramePosition {
    /// Before the first frame or behind an end mark, which was at this offset of the input.
    Between(u64),
    Inside,
}

impl<R: Read> Lz4Decoder<R> {
    fn new(source: R) -> Self {
        Self {
            frames: FrameDecoder::new(Watched {
                source,
                count: 0,
                ended: false,
            }),
            position: FramePosition::Between(0),
        }
    }
}

impl<R: Read> Read for Lz4Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let length = self.frames.read(buffer)?;
            if length > 0 {
                self.position = FramePosition::Inside;
                return Ok(length);
            }
            let Watched { count, ended, .. } = *self.frames.get_ref();
            if !ended {
                self.position = FramePosition::Between(count);
                continue;
            }
            if self.position == FramePosition::Between(count) && count > 0 {
                return Ok(0);
            }
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the lz4 stream ends inside a frame",
            ));
        }
    }
}

/// Knows how much was read and whether the end was met.
struct Watched<R> {
    source: R,
    count: u64,
    ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.count += length as u64;
        self.ended |= length == 0 && !buffer.is_empty();
        Ok(length)
    }
}

fn xz_stream(level: i32) -> io::Result<liblzma::stream::Stream> {
    let check = liblzma::stream::Check::Crc64;
    liblzma::stream::Stream::new_easy_encoder(unsigned(level), check).map_err(io::Error::other)
}

fn unsigned(level: i32) -> u32 {
    u32::try_from(level).expect("only zstd has levels below zero")
}

#[cfg(test)]
mod tests;

use proptest::prelude::*;

use super::{parallel::Workers, *};
use crate::model::compression::Level;

const CODECS: [Compression; 7] = Compression::ALL;

fn codec(compression: Compression) -> Codec {
    let level = compression.levels().map(|_| Level::Low);
    Codec::for_wal(compression, level).expect("a word is in range")
}

/// Bytes that compress to about a third, different for every seed.
pub(super) fn sample(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        let run = (state >> 58) as usize;
        bytes.extend_from_slice(&state.to_be_bytes()[..4]);
        bytes.extend(std::iter::repeat_n(state.to_be_bytes()[0], run));
    }
    bytes.truncate(length);
    bytes
}

fn serial(codec: Codec, content: &[u8]) -> Vec<u8> {
    let mut encoder =
        Encoder::new(codec, Some(content.len() as u64), Vec::new()).expect("the codec starts");
    encoder.write_all(content).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn blockwise(codec: Codec, content: &[u8], threads: usize) -> Vec<u8> {
    let workers = Workers::start(threads).expect("threads start");
    let mut encoder =
        parallel::Encoder::new(codec, &workers, 2 * threads, Vec::new()).expect("starts");
    encoder.write_all(content).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn decoded(compression: Compression, stream: &[u8]) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    Decoder::new(compression, stream)?.read_to_end(&mut content)?;
    Ok(content)
}

fn assert_same(compression: Compression, stream: &[u8], content: &[u8], what: &str) {
    let read = decoded(compression, stream)
        .unwrap_or_else(|error| panic!("{compression} {what} {}: {error}", content.len()));
    assert!(
        read == content,
        "{compression} {what} {} bytes",
        content.len()
    );
}

#[test]
fn every_codec_round_trips_at_every_block_boundary() {
    for compression in CODECS {
        let size = blocks::block_size(codec(compression));
        let around = [
            0,
            1,
            65_535,
            65_536,
            65_537,
            size - 1,
            size,
            size + 1,
            2 * size + 7,
        ];
        for length in around {
            let content = sample(length, length as u64);
            let stream = serial(codec(compression), &content);
            assert_same(compression, &stream, &content, "serial");
            let stream = blockwise(codec(compression), &content, 2);
            assert_same(compression, &stream, &content, "parallel");
        }
    }
}

#[test]
fn what_does_not_compress_round_trips_too() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(1_300_000)
    .collect();
    for compression in CODECS {
        let stream = blockwise(codec(compression), &noise, 1);
        assert!(stream.len() < noise.len() / 9 * 10, "{compression}");
        assert_same(compression, &stream, &noise, "noise");
    }
}

#[test]
fn runs_of_four_stay_within_one_bzip2_block() {
    let content: Vec<u8> = (0..1_500_000_usize)
        .map(|at| (at / 4 % 251).to_le_bytes()[0])
        .collect();
    let stream = blockwise(codec(Compression::Bzip2), &content, 2);
    assert_same(Compression::Bzip2, &stream, &content, "runs");
}

#[test]
fn the_stream_does_not_depend_on_the_threads() {
    let content = sample(5_000_000, 7);
    for compression in CODECS {
        let alone = blockwise(codec(compression), &content, 0);
        assert!(
            alone == blockwise(codec(compression), &content, 3),
            "{compression}"
        );
    }
}

/// Barman's streaming readers stop at the end of the first member, stream or frame.
#[test]
fn an_archive_of_many_blocks_is_one_member() {
    let content = sample(3_000_000, 3);
    let read_one = |compression, stream: &[u8]| {
        let mut read = Vec::new();
        match compression {
            Compression::Gzip => flate2::read::GzDecoder::new(stream).read_to_end(&mut read),
            _ => bzip2::read::BzDecoder::new(stream).read_to_end(&mut read),
        }
        .expect("readable");
        read
    };
    for compression in [Compression::Gzip, Compression::Bzip2] {
        let stream = blockwise(codec(compression), &content, 2);
        assert!(read_one(compression, &stream) == content, "{compression}");
    }
}

#[test]
fn members_in_a_row_are_read_to_the_last() {
    let (first, second) = (sample(70_000, 1), sample(70_001, 2));
    for compression in CODECS {
        let mut stream = serial(codec(compression), &first);
        stream.extend(serial(codec(compression), &second));
        assert_same(
            compression,
            &stream,
            &[&first[..], &second].concat(),
            "joined",
        );
    }
}

#[test]
fn a_stream_cut_anywhere_is_an_error() {
    let content = sample(200_000, 5);
    for compression in CODECS {
        if matches!(compression, Compression::None | Compression::Snappy) {
            continue;
        }
        let stream = serial(codec(compression), &content);
        let step = stream.len() / 20;
        for length in (1..stream.len()).step_by(step) {
            let read = decoded(compression, &stream[..length]);
            assert!(read.is_err(), "{compression} cut at {length}");
        }
    }
}

#[test]
fn an_lz4_frame_cut_at_any_block_is_an_error() {
    let stream = serial(codec(Compression::Lz4), &sample(200_000, 5));
    // Magic, descriptor with the content's size, checksum; then blocks, each with its length.
    let mut boundary = 15;
    while boundary < stream.len() {
        for length in [boundary - 1, boundary, boundary + 1, boundary + 4] {
            let read = decoded(Compression::Lz4, &stream[..length.min(stream.len() - 1)]);
            assert!(read.is_err(), "cut at {length}");
        }
        let head = stream[boundary..boundary + 4].try_into().expect("4 bytes");
        boundary += 4 + (u32::from_le_bytes(head) & 0x7fff_ffff) as usize;
    }
    assert_eq!(boundary, stream.len());
}

#[test]
fn an_lz4_frame_carries_the_size_of_its_content() {
    let stream = serial(codec(Compression::Lz4), &sample(1000, 1));
    // FLG: version 01, linked blocks, content size present.
    assert_eq!(stream[4], 0b0100_1000);
    assert_eq!(stream[6..14], 1000_u64.to_le_bytes());
    let mut encoder =
        Encoder::new(codec(Compression::Lz4), Some(2), Vec::new()).expect("the codec starts");
    encoder.write_all(b"abc").expect("memory takes it");
    assert!(encoder.finish().is_err());
}

#[test]
fn xz_uses_crc64() {
    let stream = serial(codec(Compression::Xz), b"abc");
    assert_eq!(stream[7], 0x04);
}

#[test]
fn a_sink_that_fails_fails_the_stream() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let workers = Workers::start(1).expect("threads start");
    let codec = codec(Compression::Zstd);
    let mut encoder = parallel::Encoder::new(codec, &workers, 2, Full).expect("starts");
    let error = encoder
        .write_all(&sample(40 << 20, 1))
        .expect_err("nothing fits");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn however_it_is_written_it_is_read(
        pieces in prop::collection::vec(0_usize..400_000, 0..6),
        which in 0..CODECS.len(),
        threads in 0_usize..3,
    ) {
        let codec = codec(CODECS[which]);
        let workers = Workers::start(threads).expect("threads start");
        let mut parallel =
            parallel::Encoder::new(codec, &workers, 2, Vec::new()).expect("starts");
        let mut content = Vec::new();
        for (seed, length) in pieces.into_iter().enumerate() {
            let piece = sample(length, seed as u64);
            parallel.write_all(&piece).expect("memory takes it");
            content.extend(piece);
        }
        let stream = parallel.finish().expect("memory takes it");
        prop_assert!(decoded(CODECS[which], &stream).expect("readable") == content);
    }
}

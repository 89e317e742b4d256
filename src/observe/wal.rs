//! A server's WAL archive, listed.
//!
//! An archive may hold a million objects, but a million contiguous segments are one [`Run`](crate::model::catalog::Run): pages are turned into
//! runs as they arrive and forgotten. One listing of the directories (of 4 GiB of WAL each) says where to cut the archive into ranges
//! of equal size, which are then listed at once. Memory: the directories' names, at most [`PARALLEL`] pages, and what is returned.
//!
//! A listing is complete or an error. A timeline's history that cannot be read is an error too: without it its ancestors would look
//! like timelines that nothing descends from.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;

use crate::{
    format::{
        history,
        keys::{ObjectKey, WALS, WalObject, wal_stem},
    },
    model::{
        catalog::{Run, WalArchive},
        compression::Compression,
        time::Timestamp,
        timeline::{TimelineHistory, TimelineId},
        wal::{SegmentName, SegmentSize, WalFile},
    },
    pipeline::compress::Decoder,
    store::{Archive, Error, Key, ListRequest, Meaning, ObjectMeta, Operation, StoreExt as _},
};

/// How many ranges are listed at once.
const PARALLEL: usize = 32;

/// How many ranges an archive is cut into at most: two for each that is listed at once, as ranges are not of equal size.
const RANGES_MAX: usize = 2 * PARALLEL;

/// How many directories a range has at least: a page of most stores holds a thousand objects.
const RANGE_OBJECTS_MIN: u64 = 1000;

/// How many histories are read at once.
const HISTORIES_PARALLEL: usize = 16;

/// The longest history, in bytes; a timeline's ancestor takes one line.
const HISTORY_BYTES_MAX: u64 = 16 << 20;

/// What was found in a WAL archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The segments and the histories.
    pub archive: WalArchive,
    /// How many segments are there in more than one compression, each further one counted.
    pub duplicates: u64,
    /// How many `.partial` files there are.
    pub partials: u64,
    /// How many backup history files there are.
    pub backup_histories: u64,
    /// How many objects are no WAL, or have a name that the segment size does not allow.
    pub others: u64,
    /// How many requests it took.
    pub requests: u64,
}

/// Lists a server's whole WAL archive.
pub async fn observe(archive: &Archive, segment_size: SegmentSize) -> Result<WalArchive, Error> {
    Ok(list(archive, segment_size).await?.archive)
}

/// The same, with all that was counted on the way.
pub async fn list(archive: &Archive, segment_size: SegmentSize) -> Result<Listing, Error> {
    let (directories, requests) = directories(archive).await?;
    let mut whole = Tally::new(segment_size);
    whole.listing.requests = requests;
    let bounds = bounds(directories, segment_size);
    let starts = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    let ends = bounds.iter().cloned().map(Some).chain([None]);
    let mut ranges = starts.zip(ends);
    // Each is a task, for it takes longer to read the answers than to wait for them: all cores are needed.
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < PARALLEL
            && let Some((after, until)) = ranges.next()
        {
            let archive = archive.clone();
            tasks.spawn(async move { range(&archive, segment_size, after, until).await });
        }
        match tasks.join_next().await {
            Some(Ok(part)) => whole.absorb(part?),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return whole.finish(archive).await,
        }
    }
}

/// Lists what follows a segment: the later ones of its timeline, and all timelines above. For a look at the end of an archive
/// whose beginning is known.
pub async fn list_after(
    archive: &Archive,
    segment_size: SegmentSize,
    after: SegmentName,
) -> Result<Listing, Error> {
    let stem = archive.prefix(&wal_stem(WalFile::Segment(after)));
    // A slash sorts behind the dot of every extension and before the digits of the next segment.
    let after = Some(format!("{stem}/"));
    let tally = range(archive, segment_size, after, None).await?;
    tally.finish(archive).await
}

/// When a segment was stored, by the store's clock; `None` if it is not there. In several compressions, the first of them counts.
pub async fn stored_at(
    archive: &Archive,
    segment: SegmentName,
    size: SegmentSize,
) -> Result<Option<Timestamp>, Error> {
    let number = segment.number(size);
    let run = Run {
        first: number,
        last: number,
    };
    let is_whole = |meta: &ObjectMeta| match archive.parse(&meta.key) {
        Some(ObjectKey::Wal(wal)) => wal.file == WalFile::Segment(segment),
        _ => false,
    };
    let objects: Vec<_> = archive
        .segments(segment.timeline, run, size)
        .try_collect()
        .await?;
    let whole = objects.iter().filter(|meta| is_whole(meta));
    Ok(whole.map(|meta| meta.last_modified).min())
}

/// Lists what lies behind one key and up to another.
async fn range(
    archive: &Archive,
    segment_size: SegmentSize,
    after: Option<String>,
    until: Option<String>,
) -> Result<Tally, Error> {
    let mut tally = Tally::new(segment_size);
    let mut request = ListRequest {
        start_after: after,
        ..ListRequest::below(archive.prefix(WALS))
    };
    loop {
        let page = archive.store().list(request.clone()).await?;
        let within = |meta: &ObjectMeta| {
            let key = meta.key.as_str();
            until.as_ref().is_none_or(|until| key <= until.as_str())
        };
        let objects = &page.objects;
        let end = objects.partition_point(within);
        tally.page(archive, &objects[..end]);
        match page.next.filter(|_| end == objects.len()) {
            Some(token) => request.token = Some(token),
            None => return Ok(tally),
        }
    }
}

/// Counts the WAL files of a timeline and those above it, or all of them; a file in several compressions counts once.
///
/// Backup histories, `.partial` files and timeline histories count, too, and what lies in another directory than its own.
pub async fn count_files(archive: &Archive, from: Option<TimelineId>) -> Result<u64, Error> {
    let prefix = archive.prefix(WALS);
    let mut objects = archive.store().list_all(&prefix);
    let (mut count, mut segment) = (0, None);
    // The files that belong to one segment are neighbours, though not in the order of their compressions.
    let mut files = BTreeSet::new();
    while let Some(object) = objects.try_next().await? {
        let (name, _) = Compression::split(object.key.file_name());
        let Ok(file) = name.parse::<WalFile>() else {
            continue;
        };
        if segment.replace(file.segment()) != Some(file.segment()) {
            files.clear();
        }
        if from.is_none_or(|from| file.timeline() >= from) && files.insert(file) {
            count += 1;
        }
    }
    Ok(count)
}

/// The directories of the archive, in order, and how many requests it took to find them.
async fn directories(archive: &Archive) -> Result<(Vec<String>, u64), Error> {
    let mut request = ListRequest::children(archive.prefix(WALS));
    let (mut directories, mut requests) = (Vec::new(), 0);
    loop {
        let page = archive.store().list(request.clone()).await?;
        requests += 1;
        directories.extend(page.prefixes);
        match page.next {
            Some(token) => request.token = Some(token),
            None => return Ok((directories, requests)),
        }
    }
}

/// Where to cut: in front of every so-many-th directory.
fn bounds(directories: Vec<String>, segment_size: SegmentSize) -> Vec<String> {
    let least = RANGE_OBJECTS_MIN.div_ceil(segment_size.segments_per_log());
    let least = usize::try_from(least).unwrap_or(usize::MAX);
    let step = directories.len().div_ceil(RANGES_MAX).max(least);
    directories.into_iter().step_by(step).skip(1).collect()
}

/// What is known of an archive so far.
struct Tally {
    segment_size: SegmentSize,
    listing: Listing,
    histories: BTreeMap<TimelineId, (Key, Compression)>,
}

impl Tally {
    fn new(segment_size: SegmentSize) -> Self {
        Self {
            segment_size,
            listing: Listing::default(),
            histories: BTreeMap::new(),
        }
    }

    fn page(&mut self, archive: &Archive, objects: &[ObjectMeta]) {
        self.listing.requests += 1;
        for object in objects {
            match archive.parse(&object.key) {
                Some(ObjectKey::Wal(wal)) => self.file(wal, object),
                _ => self.listing.others += 1,
            }
        }
    }

    fn file(&mut self, wal: WalObject, object: &ObjectMeta) {
        let fits =
            |name: SegmentName| u64::from(name.segment) < self.segment_size.segments_per_log();
        match wal.file {
            WalFile::Segment(name) if fits(name) => {
                let found = &mut self.listing.archive;
                found.insert(name.timeline, name.number(self.segment_size));
                found.objects += 1;
                found.bytes += object.size;
            }
            WalFile::Partial(name) if fits(name) => {
                self.listing.partials += 1;
                self.fragment(name);
            }
            WalFile::BackupHistory(name, _) if fits(name) => {
                self.listing.backup_histories += 1;
                self.fragment(name);
            }
            WalFile::Segment(_) | WalFile::Partial(_) | WalFile::BackupHistory(..) => {
                self.listing.others += 1;
            }
            WalFile::History(timeline) => {
                let place = (object.key.clone(), wal.compression);
                self.histories.insert(timeline, place);
            }
        }
    }

    /// Remembers a segment of which there is perhaps nothing else, so that it goes with its WAL.
    fn fragment(&mut self, name: SegmentName) {
        let fragment = (name.timeline, name.number(self.segment_size));
        self.listing.archive.fragments.insert(fragment);
    }

    /// Adds what was found elsewhere in the archive.
    fn absorb(&mut self, part: Self) {
        let (all, found) = (&mut self.listing, part.listing);
        all.duplicates += found.duplicates;
        all.partials += found.partials;
        all.backup_histories += found.backup_histories;
        all.others += found.others;
        all.requests += found.requests;
        all.archive.absorb(found.archive);
        self.histories.extend(part.histories);
    }

    /// Reads the histories that were found.
    async fn finish(mut self, archive: &Archive) -> Result<Listing, Error> {
        self.listing.requests += self.histories.len() as u64;
        let read = async |(timeline, (key, compression))| {
            let history = read_history(archive, timeline, &key, compression).await?;
            Ok::<_, Error>((timeline, history))
        };
        let histories = stream::iter(self.histories).map(read);
        let histories = histories.buffer_unordered(HISTORIES_PARALLEL).try_collect();
        let found = &mut self.listing.archive;
        found.histories = histories.await?;
        let mut fragments = std::mem::take(&mut found.fragments);
        fragments.retain(|(timeline, segment)| !found.contains(*timeline, *segment));
        found.fragments = fragments;
        let runs = found.runs.values().flatten();
        let segments: u64 = runs.map(crate::model::catalog::Run::segments).sum();
        self.listing.duplicates = found.objects - segments;
        Ok(self.listing)
    }
}

async fn read_history(
    archive: &Archive,
    timeline: TimelineId,
    key: &Key,
    compression: Compression,
) -> Result<TimelineHistory, Error> {
    let stored = archive.store().get_bytes(key).await?;
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| {
        let location = archive.store().location();
        Error::new(Meaning::Other, Operation::Get, location)
            .about(key)
            .because(source)
    };
    let content = decompress(&stored, compression).map_err(|error| unreadable(error.into()))?;
    history::parse(timeline, &content).map_err(|error| unreadable(error.into()))
}

fn decompress(stored: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let decoder = Decoder::new(compression, stored)?;
    decoder.take(HISTORY_BYTES_MAX).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, io::Write as _, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{compression::Codec, time::Timestamp, wal::Lsn},
        pipeline::compress::Encoder,
        store::{PutOptions, Store as _, memory::Memory},
    };

    const HISTORY: &[u8] = b"1\t0/5000100\tno recovery target specified\n";

    async fn archive_of(keys: &[(&str, &[u8])], page_size: usize) -> Archive {
        let now = Timestamp::from_unix_seconds(1_800_000_000).expect("an instant");
        let store = Memory::new(now).with_page_size(page_size);
        for (key, content) in keys {
            let key = Key::verbatim(format!("srv/wals/{key}"));
            let content = bytes::Bytes::copy_from_slice(content);
            let put = store.put(&key, content, PutOptions::default());
            put.await.expect("memory");
        }
        Archive::new(Arc::new(store), &"srv".parse().expect("a name"))
    }

    /// The runs as text: `1: 1-3 5-5; 2: 5-6`.
    fn runs(archive: &WalArchive) -> String {
        let mut text = String::new();
        for (timeline, runs) in &archive.runs {
            let separator = if text.is_empty() { "" } else { "; " };
            write!(text, "{separator}{}:", timeline.number()).expect("text");
            for run in runs {
                write!(text, " {:X}-{:X}", run.first.0, run.last.0).expect("text");
            }
        }
        text
    }

    const MIXED: [(&str, &[u8]); 13] = [
        ("0000000100000000/000000010000000000000001", b"x"),
        ("0000000100000000/000000010000000000000002.gz", b"x"),
        ("0000000100000000/000000010000000000000002.zst", b"xyz"),
        (
            "0000000100000000/000000010000000000000003.00000028.backup",
            b"x",
        ),
        ("0000000100000000/000000010000000000000003", b"x"),
        ("0000000100000000/000000010000000000000005.partial", b"x"),
        ("0000000100000000/000000010000000000000007", b"x"),
        ("0000000100000000/000000010000000000000100", b"x"),
        ("0000000100000000/junk.txt", b"x"),
        ("0000000200000000/000000020000000000000005.lz4", b"x"),
        ("00000002.history", HISTORY),
        ("0000000200000000/0000000200000000000000FF", b"x"),
        ("0000000200000001/000000020000000100000000", b"x"),
    ];

    #[tokio::test]
    async fn an_archive_is_what_its_objects_say_whatever_the_page_size() {
        for page_size in [1, 2, 3, 1000] {
            let archive = archive_of(&MIXED, page_size).await;
            let listing = list(&archive, SegmentSize::DEFAULT).await.expect("memory");
            assert_eq!(runs(&listing.archive), "1: 1-3 7-7; 2: 5-5 FF-100");
            let counts = [
                listing.archive.objects,
                listing.archive.bytes,
                listing.duplicates,
                listing.partials,
                listing.backup_histories,
                listing.others,
            ];
            assert_eq!(counts, [8, 10, 1, 1, 1, 2], "pages of {page_size}");
            let second = TimelineId::new(2).expect("not zero");
            let history = &listing.archive.histories[&second];
            assert_eq!(history.left_at(TimelineId::FIRST), Some(Lsn(0x0500_0100)));
        }
    }

    #[tokio::test]
    async fn a_listing_goes_on_after_a_segment() {
        let archive = archive_of(&MIXED, 2).await;
        let after = async |name: &str| {
            let name = name.parse().expect("a name");
            let listing = list_after(&archive, SegmentSize::DEFAULT, name).await;
            runs(&listing.expect("memory").archive)
        };
        assert_eq!(
            after("000000010000000000000002").await,
            "1: 3-3 7-7; 2: 5-5 FF-100"
        );
        assert_eq!(after("000000010000000000000007").await, "2: 5-5 FF-100");
        assert_eq!(after("0000000200000000000000FF").await, "2: 100-100");
        assert_eq!(after("000000020000000100000000").await, "");
    }

    #[tokio::test]
    async fn a_history_may_be_compressed_and_must_be_readable() {
        for compression in Compression::ALL {
            let codec = Codec::for_wal(compression, None).expect("no level");
            let mut encoder = Encoder::new(codec, None, Vec::new()).expect("an encoder");
            encoder.write_all(HISTORY).expect("memory");
            let stored = encoder.finish().expect("memory");
            let key = format!("00000002.history{}", compression.extension());
            let archive = archive_of(&[(&key, &stored)], 10).await;
            let found = observe(&archive, SegmentSize::DEFAULT)
                .await
                .expect("memory");
            assert_eq!(found.histories.len(), 1, "{compression}");
        }
        for (key, content) in [
            ("00000002.history", b"junk"),
            ("00000002.history.gz", b"junk"),
        ] {
            let archive = archive_of(&[(key, content)], 10).await;
            assert!(
                observe(&archive, SegmentSize::DEFAULT).await.is_err(),
                "{key}"
            );
        }
    }

    #[tokio::test]
    async fn an_empty_archive_takes_few_requests() {
        let archive = archive_of(&[], 1000).await;
        let listing = list(&archive, SegmentSize::DEFAULT).await.expect("memory");
        let expected = Listing {
            requests: 2,
            ..Listing::default()
        };
        assert_eq!(listing, expected);
    }

    #[tokio::test]
    async fn files_are_counted_as_barman_counts_them() {
        let archive = archive_of(&MIXED, 3).await;
        let count = async |timeline: u32| {
            let count = count_files(&archive, TimelineId::new(timeline)).await;
            count.expect("memory")
        };
        // Names that belong together, each once: eleven and a history.
        assert_eq!(
            [
                count(0).await,
                count(1).await,
                count(2).await,
                count(3).await
            ],
            [11, 11, 4, 0]
        );
    }

    #[test]
    fn ranges_are_cut_at_directories_and_worth_their_requests() {
        let cut = |directories: usize, mebibytes: u64| {
            let names = (0..directories)
                .map(|number| format!("{number:08}/"))
                .collect();
            bounds(names, SegmentSize::new(mebibytes << 20).expect("a size")).len()
        };
        assert_eq!(
            [cut(0, 16), cut(1, 16), cut(4, 16), cut(5, 16)],
            [0, 0, 0, 1]
        );
        assert_eq!(cut(3907, 16), 63);
        assert_eq!(cut(250_000, 1024), 63);
        assert_eq!([cut(2, 1), cut(64, 1)], [1, 63]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_segment_is_found_once(
            segments in prop::collection::btree_set((1_u32..4, 0_u64..3000), 0..200),
            page_size in 1_usize..50,
        ) {
            let names: Vec<String> = segments
                .iter()
                .map(|(timeline, number)| {
                    let timeline = TimelineId::new(*timeline).expect("not zero");
                    let size = SegmentSize::new(1 << 30).expect("a size");
                    let name = crate::model::wal::SegmentNumber(*number).name(timeline, size);
                    format!("{}/{name}", name.directory())
                })
                .collect();
            let keys: Vec<(&str, &[u8])> =
                names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let found = runtime.block_on(async {
                let archive = archive_of(&keys, page_size).await;
                observe(&archive, SegmentSize::new(1 << 30).expect("a size")).await
            });
            let found = found.expect("memory");
            prop_assert_eq!(found.objects, segments.len() as u64);
            for (timeline, number) in segments {
                let timeline = TimelineId::new(timeline).expect("not zero");
                prop_assert!(found.contains(timeline, crate::model::wal::SegmentNumber(number)));
            }
        }
    }
}

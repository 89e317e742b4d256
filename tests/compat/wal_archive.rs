//! `barman-cloud-wal-archive`: every codec, level, kind of file, tag and refusal.

use std::io::Read as _;

use barkeep::{
    format::keys::{ObjectKey, WalObject},
    pipeline::compress::Decoder,
};

use crate::{
    case::{Case, cases},
    pair::{Pair, Whose},
    support::cloud::Cloud,
};

/// A segment, its partial and its backup history, a timeline's history.
const NAMES: [&str; 4] = [
    "00000002000000000000000A",
    "00000002000000000000000A.partial",
    "00000002000000000000000A.00000028.backup",
    "00000002.history",
];

const FLAGS: [&str; 13] = [
    "",
    "-z",
    "--gzip --compression-level 1",
    "--gzip --compression-level 99",
    "-j --compression-level=low",
    "--bzip2",
    "--xz --compression-level high",
    "--snappy --compression-level 3",
    "--zstd",
    "--zstd --compression-level -5",
    "--zst --compression-le medium",
    "--lz4",
    "--lz4 --compression-level 16",
];

/// A pair with the files in `{wal}`.
fn pair(cloud: Option<Cloud>) -> Option<Pair> {
    let mut pair = Pair::start(cloud)?;
    let wal = pair.home().join("wal");
    std::fs::create_dir(&wal).expect("a directory");
    for (index, name) in NAMES.iter().enumerate() {
        let content = format!("{name}\n").repeat(10_000 / (index + 1));
        std::fs::write(wal.join(name), content).expect("a file");
    }
    pair.words.insert("{wal}", wal.display().to_string());
    Some(pair)
}

/// What is stored, by key, as it was before it was compressed.
async fn stored(pair: &Pair, whose: Whose) -> Vec<(String, Vec<u8>)> {
    let mut stored = Vec::new();
    for (key, content) in pair.objects(whose, "").await {
        let relative = key.split_once('/').map_or("", |(_, rest)| rest);
        let ObjectKey::Wal(WalObject { compression, .. }) = ObjectKey::parse(relative) else {
            panic!("`{key}` is no WAL");
        };
        let mut decoder = Decoder::new(compression, &content[..]).expect("a stream");
        let mut content = Vec::new();
        decoder.read_to_end(&mut content).expect("a whole stream");
        stored.push((key, content));
    }
    stored
}

/// Runs a case and compares what it left for both.
async fn check(pair: &Pair, case: &Case) {
    pair.run(case);
    let [theirs, ours] = [
        stored(pair, Whose::Theirs).await,
        stored(pair, Whose::Ours).await,
    ];
    let keys = |stored: &[(String, Vec<u8>)]| -> Vec<String> {
        stored.iter().map(|(key, _)| key.clone()).collect()
    };
    assert_eq!(keys(&ours), keys(&theirs), "{}", case.line);
    assert!(ours == theirs, "{}", case.line);
    for (key, _) in &ours {
        let [theirs, ours] = Whose::BOTH.map(|whose| pair.tags(whose, key));
        assert_eq!(ours, theirs, "{}: {key}", case.line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_stores_every_kind_of_file() {
    let Some(pair) = pair(Cloud::moto()) else {
        return;
    };
    for (number, flags) in FLAGS.into_iter().enumerate() {
        for name in NAMES {
            let line =
                format!("barman-cloud-wal-archive {flags} {{url}} srv{number} {{wal}}/{name}");
            pair.run(&cases(&line)[0]);
        }
    }
    let [theirs, ours] = [
        stored(&pair, Whose::Theirs).await,
        stored(&pair, Whose::Ours).await,
    ];
    assert_eq!(ours.len(), FLAGS.len() * NAMES.len());
    assert!(ours == theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_line_ends_alike_and_leaves_the_same() {
    for cloud in Cloud::EACH {
        let Some(mut pair) = pair(cloud()) else {
            return;
        };
        let all = pair.cases(include_str!("cases/wal-archive.txt"));
        for (number, case) in all.iter().enumerate() {
            pair.words.insert("{srv}", format!("srv{number}"));
            check(&pair, case).await;
        }
    }
}

/// Row 5: Barman writes over what is there.
#[tokio::test(flavor = "multi_thread")]
async fn other_content_is_overwritten_only_by_barman_or_if_asked() {
    for cloud in Cloud::EACH {
        let Some(pair) = pair(cloud()) else {
            return;
        };
        overwritten(&pair).await;
    }
}

async fn overwritten(pair: &Pair) {
    let name = NAMES[0];
    let key = format!("srv/wals/0000000200000000/{name}");
    pair.put(&key, "other content").await;
    let line = format!("barman-cloud-wal-archive {{url}} srv {{wal}}/{name}");
    let [_, refused] = pair.run(&cases(&format!("{line} ## 5 code"))[0]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let ours = pair.objects(Whose::Ours, "").await;
    assert_eq!(&ours[&key][..], b"other content");
    assert_eq!(ours.len(), 1, "nothing is put aside");
    let line = format!("BARKEEP_WAL_CONFLICT=overwrite {line}");
    check(pair, &cases(&line)[0]).await;
    // The same content under another extension is enough; Barman stores it once more.
    let line = format!("barman-cloud-wal-archive -z {{url}} srv {{wal}}/{name}");
    pair.run(&cases(&line)[0]);
    let count = async |whose| pair.objects(whose, "").await.len();
    assert_eq!(
        (count(Whose::Theirs).await, count(Whose::Ours).await),
        (2, 1)
    );
}

//! Two contents of one name, and a person who says which is right.

use std::io::Read as _;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    execute::archive_wal::resolve::{Error, Place, Settled, conflicts, take},
    store::{
        Meaning,
        fault::{Effect, Faults, Faulty, Rule},
    },
};

/// A segment that is stored with one content, and was to be archived with another, which begins to differ in its fifth page.
async fn collided(stored: Compression, refused: Compression) -> Scene {
    let scene = scene(refused);
    let key = format!("{DIRECTORY}/{FIRST}{}", stored.extension());
    let (first, second) = contents();
    scene.put(&key, compressed(&first, stored)).await;
    scene.write(FIRST, &second);
    assert!(scene.outcome(FIRST).await.starts_with("Refused: "));
    scene
}

fn contents() -> (Vec<u8>, Vec<u8>) {
    let first = segment(FIRST, OURS, 1);
    let mut second = first.clone();
    second[4 * 8192 + 7] = 2;
    (first, second)
}

fn first() -> WalFile {
    FIRST.parse().expect("a name")
}

/// The digests of what has the place and of what was put aside.
async fn digests(archive: &Archive) -> (Option<String>, Vec<String>) {
    let conflicts = conflicts(archive).await.expect("memory");
    let claims = conflicts.into_iter().flat_map(|conflict| conflict.claims);
    let (mut taken, mut aside) = (None, Vec::new());
    for claim in claims {
        match claim.place {
            Place::Taken => taken = claim.digest,
            Place::Aside => aside.extend(claim.digest),
        }
    }
    (taken, aside)
}

async fn settle(archive: &Archive, digest: &str) -> Result<Settled, Error> {
    take(archive, first(), digest, &CancellationToken::new()).await
}

/// What lies in the archive, and what was put aside, as it was before it was compressed.
fn plain(scene: &Scene) -> [Vec<Vec<u8>>; 2] {
    ["/wals/", "/conflicts/"].map(|place| {
        let all = scene.contents(0).into_iter();
        let there = all.filter(|(key, _)| key.contains(place) && key.contains(FIRST));
        let plain = there.map(|(key, content)| {
            let (_, compression) = Compression::split(&key);
            let mut plain = Vec::new();
            let mut decoder = Decoder::new(compression, &content[..]).expect("a stream");
            decoder.read_to_end(&mut plain).expect("a whole stream");
            plain
        });
        plain.collect()
    })
}

#[tokio::test]
async fn it_is_told_from_where_on_two_contents_differ() {
    let scene = collided(Compression::Zstd, Compression::Gzip).await;
    let told = conflicts(&scene.targets[0].archive).await.expect("memory");
    let places: Vec<Place> = told[0].claims.iter().map(|claim| claim.place).collect();
    assert_eq!(places, [Place::Taken, Place::Aside]);
    let from = told[0].differs_from.expect("both are whole").to_string();
    assert_eq!(from, "0/108000");
}

#[tokio::test]
async fn what_is_right_gets_the_place_and_the_other_is_kept() {
    for stored in [Compression::None, Compression::Zstd] {
        for refused in [Compression::None, Compression::Zstd] {
            let scene = collided(stored, refused).await;
            let archive = scene.targets[0].archive.clone();
            let (taken, aside) = digests(&archive).await;
            let settled = settle(&archive, &aside[0][..8]).await.expect("memory");
            assert!(matches!(settled, Settled::Moved { .. }), "{settled:?}");
            let (first, second) = contents();
            assert!(plain(&scene) == [vec![second], vec![first]]);
            assert_eq!(
                digests(&archive).await,
                (Some(aside[0].clone()), vec![taken.expect("it")])
            );
            assert_eq!(scene.outcome(FIRST).await, "AlreadyThere");
        }
    }
}

#[tokio::test]
async fn what_is_right_and_has_the_place_keeps_it() {
    let scene = collided(Compression::Zstd, Compression::Zstd).await;
    let archive = scene.targets[0].archive.clone();
    let before = scene.contents(0);
    let (taken, _) = digests(&archive).await;
    let settled = settle(&archive, &taken.expect("it")).await.expect("memory");
    assert!(matches!(settled, Settled::AsItWas(_)), "{settled:?}");
    assert!(scene.contents(0) == before);
}

#[tokio::test]
async fn nothing_moves_for_a_digest_that_is_not_one() {
    let scene = collided(Compression::Zstd, Compression::Zstd).await;
    let before = scene.contents(0);
    for digest in ["", "x", "0123456789"] {
        let settled = settle(&scene.targets[0].archive, digest).await;
        assert!(
            matches!(settled, Err(Error::Which { .. })),
            "{digest}: {settled:?}"
        );
    }
    let second = SECOND.parse().expect("a name");
    let never = CancellationToken::new();
    let other = take(&scene.targets[0].archive, second, "x", &never).await;
    assert!(matches!(other, Err(Error::NoConflict(_))));
    assert!(scene.contents(0) == before);
}

#[tokio::test]
async fn stopped_at_any_request_the_name_has_a_content_and_the_same_again_settles_it() {
    let pairs = [Compression::None, Compression::Zstd];
    let effects = [
        Effect::Before(Meaning::Unreachable),
        Effect::After(Meaning::Unreachable),
    ];
    for (stored, effect) in pairs
        .into_iter()
        .flat_map(|one| effects.map(|two| (one, two)))
    {
        for nth in 0.. {
            let scene = collided(stored, Compression::Zstd).await;
            let archive = scene.targets[0].archive.clone();
            let (_, aside) = digests(&archive).await;
            let faults = Faults::default();
            faults.add(Rule::nth(nth, effect).for_ever());
            let store = Faulty::new(Arc::new(scene.stores[0].clone()), faults.clone());
            let failing = target("d0", Arc::new(store)).archive;
            let stopped = settle(&failing, &aside[0]).await;
            let (first, second) = contents();
            let [in_place, elsewhere] = plain(&scene);
            assert!(!in_place.is_empty(), "{effect:?} {nth}");
            for content in [&first, &second] {
                assert!(
                    in_place
                        .iter()
                        .chain(&elsewhere)
                        .any(|there| there == content)
                );
            }
            settle(&archive, &aside[0]).await.expect("memory");
            assert!(plain(&scene)[0] == [second], "{effect:?} {nth}");
            assert!(plain(&scene)[1].contains(&first), "{effect:?} {nth}");
            if stopped.is_ok() {
                break;
            }
        }
    }
}

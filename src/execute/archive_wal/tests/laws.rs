//! What holds whatever lies there and whatever fails.

use proptest::prelude::*;

use super::*;
use crate::store::fault::{Chance, Faults, Faulty};

/// What may lie under a name before.
#[derive(Clone, Copy, Debug)]
enum There {
    Nothing,
    Same,
    Other,
    Damaged,
}

fn there() -> impl Strategy<Value = There> {
    prop_oneof![
        4 => Just(There::Nothing),
        2 => Just(There::Same),
        1 => Just(There::Other),
        1 => Just(There::Damaged),
    ]
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime").block_on(work)
}

/// Small files, which are not checked: what matters here is only which bytes go where.
fn small(compression: Compression) -> (Scene, Vec<u8>) {
    let mut scene = scene(compression);
    scene.options.check = ContentCheck::Off;
    let content = b"not a segment, but nobody looks".to_vec();
    scene.write(FIRST, &content);
    (scene, content)
}

/// The objects that hold the segment, decompressed where that is possible.
fn held(scene: &Scene) -> Vec<Option<Vec<u8>>> {
    use std::io::Read as _;
    let stem = format!("{DIRECTORY}/{FIRST}");
    let contents = scene.contents(0).into_iter();
    let held = contents.filter_map(|(key, stored)| {
        let compression = Compression::from_extension(key.strip_prefix(&stem)?)?;
        let mut content = Vec::new();
        let decoder = Decoder::new(compression, &stored[..]);
        let read = decoder.and_then(|mut decoder| decoder.read_to_end(&mut content));
        Some(read.ok().map(|_| content))
    });
    held.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_there_stays_and_success_means_one_content(
        codec in 0_usize..7,
        there in prop::array::uniform7(there()),
    ) {
        let (scene, content) = small(Compression::ALL[codec]);
        let before = block_on(async {
            for (compression, there) in Compression::ALL.into_iter().zip(there) {
                let key = format!("{DIRECTORY}/{FIRST}{}", compression.extension());
                match there {
                    There::Nothing => {}
                    There::Same => scene.put(&key, compressed(&content, compression)).await,
                    There::Other => scene.put(&key, compressed(b"other", compression)).await,
                    There::Damaged => scene.put(&key, b"?".to_vec()).await,
                }
            }
            scene.contents(0)
        });
        let outcome = block_on(scene.archive(FIRST));
        let after = scene.contents(0);
        prop_assert!(before.iter().all(|(key, stored)| after.get(key) == Some(stored)));
        match outcome {
            Ok(_) => {
                let held = held(&scene);
                prop_assert!(!held.is_empty());
                prop_assert!(held.iter().all(|held| held.as_ref() == Some(&content)));
            }
            Err(error) => {
                prop_assert_eq!(error.kind(), Kind::Refused);
                let added = after.keys().filter(|key| !before.contains_key(*key));
                let aside = added.filter(|key| key.starts_with("srv/barkeep/conflicts/")).count();
                prop_assert_eq!((aside, after.len()), (1, before.len() + 1));
            }
        }
    }

    #[test]
    fn trying_again_ends_in_success_once_nothing_fails(seed: u64, one_in in 2_u64..5) {
        let (mut scene, content) = small(Compression::Gzip);
        let faults = Faults::default();
        let store = Faulty::new(Arc::new(scene.stores[0].clone()), faults.clone());
        scene.targets[0] = target("d0", Arc::new(store));
        faults.set_chance(Some(Chance { seed, one_in }));
        block_on(async {
            for _ in 0..5 {
                if scene.archive(FIRST).await.is_ok() {
                    // PostgreSQL believes it, so it must be so.
                    assert_eq!(held(&scene), [Some(content.clone())]);
                }
            }
            faults.clear();
            assert!(scene.archive(FIRST).await.is_ok());
            assert_eq!(held(&scene), [Some(content)]);
        });
    }
}

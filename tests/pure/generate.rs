//! Worlds of every kind, as text: what fails can be read, and pasted into a table of tests.

use proptest::prelude::*;

use crate::model::scene::scenes;

/// A server with up to a dozen backups of every kind, and whatever else may be so.
pub(crate) fn worlds() -> impl Strategy<Value = String> {
    let facts = prop::collection::vec(fact(), 0..5);
    (configuration(), scenes(), facts).prop_map(|(configuration, scene, facts)| {
        let catalog = scene.split_once('|').map_or("", |(_, catalog)| catalog);
        format!("{configuration} | {catalog} | {}", facts.join(" | "))
    })
}

fn configuration() -> impl Strategy<Value = String> {
    let retention = prop_oneof![
        Just(String::new()),
        (0_u32..4).prop_map(|count| format!("retention={count}x")),
        (0_u32..40).prop_map(|days| format!("retention={days}d")),
    ];
    let words = prop::sample::subsequence(
        vec![
            "schedule=0_2_*_*_*",
            "window=11:00-13:00",
            "window=01:00-06:00",
            "splay=2h",
            "catchup=skip",
            "failed=7d",
            "orphans=14d",
            "lag=5m",
            "budget=2/25",
            "budget=5/10",
            "rule=month:12",
            "grace=24h",
            "manage=exact",
            "rule=week:4:full",
            "state=retired",
            "check=off",
        ],
        0..10,
    );
    (retention, 1_u32..4, words)
        .prop_map(|(retention, min, words)| format!("{retention} min={min} {}", words.join(" ")))
}

/// The age of a backup, the same ones as in the scenes; small ones are more likely to be those of one.
fn age() -> impl Strategy<Value = i32> {
    prop_oneof![3 => -1_i32..20, 1 => 20_i32..120]
}

fn fact() -> impl Strategy<Value = String> {
    let life = prop::sample::select(vec![
        "dead",
        "alive",
        "dead stopped",
        "elsewhere",
        "elsewhere silent:20m",
        "elsewhere silent:20m stopped",
    ]);
    let target = prop::sample::select(vec!["full", "standalone"]);
    let postgres = prop::sample::select(vec![
        "none",
        "remote",
        "standby",
        "sys:2",
        "v:19",
        "tl:2 archived:1009",
        "archived:1020",
        "ready:1h",
        "failing:2h",
        "off",
        "clock:10m",
    ]);
    let other = prop::sample::select(vec![
        "store 10m",
        "store 1m",
        "identity 2",
        "nothing",
        "lose destination",
        "orphan 20d named:lost+found",
        "orphan 20d keep",
        "tombstone 3h of:gone",
        "baseline none",
        "baseline retention=30d",
        "baseline gone:x",
        "baseline rule=year:2 min=2",
        "baseline deleted:x@3h",
        "tombstone 2d of:gone",
    ]);
    prop_oneof![
        (age(), life).prop_map(|(age, life)| format!("attempt {age}d {life}")),
        (age(), 0_i32..4).prop_map(|(of, at)| format!("mark {of}d {at}d")),
        (age(), age()).prop_map(|(at, of)| format!("tombstone {at}d of:{of}d")),
        (age(), target.clone(), -30_i32..30)
            .prop_map(|(age, target, until)| format!("record {age}d {target} until:{until}d")),
        (age(), target).prop_map(|(age, target)| format!("declare {age}d {target}")),
        (age(), lock()).prop_map(|(age, lock)| format!("locked {age}d {lock}")),
        (880_i32..1010, 0_i32..30, lock()).prop_map(|(first, more, lock)| format!(
            "locked wal:1:{first}-{} {lock}",
            first + more
        )),
        (1_i32..40).prop_map(|age| format!("orphan {age}d")),
        (1_i32..40, 1_i32..40).prop_map(|(at, of)| format!("orphan {of}d | upload {at}d of:{of}d")),
        postgres.prop_map(|word| format!("postgres {word}")),
        other.prop_map(str::to_owned),
        lost().prop_map(|word| format!("lose {word}")),
    ]
}

fn lock() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["until:-3d", "until:3d", "held", "unknown"])
}

/// What can be unknown.
pub(crate) fn lost() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "catalog",
        "attempts",
        "tombstones",
        "keeps",
        "identity",
        "clock",
        "marks",
        "baseline",
        "uploads",
        "locks",
        "server",
    ])
}

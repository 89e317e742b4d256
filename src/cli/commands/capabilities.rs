//! `check --probe`: what a destination's store can do, what that means, and the mode in which barkeep works there.

use crate::{
    cli::commands::check::{Found, bad},
    failure::Failure,
    format::keys::{ObjectKey, OwnObject},
    model::{
        desired::{Checksums, Destination, ProviderOptions, S3Options},
        lock::{BucketRetention, Locking, Remains},
        time::Span,
    },
    store::{
        Archive, Error, Limits, Meaning, open,
        probe::{Ability, Capabilities, probe as try_out},
    },
};

/// What was looked at, and what was found.
type Rows = Vec<(&'static str, Found)>;

const ONE_WRITER: &str = "let one host alone write there; leases are off, and two hosts could overwrite each other's WAL";

/// Tries out a destination below the catalog of one server.
pub(super) async fn probe(destination: &Destination, archive: &Archive) -> Rows {
    let place = ObjectKey::Own(OwnObject::Other("probe/".to_owned()));
    let prefix = archive.key(&place);
    let store = archive.store();
    let refused = match try_out(&**store, prefix.as_str()).await {
        Ok(found) => return rows(&found, &store.limits()),
        Err(error) => error,
    };
    if let Some(found) = without_checksums(destination, prefix.as_str(), &refused).await {
        return found;
    }
    let failure = Failure::of(refused.kind(), &refused);
    let mend = "`barkeep permissions` prints what a writer needs";
    vec![("writing", bad(&failure, mend))]
}

/// Whether it was the checksums that were refused.
async fn without_checksums(
    destination: &Destination,
    prefix: &str,
    refused: &Error,
) -> Option<Rows> {
    let may_be_it = matches!(
        refused.meaning,
        Meaning::Unsupported | Meaning::Checksum | Meaning::Other
    );
    let ProviderOptions::S3(options) = &destination.provider else {
        return None;
    };
    if !may_be_it || options.checksums == Checksums::WhenRequired {
        return None;
    }
    let provider = ProviderOptions::S3(S3Options {
        checksums: Checksums::WhenRequired,
        ..options.clone()
    });
    let without = Destination {
        provider,
        ..destination.clone()
    };
    let store = open(&without).await.ok()?;
    let found = try_out(&*store, prefix).await.ok()?;
    let failure = Failure::of(refused.kind(), refused);
    let mend = format!(
        "set `checksums = \"when_required\"` in `[destinations.{}.s3]`",
        destination.name
    );
    let mut rows = rows(&found, &store.limits());
    rows.insert(0, ("checksums", bad(&failure, &mend)));
    Some(rows)
}

fn rows(found: &Capabilities, limits: &Limits) -> Rows {
    let mut rows = vec![
        (
            "creating once",
            ability(
                &found.create_once,
                "what exists is not created again",
                ONE_WRITER,
            ),
        ),
        (
            "compare and swap",
            ability(
                &found.compare_and_swap,
                "what has changed is not replaced",
                ONE_WRITER,
            ),
        ),
        (
            "overwriting",
            ability(
                &found.overwriting,
                "objects can be replaced",
                "keeps and barkeep's own records need a place where they can be replaced",
            ),
        ),
    ];
    let kept = match found.checksum {
        Some(algorithm) => format!("{algorithm}, verified by the store"),
        None => "none".to_owned(),
    };
    rows.push(("checksum", Found::Good { detail: kept }));
    rows.push(("parts", parts(&found.parts, limits)));
    rows.push(("deleting", deleting(found)));
    match &found.retention {
        Ok(retention) => rows.extend(retained(retention)),
        Err(why) => rows.push(("retention", unknown(why))),
    }
    rows.push((
        "mode",
        Found::Good {
            detail: mode(found),
        },
    ));
    rows
}

fn ability(ability: &Ability, good: &str, mend: &str) -> Found {
    match ability {
        Ability::Has => Found::Good {
            detail: good.to_owned(),
        },
        Ability::Lacks(why) => Found::Limited {
            why: why.clone(),
            mend: mend.to_owned(),
        },
        Ability::Unknown(why) => unknown(why),
    }
}

fn unknown(why: &str) -> Found {
    Found::Limited {
        why: format!("unknown: {why}"),
        mend: "try again".to_owned(),
    }
}

fn parts(found: &Ability, limits: &Limits) -> Found {
    let (least, most) = (limits.part_bytes_min >> 10, limits.part_bytes_max >> 20);
    let good = format!(
        "from {least} KiB to {most} MiB, at most {} of them",
        limits.parts_max
    );
    let mend = "base backups cannot be stored there: use another store";
    ability(found, &good, mend)
}

fn deleting(found: &Capabilities) -> Found {
    let good = match found.delete_batch_max {
        0 | 1 => "one by one".to_owned(),
        many => format!("up to {many} in one request"),
    };
    let mend = "the objects of the probe are still there; `barkeep permissions` prints what \
                deleting needs";
    ability(&found.deleting, &good, mend)
}

fn retained(retention: &BucketRetention) -> Rows {
    let good = |detail: String| Found::Good { detail };
    let versions = match &retention.remains {
        Remains::Nothing => good("none: what is deleted is gone".to_owned()),
        Remains::Version { kept: None } => {
            good("what is deleted stays as an older version until somebody removes it".to_owned())
        }
        Remains::Version { kept: Some(kept) } => good(format!(
            "what is deleted stays as an older version for {}",
            Span(*kept)
        )),
        Remains::SoftDeleted { kept } => good(format!(
            "what is deleted can be brought back for {}",
            Span(*kept)
        )),
        Remains::Unknown(why) => unknown(why),
    };
    let locks = match &retention.locking {
        Locking::Off => good("off".to_owned()),
        Locking::On { default: None } => good("on, nothing is locked by default".to_owned()),
        Locking::On {
            default: Some(default),
        } => {
            let period = default
                .period
                .map_or("a time".to_owned(), |period| Span(period).to_string());
            good(format!("on, {} for {period} by default", default.mode))
        }
        Locking::Unknown(why) => unknown(why),
    };
    vec![("versions", versions), ("object lock", locks)]
}

/// How barkeep works there.
fn mode(found: &Capabilities) -> String {
    let is_conditional =
        found.create_once == Ability::Has && found.compare_and_swap == Ability::Has;
    let writes = if is_conditional {
        "conditional writes, leases"
    } else {
        "plain writes, no leases"
    };
    let checks = match found.checksum {
        Some(_) => "checksums",
        None => "no checksums",
    };
    let deletes = match found.delete_batch_max {
        0 | 1 => "single deletes",
        _ => "batch deletes",
    };
    format!("{writes}, {checks}, {deletes}")
}

//! Waiting until the WAL that a backup needs is where the backup is.
//!
//! PostgreSQL is not asked to wait, because it knows only that its archiver was content. What counts is what can be read in the
//! destination: that is asked, segment after segment, until all are there or the deadline has come. A question that gets no answer
//! is asked again.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::chain,
    format::keys::{ObjectKey, wal_stem},
    model::{
        progress::{Event, Progress},
        record::Stopped,
        wal::{SegmentName, SegmentSize, WalFile},
    },
    store::{self, Archive, ListRequest},
};

/// How often the destination is asked.
const POLL: Duration = Duration::from_millis(50);

/// Whoever knows which segments are in the destination.
#[async_trait]
pub trait WalArrival: Send + Sync {
    /// Whether this whole segment can be read there.
    async fn has_arrived(&self, segment: SegmentName) -> store::Result<bool>;
}

#[async_trait]
impl WalArrival for Archive {
    async fn has_arrived(&self, segment: SegmentName) -> store::Result<bool> {
        // Under whatever extension; beside it may lie its partial and its backup history.
        let prefix = self.prefix(&wal_stem(WalFile::Segment(segment)));
        let page = self.store().list(ListRequest::below(prefix)).await?;
        let is_segment = |key| match self.parse(key) {
            Some(ObjectKey::Wal(object)) => object.file == WalFile::Segment(segment),
            _ => false,
        };
        Ok(page.objects.iter().any(|object| is_segment(&object.key)))
    }
}

/// The segments that make a backup consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) begin: SegmentName,
    pub(super) end: SegmentName,
    pub(super) size: SegmentSize,
}

impl Needed {
    pub(super) fn of(stopped: &Stopped, size: SegmentSize) -> Self {
        Self {
            begin: stopped.begin_wal,
            end: stopped.end_wal,
            size,
        }
    }

    /// The segments in order, each with the names under which it may be found: a standby may have changed to a newer timeline.
    fn segments(self) -> impl Iterator<Item = Vec<SegmentName>> {
        let (first, last) = (self.begin.number(self.size), self.end.number(self.size));
        (first.0..=last.0).map(move |number| {
            let name =
                |timeline| crate::model::wal::SegmentNumber(number).name(timeline, self.size);
            let mut names = vec![name(self.end.timeline)];
            if self.begin.timeline != self.end.timeline && number < last.0 {
                names.push(name(self.begin.timeline));
            }
            names
        })
    }
}

/// How long to wait, and who may end it.
pub(super) struct Patience<'a> {
    pub(super) limit: Duration,
    pub(super) cancel: &'a CancellationToken,
    pub(super) progress: &'a dyn Progress,
}

/// Waits for all segments; answers the first one that is missing when patience ends. Each is looked for at least once.
pub(super) async fn wait(
    needed: Needed,
    wal: &dyn WalArrival,
    patience: &Patience<'_>,
) -> Option<SegmentName> {
    let deadline = Instant::now() + patience.limit;
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = false;
    for names in needed.segments() {
        while !has_any(&names, wal).await {
            if Instant::now() >= deadline || patience.cancel.is_cancelled() {
                return names.first().copied();
            }
            if !reported {
                patience.progress.report(Event::Waiting(names[0]));
                reported = true;
            }
            tokio::select! {
                biased;
                () = patience.cancel.cancelled() => {}
                _ = ticks.tick() => {}
            }
        }
    }
    None
}

async fn has_any(names: &[SegmentName], wal: &dyn WalArrival) -> bool {
    for name in names {
        match wal.has_arrived(*name).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::debug!(segment = %name, error, "cannot look for a segment");
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::progress::Unwatched;

    /// Has each segment the second time it is asked for, up to a last one.
    struct Slow {
        last: &'static str,
        asked: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl WalArrival for Slow {
        async fn has_arrived(&self, segment: SegmentName) -> store::Result<bool> {
            let name = segment.to_string();
            let mut asked = self.asked.lock().expect("no panic");
            asked.push(name.clone());
            let count = asked.iter().filter(|other| **other == name).count();
            Ok(count > 1 && name.as_str() <= self.last)
        }
    }

    async fn missing(last: &'static str) -> Option<String> {
        let segment = |name: &str| name.parse().expect("a name");
        let needed = Needed {
            begin: segment("0000000100000000000000FE"),
            end: segment("000000010000000100000000"),
            size: SegmentSize::DEFAULT,
        };
        let wal = Slow {
            last,
            asked: Mutex::default(),
        };
        let cancel = CancellationToken::new();
        let patience = Patience {
            limit: Duration::from_secs(10),
            cancel: &cancel,
            progress: &Unwatched,
        };
        let missing = wait(needed, &wal, &patience).await;
        missing.map(|segment| segment.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn every_segment_from_begin_to_end_is_waited_for() {
        assert_eq!(missing("000000010000000100000000").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_deadline_the_first_missing_segment_is_named() {
        let missing = missing("0000000100000000000000FE").await;
        assert_eq!(missing.as_deref(), Some("0000000100000000000000FF"));
    }
}

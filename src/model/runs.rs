//! Sets of segment numbers, held as disjoint runs.
//!
//! What may go and what is there are both such sets; a plan needs their intersection. The size is
//! that of the gaps, whatever the number of segments.

use super::{catalog::Run, wal::SegmentNumber};

/// A set of segment numbers of one timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// Every segment.
    pub fn all() -> Self {
        Self(vec![Run {
            first: SegmentNumber(0),
            last: SegmentNumber(u64::MAX),
        }])
    }

    /// Every segment before this one.
    pub fn below(limit: SegmentNumber) -> Self {
        let mut runs = Self::all();
        runs.remove(Run {
            first: limit,
            last: SegmentNumber(u64::MAX),
        });
        runs
    }

    /// The runs, ascending and disjoint.
    pub fn iter(&self) -> impl Iterator<Item = Run> {
        self.0.iter().copied()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a segment is in it.
    pub fn contains(&self, segment: SegmentNumber) -> bool {
        self.iter()
            .any(|run| run.first <= segment && segment <= run.last)
    }

    /// Takes a run out.
    pub fn remove(&mut self, gone: Run) {
        let rest = |run: Run| {
            let before = (run.first < gone.first).then(|| Run {
                first: run.first,
                last: run.last.min(SegmentNumber(gone.first.0 - 1)),
            });
            let after = (run.last > gone.last).then(|| Run {
                first: run.first.max(gone.last.next()),
                last: run.last,
            });
            before.into_iter().chain(after)
        };
        self.0 = self.0.drain(..).flat_map(rest).collect();
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Self) {
        *self = self.iter().chain(other.iter()).collect();
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let overlap = |one: Run, two: Run| {
            let first = one.first.max(two.first);
            let last = one.last.min(two.last);
            (first <= last).then_some(Run { first, last })
        };
        let pairs = self
            .iter()
            .flat_map(|one| other.iter().map(move |two| (one, two)));
        Self(pairs.filter_map(|(one, two)| overlap(one, two)).collect())
    }
}

impl FromIterator<Run> for Runs {
    /// Takes runs in any order; those that overlap or touch become one.
    fn from_iter<T: IntoIterator<Item = Run>>(runs: T) -> Self {
        let mut runs: Vec<Run> = runs.into_iter().collect();
        runs.sort_unstable();
        let mut joined: Vec<Run> = Vec::new();
        for run in runs {
            match joined.last_mut() {
                Some(last) if run.first.0 <= last.last.0.saturating_add(1) => {
                    last.last = last.last.max(run.last);
                }
                _ => joined.push(run),
            }
        }
        Self(joined)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs() -> impl Strategy<Value = Vec<Run>> {
        let run = (0_u64..30, 0_u64..8).prop_map(|(first, length)| Run {
            first: SegmentNumber(first),
            last: SegmentNumber(first + length),
        });
        prop::collection::vec(run, 0..8)
    }

    proptest! {
        #[test]
        fn operations_are_those_of_sets(one in runs(), two in runs()) {
            let (a, b): (Runs, Runs) = (one.into_iter().collect(), two.iter().copied().collect());
            let mut union = a.clone();
            union.extend(&b);
            let mut rest = a.clone();
            for run in two {
                rest.remove(run);
            }
            let both = a.intersection(&b);
            for number in (0..40).map(SegmentNumber) {
                let (in_a, in_b) = (a.contains(number), b.contains(number));
                prop_assert_eq!(union.contains(number), in_a || in_b);
                prop_assert_eq!(rest.contains(number), in_a && !in_b);
                prop_assert_eq!(both.contains(number), in_a && in_b);
            }
            let ends: Vec<_> = union.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].last.0 + 1 < pair[1].first.0));
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_exception() {
        assert!(Runs::below(SegmentNumber(0)).is_empty());
        assert!(Runs::all().contains(SegmentNumber(u64::MAX)));
        let mut none = Runs::all();
        none.remove(Run {
            first: SegmentNumber(0),
            last: SegmentNumber(u64::MAX),
        });
        assert!(none.is_empty());
    }
}

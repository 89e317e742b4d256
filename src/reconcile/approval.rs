//! What somebody has to say yes to: a plan that goes further than a policy may by itself, and a prefix that no run has seen.
//!
//! Both are shown as they would be, as a plan with a digest, and carried out only as long as that digest is the same. The word is written
//! down, as the baseline, before anything is done on it.

use std::collections::BTreeMap;

use super::{Activation, Ports, exclusion::Rights, exclusion::wanted, once};
use crate::{
    execute::Outcome,
    execute::attempt::Ended,
    failure::Failure,
    model::{
        desired::Server,
        names::DestinationName,
        observed::{Knowledge, Observed},
        reason::Waiting,
        record::Baseline,
    },
    plan::{
        baseline::{Word, assumed, baselines},
        guard::{Asked, Refusal},
    },
};

/// The records that somebody's word becomes.
pub type Baselines = BTreeMap<DestinationName, Baseline>;

/// What became of a plan that was approved.
#[derive(Debug)]
pub enum Approved {
    /// It was carried out.
    Done {
        /// Its short steps.
        outcomes: Vec<Outcome>,
        /// Its attempt.
        attempts: Vec<Ended>,
        /// What the guard refused all the same.
        refusals: Vec<Refusal>,
    },
    /// It is not the plan any more.
    Stale,
    /// A right was not to be had.
    Missing(Waiting),
}

impl Ports {
    /// What a server's plan becomes when the budget does not hold it up, nor a policy that was shortened.
    async fn unheld(&self, server: &Server, seen: &Observed) -> (Activation, Baselines) {
        let mut lifted = server.clone();
        for entry in &mut lifted.entries {
            entry.deletes.backups_max = usize::MAX;
            entry.deletes.percent_max = 100;
        }
        let words = baselines(server, seen, self.clock.now(), Word::Approved);
        let activation = self.decide(&lifted, assumed(seen, &words)).await;
        (activation, words)
    }

    /// What a server's plan becomes when all that is there is adopted as it is, and the records that do so. Only in one destination, if
    /// one is named.
    pub async fn adopted(
        &self,
        server: &Server,
        seen: &Observed,
        only: Option<&DestinationName>,
    ) -> (Activation, Baselines) {
        let mut words = baselines(server, seen, self.clock.now(), Word::Adopted);
        words.retain(|destination, _| only.is_none_or(|only| only == destination));
        let activation = self.decide(server, assumed(seen, &words)).await;
        (activation, words)
    }

    /// Writes down what somebody has said yes to.
    pub async fn put_on_record(
        &self,
        server: &Server,
        seen: &Observed,
        words: &Baselines,
    ) -> Result<(), Failure> {
        once::record(&once::opened(self, server), seen, words).await
    }

    /// Carries out the plan of a server beyond what the policy may by itself, if it still has this digest.
    pub async fn carry_out_approved(
        &self,
        server: &Server,
        digest: &str,
    ) -> Result<Approved, Failure> {
        let seen = self.plan(server).await;
        if seen.plan.digest() != digest {
            return Ok(Approved::Stale);
        }
        let (approved, _) = self.unheld(server, &seen.observed).await;
        let rights = Rights::insist(self, server, wanted(&approved.plan.steps)).await;
        let mut rights = match rights {
            Ok(rights) => rights,
            Err(waiting) => return Ok(Approved::Missing(waiting)),
        };
        let done = self.under(server, digest, &mut rights).await;
        rights.release().await;
        done
    }

    async fn under(
        &self,
        server: &Server,
        digest: &str,
        rights: &mut Rights,
    ) -> Result<Approved, Failure> {
        let seen = self.plan(server).await;
        if seen.plan.digest() != digest {
            return Ok(Approved::Stale);
        }
        let (approved, words) = self.unheld(server, &seen.observed).await;
        // The guard is told what is written down, not what is about to be.
        let observed = with_baselines_of(approved.observed, &seen.observed);
        let guarded = self.guard(approved.plan, server, &observed, Asked::Approved);
        self.put_on_record(server, &observed, &words).await?;
        let (outcomes, attempts) = once::carry_out(self, server, &guarded, &observed, rights).await;
        Ok(Approved::Done {
            outcomes,
            attempts,
            refusals: guarded.refusals().to_vec(),
        })
    }
}

fn with_baselines_of(mut observed: Observed, other: &Observed) -> Observed {
    for (destination, stored) in &mut observed.destinations {
        let other = other.destinations.get(destination);
        stored.baseline = other.map_or(Knowledge::Absent, |other| other.baseline.clone());
    }
    observed
}

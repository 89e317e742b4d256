//! A plan in a file: saved, shown, applied exactly, once.
//!
//! What is applied is what was reviewed. The file holds the fingerprint of each catalog that the plan was made from; if one has changed
//! since, nothing is done. Applying a plan changes the catalog, so that it cannot be applied twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Plan, digest::fingerprint};
use crate::model::{
    names::{DestinationName, ServerName},
    observed::Observed,
};

/// The version of the file's format.
const FORMAT: u32 = 1;

/// The contents of a plan file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    format: u32,
    /// The plans, one for each server.
    pub plans: Vec<Plan>,
    fingerprints: BTreeMap<ServerName, BTreeMap<DestinationName, String>>,
    digests: BTreeMap<ServerName, String>,
}

/// Why a saved plan is not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Another version of barkeep wrote it.
    #[error("the plan file has format {0}; this barkeep reads format {FORMAT}")]
    Format(u32),
    /// It was changed by hand.
    #[error("the plan for `{0}` is not the one that was saved")]
    Edited(ServerName),
    /// The catalog is no longer the one that was planned for.
    #[error("`{server}` in `{destination}` has changed since the plan was made; plan again")]
    Changed {
        /// The server.
        server: ServerName,
        /// The destination.
        destination: DestinationName,
    },
}

impl SavedPlan {
    /// Puts plans and the fingerprints of what they were made from into one value.
    pub fn new(planned: Vec<(Plan, &Observed)>) -> Self {
        let mut saved = Self {
            format: FORMAT,
            plans: Vec::new(),
            fingerprints: BTreeMap::new(),
            digests: BTreeMap::new(),
        };
        for (plan, observed) in planned {
            saved
                .fingerprints
                .insert(plan.server.clone(), fingerprints(observed));
            saved.digests.insert(plan.server.clone(), plan.digest());
            saved.plans.push(plan);
        }
        saved
    }

    /// Whether the file is one that this program wrote and nobody changed.
    pub fn check(&self) -> Result<(), Stale> {
        if self.format != FORMAT {
            return Err(Stale::Format(self.format));
        }
        let edited = |plan: &&Plan| self.digests.get(&plan.server) != Some(&plan.digest());
        match self.plans.iter().find(edited) {
            Some(plan) => Err(Stale::Edited(plan.server.clone())),
            None => Ok(()),
        }
    }

    /// Whether a server's catalogs are still those that were planned for.
    pub fn still_holds(&self, observed: &Observed) -> Result<(), Stale> {
        let now = fingerprints(observed);
        let saved = self.fingerprints.get(&observed.server);
        let changed = saved
            .into_iter()
            .flatten()
            .find(|(name, print)| now.get(*name) != Some(print));
        match changed {
            Some((destination, _)) => Err(Stale::Changed {
                server: observed.server.clone(),
                destination: destination.clone(),
            }),
            None => Ok(()),
        }
    }
}

fn fingerprints(observed: &Observed) -> BTreeMap<DestinationName, String> {
    let each = observed.destinations.iter();
    let print = |stored, name| fingerprint(name, stored, &observed.postgres);
    each.map(|(name, stored)| (name.clone(), print(stored, name)))
        .collect()
}

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

    /// Whether a server's catalogs are still those that were planned for, everywhere where its plan has steps.
    pub fn still_holds(&self, observed: &Observed) -> Result<(), Stale> {
        let server = &observed.server;
        let now = fingerprints(observed);
        let none = BTreeMap::new();
        let saved = self.fingerprints.get(server).unwrap_or(&none);
        let plans = self.plans.iter().filter(|plan| plan.server == *server);
        let mut destinations = plans.flat_map(|plan| &plan.steps).map(|s| &s.destination);
        let changed = destinations.find(|name| {
            let (then, now) = (saved.get(*name), now.get(*name));
            then.is_none() || then != now
        });
        match changed {
            Some(destination) => Err(Stale::Changed {
                server: server.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    const DUE: &str = "schedule=@hourly | done 1d";

    fn saved(world: &World) -> SavedPlan {
        SavedPlan::new(vec![(world.plan(), &world.observed)])
    }

    #[test]
    fn a_plan_of_another_version_or_changed_by_hand_is_not_applied() {
        let mut plan = saved(&World::parse(DUE));
        assert_eq!(plan.check(), Ok(()));
        plan.plans[0].steps.clear();
        let server = plan.plans[0].server.clone();
        assert_eq!(plan.check(), Err(Stale::Edited(server)));
        plan.format += 1;
        assert_eq!(plan.check(), Err(Stale::Format(FORMAT + 1)));
    }

    #[test]
    fn what_was_planned_for_an_empty_place_holds_while_it_is_empty() {
        let empty = World::parse("schedule=@hourly | without catalog");
        let plan = saved(&empty);
        assert!(!plan.plans[0].steps.is_empty());
        assert_eq!(plan.still_holds(&empty.observed), Ok(()));
        for other in [DUE, "schedule=@hourly | lose catalog"] {
            let changed = plan.still_holds(&World::parse(other).observed);
            assert!(matches!(changed, Err(Stale::Changed { .. })), "{other}");
        }
    }
}

//! Plans that a command builds directly from its request, without a policy: they share actions, guard and executor with the rest.

use std::collections::BTreeMap;

use super::{Plan, Step, Weight};
use crate::model::{
    action::Action,
    desired::Mode,
    names::{DestinationName, ServerName},
    reason::Reason,
    time::Timestamp,
};

impl Plan {
    /// A plan of exactly these actions in one destination, because somebody asked.
    pub fn requested(
        server: &ServerName,
        destination: &DestinationName,
        actions: Vec<Action>,
        now: Timestamp,
    ) -> Self {
        let step = |action| Step {
            destination: destination.clone(),
            action,
            reasons: vec![Reason::Requested],
            weight: Weight::default(),
        };
        Self {
            server: server.clone(),
            mode: Mode::Full,
            now,
            steps: actions.into_iter().map(step).collect(),
            targets: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{model::reason::Reason, plan::testing::World};

    use super::*;

    #[test]
    fn what_somebody_asks_for_is_all_that_is_done_in_the_order_asked_for() {
        let world = World::parse("| done 1d | done 8d");
        let actions = ["8d", "1d"].map(|label| Action::VerifyBackup {
            backup: world.id(label),
        });
        let destination = &world.server.entries[0].destination;
        let name = &world.server.name;
        let plan = Plan::requested(name, destination, actions.to_vec(), world.now);
        let asked = plan.steps.iter().map(|step| step.action.clone());
        assert_eq!(asked.collect::<Vec<_>>(), actions);
        for step in &plan.steps {
            assert_eq!(
                (&step.destination, &step.reasons[..]),
                (destination, &[Reason::Requested][..])
            );
        }
        assert_eq!(
            (&plan.server, plan.mode, plan.now),
            (name, Mode::Full, world.now)
        );
    }
}

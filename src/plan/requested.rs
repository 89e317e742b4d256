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

//! Taking steps out of a plan that was made, because of what only whoever carries it out knows: a lease that another one holds, a backup
//! that waits for its turn, a pause after failures.

use super::{Plan, Step};
use crate::model::{
    condition::{Condition, Standing},
    reason::Waiting,
};

impl Plan {
    /// Withholds each step for which there is something to wait for, and says so where it would have been done.
    pub fn withhold(&mut self, waits_for: impl Fn(&Step) -> Option<Waiting>) {
        for step in std::mem::take(&mut self.steps) {
            let Some(waiting) = waits_for(&step) else {
                self.steps.push(step);
                continue;
            };
            if let Some(target) = self.targets.get_mut(&step.destination)
                && !target.waiting.contains(&waiting)
            {
                target.waiting.push(waiting);
            }
        }
        self.tell_what_is_left();
    }

    /// The condition that counts the steps counts those that are left.
    fn tell_what_is_left(&mut self) {
        for (destination, target) in &mut self.targets {
            let steps = self.steps.iter();
            let left = steps
                .filter(|step| step.destination == *destination)
                .count();
            let counts = |condition: &Condition| {
                condition.standing == Standing::Progressing && condition.message.ends_with(" to do")
            };
            let waits = target.waiting.last().map(ToString::to_string);
            for condition in target.conditions.iter_mut().filter(|c| counts(c)) {
                condition.message = match (left, &waits) {
                    (0, Some(waits)) => waits.clone(),
                    (left, _) => format!("{left} to do"),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    #[test]
    fn what_is_withheld_is_said_once_and_counted_no_more() {
        let text = "retention=1x | done 1d | done 8d | done 9d | started 1h | attempt 1h alive";
        let mut plan = World::parse(text).plan();
        assert!(plan.steps.len() >= 2);
        plan.withhold(|step| {
            let why = "a test".to_owned();
            step.action.backup().map(|_| Waiting::NoExclusion { why })
        });
        let target = plan.targets.values().next().expect("one");
        assert_eq!(target.waiting.len(), 2);
        assert!(plan.steps.iter().all(|step| step.action.backup().is_none()));
        plan.withhold(|_| Some(Waiting::Retired));
        let target = plan.targets.values().next().expect("one");
        assert!(plan.is_empty());
        let told = Waiting::Retired.to_string();
        let stands: Vec<_> = target.conditions.iter().map(|c| &c.message).collect();
        assert!(stands[0].ends_with(" is running"), "{stands:?}");
        assert_eq!(stands[1], &told);
    }
}

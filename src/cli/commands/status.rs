//! `status`: how each server stands in each destination, in one line each.

use std::fmt;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    model::condition::Standing,
    plan::{Plan, render},
    reconcile::Activation,
};

pub(in crate::cli) async fn run(arguments: args::Select, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(arguments.now).await?;
    let servers = selection::servers(&ports.desired, &arguments)?;
    let activations = ports.plan_all(&servers).await;
    let plans: Vec<Plan> = activations
        .into_iter()
        .map(|Activation { plan, .. }| plan)
        .collect();
    session
        .output
        .result(&Standings(&plans), &render::Json::new(&plans))?;
    let worst = plans.iter().map(Plan::standing).max();
    Ok(match worst {
        Some(Standing::Stalled) => Exit::ObjectiveMissed,
        Some(Standing::Blocked) => Exit::Unreachable,
        _ => Exit::Done,
    })
}

struct Standings<'a>(&'a [Plan]);

impl fmt::Display for Standings<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for plan in self.0 {
            for (destination, target) in &plan.targets {
                let title = format!("{} -> {destination}", plan.server);
                for condition in &target.conditions {
                    let standing = condition.standing.to_string();
                    writeln!(
                        formatter,
                        "{title:<32} {standing:<12} {}",
                        condition.message
                    )?;
                }
                if let Some(window) = &target.window {
                    writeln!(
                        formatter,
                        "{:<32} {:<12} {}",
                        "",
                        "recoverable",
                        render::range(window)
                    )?;
                }
            }
        }
        Ok(())
    }
}

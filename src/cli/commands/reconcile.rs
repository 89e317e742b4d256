//! `reconcile --once`: make true what the configuration says.

use crate::{
    cli::{Session, args, error::Error, exit::Exit, output, selection},
    failure::{Failure, Kind, chain},
    model::condition::Standing,
    plan::{Plan, guard::Asked, render::Summary, saved::SavedPlan},
    reconcile::{self, Activation, Ports, Report},
};

pub(in crate::cli) async fn run(
    arguments: args::Reconcile,
    session: &Session,
) -> Result<Exit, Error> {
    if !arguments.once {
        let hint = "watch mode is not supported yet; run `reconcile --once` from cron or a timer";
        return Err(Error::Usage(hint.to_owned()));
    }
    if arguments.select.now.is_some() {
        return Err(Error::Usage(
            "`--now` is for commands that change nothing".to_owned(),
        ));
    }
    let ports = session.ports(None).await?;
    let reports = match &arguments.plan {
        Some(path) => saved(&ports, &super::plan::read(path)?).await?,
        None => {
            let servers = selection::servers(&ports.desired, &arguments.select)?;
            reconcile::once(&ports, &servers).await
        }
    };
    report(session, &reports)?;
    let exit = reports.iter().map(ending).fold(Exit::Done, Exit::worst);
    let interrupted = session.cancel.is_cancelled();
    Ok(if interrupted { Exit::Interrupted } else { exit })
}

/// Applies exactly a saved plan, or nothing of it.
async fn saved(ports: &Ports, saved: &SavedPlan) -> Result<Vec<Report>, Error> {
    let mut current = Vec::new();
    for plan in &saved.plans {
        let server = selection::server(&ports.desired, &plan.server)?;
        let activation = ports.plan(server).await;
        let holds = saved.still_holds(&activation.observed);
        let stale = |error| {
            Error::failed(
                "the saved plan is not applied",
                Failure::of(Kind::Stale, &error),
            )
        };
        holds.map_err(stale)?;
        current.push((server, activation));
    }
    let mut reports = Vec::new();
    for (plan, (server, activation)) in saved.plans.iter().zip(current) {
        reports.push(apply(ports, server, plan.clone(), activation).await);
    }
    Ok(reports)
}

async fn apply(
    ports: &Ports,
    server: &crate::model::desired::Server,
    plan: Plan,
    activation: Activation,
) -> Report {
    let guarded = ports.guard(plan, server, &activation.observed, Asked::ByPolicy);
    let outcomes = reconcile::apply(ports, server, &guarded, &activation.observed).await;
    let mut attempts = Vec::new();
    for step in guarded
        .plan()
        .steps
        .iter()
        .filter(|step| step.action.is_attempt())
    {
        attempts.push(reconcile::take(ports, server, step, &activation.observed).await);
    }
    let refusals = guarded.refusals().to_vec();
    Report {
        outcomes,
        attempts,
        refusals,
        last: ports.plan(server).await,
    }
}

/// How converging one server ended.
fn ending(report: &Report) -> Exit {
    let mut exit = Exit::Done;
    if !report.refusals.is_empty() {
        exit = exit.worst(Exit::Refused);
    }
    let done = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.result.is_ok())
        .count()
        + report
            .attempts
            .iter()
            .filter(|ended| ended.result.is_ok())
            .count();
    let steps = report
        .outcomes
        .iter()
        .filter_map(|outcome| outcome.result.as_ref().err());
    for error in steps {
        // What was refused because somebody was quicker is judged again by the next activation.
        let kind = error.kind();
        let code = if kind == Kind::Refused {
            Exit::Partial
        } else {
            Exit::from(kind)
        };
        exit = exit.worst(if done > 0 && code == Exit::Failed {
            Exit::Partial
        } else {
            code
        });
    }
    for ended in &report.attempts {
        match &ended.result {
            Ok(taken) if taken.is_damaged() => exit = exit.worst(Exit::Verification),
            Ok(_) => {}
            Err(failure) => exit = exit.worst(Exit::from(failure.kind)),
        }
    }
    exit.worst(super::status::ending(&report.last))
}

/// What was done, failures on standard error, one summary line at the end.
fn report(session: &Session, reports: &[Report]) -> Result<(), Error> {
    let mut lines = Vec::new();
    for report in reports {
        let server = &report.last.plan.server;
        for outcome in &report.outcomes {
            let (step, destination) = (outcome.step.describe(), &outcome.step.destination);
            match &outcome.result {
                Ok(()) => lines.push(format!("{server} -> {destination}: {step}")),
                Err(error) => {
                    let error = chain(error);
                    output::talk(&format!("{server} -> {destination}: {step}: {error}"));
                }
            }
        }
        for ended in &report.attempts {
            match &ended.result {
                Ok(taken) => lines.push(format!("{server} -> {}: {taken}", ended.destination)),
                Err(failure) => {
                    output::talk(&format!(
                        "{server} -> {}: backup: {failure}",
                        ended.destination
                    ));
                }
            }
        }
        for refusal in &report.refusals {
            output::talk(&format!("{server}: refused: {refusal}"));
        }
        for (destination, target) in &report.last.plan.targets {
            for condition in target
                .conditions
                .iter()
                .filter(|c| c.standing >= Standing::Blocked)
            {
                let standing = condition.standing;
                let message = &condition.message;
                output::talk(&format!("{server} -> {destination}: {standing}: {message}"));
            }
        }
    }
    let plans: Vec<Plan> = reports
        .iter()
        .map(|report| report.last.plan.clone())
        .collect();
    let done = lines.len();
    lines.push(format!("{done} done. Left: {}", Summary(&plans)));
    let json = serde_json::json!({
        "format": 1,
        "done": lines[..done],
        "plans": crate::plan::render::Json::new(&plans).plans,
    });
    session.output.result(&(lines.join("\n") + "\n"), &json)?;
    Ok(())
}

//! `reconcile --once`: make true what the configuration says.

use std::{fmt, io};

use serde::Serialize;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, output, selection, standing},
    execute::{
        Outcome,
        attempt::{Done, Ended},
    },
    failure::{Failure, Kind, chain},
    model::{
        action::Effect,
        condition::{Condition, Standing},
        desired::Server,
        names::{DestinationName, ServerName},
    },
    plan::{
        Plan,
        guard::{Asked, Refusal},
        render::{Json, Summary},
        saved::SavedPlan,
    },
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
    tell(session, &reports)?;
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
            let failure = Failure::of(Kind::Stale, &error);
            Error::stale("the saved plan is not applied", failure)
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

async fn apply(ports: &Ports, server: &Server, plan: Plan, activation: Activation) -> Report {
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
    exit.worst(standing::of_activation(&report.last))
}

/// What converging came to, over all servers.
#[derive(Default, Serialize)]
struct Told {
    format: u32,
    done: Vec<Line>,
    failed: Vec<Line>,
    refused: Vec<Line>,
}

/// One thing that was done, or was not.
#[derive(Serialize)]
struct Line {
    server: ServerName,
    destination: DestinationName,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Line {
    fn new(
        server: &ServerName,
        destination: &DestinationName,
        what: String,
        why: Option<String>,
    ) -> Self {
        Self {
            server: server.clone(),
            destination: destination.clone(),
            what,
            why,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            destination,
            what,
            ..
        } = self;
        write!(formatter, "{server} -> {destination}: {what}")?;
        self.why
            .as_ref()
            .map_or(Ok(()), |why| write!(formatter, ": {why}"))
    }
}

impl Told {
    fn of(reports: &[Report]) -> Self {
        let mut told = Self {
            format: 1,
            ..Self::default()
        };
        for report in reports {
            told.add(report);
        }
        told
    }

    /// In the order in which things are done: what adds, the attempts, what deletes.
    fn add(&mut self, report: &Report) {
        let server = &report.last.plan.server;
        let of = |effect| {
            let outcomes = report.outcomes.iter();
            outcomes.filter(move |outcome| outcome.step.action.effect() == effect)
        };
        for outcome in of(Effect::Additive) {
            self.outcome(server, outcome);
        }
        for ended in &report.attempts {
            self.attempt(server, ended);
        }
        for outcome in of(Effect::Destructive) {
            self.outcome(server, outcome);
        }
        for Refusal {
            destination,
            violation,
        } in &report.refusals
        {
            let why = Some(violation.to_string());
            let line = Line::new(server, destination, "refused".to_owned(), why);
            self.refused.push(line);
        }
    }

    fn outcome(&mut self, server: &ServerName, outcome: &Outcome) {
        let (what, destination) = (outcome.step.describe(), &outcome.step.destination);
        let why = outcome.result.as_ref().err().map(|error| chain(error));
        let lines = if why.is_none() {
            &mut self.done
        } else {
            &mut self.failed
        };
        lines.push(Line::new(server, destination, what, why));
    }

    fn attempt(&mut self, server: &ServerName, ended: &Ended) {
        let destination = &ended.destination;
        match &ended.result {
            Ok(taken) => {
                let line = Line::new(server, destination, taken.to_string(), None);
                self.done.push(line);
            }
            Err(failure) => {
                let why = Some(failure.to_string());
                let line = Line::new(server, destination, "backup".to_owned(), why);
                self.failed.push(line);
            }
        }
    }

    /// How much was done, and what is left.
    fn summary(&self, plans: &[Plan]) -> String {
        let mut text = format!("{} done", self.done.len());
        for (count, word) in [
            (self.failed.len(), "failed"),
            (self.refused.len(), "refused"),
        ] {
            if count > 0 {
                text = format!("{text}, {count} {word}");
            }
        }
        format!("{text}. Left: {}", Summary(plans))
    }
}

/// What was done and one summary line on standard output; what went wrong, and what is not as it should be, on standard error.
fn tell(session: &Session, reports: &[Report]) -> Result<(), Error> {
    let told = Told::of(reports);
    for line in told.failed.iter().chain(&told.refused) {
        output::talk(line);
    }
    for report in reports {
        warnings(report);
        conditions(&report.last.plan);
    }
    standing::hint(reports.iter().map(|report| &report.last.observed));
    let plans: Vec<Plan> = reports
        .iter()
        .map(|report| report.last.plan.clone())
        .collect();
    let done = told.done.iter().map(|line| format!("{line}\n"));
    let text = done.collect::<String>() + &told.summary(&plans) + "\n";
    let mut json = serde_json::to_value(&told).map_err(io::Error::from)?;
    json["plans"] = serde_json::to_value(Json::new(&plans).plans).map_err(io::Error::from)?;
    session.output.result(&text, &json)?;
    Ok(())
}

fn warnings(report: &Report) {
    for Ended {
        destination,
        result,
    } in &report.attempts
    {
        for warning in result.iter().flat_map(Done::warnings) {
            let server = &report.last.plan.server;
            output::talk(&format!("{server} -> {destination}: warning: {warning}"));
        }
    }
}

fn conditions(plan: &Plan) {
    for (destination, target) in &plan.targets {
        for Condition { standing, message } in &target.conditions {
            if *standing >= Standing::Blocked {
                let server = &plan.server;
                output::talk(&format!("{server} -> {destination}: {standing}: {message}"));
            }
        }
    }
}

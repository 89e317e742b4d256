//! `reconcile --once`: make true what the configuration says. Without `--once` it is `watch`.

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
        reason::Waiting,
    },
    plan::{
        Plan,
        guard::{Asked, Refusal},
        render::{Json, Summary},
        saved::SavedPlan,
    },
    reconcile::{
        Activation, Ports,
        approval::Approved,
        exclusion::{Rights, wanted},
        once::{self, Report},
    },
};

pub(in crate::cli) async fn run(
    arguments: args::Reconcile,
    session: &Session,
) -> Result<Exit, Error> {
    if arguments.select.now.is_some() {
        return Err(Error::Usage(
            "`--now` is for commands that change nothing".to_owned(),
        ));
    }
    if !arguments.once {
        return Box::pin(super::watch::run(&arguments.select, session)).await;
    }
    let ports = session.ports(None).await?;
    let servers = selection::servers(&ports.desired, &arguments.select)?;
    let reports = match &arguments.plan {
        Some(path) => saved(&ports, &super::plan::read(path)?).await?,
        None if arguments.approve.is_empty() => once::once(&ports, &servers).await,
        None => approved(&ports, &servers, &arguments.approve).await?,
    };
    tell(session, &reports)?;
    let exit = reports.iter().map(ending).fold(Exit::Done, Exit::worst);
    let interrupted = session.cancel.is_cancelled();
    Ok(if interrupted { Exit::Interrupted } else { exit })
}

/// Applies exactly a saved plan, or nothing of it.
async fn saved(ports: &Ports, saved: &SavedPlan) -> Result<Vec<Report>, Error> {
    // What does not fit is told before anything is written, be it only a lease.
    fits(ports, saved).await?;
    let mut rights = Vec::new();
    let current = match insist(ports, saved, &mut rights).await {
        Ok(()) => fits(ports, saved).await,
        Err(error) => Err(error),
    };
    let current = match current {
        Ok(current) => current,
        Err(error) => {
            for rights in rights {
                rights.release().await;
            }
            return Err(error);
        }
    };
    let mut reports = Vec::new();
    for ((plan, rights), (server, activation)) in saved.plans.iter().zip(rights).zip(current) {
        reports.push(apply(ports, server, plan.clone(), activation, rights).await);
    }
    Ok(reports)
}

/// Takes the rights for a saved plan.
async fn insist(ports: &Ports, saved: &SavedPlan, rights: &mut Vec<Rights>) -> Result<(), Error> {
    for plan in &saved.plans {
        let server = selection::server(&ports.desired, &plan.server)?;
        let taken = Rights::insist(ports, server, wanted(&plan.steps)).await;
        rights.push(taken.map_err(|waiting| Error::lease_held(&server.name, &waiting))?);
    }
    Ok(())
}

/// Looks whether a saved plan still fits.
async fn fits<'a>(
    ports: &'a Ports,
    saved: &SavedPlan,
) -> Result<Vec<(&'a Server, Activation)>, Error> {
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
    Ok(current)
}

/// Carries out exactly the plans with these digests, or nothing if there is none for one of them.
async fn approved(
    ports: &Ports,
    servers: &[&Server],
    digests: &[String],
) -> Result<Vec<Report>, Error> {
    let mut chosen = Vec::new();
    let planned: Vec<String> = ports
        .plan_all(servers)
        .await
        .iter()
        .map(|a| a.plan.digest())
        .collect();
    for digest in digests {
        let found = planned.iter().position(|planned| planned == digest);
        chosen.push((servers[found.ok_or_else(|| no_such_plan(digest))?], digest));
    }
    let mut reports = Vec::new();
    for (server, digest) in chosen {
        let done = ports.carry_out_approved(server, digest).await;
        let failed =
            |failure| Error::failed(format!("nothing is done for `{}`", server.name), failure);
        match done.map_err(failed)? {
            Approved::Stale => return Err(no_such_plan(digest)),
            Approved::Missing(waiting) => return Err(Error::lease_held(&server.name, &waiting)),
            Approved::Done {
                outcomes,
                attempts,
                refusals,
            } => reports.push(Report {
                outcomes,
                attempts,
                refusals,
                missing: Vec::new(),
                last: ports.plan(server).await,
            }),
        }
    }
    Ok(reports)
}

fn no_such_plan(digest: &str) -> Error {
    let stale = Failure::new(Kind::Stale, "what would be done has changed");
    let doing = format!("no plan has the digest `{digest}`");
    Error::failed(doing, stale)
        .hinted("`barkeep plan` shows what would be done now, and its digest")
}

async fn apply(
    ports: &Ports,
    server: &Server,
    plan: Plan,
    Activation { observed, .. }: Activation,
    mut rights: Rights,
) -> Report {
    let guarded = ports.guard(plan, server, &observed, Asked::ByPolicy);
    let (outcomes, attempts) =
        once::carry_out(ports, server, &guarded, &observed, &mut rights).await;
    rights.release().await;
    Report {
        outcomes,
        attempts,
        refusals: guarded.refusals().to_vec(),
        missing: Vec::new(),
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
        let code = if matches!(kind, Kind::Refused | Kind::LeaseHeld) {
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
        held(report);
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

/// Who holds what this run wanted, and why else it was not to be had.
fn held(report: &Report) {
    let server = &report.last.plan.server;
    for waiting in &report.missing {
        match waiting {
            Waiting::Lease { held } => {
                output::talk(&format!("{server} -> {}: {held}", held.destination));
            }
            other => output::talk(&format!("{server}: {other}")),
        }
    }
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

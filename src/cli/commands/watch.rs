//! `reconcile` as a service: the watch mode, with what surrounds it.
//!
//! A configuration that has changed on disk is taken up by itself, and on SIGHUP; one that cannot be used leaves the last good one in
//! place and says so in the log, on the status page and in the metrics. The service manager is told when the watch begins, reloads and
//! stops, and that the loop goes round.

use std::{path::Path, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    cli::{Session, args::Select, error::Error, exit::Exit, output, selection},
    clock::pause,
    config::{self, Report, Severity, Style, Texts},
    model::desired::{Desired, Server, Service},
    reconcile::{
        board::Board,
        watch::{Choice, Order, watch},
    },
    serve::{self, Listener},
    status::Status,
};

/// How often the configuration's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How many orders may wait for the loop: a new configuration, and a look.
const ORDERS_MAX: usize = 4;

/// How often the service manager is told how things stand.
const TELL_EVERY: Duration = Duration::from_secs(30);

pub(in crate::cli) async fn run(select: &Select, session: &Session) -> Result<Exit, Error> {
    // Before anybody can know of this process: unheard, the signal ends it.
    let hangup = signal(SignalKind::hangup()).map_err(Error::Signal)?;
    // Before the meaning: what changes in between is taken up afterwards.
    let texts = config::texts(&session.config);
    let ports = session.ports(None).await?;
    selection::servers(&ports.desired, select)?;
    let board = Board::new(ports.clock.now());
    let stop = CancellationToken::new();
    let mut pages = JoinSet::new();
    if let Some(listener) = listen(ports.desired.service).await? {
        pages.spawn(serve::serve(
            listener,
            board.clone(),
            ports.clock,
            stop.clone(),
        ));
    }
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    let surroundings = Surroundings {
        config: &session.config,
        orders,
        board: &board,
        service: ports.desired.service,
        ports_clock: ports.clock,
        stop: &stop,
    };
    let cancel = session.cancel.clone();
    tell(&[NotifyState::Ready, NotifyState::Status("watching")]);
    tokio::join!(
        async {
            watch(ports, inbox, &board, |server| choice(select, server)).await;
            stop.cancel();
        },
        surroundings.reload(texts, hangup),
        surroundings.keep_telling(),
        async {
            // A watch with nothing to finish ends as soon as it is told to: that is no other end.
            tokio::select! {
                biased;
                () = cancel.cancelled() => tell(&[NotifyState::Stopping]),
                () = stop.cancelled() => {}
            }
        },
    );
    while pages.join_next().await.is_some() {}
    Ok(Exit::Done)
}

fn choice(select: &Select, server: &Server) -> Choice {
    if selection::is_selected(select, server) {
        Choice::Chosen
    } else {
        Choice::Left
    }
}

async fn listen(service: Service) -> Result<Option<Listener>, Error> {
    let Some(address) = service.listen else {
        return Ok(None);
    };
    let failed = |source| Error::Listen { address, source };
    let listener = Listener::bind(address).await.map_err(failed)?;
    let bound = listener.address().map_err(failed)?;
    info!("the status page is at http://{bound}/");
    Ok(Some(listener))
}

/// Tells the service manager, if there is one that wants to know.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot tell the service manager: {error}");
    }
}

/// What goes on beside the loop.
struct Surroundings<'a> {
    config: &'a Path,
    orders: mpsc::Sender<Order>,
    board: &'a Board,
    service: Service,
    ports_clock: crate::clock::Clock,
    stop: &'a CancellationToken,
}

impl Surroundings<'_> {
    /// Takes up what changes on disk, and everything when told to.
    async fn reload(&self, mut texts: Texts, mut hangup: Signal) {
        loop {
            let asked = tokio::select! {
                () = self.stop.cancelled() => return,
                _ = hangup.recv() => Asked::Yes,
                () = pause(LOOK_EVERY) => Asked::No,
            };
            let path = self.config.to_owned();
            let Ok(found) = spawn_blocking(move || config::texts(&path)).await else {
                continue;
            };
            let changed = found != texts;
            if !changed && asked == Asked::No {
                continue;
            }
            if asked == Asked::Yes {
                reloading();
            }
            if changed {
                texts = found;
                self.take_up().await;
            }
            if asked == Asked::Yes {
                self.order(Order::Look).await;
                tell(&[NotifyState::Ready]);
            }
        }
    }

    async fn take_up(&self) {
        let path = self.config.to_owned();
        match spawn_blocking(move || config::read(&path, None)).await {
            Ok(Ok(compiled)) => {
                if !compiled.warnings.is_empty() {
                    output::talk(&compiled.warnings.render(Style::Plain));
                }
                self.check_service(&compiled.desired);
                self.board.accepted();
                self.order(Order::Configure(Box::new(compiled.desired)))
                    .await;
            }
            Ok(Err(report)) => self.refuse(&report),
            Err(error) => warn!("cannot read the configuration: {error}"),
        }
    }

    fn check_service(&self, desired: &Desired) {
        if desired.service.listen != self.service.listen {
            warn!("another `listen` takes effect when barkeep is started anew");
        }
    }

    fn refuse(&self, report: &Report) {
        let why = first(report);
        warn!("the changed configuration cannot be used, the one before holds: {why}");
        output::talk(&report.render(Style::Plain));
        self.board.refused(&why, self.ports_clock.now());
    }

    async fn order(&self, order: Order) {
        // When nobody takes orders any more, it is over.
        tokio::select! {
            _ = self.orders.send(order) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Tells the service manager that the loop goes round, and how things stand.
    async fn keep_telling(&self) {
        let watchdog = sd_notify::watchdog_enabled();
        let every = watchdog.map_or(TELL_EVERY, |limit| (limit / 3).min(TELL_EVERY));
        let stuck = watchdog
            .unwrap_or(serve::STUCK_AFTER)
            .max(serve::STUCK_AFTER);
        loop {
            let state = self.board.read();
            if state.beat.elapsed() < stuck {
                tell(&[NotifyState::Watchdog]);
            }
            let status = Status::watched(&state, self.ports_clock.now());
            let text = format!("{} servers, {}", state.servers.len(), status.standing());
            tell(&[NotifyState::Status(&text)]);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = pause(every) => {}
            }
        }
    }
}

/// Whether somebody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("cannot tell the service manager: {error}"),
    }
}

/// The first error of a report, with its place.
fn first(report: &Report) -> String {
    let findings = report.findings();
    let error = findings
        .iter()
        .find(|finding| finding.severity == Severity::Error);
    let Some(error) = error else {
        return "it cannot be read".to_owned();
    };
    match error.places.first() {
        Some(place) => format!("{}: {}", place.place, error.message),
        None => error.message.clone(),
    }
}

//! Signals: the first asks for the next safe point, the second leaves at once.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{exit::Exit, output};

/// Runs to its end, unless it is told twice to stop.
pub(super) async fn watched(
    cancel: &CancellationToken,
    work: impl Future<Output = ExitCode>,
) -> ExitCode {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return work.await;
    };
    let mut told = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(work);
    tokio::select! {
        exit = &mut work => return exit,
        () = told() => {
            output::talk(&"stopping at the next safe point; once more to leave now");
            cancel.cancel();
        }
    }
    tokio::select! {
        exit = &mut work => exit,
        () = told() => Exit::Interrupted.into(),
    }
}

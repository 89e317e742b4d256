//! `pgbench`, which writes to a server as long as it is wanted.

use std::{
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use barkeep::clock::pause;

use super::bed::bed;

/// A run of it; killed when dropped.
pub(crate) struct Pgbench(Child);

impl Pgbench {
    /// Starts it on the server whose socket is there.
    pub(crate) fn start(arguments: &[&str], socket: &Path) -> Self {
        let pgbench = bed().postgresql(17).expect("pgbench").join("pgbench");
        let mut command = bed().as_server(&pgbench);
        command.args(arguments).arg("-h").arg(socket);
        command.args(["-U", "postgres", "postgres"]);
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().expect("pgbench starts"))
    }

    /// Waits until it has ended by itself, however it did.
    pub(crate) async fn ended(&mut self) {
        while let Ok(None) = self.0.try_wait() {
            pause(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Pgbench {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! Servers whose WAL goes to a place.

use std::path::Path;

use barkeep::postgres::grants;

use super::{
    place::{Kind, Place},
    ran::Ran,
};
use crate::support::{cluster::Cluster, wait::until};

/// The role that barkeep connects as; it has what `docs/postgresql-role.md` grants, and no more.
pub(crate) const ROLE: &str = "barkeep";

/// A started server whose WAL goes to a place.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) place: Place,
}

impl Scene {
    /// A server that the configuration calls `main`, with these settings in its table.
    pub(crate) fn new(major: u32, kind: Kind, settings: &str) -> Option<Self> {
        let scene = Self {
            cluster: Cluster::create(major)?,
            place: Place::new(kind)?,
        };
        Some(scene.begin(settings))
    }

    fn begin(mut self, settings: &str) -> Self {
        self.configure(settings);
        let command = self.place.archive_command("main");
        self.cluster.configure(&[("archive_command", &command)]);
        self.cluster.surround(&self.place.environment());
        self.cluster.start();
        create_role(&self.cluster);
        self
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, settings: &str) {
        let connection = self.cluster.conninfo(ROLE);
        self.place.configure(&format!(
            "[servers.main]\nconnection = \"{connection}\"\n{settings}"
        ));
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.place.run(arguments)
    }

    /// Ends the segment that is being written and waits until everything before it is in the archive.
    pub(crate) async fn archive_all(&self) {
        let sql = "SELECT pg_walfile_name(pg_switch_wal())";
        let last = self.cluster.sql(sql);
        archived(&self.cluster, &last).await;
    }

    /// Restores into a new cluster, starts it and waits for the end of its recovery.
    pub(crate) async fn restore(&self, arguments: &[&str], backup: &str) -> Cluster {
        let mut copy = Cluster::empty(self.cluster.major()).expect("this version is here");
        let directory = copy.pgdata().display().to_string();
        let arguments = [&["restore", "main", backup, &directory], arguments].concat();
        self.run(&arguments).exits(0);
        copy.surround(&self.place.environment());
        copy.start();
        recovered(&copy).await;
        copy
    }
}

/// Creates the role that barkeep connects as.
pub(crate) fn create_role(cluster: &Cluster) {
    cluster.sql(&format!("CREATE ROLE {ROLE} LOGIN"));
    cluster.sql(&grants::statements(cluster.major(), ROLE).join(";"));
}

/// Waits until the archiver has archived this segment.
pub(crate) async fn archived(cluster: &Cluster, segment: &str) {
    let sql = format!("SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver");
    until("the archiver", async || {
        (cluster.sql(&sql) == "t").then_some(())
    })
    .await;
}

/// Waits for the end of recovery.
pub(crate) async fn recovered(cluster: &Cluster) {
    until("the end of recovery", async || {
        (cluster.sql("SELECT pg_is_in_recovery()") == "f").then_some(())
    })
    .await;
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

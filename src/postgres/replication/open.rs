//! Opening a session for replication at the first endpoint that will do.

use std::sync::atomic::Ordering;

use super::{Replication, column, login, only};
use crate::postgres::{
    Cause, Error,
    connector::{Call, Opened},
    conninfo::SessionAttributes,
    session::unsuited,
};

impl Opened for Replication {
    async fn open(call: &Call<'_>) -> Result<Self, Cause> {
        let (wire, told) = login::log_in(call).await?;
        Ok(Self {
            wire,
            deadlines: call.deadlines,
            endpoint: call.endpoint.to_string(),
            user: call.target.user.clone(),
            version: 0,
            is_encrypted: call.handshake.load(Ordering::Relaxed),
            told,
            warnings: Vec::new(),
        })
    }

    async fn prepare(mut self, wanted: SessionAttributes) -> Result<Self, Error> {
        const DOING: &str = "prepare the session";
        let row = only(DOING, self.ask(DOING, "SHOW server_version_num").await?)?;
        self.version = column(DOING, &row, 0, |text| text.parse().ok())?;
        if self.version < 130_000 {
            return Err(Error::Version(self.version / 10_000));
        }
        if wanted == SessionAttributes::Any {
            return Ok(self);
        }
        // Before 14 the server does not tell what it is; a standby's transactions are read-only, and hardly any other's.
        let read_only = match self.told("default_transaction_read_only") {
            Some(read_only) => read_only == "on",
            None => {
                let row = only(DOING, self.ask(DOING, "SHOW transaction_read_only").await?)?;
                column(DOING, &row, 0, |text| Some(text == "on"))?
            }
        };
        let in_recovery = self
            .told("in_hot_standby")
            .map_or(read_only, |is| is == "on");
        match unsuited(wanted, in_recovery, read_only || in_recovery) {
            None => Ok(self),
            Some((is, wanted)) => Err(Error::Unsuited {
                endpoint: self.endpoint,
                is,
                wanted,
            }),
        }
    }
}

impl Replication {
    fn told(&self, name: &str) -> Option<&str> {
        let told = self.told.iter().find(|(told, _)| told == name);
        told.map(|(_, value)| value.as_str())
    }
}

//! How barkeep runs as a service.

use std::time::Duration;

use crate::{
    config::{diagnostic::Diagnostic, document::ServiceTable, reader, tree::Node},
    model::desired::Service,
};

/// Looking more often would only cost.
const CHECK_EVERY_MIN: Duration = Duration::from_secs(10);

/// Compiles `[service]`; what is not said there is as built in.
pub(super) fn compile(root: &Node, diagnostics: &mut Vec<Diagnostic>) -> Service {
    let builtin = Service::default();
    let Some(table) = root
        .get("service")
        .filter(|item| item.node.table().is_some())
    else {
        return builtin;
    };
    let ServiceTable {
        listen,
        check_every,
    } = reader::read_again(&table.node);
    if let Some(every) = check_every
        .as_ref()
        .filter(|every| every.get().0 < CHECK_EVERY_MIN)
    {
        let error = Diagnostic::error("servers are looked at every 10s at most");
        diagnostics.push(error.label(&every.span(), "should be 10s or more"));
    }
    Service {
        listen: listen.map(|written| written.get().0),
        check_every: check_every.map_or(builtin.check_every, |every| every.get().0),
    }
}

//! CloudNativePG's objects: an `ObjectStore` of its Barman Cloud plugin, or a cluster's own, the clusters that use them, and their scheduled backups.
//!
//! A store says which options Barman's commands are called with. So the command lines are made that the plugin would make, in its order,
//! and read like any other.

mod store;

use std::collections::BTreeMap;

use self::store::Store;
use super::{
    command_line::{self, Runs},
    fleet::{Fleet, ServerIndex},
    shell::Command,
    yaml::{self, Node},
};
use crate::model::schedule::{Schedule, Zone};

const PLUGIN: &str = "barman-cloud.cloudnative-pg.io";

/// Takes in all objects of several files, each with its name and text.
pub(in crate::cli) fn import<'a>(
    fleet: &mut Fleet,
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let mut objects = Vec::new();
    for (file, text) in files {
        match yaml::read(file, text) {
            Ok(found) => objects.extend(found),
            Err((place, complaint)) => fleet.lost(&place, "the file", complaint),
        }
    }
    let kind = |object: &&Node, kind: &str| object.text("kind").as_deref() == Some(kind);
    let of_kind = |wanted: &'static str| objects.iter().filter(move |object| kind(object, wanted));
    let mut stores: BTreeMap<String, (&Node, bool)> = of_kind("ObjectStore")
        .map(|object| (name(object), (object, false)))
        .collect();
    let mut servers = BTreeMap::new();
    for cluster in of_kind("Cluster") {
        if let Some(server) = of_cluster(fleet, cluster, &mut stores) {
            servers.insert(name(cluster), server);
        }
    }
    for (name, (object, is_used)) in &stores {
        if !is_used && let Some(spec) = object.get("spec") {
            let why = "no Cluster uses it; its server is called as it is";
            fleet.lost(&object.place, format!("ObjectStore {name}"), why);
            let server = fleet.server(name, &object.place);
            said(fleet, server, &Store::plugins(spec), name);
        }
    }
    for object in of_kind("ScheduledBackup") {
        scheduled(fleet, object, &servers);
    }
    let known = ["ObjectStore", "Cluster", "ScheduledBackup"];
    for object in &objects {
        let kind = object.text("kind").unwrap_or_default();
        if !known.contains(&kind.as_str()) {
            let why = "it says nothing of backups";
            fleet.needless(&object.place, format!("{kind} {}", name(object)), why);
        }
    }
}

fn name(object: &Node) -> String {
    let metadata = object.get("metadata");
    metadata
        .and_then(|metadata| metadata.text("name"))
        .unwrap_or_default()
}

fn of_cluster(
    fleet: &mut Fleet,
    cluster: &Node,
    stores: &mut BTreeMap<String, (&Node, bool)>,
) -> Option<ServerIndex> {
    let spec = cluster.get("spec")?;
    let label = name(cluster);
    let plugins = spec.get("plugins").map(Node::items).unwrap_or_default();
    let plugin = plugins
        .iter()
        .find(|plugin| plugin.text("name").as_deref() == Some(PLUGIN));
    let parameters = plugin.and_then(|plugin| plugin.get("parameters"));
    let own = spec.at(&["backup", "barmanObjectStore"]);
    let (store, server_name) = if let Some(parameters) = parameters {
        let wanted = parameters.text("barmanObjectName")?;
        let server_name = parameters.text("serverName");
        let Some((object, is_used)) = stores.get_mut(&wanted) else {
            let why = "there is no such ObjectStore in the files";
            fleet.lost(&parameters.place, format!("barmanObjectName {wanted}"), why);
            return None;
        };
        *is_used = true;
        (Store::plugins(object.get("spec")?), server_name)
    } else if let Some(configuration) = own {
        let server_name = configuration.text("serverName");
        (Store::own(configuration, spec.get("backup")?), server_name)
    } else {
        let why = "it has no backups of Barman's";
        fleet.lost(&cluster.place, format!("Cluster {label}"), why);
        return None;
    };
    let server = fleet.server(&label, &cluster.place);
    let namespace = cluster
        .at(&["metadata", "namespace"])
        .and_then(Node::scalar);
    let namespace = namespace
        .map(|namespace| format!(".{namespace}"))
        .unwrap_or_default();
    let connection = format!("host={label}-rw{namespace} user=barkeep dbname=postgres");
    fleet.set(server, "connection", connection, &cluster.place);
    fleet.set(server, "method", "stream", &cluster.place);
    let why = "make the role `barkeep`, and say where its password is";
    fleet.lost(
        &cluster.place,
        format!("the credentials of Cluster {label}"),
        why,
    );
    said(fleet, server, &store, &server_name.unwrap_or(label));
    Some(server)
}

/// Takes in what a store says, for a server of this name.
fn said(fleet: &mut Fleet, server: ServerIndex, store: &Store<'_>, name: &str) {
    for (words, place) in store.command_lines(name) {
        let command = Command {
            variables: Vec::new(),
            words,
        };
        command_line::read(fleet, &command, Runs::Beside(server), &place);
    }
    store.rest(fleet, server);
}

/// A schedule has a sixth field, in front: the second.
fn scheduled(fleet: &mut Fleet, object: &Node, servers: &BTreeMap<String, ServerIndex>) {
    let cluster = object
        .at(&["spec", "cluster", "name"])
        .and_then(Node::scalar);
    let cluster = cluster.unwrap_or_default();
    let Some(written) = object.at(&["spec", "schedule"]) else {
        return;
    };
    let text = written.scalar().unwrap_or_default();
    let Some(server) = servers.get(&cluster) else {
        let why = "its Cluster is not in the files";
        fleet.lost(&written.place, format!("schedule of {cluster}"), why);
        return;
    };
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (second, rest) = match &fields[..] {
        [second, rest @ ..] if rest.len() == 5 => (*second, rest.join(" ")),
        _ => ("0", fields.join(" ")),
    };
    if let Err(error) = Schedule::parse(&rest, &Zone::utc()) {
        fleet.lost(&written.place, text, error);
        return;
    }
    if second != "0" {
        let why = "a schedule has minutes; its seconds are left out";
        fleet.lost(&written.place, &text, why);
    }
    fleet.set(*server, "schedule", rest, &written.place);
}

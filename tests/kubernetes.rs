//! What `packaging/kubernetes` renders is what Kubernetes knows, and starts barkeep with a command line and a configuration that it takes.
//!
//! Rendered by `kubectl kustomize`, no cluster. Kubernetes leaves out what it does not know, and so do its types here; so every object is
//! read into its type, written again, and has to be the same as it was.

#[path = "support/bed.rs"]
#[expect(dead_code, reason = "no server is run here")]
mod bed;

use std::{collections::BTreeMap, path::Path, process::Command};

use barkeep::{
    cli::args::Arguments,
    config::{
        compile::{Compiled, compile},
        load::from_texts,
    },
};
use bed::{bed, run};
use clap::Parser as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::CronJob,
    core::v1::{ConfigMap, PodSpec, Service, ServiceAccount},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Prints YAML as JSON.
const JSON: &str =
    "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";

/// The objects of a kustomization; `None` after saying that the test is skipped.
fn rendered(kustomization: &str) -> Option<Vec<Value>> {
    let kubectl = bed().get("KUBECTL")?;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging/kubernetes")
        .join(kustomization);
    let yaml = run(Command::new(kubectl).arg("kustomize").arg(directory));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, yaml).expect("write it");
    let input = file.reopen().expect("open it");
    let json = run(Command::new("/usr/bin/python3")
        .args(["-c", JSON])
        .stdin(input));
    Some(serde_json::from_str(&json).expect("JSON"))
}

/// The objects of a kind, each of which must be wholly known to Kubernetes.
fn objects<T: Serialize + DeserializeOwned>(all: &[Value], kind: &str) -> Vec<T> {
    let of_kind = all.iter().filter(|object| object["kind"] == kind);
    let known = of_kind.map(|object| {
        let typed: T = serde_json::from_value(object.clone()).expect("Kubernetes can read it");
        let written = serde_json::to_value(&typed).expect("it can be written");
        assert_eq!(
            sorted(&written),
            sorted(object),
            "fields that {kind} does not have"
        );
        typed
    });
    known.collect()
}

/// The same with all keys in one order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields
                .iter()
                .map(|(key, value)| (key.clone(), sorted(value)))
                .collect();
            fields.into_iter().collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// The configuration that is mounted.
fn configuration(all: &[Value]) -> Compiled {
    let maps: Vec<ConfigMap> = objects(all, "ConfigMap");
    let data = maps[0].data.as_ref().expect("it has data");
    let main = data["barkeep.toml"].as_str();
    // What it includes by a pattern.
    let others = data.iter().filter(|(name, _)| name.starts_with("server-"));
    let mut texts = vec![("barkeep.toml", main)];
    texts.extend(others.map(|(name, text)| (name.as_str(), text.as_str())));
    compile(from_texts(&texts)).unwrap_or_else(|report| panic!("{report}"))
}

/// What must hold for every Pod, and its container's command line as barkeep reads it.
fn arguments(pod: &PodSpec) -> Vec<String> {
    let security = pod.security_context.as_ref().expect("it says as whom");
    assert_eq!(security.run_as_non_root, Some(true));
    let container = &pod.containers[0];
    let security = container.security_context.as_ref().expect("it is confined");
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(security.allow_privilege_escalation, Some(false));
    let mounted = container.volume_mounts.as_ref().expect("it mounts");
    let volumes = pod.volumes.as_ref().expect("it has volumes");
    for mount in mounted {
        let exists = volumes.iter().any(|volume| volume.name == mount.name);
        assert!(exists, "there is no volume {}", mount.name);
    }
    // The program's own default for where its configuration is.
    assert!(
        mounted
            .iter()
            .any(|mount| mount.mount_path == "/etc/barkeep")
    );
    let arguments = container.args.clone().expect("it has arguments");
    let line = ["barkeep".to_owned()].into_iter().chain(arguments.clone());
    if let Err(error) = Arguments::try_parse_from(line) {
        panic!("{error}");
    }
    arguments
}

#[test]
fn the_watch_mode_is_what_kubernetes_knows() {
    let Some(all) = rendered("watch") else { return };
    assert_eq!(objects::<ServiceAccount>(&all, "ServiceAccount").len(), 1);
    let deployment = objects::<Deployment>(&all, "Deployment").remove(0);
    let spec = deployment.spec.expect("it has a spec");
    assert_eq!(
        spec.replicas,
        Some(2),
        "the lease is what they share the work by"
    );
    let pod = spec.template.spec.expect("it has a Pod");
    let arguments = arguments(&pod);
    assert!(!arguments.contains(&"--once".to_owned()), "{arguments:?}");

    let listen = configuration(&all)
        .desired
        .service
        .listen
        .expect("it listens");
    assert!(listen.ip().is_unspecified(), "the probes come from outside");
    let container = &pod.containers[0];
    let ports = container.ports.as_ref().expect("it has a port");
    assert_eq!(ports[0].container_port, i32::from(listen.port()));
    let service = objects::<Service>(&all, "Service").remove(0);
    let selector = service.spec.expect("it has a spec").selector;
    assert_eq!(selector, spec.selector.match_labels);
}

#[test]
fn the_jobs_select_every_server_once() {
    let Some(all) = rendered("cronjob") else {
        return;
    };
    let servers = configuration(&all).desired.servers;
    let mut selected = Vec::new();
    for job in objects::<CronJob>(&all, "CronJob") {
        let spec = job.spec.expect("it has a spec");
        let pod = spec.job_template.spec.and_then(|job| job.template.spec);
        let arguments = arguments(&pod.expect("it has a Pod"));
        assert!(arguments.contains(&"--once".to_owned()), "{arguments:?}");
        let selector = arguments
            .last()
            .and_then(|last| last.strip_prefix("--select="));
        let (key, value) = selector
            .and_then(|s| s.split_once('='))
            .expect("a selector");
        let wanted = servers.values().filter(|server| {
            server
                .labels
                .iter()
                .any(|(name, is)| name == key && is == value)
        });
        selected.extend(wanted.map(|server| server.name.to_string()));
    }
    selected.sort();
    assert_eq!(selected, ["crm", "orders"]);
}

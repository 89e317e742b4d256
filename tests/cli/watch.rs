//! `reconcile` as a service: what it serves, how it takes up another configuration, and how it stops.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use barkeep::status::metrics::METRICS;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::scene::Scene;

/// The longest wait for what comes by itself within seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// A watching process; killed when dropped.
struct Service {
    scene: Scene,
    child: Child,
    address: String,
    manager: UnixDatagram,
    stderr: BufReader<std::process::ChildStderr>,
}

/// A server that cannot be reached, with two backups; only its catalog is looked after.
fn configuration(scene: &Scene, more: &str) -> String {
    format!(
        "version = 1\n[service]\nlisten = \"127.0.0.1:0\"\n[destinations.disk]\nurl = \"file://{}\"\n\
         [servers.orders]\ndestination = \"disk\"\nconnection = \"host={}\"\nschedule = \"0 2 * * *\"\n\
         retention = \"REDUNDANCY 7\"\n{more}",
        scene.path("store").display(),
        scene.path("socket").display()
    )
}

impl Service {
    fn start() -> Self {
        let scene = Scene::new();
        scene.configure(&configuration(&scene, ""));
        scene.backup(18);
        scene.backup(19);
        let socket = scene.path("notify");
        let manager = UnixDatagram::bind(&socket).expect("a socket");
        manager
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out");
        let mut command = scene.command(&["--verbose", "--log-format", "json", "reconcile"]);
        let mut child = command
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "3000000")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).expect("text") > 0, "it ended");
            let Ok(log) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            let message = log["message"].as_str().unwrap_or_default();
            if let Some((_, rest)) = message.split_once("http://") {
                break rest.trim_end_matches('/').to_owned();
            }
        };
        Self {
            scene,
            child,
            address,
            manager,
            stderr,
        }
    }

    /// Status code, headers and content of a path.
    fn get(&self, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let host = &self.address;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, content) = answer.split_once("\r\n\r\n").expect("a head");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (code.expect("a status"), head.to_owned(), content.to_owned())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.get("/status.json").2).expect("JSON")
    }

    /// Asks again until there is an answer.
    fn until<T>(&self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask(self) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "waited for {what}");
            // The service manager is told something every second.
            self.told();
        }
    }

    /// What the service manager is told next.
    fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self
            .manager
            .recv(&mut buffer)
            .expect("it is told something");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a small number");
        kill_process(Pid::from_raw(pid).expect("a process"), signal).expect("it runs");
    }

    /// Waits for its end; gives the exit code and what it said since it began to listen.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        (self.child.wait().expect("a child").code(), said)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_tells_how_things_stand() {
    let service = Service::start();
    assert!(service.told().contains("READY=1"));
    service.until("readiness", |service| {
        (service.get("/readyz").0 == 200).then_some(())
    });
    assert_eq!(service.get("/healthz").0, 200);
    assert_eq!(service.get("/nothing").0, 404);
    let status = service.json();
    let line = &status["servers"][0];
    assert_eq!(line["newest_good"]["backup"], "20261119T020003");
    assert_eq!(line["strip"]["marks"].as_array().map(Vec::len), Some(2));
    assert!(line["watched"]["wake"]["at"].is_string(), "{status}");
    let (code, head, page) = service.get("/");
    assert_eq!(code, 200);
    assert!(
        head.to_lowercase()
            .contains("content-security-policy: default-src 'none'")
    );
    assert!(page.contains("<i class=\"backup good\""), "{page}");
    // What is told comes every second, of two kinds in turn.
    let fed = (0..10).any(|_| service.told().contains("WATCHDOG=1"));
    assert!(fed, "the watchdog starves");
}

#[test]
fn every_metric_is_served_as_it_is_documented() {
    let service = Service::start();
    service.until("readiness", |service| {
        (service.get("/readyz").0 == 200).then_some(())
    });
    let (code, head, text) = service.get("/metrics");
    assert_eq!(code, 200);
    assert!(
        head.contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
    let has = |line: &str| text.lines().any(|found| found == line);
    for metric in &METRICS {
        let kind = metric.kind();
        let family = metric.name.trim_end_matches("_info");
        assert!(
            has(&format!("# TYPE {family} {kind}")),
            "{family} {kind}\n{text}"
        );
        assert!(
            has(&format!("# HELP {family} {}", metric.help)),
            "{family}\n{text}"
        );
        if !metric.unit().is_empty() {
            assert!(
                has(&format!("# UNIT {family} {}", metric.unit())),
                "{family}\n{text}"
            );
        }
    }
    assert!(
        has("barkeep_backups_good{server=\"orders\",destination=\"disk\"} 2.0"),
        "{text}"
    );
    assert!(has("barkeep_config_valid 1.0"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    for sample in samples {
        let name = sample.split(['{', ' ']).next().expect("a name");
        let known = METRICS.iter().any(|metric| metric.full_name() == name);
        assert!(known, "{sample} is not documented");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_leaves_the_last_good_one() {
    let mut service = Service::start();
    let path = service.scene.path("barkeep.toml");
    let good = fs::read_to_string(&path).expect("the configuration");
    service
        .scene
        .configure(&good.replace("retention", "retentoin"));
    service.signal(Signal::HUP);
    let why = service.until("a refusal", |service| {
        let refused = service.json()["watch"]["refused"].clone();
        refused["why"].as_str().map(str::to_owned)
    });
    assert!(why.contains("unknown key `retentoin`"), "{why}");
    assert!(
        service
            .get("/metrics")
            .2
            .contains("barkeep_config_valid 0.0")
    );
    assert!(service.get("/").2.contains("cannot be used"));
    assert_eq!(
        service.json()["servers"].as_array().map(Vec::len),
        Some(1),
        "it goes on"
    );
    // Without a signal: what changes is noticed.
    let second = "[servers.crm]\ndestination = \"disk\"\nconnection = \"host=/nowhere\"\n\
                  schedule = \"none\"\nretention = \"none\"\n";
    service
        .scene
        .configure(&configuration(&service.scene, second));
    service.until("the second server", |service| {
        let status = service.json();
        let servers = status["servers"].as_array()?;
        (servers.len() == 2 && status["watch"]["refused"].is_null()).then_some(())
    });
    service.signal(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the one before holds"), "{said}");
}

#[test]
fn told_to_stop_it_says_so_and_ends_well() {
    let mut service = Service::start();
    service.until("readiness", |service| {
        (service.get("/readyz").0 == 200).then_some(())
    });
    service.signal(Signal::INT);
    loop {
        if service.told().contains("STOPPING=1") {
            break;
        }
    }
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
}

//! The status page in a browser: it is drawn, it fits, and it asks nobody for anything.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use barkeep::{
    model::{
        backup::{Backup, BackupStatus},
        catalog::{Catalog, Run},
        observed::Knowledge,
        wal::SegmentNumber,
    },
    plan::plan,
    reconcile::Activation,
    status::{
        Status,
        page::{self, Refresh},
    },
};

use crate::{
    bed::bed,
    documents::{blessed, read, repository},
    readme::{compiled, instant, observed, segment},
};

const SIZE: (u32, u32) = (1200, 800);

/// The server of the README, and three like it: WAL of two days is lost, a backup is damaged and one failed, one is new.
fn fleet() -> String {
    let desired = compiled(&read("README.md")).desired;
    let location = |name: &_| desired.destinations[name].location.to_string();
    let now = instant("2026-12-01T03:40:11Z");
    let activation = |name: &str, change: &dyn Fn(&mut Catalog)| {
        let mut server = desired.servers.values().next().expect("it has one").clone();
        server.name = name.parse().expect("a name");
        let mut observed = observed(now);
        let stored = observed.destinations.values_mut().next().expect("one");
        if let Knowledge::Known(catalog) = &mut stored.catalog {
            change(catalog);
        }
        let plan = plan(&server, &observed, &location, now);
        Activation { observed, plan }
    };
    let gap = |catalog: &mut Catalog| {
        let runs = catalog.wal.runs.values_mut().next().expect("a timeline");
        let whole = runs.pop().expect("a run");
        let lost = (segment(43).0 + 20, segment(46).0 - 60);
        runs.push(Run {
            last: SegmentNumber(lost.0 - 1),
            ..whole
        });
        runs.push(Run {
            first: SegmentNumber(lost.1),
            ..whole
        });
        catalog
            .backups
            .retain(|backup| !(44..46).contains(&day(backup)));
    };
    let damage = |catalog: &mut Catalog| {
        for backup in &mut catalog.backups {
            match day(backup) {
                52 => backup.archives.clear(),
                57 => backup.status = BackupStatus::Failed,
                _ => {}
            }
        }
    };
    let young = |catalog: &mut Catalog| catalog.backups.retain(|backup| day(backup) >= 54);
    let all = [
        activation("orders", &|_| {}),
        activation("billing", &gap),
        activation("crm", &damage),
        activation("intranet", &young),
    ];
    page::html(&Status::seen(&all), Refresh::Never)
}

/// So many days after 1 October.
fn day(backup: &Backup) -> u64 {
    let began = backup.begin_time.expect("a beginning");
    began.since(instant("2026-10-01T00:00:00Z")).as_secs() / 86_400
}

/// Opens a page in a browser that has no network, and gives what it printed.
fn browse(chromium: &Path, directory: &Path, arguments: &[&str]) -> String {
    let profile = directory.join("profile");
    let mut command = Command::new(chromium);
    command
        .args([
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
        ])
        .args([
            "--disable-dev-shm-usage",
            "--proxy-server=127.0.0.1:9",
            "--virtual-time-budget=1000",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={},{}", SIZE.0, SIZE.1))
        .args(arguments)
        .arg(format!("file://{}", directory.join("page.html").display()))
        .env("HOME", directory)
        .stdin(Stdio::null());
    let output = command.output().expect("the browser starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        !said.contains("Refused to"),
        "the page asks for what it may not: {said}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_browser_draws_the_status_page() {
    let Some(chromium) = bed().get("CHROMIUM") else {
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    fs::write(directory.join("page.html"), fleet()).expect("write the page");
    let drawn = browse(&chromium, directory, &["--dump-dom"]);
    let body = drawn.split("<footer>").next().unwrap_or_default();
    let count = |class: &str| body.matches(&format!("<i class=\"{class}\"")).count();
    assert_eq!(body.matches("<section>").count(), 4, "{drawn}");
    let counts = ["gap", "backup damaged", "backup failed", "due"].map(count);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}: {drawn}");

    let picture = directory.join("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    browse(&chromium, directory, &[&screenshot]);
    let bytes = fs::read(&picture).expect("a picture");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    // Source of the places: the PNG specification, chunk IHDR.
    assert_eq!((number(16), number(20)), SIZE);
    assert!(bytes.len() > 20_000, "an empty page: {} bytes", bytes.len());
    if blessed() {
        fs::write(repository("docs/status-page.png"), &bytes).expect("write the picture");
    }
}

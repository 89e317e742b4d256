//! The status page in a browser: it is drawn, it fits, and it asks nobody for anything.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    bed::bed,
    documents::{blessed, repository},
    scene::Scene,
};

/// The instant of the picture.
const NOW: &str = "2026-11-20T04:10:11Z";

const SIZE: (u32, u32) = (1200, 820);

/// Four servers: one as it should be, one with a gap, one whose backup failed, one without any.
fn fleet() -> Scene {
    let scene = Scene::new();
    let store = scene.path("store");
    let server = |name: &str| {
        format!(
            "[servers.{name}]\ndestination = \"primary\"\nschedule = \"0 2 * * *\"\n\
             retention = \"RECOVERY WINDOW OF 14 DAYS\"\n"
        )
    };
    scene.configure(&format!(
        "version = 1\n[destinations.primary]\nurl = \"file://{}\"\n{}{}{}{}",
        store.display(),
        server("orders"),
        server("billing"),
        server("crm"),
        server("archive"),
    ));
    for day in 1..=20 {
        let id = scene.backup_of("orders", day);
        if day == 1 {
            let keep = format!("store/orders/base/{id}/annotations/keep");
            scene.write(&keep, "standalone");
        }
    }
    for day in (3..=9).chain(13..=20) {
        scene.backup_of("billing", day);
    }
    for day in 8..=20 {
        let id = scene.backup_of("crm", day);
        let info = format!("store/crm/base/{id}/backup.info");
        if day == 15 {
            let text = fs::read_to_string(scene.path(&info)).expect("a record");
            scene.write(&info, &text.replace("status=DONE", "status=FAILED"));
        }
        if day == 17 {
            fs::remove_file(scene.path(&format!("store/crm/base/{id}/data.tar.lz4"))).expect("it");
        }
    }
    scene
}

/// The page as a file.
fn page(scene: &Scene) -> std::path::PathBuf {
    let mut command = scene.command(&["status", "--html", "--now", NOW]);
    let output = command.output().expect("the program starts");
    let path = scene.path("page.html");
    fs::write(&path, &output.stdout).expect("write the page");
    path
}

/// Opens a page in a browser that has no network, and gives what it printed.
fn browse(chromium: &Path, scene: &Scene, arguments: &[&str], page: &Path) -> String {
    let profile = scene.path("profile");
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
        .arg(format!("file://{}", page.display()))
        .env("HOME", scene.path("."))
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
    let scene = fleet();
    let page = page(&scene);
    let drawn = browse(&chromium, &scene, &["--dump-dom"], &page);
    let count = |class: &str| drawn.matches(&format!("<i class=\"{class}\"")).count();
    assert_eq!(drawn.matches("<section>").count(), 4, "{drawn}");
    // The legend has one of each.
    let counts = ["gap", "keep", "backup damaged", "backup failed"].map(count);
    assert_eq!(counts, [2, 2, 2, 2], "{drawn}");

    let picture = scene.path("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    browse(&chromium, &scene, &[&screenshot], &page);
    let bytes = fs::read(&picture).expect("a picture");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    // Source of the places: the PNG specification, chunk IHDR.
    assert_eq!((number(16), number(20)), SIZE);
    assert!(bytes.len() > 20_000, "an empty page: {} bytes", bytes.len());
    if blessed() {
        fs::write(repository("docs/status-page.png"), &bytes).expect("write the picture");
    }
}

//! `mounts`, of the host that the tests run on.

use std::fs;

use serde_json::Value;

use crate::scene::Scene;

#[test]
fn a_path_is_on_the_file_system_that_the_kernel_says_behind_links() {
    let scene = Scene::new();
    let (link, gone) = (scene.path("link"), scene.path("gone"));
    std::os::unix::fs::symlink(scene.path("store"), &link).expect("a link");
    let json = scene.json(&format!("mounts {}", link.display()));
    assert_eq!(json["format"], 1);
    assert!(json["disks"].is_array(), "{json}");
    let held = &json["paths"][0];
    assert_eq!(held["path"], link.to_str().expect("text"));
    let point = held["mount"]["point"].as_str().expect("a mount point");
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the kernel's table");
    let is_told = table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(point));
    assert!(is_told, "{point} in {table}");
    assert!(scene.path("store").starts_with(point), "{point}");
    let told = scene.run(&["mounts", link.to_str().expect("text")]);
    assert!(told.starts_with("exit 0\n--- stdout\nDISK  "), "{told}");
    assert!(told.contains("\nPATH ") && told.contains(point), "{told}");
    let told = scene.run(&["mounts", gone.to_str().expect("text")]);
    let error =
        "error: cannot tell what is mounted where: cannot find out which file system holds ";
    assert!(told.contains(error), "{told}");
}

#[test]
fn without_a_path_and_without_a_configuration_the_disks_are_shown() {
    let scene = Scene::new();
    fs::remove_file(scene.path("barkeep.toml")).expect("it was there");
    let json = scene.json("mounts");
    assert_eq!(json["paths"], Value::Array(Vec::new()));
    for disk in json["disks"].as_array().expect("disks") {
        let device = disk["device"].as_str().expect("a name");
        assert_eq!(disk["names"][0], format!("/dev/{device}"));
        assert_eq!(disk["blocks"][0], device);
    }
}

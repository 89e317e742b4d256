//! What somebody has to say yes to: a first contact, a policy that was shortened, a backup that stays after all.

use crate::scene::Scene;

const SETTINGS: &str = "schedule = \"none\"\nretention = { redundancy = 2 }\n";

/// A destination that Barman has filled.
fn scene(settings: &str) -> Scene {
    let scene = Scene::with(settings);
    for day in [3, 10, 17, 18] {
        scene.backup(day);
    }
    scene.without_connection();
    scene
}

fn stored(scene: &Scene) -> Vec<String> {
    let base = scene.path("store/orders/base");
    crate::scene::files(&base)
}

#[test]
fn what_is_there_is_only_observed_until_it_is_adopted() {
    let scene = scene(SETTINGS);
    let said = scene.barkeep("reconcile --once");
    assert!(said.starts_with("exit 4\n"), "{said}");
    assert!(
        said.contains(
            "orders -> disk: blocked: first contact: 4 backups are there; `barkeep adopt orders`"
        ),
        "{said}"
    );
    assert!(!scene.path("store/orders/barkeep").exists());
    let said = scene.barkeep("adopt orders");
    assert!(said.starts_with("exit 0\n"), "{said}");
    for line in [
        "20261103T020003  obsolete  outside REDUNDANCY 2; 2 newer are good",
        "20261118T020003  retained  within REDUNDANCY 2",
        "- mark     20261103T020003",
        "hint: nothing was adopted; `barkeep adopt orders --approve ",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    assert!(!scene.path("store/orders/barkeep").exists());
    let said = scene.barkeep("adopt orders --approve 00000000");
    assert!(said.starts_with("exit 10\n"), "{said}");
    scene.adopt();
    let said = scene.barkeep("reconcile --once");
    assert!(said.starts_with("exit 0\n"), "{said}");
    assert!(
        said.contains("orders -> disk: mark 20261103T020003"),
        "{said}"
    );
    assert_eq!(stored(&scene).len(), 4);
    let said = scene.barkeep("adopt orders");
    assert!(said.ends_with("orders: nothing to adopt\n"), "{said}");
}

#[test]
fn a_shortened_policy_is_approved_by_the_digest_of_its_plan() {
    let at_once = format!("{SETTINGS}deletes = {{ grace = \"0s\", max_percent = 100 }}\n");
    let scene = scene(&at_once.replace("redundancy = 2", "redundancy = 3"));
    scene.adopt();
    scene.barkeep("reconcile --once");
    assert_eq!(stored(&scene).len(), 3);
    let config = std::fs::read_to_string(scene.path("barkeep.toml")).expect("read");
    scene.configure(&config.replace("redundancy = 3", "redundancy = 2"));
    let said = scene.barkeep("reconcile --once");
    assert!(said.starts_with("exit 4\n"), "{said}");
    assert!(said.contains("blocked: the policy was shortened: REDUNDANCY 2, before REDUNDANCY 3; would delete 20261110T020003"), "{said}");
    let said = scene.barkeep("reconcile --once --approve 00000000");
    assert!(said.starts_with("exit 10\n"), "{said}");
    assert!(said.contains("no plan has the digest"), "{said}");
    assert_eq!(stored(&scene).len(), 3);
    let plan = scene.json("plan");
    let digest = plan["plans"][0]["digest"].as_str().expect("a digest");
    let said = scene.barkeep(&format!("reconcile --once --approve {digest}"));
    assert!(said.starts_with("exit 0\n"), "{said}");
    assert_eq!(stored(&scene), ["20261117T020003", "20261118T020003"]);
}

#[test]
fn a_marked_backup_is_kept_by_whoever_undeletes_it() {
    let scene = scene(SETTINGS);
    scene.adopt();
    let said = scene.barkeep("undelete orders 20261103T020003");
    assert!(
        said.contains("cannot undelete 20261103T020003: it is not marked"),
        "{said}"
    );
    scene.barkeep("reconcile --once");
    let undeleted =
        scene.json("undelete orders 20261103T020003 --reason audit --until 2040-01-01T00:00:00Z");
    assert_eq!(undeleted["keep"]["reason"], "audit");
    assert_eq!(undeleted["keep"]["target"], "full");
    assert!(undeleted["keep"]["by"]["person"].is_string());
    assert!(
        !scene
            .path("store/orders/barkeep/marks/20261103T020003")
            .exists()
    );
    let said = scene.barkeep("reconcile --once");
    assert!(said.contains("0 done"), "it is not marked again: {said}");
    let said = scene.barkeep("explain orders 20261103T020003");
    assert!(
        said.contains("kept       full until 2040-01-01T00:00:00Z, audit"),
        "{said}"
    );
    scene.barkeep("keep orders 20261103T020003 --release");
    let said = scene.barkeep("reconcile --once");
    assert!(
        said.contains("mark 20261103T020003"),
        "it is the policy's again: {said}"
    );
}

//! The main job: from a configuration to a restored cluster.

use crate::{
    harness::{Kind, Scene, text},
    support::cluster::Stop,
};

/// Every row of what the tests write.
const ROWS: &str = "SELECT t::text FROM t ORDER BY id; SELECT s::text FROM s ORDER BY id";

macro_rules! the_main_job {
    ($($name:ident: $major:literal to $kind:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            the_main_job($major, Kind::$kind).await;
        }
    )*};
}
the_main_job! {
    postgresql_15_is_restored_from_a_directory: 15 to Directory,
    postgresql_17_is_restored_from_a_directory: 17 to Directory,
    postgresql_18_is_restored_from_a_directory: 18 to Directory,
    postgresql_15_is_restored_from_s3: 15 to Strict,
    postgresql_17_is_restored_from_s3: 17 to Strict,
    postgresql_18_is_restored_from_s3: 18 to Strict,
}

async fn the_main_job(major: u32, kind: Kind) {
    let settings = "schedule = \"0 2 * * *\"\nretention = { redundancy = 2 }";
    let Some(mut scene) = Scene::new(major, kind, settings) else {
        return;
    };
    let space = scene.cluster.new_directory("space");
    scene.cluster.sql(&format!(
        "CREATE TABLESPACE space LOCATION '{}'; \
         CREATE TABLE t (id int, filler text); CREATE TABLE s (id int) TABLESPACE space; \
         INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 5000) i; \
         INSERT INTO s SELECT generate_series(1, 1000)",
        space.display()
    ));

    scene
        .run(&["validate"])
        .exits(0)
        .says("The configuration is valid.");
    scene.run(&["plan"]).exits(0).says("+ backup");
    scene.run(&["plan", "--detailed-exitcode"]).exits(2);
    scene.run(&["check"]).exits(0);
    let ran = scene.run(&["reconcile", "--once"]).exits(0);
    assert!(ran.stdout.ends_with("Left: Nothing to do.\n"), "{ran}");
    let second = scene.run(&["plan", "--detailed-exitcode"]).exits(0);
    assert!(second.stdout.ends_with("Nothing to do.\n"), "{second}");
    scene.run(&["status"]).exits(0).says("converged");
    assert_eq!(scene.place.ids("main", "DONE").len(), 1);

    scene
        .cluster
        .sql("INSERT INTO t SELECT i, 'later' FROM generate_series(5001, 6000) i");
    scene.archive_all().await;
    scene.cluster.sql("UPDATE s SET id = -id WHERE id > 500");
    let expected = scene.cluster.sql(ROWS);
    let moment = scene.cluster.sql("SELECT clock_timestamp()");
    scene.cluster.sql("DELETE FROM t; DROP TABLE s");
    scene.archive_all().await;
    scene.run(&["reconcile", "--once"]).exits(0);
    scene.cluster.stop(Stop::Fast);

    let elsewhere = text(&scene.place.path("space"));
    let arguments = [
        "--target-time",
        &moment,
        "--tablespace",
        &format!("space:{elsewhere}"),
    ];
    let copy = scene.restore(&arguments, "latest").await;
    assert_eq!(copy.sql(ROWS), expected);
    let location = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space'";
    assert_eq!(copy.sql(location), elsewhere);
    assert_eq!(copy.sql("SHOW archive_mode"), "off");
    assert_eq!(
        copy.sql("SELECT timeline_id FROM pg_control_checkpoint()"),
        "2"
    );
}

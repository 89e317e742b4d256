//! `import`: what is taken over, what is listed, and how that ends.

use std::fs;

use insta::assert_snapshot;

use crate::{documents::read, scene::Scene};

/// A Barman server with three clusters and its crontab, as `tests/barman` has them.
fn configured(scene: &Scene) {
    let directory = scene.path("").display().to_string();
    for file in [
        "barman.conf",
        "barman.d/orders.conf",
        "barman.d/crm.conf",
        "barman.d/web.conf",
        "crontab",
    ] {
        let text = read(&format!("tests/barman/configuration/{file}"));
        let text = text.replace("DIRECTORY", directory.trim_end_matches('/'));
        scene.write(file, &text);
    }
}

#[test]
fn a_barman_server_and_its_crontab_are_taken_over() {
    let scene = Scene::new();
    configured(&scene);
    assert_snapshot!(scene.barkeep("import --barman barman.conf --crontab crontab"), @r##"
    exit 5
    --- stdout
    # Taken over by `barkeep import`. Everything is only observed: `barkeep plan` shows what would be
    # done, and `mode` lets it be done, server by server (docs/migration.md).
    version = 1

    [defaults]
    time_zone = "Europe/Rome"

    [destinations.primary]
    url               = "s3://backups/pg"
    s3.encryption.sse = "AES256"
    max_bandwidth     = "4000KiB/s"
    s3.region         = "eu-south-1"
    s3.profile        = "backup"

    [servers.crm]
    # CRM, by disk snapshots
    # From [DIR]/barman.d/crm.conf:1.
    mode               = "observe"
    destination        = "primary"
    connection         = "host=/run/postgresql user=barman dbname=postgres"
    method             = "snapshot"
    schedule           = "15 */6 * * *"
    retention          = "REDUNDANCY 3"
    minimum_redundancy = 1
    wal.compression    = "gzip"
    snapshot.provider  = "aws"
    snapshot.instance  = "pg-crm"
    snapshot.region    = "eu-south-1"
    snapshot.disks     = ["pgdata", "pgwal"]

    [servers.orders]
    # Orders, by rsync
    # From [DIR]/barman.d/orders.conf:2.
    name                 = "orders-main"
    mode                 = "observe"
    destination          = "primary"
    connection           = "host=orders.example user=barman dbname=postgres"
    password             = { file = "/etc/barkeep/secrets/orders" }
    method               = "stream"
    schedule             = "30 1 * * *"
    retention            = "RECOVERY WINDOW OF 2 WEEKS"
    minimum_redundancy   = 2
    compression          = "gzip"
    wal.compression      = { codec = "zstd", level = 3 }
    jobs                 = 3
    immediate_checkpoint = true

    [servers.web]
    # Web, streaming straight to the cloud
    # From [DIR]/barman.d/web.conf:1.
    mode               = "observe"
    destination        = "primary"
    connection         = "host=web.example user=barman dbname=postgres"
    method             = "stream"
    schedule           = "30 1 * * *"
    retention          = "RECOVERY WINDOW OF 7 DAYS"
    minimum_redundancy = 2
    wal.compression    = "gzip"
    max_archive_size   = "20GiB"
    wal.max_lag        = "2h"
    wal.receive        = {}

    # What has no equivalent:
    # [DIR]/barman.d/orders.conf:5: the password in conninfo: write it into /etc/barkeep/secrets/orders, readable by barkeep only
    # [DIR]/barman.d/orders.conf:7: reuse_backup: `incremental` backs up what has changed, from PostgreSQL 17 on
    # [DIR]/barman.d/orders.conf:14: post_delete_script: there are no hooks; run it before or after `barkeep reconcile --once`
    --- stderr
    [DIR]/barman.d/crm.conf:10: ssh_command: not needed: barkeep runs beside PostgreSQL, or has it send its files
    [DIR]/barman.d/crm.conf:11: archiver: not needed: barkeep looks at what is in the destination
    [DIR]/barman.d/crm.conf:12: retention_policy: not needed: Barman's is for its own disk; it is taken for the destination where no `barman-cloud-backup-delete` says another one
    [DIR]/barman.d/orders.conf:4: ssh_command: not needed: barkeep runs beside PostgreSQL, or has it send its files
    [DIR]/barman.d/orders.conf:5: the password in conninfo: no equivalent: write it into /etc/barkeep/secrets/orders, readable by barkeep only
    [DIR]/barman.d/orders.conf:7: reuse_backup: no equivalent: `incremental` backs up what has changed, from PostgreSQL 17 on
    [DIR]/barman.d/orders.conf:8: archiver: not needed: barkeep looks at what is in the destination
    [DIR]/barman.d/orders.conf:9: path_prefix: not needed: no program of PostgreSQL's is called; a restore of incrementals has `--pg-bin`
    [DIR]/barman.d/orders.conf:14: post_delete_script: no equivalent: there are no hooks; run it before or after `barkeep reconcile --once`
    [DIR]/barman.d/web.conf:4: streaming_conninfo: not needed: a server has one `connection`, whose role needs REPLICATION to have files or WAL sent
    [DIR]/barman.d/web.conf:7: slot_name: not needed: barkeep makes a slot of its own; drop Barman's when Barman is gone
    [DIR]/barman.d/web.conf:11: a limit for one server: not needed: it holds for all servers of the destination together
    barman.conf:3: barman_user: not needed: it is about Barman's own process
    barman.conf:5: barman_home: not needed: backups lie in the destination, and nowhere else
    barman.conf:6: log_file: not needed: barkeep logs to standard error
    barman.conf:7: log_level: not needed: `-v` and `-q`
    barman.conf:9: retention_policy: not needed: Barman's is for its own disk; it is taken for the destination where no `barman-cloud-backup-delete` says another one
    barman.conf:11: last_backup_maximum_age: not needed: `barkeep status` tells when a backup is overdue, by the schedule
    crontab:3: barman cron: not needed: `barkeep reconcile` does what is due
    "##);
}

#[test]
fn a_second_catalog_of_one_server_is_a_copy_of_the_first() {
    let scene = Scene::new();
    scene.write(
        "barman.conf",
        "[barman]\nbarman_home = /b\n[orders]\nconninfo = host=orders.example user=x dbname=postgres\n\
         retention_policy = REDUNDANCY 2\n\
         basebackups_directory = s3://near/pg\nwals_directory = s3://near/pg\n\
         post_backup_script = barman-cloud-backup --gzip --aws-region eu-west-1 s3://far/pg orders && \
         barman-cloud-backup-delete -r 'RECOVERY WINDOW OF 90 DAYS' s3://far/pg orders\n\
         post_archive_script = barman-cloud-wal-archive s3://third/pg orders\n",
    );
    scene.write("crontab", "30 1 * * * barman barman backup all\n");
    assert_snapshot!(scene.barkeep("import --barman barman.conf --crontab crontab --time-zone UTC"), @r##"
    exit 0
    --- stdout
    # Taken over by `barkeep import`. Everything is only observed: `barkeep plan` shows what would be
    # done, and `mode` lets it be done, server by server (docs/migration.md).
    version = 1

    [defaults]
    time_zone = "UTC"

    [destinations.near]
    url = "s3://near/pg"

    [destinations.third]
    url = "s3://third/pg"

    [destinations.far]
    url = "s3://far/pg"

    [servers.orders]
    # From barman.conf:3.
    mode       = "observe"
    connection = "host=orders.example user=x dbname=postgres"
    method     = "stream"
    schedule   = "30 1 * * *"
    retention  = "REDUNDANCY 2"

    [[servers.orders.backups]]
    destination = "near"

    [[servers.orders.backups]]
    # From barman.conf:9.
    destination = "third"
    copy_of     = "near"
    wal         = "healed"
    retention   = "none"

    [[servers.orders.backups]]
    # From barman.conf:8.
    destination        = "far"
    copy_of            = "near"
    wal                = "healed"
    retention          = "RECOVERY WINDOW OF 90 DAYS"
    minimum_redundancy = 1
    --- stderr
    barman.conf:2: barman_home: not needed: backups lie in the destination, and nowhere else
    barman.conf:8: snapshot.region: not needed: a copy is as what it is a copy of
    barman.conf:8: compression: not needed: a copy is as what it is a copy of
    "##);
}

#[test]
fn objects_of_cloudnativepg_are_taken_over() {
    let scene = Scene::new();
    scene.write("pg.yaml", OBJECTS);
    assert_snapshot!(scene.barkeep("import --kubernetes pg.yaml --time-zone UTC"), @r##"
    exit 5
    --- stdout
    # Taken over by `barkeep import`. Everything is only observed: `barkeep plan` shows what would be
    # done, and `mode` lets it be done, server by server (docs/migration.md).
    version = 1

    [defaults]
    time_zone = "UTC"

    [destinations.primary]
    url               = "s3://backups"
    s3.endpoint_url   = "https://minio.example"
    s3.read_timeout   = "60s"
    s3.tags           = { team = "db" }
    s3.encryption.sse = "AES256"
    s3.checksums      = "when_required"

    [servers.shop]
    # From pg.yaml:32.
    name                 = "shop-v2"
    mode                 = "observe"
    destination          = "primary"
    connection           = "host=shop-rw.prod user=barkeep dbname=postgres"
    method               = "stream"
    schedule             = "30 2 * * *"
    retention            = "RECOVERY WINDOW OF 30 DAYS"
    minimum_redundancy   = 1
    compression          = "gzip"
    wal.compression      = "zstd"
    immediate_checkpoint = true

    # What has no equivalent:
    # pg.yaml:10: accessKeyId of Secret minio: give barkeep the Secret's `ID` as AWS_ACCESS_KEY_ID
    # pg.yaml:11: secretAccessKey of Secret minio: give barkeep the Secret's `SECRET` as AWS_SECRET_ACCESS_KEY
    # pg.yaml:24: unknown: it is not known
    # pg.yaml:32: the credentials of Cluster shop: make the role `barkeep`, and say where its password is
    --- stderr
    pg.yaml:10: accessKeyId of Secret minio: no equivalent: give barkeep the Secret's `ID` as AWS_ACCESS_KEY_ID
    pg.yaml:11: secretAccessKey of Secret minio: no equivalent: give barkeep the Secret's `SECRET` as AWS_SECRET_ACCESS_KEY
    pg.yaml:18: wal.maxParallel: not needed: barkeep archives what waits in one call, and reads ahead by `wal.read_ahead`
    pg.yaml:24: unknown: no equivalent: it is not known
    pg.yaml:30: logLevel: not needed: it is about the sidecar
    pg.yaml:32: the credentials of Cluster shop: no equivalent: make the role `barkeep`, and say where its password is
    pg.yaml:55: Secret minio: not needed: it says nothing of backups
    "##);
}

#[test]
fn nothing_is_overwritten_and_something_must_be_read() {
    let scene = Scene::new();
    scene.write("cron", "# nothing\n");
    assert_snapshot!(scene.barkeep("import --crontab cron --output barkeep.toml"), @r##"
    exit 3
    --- stderr
    error: `barkeep.toml` is there already, and is not overwritten
    "##);
    assert_snapshot!(scene.barkeep("import"), @r##"
    exit 3
    --- stderr
    error: the following required arguments were not provided:
      <--barman <FILE>|--crontab <FILE>|--kubernetes <FILE>>

    Usage: barkeep import --config <PATH> <--barman <FILE>|--crontab <FILE>|--kubernetes <FILE>>

    For more information, try '--help'.
    "##);
    assert_snapshot!(scene.barkeep("import --crontab nowhere"), @r##"
    exit 1
    --- stderr
    error: cannot read `nowhere`: No such file or directory (os error 2)
    "##);
    assert_snapshot!(scene.barkeep("import --crontab cron --time-zone UTC --output new.toml"), @r##"
    exit 0
    --- stderr
    wrote new.toml
    "##);
    let written = fs::read_to_string(scene.path("new.toml")).expect("it is there");
    assert!(
        written.ends_with("[defaults]\ntime_zone = \"UTC\"\n"),
        "{written}"
    );
}

#[test]
fn what_cannot_be_a_configuration_is_written_to_be_mended() {
    let scene = Scene::new();
    let line = "0 2 * * * barman-cloud-backup-delete -r 'REDUNDANCY 1' -m 3 s3://b s\n";
    scene.write("cron", line);
    let said = scene.barkeep("import --crontab cron --time-zone UTC");
    assert!(said.starts_with("exit 3\n"), "{said}");
    assert!(
        said.contains("retention          = \"REDUNDANCY 1\""),
        "{said}"
    );
    assert!(
        said.contains("the retention never holds so many backups"),
        "{said}"
    );
}

const OBJECTS: &str = r#"apiVersion: barmancloud.cnpg.io/v1
kind: ObjectStore
metadata:
  name: store
spec:
  configuration:
    destinationPath: s3://backups/
    endpointURL: https://minio.example
    s3Credentials:
      accessKeyId: {name: minio, key: ID}
      secretAccessKey:
        name: minio
        key: SECRET
    tags: {team: db}
    wal:
      compression: zstd
      encryption: AES256
      maxParallel: 8
    data:
      compression: gzip
      jobs: 2
      immediateCheckpoint: true
      additionalCommandArgs: ["--read-timeout=60"]
      unknown: 1
  retentionPolicy: "30d"
  instanceSidecarConfiguration:
    env:
      - name: AWS_REQUEST_CHECKSUM_CALCULATION
        value: when_required
    logLevel: debug
---
apiVersion: postgresql.cnpg.io/v1
kind: Cluster
metadata:
  name: shop
  namespace: prod
spec:
  instances: 3
  plugins:
    - name: barman-cloud.cloudnative-pg.io
      isWALArchiver: true
      parameters:
        barmanObjectName: store
        serverName: shop-v2
---
apiVersion: postgresql.cnpg.io/v1
kind: ScheduledBackup
metadata:
  name: nightly
spec:
  schedule: "0 30 2 * * *"
  cluster:
    name: shop
---
apiVersion: v1
kind: Secret
metadata:
  name: minio
"#;

//! The options of `barman-cloud-backup`.

use super::{
    super::{
        argparse::{Grammar, Group, Takes},
        kinds::Kind,
    },
    AWS_REGION, AZURE_RESOURCE_GROUP, DESTINATION, ENCRYPTION_SCOPE, EVERY, GCP_ZONE, KMS_KEY_NAME,
    S3_ENCRYPTION, SIZE, TAGS, TEXT, codec, option,
};

pub(in crate::cli::barman) static BACKUP: Grammar = Grammar {
    program: "barman-cloud-backup",
    about: "Back up the files of a PostgreSQL server that runs here.",
    arguments: &[
        &DESTINATION,
        &EVERY,
        &[
            codec(&["-z", "--gzip"], "gz", "compress with gzip"),
            codec(&["-j", "--bzip2"], "bz2", "compress with bzip2"),
            codec(&["--snappy"], "snappy", "compress with snappy"),
            codec(&["--lz4"], "lz4", "compress with lz4"),
            option(
                "host",
                &["-h", "--host"],
                TEXT,
                "the server's host or socket directory",
            ),
            option("port", &["-p", "--port"], TEXT, "the server's port"),
            option("user", &["-U", "--user"], TEXT, "the role to connect as"),
            option(
                "immediate_checkpoint",
                &["--immediate-checkpoint"],
                Takes::Nothing,
                "begin with a fast checkpoint",
            ),
            option(
                "jobs",
                &["-J", "--jobs"],
                Takes::One(Kind::Positive),
                "how many archives are made at once",
            )
            .or("2"),
            option(
                "max_archive_size",
                &["-S", "--max-archive-size"],
                SIZE,
                "when an archive ends and the next begins",
            )
            .or("100GB"),
            option(
                "min_chunk_size",
                &["--min-chunk-size"],
                SIZE,
                "the least size of the parts of an upload",
            ),
            option(
                "max_bandwidth",
                &["--max-bandwidth"],
                SIZE,
                "bytes a second that may be sent",
            ),
            option(
                "dbname",
                &["-d", "--dbname"],
                TEXT,
                "a database or a connection string",
            )
            .or("postgres"),
            option(
                "backup_name",
                &["-n", "--name"],
                Takes::One(Kind::BackupName),
                "a name for the backup",
            ),
            option(
                "snapshot_instance",
                &["--snapshot-instance"],
                TEXT,
                "the instance whose disks are snapshotted",
            ),
            option(
                "snapshot_disks",
                &["--snapshot-disk"],
                Takes::Each(Kind::Text),
                "one of its disks",
            ),
            option(
                "gcp_zone",
                &["--snapshot-zone"],
                TEXT,
                "Google: the older spelling of --gcp-zone",
            ),
            option(
                "gcp_project",
                &["--snapshot-gcp-project"],
                TEXT,
                "Google: the older spelling of --gcp-project",
            ),
            option(
                "gcp_project",
                &["--gcp-project"],
                TEXT,
                "Google: the project of the snapshots",
            ),
            KMS_KEY_NAME,
            GCP_ZONE,
        ],
        &TAGS,
        &S3_ENCRYPTION,
        &[
            AWS_REGION,
            option(
                "aws_await_snapshots_timeout",
                &["--aws-await-snapshots-timeout"],
                Takes::One(Kind::Positive),
                "AWS: seconds to wait for the snapshots",
            )
            .or("3600"),
            option(
                "aws_snapshot_lock_mode",
                &["--aws-snapshot-lock-mode"],
                Takes::One(Kind::Choice(&["governance", "compliance"])),
                "AWS: lock the snapshots in this mode",
            ),
            option(
                "aws_snapshot_lock_cool_off_period",
                &["--aws-snapshot-lock-cool-off-period"],
                Takes::One(Kind::CoolOff),
                "AWS: hours in which the lock can be changed",
            ),
            option(
                "aws_snapshot_lock_expiration_date",
                &["--aws-snapshot-lock-expiration-date"],
                Takes::One(Kind::Instant),
                "AWS: when the lock ends",
            )
            .of(Group::LockEnd),
            option(
                "aws_snapshot_lock_duration",
                &["--aws-snapshot-lock-duration"],
                Takes::One(Kind::LockDays),
                "AWS: how many days the lock lasts",
            )
            .of(Group::LockEnd),
            ENCRYPTION_SCOPE,
            option(
                "azure_subscription_id",
                &["--azure-subscription-id"],
                TEXT,
                "Azure: the subscription of the instance",
            ),
            AZURE_RESOURCE_GROUP,
        ],
    ],
};

//! The command lines of the nine commands, as data.
//!
//! Names, spellings, defaults, choices and their order are Barman 3.19's, for an ambiguous beginning is told with all that it could mean,
//! in that order. What belongs to one provider is taken for every provider, and ignored elsewhere.

mod backup;
mod wal;

pub(super) use backup::BACKUP;
pub(super) use wal::{WAL_ARCHIVE, WAL_RESTORE};

use super::{
    argparse::{Argument, Grammar, Group, Takes},
    kinds::Kind,
};

const PROVIDERS: Kind = Kind::Choice(&["aws-s3", "azure-blob-storage", "google-cloud-storage"]);
const ENCRYPTIONS: Kind = Kind::Choice(&["AES256", "aws:kms"]);

const TEXT: Takes = Takes::One(Kind::Text);
const SIZE: Takes = Takes::One(Kind::Size);

const fn positional(name: &'static str, help: &'static str) -> Argument {
    option(name, &[], TEXT, help)
}

const fn option(
    name: &'static str,
    flags: &'static [&'static str],
    takes: Takes,
    help: &'static str,
) -> Argument {
    Argument {
        name,
        flags,
        takes,
        default: None,
        group: None,
        help,
    }
}

impl Argument {
    const fn or(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    const fn of(self, group: Group) -> Self {
        Self {
            group: Some(group),
            ..self
        }
    }
}

const SOURCE: [Argument; 2] = [
    positional(
        "source_url",
        "where the catalog is, such as s3://bucket/path",
    ),
    SERVER,
];
const DESTINATION: [Argument; 2] = [
    positional(
        "destination_url",
        "where the catalog is, such as s3://bucket/path",
    ),
    SERVER,
];
const SERVER: Argument = positional("server_name", "the name of the server in the catalog");
const BACKUP_ID: Argument = positional(
    "backup_id",
    "a backup: its id, its name, or a word such as `latest`",
);

/// What every command takes.
const EVERY: [Argument; 12] = [
    option(
        "version",
        &["-V", "--version"],
        Takes::Version,
        "tell the version that this command behaves as",
    ),
    option(
        "help",
        &["--help"],
        Takes::Help,
        "tell how the command is used",
    ),
    option(
        "verbose",
        &["-v", "--verbose"],
        Takes::Count,
        "say more; twice says everything",
    )
    .of(Group::Verbosity),
    option(
        "quiet",
        &["-q", "--quiet"],
        Takes::Count,
        "say less; twice says nothing",
    )
    .of(Group::Verbosity),
    option(
        "test",
        &["-t", "--test"],
        Takes::Nothing,
        "only see whether the store answers",
    ),
    option(
        "cloud_provider",
        &["--cloud-provider"],
        Takes::One(PROVIDERS),
        "the kind of store",
    )
    .or("aws-s3"),
    option(
        "endpoint_url",
        &["--endpoint-url"],
        TEXT,
        "S3: the URL of a store that is not AWS",
    ),
    option(
        "aws_profile",
        &["-P", "--aws-profile"],
        TEXT,
        "AWS: a profile of the shared configuration",
    ),
    option(
        "aws_profile",
        &["--profile"],
        TEXT,
        "AWS: the older spelling of --aws-profile",
    ),
    option(
        "read_timeout",
        &["--read-timeout"],
        Takes::One(Kind::Integer),
        "S3: seconds that an answer may take",
    ),
    option(
        "addressing_style",
        &["--addressing-style"],
        Takes::One(Kind::Choice(&["auto", "virtual", "path"])),
        "S3: where requests have the bucket's name",
    ),
    option(
        "azure_credential",
        &["--azure-credential", "--credential", "--default"],
        Takes::One(Kind::Choice(&["azure-cli", "managed-identity", "default"])),
        "Azure: which credential to ask for",
    ),
];

const TAGS: [Argument; 2] = [
    option(
        "tags_list",
        &["--tags"],
        Takes::Any(Kind::CsvTag),
        "tags of all that is written, each KEY,VALUE",
    )
    .of(Group::Tags),
    option(
        "tags_append",
        &["--tag"],
        Takes::Each(Kind::Tag),
        "one tag of all that is written: KEY,VALUE",
    )
    .of(Group::Tags),
];

const S3_ENCRYPTION: [Argument; 2] = [
    option(
        "encryption",
        &["-e", "--encryption"],
        Takes::One(ENCRYPTIONS),
        "S3: how the store encrypts",
    ),
    option(
        "sse_kms_key_id",
        &["--sse-kms-key-id"],
        TEXT,
        "S3: the key that `aws:kms` encrypts with",
    ),
];

const KMS_KEY_NAME: Argument = option(
    "kms_key_name",
    &["--kms-key-name"],
    TEXT,
    "Google: the key that objects are encrypted with",
);
const ENCRYPTION_SCOPE: Argument = option(
    "encryption_scope",
    &["--encryption-scope"],
    TEXT,
    "Azure: the encryption scope of what is written",
);
const AWS_REGION: Argument = option(
    "aws_region",
    &["--aws-region"],
    TEXT,
    "AWS: the region of the snapshots",
);
const GCP_ZONE: Argument = option(
    "gcp_zone",
    &["--gcp-zone"],
    TEXT,
    "Google: the zone of the instance",
);
const AZURE_RESOURCE_GROUP: Argument = option(
    "azure_resource_group",
    &["--azure-resource-group"],
    TEXT,
    "Azure: the resource group of the instance",
);
const FORMAT: Argument = option(
    "format",
    &["--format"],
    TEXT,
    "`console`; anything else is JSON",
)
.or("console");

const fn codec(flags: &'static [&'static str], word: &'static str, help: &'static str) -> Argument {
    option("compression", flags, Takes::Word(word), help).of(Group::Compression)
}

pub(super) static BACKUP_DELETE: Grammar = Grammar {
    program: "barman-cloud-backup-delete",
    about: "Delete a backup, or all that a retention policy no longer wants.",
    arguments: &[
        &SOURCE,
        &EVERY,
        &[
            option(
                "backup_id",
                &["-b", "--backup-id"],
                TEXT,
                "the backup to delete",
            )
            .of(Group::Doomed),
            option(
                "minimum_redundancy",
                &["-m", "--minimum-redundancy"],
                Takes::One(Kind::NonNegative),
                "how many backups stay at least",
            )
            .or("0"),
            option(
                "retention_policy",
                &["-r", "--retention-policy"],
                TEXT,
                "such as `RECOVERY WINDOW OF 30 DAYS`",
            )
            .of(Group::Doomed),
            option(
                "dry_run",
                &["--dry-run"],
                Takes::Nothing,
                "tell what would be deleted, and delete nothing",
            ),
            option(
                "delete_batch_size",
                &["--batch-size"],
                Takes::One(Kind::Integer),
                "how many objects one request deletes",
            ),
            option(
                "check_object_lock",
                &["--check-object-lock"],
                Takes::Nothing,
                "S3: leave backups with locked objects",
            ),
        ],
    ],
};

pub(super) static BACKUP_KEEP: Grammar = Grammar {
    program: "barman-cloud-backup-keep",
    about: "Keep a backup whatever the retention policy says, or no longer.",
    arguments: &[
        &SOURCE,
        &EVERY,
        &[
            BACKUP_ID,
            option(
                "release",
                &["-r", "--release"],
                Takes::Nothing,
                "keep it no longer",
            )
            .of(Group::Keep),
            option(
                "status",
                &["-s", "--status"],
                Takes::Nothing,
                "tell whether it is kept",
            )
            .of(Group::Keep),
            option(
                "target",
                &["--target"],
                Takes::One(Kind::Choice(&["full", "standalone"])),
                "keep it with all WAL since, or with what makes it consistent",
            )
            .of(Group::Keep),
        ],
    ],
};

pub(super) static BACKUP_LIST: Grammar = Grammar {
    program: "barman-cloud-backup-list",
    about: "List the backups of a server.",
    arguments: &[&SOURCE, &EVERY, &[FORMAT]],
};

pub(super) static BACKUP_SHOW: Grammar = Grammar {
    program: "barman-cloud-backup-show",
    about: "Show what is recorded of a backup.",
    arguments: &[&SOURCE, &EVERY, &[BACKUP_ID, FORMAT]],
};

pub(super) static CHECK_WAL_ARCHIVE: Grammar = Grammar {
    program: "barman-cloud-check-wal-archive",
    about: "See whether a new server can archive its WAL there.",
    arguments: &[
        &DESTINATION,
        &EVERY,
        &[option(
            "timeline",
            &["--timeline"],
            Takes::One(Kind::Positive),
            "the first timeline of which there must be no WAL",
        )],
    ],
};

pub(super) static RESTORE: Grammar = Grammar {
    program: "barman-cloud-restore",
    about: "Restore a backup into a directory.",
    arguments: &[
        &SOURCE,
        &EVERY,
        &[
            BACKUP_ID,
            positional("recovery_dir", "the directory to restore into"),
            option(
                "tablespace",
                &["--tablespace"],
                Takes::Each(Kind::Text),
                "where a tablespace goes: NAME:LOCATION",
            ),
            option(
                "snapshot_recovery_instance",
                &["--snapshot-recovery-instance"],
                TEXT,
                "the instance that the snapshots' disks are attached to",
            ),
            option(
                "gcp_zone",
                &["--snapshot-recovery-zone"],
                TEXT,
                "Google: the older spelling of --gcp-zone",
            ),
            AWS_REGION,
            GCP_ZONE,
            AZURE_RESOURCE_GROUP,
            option(
                "target_tli",
                &["--target-tli"],
                Takes::One(Kind::Timeline),
                "with `auto`: the timeline to reach",
            ),
            option(
                "target_lsn",
                &["--target-lsn"],
                TEXT,
                "with `auto`: the WAL position to reach",
            )
            .of(Group::Target),
            option(
                "target_time",
                &["--target-time"],
                TEXT,
                "with `auto`: the instant to reach",
            )
            .of(Group::Target),
        ],
    ],
};

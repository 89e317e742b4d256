//! The options of the two WAL commands.

use super::{
    super::{
        argparse::{Grammar, Group, Takes},
        kinds::Kind,
    },
    DESTINATION, ENCRYPTION_SCOPE, EVERY, KMS_KEY_NAME, S3_ENCRYPTION, SIZE, SOURCE, TAGS, TEXT,
    codec, option, positional,
};

pub(in crate::cli::barman) static WAL_ARCHIVE: Grammar = Grammar {
    program: "barman-cloud-wal-archive",
    about: "Archive one WAL file: for archive_command.",
    arguments: &[
        &DESTINATION,
        &EVERY,
        &[
            option(
                "wal_path",
                &[],
                Takes::Maybe(Kind::Text),
                "the WAL file: PostgreSQL's %p",
            ),
            codec(&["-z", "--gzip"], "gzip", "compress with gzip"),
            codec(&["-j", "--bzip2"], "bzip2", "compress with bzip2"),
            codec(&["--xz"], "xz", "compress with xz"),
            codec(&["--snappy"], "snappy", "compress with snappy"),
            codec(&["--zstd"], "zstd", "compress with zstd"),
            codec(&["--lz4"], "lz4", "compress with lz4"),
            option(
                "compression_level",
                &["--compression-level"],
                Takes::One(Kind::Level),
                "`low`, `medium`, `high` or a number",
            ),
        ],
        &TAGS,
        &[
            option(
                "history_tags_list",
                &["--history-tags"],
                Takes::Any(Kind::CsvTag),
                "tags of timeline histories instead, each KEY,VALUE",
            )
            .of(Group::HistoryTags),
            option(
                "history_tags_append",
                &["--history-tag"],
                Takes::Each(Kind::Tag),
                "one tag of timeline histories instead: KEY,VALUE",
            )
            .of(Group::HistoryTags),
            KMS_KEY_NAME,
        ],
        &S3_ENCRYPTION,
        &[
            ENCRYPTION_SCOPE,
            option(
                "max_block_size",
                &["--max-block-size"],
                SIZE,
                "Azure: the size of the blocks of an upload",
            )
            .or("4MB"),
            option(
                "max_concurrency",
                &["--max-concurrency"],
                Takes::One(Kind::Positive),
                "Azure: how many blocks are sent at once",
            )
            .or("1"),
            option(
                "max_single_put_size",
                &["--max-single-put-size"],
                SIZE,
                "Azure: from which size on blocks are sent",
            )
            .or("64MB"),
        ],
    ],
};

pub(in crate::cli::barman) static WAL_RESTORE: Grammar = Grammar {
    program: "barman-cloud-wal-restore",
    about: "Fetch one WAL file: for restore_command.",
    arguments: &[
        &SOURCE,
        &EVERY,
        &[
            option(
                "no_partial",
                &["--no-partial"],
                Takes::Nothing,
                "never deliver a partial segment",
            ),
            option(
                "parallel",
                &["-p", "--parallel"],
                Takes::One(Kind::Integer),
                "how many segments to fetch at once",
            )
            .or("0"),
            option(
                "spool_dir",
                &["--spool-dir"],
                TEXT,
                "where segments fetched ahead lie",
            )
            .or("/var/tmp/walrestore"),
            positional("wal_name", "the WAL file: PostgreSQL's %f"),
            positional("wal_dest", "where to put it: PostgreSQL's %p"),
        ],
    ],
};

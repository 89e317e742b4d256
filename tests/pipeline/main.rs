//! The data plane against other people's programs: Barman's own code reads our archives and WAL
//! files, and we read what it makes; GNU tar reads our archives; PostgreSQL's clusters have no
//! damaged page until one is damaged.

mod bed;
mod tree;

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use barkeep::{
    model::{
        compression::{Codec, Compression},
        wal::Lsn,
    },
    pipeline::{
        compress::{self, parallel},
        page::{PageReport, Verified, file_number},
        tar::Writer,
        untar::{Destination, Durability, Options, Ownership, Symlinks},
    },
};

use self::{bed::run, tree::Tree};

const FOR_BASE: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Bzip2,
    Compression::Snappy,
    Compression::Lz4,
];

fn python() -> Option<String> {
    bed::value("BARMAN_BIN").map(|bin| format!("{bin}/python"))
}

fn peer(python: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/pipeline/peer.py"
    ));
    command
}

fn archive(tree: &Path, codec: Codec, file: &Path) {
    let workers = parallel::Workers::start(2).expect("threads start");
    let sink = File::create(file).expect("a new file");
    let sink = parallel::Encoder::new(codec, &workers, 4, sink).expect("the disk takes it");
    let mut writer = Writer::new(sink);
    tree::append(&mut writer, tree);
    let encoder = writer.finish().expect("the disk takes it");
    encoder.finish().expect("the disk takes it");
}

fn extract(file: &Path, compression: Compression, directory: &Path) {
    let options = Options {
        ownership: Ownership::Process,
        symlinks: Symlinks::Any,
    };
    let source = BufReader::new(File::open(file).expect("it was made"));
    let destination = Destination::open(directory, options).expect("a new directory");
    let decoder = compress::Decoder::new(compression, source).expect("the codec starts");
    destination.extract(decoder).expect("extractable");
    destination.finish(Durability::Leave).expect("writable");
}

#[test]
fn barman_extracts_our_archives() {
    let Some(python) = python() else { return };
    let tree = Tree::new();
    for compression in FOR_BASE {
        let codec = Codec::for_base(compression, None).expect("the default level is in range");
        let file = tree.beside(&format!("data.tar{}", compression.extension()));
        archive(tree.path(), codec, &file);
        let restored = tree.beside(compression.word());
        run(peer(&python)
            .arg("restore-archive")
            .arg(&file)
            .arg(&restored));
        tree.assert_same_as(&restored);
    }
}

#[test]
fn we_extract_barmans_archives() {
    let Some(python) = python() else { return };
    let tree = Tree::new();
    for compression in FOR_BASE {
        let file = tree.beside(&format!("data.tar{}", compression.extension()));
        run(peer(&python)
            .arg("backup-archive")
            .arg(tree.path())
            .arg(&file));
        let restored = tree.beside(compression.word());
        extract(&file, compression, &restored);
        tree.assert_same_as(&restored);
    }
}

#[test]
fn gnu_tar_extracts_our_archives() {
    let tree = Tree::new();
    let file = tree.beside("data.tar");
    archive(tree.path(), Codec::NONE, &file);
    let restored = tree.beside("gnu");
    fs::create_dir(&restored).expect("a new directory");
    run(Command::new("tar")
        .arg("-xpf")
        .arg(&file)
        .arg("-C")
        .arg(&restored));
    tree.assert_same_as(&restored);
}

#[test]
fn barman_reads_our_wal_files_and_we_read_its() {
    let Some(python) = python() else { return };
    let tree = Tree::new();
    let segment = tree.beside("000000010000000000000001");
    let content = tree::noise(2 << 20);
    fs::write(&segment, &content).expect("a new file");
    for compression in Compression::ALL.into_iter().skip(1) {
        let codec = Codec::for_wal(compression, None).expect("the default level is in range");
        let (ours, theirs) = (tree.beside("ours"), tree.beside("theirs"));
        let restored = tree.beside("restored");

        let sink = File::create(&ours).expect("writable");
        let size = Some(content.len() as u64);
        let mut encoder = compress::Encoder::new(codec, size, sink).expect("the disk takes it");
        encoder.write_all(&content).expect("the disk takes it");
        encoder.finish().expect("the disk takes it");
        let word = compression.word();
        run(peer(&python)
            .arg("restore-wal")
            .arg(&ours)
            .arg(word)
            .arg(&restored));
        assert!(
            fs::read(&restored).expect("it was made") == content,
            "ours, {word}"
        );

        run(peer(&python)
            .arg("backup-wal")
            .arg(&segment)
            .arg(word)
            .arg(&theirs));
        let source = BufReader::new(File::open(&theirs).expect("it was made"));
        let mut decoder = compress::Decoder::new(compression, source).expect("the codec starts");
        let mut read = Vec::new();
        decoder.read_to_end(&mut read).expect("readable");
        assert!(read == content, "theirs, {word}");
    }
}

/// Verifies every file of every relation of a cluster.
fn verify(data: &Path) -> Vec<(PathBuf, PageReport)> {
    let relations = tree::walk(data)
        .into_iter()
        .filter_map(|path| file_number(&path).map(|number| (path, number)));
    relations
        .map(|(path, number)| {
            let file = File::open(data.join(&path)).expect("readable");
            let mut pages = Verified::new(file, number, Lsn(u64::MAX));
            io::copy(&mut pages, &mut io::sink()).expect("readable");
            (path, pages.finish())
        })
        .collect()
}

#[test]
fn the_pages_of_a_cluster_are_valid_until_one_is_damaged() {
    for key in ["PG13_BIN", "PG15_BIN", "PG18_BIN"] {
        let (Some(bin), Some(user)) = (bed::value(key), bed::value("PG_USER")) else {
            return;
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        let mut initdb = if user.is_empty() {
            Command::new(format!("{bin}/initdb"))
        } else {
            run(Command::new("chown").arg(&user).arg(directory.path()));
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={user}"));
            command.arg("--init-groups").arg(format!("{bin}/initdb"));
            command.current_dir("/");
            command
        };
        run(initdb
            .arg("--data-checksums")
            .arg("--no-sync")
            .arg("-D")
            .arg(&data));

        let reports = verify(&data);
        let valid: u64 = reports.iter().map(|(_, report)| report.valid).sum();
        assert!(valid > 1000, "{key}: {valid} pages");
        for (path, report) in reports {
            let path = path.display();
            assert_eq!((report.damaged, report.trailing), (0, 0), "{key} {path}");
        }

        // `pg_database` is one of the relations that all databases share.
        let relation = data.join("global/1262");
        let mut bytes = fs::read(&relation).expect("it is a relation");
        bytes[8000] ^= 1;
        fs::write(&relation, bytes).expect("writable");
        let damaged: Vec<_> = verify(&data)
            .into_iter()
            .filter(|(_, report)| report.damaged > 0)
            .map(|(path, report)| (path, report.blocks))
            .collect();
        assert_eq!(damaged, [(PathBuf::from("global/1262"), vec![0])], "{key}");
    }
}

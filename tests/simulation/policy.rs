//! Configurations as people write them, drawn anew whenever somebody changes their mind.

use std::fmt::Write as _;

use barkeep::{
    config::{Style, compile::compile, load},
    model::desired::Desired,
};

use crate::{cloud::DISKS, dice::Dice};

/// What does not change while a history goes on.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) servers: Vec<String>,
    pub(crate) copies: bool,
    pub(crate) locks: bool,
    pub(crate) backups: Backups,
    pub(crate) budget: u64,
    /// Whether backups are taken of standbys: their primaries write and archive.
    pub(crate) standby: bool,
    /// How WAL gets to the copy.
    pub(crate) delivery: &'static str,
}

/// How backups are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backups {
    /// Each by itself.
    Full,
    /// They build on one another, mostly.
    Incremental,
    /// They consist of snapshots of disks.
    Snapshots,
}

impl Layout {
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        let servers = 1 + dice.roll(2);
        let disks = dice.percent(25);
        let name = |number| ["alpha", "beta"][usize::try_from(number).expect("few")].to_owned();
        Self {
            servers: (0..servers).map(name).collect(),
            copies: dice.percent(50) && !disks,
            locks: dice.percent(30),
            budget: 1 + dice.roll(4),
            delivery: dice.pick(&["required", "healed", "none"]),
            backups: match (dice.percent(30), disks) {
                (_, true) => Backups::Snapshots,
                (true, false) => Backups::Incremental,
                (false, false) => Backups::Full,
            },
            standby: dice.percent(20),
        }
    }

    pub(crate) fn places(&self) -> &'static [&'static str] {
        if self.copies {
            &["one", "two"]
        } else {
            &["one"]
        }
    }

    /// A configuration.
    pub(crate) fn configuration(&self, dice: &mut Dice) -> Desired {
        let mut text = "version = 1\n[service]\ncheck_every = \"5h\"\n".to_owned();
        for place in self.places() {
            writeln!(text, "[destinations.{place}]\nurl = \"file:///{place}\"").expect("text");
        }
        for server in &self.servers {
            writeln!(text, "[servers.{server}]\nconnection = \"host={server}\"").expect("text");
            for place in self.places() {
                text += &self.entry(dice, server, place);
            }
        }
        let compiled = compile(load::from_texts(&[("barkeep.toml", &text)]));
        let compiled =
            compiled.unwrap_or_else(|report| panic!("{text}\n{}", report.render(Style::Plain)));
        let mut desired = compiled.desired;
        for server in desired.servers.values_mut() {
            for entry in &mut server.entries {
                entry.files.part_bytes = dice.pick(&[4096, 1 << 20]);
            }
        }
        desired
    }

    fn entry(&self, dice: &mut Dice, server: &str, place: &str) -> String {
        let (budget, delivery) = (self.budget, self.delivery);
        let mut text = format!("[[servers.{server}.backups]]\ndestination = \"{place}\"\n");
        if place == "two" {
            writeln!(
                text,
                "copy_of = \"one\"\nwal = {{ delivery = \"{delivery}\" }}"
            )
            .expect("text");
        } else {
            let schedule = dice.pick(&[
                "{ every = \"24h\", at = \"02:00\" }",
                "{ every = \"12h\" }",
                "\"30 1,9,17 * * *\"",
            ]);
            writeln!(text, "schedule = {schedule}").expect("text");
            text += "wal = { max_lag = \"3h\", compression = \"none\" }\n";
            text += &self.method(server);
            if self.backups == Backups::Incremental && dice.percent(80) {
                let (days, chain) = (1 + dice.roll(4), 2 + dice.roll(4));
                writeln!(
                    text,
                    "incremental = {{ full_every = \"{days}d\", max_chain = {chain} }}"
                )
                .expect("text");
            }
        }
        let count = 1 + dice.roll(5);
        let (retention, holds) = match dice.roll(3) {
            0 => (format!("RECOVERY WINDOW OF {} DAYS", 1 + count), 3),
            _ => (format!("REDUNDANCY {count}"), count),
        };
        let grace = dice.pick(&["0s", "2h", "24h"]);
        let percent = dice.pick(&[20, 50, 100]);
        writeln!(
            text,
            "retention = \"{retention}\"\nminimum_redundancy = {}\n\
             deletes = {{ max_backups = {budget}, max_percent = {percent}, grace = \"{grace}\" }}",
            1 + dice.roll(holds.min(3)),
        )
        .expect("text");
        if dice.percent(60) {
            text += "failed_backups = { delete_after = \"2d\" }\n";
        }
        if dice.percent(60) {
            text += "orphans = { delete_after = \"48h\" }\n";
        }
        if dice.percent(30) {
            text +=
                "keep = [{ first_of = \"week\", for = \"2 weeks\", target = \"standalone\" }]\n";
        }
        text
    }

    /// How the server's files get there.
    fn method(&self, server: &str) -> String {
        if self.backups != Backups::Snapshots {
            return "method = \"stream\"\ncompression = \"none\"\n".to_owned();
        }
        let disk = |of: &str| format!("\"{server}-{of}\"");
        let [data, wal] = DISKS.map(disk);
        format!(
            "method = \"snapshot\"\nsnapshot = {{ provider = \"gcp\", project = \"p\", zone = \"z\", \
             instance = \"{server}\", disks = [{data}, {wal}], \
             mounts = {{ {data} = \"/data\", {wal} = \"/data/pg_wal\" }} }}\n"
        )
    }
}

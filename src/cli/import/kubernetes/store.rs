//! What a store of CloudNativePG says, as the command lines that its plugin makes of it.

use crate::cli::import::{
    fleet::{Fleet, ServerIndex},
    note::Place,
    yaml::{Node, Value},
};

/// A store: where, how, and for how long.
pub(super) struct Store<'a> {
    configuration: Option<&'a Node>,
    retention: Option<&'a Node>,
    sidecar: Option<&'a Node>,
    /// What else stands beside these, and is not known.
    beside: Vec<&'a (String, Node)>,
}

/// The keys of a configuration that are read.
const KNOWN: [&str; 11] = [
    "destinationPath",
    "endpointURL",
    "endpointCA",
    "serverName",
    "tags",
    "historyTags",
    "s3Credentials",
    "azureCredentials",
    "googleCredentials",
    "wal",
    "data",
];

const WAL: [&str; 5] = [
    "compression",
    "encryption",
    "maxParallel",
    "archiveAdditionalCommandArgs",
    "restoreAdditionalCommandArgs",
];

const DATA: [&str; 6] = [
    "compression",
    "encryption",
    "jobs",
    "immediateCheckpoint",
    "additionalCommandArgs",
    "restoreAdditionalCommandArgs",
];

impl<'a> Store<'a> {
    /// The store of the plugin.
    pub(super) fn plugins(spec: &'a Node) -> Self {
        let known = [
            "configuration",
            "retentionPolicy",
            "instanceSidecarConfiguration",
        ];
        let entries = spec.entries().iter();
        Self {
            configuration: spec.get("configuration"),
            retention: spec.get("retentionPolicy"),
            sidecar: spec.get("instanceSidecarConfiguration"),
            beside: entries
                .filter(|(key, _)| !known.contains(&key.as_str()))
                .collect(),
        }
    }

    /// The store in a cluster itself.
    pub(super) fn own(configuration: &'a Node, backup: &'a Node) -> Self {
        Self {
            configuration: Some(configuration),
            retention: backup.get("retentionPolicy"),
            sidecar: None,
            beside: Vec::new(),
        }
    }

    fn part(&self, key: &str) -> Option<&'a Node> {
        self.configuration?.get(key)
    }

    /// The command lines, each with where what it says is written.
    pub(super) fn command_lines(&self, server: &str) -> Vec<(Vec<String>, Place)> {
        let Some(configuration) = self.configuration else {
            return Vec::new();
        };
        let place = |part: Option<&Node>| part.unwrap_or(configuration).place.clone();
        let (data, wal) = (self.part("data"), self.part("wal"));
        let mut lines = vec![
            (self.backup(data, server), place(data)),
            (self.wal_archive(wal, server), place(wal)),
        ];
        if let Some(extra) = wal.and_then(|wal| wal.get("restoreAdditionalCommandArgs")) {
            let mut words = self.line("barman-cloud-wal-restore", server);
            words.extend(texts(extra));
            words.extend(["f".to_owned(), "p".to_owned()]);
            lines.push((words, extra.place.clone()));
        }
        if let Some(retention) = self.retention
            && let Some(policy) = retention.scalar().as_deref().and_then(window)
        {
            let mut words = self.line("barman-cloud-backup-delete", server);
            words.extend(["--retention-policy".to_owned(), policy]);
            lines.push((words, retention.place.clone()));
        }
        lines
    }

    fn backup(&self, data: Option<&Node>, server: &str) -> Vec<String> {
        let mut words = vec!["barman-cloud-backup".to_owned()];
        if let Some(data) = data {
            words.extend(flag(data.text("compression")));
            words.extend(option("--encryption", data.text("encryption")));
            if data.is_true("immediateCheckpoint") {
                words.push("--immediate-checkpoint".to_owned());
            }
            words.extend(option("--jobs", data.text("jobs")));
            words.extend(
                data.get("additionalCommandArgs")
                    .into_iter()
                    .flat_map(texts),
            );
        }
        words.extend(self.tags("tags", "--tags"));
        words.extend(self.place_of(server));
        words
    }

    fn wal_archive(&self, wal: Option<&Node>, server: &str) -> Vec<String> {
        let mut words = vec!["barman-cloud-wal-archive".to_owned()];
        if let Some(wal) = wal {
            words.extend(flag(wal.text("compression")));
            words.extend(option("-e", wal.text("encryption")));
            words.extend(
                wal.get("archiveAdditionalCommandArgs")
                    .into_iter()
                    .flat_map(texts),
            );
        }
        words.extend(self.tags("tags", "--tags"));
        words.extend(self.tags("historyTags", "--history-tags"));
        words.extend(self.place_of(server));
        words
    }

    fn line(&self, program: &str, server: &str) -> Vec<String> {
        let mut words = vec![program.to_owned()];
        words.extend(self.place_of(server));
        words
    }

    /// Endpoint, provider, URL and server, which end every command line.
    fn place_of(&self, server: &str) -> Vec<String> {
        let text = |key| self.configuration.and_then(|node| node.text(key));
        let path = text("destinationPath").unwrap_or_default();
        let provider = if self.part("azureCredentials").is_some() || path.starts_with("https") {
            "azure-blob-storage"
        } else if self.part("googleCredentials").is_some() || path.starts_with("gs") {
            "google-cloud-storage"
        } else {
            "aws-s3"
        };
        let mut words: Vec<String> = option("--endpoint-url", text("endpointURL")).collect();
        words.extend(["--cloud-provider".to_owned(), provider.to_owned()]);
        if let Some(azure) = self.part("azureCredentials") {
            let credential = [
                ("useDefaultAzureCredentials", "default"),
                ("inheritFromAzureAD", "managed-identity"),
            ];
            let chosen = credential.into_iter().find(|(key, _)| azure.is_true(key));
            words.extend(option(
                "--credential",
                chosen.map(|(_, word)| word.to_owned()),
            ));
        }
        words.extend([path, server.to_owned()]);
        words
    }

    fn tags(&self, key: &str, flag: &str) -> Vec<String> {
        let tags = self.part(key).map(Node::entries).unwrap_or_default();
        let pairs = tags
            .iter()
            .filter_map(|(key, value)| Some((key, value.scalar()?)));
        let mut words: Vec<_> = pairs
            .map(|(key, value)| format!("{},{}", csv(key), csv(&value)))
            .collect();
        if !words.is_empty() {
            words.insert(0, flag.to_owned());
        }
        words
    }

    /// What no command line says: credentials, and what is not known.
    pub(super) fn rest(&self, fleet: &mut Fleet, server: ServerIndex) {
        for (key, node) in &self.beside {
            fleet.lost(&node.place, key, "it is not known");
        }
        for (of, known) in [("", &KNOWN[..]), ("wal", &WAL[..]), ("data", &DATA[..])] {
            let part = if of.is_empty() {
                self.configuration
            } else {
                self.part(of)
            };
            for (key, node) in part.map(Node::entries).unwrap_or_default() {
                if !known.contains(&key.as_str()) {
                    fleet.lost(&node.place, key, "it is not known");
                }
            }
        }
        if let Some(retention) = self.retention
            && retention.scalar().as_deref().and_then(window).is_none()
        {
            fleet.lost(
                &retention.place,
                "retentionPolicy",
                "it is no number of days, weeks or months",
            );
        }
        if let Some(parallel) = self.part("wal").and_then(|wal| wal.get("maxParallel")) {
            let why =
                "barkeep archives what waits in one call, and reads ahead by `wal.read_ahead`";
            fleet.needless(&parallel.place, "wal.maxParallel", why);
        }
        if let Some(restore) = self
            .part("data")
            .and_then(|data| data.get("restoreAdditionalCommandArgs"))
        {
            fleet.needless(
                &restore.place,
                "data.restoreAdditionalCommandArgs",
                "`barkeep restore` has options of its own",
            );
        }
        self.credentials(fleet);
        self.surroundings(fleet, server);
    }

    fn credentials(&self, fleet: &mut Fleet) {
        const VARIABLES: [(&str, &str); 10] = [
            ("accessKeyId", "AWS_ACCESS_KEY_ID"),
            ("secretAccessKey", "AWS_SECRET_ACCESS_KEY"),
            ("sessionToken", "AWS_SESSION_TOKEN"),
            ("region", "AWS_REGION"),
            ("connectionString", "AZURE_STORAGE_CONNECTION_STRING"),
            ("storageAccount", "AZURE_STORAGE_ACCOUNT"),
            ("storageKey", "AZURE_STORAGE_KEY"),
            ("storageSasToken", "AZURE_STORAGE_SAS_TOKEN"),
            (
                "applicationCredentials",
                "GOOGLE_APPLICATION_CREDENTIALS, a file of it",
            ),
            ("endpointCA", "AWS_CA_BUNDLE, a file of it"),
        ];
        let blocks = ["s3Credentials", "azureCredentials", "googleCredentials"];
        let inside = blocks
            .iter()
            .filter_map(|key| self.part(key))
            .flat_map(Node::entries);
        let all = self
            .configuration
            .map(Node::entries)
            .unwrap_or_default()
            .iter();
        let certificate = all.filter(|(key, _)| key == "endpointCA");
        for (key, node) in inside.chain(certificate) {
            let known = VARIABLES.iter().find(|(known, _)| known == key);
            match (known, node.text("name"), node.text("key")) {
                (Some((_, variable)), Some(secret), Some(entry)) => {
                    let why = format!("give barkeep the Secret's `{entry}` as {variable}");
                    fleet.lost(&node.place, format!("{key} of Secret {secret}"), why);
                }
                _ if node.scalar().is_some() => {
                    fleet.needless(
                        &node.place,
                        key,
                        "what a machine or an account has is found by itself",
                    );
                }
                _ => fleet.lost(&node.place, key, "it is not known"),
            }
        }
    }

    fn surroundings(&self, fleet: &mut Fleet, server: ServerIndex) {
        for (key, node) in self.sidecar.map(Node::entries).unwrap_or_default() {
            if key != "env" {
                fleet.needless(&node.place, key, "it is about the sidecar");
                continue;
            }
            for variable in node.items() {
                let name = variable.text("name").unwrap_or_default();
                let value = variable.text("value");
                match (name.as_str(), value.as_deref()) {
                    (
                        "AWS_REQUEST_CHECKSUM_CALCULATION" | "AWS_RESPONSE_CHECKSUM_VALIDATION",
                        Some("when_required"),
                    ) => fleet.set_destination(
                        server,
                        "s3.checksums",
                        "when_required",
                        &variable.place,
                    ),
                    _ => fleet.lost(&variable.place, name, "set it in barkeep's environment"),
                }
            }
        }
    }
}

fn flag(word: Option<String>) -> Option<String> {
    word.map(|word| format!("--{word}"))
}

fn option(flag: &str, value: Option<String>) -> impl Iterator<Item = String> {
    value
        .map(|value| [flag.to_owned(), value])
        .into_iter()
        .flatten()
}

fn texts(node: &Node) -> Vec<String> {
    match &node.value {
        Value::List(items) => items.iter().filter_map(Node::scalar).collect(),
        _ => Vec::new(),
    }
}

/// A field of CSV.
fn csv(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

/// `30d` in Barman's words.
fn window(text: &str) -> Option<String> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u32 = number.parse().ok().filter(|number| *number > 0)?;
    let unit = match unit {
        "d" => "DAYS",
        "w" => "WEEKS",
        "m" => "MONTHS",
        _ => return None,
    };
    Some(format!("RECOVERY WINDOW OF {number} {unit}"))
}

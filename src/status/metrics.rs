//! What is measured, in the `OpenMetrics` format.
//!
//! [`METRICS`] is the only list: what is served, and `docs/metrics.md`, come from it. A gauge about a server in a destination is of the
//! instant that `barkeep_read_timestamp_seconds` tells for the same labels: while a destination cannot be read, gauges stay as they were
//! and that instant tells their age. What is not known has no sample.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{Line, Status};
use crate::{
    model::{
        condition::Standing,
        receiving::{Arrival, Phase, Trouble},
        time::Timestamp,
    },
    reconcile::board::{Row, State, Success},
};

/// One metric.
pub struct Metric {
    /// Its name, without the suffix of a counter.
    pub name: &'static str,
    /// What a sample is about.
    pub labels: &'static str,
    /// What it means.
    pub help: &'static str,
    samples: Samples,
}

enum Samples {
    /// Of the whole process.
    Process(fn(&State, &Status) -> f64),
    /// Of each server in each destination.
    Line(fn(&Line) -> Option<f64>),
    /// One for each standing, 1 for the one that holds.
    Standing,
    /// Counted since the start, by what was done and how it ended.
    Done,
    /// Of each server.
    Server(fn(&Row) -> Option<f64>),
    /// Of each destination that received WAL is brought to.
    Arrival(fn(&Arrival) -> Option<f64>),
    /// How often servers were looked at since the start.
    Activations,
    /// The version of the program.
    Build,
}

const LINE: &str = "`server`, `destination`";

const SERVER: &str = "`server`";

/// Everything that is measured.
pub const METRICS: [Metric; 41] = [
    Metric {
        name: "barkeep_build_info",
        labels: "`version`",
        help: "The version of the program; always 1",
        samples: Samples::Build,
    },
    Metric {
        name: "barkeep_start_timestamp_seconds",
        labels: "",
        help: "When the process began to watch, in seconds since 1970",
        samples: Samples::Process(|state, _| seconds(state.started)),
    },
    Metric {
        name: "barkeep_servers",
        labels: "",
        help: "How many servers are looked after",
        samples: Samples::Process(|state, _| count(state.servers.len())),
    },
    Metric {
        name: "barkeep_servers_unseen",
        labels: "",
        help: "How many of them have not been looked at since the start",
        samples: Samples::Process(|state, _| {
            count(
                state
                    .servers
                    .values()
                    .filter(|row| row.last.is_none())
                    .count(),
            )
        }),
    },
    Metric {
        name: "barkeep_attempts_running",
        labels: "",
        help: "How many backups run or wait for their turn in this process",
        samples: Samples::Process(|state, _| {
            count(
                state
                    .servers
                    .values()
                    .filter(|row| row.attempt.is_some())
                    .count(),
            )
        }),
    },
    Metric {
        name: "barkeep_config_valid",
        labels: "",
        help: "1 if the configuration on disk is the one that holds, 0 if it cannot be used and an older one holds",
        samples: Samples::Process(|state, _| truth(state.configuration.refused.is_none())),
    },
    Metric {
        name: "barkeep_config_loaded_timestamp_seconds",
        labels: "",
        help: "When the configuration that holds was taken up, in seconds since 1970",
        samples: Samples::Process(|state, _| seconds(state.configuration.loaded_at)),
    },
    Metric {
        name: "barkeep_activations",
        labels: "",
        help: "How often servers were looked at since the start",
        samples: Samples::Activations,
    },
    Metric {
        name: "barkeep_actions",
        labels: "`server`, `destination`, `action`, `result`",
        help: "What was done since the start; `result` is `done` or `failed`",
        samples: Samples::Done,
    },
    Metric {
        name: "barkeep_read_timestamp_seconds",
        labels: LINE,
        help: "When the destination was last read, in seconds since 1970: all gauges with the same labels are of that instant",
        samples: Samples::Line(|line| Some(seconds(line.read_at)).filter(|_| line.strip.is_some())),
    },
    Metric {
        name: "barkeep_standing",
        labels: "`server`, `destination`, `standing`",
        help: "1 for the standing that holds: `converged`, `progressing`, `blocked` or `stalled`; of the last look, also if it was in vain",
        samples: Samples::Standing,
    },
    Metric {
        name: "barkeep_pending_steps",
        labels: LINE,
        help: "How many steps are to be done; of the last look, also if it was in vain",
        samples: Samples::Line(|line| Some(count(line.pending))),
    },
    Metric {
        name: "barkeep_attempt_read_bytes",
        labels: LINE,
        help: "How much the backup, copy or verification has read that runs there, in bytes; no sample while none runs in this process",
        samples: Samples::Line(|line| {
            let attempt = line.watched.as_ref()?.attempt.as_ref()?;
            Some(wide(attempt.reached.bytes))
        }),
    },
    Metric {
        name: "barkeep_failures_in_a_row",
        labels: LINE,
        help: "How often in a row something failed there; the pause between tries doubles with each",
        samples: Samples::Line(|line| {
            let watched = line.watched.as_ref()?;
            Some(watched.failed.map_or(0.0, |failed| f64::from(failed.times)))
        }),
    },
    Metric {
        name: "barkeep_next_look_timestamp_seconds",
        labels: LINE,
        help: "When it is looked at next, in seconds since 1970",
        samples: Samples::Line(|line| Some(seconds(line.watched.as_ref()?.wake?.at))),
    },
    Metric {
        name: "barkeep_next_backup_timestamp_seconds",
        labels: LINE,
        help: "When the next backup is due, in seconds since 1970; no sample while one is due, runs, or there is no schedule",
        samples: Samples::Line(|line| line.next_due.map(seconds)),
    },
    Metric {
        name: "barkeep_backups_good",
        labels: LINE,
        help: "How many backups a restore can rely on",
        samples: Samples::Line(|line| Some(count(line.stored?.good))),
    },
    Metric {
        name: "barkeep_backups_other",
        labels: LINE,
        help: "How many backups are running, failed, damaged or not understood",
        samples: Samples::Line(|line| Some(count(line.stored?.other))),
    },
    Metric {
        name: "barkeep_backups_marked",
        labels: LINE,
        help: "How many backups are marked, and are deleted when their grace has passed unless somebody keeps them; no sample if that is not known",
        samples: Samples::Line(|line| line.stored?.marked.map(count)),
    },
    Metric {
        name: "barkeep_backups_unverified",
        labels: LINE,
        help: "How many complete backups were never read back",
        samples: Samples::Line(|line| Some(count(line.stored?.unverified))),
    },
    Metric {
        name: "barkeep_backups_faulty",
        labels: LINE,
        help: "How many complete backups had faults when they were last read back",
        samples: Samples::Line(|line| Some(count(line.stored?.faulty))),
    },
    Metric {
        name: "barkeep_oldest_verification_timestamp_seconds",
        labels: LINE,
        help: "When the complete backup was read back whose last reading is the oldest, in seconds since 1970; no sample if none ever was",
        samples: Samples::Line(|line| Some(seconds(line.stored?.oldest_verified?))),
    },
    Metric {
        name: "barkeep_last_good_backup_timestamp_seconds",
        labels: LINE,
        help: "When the newest good backup ended, in seconds since 1970; no sample if there is none",
        samples: Samples::Line(|line| line.newest_good.as_ref()?.end_time.map(seconds)),
    },
    Metric {
        name: "barkeep_recoverable_from_timestamp_seconds",
        labels: LINE,
        help: "The earliest instant that can be restored without a gap up to the newest, in seconds since 1970",
        samples: Samples::Line(|line| Some(seconds(line.window.as_ref()?.from))),
    },
    Metric {
        name: "barkeep_recoverable_until_timestamp_seconds",
        labels: LINE,
        help: "When the newest WAL segment that can be reached was archived, in seconds since 1970, if the server tells; a server without writes archives none",
        samples: Samples::Line(|line| line.reached.map(seconds)),
    },
    Metric {
        name: "barkeep_recovery_gaps",
        labels: LINE,
        help: "How many times what can be restored breaks off between its beginning and its end",
        samples: Samples::Line(|line| Some(count(line.strip.as_ref()?.gaps.len()))),
    },
    Metric {
        name: "barkeep_wal_gaps",
        labels: LINE,
        help: "How many ranges of WAL that was archived since the newest good backup began are missing; no sample if nobody can tell, or `wal.check` is off",
        samples: Samples::Line(|line| Some(count(line.wal?.gaps))),
    },
    Metric {
        name: "barkeep_wal_missing_segments",
        labels: LINE,
        help: "How many segments these ranges have",
        samples: Samples::Line(|line| Some(wide(line.wal?.missing))),
    },
    Metric {
        name: "barkeep_wal_forks",
        labels: LINE,
        help: "How many timelines above the server's own are in the archive, which only another server can have archived",
        samples: Samples::Line(|line| Some(count(line.wal?.forks))),
    },
    Metric {
        name: "barkeep_wal_waiting_since_timestamp_seconds",
        labels: LINE,
        help: "When the oldest complete WAL segment was finished that PostgreSQL has not archived yet, in seconds since 1970; no sample if none waits, or if the role may not know",
        samples: Samples::Line(|line| line.wal_waits_since.map(seconds)),
    },
    Metric {
        name: "barkeep_stored_backup_bytes",
        labels: LINE,
        help: "The size of the archives of all backups as stored, in bytes",
        samples: Samples::Line(|line| Some(wide(line.stored?.backup_bytes))),
    },
    Metric {
        name: "barkeep_stored_wal_bytes",
        labels: LINE,
        help: "The size of the WAL archive as stored, in bytes",
        samples: Samples::Line(|line| Some(wide(line.stored?.wal_bytes))),
    },
    Metric {
        name: "barkeep_receive_streaming",
        labels: SERVER,
        help: "1 while WAL is received as it is written, 0 while the server is looked for or the spool is full",
        samples: Samples::Server(|row| {
            Some(truth(row.receiving.as_ref()?.phase == Phase::Streaming))
        }),
    },
    Metric {
        name: "barkeep_receive_behind_bytes",
        labels: SERVER,
        help: "How much of the server's WAL it has not been told is safe, in bytes",
        samples: Samples::Server(|row| row.receiving.as_ref()?.behind_bytes().map(wide)),
    },
    Metric {
        name: "barkeep_receive_behind_since_timestamp_seconds",
        labels: SERVER,
        help: "When the oldest WAL came that the server has not been told is safe, in seconds since 1970; no sample if all is",
        samples: Samples::Server(|row| row.receiving.as_ref()?.behind_since.map(seconds)),
    },
    Metric {
        name: "barkeep_receive_waiting_bytes",
        labels: SERVER,
        help: "How much received WAL waits on the local disk for a destination, in bytes; the segment that is being received does not count",
        samples: Samples::Server(|row| Some(wide(row.receiving.as_ref()?.waiting.bytes))),
    },
    Metric {
        name: "barkeep_receive_spool_limit_bytes",
        labels: SERVER,
        help: "How much may wait in the spool, in bytes; no sample without a spool",
        samples: Samples::Server(|row| {
            let waiting = row.receiving.as_ref()?.waiting;
            waiting.durable.then(|| wide(waiting.bytes_max))
        }),
    },
    Metric {
        name: "barkeep_receive_full",
        labels: SERVER,
        help: "1 while nothing is received because as much waits on the local disk as may: the slot holds the WAL",
        samples: Samples::Server(|row| Some(truth(row.receiving.as_ref()?.phase == Phase::Full))),
    },
    Metric {
        name: "barkeep_receive_failures_in_a_row",
        labels: SERVER,
        help: "How often in a row the server could not be received from",
        samples: Samples::Server(|row| Some(times(row.receiving.as_ref()?.trouble.as_ref()))),
    },
    Metric {
        name: "barkeep_receive_delivery_failures_in_a_row",
        labels: LINE,
        help: "How often in a row received WAL could not be brought there",
        samples: Samples::Arrival(|arrival| Some(times(arrival.trouble.as_ref()))),
    },
    Metric {
        name: "barkeep_slot_held_bytes",
        labels: SERVER,
        help: "How much WAL the server keeps for the slot through which it is received, in bytes; of the last look",
        samples: Samples::Server(|row| {
            let facts = row.last.as_ref()?.observed.postgres.known()?;
            Some(wide(facts.slot.as_ref()?.held_bytes()))
        }),
    },
];

fn times(trouble: Option<&Trouble>) -> f64 {
    trouble.map_or(0.0, |trouble| f64::from(trouble.times))
}

impl Metric {
    /// `gauge`, `counter` or `info`.
    pub fn kind(&self) -> &'static str {
        match self.samples {
            Samples::Done | Samples::Activations => "counter",
            Samples::Build => "info",
            _ => "gauge",
        }
    }

    /// The name under which it is found in Prometheus.
    pub fn full_name(&self) -> String {
        match self.kind() {
            "counter" => format!("{}_total", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// Its unit, as the name says.
    pub fn unit(&self) -> &'static str {
        let units = ["seconds", "bytes"];
        let unit = units.into_iter().find(|unit| self.name.ends_with(unit));
        unit.unwrap_or("")
    }

    fn metric_type(&self) -> MetricType {
        match self.kind() {
            "counter" => MetricType::Counter,
            "info" => MetricType::Info,
            _ => MetricType::Gauge,
        }
    }
}

fn seconds(instant: Timestamp) -> f64 {
    // Exact for longer than anybody will run this.
    i32::try_from(instant.unix_seconds()).map_or(f64::INFINITY, f64::from)
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge of bytes need not be exact beyond 2^53"
)]
fn wide(bytes: u64) -> f64 {
    bytes as f64
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Everything as text in the `OpenMetrics` format.
pub fn render(state: &State, status: Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        state: state.clone(),
        status,
    }));
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Scrape {
    state: State,
    status: Status,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in &METRICS {
            let unit = metric.unit();
            let known = (!unit.is_empty()).then(|| Unit::Other(unit.to_owned()));
            // The format puts units and suffixes behind the names by itself.
            let name = metric.name.trim_end_matches(unit).trim_end_matches('_');
            let name = name.trim_end_matches("_info");
            let metric_type = metric.metric_type();
            let descriptor =
                encoder.encode_descriptor(name, metric.help, known.as_ref(), metric_type)?;
            self.samples(metric, descriptor)?;
        }
        Ok(())
    }
}

impl Scrape {
    fn samples(&self, metric: &Metric, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match metric.samples {
            Samples::Process(value) => encoder.encode_gauge(&value(&self.state, &self.status)),
            Samples::Activations => {
                encoder.encode_counter::<Labels<'_>, _, u64>(&self.state.activations, None)
            }
            Samples::Build => {
                encoder.encode_info(&Labels(vec![("version", env!("CARGO_PKG_VERSION"))]))
            }
            Samples::Line(value) => {
                for line in &self.status.servers {
                    if let Some(value) = value(line) {
                        encoder.encode_family(&of(line))?.encode_gauge(&value)?;
                    }
                }
                Ok(())
            }
            Samples::Server(value) => self.servers(value, &mut encoder),
            Samples::Arrival(value) => self.arrivals(value, &mut encoder),
            Samples::Standing => {
                for line in &self.status.servers {
                    for standing in STANDINGS {
                        let word = standing.to_string();
                        let mut labels = of(line);
                        labels.0.push(("standing", &word));
                        let value = truth(standing == line.standing);
                        encoder.encode_family(&labels)?.encode_gauge(&value)?;
                    }
                }
                Ok(())
            }
            Samples::Done => {
                for (tally, times) in &self.state.done {
                    let result = match tally.result {
                        Success::Done => "done",
                        Success::Failed => "failed",
                    };
                    let labels = Labels(vec![
                        ("server", tally.server.as_str()),
                        ("destination", tally.destination.as_str()),
                        ("action", tally.action),
                        ("result", result),
                    ]);
                    let mut family = encoder.encode_family(&labels)?;
                    family.encode_counter::<Labels<'_>, _, u64>(times, None)?;
                }
                Ok(())
            }
        }
    }

    fn servers(
        &self,
        value: fn(&Row) -> Option<f64>,
        encoder: &mut MetricEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        for (server, row) in &self.state.servers {
            if let Some(value) = value(row) {
                let labels = Labels(vec![("server", server.as_str())]);
                encoder.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn arrivals(
        &self,
        value: fn(&Arrival) -> Option<f64>,
        encoder: &mut MetricEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        for (server, row) in &self.state.servers {
            let arrivals = row.receiving.iter().flat_map(|state| &state.arrivals);
            for (destination, arrival) in arrivals {
                if let Some(value) = value(arrival) {
                    let labels = Labels(vec![
                        ("server", server.as_str()),
                        ("destination", destination.as_str()),
                    ]);
                    encoder.encode_family(&labels)?.encode_gauge(&value)?;
                }
            }
        }
        Ok(())
    }
}

const STANDINGS: [Standing; 4] = [
    Standing::Converged,
    Standing::Progressing,
    Standing::Blocked,
    Standing::Stalled,
];

#[derive(Clone, Debug)]
struct Labels<'a>(Vec<(&'static str, &'a str)>);

fn of(line: &Line) -> Labels<'_> {
    Labels(vec![
        ("server", line.server.as_str()),
        ("destination", line.destination.as_str()),
    ])
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.as_slice().encode(encoder)
    }
}

/// `docs/metrics.md`: every metric with its unit and its meaning.
pub fn reference() -> String {
    use fmt::Write as _;
    let mut page = INTRODUCTION.to_owned();
    for metric in &METRICS {
        let (name, kind, unit) = (metric.full_name(), metric.kind(), metric.unit());
        let Metric { labels, help, .. } = metric;
        // Writing to a text does not fail.
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {help}. |");
    }
    page
}

const INTRODUCTION: &str = "\
# Metrics

`barkeep reconcile`, running as a service with `[service] listen`, serves them at `/metrics` in the OpenMetrics format. The page comes
from the program; a test compares them.

A gauge about a server in a destination is of the instant that `barkeep_read_timestamp_seconds` tells for the same labels. While a
destination cannot be read, gauges stay as they were, and that instant tells their age: `time() - barkeep_read_timestamp_seconds`.
What is not known has no sample. Alert rules and a dashboard are in `packaging/`.

| name | kind | unit | labels | meaning |
|---|---|---|---|---|
";

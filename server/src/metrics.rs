//! Metrics: figures about this server, in Prometheus' text format.
//!
//! Counters are counted where things happen; gauges are looked up when somebody asks. At most [`DATABASES_NAMED`] databases
//! have figures of their own, the first that were opened; the rest are counted together as `other`.

use crate::connection::ConnectionError;
use crate::limits::Hit;
use crate::listener::Server;
use piecewise_core::container::Received;
use piecewise_core::grant::Grant;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The media type of what [`render`] gives.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Databases that have figures of their own.
const DATABASES_NAMED: usize = 100;
/// What the rest is called; no database can have this name, for its first letter.
const OTHER: &str = ".other";

type Label = [(&'static str, String); 1];
type ByDatabase = Family<Label, Counter>;

/// Figures about a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// When it was started.
    pub(crate) started: Instant,
    connections: Counter,
    refused: Family<Label, Counter>,
    handshakes_failed: Family<Label, Counter>,
    /// How often limits were hit.
    pub(crate) hits: Hits,
    counts: Counts,
    gauges: Gauges,
    held: Family<Label, Gauge>,
    stopped: Family<Label, Gauge>,
    capture: Histogram,
    apply: Histogram,
    databases: Mutex<HashMap<String, Arc<Meter>>>,
}

#[derive(Debug, Default)]
struct Counts {
    received_rows: ByDatabase,
    received_segments: ByDatabase,
    received_bytes: ByDatabase,
    sent_rows: ByDatabase,
    sent_segments: ByDatabase,
    sent_bytes: ByDatabase,
    refused_rows: ByDatabase,
    captured_rows: ByDatabase,
    checked_rows: ByDatabase,
    check_found_rows: ByDatabase,
}

#[derive(Debug, Default)]
struct Gauges {
    connections_open: Gauge,
    databases: Gauge,
    databases_open: Gauge,
    databases_failed: Gauge,
    containers: Gauge,
    peers: Gauge,
    peers_connected: Gauge,
    outbox_entries: Gauge,
    log_entries: Gauge,
    checkpoint_entries: Gauge,
    checkpoint_age: Gauge,
    check_age: Gauge,
    check_unhealed: Gauge,
    disk_free: Gauge,
    disk_reserve: Gauge,
    intake_stopped: Gauge,
}

/// How often limits were hit.
#[derive(Debug, Clone)]
pub(crate) struct Hits(Family<Label, Counter>);

impl Default for Hits {
    fn default() -> Self {
        let hits = Self(Family::default());
        // Told from the start, so that a first hit is seen as a rise.
        Hit::ALL.iter().for_each(|hit| drop(hits.0.get_or_create(&label("limit", hit.name()))));
        hits
    }
}

impl Hits {
    pub(crate) fn count(&self, hit: Hit) {
        self.0.get_or_create(&label("limit", hit.name())).inc();
    }
}

/// A count of one database, and the figure in which it is shown, perhaps with others.
#[derive(Debug)]
pub(crate) struct Count {
    own: AtomicU64,
    shown: Counter,
}

impl Count {
    fn add(&self, n: u64) {
        self.own.fetch_add(n, Ordering::Relaxed);
        self.shown.inc_by(n);
    }

    /// How much it is.
    pub(crate) fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }
}

/// Counts of one database.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) received_rows: Count,
    pub(crate) received_segments: Count,
    pub(crate) received_bytes: Count,
    pub(crate) sent_rows: Count,
    pub(crate) sent_segments: Count,
    pub(crate) sent_bytes: Count,
    pub(crate) refused_rows: Count,
    captured_rows: Count,
    checked_rows: Count,
    check_found_rows: Count,
    named: bool,
    capture: Histogram,
    apply: Histogram,
}

impl Meter {
    /// A frame came in and was dealt with.
    pub(crate) fn received(&self, bytes: usize, received: &Received, took: Duration) {
        self.received_bytes.add(bytes as u64);
        self.received_rows.add(received.rows);
        self.received_segments.add(received.segments);
        self.refused_rows.add(received.turned_away);
        if received.segments > 0 {
            self.apply.observe(took.as_secs_f64());
        }
    }

    /// A frame went out, with so many rows and segments.
    pub(crate) fn sent(&self, bytes: usize, (rows, segments): (u64, u64)) {
        self.sent_bytes.add(bytes as u64);
        self.sent_rows.add(rows);
        self.sent_segments.add(segments);
    }

    /// Rows were compared with their documents, and so many differed.
    pub(crate) fn checked(&self, rows: u64, found: u64) {
        self.checked_rows.add(rows);
        self.check_found_rows.add(found);
    }

    /// Rows that were written to the file became segments.
    pub(crate) fn captured(&self, rows: u64, took: Duration) {
        if rows > 0 {
            self.captured_rows.add(rows);
            self.capture.observe(took.as_secs_f64());
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("piecewise");
        let (counts, gauges) = (Counts::default(), Gauges::default());
        let seconds = || Histogram::new(exponential_buckets(0.0005, 4.0, 9));
        let metrics = Self {
            started: Instant::now(),
            connections: Counter::default(),
            refused: Family::default(),
            handshakes_failed: Family::default(),
            hits: Hits::default(),
            held: Family::default(),
            stopped: Family::default(),
            capture: seconds(),
            apply: seconds(),
            databases: Mutex::default(),
            registry: Registry::default(),
            counts,
            gauges,
        };
        let (c, g) = (&metrics.counts, &metrics.gauges);
        let r = &mut registry;
        r.register("connections", "Connections accepted", metrics.connections.clone());
        r.register(
            "connections_refused",
            "Connections turned away at once, by limit",
            metrics.refused.clone(),
        );
        r.register(
            "handshakes_failed",
            "Connections that did not prove who they are, by reason",
            metrics.handshakes_failed.clone(),
        );
        r.register("limits_hit", "How often a limit was hit", metrics.hits.0.clone());
        r.register("received_rows", "Changes of rows taken in, by database", c.received_rows.clone());
        r.register("received_segments", "Segments taken in, by database", c.received_segments.clone());
        r.register("received_bytes", "Bytes of frames received, by database", c.received_bytes.clone());
        r.register("sent_rows", "Changes of rows sent, by database", c.sent_rows.clone());
        r.register("sent_segments", "Segments sent, by database", c.sent_segments.clone());
        r.register("sent_bytes", "Bytes of frames sent, by database", c.sent_bytes.clone());
        r.register("refused_rows", "Changes of rows refused, by database", c.refused_rows.clone());
        r.register("captured_rows", "Rows written here and captured, by database", c.captured_rows.clone());
        r.register("checked_rows", "Rows compared with their documents, by database", c.checked_rows.clone());
        r.register(
            "check_found_rows",
            "Rows that were not what their documents say, by database",
            c.check_found_rows.clone(),
        );
        r.register("held_rows", "Rows held, by database, of those open", metrics.held.clone());
        r.register(
            "stopped_tables",
            "Tables that cannot take part now, by database",
            metrics.stopped.clone(),
        );
        r.register("capture_seconds", "Time of a capture that found rows", metrics.capture.clone());
        r.register("apply_seconds", "Time to take in a frame with segments", metrics.apply.clone());
        let gauges: [(&str, &str, &Gauge); 16] = [
            ("connections_open", "Connections open", &g.connections_open),
            ("databases", "Databases, those at rest too", &g.databases),
            ("databases_open", "Databases open", &g.databases_open),
            ("databases_failed", "Databases whose file cannot be opened now", &g.databases_failed),
            ("containers", "Tables in all databases", &g.containers),
            ("peers", "Devices that joined", &g.peers),
            ("peers_connected", "Devices connected", &g.peers_connected),
            ("outbox_entries", "Entries waiting to go into the log, in open databases", &g.outbox_entries),
            ("log_entries", "Entries in the log", &g.log_entries),
            ("checkpoint_entries", "Entries under the last checkpoint", &g.checkpoint_entries),
            ("checkpoint_age_seconds", "Age of the last checkpoint", &g.checkpoint_age),
            (
                "check_age_seconds",
                "Age of the oldest of the last checks of all tables; -1 while one was never checked",
                &g.check_age,
            ),
            ("check_unhealed_rows", "Rows that the last checks found and could not heal", &g.check_unhealed),
            ("disk_free_bytes", "Bytes free on the data folder's file system", &g.disk_free),
            ("disk_reserve_bytes", "Bytes that are kept free there", &g.disk_reserve),
            ("intake_stopped", "1 while nothing is taken in, else 0", &g.intake_stopped),
        ];
        gauges.into_iter().for_each(|(name, help, gauge)| r.register(name, help, gauge.clone()));
        Self { registry, ..metrics }
    }
}

fn label(name: &'static str, value: impl Into<String>) -> Label {
    [(name, value.into())]
}

impl Metrics {
    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        self.connections.inc();
    }

    /// A connection was turned away before it could say anything.
    pub(crate) fn turned_away(&self, hit: Hit) {
        self.refused.get_or_create(&label("reason", hit.name())).inc();
        self.hits.count(hit);
    }

    /// A connection did not prove who it is.
    pub(crate) fn handshake_failed(&self, error: &ConnectionError) {
        use piecewise_core::handshake::RefuseReason;
        let reason = match error {
            ConnectionError::TooSlow => {
                self.hits.count(Hit::HandshakeTime);
                "too_slow"
            }
            ConnectionError::Left => "left",
            ConnectionError::Refused(RefuseReason::Unknown) => "unknown",
            ConnectionError::Refused(RefuseReason::Revoked) => "revoked",
            ConnectionError::Refused(RefuseReason::BadInvite) => "bad_invite",
            ConnectionError::WebSocket(_) => "websocket",
            ConnectionError::Handshake(_) | ConnectionError::Protocol(_) => "protocol",
            _ => "other",
        };
        self.handshakes_failed.get_or_create(&label("reason", reason)).inc();
    }

    /// The counts of a database.
    pub(crate) fn meter(&self, database: &str) -> Arc<Meter> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = databases.get(database) {
            return meter.clone();
        }
        let named = databases.len() < DATABASES_NAMED;
        let shown_as = label("database", if named { database } else { OTHER });
        let count = |family: &ByDatabase| Count {
            own: AtomicU64::new(0),
            shown: family.get_or_create(&shown_as).clone(),
        };
        let c = &self.counts;
        let meter = Arc::new(Meter {
            received_rows: count(&c.received_rows),
            received_segments: count(&c.received_segments),
            received_bytes: count(&c.received_bytes),
            sent_rows: count(&c.sent_rows),
            sent_segments: count(&c.sent_segments),
            sent_bytes: count(&c.sent_bytes),
            refused_rows: count(&c.refused_rows),
            captured_rows: count(&c.captured_rows),
            checked_rows: count(&c.checked_rows),
            check_found_rows: count(&c.check_found_rows),
            named,
            capture: self.capture.clone(),
            apply: self.apply.clone(),
        });
        databases.insert(database.to_owned(), meter.clone());
        meter
    }
}

/// All figures as text.
pub(crate) async fn render(server: &Server) -> String {
    let all: Vec<Grant> = "**=admin".parse().into_iter().collect();
    let reports = server.reports(&all).await;
    let (metrics, disk) = (&server.metrics, &server.disk);
    let (g, whole) = (&metrics.gauges, |n: usize| n as i64);
    g.connections_open.set(whole(server.gate.connections()));
    g.databases.set(whole(reports.len()));
    g.databases_open.set(reports.iter().filter(|report| !report.at_rest).count() as i64);
    g.databases_failed.set(reports.iter().filter(|report| report.failed.is_some()).count() as i64);
    g.containers.set(reports.iter().map(|r| whole(r.containers.len())).sum());
    g.outbox_entries.set(reports.iter().map(|r| r.outbox as i64).sum());
    g.peers_connected.set(whole(server.supervisor.ledger.connected()));
    g.peers.set(server.supervisor.peers().map_or(0, |peers| whole(peers.len())));
    if let Ok(log) = server.supervisor.log_status() {
        g.log_entries.set(log.size as i64);
        g.checkpoint_entries.set(log.note.map_or(0, |note| note.checkpoint.size as i64));
    }
    g.checkpoint_age.set(server.supervisor.checkpoint_age().map_or(-1, |age| age.as_secs() as i64));
    let oldest = reports.iter().flat_map(|r| &r.containers).map(|c| c.checked).min();
    g.check_age.set(match oldest {
        Some(None) => -1,
        Some(Some(checked)) => (crate::now().ms_since(checked) / 1000) as i64,
        None => 0,
    });
    g.check_unhealed.set(reports.iter().flat_map(|r| &r.containers).map(|c| c.unhealed as i64).sum());
    g.disk_free.set(disk.free().map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)));
    g.disk_reserve.set(i64::try_from(disk.reserve()).unwrap_or(i64::MAX));
    g.intake_stopped.set(i64::from(disk.stop().is_some()));
    metrics.held.clear();
    metrics.stopped.clear();
    for report in &reports {
        let held: u64 = report.containers.iter().map(|c| c.held).sum();
        let name = if metrics.meter(&report.database).named { &report.database } else { OTHER };
        metrics.held.get_or_create(&label("database", name)).inc_by(held as i64);
        let stopped = report.containers.iter().filter(|c| c.stopped.is_some()).count();
        metrics.stopped.get_or_create(&label("database", name)).inc_by(stopped as i64);
    }
    let mut text = String::new();
    encode(&mut text, &metrics.registry).expect("text takes any text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_beyond_the_first_hundred_are_counted_together() {
        let metrics = Metrics::default();
        for n in 0..DATABASES_NAMED + 50 {
            metrics.meter(&format!("db{n}")).sent(10, (1, 1));
        }
        let mut text = String::new();
        encode(&mut text, &metrics.registry).expect("text takes any text");
        let lines: Vec<_> = text.lines().filter(|l| l.starts_with("piecewise_sent_rows_total")).collect();
        assert_eq!(lines.len(), DATABASES_NAMED + 1);
        assert!(lines.contains(&"piecewise_sent_rows_total{database=\".other\"} 50"), "{lines:#?}");
        assert_eq!(metrics.meter("db120").sent_rows.get(), 1);
    }
}

//! Listener: accepts sockets until it is told to stop; knows which databases are open.

use crate::backlog::Backlog;
use crate::config::{MetricsFor, ServeConfig};
use crate::database::{Command, Database};
use crate::disk::Disk;
use crate::limits::Gate;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;
use crate::upkeep;
use crate::web::{self, Arrival};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How long open connections get to say goodbye.
const GOODBYE_TIME: Duration = Duration::from_secs(2);
/// How often a checkpoint of the log is signed, if it has grown.
const SIGN_EVERY: Duration = Duration::from_secs(1);
/// Where a running server leaves its address for the `invite` command.
const ADDRESS_FILE: &str = "server.address";

/// A server that runs.
pub struct Server {
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) metrics: Metrics,
    pub(crate) metrics_for: MetricsFor,
    pub(crate) gate: Arc<Gate>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) backlog: Backlog,
    https: bool,
    databases: Mutex<HashMap<String, Database>>,
    connections: AtomicU64,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("supervisor", &self.supervisor).finish_non_exhaustive()
    }
}

/// Whether a name can be that of a database, and so of a file.
pub fn is_database_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty()
        && name.len() <= 100
        && name.chars().all(plain)
        && !name.starts_with('.')
        && name != "supervisor"
}

impl Server {
    /// A server over this data folder, with every database in it open.
    pub fn open(supervisor: Arc<Supervisor>, config: &ServeConfig, disk: Disk) -> Arc<Self> {
        let (stop, _) = watch::channel(false);
        let metrics = Metrics::default();
        supervisor.ledger.limit(config.limits, metrics.hits.clone());
        let server = Self {
            supervisor,
            metrics,
            metrics_for: config.metrics,
            gate: Gate::new(config.limits),
            disk: Arc::new(disk),
            backlog: Backlog::new(),
            https: config.tls_cert.is_some()
                || config.public_address.as_ref().is_some_and(|address| address.starts_with("wss:")),
            databases: Mutex::default(),
            connections: AtomicU64::new(0),
            stop,
        };
        for name in existing(server.supervisor.folder()) {
            server.database(&name);
        }
        Arc::new(server)
    }

    /// The thread of a database, started if need be; None for a name that is none or a file that does not open.
    pub(crate) fn database(&self, name: &str) -> Option<Sender<Command>> {
        if !is_database_name(name) {
            return None;
        }
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = databases.get(name) {
            return Some(database.commands.clone());
        }
        match Database::open(&self.supervisor, name, self.metrics.meter(name), self.disk.clone()) {
            Ok(database) => {
                let commands = database.commands.clone();
                databases.insert(name.to_owned(), database);
                Some(commands)
            }
            Err(error) => {
                tracing::error!(database = name, %error, "cannot be opened");
                None
            }
        }
    }

    pub(crate) fn each_database(&self, tell: impl Fn(&Sender<Command>)) {
        let databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.values().for_each(|d| tell(&d.commands));
    }

    /// Whether browsers reach it over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Accepts connections until `until` is done, then closes everything.
    pub async fn run(
        self: &Arc<Self>,
        config: &ServeConfig,
        until: impl Future<Output = ()>,
    ) -> Result<(), String> {
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Some(crate::tls::acceptor(cert, key)?),
            _ => None,
        };
        let listener = TcpListener::bind(&config.listen)
            .await
            .map_err(|e| format!("cannot listen on {}: {e}", config.listen))?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let public = config.public_address.clone().unwrap_or_else(|| public_address(&address, tls.is_some()));
        let path = self.supervisor.folder().join(ADDRESS_FILE);
        std::fs::write(&path, &public).map_err(|e| format!("{}: {e}", path.display()))?;
        tracing::info!(%address, public, key = self.supervisor.identity.peer_id().short(), "listening");
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(upkeep::run(self.clone()));
        let mut sign = tokio::time::interval(SIGN_EVERY);
        sign.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        let _ = stream.set_nodelay(true);
                        tasks.spawn(self.clone().accept(stream, from, tls.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                _ = sign.tick() => self.sign_log(),
                Some(_) = tasks.join_next() => {}
            }
        }
        tracing::info!("stopping");
        let _ = self.stop.send(true);
        let _ =
            tokio::time::timeout(GOODBYE_TIME, async { while tasks.join_next().await.is_some() {} }).await;
        let databases = std::mem::take(&mut *self.databases.lock().unwrap_or_else(PoisonError::into_inner));
        databases.into_values().for_each(Database::close);
        self.sign_log();
        self.write_ledger();
        // So that a copy of supervisor.db alone is whole.
        let _ = self.supervisor.state().conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        Ok(())
    }

    fn sign_log(&self) {
        if let Err(error) = self.supervisor.log_sign() {
            tracing::error!(%error, "no checkpoint of the log could be signed");
        }
    }

    async fn accept(
        self: Arc<Self>,
        stream: tokio::net::TcpStream,
        from: SocketAddr,
        tls: Option<TlsAcceptor>,
    ) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let arrival = match Arrival::new(&self, from).await {
            Ok(arrival) => arrival,
            Err(hit) => return web::turn_away(stream, hit).await,
        };
        let result = match tls {
            None => web::serve(self, stream, number, arrival).await,
            Some(tls) => match tokio::time::timeout(self.gate.handshake_time(), tls.accept(stream)).await {
                Ok(Ok(stream)) => web::serve(self, stream, number, arrival).await,
                Ok(Err(error)) => return tracing::debug!(%from, %error, "no TLS"),
                Err(_) => Err(crate::connection::ConnectionError::TooSlow),
            },
        };
        match result {
            Ok(()) => tracing::debug!(%from, "connection ended"),
            Err(error) => tracing::info!(%from, %error, "connection ended"),
        }
    }
}

/// The address that a running server left, for invites.
pub fn left_address(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join(ADDRESS_FILE)).ok()
}

fn public_address(address: &SocketAddr, tls: bool) -> String {
    let scheme = if tls { "wss" } else { "ws" };
    match address.ip().is_unspecified() {
        true => format!("{scheme}://127.0.0.1:{}", address.port()),
        false => format!("{scheme}://{address}"),
    }
}

fn existing(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.filter_map(|f| Some(f.file_name().to_str()?.strip_suffix(".db")?.to_owned()));
    names.filter(|name| is_database_name(name)).collect()
}

//! Listener: accepts sockets until it is told to stop; knows which databases are open.

use crate::admission::Admission;
use crate::backlog::Backlog;
use crate::config::{MetricsFor, ServeConfig};
use crate::databases::Databases;
use crate::disk::Disk;
use crate::limits::Gate;
use crate::metrics::Metrics;
use crate::scrubber::Pace;
use crate::supervisor::Supervisor;
use crate::upkeep;
use crate::web::{self, Arrival};
use piecewise_core::id::Timestamp;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How long open connections get to say goodbye.
const GOODBYE_TIME: Duration = Duration::from_secs(2);
/// Readers of metrics at their own place, at once.
const METRICS_READERS: usize = 16;
/// How often a checkpoint of the log is signed, if it has grown.
const SIGN_EVERY: Duration = Duration::from_secs(1);
/// How long invites printed by `serve --invite` work.
const INVITE_TIME: Duration = Duration::from_hours(24);
/// Where a running server leaves its address for the `invite` command.
const ADDRESS_FILE: &str = "server.address";

/// A server that runs.
pub struct Server {
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) metrics_for: MetricsFor,
    pub(crate) gate: Arc<Gate>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) backlog: Backlog,
    pub(crate) admission: Admission,
    https: bool,
    pub(crate) databases: Arc<Databases>,
    connections: AtomicU64,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("supervisor", &self.supervisor).finish_non_exhaustive()
    }
}

impl Server {
    /// A server over this data folder. Call it in a runtime.
    pub fn open(supervisor: Arc<Supervisor>, config: &ServeConfig, disk: Disk) -> Arc<Self> {
        let (stop, _) = watch::channel(false);
        let metrics = Arc::<Metrics>::default();
        supervisor.ledger.limit(config.limits, metrics.hits.clone());
        let disk = Arc::new(disk);
        let open_max = config.limits.open_databases;
        let pace = Pace::of_percent(config.check_percent);
        let databases = Databases::new(supervisor.clone(), metrics.clone(), disk.clone(), pace, open_max);
        let server = Self {
            admission: Admission::of(supervisor.clone()),
            supervisor,
            metrics,
            databases,
            metrics_for: config.metrics,
            gate: Gate::new(config.limits),
            disk,
            backlog: Backlog::new(),
            https: config.tls_cert.is_some()
                || config.public_address.as_ref().is_some_and(|address| address.starts_with("wss:")),
            connections: AtomicU64::new(0),
            stop,
        };
        Arc::new(server)
    }

    /// Whether browsers reach it over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Prints an invite for each grant that `serve --invite` names, all in one write so that a reader gets none or all.
    fn print_invites(&self, config: &ServeConfig, public: &str) -> Result<(), String> {
        let now = crate::now();
        let expires = Timestamp(now.0 + INVITE_TIME.as_millis() as u64);
        let mut invites = vec![];
        for grant in &config.invites {
            let invite =
                self.supervisor.invite(std::slice::from_ref(grant), public, crate::chance(), now, expires);
            invites.push(invite.map_err(|e| e.to_string())?.to_string());
        }
        let lines: String = match crate::terminal::is_json() {
            true if invites.is_empty() => String::new(),
            true => format!("{}\n", serde_json::json!({ "invites": invites })),
            false => invites.iter().map(|invite| format!("{invite}\n")).collect(),
        };
        let mut out = std::io::stdout().lock();
        let written = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
        written.map_err(|e| format!("the invites cannot be printed: {e}"))
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
        let databases = self.databases.clone();
        let begun = tokio::task::spawn_blocking(move || databases.begin()).await;
        begun.map_err(|e| format!("the databases could not be opened: {e}"))?;
        let listener = TcpListener::bind(&config.listen)
            .await
            .map_err(|e| format!("cannot listen on {}: {e}", config.listen))?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let public = config.public_address.clone().unwrap_or_else(|| public_address(&address, tls.is_some()));
        let path = self.supervisor.folder().join(ADDRESS_FILE);
        crate::log::write_whole(&path, &public).map_err(|e| format!("{}: {e}", path.display()))?;
        self.print_invites(config, &public)?;
        tracing::info!(%address, public, key = self.supervisor.identity.peer_id().short(), "listening");
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(upkeep::run(self.clone()));
        if let Some(place) = &config.metrics_listen {
            tasks.spawn(self.clone().metrics_at(place).await?);
        }
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
        self.databases.close();
        self.sign_log();
        self.write_ledger();
        // So that a copy of supervisor.db alone is whole.
        let _ = self.supervisor.state().conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        Ok(())
    }

    /// Serves the figures at a place of their own, an address or a UNIX socket, until the server stops.
    async fn metrics_at(self: Arc<Self>, place: &str) -> Result<impl Future<Output = ()> + use<>, String> {
        let failed = |error: std::io::Error| format!("cannot listen on {place} for metrics: {error}");
        let listener = match place.strip_prefix("unix:") {
            None => MetricsListener::Tcp(TcpListener::bind(place).await.map_err(failed)?),
            Some(path) => MetricsListener::unix(path).map_err(failed)?,
        };
        let mut stop = self.stopping();
        // A few readers are enough; more wait.
        let room = Arc::new(tokio::sync::Semaphore::new(METRICS_READERS));
        Ok(async move {
            loop {
                let Ok(place) = room.clone().acquire_owned().await else { return };
                tokio::select! {
                    accepted = listener.accept(self.clone()) => match accepted {
                        Ok(serving) => drop(tokio::spawn(async move {
                            serving.await;
                            drop(place);
                        })),
                        Err(error) => {
                            tracing::warn!(%error, "a reader of metrics could not be accepted");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    },
                    _ = stop.changed() => return,
                }
            }
        })
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

/// Where the figures alone are served.
enum MetricsListener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

type Serving = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl MetricsListener {
    /// A socket file, in place of one that a server left that is no more.
    fn unix(path: &str) -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::FileTypeExt;
            let is_left = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
                && std::os::unix::net::UnixStream::connect(path).is_err();
            if is_left {
                std::fs::remove_file(path)?;
            }
            Ok(Self::Unix(tokio::net::UnixListener::bind(path)?))
        }
        #[cfg(not(unix))]
        Err(std::io::Error::new(std::io::ErrorKind::Unsupported, format!("no UNIX sockets here: {path}")))
    }

    async fn accept(&self, server: Arc<Server>) -> std::io::Result<Serving> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Box::pin(web::serve_metrics(server, stream)))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Box::pin(web::serve_metrics(server, stream)))
            }
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

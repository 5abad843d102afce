//! Web: what a connection asks for over HTTP. A WebSocket is handed on; the rest are the pages' files, which are in the
//! binary, and `/healthz`, `/metrics` and `/status`.

use crate::config::MetricsFor;
use crate::connection::{self, ConnectionError};
use crate::deadline::Deadline;
use crate::limits::{Hit, Pass, Place};
use crate::listener::Server;
use crate::status::Answer;
use crate::{metrics, status};
use flate2::read::GzDecoder;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, FORWARDED, HOST,
    HeaderMap, HeaderValue, IF_NONE_MATCH, SEC_WEBSOCKET_ACCEPT, SET_COOKIE, UPGRADE, VARY,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Bytes read ahead of a request: small, for there may be many idle connections.
const BUFFER: usize = 8 << 10;
/// How long a connection that is turned away may take to hear it.
const FAREWELL_TIME: Duration = Duration::from_secs(1);
/// How long a write of a response may wait until the peer takes a byte.
const WRITE_TIME: Duration = Duration::from_secs(20);
/// How long a connection may ask for pages, answers included: browsers make another.
const PAGES_TIME: Duration = Duration::from_secs(300);
/// What it hears.
const FAREWELL: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
                        content-type: text/plain\r\ncontent-length: 36\r\n\r\ntoo many connections; try again soon";

/// A file of the pages.
struct Page {
    path: &'static str,
    /// Its media type.
    kind: &'static str,
    /// Its entity tag: another one stands for other bytes.
    tag: &'static str,
    gzip: &'static [u8],
    brotli: &'static [u8],
}

/// All files of the pages.
struct Pages {
    /// What `/v/VERSION/` stands for in front of their paths.
    version: &'static str,
    files: &'static [Page],
}

/// Files unpacked for the few that take no gzip, by path: one copy for all.
static UNPACKED: LazyLock<Mutex<HashMap<&str, Bytes>>> = LazyLock::new(Mutex::default);

const PAGES: Pages = include!(concat!(env!("OUT_DIR"), "/files.rs"));
/// The demo page needs nothing from anywhere else.
const PAGE_POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' ws: wss:; frame-ancestors 'none'";
/// The status page needs even less.
const STATUS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                             base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A connection that has been let in, and of which it is not known yet who is there.
#[derive(Debug)]
pub(crate) struct Arrival {
    from: SocketAddr,
    place: Mutex<Option<Place>>,
    _pass: Pass,
}

impl Arrival {
    /// Lets a connection in, if no limit is in the way; waits in line for a place among the strangers.
    pub(crate) async fn new(server: &Server, from: SocketAddr) -> Result<Self, Hit> {
        let place = async {
            let pass = server.gate.enter(from.ip())?;
            let place = server.gate.stranger(&pass).await?;
            Ok((pass, place))
        };
        let (pass, place) = place.await.inspect_err(|hit| server.metrics.turned_away(*hit))?;
        server.metrics.accepted();
        Ok(Self { from, place: Mutex::new(Some(place)), _pass: pass })
    }

    /// Gives the place among the strangers to the next.
    pub(crate) fn is_known(&self) {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Tells a connection that there is no room for it.
pub(crate) async fn turn_away(mut stream: TcpStream, hit: Hit) {
    tracing::debug!(limit = hit.name(), "a connection was turned away");
    let farewell = async {
        stream.write_all(FAREWELL.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with something unread, the answer would be lost on the way.
        let mut unread = [0; 512];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(FAREWELL_TIME, farewell).await;
}

/// Serves one connection until it ends.
pub(crate) async fn serve<S>(
    server: Arc<Server>,
    stream: S,
    number: u64,
    arrival: Arrival,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrade = Mutex::new(None);
    let (stream, is_socket) = Deadline::new(stream, WRITE_TIME);
    let service = service_fn(|mut request| {
        let (server, arrival, upgrade, is_socket) = (&server, &arrival, &upgrade, &is_socket);
        async move {
            if let Some(response) = accept_socket(&mut request, upgrade) {
                is_socket.store(true, Ordering::Relaxed);
                return Ok::<_, std::convert::Infallible>(response);
            }
            arrival.is_known();
            Ok(answer(server, &request, arrival.from).await)
        }
    });
    let pages = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.gate.handshake_time())
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::time::timeout(PAGES_TIME, pages).await.map_err(|_| ConnectionError::TooSlow)??;
    let upgrade: Option<OnUpgrade> = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(upgrade) = upgrade else { return Ok(()) };
    let stream = TokioIo::new(upgrade.await?);
    let config = Some(connection::stranger_config());
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
    connection::serve(server, socket, number, &arrival).await
}

/// The answer to a request for a WebSocket; None if it is for something else.
fn accept_socket(
    request: &mut Request<Incoming>,
    upgrade: &Mutex<Option<OnUpgrade>>,
) -> Option<Response<Full<Bytes>>> {
    let headers = request.headers();
    let wants_socket = headers.get(UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = headers.get("sec-websocket-key").filter(|_| wants_socket)?.clone();
    *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some(hyper::upgrade::on(request));
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Some(response)
}

async fn answer(server: &Server, request: &Request<Incoming>, from: SocketAddr) -> Response<Full<Bytes>> {
    if let Some(answer) = status::answer(server, request).await {
        return match answer {
            Answer::Json(json) => text(StatusCode::OK, "application/json", json),
            Answer::No(code, why) => plain(code, why),
            Answer::Cookie(cookie) => {
                let mut response = plain(StatusCode::OK, "welcome\n");
                if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                    response.headers_mut().insert(SET_COOKIE, cookie);
                }
                response
            }
        };
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "this server answers GET and WebSocket\n");
    }
    match request.uri().path() {
        "/healthz" => health(server),
        "/metrics" if may_read_metrics(server, request, from) => {
            text(StatusCode::OK, metrics::MEDIA_TYPE, metrics::render(server).await)
        }
        "/" => file(request, "/index.html", PAGE_POLICY),
        "/status" => file(request, "/status/index.html", STATUS_POLICY),
        path if path.starts_with("/status/") => file(request, path, STATUS_POLICY),
        path => file(request, path, PAGE_POLICY),
    }
}

fn health(server: &Server) -> Response<Full<Bytes>> {
    if *server.stopping().borrow() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n");
    }
    match server.disk.stop() {
        None => plain(StatusCode::OK, "ok\n"),
        Some(stop) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("nothing is taken in: {stop}\n")),
    }
}

/// Serves the figures alone, to whoever can connect there.
pub(crate) async fn serve_metrics<S>(server: Arc<Server>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let server = &server;
        async move {
            Ok::<_, std::convert::Infallible>(match (request.method(), request.uri().path()) {
                (&Method::GET | &Method::HEAD, "/metrics") => {
                    text(StatusCode::OK, metrics::MEDIA_TYPE, metrics::render(server).await)
                }
                _ => plain(StatusCode::NOT_FOUND, "here are /metrics and nothing else\n"),
            })
        }
    });
    let (stream, _) = Deadline::new(stream, WRITE_TIME);
    let pages = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.gate.handshake_time())
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(PAGES_TIME, pages).await {
        tracing::debug!(%error, "a reader of the metrics has gone");
    }
}

/// Whether whoever asks may read the metrics. What a proxy on this machine passes on is not from this machine, and a browser of
/// this machine that was led here under a foreign name asks for somebody else.
fn may_read_metrics(server: &Server, request: &Request<Incoming>, from: SocketAddr) -> bool {
    let headers = request.headers();
    let forwarded = headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for");
    match server.metrics_for {
        MetricsFor::Off => false,
        MetricsFor::All => true,
        MetricsFor::Local => {
            from.ip().to_canonical().is_loopback() && !forwarded && names_this_machine(headers)
        }
    }
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The path that stands behind a version, and for how long it may be kept: what has this version in its address never changes. Another
/// one is asked for by a page that was loaded before this server was begun.
fn unversioned(path: &str) -> (&str, &'static str) {
    const ALWAYS: &str = "public, max-age=31536000, immutable";
    let versioned = path.strip_prefix("/v/").and_then(|rest| Some(rest.split_at(rest.find('/')?)));
    match versioned {
        Some((version, path)) if version == PAGES.version => (path, ALWAYS),
        Some((_, path)) => (path, "no-cache"),
        None => (path, "no-cache"),
    }
}

/// A file: nothing if the browser has it already, compressed if it takes that (RFC 9110, sections 12.5.3 and 13.1.2).
fn file(request: &Request<Incoming>, path: &str, policy: &'static str) -> Response<Full<Bytes>> {
    let (path, kept) = unversioned(path);
    let Some(page) = PAGES.files.iter().find(|page| page.path == path) else {
        return plain(
            StatusCode::NOT_FOUND,
            "there is no such file; devices connect here with `piecewise join`\n",
        );
    };
    let Page { kind, tag, gzip, brotli, .. } = page;
    let lists = |header, wanted: &str| {
        let all = request.headers().get_all(header).into_iter().filter_map(|value| value.to_str().ok());
        all.flat_map(|value| value.split(',')).any(|one| one.trim() == wanted)
    };
    let mut response = Response::new(Full::default());
    if lists(IF_NONE_MATCH, tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else if let Some((name, bytes)) =
        [("br", brotli), ("gzip", gzip)].into_iter().find(|(name, _)| lists(ACCEPT_ENCODING, name))
    {
        *response.body_mut() = Full::new(Bytes::from_static(bytes));
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    } else {
        let Some(bytes) = unpacked(page) else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be unpacked\n");
        };
        *response.body_mut() = Full::new(bytes);
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_static(tag));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    headers.insert("content-security-policy", HeaderValue::from_static(policy));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    response
}

fn unpacked(page: &'static Page) -> Option<Bytes> {
    let mut all = UNPACKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = all.get(page.path) {
        return Some(bytes.clone());
    }
    let mut bytes = vec![];
    GzDecoder::new(page.gzip).read_to_end(&mut bytes).ok()?;
    Some(all.entry(page.path).or_insert(bytes.into()).clone())
}

const TEXT: &str = "text/plain; charset=utf-8";

fn plain(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    text(status, TEXT, words.to_owned())
}

/// What is true now, and only now.
fn text(status: StatusCode, kind: &'static str, words: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(words)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

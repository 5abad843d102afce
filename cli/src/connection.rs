//! Connection: a WebSocket to a server, from the handshake on; frames go in and out by two queues.
//!
//! The socket, encryption and the opening of what came are worked on beside whoever uses the queues.

use crate::drive::lost;
use crate::home::{Home, KnownServer};
use crate::report::{Failure, code};
use crate::witness::{self, LogTalk};
use futures_util::{SinkExt, Stream, StreamExt};
use piecewise_core::channel::{Channel, LOG_CHANNEL, Opener, Sealer, on_channel, split_channel};
use piecewise_core::handshake::Initiator;
use piecewise_core::id::Timestamp;
use piecewise_core::identity::Identity;
use piecewise_core::link::Opened;
use piecewise_core::supervisor_log::Witness;
use piecewise_server::backlog::{Backlog, Room as Held};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// How long to wait for a server to answer.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// A server pings every 20 s; this long without a word and the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long to wait for the last frames to leave.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// Frames that wait to be sent.
const QUEUE: usize = 8;
/// Frames that wait to be taken in, as far as there is room for what they open to.
const QUEUE_IN: usize = 64;
/// The channel of a database, if this side talks of one alone; else that of the survey.
pub(crate) const CHANNEL: u64 = 1;

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

type Ws = WebSocketStream<Box<dyn Socket>>;
type Source = Pin<Box<dyn Stream<Item = Result<Message, WsError>> + Send>>;

/// A connection that has been let in.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The server's clock at the handshake.
    pub(crate) server_time: Timestamp,
    /// What the server knows beyond the first version.
    pub(crate) features: u32,
    /// Frames that came; an error is the last.
    pub(crate) incoming: mpsc::Receiver<Result<Arrived, Failure>>,
    /// Frames to send.
    outgoing: mpsc::Sender<Frame>,
    witness: Option<JoinHandle<Result<LogTalk, Failure>>>,
    address: String,
    bytes: Arc<Bytes>,
    writer: JoinHandle<()>,
}

/// A frame that came over a channel, or several that one follows from.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) channel: u64,
    pub(crate) frame: Opened,
    /// Memory that is taken until it is taken in.
    held: Vec<Held>,
}

impl Arrived {
    /// Appends the frame `next`, see [`Opened::join`]. Returns `next` if it cannot be appended.
    pub(crate) fn join(&mut self, mut next: Self, most: u64) -> Option<Self> {
        if self.channel != next.channel {
            return Some(next);
        }
        let apart = self.frame.join(next.frame, most);
        if apart.is_none() {
            self.held.append(&mut next.held);
        }
        apart.map(|frame| Self { channel: next.channel, frame, held: next.held })
    }
}

/// A channel and what goes over it.
pub(crate) type Frame = (u64, Vec<u8>);

/// Bytes of messages on the wire, as WebSocket payloads.
#[derive(Debug, Default)]
struct Bytes {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Connection {
    /// Bytes received and sent.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes.received.load(Ordering::Relaxed), self.bytes.sent.load(Ordering::Relaxed))
    }

    /// Returns the next frame that came, None if there is none yet.
    pub(crate) fn try_next(&mut self) -> Result<Option<Arrived>, Failure> {
        match self.incoming.try_recv() {
            Ok(arrived) => arrived.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(lost()),
        }
    }

    /// Room for one more frame, if there is some now.
    pub(crate) fn room(&self) -> Option<Room<'_>> {
        self.outgoing.try_reserve().ok().map(Room)
    }

    /// The way out, to wait for room in it.
    pub(crate) fn outgoing(&self) -> mpsc::Sender<Frame> {
        self.outgoing.clone()
    }

    /// Sends a frame of the database; false if the connection is lost.
    pub(crate) async fn send(&self, frame: Vec<u8>) -> bool {
        self.outgoing.send((CHANNEL, frame)).await.is_ok()
    }

    /// Waits until the server has shown that its log continues what it was; the talk about it, once.
    pub(crate) async fn witnessed(&mut self) -> Result<LogTalk, Failure> {
        let witness = self.witness.take().ok_or_else(|| Failure::new("the log was met before"))?;
        let silent = || unreachable(&self.address, "it says nothing of its log");
        let met = tokio::time::timeout(CONNECT_TIME, witness).await.map_err(|_| silent())?;
        met.unwrap_or_else(|_| Err(silent()))
    }

    /// Says goodbye, after what was said before has left.
    pub(crate) async fn close(self) {
        let Self { outgoing, writer, incoming, witness, .. } = self;
        if let Some(witness) = witness {
            witness.abort();
            drop(witness.await);
        }
        drop((outgoing, incoming));
        let _ = tokio::time::timeout(CLOSE_TIME, writer).await;
    }
}

/// Room for one frame.
pub(crate) struct Room<'a>(mpsc::Permit<'a, Frame>);

impl Room<'_> {
    pub(crate) fn send(self, channel: u64, frame: Vec<u8>) {
        self.0.send((channel, frame));
    }
}

/// Connects to a server and proves who is there; with an invite's secret, joins. The server's log is met beside.
pub(crate) async fn connect(
    home: &Home,
    server: &KnownServer,
    secret: Option<[u8; 32]>,
) -> Result<Connection, Failure> {
    let identity = home.identity()?;
    let connecting = tokio::time::timeout(CONNECT_TIME, open(home, server, identity.clone(), secret));
    let silent = || unreachable(&server.address, "it does not answer");
    let (channel, server_time, socket) = connecting.await.map_err(|_| silent())??;
    let Channel { sealer, opener, features, .. } = channel;
    let (sink, stream) = socket.split();
    let bytes = Arc::new(Bytes::default());
    let (to_us, incoming) = mpsc::channel(QUEUE_IN);
    let (to_log, of_log) = mpsc::channel(QUEUE);
    let (outgoing, from_us) = mpsc::channel(QUEUE);
    tokio::spawn(read(Box::pin(stream), opener, to_us, to_log, bytes.clone()));
    let writer = tokio::spawn(write(sink, sealer, from_us, bytes.clone()));
    let talk = LogTalk {
        path: witness::path(home.folder(), &server.key()),
        server: server.key(),
        identity,
        incoming: of_log,
        outgoing: outgoing.clone(),
        witness: Witness::default(),
    };
    let witness = Some(tokio::spawn(talk.meet()));
    let address = server.address.clone();
    Ok(Connection { server_time, features, incoming, outgoing, witness, address, bytes, writer })
}

async fn open(
    home: &Home,
    server: &KnownServer,
    identity: Identity,
    secret: Option<[u8; 32]>,
) -> Result<(Channel, Timestamp, Ws), Failure> {
    let mut socket = dial(&server.address).await?;
    let name = home.name();
    let (waiting, first) =
        Initiator::start(identity, server.key(), server.realm(), secret, &name, piecewise_server::chance())?;
    let failed = |error: WsError| unreachable(&server.address, &error.to_string());
    socket.send(Message::binary(first)).await.map_err(failed)?;
    let (waiting, answer) = waiting.receive(&next_binary(&server.address, &mut socket).await?)?;
    let server_time = waiting.server_time();
    socket.send(Message::binary(answer)).await.map_err(failed)?;
    let channel = waiting.receive(&next_binary(&server.address, &mut socket).await?)?;
    Ok((channel, server_time, socket))
}

async fn dial(address: &str) -> Result<Ws, Failure> {
    let wrong = || {
        Failure::new(format!("{address:?} is not the address of a server"))
            .hint("an address is like ws://host:7171 or wss://host:443; ask for a new invite")
            .code(code::BAD_ADDRESS)
    };
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
    let is_tls = match uri.scheme_str() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err(wrong()),
    };
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let failed = |error: std::io::Error| unreachable(address, &error.to_string());
    let tcp = TcpStream::connect((host, port)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let socket: Box<dyn Socket> = match is_tls {
        false => Box::new(tcp),
        true => {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
            let stream = tls().connect(name, tcp).await.map_err(|e| {
                unreachable(address, &e.to_string())
                    .hint("if its certificate is your own, set SSL_CERT_FILE to a PEM file with it; it must name the host and be none of an authority (CA:FALSE)")
            })?;
            Box::new(stream)
        }
    };
    let config = Some(piecewise_server::websocket_config());
    let (socket, _) =
        client_async_with_config(address, socket, config).await.map_err(|error| match error {
            WsError::Http(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
                unreachable(address, "it has too many connections").hint("try again soon")
            }
            error => unreachable(address, &error.to_string()),
        })?;
    Ok(socket)
}

fn tls() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn unreachable(address: &str, why: &str) -> Failure {
    Failure::new(format!("the server at {address} cannot be reached: {why}"))
        .hint("is it running, and is the network up? changes made here wait and go out at the next sync")
        .code(code::UNREACHABLE)
}

async fn next_binary(address: &str, socket: &mut Ws) -> Result<Vec<u8>, Failure> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes.into()),
            Some(Ok(Message::Close(_))) | None => {
                return Err(unreachable(address, "it closed the connection"));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(unreachable(address, &error.to_string())),
        }
    }
}

async fn read(
    mut source: Source,
    mut opener: Opener,
    to_us: mpsc::Sender<Result<Arrived, Failure>>,
    to_log: mpsc::Sender<Vec<u8>>,
    bytes: Arc<Bytes>,
) {
    let lost = |why: &str| {
        Failure::new(format!("the connection was lost: {why}"))
            .hint("try again later; the server's log may say more")
            .code(code::UNREACHABLE)
    };
    let backlog = Backlog::new().of_connection();
    loop {
        let message = match tokio::time::timeout(SILENCE_MAX, source.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => break drop(to_us.send(Err(lost(&error.to_string()))).await),
            Ok(None) => break drop(to_us.send(Err(lost("the server closed it"))).await),
            Err(_) => break drop(to_us.send(Err(lost("the server is silent"))).await),
        };
        let Message::Binary(sealed) = message else { continue };
        bytes.received.fetch_add(sealed.len() as u64, Ordering::Relaxed);
        let plain = match opener.open(&sealed) {
            Ok(plain) => plain,
            Err(error) => break drop(to_us.send(Err(lost(&error.to_string()))).await),
        };
        let heard = match split_channel(&plain) {
            // Nobody listens once the log was met.
            Ok((LOG_CHANNEL, frame)) => {
                let _ = to_log.send(frame.to_vec()).await;
                true
            }
            Ok((channel, frame)) => {
                let (frame, held) = backlog.open(frame).await;
                to_us.send(Ok(Arrived { channel, frame, held: vec![held] })).await.is_ok()
            }
            Err(_) => true,
        };
        if !heard {
            break;
        }
    }
}

async fn write(
    mut sink: impl SinkExt<Message, Error = WsError> + Unpin,
    mut sealer: Sealer,
    mut from_us: mpsc::Receiver<Frame>,
    bytes: Arc<Bytes>,
) {
    while let Some(frame) = from_us.recv().await {
        let mut next = Some(frame);
        while let Some((channel, frame)) = next {
            let Ok(sealed) = sealer.seal(&on_channel(channel, &frame)) else { return };
            bytes.sent.fetch_add(sealed.len() as u64, Ordering::Relaxed);
            if sink.feed(Message::binary(sealed)).await.is_err() {
                return;
            }
            next = from_us.try_recv().ok();
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

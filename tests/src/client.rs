//! Client: a device that lives in this process, for when thousands are needed: the real core on a database in
//! memory, over a real socket.
//!
//! It does what `piecewise watch` does: handshake, the server's log, link, capture after what came. Who runs it
//! decides when it may begin, and when it takes in what came; it tells the times.

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use piecewise_core::channel::{Channel, LOG_CHANNEL, on_channel, split_channel};
use piecewise_core::handshake::Initiator;
use piecewise_core::id::{PeerId, RealmId};
use piecewise_core::identity::Identity;
use piecewise_core::link::{Incoming, Link};
use piecewise_core::replica::{Binding, Follow, Replica};
use piecewise_core::supervisor_log::Witness;
use piecewise_core::supervisor_log::talk::LogMessage;
use piecewise_server::{chance, now, websocket_config};
use rusqlite::Connection;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// How long the server may take to answer, as for `piecewise`.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The channel of the database.
const CHANNEL: u64 = 1;
/// Pages of a database in memory: small, since thousands of them hold a handful of rows each.
const PAGE_BYTES: i64 = 1024;

/// A client's end of a connection.
pub type Socket = WebSocketStream<TcpStream>;

/// A server, as a device knows it.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its key.
    pub key: PeerId,
    /// Its realm.
    pub realm: RealmId,
}

/// Why a client is not connected any more, in words that can be counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended(pub String);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn ended(during: &str) -> impl Fn(&dyn fmt::Display) -> Ended {
    move |error| Ended(format!("{during}: {error}"))
}

/// What happens to a client while it talks.
pub trait Watcher: Send + Sync {
    /// Both sides hold the same; each time that it becomes so.
    fn level(&self);
    /// A frame of the database came off the socket. It is taken in once this returns.
    fn frame(&self) -> impl Future<Output = ()> + Send;
    /// Rows are in the table now; when their frame came.
    fn rows(&self, came: Instant, rows: u64);
}

/// A device with one database.
#[derive(Debug)]
pub struct Client {
    server: Known,
    identity: Identity,
    from: IpAddr,
    secret: Option<[u8; 32]>,
    replica: Replica,
    witness: Witness,
}

impl Client {
    /// A device that has not joined yet: it connects from this address and joins with this secret.
    pub fn new(server: Known, database: &str, from: IpAddr, secret: [u8; 32]) -> Self {
        let identity = Identity::from_seed(chance());
        let conn = Connection::open_in_memory().expect("memory");
        conn.pragma_update(None, "page_size", PAGE_BYTES).expect("a pragma");
        let mut replica = Replica::from_connection(conn, identity.clone(), chance()).expect("a replica");
        let binding = Binding {
            database: database.to_owned(),
            realm: server.realm,
            server: server.key,
            follow: Follow::All,
        };
        replica.bind(binding).expect("it is bound");
        Self { server, identity, from, secret: Some(secret), replica, witness: Witness::default() }
    }

    /// Its tables.
    pub fn connection(&self) -> &Connection {
        self.replica.connection()
    }

    /// Gives back memory that only a busy device needs.
    fn rest(&self) {
        let conn = self.replica.connection();
        conn.flush_prepared_statement_cache();
        let _ = conn.execute_batch("PRAGMA shrink_memory");
    }

    /// Connects; a socket whose handshake is done.
    async fn connect(&mut self) -> Result<(Channel, Socket), Ended> {
        let dialled = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(self.from, 0))?;
            socket.connect(self.server.address).await
        };
        let tcp = dialled.await.map_err(|e| ended("connect")(&e))?;
        let _ = tcp.set_nodelay(true);
        let url = format!("ws://{}", self.server.address);
        let wrong = ended("websocket");
        let (mut socket, _) =
            client_async_with_config(url, tcp, Some(websocket_config())).await.map_err(|e| wrong(&e))?;
        let failed = ended("handshake");
        let (identity, key) = (self.identity.clone(), self.server.key);
        let start = Initiator::start(identity, key, self.server.realm, self.secret, "crowd", chance());
        let (waiting, first) = start.map_err(|e| failed(&e))?;
        socket.send(Message::binary(first)).await.map_err(|e| failed(&e))?;
        let (waiting, answer) = waiting.receive(&next(&mut socket).await?).map_err(|e| failed(&e))?;
        let server_time = waiting.server_time();
        socket.send(Message::binary(answer)).await.map_err(|e| failed(&e))?;
        let channel = waiting.receive(&next(&mut socket).await?).map_err(|e| failed(&e))?;
        self.secret = None;
        self.replica.set_clock_offset(server_time, now()).map_err(|e| failed(&e))?;
        Ok((channel, socket))
    }

    /// Connects and talks for as long as the connection lives; why it ended.
    pub async fn talk(&mut self, watcher: &impl Watcher) -> Ended {
        match self.try_talk(watcher, false).await {
            Err(why) => why,
            Ok(_) => Ended("it was level".to_owned()),
        }
    }

    /// Connects, talks until both sides are level, and then never reads again; the socket stays open.
    pub async fn fall_silent(&mut self, watcher: &impl Watcher) -> Result<Socket, Ended> {
        self.try_talk(watcher, true).await
    }

    async fn try_talk(&mut self, watcher: &impl Watcher, until_level: bool) -> Result<Socket, Ended> {
        let late = |_| Ended("connect: no answer within 10 s".to_owned());
        let (channel, mut socket) =
            tokio::time::timeout(CONNECT_TIME, self.connect()).await.map_err(late)??;
        let Channel { peer, mut sealer, mut opener, .. } = channel;
        let broken = ended("talk");
        let mut link = Link::initiator(&mut self.replica, peer).map_err(|e| broken(&e))?;
        let mut say = vec![on_channel(LOG_CHANNEL, &self.witness.ask().encode())];
        let mut is_level = false;
        loop {
            while let Some(frame) = link.next_frame(&mut self.replica, now()).map_err(|e| broken(&e))? {
                say.push(on_channel(CHANNEL, &frame));
            }
            for frame in say.drain(..) {
                let sealed = sealer.seal(&frame).map_err(|e| broken(&e))?;
                socket.feed(Message::binary(sealed)).await.map_err(|e| broken(&e))?;
            }
            socket.flush().await.map_err(|e| broken(&e))?;
            if link.is_level() && !is_level {
                self.rest();
                watcher.level();
                if until_level {
                    return Ok(socket);
                }
            }
            is_level = link.is_level();
            let sealed = next(&mut socket).await?;
            let plain = opener.open(&sealed).map_err(|e| broken(&e))?;
            let (channel, frame) = split_channel(&plain).map_err(|e| broken(&e))?;
            if channel == LOG_CHANNEL {
                say.extend(self.hear_of_log(frame));
                continue;
            }
            let came = Instant::now();
            watcher.frame().await;
            let received = link
                .receive(&mut self.replica, Incoming::read(frame).open(), now())
                .map_err(|e| broken(&e))?;
            self.replica.capture(now()).map_err(|e| broken(&e))?;
            if received.rows > 0 {
                watcher.rows(came, received.rows);
            }
        }
    }

    /// Judges what the server says of its log; the answer.
    fn hear_of_log(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let Ok(LogMessage::Told(told)) = LogMessage::decode(frame) else { return None };
        let verdict = self.witness.receive(&self.server.key, told, &self.identity, now());
        self.witness.answer(&verdict).map(|answer| on_channel(LOG_CHANNEL, &answer.encode()))
    }
}

async fn next<S>(socket: &mut S) -> Result<Vec<u8>, Ended>
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
{
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes.into()),
            Some(Ok(Message::Close(_))) | None => return Err(Ended("the server closed".to_owned())),
            // The library has queued the answer to a ping.
            Some(Ok(_)) => socket.flush().await.map_err(|e| ended("talk")(&e))?,
            Some(Err(error)) => return Err(ended("read")(&error)),
        }
    }
}

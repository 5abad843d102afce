//! Connection: one WebSocket, from the handshake to its end.

use crate::admission::Applicant;
use crate::backlog::Backlog;
use crate::database::Command;
use crate::databases::NotAttached;
use crate::ledger::Presence;
use crate::limits::Hit;
use crate::listener::Server;
use crate::outbox::{Outbox, Outgoing, outbox};
use crate::web::Arrival;
use futures_util::{SinkExt, StreamExt};
use piecewise_core::channel::{Channel, LOG_CHANNEL, Opener, on_channel, split_channel};
use piecewise_core::grant::Access;
use piecewise_core::handshake::{RefuseReason, Responder};
use piecewise_core::id::PeerId;
use piecewise_core::link::{Attach, Leave, Link};
use piecewise_core::supervisor_log::talk::LogMessage;
use piecewise_core::survey::Survey;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message,
    protocol::{Role, WebSocketConfig},
};

/// How long a peer may take to read one frame.
const READ_TIME: Duration = Duration::from_secs(300);
/// The longest message of a stranger.
const STRANGER_MESSAGE_MAX: usize = 64 << 10;
/// How often a silent connection is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Channels of one connection.
const CHANNELS_MAX: usize = 16_384;
/// Channels of a connection for one database: several files of a folder may belong to it.
const CHANNELS_OF_DATABASE: usize = 16;
/// Bytes of container ids that all talks of a connection hold: lists of 10,000 tables for a hundred databases.
const LISTED_MAX: usize = 32 << 20;
/// Bytes read ahead: small, for there may be many idle connections.
const READ_BUFFER: usize = 8 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    #[error("websocket: {0}")]
    WebSocket(#[from] WsError),
    #[error(transparent)]
    Handshake(#[from] piecewise_core::handshake::HandshakeError),
    #[error(transparent)]
    Channel(#[from] piecewise_core::channel::ChannelError),
    #[error(transparent)]
    Supervisor(#[from] crate::supervisor::SupervisorError),
    #[error("it took too long to prove who it is")]
    TooSlow,
    #[error("it does not read what is sent to it")]
    Stalled,
    #[error("what it may do has changed")]
    RightsChanged,
    #[error("whether it may come in could not be told")]
    NotDecided,
    #[error("it left before it proved who it is")]
    Left,
    #[error("it does not follow the protocol: {0}")]
    Protocol(&'static str),
    #[error("turned away: {0}")]
    Refused(RefuseReason),
}

/// How WebSockets are set up at both ends.
pub fn websocket_config() -> WebSocketConfig {
    let max = piecewise_core::message::MESSAGE_LEN_MAX + (1 << 20);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
}

/// The same while it is not known who is there.
pub(crate) fn stranger_config() -> WebSocketConfig {
    websocket_config().max_message_size(Some(STRANGER_MESSAGE_MAX)).max_frame_size(Some(STRANGER_MESSAGE_MAX))
}

/// Serves one connection until it ends.
pub(crate) async fn serve<S>(
    server: Arc<Server>,
    mut socket: WebSocketStream<S>,
    number: u64,
    arrival: &Arrival,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let welcomed = tokio::time::timeout(server.gate.handshake_time(), handshake(&server, &mut socket)).await;
    let welcomed = welcomed.unwrap_or(Err(ConnectionError::TooSlow));
    let channel = welcomed.inspect_err(|error| server.metrics.handshake_failed(error))?;
    arrival.is_known();
    let _present = Presence::of(&server.supervisor, channel.peer);
    let _visit = server.databases.visit();
    // The peer says nothing before it is welcomed, so nothing was read ahead.
    let config = Some(websocket_config());
    let socket = WebSocketStream::from_raw_socket(socket.into_inner(), Role::Server, config).await;
    tracing::info!(peer = channel.peer.short(), "connected");
    talk(&server, socket, channel, number).await
}

async fn handshake<S>(server: &Server, socket: &mut WebSocketStream<S>) -> Result<Channel, ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let supervisor = &server.supervisor;
    let responder = Responder::new(supervisor.identity.clone(), supervisor.realm, crate::chance())?;
    let first = next_binary(socket).await?.ok_or(ConnectionError::Left)?;
    let (waiting, answer) = responder.receive(&first, crate::now())?;
    socket.send(Message::binary(answer)).await?;
    let hello = next_binary(socket).await?.ok_or(ConnectionError::Left)?;
    let claim = waiting.receive(&hello)?;
    let applicant = Applicant { peer: claim.peer, name: claim.name.clone(), invite: claim.invite };
    match server.admission.admit(applicant).await.ok_or(ConnectionError::NotDecided)? {
        Ok(()) => {
            let (channel, welcome) = claim.accept()?;
            socket.send(Message::binary(welcome)).await?;
            Ok(channel)
        }
        Err(reason) => {
            socket.send(Message::binary(claim.refuse(reason)?)).await?;
            let _ = socket.close(None).await;
            Err(ConnectionError::Refused(reason))
        }
    }
}

async fn next_binary<S>(socket: &mut WebSocketStream<S>) -> Result<Option<Vec<u8>>, ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = socket.next().await {
        match message? {
            Message::Binary(bytes) => return Ok(Some(bytes.into())),
            Message::Close(_) => return Ok(None),
            Message::Text(_) => return Err(ConnectionError::Protocol("a text frame")),
            _ => {}
        }
    }
    Ok(None)
}

async fn talk<S>(
    server: &Arc<Server>,
    socket: WebSocketStream<S>,
    channel: Channel,
    number: u64,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Channel { peer, mut sealer, opener, .. } = channel;
    let (mut sink, mut stream) = socket.split();
    let (outbox, mut outgoing) = outbox();
    let mut router = Router {
        server: server.clone(),
        peer,
        number,
        opener,
        channels: HashMap::new(),
        listed: Listed::default(),
        survey: None,
        outbox,
        backlog: server.backlog.of_connection(),
    };
    let freed = outgoing.freed();
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut changes = server.supervisor.rights.changes();
    let rights = server.supervisor.grants(&peer);
    let mut stop = server.stopping();
    loop {
        tokio::select! {
            message = stream.next() => match message.transpose()? {
                Some(Message::Binary(frame)) => {
                    for answer in router.route(&frame).await? {
                        in_time(server, sink.feed(Message::binary(sealer.seal(&answer)?))).await?;
                    }
                    in_time(server, sink.flush()).await?;
                }
                Some(Message::Close(_)) | None => return Ok(()),
                Some(Message::Text(_)) => return Err(ConnectionError::Protocol("a text frame")),
                Some(_) => {}
            },
            frame = outgoing.recv() => {
                let mut next = frame;
                while let Some(frame) = next {
                    let Outgoing::Frame(channel, frame) = frame else {
                        let _ = sink.close().await;
                        return Ok(());
                    };
                    let sealed = sealer.seal(&on_channel(channel, &frame))?;
                    in_time(server, sink.feed(Message::binary(sealed))).await?;
                    next = outgoing.try_recv();
                }
                in_time(server, sink.flush()).await?;
                if outgoing.was_full() {
                    router.has_room();
                }
            },
            () = freed.notified() => if outgoing.was_full() {
                router.has_room();
            },
            () = router.has_news() => if let Some(news) = router.news() {
                in_time(server, sink.send(Message::binary(sealer.seal(&news)?))).await?;
            },
            _ = ping.tick() => in_time(server, sink.send(Message::Ping(Default::default()))).await?,
            // Somebody's rights. A device whose own have changed attaches anew, and finds what it may do now.
            _ = changes.changed() => if server.supervisor.grants(&peer) != rights {
                let _ = sink.close().await;
                return Err(ConnectionError::RightsChanged);
            },
            _ = stop.changed() => {
                let _ = sink.close().await;
                return Ok(());
            }
        }
    }
}

/// Waits for something to be sent, but not for ever: a peer that does not read holds memory here.
async fn in_time(
    server: &Server,
    sending: impl Future<Output = Result<(), WsError>>,
) -> Result<(), ConnectionError> {
    match tokio::time::timeout(READ_TIME, sending).await {
        Ok(sent) => Ok(sent?),
        Err(_) => {
            server.metrics.hits.count(Hit::Stalled);
            Err(ConnectionError::Stalled)
        }
    }
}

/// Bytes of container ids that the talks of a connection hold.
#[derive(Debug, Default)]
struct Listed {
    by_channel: HashMap<u64, usize>,
    all: usize,
}

impl Listed {
    /// Takes note of a list that a channel's talk holds from now on, if there is one; false if that is too much.
    fn hold(&mut self, channel: u64, bytes: usize) -> bool {
        if bytes > 0 {
            self.all = self.all + bytes - self.by_channel.insert(channel, bytes).unwrap_or(0);
        }
        self.all <= LISTED_MAX
    }

    fn forget(&mut self, channel: u64) {
        self.all -= self.by_channel.remove(&channel).unwrap_or(0);
    }
}

/// Brings frames to the databases that they are for.
struct Router {
    server: Arc<Server>,
    peer: PeerId,
    number: u64,
    opener: Opener,
    /// The database of each channel, and the way to its thread.
    channels: HashMap<u64, (String, Sender<Command>)>,
    listed: Listed,
    /// The channel on which many databases are asked about, and who tells that there is news.
    survey: Option<(u64, Arc<Notify>)>,
    outbox: Outbox,
    /// Room for frames on their way to databases.
    backlog: Backlog,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.server.databases.surveys().end(self.number);
        self.server.databases.detach(self.number, self.channels.values().map(|(name, _)| name));
    }
}

impl Router {
    /// Brings a frame where it belongs; what to answer at once.
    async fn route(&mut self, sealed: &[u8]) -> Result<Vec<Vec<u8>>, ConnectionError> {
        let plain = self.opener.open(sealed)?;
        let (channel, frame) =
            split_channel(&plain).map_err(|_| ConnectionError::Protocol("a frame without a channel"))?;
        if channel == LOG_CHANNEL {
            let message = LogMessage::decode(frame)
                .map_err(|_| ConnectionError::Protocol("words about the log that cannot be read"))?;
            let answer = self.server.supervisor.log_answer(&self.peer, message)?;
            return Ok(answer.map(|answer| on_channel(channel, &answer.encode())).into_iter().collect());
        }
        if Survey::begins(frame) {
            return self.survey(channel, frame);
        }
        if Leave::ends(frame) {
            self.leave(channel, frame)?;
            return Ok(vec![]);
        }
        if !self.listed.hold(channel, Attach::listed_len(frame)) {
            return Err(ConnectionError::Protocol("too many containers are named"));
        }
        let id = (self.number, channel);
        if !Attach::begins(frame) {
            let Some((_, commands)) = self.channels.get(&channel) else {
                return Err(ConnectionError::Protocol("no attach came first"));
            };
            let (frame, room) = self.backlog.open(frame).await;
            // A database that rests has told the link so; what crossed that word is said again after an attach.
            let _ = commands.send(Command::Frame { id, frame, rooms: vec![room] });
            return Ok(vec![]);
        }
        let attach =
            Attach::decode(frame).map_err(|_| ConnectionError::Protocol("an attach that cannot be read"))?;
        let known = self.channels.get(&channel).map(|(name, _)| name);
        if known.is_some_and(|name| *name != attach.database) {
            return Err(ConnectionError::Protocol("a channel for another database"));
        }
        if known.is_none() {
            let same = || self.channels.values().filter(|(name, _)| *name == attach.database).count();
            if self.channels.len() >= CHANNELS_MAX || same() >= CHANNELS_OF_DATABASE {
                return Err(ConnectionError::Protocol("too many channels"));
            }
        }
        self.server.supervisor.look();
        let grants = self.server.supervisor.grants(&self.peer);
        let access =
            grants.iter().filter(|g| g.pattern.covers_database(&attach.database)).map(|g| g.access).max();
        let (name, outbox) = (attach.database.clone(), self.outbox.clone());
        // Whoever may only read makes nothing here.
        let may_create = access >= Some(Access::Write);
        // What is not granted looks the same as what does not exist.
        let attached = match access {
            Some(_) => self.server.databases.attach(id, self.peer, attach, outbox, may_create),
            None => Err(NotAttached::NoDatabase),
        };
        match attached {
            Ok(commands) => {
                self.channels.insert(channel, (name, commands));
                Ok(vec![])
            }
            Err(NotAttached::NoDatabase) => Ok(vec![on_channel(channel, &Link::denied())]),
            Err(NotAttached::CannotOpen(cause)) => Ok(vec![on_channel(channel, &Link::cannot_open(&cause))]),
        }
    }

    /// Answers a question about many databases; there will be news on its channel.
    fn survey(&mut self, channel: u64, frame: &[u8]) -> Result<Vec<Vec<u8>>, ConnectionError> {
        let survey =
            Survey::decode(frame).map_err(|_| ConnectionError::Protocol("a survey that cannot be read"))?;
        let told = Arc::new(Notify::new());
        self.survey = Some((channel, told.clone()));
        let grants = self.server.supervisor.grants(&self.peer);
        let answer = self.server.databases.surveys().begin(self.number, survey, &grants, told);
        Ok(answer.into_iter().map(|frame| on_channel(channel, &frame)).collect())
    }

    /// Waits until there is news.
    async fn has_news(&self) {
        match &self.survey {
            Some((_, told)) => told.notified().await,
            None => std::future::pending().await,
        }
    }

    fn news(&self) -> Option<Vec<u8>> {
        let (channel, _) = self.survey.as_ref()?;
        let grants = self.server.supervisor.grants(&self.peer);
        let news = self.server.databases.surveys().news(self.number, &grants)?;
        Some(on_channel(*channel, &news))
    }

    /// The peer ends the talk on a channel.
    fn leave(&mut self, channel: u64, frame: &[u8]) -> Result<(), ConnectionError> {
        let leave =
            Leave::decode(frame).map_err(|_| ConnectionError::Protocol("an end that cannot be read"))?;
        self.listed.forget(channel);
        if let Some((name, _)) = self.channels.remove(&channel) {
            self.server.databases.leave((self.number, channel), &name, leave.digest);
        }
        Ok(())
    }

    fn has_room(&self) {
        for (_, commands) in self.channels.values() {
            let _ = commands.send(Command::Room { connection: self.number });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_cannot_name_containers_without_end() {
        let mut listed = Listed::default();
        // A million ids each, as one connection was able to name forty times.
        assert!(listed.hold(1, 32 << 19));
        assert!(listed.hold(1, 32 << 19), "a list takes the place of the one before");
        assert!(listed.hold(2, 32 << 19));
        assert!(!listed.hold(3, 64));
        listed.forget(3);
        listed.forget(1);
        assert!(listed.hold(4, 0) && listed.hold(5, 64));
    }
}

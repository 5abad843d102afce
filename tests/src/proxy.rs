//! Proxy: a listener between a device and its server that counts bytes and can cut the line.
//!
//! It knows nothing of what goes over it, so its figures hold whatever the two ends speak.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A line to a server.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    server: String,
    cut_after: u64,
    up: AtomicU64,
    down: AtomicU64,
    state: Mutex<State>,
    connected: Condvar,
}

#[derive(Debug)]
struct State {
    sockets: Vec<TcpStream>,
    connections: u64,
    last_connected: Instant,
    last_moved: Instant,
}

impl Proxy {
    /// A line to the server at HOST:PORT, on a port of 127.0.0.1 that is free.
    pub fn to(server: &str) -> Self {
        Self::cutting(server, u64::MAX)
    }

    /// The same; each connection is cut once so many bytes went over it, both ways together.
    pub fn cutting(server: &str, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("ws://{}", listener.local_addr().expect("it has an address"));
        let now = Instant::now();
        let state = State { sockets: vec![], connections: 0, last_connected: now, last_moved: now };
        let line = Arc::new(Line {
            server: server.to_owned(),
            cut_after: bytes,
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            state: Mutex::new(state),
            connected: Condvar::new(),
        });
        let to = line.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| to.connect(client)));
        Self { address, line }
    }

    /// Where it listens, as `piecewise join --address` takes it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Bytes that went to the server and came from it, of all connections so far.
    pub fn bytes(&self) -> (u64, u64) {
        (self.line.up.load(Ordering::Relaxed), self.line.down.load(Ordering::Relaxed))
    }

    /// Bytes both ways.
    pub fn total(&self) -> u64 {
        self.bytes().0 + self.bytes().1
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.line.state().connections
    }

    /// Cuts every connection, as a network that goes away.
    pub fn cut(&self) {
        for socket in self.line.state().sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits until there were more than `before` connections; when the last one came.
    pub fn wait_for_connection(&self, before: u64, patience: Duration) -> Instant {
        let waiting = |state: &mut State| state.connections <= before;
        let waited = self.line.connected.wait_timeout_while(self.line.state(), patience, waiting);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "nobody connects");
        state.last_connected
    }

    /// Waits until nothing has moved for so long; when the last byte moved.
    pub fn quiet_for(&self, time: Duration) -> Instant {
        loop {
            let last = self.line.state().last_moved;
            let Some(left) = time.checked_sub(last.elapsed()) else { return last };
            std::thread::sleep(left);
        }
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a client with the server; a server that is not there closes the client's connection.
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.server) else { return };
        let moved = Arc::new(AtomicU64::new(0));
        let ends = [(&client, &server, true), (&server, &client, false)];
        for (from, to, up) in ends {
            let _ = from.set_nodelay(true);
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let (line, moved) = (self.clone(), moved.clone());
            std::thread::spawn(move || line.copy(from, to, up, &moved));
        }
        let mut state = self.state();
        state.sockets.extend([client, server]);
        state.connections += 1;
        state.last_connected = Instant::now();
        self.connected.notify_all();
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, up: bool, moved: &AtomicU64) {
        let count = if up { &self.up } else { &self.down };
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n) = from.read(&mut buffer)
            && n > 0
        {
            let before = moved.fetch_add(n as u64, Ordering::Relaxed);
            let part = n.min(self.cut_after.saturating_sub(before).min(n as u64) as usize);
            count.fetch_add(part as u64, Ordering::Relaxed);
            self.state().last_moved = Instant::now();
            if to.write_all(&buffer[..part]).is_err() || part < n {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

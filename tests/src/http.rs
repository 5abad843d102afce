//! HTTP: one request to a server of the tests, byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The lines before the body, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header; names are in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Asks a server at HOST:PORT; more header lines may be given.
pub fn request(listen: &str, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(listen).expect("the server listens");
    let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer that is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    Answer { code, head: head.to_owned(), body: body.to_owned() }
}

/// Gets a path.
pub fn get(listen: &str, path: &str) -> Answer {
    request(listen, "GET", path, &[])
}

/// A figure of `/metrics`, by its name and labels as they stand there.
pub fn figure(listen: &str, name: &str) -> f64 {
    let text = get(listen, "/metrics").body;
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("there is no {name} in:\n{text}"))
}

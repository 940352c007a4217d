//! A client of a few lines: it sees the bytes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    /// In lower case.
    pub(super) head: String,
    /// Without its chunks' frame.
    pub(super) body: String,
}

impl Answered {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    /// The documents of an event stream, which ends with `[DONE]` or with an error.
    pub(super) fn events(&self) -> Vec<Value> {
        let data = self.body.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").expect("an event"));
        let mut events: Vec<&str> = data.collect();
        let failed = |event: &&str| event.starts_with("{\"error\"");
        if !events.last().is_some_and(failed) {
            assert_eq!(events.pop(), Some("[DONE]"), "in {}", self.body);
        }
        assert!(!events.contains(&"[DONE]"), "nothing comes after the end, and an error is no end: {}", self.body);
        events.into_iter().map(|event| serde_json::from_str(event).expect("JSON")).collect()
    }
}

/// Sends a request and leaves the answer to the caller.
pub(super) fn send(at: SocketAddr, method: &str, path: &str, more: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let length = body.len();
    let kind = if more.contains("content-type:") { "" } else { "content-type: application/json\r\n" };
    let host = if more.contains("host:") { "" } else { "host: localhost\r\n" };
    let head =
        format!("{method} {path} HTTP/1.1\r\n{host}{kind}connection: close\r\ncontent-length: {length}\r\n{more}\r\n");
    // A server that refuses a body may close before it has all of it.
    let _ = stream.write_all((head + body).as_bytes());
    stream
}

/// Sends the beginning of a request whose body has a length.
pub(super) fn begin(at: SocketAddr, method: &str, path: &str, length: usize, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).expect("it listens");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).expect("sent");
    stream
}

/// Reads an answer to its end.
pub(super) fn receive(mut stream: TcpStream) -> Answered {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer, only {text:?}"));
    let head = head.to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = if head.contains("transfer-encoding: chunked") { dechunked(body) } else { body.to_owned() };
    Answered { status, head, body }
}

fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

pub(super) fn call(at: SocketAddr, method: &str, path: &str, more: &str, body: &str) -> Answered {
    receive(send(at, method, path, more, body))
}

pub(super) fn get(at: SocketAddr, path: &str) -> Answered {
    call(at, "GET", path, "", "")
}

/// Asks for a completion.
pub(super) fn post(at: SocketAddr, body: &Value) -> Answered {
    call(at, "POST", "/v1/completions", "", &body.to_string())
}

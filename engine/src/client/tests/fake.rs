//! A server with scripted answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers each completion with the next of its script.
pub(super) struct Fake {
    pub(super) at: SocketAddr,
}

type Script = Arc<Mutex<std::vec::IntoIter<(u16, &'static str)>>>;

impl Fake {
    pub(super) fn start(script: Vec<(u16, &'static str)>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let script = Arc::new(Mutex::new(script.into_iter()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let script = Arc::clone(&script);
                std::thread::spawn(move || one(stream, &script));
            }
        });
        Fake { at }
    }
}

/// One request; the connection closes after it.
fn one(mut stream: TcpStream, script: &Script) {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let head = loop {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(n) => bytes.extend_from_slice(&part[..n]),
        }
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            break head.to_owned();
        }
    };
    let (status, body) = match head.split(' ').nth(1) {
        Some("/v1/models") => (200, "{\"data\":[{\"id\":\"fake\"}]}"),
        Some("/v1/completions") => script.lock().expect("script").next().unwrap_or((500, "no more")),
        _ => (404, "nothing"),
    };
    if status > 0 {
        let kind = if body.starts_with("data:") { "text/event-stream" } else { "application/json" };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    }
}

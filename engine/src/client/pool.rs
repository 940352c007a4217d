//! Connections to a server: one request at a time on each, used again while they are warm.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::target::Target;

/// Idle connections are used again up to this age: servers close them after some seconds, and a request should not
/// find that out.
const WARM: Duration = Duration::from_secs(1);
/// More of an answer that is not streamed is not read [bytes].
const ANSWER_MAX: usize = 4 << 20;

/// A connection that is free for a request.
pub(super) type Connection = SendRequest<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[source] hyper::Error),
    #[error("cannot say that in HTTP: {0}")]
    Unsayable(#[from] hyper::http::Error),
    #[error("an answer of more than {ANSWER_MAX} bytes, or one that breaks off")]
    Answer,
}

/// A server, and connections to it.
#[derive(Debug)]
pub(super) struct Pool {
    target: Target,
    api_key: Option<String>,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

impl Pool {
    pub(super) fn new(target: Target, api_key: Option<String>) -> Self {
        Pool { target, api_key, idle: Mutex::new(Vec::new()) }
    }

    /// A connection: a warm one, or a new one.
    pub(super) async fn connect(&self) -> Result<Connection, WireError> {
        while let Some((connection, since)) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            if since.elapsed() < WARM && connection.is_ready() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(self.target.address()).await.map_err(WireError::Connect)?;
        stream.set_nodelay(true).map_err(WireError::Connect)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(WireError::Broken)?;
        // Its errors reach the senders of requests on it.
        tokio::spawn(driver);
        Ok(connection)
    }

    /// Gives a connection back whose answer was read to its end.
    pub(super) fn give_back(&self, connection: Connection) {
        if connection.is_ready() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        }
    }

    /// A request of this server.
    pub(super) fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, WireError> {
        let mut request = Request::builder().method(method).uri(self.target.path(path));
        request = request.header(HOST, self.target.authority()).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.api_key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        Ok(request.body(Full::new(body))?)
    }

    /// Sends a request and returns the head of its answer.
    pub(super) async fn send(
        connection: &mut Connection,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, WireError> {
        connection.send_request(request).await.map_err(WireError::Broken)
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), WireError> {
        let request = self.request(method, path, body)?;
        let mut connection = self.connect().await?;
        let answer = Pool::send(&mut connection, request).await?;
        let status = answer.status();
        let body = whole(answer.into_body()).await?;
        self.give_back(connection);
        Ok((status, body))
    }
}

/// An answer that is not a stream.
pub(super) async fn whole(body: Incoming) -> Result<Bytes, WireError> {
    Limited::new(body, ANSWER_MAX).collect().await.map(Collected::to_bytes).map_err(|_| WireError::Answer)
}

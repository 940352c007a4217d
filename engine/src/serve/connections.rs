//! Connections: how many there are, and how long each may say or take nothing.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

/// What the kernel holds for a reader that is behind [bytes]. Left to itself, Linux takes megabytes.
const SEND_BUFFER: usize = 128 << 10;
/// Largest head of a request, and what is held of an answer that is being written [bytes].
const HEAD_MAX: usize = 64 << 10;
/// How long to wait when the system has no connection to give: too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// At once; more wait in the system's queue until one closes.
    pub(super) connections: usize,
    /// Longest time for a head to arrive, from the connection or the answer before it on, and for a reader to take nothing.
    pub(super) patience: Duration,
}

/// Takes connections until it is closed; open ones end with their current answer.
pub(super) async fn listen(
    listener: std::net::TcpListener,
    router: Router,
    bounds: Bounds,
    mut closed: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let service = TowerToHyperService::new(router);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut closed) => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < bounds.connections => match accepted {
                Ok((stream, _)) => {
                    open.spawn(connection(stream, service.clone(), bounds.patience, closed.clone()));
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    Ok(())
}

/// Waits for the word to close; a server that is gone has given it.
async fn told(closed: &mut watch::Receiver<bool>) {
    let _ = closed.wait_for(|&closed| closed).await;
}

/// Whether a connection could not be taken because its client has left.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end. What breaks it is its client's affair.
async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    patience: Duration,
    mut closed: watch::Receiver<bool>,
) {
    // Tokens are small and should leave at once. A connection that is gone already is noticed when it is read.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEAD_MAX);
    let mut served = pin!(builder.serve_connection(Impatient::new(TokioIo::new(stream), patience), service));
    tokio::select! {
        _ = served.as_mut() => return,
        () = told(&mut closed) => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}

/// A stream whose writes fail when its reader has taken nothing for a while.
struct Impatient {
    stream: TokioIo<TcpStream>,
    patience: Duration,
    /// Runs while a write waits.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: TokioIo<TcpStream>, patience: Duration) -> Self {
        Impatient { stream, patience, waits: None }
    }

    /// Turns a write that has waited too long into an error.
    fn judged<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let deadline = Instant::now() + self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        waits.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Impatient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl Write for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judged(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.stream).poll_flush(context);
        self.judged(context, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.judged(context, written)
    }
}

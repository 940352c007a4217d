//! Server-sent events: an answer as it is made.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use tokio::sync::mpsc;

use super::answer::Answer;
use super::generation::Piece;

/// Events are gathered into one frame up to this size [bytes].
const FRAME: usize = 16 << 10;

/// The stream was cut: its reader was too slow, or the server is going.
#[derive(Debug, thiserror::Error)]
#[error("the stream was cut before its end")]
struct Cut;

/// The body of a streamed answer.
struct Events {
    answer: Answer,
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Some(first) = ready!(self.pieces.poll_recv(context)) else {
            self.ended = true;
            return Poll::Ready(Some(Err(Cut)));
        };
        // What has come meanwhile goes into the same write, but no more than a write's worth: tokens that come as fast as they
        // are taken would make one frame of the whole answer.
        let mut text = self.answer.events(&first);
        let mut end = first.end.is_some();
        while !end
            && text.len() < FRAME
            && let Ok(piece) = self.pieces.try_recv()
        {
            text.push_str(&self.answer.events(&piece));
            end = piece.end.is_some();
        }
        self.ended = end;
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

/// The answer as a stream.
pub(super) fn response(answer: Answer, pieces: mpsc::Receiver<Piece>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Body::new(Events { answer, pieces, ended: false })).into_response()
}

//! The body of an answer that goes on: what there is, then a line for each event as it comes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc::Receiver;

/// See above.
#[derive(Debug)]
pub struct Lines {
    /// What is sent at once.
    pub first: VecDeque<Bytes>,
    /// What comes later.
    pub next: Receiver<Bytes>,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.next.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

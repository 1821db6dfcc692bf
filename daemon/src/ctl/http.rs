//! paravanectl's end of the control socket.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens, or we may not enter.
    #[error("{path}: {error}{hint}", path = path.display(), hint = hint(error))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The connection fails.
    #[error("paravaned: {0}")]
    Http(#[from] hyper::Error),
    /// paravaned says no.
    #[error("{0}")]
    Refused(String),
    /// It says something else than this release knows.
    #[error("paravaned's answer is not understood: {0}")]
    Strange(String),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => " (does paravaned run?)",
        std::io::ErrorKind::PermissionDenied => " (control.group in paravaned.toml says who may)",
        _ => "",
    }
}

/// The socket.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Control {
    /// Asks at this socket.
    ///
    /// # Errors
    /// The system's.
    pub fn at(path: &Path) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { path: path.into(), runtime })
    }

    /// The answer's bytes, if it is a success.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn bytes(&self, method: Method, uri: &str, body: Vec<u8>) -> Result<Bytes, NoAnswer> {
        self.runtime.block_on(async {
            let answer = self.send(method, uri, body).await?;
            let status = answer.status();
            let bytes = answer.into_body().collect().await?.to_bytes();
            if status.is_success() { Ok(bytes) } else { Err(refused(status, &bytes)) }
        })
    }

    /// The answer.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn get<T: DeserializeOwned>(&self, uri: &str) -> Result<T, NoAnswer> {
        let bytes = self.bytes(Method::GET, uri, Vec::new())?;
        serde_json::from_slice(&bytes).map_err(|error| NoAnswer::Strange(error.to_string()))
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn ask(&self, method: Method, uri: &str, body: &impl Serialize) -> Result<Bytes, NoAnswer> {
        let body = serde_json::to_vec(body).map_err(|error| NoAnswer::Strange(error.to_string()))?;
        self.bytes(method, uri, body)
    }

    /// Each line of an answer that goes on, until `each` says false.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn lines(&self, uri: &str, mut each: impl FnMut(&[u8]) -> bool) -> Result<(), NoAnswer> {
        self.runtime.block_on(async {
            let mut answer = self.send(Method::GET, uri, Vec::new()).await?;
            if !answer.status().is_success() {
                let status = answer.status();
                return Err(refused(status, &answer.into_body().collect().await?.to_bytes()));
            }
            let mut rest = Vec::new();
            while let Some(frame) = answer.frame().await {
                rest.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if !each(line.trim_ascii_end()) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    async fn send(&self, method: Method, uri: &str, body: Vec<u8>) -> Result<Response<Incoming>, NoAnswer> {
        let connect = |error| NoAnswer::Connect { path: self.path.clone(), error };
        let stream = UnixStream::connect(&self.path).await.map_err(connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // What goes wrong with it, the sender hears.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(hyper::header::HOST, "paravaned")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| NoAnswer::Strange(error.to_string()))?;
        Ok(sender.send_request(request).await?)
    }
}

fn refused(status: hyper::StatusCode, body: &[u8]) -> NoAnswer {
    let error = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = error.as_ref().and_then(|error| error.get("error")?.as_str());
    NoAnswer::Refused(said.map_or_else(|| status.to_string(), str::to_owned))
}

/// A name as a part of a URI's path or query.
pub fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().fold(String::new(), |mut text, byte| {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("vm-1.a_b~2"), "vm-1.a_b~2");
        assert_eq!(escaped("a/b ä%"), "a%2Fb%20%C3%A4%25");
    }
}

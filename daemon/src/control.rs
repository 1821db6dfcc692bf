//! What operators and their programs ask: HTTP and JSON on a Unix socket, open for root, paravaned's user and a group.
//! `/metrics` is there too, and alone on an address where one is set.

use std::collections::VecDeque;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use paravane_backend::register::wanted::Wanted;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::events;
use crate::host::{Host, Unable};
use crate::ledger::{self, By, Interval};
use crate::metrics;
use crate::peer;
use crate::registration::{open_for, prepare};
use crate::stream::Lines;
use crate::view::Snapshot;
use crate::vm::Peer;

/// An answer that is no success.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<Unable> for Refusal {
    fn from(why: Unable) -> Self {
        let status = match why {
            Unable::Nothing(_) => StatusCode::NOT_FOUND,
            Unable::Impossible(_) => StatusCode::CONFLICT,
            Unable::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, why.to_string())
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
struct Caller {
    peer: Peer,
    groups: Vec<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let socket = stream.io();
        // A user that nobody has may not enter.
        let nobody = Peer { pid: 0, uid: u32::MAX, gid: u32::MAX };
        Self { peer: peer::of(socket).unwrap_or(nobody), groups: peer::groups(socket) }
    }
}

/// The body of PATCH /v1/vms/NAME.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetBody {
    /// What is to be set.
    pub set: Wanted,
    /// Whether it is written into the file.
    #[serde(default)]
    pub persistent: bool,
}

/// The body of POST /v1/vms/NAME/kill.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillBody {
    /// A process's number; absent: all of the VM's.
    #[serde(default)]
    pub process: Option<u64>,
}

/// The query of GET /v1/usage.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// One VM alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// In seconds since 1970; absent: from the ledger's begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// In seconds since 1970, not included; absent: up to now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// A line per VM, per process or per device.
    #[serde(default)]
    pub by: By,
    /// "json" or "csv".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostQuery {
    history: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EventsQuery {
    follow: bool,
}

/// Events that wait for a reader of the stream.
const LINES_AHEAD: usize = 64;

type Shared = State<Arc<Host>>;

/// Serves the control socket, and metrics on an address if there is a listener for them; until `end`.
///
/// # Errors
/// If a listener fails.
pub async fn serve(
    host: Arc<Host>,
    control: UnixListener,
    group: Option<u32>,
    metrics: Option<TcpListener>,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let guard = move |ConnectInfo(caller): ConnectInfo<Caller>, request: Request, next: Next| async move {
        if peer::may_enter(caller.peer, &caller.groups, group) {
            return next.run(request).await;
        }
        let text = format!("user {} may not control paravaned", caller.peer.uid);
        Refusal(StatusCode::FORBIDDEN, text).into_response()
    };
    let routes = routes().with_state(Arc::clone(&host)).layer(from_fn(guard));
    let control = axum::serve(control, routes.into_make_service_with_connect_info::<Caller>());
    let on_address = async move {
        match metrics {
            Some(listener) => {
                let routes = Router::new().route("/metrics", get(show_metrics)).with_state(host);
                axum::serve(listener, routes).await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = control.into_future() => outcome,
        outcome = on_address => outcome,
        () = end => Ok(()),
    }
}

/// The control socket.
///
/// # Errors
/// If somebody listens there, or it cannot be made.
pub fn listen(path: &FilePath, group: Option<u32>) -> io::Result<UnixListener> {
    prepare(path, std::os::unix::net::UnixStream::connect(path).is_ok())?;
    let listener = UnixListener::bind(path)?;
    open_for(path, group)?;
    Ok(listener)
}

fn routes() -> Router<Arc<Host>> {
    Router::new()
        .route("/v1/host", get(show_host))
        .route("/v1/vms", get(async |State(host): Shared| Json(host.snapshot(false).vms)))
        .route("/v1/vms/{name}", get(show_vm).merge(patch(set)))
        .route("/v1/vms/{name}/kill", post(kill))
        .route("/v1/usage", get(usage))
        .route("/v1/events", get(stream_events))
        .route("/v1/reload", post(reload))
        .route("/metrics", get(show_metrics))
        .fallback(async || Refusal(StatusCode::NOT_FOUND, "there is no such path".into()))
}

/// What stands behind the question mark, if it is understood.
fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    query.map(|Query(query)| query).map_err(|why| Refusal(StatusCode::BAD_REQUEST, why.body_text()))
}

async fn show_host(
    State(host): Shared,
    query: Result<Query<HostQuery>, QueryRejection>,
) -> Result<Json<Snapshot>, Refusal> {
    Ok(Json(host.snapshot(asked(query)?.history)))
}

async fn show_vm(State(host): Shared, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let vm = host.snapshot(false).vms.into_iter().find(|vm| vm.name == name);
    let vm = vm.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("there is no VM {name}")))?;
    Ok(Json(json!(vm)))
}

async fn set(
    State(host): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(name): Path<String>,
    body: Result<Json<SetBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(body) = body.map_err(|why| Refusal(StatusCode::BAD_REQUEST, why.body_text()))?;
    log::info!("user {} sets {name}", caller.peer.uid);
    let wanted = host.set(&name, &body.set, body.persistent)?;
    Ok(Json(json!({ "vm": name, "wanted": wanted })))
}

async fn kill(
    State(host): Shared,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(name): Path<String>,
    body: Result<Json<KillBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(body) = body.map_err(|why| Refusal(StatusCode::BAD_REQUEST, why.body_text()))?;
    log::info!("user {} ends processes of {name}", caller.peer.uid);
    host.kill(&name, body.process)?;
    Ok(Json(json!({ "vm": name })))
}

async fn reload(State(host): Shared) -> Result<Json<Value>, Refusal> {
    host.reload().map_err(|why| Refusal(StatusCode::CONFLICT, why.to_string()))?;
    Ok(Json(json!({ "file": host.config_path })))
}

async fn usage(
    State(host): Shared,
    query: Result<Query<UsageQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let query = asked(query)?;
    let interval = Interval {
        from_s: query.from.unwrap_or(0),
        to_s: query.to.unwrap_or_else(|| events::now().as_secs() + 1),
    };
    if interval.from_s >= interval.to_s {
        let why = format!("from {}: must be before to, which is {}", interval.from_s, interval.to_s);
        return Err(Refusal(StatusCode::BAD_REQUEST, why));
    }
    let (vm, by) = (query.vm, query.by);
    let ask = move || {
        let reader = host.reader().another()?;
        // As rows and as a table.
        Ok(if by == By::Device {
            let rows = reader.usage_on_devices(vm.as_deref(), interval)?;
            (json!(rows), ledger::csv_on_devices(&rows))
        } else {
            let rows = reader.usage(vm.as_deref(), interval, by)?;
            (json!(rows), ledger::csv(&rows, by))
        })
    };
    let answer = tokio::task::spawn_blocking(ask).await;
    let failed = |why: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, why);
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let (rows, table) = answer.map_err(|error: ledger::LedgerError| failed(error.to_string()))?;
    match query.format.as_deref() {
        None | Some("json") => {
            Ok(Json(json!({ "from_s": interval.from_s, "to_s": interval.to_s, "usage": rows })).into_response())
        }
        Some("csv") => {
            let content = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
            Ok((content, table).into_response())
        }
        Some(other) => Err(Refusal(StatusCode::BAD_REQUEST, format!("format {other}: must be json or csv"))),
    }
}

/// One JSON object a line.
async fn stream_events(
    State(host): Shared,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let query = asked(query)?;
    let (kept, mut next) = host.events.follow();
    let kept: Vec<u8> = kept.iter().flat_map(line).collect();
    let content = [(header::CONTENT_TYPE, "application/x-ndjson")];
    if !query.follow {
        return Ok((content, kept).into_response());
    }
    let (lines, next_lines) = mpsc::channel(LINES_AHEAD);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = next.recv() => event,
                () = lines.closed() => break,
            };
            match event {
                Ok(event) if lines.send(line(&event)).await.is_ok() => {}
                // Who reads too slowly misses the oldest.
                Err(RecvError::Lagged(_)) => {}
                _ => break,
            }
        }
    });
    let first = VecDeque::from([Bytes::from(kept)]);
    Ok((content, Body::new(Lines { first, next: next_lines })).into_response())
}

fn line(event: &events::Event) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

async fn show_metrics(State(host): Shared) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&host.snapshot(false)))
}

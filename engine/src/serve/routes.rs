//! Paths and methods.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Answer, json_response};
use super::ask::{Ask, Endpoint};
use super::error::ApiError;
use super::generation::{self, End};
use super::service::{Service, unix_time};
use super::{Settings, stream};

type Shared = State<Arc<Service>>;

pub(super) fn router(service: Arc<Service>) -> Router {
    let health = get(health).post(health);
    let api = Router::new()
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .layer(middleware::from_fn_with_state(Arc::clone(&service), authorize));
    Router::new()
        .merge(api)
        .route("/health", health.clone())
        .route("/ping", health)
        .route("/version", get(|| async { json_response(&json!({ "version": super::VERSION })) }))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&service), by_name))
        .with_state(service)
}

/// Refuses clients that call the server by a name that is not its own.
async fn by_name(State(service): Shared, request: Request, next: Next) -> Response {
    if service.hosts.take(request.headers()) {
        return next.run(request).await;
    }
    let message =
        "This server takes no requests under this Host; names beside localhost are allowed with --allow-host.";
    ApiError::new(StatusCode::FORBIDDEN, message).into_response()
}

async fn authorize(State(service): Shared, request: Request, next: Next) -> Response {
    let Some(key) = &service.settings.api_key else { return next.run(request).await };
    // Hashes, so that the time to compare says nothing about the key.
    let is_key = |given: &str| blake3::hash(given.as_bytes()) == blake3::hash(key.as_bytes());
    if bearer(request.headers()).is_some_and(is_key) {
        return next.run(request).await;
    }
    let message = "Unauthorized: send the server's key as `Authorization: Bearer KEY`.";
    ApiError::new(StatusCode::UNAUTHORIZED, message).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_start())
}

/// Whether the body says that it is JSON. A page in a browser can send any other kind to any server, unasked.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn completions(State(service): Shared, request: Request) -> Response {
    answer(service, Endpoint::Completion, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn chat(State(service): Shared, request: Request) -> Response {
    answer(service, Endpoint::Chat, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(service: Arc<Service>, kind: Endpoint, request: Request) -> Result<Response, ApiError> {
    if let Some(gone) = service.gone() {
        return Err(gone);
    }
    if !is_json(request.headers()) {
        let message = "Unsupported Media Type: Only 'application/json' is allowed";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    service.has_room()?;
    let body = read(&service, request.into_body()).await?;
    let sent = service.clock.now();
    let model = service.settings.model.clone();
    let ask = ask(&service, kind, body).await?;
    let submitted = service.submit(&ask, sent)?;
    let name = match kind {
        Endpoint::Completion => "cmpl",
        Endpoint::Chat => "chatcmpl",
    };
    let answer = Answer {
        kind,
        id: format!("{name}-{:x}-{:x}", service.started, submitted.number),
        created: unix_time(),
        model,
        prompt_tokens: submitted.prompt_tokens,
        include_usage: ask.include_usage,
        continuous_usage: ask.continuous_usage,
    };
    let mut pieces = generation::start(service, submitted, &ask.prompt, ask.stop);
    if ask.stream {
        return Ok(stream::response(answer, pieces));
    }
    let mut text = String::new();
    while let Some(piece) = pieces.recv().await {
        text.push_str(&piece.text);
        match piece.end {
            Some(End::Failed(error)) => return Err(error),
            Some(End::Finished(..)) => return Ok(answer.whole(&text, &piece)),
            None => {}
        }
    }
    Err(ApiError::dead())
}

/// From this size on a body takes long to tokenise; it is read on a thread for blocking work [bytes].
const LONG: usize = 8 << 10;

/// A body, and the room that it takes.
struct Held {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

async fn ask(service: &Arc<Service>, kind: Endpoint, body: Held) -> Result<Ask, ApiError> {
    let is_long = body.bytes.len() > LONG;
    // A client that leaves while it waits gives its place in the queue up.
    let readers = Arc::clone(&service.readers);
    let place = if is_long { readers.acquire_owned().await.ok() } else { None };
    let reads = Arc::clone(service);
    let read = move || {
        let Settings { model, tokenizer, limits, .. } = &reads.settings;
        let asked = Ask::read(kind, &body.bytes, model, tokenizer, limits.max_model_len);
        // Also where the client has left meanwhile, both are held to here.
        drop((body, place));
        asked
    };
    if !is_long {
        return read();
    }
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err(ApiError::dead()))
}

async fn read(service: &Service, body: Body) -> Result<Held, ApiError> {
    let patience = service.settings.body_timeout;
    tokio::time::timeout(patience, gather(service, body)).await.unwrap_or_else(|_| {
        let message = format!("The body was not there within {patience:?}.");
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
    })
}

/// Takes the parts of a body as they come, while there is room for them.
async fn gather(service: &Service, mut body: Body) -> Result<Held, ApiError> {
    let most = service.settings.max_body;
    let mut held = Held { bytes: Vec::new(), room: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad("The body was cut off."))?;
        let Ok(part) = frame.into_data() else { continue };
        if held.bytes.len() + part.len() > most {
            let message = format!("The body is larger than {most} bytes.");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let room = Arc::clone(&service.bodies).try_acquire_many_owned(part.len() as u32).map_err(|_| {
            let message = "The server is overloaded: too many bodies wait to be read already.";
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, message)
        })?;
        match &mut held.room {
            Some(all) => all.merge(room),
            none => *none = Some(room),
        }
        held.bytes.extend_from_slice(&part);
    }
    Ok(held)
}

async fn models(State(service): Shared) -> Response {
    json_response(&json!({ "object": "list", "data": [described(&service)] }))
}

async fn model(State(service): Shared, Path(id): Path<String>) -> Result<Response, ApiError> {
    let model = &service.settings.model;
    if id == *model { Ok(json_response(&described(&service))) } else { Err(ApiError::no_model(&id, model)) }
}

/// The model as a list of models has it.
fn described(service: &Service) -> Value {
    let Settings { model, limits, .. } = &service.settings;
    json!({ "id": model, "object": "model", "created": service.started, "owned_by": "overbook", "root": model,
        "parent": null, "max_model_len": limits.max_model_len })
}

async fn health(State(service): Shared) -> Response {
    service.gone().map_or_else(|| StatusCode::OK.into_response(), IntoResponse::into_response)
}

async fn metrics(State(service): Shared) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let text = service.metrics.lock().text();
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn not_found(uri: Uri) -> ApiError {
    let known = "/v1/completions, /v1/chat/completions, /v1/models, /health, /version, /metrics";
    ApiError::new(StatusCode::NOT_FOUND, format!("There is no {}; there are {known}.", uri.path()))
}

async fn not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}.", uri.path()))
}

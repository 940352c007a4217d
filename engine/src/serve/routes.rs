//! Paths and methods.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt as _, Collected, LengthLimitError, Limited};
use serde_json::json;

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
        .layer(middleware::from_fn_with_state(Arc::clone(&service), authorize));
    Router::new()
        .merge(api)
        .route("/health", health.clone())
        .route("/ping", health)
        .route("/version", get(|| async { json_response(&json!({ "version": super::VERSION })) }))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(service)
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
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

async fn completions(State(service): Shared, request: Request) -> Response {
    answer(service, Endpoint::Completion, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn chat(State(service): Shared, request: Request) -> Response {
    answer(service, Endpoint::Chat, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(service: Arc<Service>, kind: Endpoint, request: Request) -> Result<Response, ApiError> {
    if service.is_draining() {
        return Err(ApiError::draining());
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

/// A body that takes long to make tokens of is read where it keeps nobody waiting [bytes].
const LONG: usize = 32 << 10;

async fn ask(service: &Arc<Service>, kind: Endpoint, body: Bytes) -> Result<Ask, ApiError> {
    let service = Arc::clone(service);
    let is_long = body.len() > LONG;
    let read = move || {
        let Settings { model, tokenizer, limits, .. } = &service.settings;
        Ask::read(kind, &body, model, tokenizer, limits.max_model_len)
    };
    if !is_long {
        return read();
    }
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err(ApiError::dead()))
}

async fn read(service: &Service, body: Body) -> Result<Bytes, ApiError> {
    let (most, patience) = (service.settings.max_body, service.settings.body_timeout);
    let whole = tokio::time::timeout(patience, Limited::new(body, most).collect()).await;
    let whole = whole.map_err(|_| {
        let message = format!("The body was not there within {patience:?}.");
        ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
    })?;
    whole.map(Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("The body is larger than {most} bytes.");
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        ApiError::bad("The body was cut off.")
    })
}

async fn models(State(service): Shared) -> Response {
    let length = service.settings.limits.max_model_len;
    let model = &service.settings.model;
    json_response(&json!({ "object": "list", "data": [{ "id": model, "object": "model", "created": service.started,
        "owned_by": "overbook", "root": model, "parent": null, "max_model_len": length }] }))
}

async fn health(State(service): Shared) -> Response {
    if service.is_draining() { ApiError::draining().into_response() } else { StatusCode::OK.into_response() }
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

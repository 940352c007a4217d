//! What a client gets in place of an answer: OpenAI's error object, with vLLM's words where it has some.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error for a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
    /// The field at fault.
    param: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), param: None }
    }

    /// The request is wrong at a field.
    pub(super) fn field(param: &str, message: impl Into<String>) -> Self {
        ApiError { param: Some(param.to_owned()), ..ApiError::bad(message) }
    }

    /// The request is wrong.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// The server has another model.
    pub(super) fn no_model(asked: &str, model: &str) -> Self {
        let message = format!("The model `{}` does not exist; this server has `{model}`.", cut(asked));
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    /// No more requests for now.
    pub(super) fn draining() -> Self {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The server is shutting down and takes no new requests.")
    }

    /// The engine has stopped.
    pub(super) fn dead() -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "The engine has stopped; the server must be started again.")
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "AuthenticationError",
            StatusCode::FORBIDDEN => "PermissionDeniedError",
            StatusCode::NOT_FOUND => "NotFoundError",
            StatusCode::TOO_MANY_REQUESTS => "RateLimitError",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailableError",
            StatusCode::GATEWAY_TIMEOUT => "TimeoutError",
            status if status.is_server_error() => "InternalServerError",
            _ => "BadRequestError",
        }
    }

    /// The error object.
    pub(super) fn body(&self) -> Value {
        let code = self.status.as_u16();
        json!({ "error": { "message": self.message, "type": self.kind(), "param": self.param, "code": code } })
    }
}

/// A client's text in a message: of long ones the beginning.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status, self.body().to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

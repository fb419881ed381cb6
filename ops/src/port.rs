//! The routes and the listener behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::{debug, warn};

use crate::ask::{ParamError, Question, Topic};
use crate::engine::{Engine, EngineError};
use crate::figures::Figures;
use crate::health::{Readiness, Watched};
use crate::limits::{self, BODY_BYTES_MAX, QUESTIONS_MAX};
use crate::{metrics, page};

mod listener;

type Shared = Arc<dyn Engine>;

/// An admin port that is bound and does not answer yet.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

/// The admin port could not be opened.
#[derive(Debug, Error)]
#[error("admin port {address}: {cause}")]
pub struct PortError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said. Not a source: the message has it already.
    pub cause: std::io::Error,
}

impl Port {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// Returns [`PortError`] when the address cannot be bound, for instance because it is in use.
    pub async fn bind(address: SocketAddr) -> Result<Self, PortError> {
        let failed = |cause| PortError { address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address that it got.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as people open it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers until `until` is over; then open requests are finished and the port is closed.
///
/// # Errors
/// Returns what the system says when the listener fails for good.
pub async fn serve(
    port: Port,
    engine: Arc<dyn Engine>,
    until: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let app = routes(Arc::new(Watched::new(engine)), port.address);
    debug!(address = %port.address, "admin port answers");
    listener::serve(port.listener, app, until).await
}

/// All routes.
pub(crate) fn routes(engine: Shared, address: SocketAddr) -> Router {
    let questions = Router::new()
        .route("/api/v1/sales", get(sales))
        .route("/api/v1/stock", get(stock))
        .route("/api/v1/transactions", get(transactions))
        .route("/api/v1/terminals", get(terminals))
        .route("/api/v1/stores", get(stores))
        .route("/api/v1/quarantine", get(quarantine))
        .route("/api/v1/flush", post(flush))
        .route("/api/v1/quarantine/retry", post(retry))
        .route("/api/v1/quarantine/stranded", get(stranded))
        .route("/api/v1/quarantine/release/{record}", post(release))
        .layer(from_fn_with_state(
            Arc::new(Semaphore::new(QUESTIONS_MAX)),
            limits::questions,
        ));
    // These stay outside the limit on questions: a busy engine must still be able to say that it is busy.
    Router::new()
        .route("/", get(page::index))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/icon.svg", get(page::icon))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(readyz))
        .route("/version", get(version))
        .route("/metrics", get(scrape))
        .route("/api/v1/status", get(status))
        .route("/api/v1/shards", get(shards))
        .merge(questions)
        .fallback(limits::nowhere)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(map_response(wrong_method))
        .layer(from_fn_with_state(address.ip(), limits::visitors))
        .with_state(engine)
}

/// An error as JSON: a code for programs, a sentence for people.
pub(crate) fn refusal(
    status: StatusCode,
    code: &str,
    parameter: Option<&str>,
    message: &str,
) -> Response {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(parameter), Some(fields)) = (parameter, error.as_object_mut()) {
        fields.insert("parameter".to_owned(), Value::from(parameter));
    }
    (status, Json(json!({ "error": error }))).into_response()
}

impl IntoResponse for ParamError {
    fn into_response(self) -> Response {
        refusal(
            StatusCode::BAD_REQUEST,
            "bad_parameter",
            Some(self.parameter()),
            &self.to_string(),
        )
    }
}

impl IntoResponse for EngineError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::NotRunning(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_running"),
            Self::Unknown(_) => (StatusCode::NOT_FOUND, "unknown"),
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        // A wrong code is no trouble of the engine.
        if !matches!(self, Self::Unknown(_)) {
            warn!(error = %self, "question not answered");
        }
        refusal(status, code, None, &self.to_string())
    }
}

async fn wrong_method(response: Response) -> Response {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut refused = refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        None,
        "this path takes another method; see the Allow header",
    );
    if let Some(allow) = allow {
        refused.headers_mut().insert(header::ALLOW, allow);
    }
    refused
}

async fn livez() -> Json<Value> {
    Json(json!({ "live": true }))
}

async fn readyz(State(engine): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let health = engine.health();
    let status = if health.ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let verbose = query.is_some_and(|query| query.starts_with("verbose"));
    (status, Json(Readiness::of(&health, verbose))).into_response()
}

async fn version() -> Json<Value> {
    Json(json!({
        "name": "tillstream",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": "till/1",
    }))
}

async fn scrape(State(engine): State<Shared>) -> Response {
    let render = move || {
        metrics::render(&engine.figures()).map_err(|error| EngineError::Failed(error.to_string()))
    };
    let show =
        |text: String| ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response();
    blocking(render, show).await
}

async fn status(State(engine): State<Shared>) -> Response {
    let read = move || Ok((engine.health(), engine.figures()));
    blocking(read, |(health, figures)| {
        Json(Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            health: Readiness::of(&health, true),
            figures,
        })
        .into_response()
    })
    .await
}

/// What the page shows each second.
#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    pid: u32,
    health: Readiness<'a>,
    figures: Figures,
}

async fn shards(State(engine): State<Shared>) -> Response {
    blocking(
        move || Ok(engine.figures()),
        |figures| {
            Json(json!({
                "rows": figures.shards,
                "freshness": { "now_us": figures.now_us },
            }))
            .into_response()
        },
    )
    .await
}

async fn sales(engine: State<Shared>, query: RawQuery) -> Response {
    answer(engine, query, Topic::Sales).await
}

async fn stock(engine: State<Shared>, query: RawQuery) -> Response {
    answer(engine, query, Topic::Stock).await
}

async fn transactions(engine: State<Shared>, query: RawQuery) -> Response {
    answer(engine, query, Topic::Transactions).await
}

async fn terminals(engine: State<Shared>, query: RawQuery) -> Response {
    answer(engine, query, Topic::Terminals).await
}

async fn stores(engine: State<Shared>, query: RawQuery) -> Response {
    answer(engine, query, Topic::Stores).await
}

async fn quarantine(engine: State<Shared>, query: RawQuery) -> Response {
    answer(engine, query, Topic::Quarantine).await
}

async fn answer(State(engine): State<Shared>, RawQuery(query): RawQuery, topic: Topic) -> Response {
    let question = match Question::parse(topic, &crate::ask::pairs(&query.unwrap_or_default())) {
        Ok(question) => question,
        Err(error) => return error.into_response(),
    };
    blocking(
        move || engine.answer(&question),
        |answer| {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (kind, answer.into_json()).into_response()
        },
    )
    .await
}

async fn flush(State(engine): State<Shared>) -> Response {
    blocking(
        move || engine.flush(),
        |applied| Json(json!({ "applied": applied })).into_response(),
    )
    .await
}

async fn retry(State(engine): State<Shared>) -> Response {
    blocking(
        move || engine.retry_quarantine(),
        |(applied, left)| Json(json!({ "applied": applied, "quarantined": left })).into_response(),
    )
    .await
}

async fn stranded(State(engine): State<Shared>) -> Response {
    blocking(
        move || engine.stranded(),
        |rows| Json(json!({ "rows": rows })).into_response(),
    )
    .await
}

async fn release(State(engine): State<Shared>, Path(record): Path<String>) -> Response {
    blocking(
        move || engine.release(&record),
        |epoch| Json(json!({ "epoch": epoch })).into_response(),
    )
    .await
}

/// Runs what may block on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    show: impl FnOnce(T) -> Response,
) -> Response {
    match spawn_blocking(work).await {
        Ok(Ok(done)) => show(done),
        Ok(Err(error)) => error.into_response(),
        Err(error) => EngineError::Failed(error.to_string()).into_response(),
    }
}

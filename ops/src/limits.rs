//! What the admin port takes: how much, for how long, how many at once, and from whom.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::page::POLICY;
use crate::port::refusal;

/// Largest body of a request, in bytes. Nothing that is asked today has more than an empty one.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest time that an answer may take.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Questions that are worked on at once; they share the disk with the engine.
pub(crate) const QUESTIONS_MAX: usize = 16;

/// Connections that may be open at once.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// Questions wait for nobody: one too many is told to come again.
pub(crate) async fn questions(
    State(permits): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_permit) = permits.try_acquire() else {
        let mut response = refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            None,
            &format!("{QUESTIONS_MAX} questions are being answered already; ask again in a second"),
        );
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    timeout(ANSWER_MAX, next.run(request))
        .await
        .unwrap_or_else(|_| {
            refusal(
                StatusCode::GATEWAY_TIMEOUT,
                "too_slow",
                None,
                &format!(
                    "no answer within {} s; ask for one store or a shorter time",
                    ANSWER_MAX.as_secs()
                ),
            )
        })
}

/// Keeps pages of other sites from using a person's browser to reach this port, and says how to treat what it sends.
///
/// A name that points here by a trick (DNS rebinding) is not one of ours: on a loopback address only loopback names are
/// served. A page of another origin may not post.
pub(crate) async fn visitors(
    State(address): State<IpAddr>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if address.is_loopback() && !host.is_some_and(is_local) {
        return refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "foreign_host",
            None,
            "this port serves this machine only; use 127.0.0.1, or start with --admin ADDR",
        );
    }
    if request.method() != Method::GET && request.method() != Method::HEAD && foreign(headers, host)
    {
        return refusal(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            None,
            "a page of another site may not change anything here",
        );
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether a Host header names this machine.
fn is_local(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a browser says that the request comes from a page of another origin.
fn foreign(headers: &HeaderMap, host: Option<&str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false; // no browser
    };
    let own = host.map(|host| format!("http://{host}"));
    origin.to_str().ok() != own.as_deref()
}

/// An answer for a path that does not exist.
pub(crate) async fn nowhere() -> Response {
    refusal(
        StatusCode::NOT_FOUND,
        "not_found",
        None,
        "nothing here; the page at / shows what there is",
    )
    .into_response()
}

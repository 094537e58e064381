//! The route table of the admin port, and the one function that every request goes through.
//!
//! | Route                                  | Answer                                                             |
//! |----------------------------------------|--------------------------------------------------------------------|
//! | `GET /`                                | this list, for people                                              |
//! | `POST /publish/{channel}?key=&ttl=`    | the body is the message; `{"channel","position","subscribers"}`    |
//! | `POST /api/publish`                    | `{"channel","data"}`, or `{"channels":[..],"data"}` and `results`  |
//! | `POST /api/batch`                      | `[{"channel","data"},..]` or `{"messages":[..]}`; `results`        |
//! | `GET /api/channels?after=&limit=`      | a page of channels: position, subscribers, what is retained        |
//! | `GET /api/channels/{channel}`          | one channel, the same and its epoch                                |
//! | `GET /api/connections?after=&limit=`   | a page of connections; `next` is the `after` of the next page      |
//! | `GET /api/closed?limit=`               | the last ends of connections and refused requests, newest first    |
//! | `GET /livez` `GET /readyz` `GET /metrics` | 200 or 503; 200 or 503; OpenMetrics text                        |

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use axum::response::Response;

use super::listener::Origin;
use super::refusal::{Refusal, Refused};
use super::{Admin, guard, health, listing, publish, scrape};

const INDEX: &str = "tidegate admin\n\n\
    POST /publish/{channel}?key=&ttl=   the body is the message\n\
    POST /api/publish                   {\"channel\":\"a\",\"data\":..} or {\"channels\":[\"a\",\"b\"],\"data\":..}\n\
    POST /api/batch                     [{\"channel\":\"a\",\"data\":..},..], at most 1000\n\
    GET  /api/channels?after=&limit=    channels, their positions and subscribers, page by page\n\
    GET  /api/channels/{channel}        one channel\n\
    GET  /api/connections?after=&limit= connections, page by page\n\
    GET  /api/closed?limit=             the last connections that ended and requests that were refused\n\
    GET  /livez                         whether the shards turn\n\
    GET  /readyz                        whether new connections should be sent here\n\
    GET  /metrics                       for Prometheus\n";

/// Where requests go; also the `route` label of their counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// `/`
    Index,
    /// `/publish/{channel}`
    Publish,
    /// `/api/publish`
    PublishJson,
    /// `/api/batch`
    Batch,
    /// `/api/channels`
    Channels,
    /// `/api/channels/{channel}`
    Channel,
    /// `/api/connections`
    Connections,
    /// `/api/closed`
    Closed,
    /// `/livez`
    Livez,
    /// `/readyz`
    Readyz,
    /// `/metrics`
    Metrics,
    /// Anything else.
    Unknown,
}

const PUBLISH_PREFIX: &str = "/publish/";
const CHANNEL_PREFIX: &str = "/api/channels/";

impl Route {
    /// Every member, in the order of declaration.
    pub const ALL: &'static [Self] = &[
        Self::Index,
        Self::Publish,
        Self::PublishJson,
        Self::Batch,
        Self::Channels,
        Self::Channel,
        Self::Connections,
        Self::Closed,
        Self::Livez,
        Self::Readyz,
        Self::Metrics,
        Self::Unknown,
    ];

    /// Index in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Publish => "publish",
            Self::PublishJson => "api_publish",
            Self::Batch => "api_batch",
            Self::Channels => "api_channels",
            Self::Channel => "api_channel",
            Self::Connections => "api_connections",
            Self::Closed => "api_closed",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
            Self::Unknown => "unknown",
        }
    }

    fn of(path: &str) -> Self {
        match path {
            "/" => Self::Index,
            "/api/publish" => Self::PublishJson,
            "/api/batch" => Self::Batch,
            "/api/channels" => Self::Channels,
            "/api/connections" => Self::Connections,
            "/api/closed" => Self::Closed,
            "/livez" => Self::Livez,
            "/readyz" => Self::Readyz,
            "/metrics" => Self::Metrics,
            path if path.starts_with(PUBLISH_PREFIX) => Self::Publish,
            path if path.starts_with(CHANNEL_PREFIX) => Self::Channel,
            _ => Self::Unknown,
        }
    }

    const fn allow(self) -> &'static str {
        match self {
            Self::Publish | Self::PublishJson | Self::Batch => "POST",
            _ => "GET, HEAD",
        }
    }

    fn allows(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| method.as_str() == allowed)
    }
}

/// Answers one request.
pub async fn answer(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(origin): ConnectInfo<Origin>,
    request: Request,
) -> Response {
    let _busy = origin.begin_request();
    let route = Route::of(request.uri().path());
    admin.counters.count_request(route);
    match route_to(&admin, route, request).await {
        Ok(response) => response,
        Err(refused) => {
            admin.counters.count_refusal(refused.refusal);
            let mut response = refused.into_response();
            if refused.refusal == Refusal::Method {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allow()));
            }
            response
        }
    }
}

async fn route_to(admin: &Admin, route: Route, request: Request) -> Result<Response, Refused> {
    guard::check(request.method(), request.version(), request.headers())?;
    if route == Route::Unknown {
        return Err(Refusal::NoRoute.into());
    }
    if !route.allows(request.method()) {
        return Err(Refusal::Method.into());
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let channel = path.strip_prefix(PUBLISH_PREFIX).or(path.strip_prefix(CHANNEL_PREFIX)).unwrap_or_default();
    match route {
        Route::Index => Ok(text(INDEX)),
        Route::Publish => publish::raw(admin, channel, head.uri.query(), &head.headers, body).await,
        Route::PublishJson => publish::json(admin, &head.headers, body).await,
        Route::Batch => publish::batch(admin, &head.headers, body).await,
        Route::Channels => listing::channels(admin, head.uri.query()).await,
        Route::Channel => listing::channel(admin, channel).await,
        Route::Connections => listing::connections(admin, head.uri.query()).await,
        Route::Closed => listing::closed(admin, head.uri.query()).await,
        Route::Livez => health::livez(admin).await,
        Route::Readyz => health::readyz(admin),
        Route::Metrics => scrape::metrics(admin).await,
        Route::Unknown => Err(Refusal::NoRoute.into()),
    }
}

/// 200 with plain text.
pub fn text(body: &'static str) -> Response {
    ok("text/plain; charset=utf-8", body)
}

/// 200 with JSON, a line of its own.
pub fn json(mut body: String) -> Response {
    body.push('\n');
    ok("application/json", body)
}

/// 200 with `body` of `content_type`.
pub fn ok(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

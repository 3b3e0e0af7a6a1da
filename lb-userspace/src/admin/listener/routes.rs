//! Which routes there are by TCP, and who may use them. Called by `serve`, for each request. I/O: it looks at the token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::super::api::{self, Api, Refusal};
use super::super::model::Peer;
use super::super::page;
use super::super::routes::live::Changes;
use super::counts::{Counts, Refused};
use super::guard::Guard;
use super::token::{Shown, TokenFile};

/// What decides who is heard.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) guard: Guard,
    pub(super) token: Option<TokenFile>,
    pub(super) counts: Arc<Counts>,
}

/// Only what comes from here is loaded, and nothing that is written into the page is run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ALWAYS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Whatever is not said to be for everybody, or for who has the token, is refused.
pub(super) fn router(gate: &Arc<Gate>, api: Api) -> Router {
    let trusted = api::trusted().route_layer(from_fn_with_state(Arc::clone(gate), with_token));
    let local = api::local().route_layer(from_fn_with_state(Arc::clone(gate), only_by_socket));
    let routes = api::readable().merge(trusted).merge(local).merge(page::routes());
    api::serve(routes, api).layer(from_fn_with_state(Arc::clone(gate), enter))
}

/// Around everything: who is not heard is not read either.
async fn enter(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    gate.counts.request();
    let (mut head, body) = request.into_parts();
    head.extensions.insert(if gate.token.is_some() { Changes::Token } else { Changes::Never });
    let mut answer = match gate.guard.judge(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(why) => gate.refuse(why),
    };
    if let Some(why) = Refused::by_status(answer.status()) {
        gate.counts.refuse(why);
    }
    let headers = answer.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

async fn with_token(
    State(gate): State<Arc<Gate>>,
    Extension(from): Extension<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(token) = &gate.token else {
        let message = "this takes a token, and none is configured: set admin.token_file, or use the admin socket";
        gate.counts.refuse(Refused::Token);
        return Refusal(StatusCode::FORBIDDEN, message.to_owned()).into_response();
    };
    match token.check(request.headers()).await {
        Shown::Right => {
            request.extensions_mut().insert(Some(Peer::remote(from.ip())));
            next.run(request).await
        }
        Shown::Nothing | Shown::Wrong => gate.refuse(Refused::Token),
    }
}

async fn only_by_socket(State(gate): State<Arc<Gate>>, _: Request, _: Next) -> Response {
    gate.refuse(Refused::Local)
}

impl Gate {
    fn refuse(&self, why: Refused) -> Response {
        self.counts.refuse(why);
        let (status, message) = match why {
            Refused::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "this is another host: ask by an address of admin.listen, or a name of admin.allowed_hosts",
            ),
            Refused::Origin => (StatusCode::FORBIDDEN, "pages of other sites may not ask here"),
            Refused::Token => (
                StatusCode::UNAUTHORIZED,
                "this takes the token: send it as `Authorization: Bearer TOKEN`",
            ),
            Refused::Local => (StatusCode::FORBIDDEN, "this is for the admin socket alone"),
            // Found elsewhere, with answers of their own or none.
            Refused::Slow
            | Refused::Large
            | Refused::Malformed
            | Refused::Connections
            | Refused::Busy
            | Refused::Tls => (StatusCode::BAD_REQUEST, "this cannot be answered"),
        };
        let mut headers = HeaderMap::new();
        if status == StatusCode::UNAUTHORIZED {
            let value = HeaderValue::from_static("Bearer realm=\"fairlead\"");
            headers.insert(WWW_AUTHENTICATE, value);
        }
        (headers, Refusal(status, message.to_owned())).into_response()
    }
}

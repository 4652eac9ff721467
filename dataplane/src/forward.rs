//! What a sidecar does not serve itself, it passes on whole to the shared data planes, which answer in its place: they
//! hold every table, count, meter and refuse. Decides which requests these are; connections are `shared`'s business, and
//! answers on their way back `passage`'s.

mod passage;
pub(crate) mod shared;

use std::sync::Arc;

use http::{HeaderMap, Request, Response, request::Parts};
use hyper::body::Incoming;
use table::token::TokenHash;

use self::{passage::Passage, shared::Shared};
use crate::{
    app::App,
    body::Body,
    config::sidecar::SharedPlace,
    denied::Denied,
    headers,
    inbound::Bearers,
    intake::IntakeError,
    pipeline::Call,
    relay::Relay,
    trace::TRACEPARENT,
    upstream::{error::SendError, upload::Upload},
};

/// Passes on what is not this data plane's to serve, from now on until it has stopped.
pub fn start(app: &App, place: SharedPlace) {
    let relay = &app.relay;
    let shared = Arc::new(Shared::new(place, relay.clients()));
    relay.drain.tasks.spawn(shared.clone().follow(relay.drain.until_expired()));
    relay.passes_to(shared);
}

/// Who answers a request in place of this process: it is a sidecar, and its table holds no relay key of the request's. So
/// a request without any key is answered there too, in the same words as for everybody.
pub(crate) fn shared_for<'a>(relay: &'a Relay, call: &Call, headers: &HeaderMap) -> Option<&'a Shared> {
    let shared = relay.shared()?;
    let Ok(installed) = &call.installed else { return Some(shared) };
    let bearers = Bearers::read(headers);
    let key = bearers.iter().find_map(|bearer| installed.world.relay_key_of(&TokenHash::of(bearer)));
    // Here everybody calls from loopback; where the pod calls from, only others see.
    let is_ours = key.is_some_and(|key| key.row.allowed_cidrs.is_empty());
    (!is_ours).then_some(shared)
}

/// Passes a request on, and gives the answer as it comes.
pub(crate) async fn pass(
    relay: &Arc<Relay>,
    shared: &Shared,
    call: &mut Call,
    head: &Parts,
    body: Incoming,
) -> Result<Response<Body>, Denied> {
    let passage = Passage::begin(relay, call);
    let sent = async {
        let client = shared.client().map_err(|reason| Denied::SharedUnreachable { reason })?;
        client.pass(request(call, head, body)).await.map_err(denied)
    };
    let answered = tokio::select! {
        biased;
        answered = sent => answered,
        () = relay.drain.expired() => Err(Denied::ShuttingDown),
    };
    match answered {
        Ok(answer) => Ok(passage.answer(answer)),
        Err(denied) => {
            passage.refused(&denied);
            Err(denied)
        }
    }
}

/// The request as it came, but for what belongs to the caller's connection. `X-Forwarded-For` is left as it is: the
/// caller is the pod, whose address the other side sees by itself.
fn request(call: &Call, head: &Parts, body: Incoming) -> Request<Upload> {
    let mut request = Request::new(Upload::from(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = headers::end_to_end(&head.headers);
    if call.trace.is_reported() {
        request.headers_mut().insert(TRACEPARENT, call.trace.through());
    }
    request
}

fn denied(error: SendError) -> Denied {
    let reason = error.to_string();
    match error {
        SendError::Resolve { .. }
        | SendError::Forbidden { .. }
        | SendError::Connect { .. }
        | SendError::Tls { .. }
        | SendError::ConnectTimeout(_)
        | SendError::Full { .. }
        | SendError::Reset { unsent: true } => Denied::SharedUnreachable { reason },
        SendError::Reset { unsent: false } | SendError::Protocol(_) => Denied::SharedBroken { reason },
        // Only the body can be at fault, which is the caller's.
        SendError::Request(_) => Denied::Intake(IntakeError::Broken),
    }
}

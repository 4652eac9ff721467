//! One attempt at one upstream: encodes or splices the request, sends it, and reads until the answer's first content
//! was seen. What comes of a failure is dispatch's business.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use protocol::{
    Loss, Refusal, StreamUsage, Target, WireShape,
    ask::Ask,
    codec,
    error::{ErrorKind, WireError},
    pipe::{Pipe, Wanted},
    splice, translate,
};
use tokio::time::Instant;

use crate::{
    breaker::{classify, outcome::Outcome},
    failure,
    flow::Flow,
    gunzip::Gunzip,
    headers::{self, Upward},
    lookout::Lookout,
    meter::record::AttemptOutcome,
    plan::{Candidate, Plan, Purpose, Step},
    pool::{quota, signals::Flight},
    relay::{Installed, Relay},
    trace::Trace,
    upstream::{auth, body::Body, client::Client, error::SendError, upload::Whole},
};

/// Most bytes of an error's body that are read.
const MAX_ERROR: usize = 256 << 10;
/// Whole answers below this many bytes are read to their end before the caller gets any.
const MAX_SHORT: usize = 256 << 10;
/// Most bytes that are held for an answer that has not begun.
const MAX_PREAMBLE: usize = 1 << 20;
/// How long an error's body is waited for.
const PATIENCE_FOR_ERRORS: Duration = Duration::from_secs(5);

/// What is the same for all attempts of a request.
pub(crate) struct Exchange<'a> {
    pub(crate) relay: &'a Relay,
    pub(crate) installed: &'a Installed,
    /// Whether the caller takes gzip.
    pub(crate) accepts_gzip: bool,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    pub(crate) ask: &'a Ask,
    pub(crate) plan: &'a Plan,
    pub(crate) purpose: Purpose,
    pub(crate) request_id: &'a str,
    pub(crate) trace: &'a Trace,
    pub(crate) lookout: &'a Lookout,
    pub(crate) deadline: Instant,
}

/// A request as its upstream takes it.
pub(crate) struct Outgoing {
    body: Whole,
    headers: Vec<(&'static str, String)>,
    pub(crate) losses: Vec<Loss>,
    pipe: Pipe,
    /// Whether the caller may get the upstream's own compression.
    may_compress: bool,
}

/// An answer whose first content was seen.
pub(crate) struct Committed {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) held: Vec<Bytes>,
    /// Absent: all of it is held.
    pub(crate) rest: Option<Body>,
    pub(crate) flow: Flow,
    pub(crate) flight: Flight,
    pub(crate) losses: Vec<Loss>,
}

/// An attempt that came to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the upstream said, or what happened instead.
    pub(crate) error: WireError,
    /// What it tells about key and host.
    pub(crate) outcome: Outcome,
    /// What the record calls it.
    pub(crate) label: AttemptOutcome,
    /// The status that the upstream sent.
    pub(crate) status: Option<u16>,
}

impl Exchange<'_> {
    /// The request for a candidate. Errs where its host cannot serve it.
    pub(crate) fn outgoing(&self, candidate: &Candidate) -> Result<Outgoing, Refusal> {
        let upstream_model = candidate.upstream_model();
        let spliced = |ask_for_usage| splice::same_shape(self.body, self.ask, upstream_model, ask_for_usage).into();
        let passed = |pipe| Outgoing {
            body: spliced(false),
            headers: Vec::new(),
            losses: Vec::new(),
            pipe,
            may_compress: self.accepts_gzip,
        };
        match self.purpose {
            Purpose::Embeddings => Ok(passed(Pipe::checked(Wanted::Embeddings))),
            Purpose::CountTokens => Ok(passed(Pipe::checked(Wanted::TokenCount))),
            Purpose::Conversation if candidate.shape() == self.ask.shape => {
                let ask_for_usage = self.must_ask_for_usage(candidate);
                let body = spliced(ask_for_usage);
                let pipe = Pipe::same(self.ask.shape, self.ask.stream, ask_for_usage);
                // A stream must stay open to keep-alives and to an error event, which cannot be put into compressed bytes.
                let may_compress = self.accepts_gzip && !self.ask.stream;
                Ok(Outgoing { body, headers: Vec::new(), losses: Vec::new(), pipe, may_compress })
            }
            Purpose::Conversation => self.translated(candidate),
        }
    }

    fn must_ask_for_usage(&self, candidate: &Candidate) -> bool {
        self.ask.shape == WireShape::OpenaiChat
            && self.ask.stream
            && self.ask.include_usage != Some(true)
            && candidate.host.row.dialect.stream_usage == StreamUsage::Options
    }

    fn translated(&self, candidate: &Candidate) -> Result<Outgoing, Refusal> {
        let target = Target {
            shape: candidate.shape(),
            model: candidate.upstream_model(),
            max_output_tokens: candidate.max_output_tokens(),
            traits: candidate.traits(),
            dialect: &candidate.host.row.dialect,
            strictness: self.plan.rules.strictness,
        };
        let encoded = translate::request(self.body, self.ask.shape, &target)?;
        let created = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let context = translate::context(self.ask, encoded.back, created, self.request_id);
        Ok(Outgoing {
            body: Bytes::from(encoded.body).into(),
            headers: encoded.headers,
            losses: encoded.losses,
            pipe: Pipe::cross(candidate.shape(), self.ask.shape, self.ask.stream, context),
            may_compress: false,
        })
    }

    /// Sends a request, the `number`th, at `now`, and reads until its answer's first content.
    pub(crate) async fn attempt(
        &self,
        number: u32,
        step: Step<'_>,
        mut outgoing: Outgoing,
        now: Instant,
    ) -> Result<Committed, (Failure, Flight)> {
        let candidate = step.candidate;
        let flight = Flight::begin(step.draw.signals.clone(), candidate.signals.clone(), now.into_std());
        let patience = now + candidate.timeouts.first_byte;
        let losses = std::mem::take(&mut outgoing.losses);
        let traceparent = self.trace.onward(number);
        let read = {
            let reading = pin!(self.first_content(step, outgoing, traceparent, &flight));
            self.lookout.within(patience.min(self.deadline), reading).await
        };
        match read {
            Ok(Ok(Read { status, headers, held, rest, flow })) => {
                Ok(Committed { status, headers, held, rest, flow, flight, losses })
            }
            Ok(Err(failure)) => Err((failure.without_secret(step), flight)),
            Err(_) if self.deadline < patience => Err((Failure::overdue(), flight)),
            Err(_) => Err((Failure::silent(candidate.timeouts.first_byte), flight)),
        }
    }

    async fn first_content(
        &self,
        step: Step<'_>,
        outgoing: Outgoing,
        traceparent: HeaderValue,
        flight: &Flight,
    ) -> Result<Read, Failure> {
        let candidate = step.candidate;
        let client = self.installed.client(&candidate.host.id).map_err(Failure::misconfigured)?;
        let request = self.request(client, step, &outgoing, traceparent)?;
        let response = client.send(request).await.map_err(|error| Failure::unsent(&error))?;
        if quota::is_told(response.headers()) {
            let (now, wall) = (Instant::now().into_std(), Timestamp::now());
            flight.key().observe(candidate.shape(), response.headers(), now, wall);
        }
        if !response.status().is_success() {
            let failure = refused(candidate.shape(), response).await.without_secret(step);
            if failure.tells_of_key() {
                flight.key().remember(failure.error.clone());
            }
            return Err(failure);
        }
        self.read(candidate, response, outgoing).await
    }

    fn request(
        &self,
        client: &Client,
        step: Step<'_>,
        outgoing: &Outgoing,
        traceparent: HeaderValue,
    ) -> Result<Request<Whole>, Failure> {
        let candidate = step.candidate;
        let surface = candidate.shape().surface();
        let path = match self.purpose {
            Purpose::Conversation => Some(surface.messages),
            Purpose::CountTokens => surface.count_tokens,
            Purpose::Embeddings => surface.embeddings,
        };
        let path = path.ok_or_else(|| Failure::misconfigured("the host's shape has no such endpoint"))?;
        let up = Upward {
            from: self.ask.shape,
            host: &candidate.host.row,
            encoded: &outgoing.headers,
            traceparent: Some(traceparent),
            gzip: outgoing.may_compress,
            stream: self.ask.stream,
        };
        let request = Request::new(outgoing.body.clone());
        let (mut parts, body) = request.into_parts();
        parts.method = Method::POST;
        parts.uri = client.uri(path).map_err(|error| Failure::unsent(&error))?;
        parts.headers = headers::upward(self.headers, up);
        auth::put(step.draw.secret.as_ref(), &candidate.host.row.auth, &mut parts)
            .map_err(|error| Failure::misconfigured(&error.to_string()))?;
        Ok(Request::from_parts(parts, body))
    }

    /// Reads an answer until it may be given to the caller.
    async fn read(&self, candidate: &Candidate, response: Response<Body>, outgoing: Outgoing) -> Result<Read, Failure> {
        let (head, mut rest) = response.into_parts();
        let fault = |error| Failure::answered(candidate.shape(), error, &head.headers);
        let mut flow = match head.headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"" | b"identity") => Flow::plain(outgoing.pipe),
            Some(b"gzip" | b"x-gzip") => Flow::gzip(outgoing.pipe, outgoing.may_compress),
            Some(_) => {
                let message = "the upstream's answer is compressed in a way that was not asked for";
                return Err(fault(WireError::new(ErrorKind::ServerError, message)));
            }
        };
        let (mut held, mut size) = (Vec::new(), 0);
        loop {
            let piece = match rest.frame().await {
                Some(Ok(frame)) => frame.into_data().ok(),
                Some(Err(_)) => {
                    let message = "the upstream broke off before its answer began";
                    return Err(fault(WireError::new(ErrorKind::Unreachable, message)));
                }
                None => {
                    let seen = flow.end(&mut held);
                    return match seen.error {
                        Some(error) => Err(fault(error)),
                        None => Ok(Read { status: head.status, headers: head.headers, held, rest: None, flow }),
                    };
                }
            };
            let Some(piece) = piece else { continue };
            let known = held.len();
            let seen = flow.push(piece, &mut held);
            if let Some(error) = seen.error {
                return Err(fault(error));
            }
            size += held[known..].iter().map(Bytes::len).sum::<usize>();
            // A whole answer that is short is read to its end, so that one that is cut off can still be replaced.
            let is_whole_and_short = !self.ask.stream && size < MAX_SHORT;
            let has_begun = seen.content || seen.ended;
            if !has_begun && size > MAX_PREAMBLE {
                let message = "the upstream sent too much before its answer began";
                return Err(fault(WireError::new(ErrorKind::ServerError, message)));
            }
            if has_begun && !is_whole_and_short {
                return Ok(Read { status: head.status, headers: head.headers, held, rest: Some(rest), flow });
            }
        }
    }
}

struct Read {
    status: StatusCode,
    headers: HeaderMap,
    held: Vec<Bytes>,
    rest: Option<Body>,
    flow: Flow,
}

/// What an answer with an error's status says.
async fn refused(shape: WireShape, response: Response<Body>) -> Failure {
    let (head, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE_FOR_ERRORS, error_body(body, &head.headers)).await.unwrap_or_default();
    let error = codec::decode_error(shape, head.status.as_u16(), &body);
    Failure::answered(shape, error, &head.headers)
}

/// The first bytes of an error's body, as far as they can be read.
async fn error_body(mut body: Body, headers: &HeaderMap) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        bytes.extend_from_slice(&data[..data.len().min(MAX_ERROR - bytes.len())]);
        if bytes.len() == MAX_ERROR {
            break;
        }
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip" || encoding == "x-gzip") {
        return Gunzip::default().push(&bytes).map(Vec::from).unwrap_or_default();
    }
    bytes
}

impl Failure {
    /// The upstream answered an error, or something that is no answer.
    fn answered(shape: WireShape, mut error: WireError, headers: &HeaderMap) -> Self {
        let outcome = match error.kind {
            ErrorKind::Unreachable => Outcome::ServerError,
            _ => classify::answered(shape, &error, headers, Timestamp::now()),
        };
        if outcome == Outcome::Auth && error.kind != ErrorKind::QuotaExhausted {
            // Some providers refuse a key as if the request were at fault.
            error.kind = ErrorKind::Authentication;
        }
        if let Outcome::RateLimited { wait, .. } = outcome {
            error.retry_after = wait.or(error.retry_after);
        }
        let label = label(outcome);
        let status = Some(error.status);
        Self { error, outcome, label, status }
    }

    fn without_secret(self, step: Step<'_>) -> Self {
        match &step.draw.secret {
            Some(secret) => Self { error: failure::without_secret(self.error, secret.expose()), ..self },
            None => self,
        }
    }

    /// No answer came back.
    fn unsent(error: &SendError) -> Self {
        let outcome = classify::failed(error);
        let kind = match error {
            SendError::ConnectTimeout(_) => ErrorKind::Timeout,
            SendError::Request(_) => ErrorKind::ServerError,
            SendError::Full { .. } => ErrorKind::Overloaded,
            SendError::Resolve { .. }
            | SendError::Forbidden { .. }
            | SendError::Connect { .. }
            | SendError::Tls { .. }
            | SendError::Reset { .. }
            | SendError::Protocol(_) => ErrorKind::Unreachable,
        };
        let label = match error {
            SendError::Full { .. } => AttemptOutcome::Unreachable,
            _ => label(outcome),
        };
        Self { error: WireError::new(kind, error.to_string()), outcome, label, status: None }
    }

    /// No content came in time.
    fn silent(limit: Duration) -> Self {
        let message = format!("the upstream sent no content within {} s (`timeouts.firstByte`)", limit.as_secs_f64());
        Self {
            error: WireError::new(ErrorKind::Timeout, message),
            outcome: classify::silent(),
            label: AttemptOutcome::Timeout,
            status: None,
        }
    }

    /// The request's own time was up: nothing is known of the upstream.
    fn overdue() -> Self {
        Self {
            error: WireError::new(ErrorKind::Timeout, "the request took longer than it may (`timeouts.request`)"),
            outcome: Outcome::Cancelled,
            label: AttemptOutcome::Timeout,
            status: None,
        }
    }

    /// Whether the upstream's words are about its key or itself. Those about one caller's request are not for others.
    fn tells_of_key(&self) -> bool {
        match self.outcome {
            Outcome::Auth | Outcome::RateLimited { .. } | Outcome::ServerError | Outcome::Unreachable(_) => true,
            Outcome::Ok | Outcome::NotServed | Outcome::CallerFault | Outcome::Cancelled => false,
        }
    }

    /// The host cannot be sent anything.
    fn misconfigured(reason: &str) -> Self {
        let message = format!("the host is misconfigured: {reason}");
        Self {
            error: WireError::new(ErrorKind::ServerError, message),
            outcome: Outcome::NotServed,
            label: AttemptOutcome::Unreachable,
            status: None,
        }
    }
}

fn label(outcome: Outcome) -> AttemptOutcome {
    match outcome {
        Outcome::Ok => AttemptOutcome::Ok,
        Outcome::Auth => AttemptOutcome::Auth,
        Outcome::RateLimited { .. } => AttemptOutcome::RateLimited,
        Outcome::ServerError => AttemptOutcome::ServerError,
        Outcome::Unreachable(_) => AttemptOutcome::Unreachable,
        Outcome::NotServed | Outcome::CallerFault => AttemptOutcome::CallerFault,
        Outcome::Cancelled => AttemptOutcome::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(kind: ErrorKind, status: u16) -> Failure {
        let error = WireError { status, ..WireError::new(kind, "no") };
        Failure::answered(WireShape::OpenaiChat, error, &HeaderMap::new())
    }

    #[test]
    fn what_an_upstream_says_of_one_request_is_not_kept_for_other_callers() {
        assert!(!answered(ErrorKind::InvalidRequest, 400).tells_of_key());
        assert!(!answered(ErrorKind::ContentPolicy, 400).tells_of_key());
        assert!(!answered(ErrorKind::NotFound, 404).tells_of_key());
        assert!(answered(ErrorKind::RateLimited, 429).tells_of_key());
        assert!(answered(ErrorKind::Authentication, 401).tells_of_key());
    }

    #[test]
    fn a_full_pool_of_connections_is_neither_the_callers_fault_nor_the_keys() {
        let full = Failure::unsent(&SendError::Full { most: 1 });
        assert_eq!((full.label, full.outcome), (AttemptOutcome::Unreachable, Outcome::NotServed));
        assert_eq!(full.error.kind, ErrorKind::Overloaded);
    }

    #[test]
    fn time_that_is_up_tells_against_nobody() {
        assert_eq!(Failure::overdue().outcome.blame(), crate::breaker::outcome::Blame::Nobody);
        assert_eq!(Failure::silent(Duration::from_secs(1)).outcome.blame(), crate::breaker::outcome::Blame::Key);
    }
}

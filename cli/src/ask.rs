//! `relay ask`: one request as an application sends it, with the answer printed as it comes.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use protocol::sse::Parser;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::outcome::Outcome;

/// Most bytes of an answer that is no stream: errors and lists of models are far shorter.
const LARGEST: usize = 4 << 20;

/// Sends one request to a running Relay, and prints the answer as it comes
///
/// The text goes to stdout; what Relay says beside it, such as the host that answered, tokens and times, goes to stderr.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  RELAY_TOKEN=... relay ask --model demo-chat 'Hello, Relay'
  relay ask --url http://relay.relay-system --token-file /var/run/relay-key/token Hello
  relay ask --shape anthropic --model claude-sonnet-4-5 'Say it in one sentence'

Exit codes: 0 an answer came; 1 Relay refused the request or the answer broke off; 2 wrong arguments, or nobody answers.")]
pub(crate) struct Ask {
    /// What is asked
    prompt: String,

    /// Where Relay is: scheme, host and port
    #[arg(long, env = "RELAY_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: Uri,

    /// Model that is asked; absent: the first that the key may use
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Wire shape of the request
    #[arg(long, value_enum, default_value_t, value_name = "SHAPE")]
    shape: Shape,

    /// File that holds the relay key; absent: the variable RELAY_TOKEN does
    #[arg(long, env = "RELAY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Certificates (PEM) of the authorities that may vouch for Relay; absent: those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Most tokens of the answer
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    max_tokens: u32,

    /// How long the whole answer may take, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    timeout: u64,
}

/// Most tokens of an answer that only has to come.
const SHORT: u32 = 16;

/// The wire shape of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Chat Completions
    #[default]
    Openai,
    /// Messages
    Anthropic,
}

impl Ask {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let patience = Duration::from_secs(self.timeout);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(async { timeout(patience, self.ask()).await });
        asked.with_context(|| format!("no whole answer within {} s (setting `--timeout`)", self.timeout))?
    }

    async fn ask(&self) -> anyhow::Result<Outcome> {
        let relay = Relay::new(self.url.clone(), self.token()?, self.ca.as_ref())?;
        let model = match &self.model {
            Some(model) => model.clone(),
            None => match relay.first_model().await? {
                Ok(model) => model,
                Err(refused) => return Ok(refused.outcome()),
            },
        };
        let begun = Instant::now();
        let (path, body) = self.request(&model);
        let mut answer = relay.send(Method::POST, path, body.to_string()).await?;
        if !answer.status().is_success() {
            return Ok(Refused::read(answer).await?.outcome());
        }
        let mut told = told(&model, answer.headers());
        let (mut parser, mut first, mut tokens) = (Parser::new(), None, Tokens::default());
        let mut out = io::stdout().lock();
        while let Some(frame) = answer.frame().await {
            let frame = frame.context("the answer broke off")?;
            parser.push(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(frame) = parser.frame()? {
                let Ok(event) = serde_json::from_str::<Value>(&frame.data) else { continue };
                if let Some(error) = event.get("error") {
                    writeln!(out)?;
                    return Ok(failed(format!("the answer broke off: {}", message(error))));
                }
                tokens.see(&event);
                if let Some(text) = text(&event).filter(|text| !text.is_empty()) {
                    first.get_or_insert_with(|| begun.elapsed());
                    out.write_all(text.as_bytes())?;
                    out.flush()?;
                }
            }
        }
        writeln!(out)?;
        let Some(first) = first else { return Ok(failed("the answer holds no text".to_owned())) };
        told.push(format!(
            "first content after {} ms, all after {} ms",
            first.as_millis(),
            begun.elapsed().as_millis()
        ));
        told.extend(tokens.told());
        Ok(Outcome { aside: format!("{}\n", told.join("; ")), ..Outcome::default() })
    }

    fn token(&self) -> anyhow::Result<String> {
        let token = match &self.token_file {
            Some(path) => {
                fs::read_to_string(path).with_context(|| format!("reading the relay key in {}", path.display()))?
            }
            None => std::env::var("RELAY_TOKEN")
                .context("which relay key? Set RELAY_TOKEN, or name a file with `--token-file`")?,
        };
        Ok(token.trim().to_owned())
    }

    fn request(&self, model: &str) -> (&'static str, Value) {
        let messages = json!([{"role": "user", "content": self.prompt}]);
        match self.shape {
            Shape::Openai => {
                let options = json!({"include_usage": true});
                let limit = self.max_tokens;
                let body = json!({"model": model, "messages": messages, "max_completion_tokens": limit, "stream": true, "stream_options": options});
                ("/v1/chat/completions", body)
            }
            Shape::Anthropic => (
                "/v1/messages",
                json!({"model": model, "messages": messages, "max_tokens": self.max_tokens, "stream": true}),
            ),
        }
    }
}

/// A running Relay, and who asks it.
pub(crate) struct Relay {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    token: String,
}

/// An answer that came.
pub(crate) struct Answered {
    pub(crate) model: String,
    /// The host that gave it, where Relay says so.
    pub(crate) host: Option<String>,
}

/// What Relay says instead of an answer.
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Relay {
    pub(crate) fn new(url: Uri, token: String, ca: Option<&PathBuf>) -> anyhow::Result<Self> {
        Ok(Self { client: client(ca)?, url, token })
    }

    /// One short request that is no stream; the model is the first that the key may use where none is named.
    pub(crate) async fn once(&self, model: Option<&str>) -> anyhow::Result<Result<Answered, Refused>> {
        let model = match model {
            Some(model) => model.to_owned(),
            None => match self.first_model().await? {
                Ok(model) => model,
                Err(refused) => return Ok(Err(refused)),
            },
        };
        let messages = json!([{"role": "user", "content": "Say ok"}]);
        let body = json!({"model": model, "messages": messages, "max_completion_tokens": SHORT});
        let answer = self.send(Method::POST, "/v1/chat/completions", body.to_string()).await?;
        if !answer.status().is_success() {
            return Refused::read(answer).await.map(Err);
        }
        let host = answer.headers().get("x-relay-host").and_then(|host| host.to_str().ok()).map(str::to_owned);
        self::body(answer).await?;
        Ok(Ok(Answered { model, host }))
    }

    /// The first model that the key may use, or what Relay says instead.
    async fn first_model(&self) -> anyhow::Result<Result<String, Refused>> {
        let answer = self.send(Method::GET, "/v1/models", String::new()).await?;
        if !answer.status().is_success() {
            return Refused::read(answer).await.map(Err);
        }
        let list: Value = serde_json::from_slice(&body(answer).await?).context("reading the list of models")?;
        let name = list.pointer("/data/0/id").and_then(Value::as_str);
        let none = || Refused { status: StatusCode::OK, message: "this relay key may use no model".to_owned() };
        Ok(name.map(str::to_owned).ok_or_else(none))
    }

    async fn send(&self, method: Method, path: &str, body: String) -> anyhow::Result<Response<Incoming>> {
        let scheme = self.url.scheme_str().unwrap_or_default();
        let authority = self.url.authority().filter(|_| matches!(scheme, "http" | "https"));
        let Some(authority) = authority else {
            bail!(
                "`{}` is not where Relay can be (setting `--url`): write `http://HOST:PORT` or `https://HOST:PORT`",
                self.url
            );
        };
        ensure!(
            matches!(self.url.path(), "" | "/"),
            "`{}` has a path (setting `--url`): write only scheme, host and port",
            self.url
        );
        let request = Request::builder()
            .method(method)
            .uri(format!("{scheme}://{authority}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header("anthropic-version", "2023-06-01")
            .body(Full::from(body))
            .context("this relay key cannot stand in a header")?;
        self.client.request(request).await.with_context(|| format!("nobody answers at {scheme}://{authority}"))
    }
}

fn client(ca: Option<&PathBuf>) -> anyhow::Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>> {
    let config = ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into());
    let config = config.with_safe_default_protocol_versions()?;
    let config = match ca {
        // A machine without any certificate can still ask over plain HTTP.
        None => match config.clone().with_native_roots() {
            Ok(config) => config.with_no_client_auth(),
            Err(_) => config.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        },
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let read = || format!("reading the certificates in {} (setting `--ca`)", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
                roots.add(certificate.with_context(read)?).with_context(read)?;
            }
            ensure!(!roots.is_empty(), "{} holds no certificate (setting `--ca`)", path.display());
            config.with_root_certificates(roots).with_no_client_auth()
        }
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

async fn body(answer: Response<Incoming>) -> anyhow::Result<Bytes> {
    let limited = http_body_util::Limited::new(answer.into_body(), LARGEST);
    let read = limited.collect().await.map_err(|error| anyhow::anyhow!(error)).context("the answer broke off")?;
    Ok(read.to_bytes())
}

impl Refused {
    /// What an answer that is none says.
    async fn read(answer: Response<Incoming>) -> anyhow::Result<Self> {
        let status = answer.status();
        let body = body(answer).await?;
        let said = serde_json::from_slice::<Value>(&body).ok();
        let said = said.as_ref().and_then(|value| value.get("error")).map(message);
        let message = said.unwrap_or_else(|| String::from_utf8_lossy(&body).chars().take(500).collect());
        Ok(Self { status, message })
    }

    fn outcome(self) -> Outcome {
        let Self { status, message } = self;
        failed(if status.is_success() { message } else { format!("{}: {message}", line(status)) })
    }
}

fn line(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()).trim_end().to_owned()
}

fn message(error: &Value) -> String {
    error.get("message").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned)
}

fn failed(said: String) -> Outcome {
    Outcome { aside: format!("relay: {said}\n"), code: 1, ..Outcome::default() }
}

/// The text that an event of either shape adds.
fn text(event: &Value) -> Option<&str> {
    event.pointer("/choices/0/delta/content").or_else(|| event.pointer("/delta/text")).and_then(Value::as_str)
}

/// What Relay says of an answer in its headers.
fn told(model: &str, headers: &HeaderMap) -> Vec<String> {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut told = vec![format!("model {model}")];
    told.extend(said("x-relay-host").map(|host| format!("host {host}")));
    told.extend(said("x-relay-warnings").map(|warnings| format!("warnings {warnings}")));
    told
}

/// Tokens as the answer counts them.
#[derive(Debug, Default)]
struct Tokens {
    input: Option<u64>,
    output: Option<u64>,
}

impl Tokens {
    fn see(&mut self, event: &Value) {
        let usage = event.get("usage").or_else(|| event.pointer("/message/usage"));
        let count = |names: [&str; 2]| names.iter().find_map(|name| usage?.get(name)?.as_u64());
        self.input = count(["prompt_tokens", "input_tokens"]).or(self.input);
        self.output = count(["completion_tokens", "output_tokens"]).or(self.output);
    }

    fn told(&self) -> Option<String> {
        Some(format!("{} tokens in, {} out", self.input?, self.output?))
    }
}

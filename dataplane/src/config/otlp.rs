//! Which OpenTelemetry collector is told what. The names of variables are those of OpenTelemetry where it has some.

use anyhow::{Context, anyhow, ensure};
use http::{HeaderMap, HeaderName, HeaderValue};
use table::Secret;

/// Headers for every collector, and those for logs instead.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const LOGS_HEADERS: &str = "OTEL_EXPORTER_OTLP_LOGS_HEADERS";

/// Who is told of requests by OTLP.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct OtlpConfig {
    /// Where spans are sent (OTLP over HTTP, as http://127.0.0.1:4318); absent: nowhere
    #[arg(id = "otlp-endpoint", long = "otlp-endpoint", env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,

    /// Sends usage records as OTLP logs too, to --otlp-logs-endpoint, or else to /v1/logs at --otlp-endpoint
    #[arg(id = "usage-otlp", long = "usage-otlp", env = "RELAY_USAGE_OTLP")]
    pub usage: bool,

    /// Where --usage-otlp sends, with the path, as http://127.0.0.1:4318/v1/logs; alone it sends nothing
    #[arg(
        id = "otlp-logs-endpoint",
        long = "otlp-logs-endpoint",
        env = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        value_name = "URL"
    )]
    pub logs_endpoint: Option<String>,

    /// Headers of every export, which have no flag: they may hold a credential, and command lines are read by everybody.
    #[arg(skip = variable(HEADERS))]
    pub headers: Option<Secret<String>>,

    /// Headers of usage records instead.
    #[arg(skip = variable(LOGS_HEADERS))]
    pub logs_headers: Option<Secret<String>>,
}

/// Where something is sent.
pub(crate) struct Destination<'a> {
    pub(crate) url: &'a str,
    pub(crate) path: &'static str,
    pub(crate) headers: HeaderMap,
}

impl OtlpConfig {
    /// Where spans go; absent: nowhere.
    pub(crate) fn spans(&self) -> anyhow::Result<Option<Destination<'_>>> {
        let Some(url) = set(&self.endpoint) else { return Ok(None) };
        Ok(Some(Destination { url, path: "/v1/traces", headers: headers(HEADERS, self.headers.as_ref())? }))
    }

    /// Where usage records go; absent: nowhere.
    pub(crate) fn logs(&self) -> anyhow::Result<Option<Destination<'_>>> {
        if !self.usage {
            return Ok(None);
        }
        let (url, path) = match (set(&self.logs_endpoint), set(&self.endpoint)) {
            (Some(whole), _) => (whole, ""),
            (None, Some(url)) => (url, "/v1/logs"),
            (None, None) => {
                return Err(anyhow!(
                    "`--usage-otlp` sends nowhere: it needs `--otlp-logs-endpoint` or `--otlp-endpoint`"
                ));
            }
        };
        let headers = match &self.logs_headers {
            Some(_) => headers(LOGS_HEADERS, self.logs_headers.as_ref())?,
            None => headers(HEADERS, self.headers.as_ref())?,
        };
        Ok(Some(Destination { url, path, headers }))
    }

    /// Whether spans are made.
    pub(crate) fn makes_spans(&self) -> bool {
        set(&self.endpoint).is_some()
    }
}

/// OpenTelemetry wants an empty variable to mean what an absent one does.
fn set(url: &Option<String>) -> Option<&str> {
    url.as_deref().filter(|url| !url.is_empty())
}

fn variable(name: &str) -> Option<Secret<String>> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Secret::new)
}

/// Reads `name=value,name=value`, with values percent-encoded. Errs without quoting a value.
fn headers(variable: &str, text: Option<&Secret<String>>) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let pairs = text.map(|text| text.expose().split(',')).into_iter().flatten();
    for (pair, number) in pairs.map(str::trim).zip(1..).filter(|(pair, _)| !pair.is_empty()) {
        let (name, value) =
            header(pair).with_context(|| format!("header {number} of `{variable}` (write `name=value,name=value`)"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn header(pair: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=').context("it has no `=`")?;
    let name: HeaderName = name.trim().parse().map_err(|_| anyhow!("what stands before `=` is no header's name"))?;
    let mut value = HeaderValue::from_bytes(&decoded(value.trim())?)
        .map_err(|_| anyhow!("the value of `{name}` holds what no header may"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// `%41` is `A`.
fn decoded(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            decoded.push(*first);
            rest = after;
            continue;
        }
        ensure!(after.len() >= 2, "a `%` in its value is not followed by two hex digits (write `%25` for `%`)");
        let byte = hex::decode(&after[..2])
            .map_err(|_| anyhow!("a `%` in its value is not followed by two hex digits (write `%25` for `%`)"))?;
        decoded.extend(byte);
        rest = &after[2..];
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        otlp: OtlpConfig,
    }

    fn settings(flags: &[&str]) -> OtlpConfig {
        Line::parse_from([&["relay"], flags].concat()).otlp
    }

    fn url(destination: anyhow::Result<Option<Destination<'_>>>) -> Option<String> {
        destination.expect("the settings are fine").map(|to| format!("{}{}", to.url, to.path))
    }

    #[test]
    fn an_endpoint_alone_gets_spans_and_no_usage() {
        let otlp = settings(&["--otlp-endpoint", "http://c:4318"]);
        assert_eq!((url(otlp.spans()), url(otlp.logs())), (Some("http://c:4318/v1/traces".to_owned()), None));
        let otlp = settings(&["--otlp-logs-endpoint", "http://c:4318/v1/logs"]);
        assert_eq!((url(otlp.spans()), url(otlp.logs())), (None, None));
    }

    #[test]
    fn usage_goes_to_an_endpoint_of_its_own_else_to_the_common_one() {
        let otlp = settings(&["--usage-otlp", "--otlp-endpoint", "http://c:4318"]);
        assert_eq!(url(otlp.logs()).as_deref(), Some("http://c:4318/v1/logs"));
        let otlp = settings(&["--usage-otlp", "--otlp-logs-endpoint", "http://l:1/in", "--otlp-endpoint", "http://c"]);
        assert_eq!(url(otlp.logs()).as_deref(), Some("http://l:1/in"));
        let otlp = settings(&["--usage-otlp", "--otlp-logs-endpoint", "http://l:1/in"]);
        assert_eq!((url(otlp.spans()), url(otlp.logs())), (None, Some("http://l:1/in".to_owned())));
    }

    #[test]
    fn usage_without_an_endpoint_is_refused_with_the_flags_that_it_needs() {
        let error = settings(&["--usage-otlp"]).logs().err().expect("it goes nowhere").to_string();
        assert!(error.contains("--otlp-logs-endpoint") && error.contains("--otlp-endpoint"), "{error}");
    }

    #[test]
    fn headers_are_pairs_and_those_for_logs_stand_for_the_common_ones() {
        let secret = |text: &str| Some(Secret::new(text.to_owned()));
        let headers = secret("api-key=abc, authorization=Bearer%20x%2Cy,");
        let otlp = OtlpConfig { headers, ..settings(&["--usage-otlp", "--otlp-endpoint", "http://c"]) };
        for destination in [otlp.spans(), otlp.logs()] {
            let headers = destination.expect("they are fine").expect("it goes there").headers;
            assert_eq!(
                (&headers["api-key"], &headers["authorization"]),
                (&"abc".parse().unwrap(), &"Bearer x,y".parse().unwrap())
            );
            assert!(headers.values().all(HeaderValue::is_sensitive));
        }
        let otlp = OtlpConfig { logs_headers: secret("api-key=other"), ..otlp };
        let headers = otlp.logs().expect("they are fine").expect("it goes there").headers;
        assert_eq!((headers.len(), &headers["api-key"]), (1, &HeaderValue::from_static("other")));
    }

    #[test]
    fn a_wrong_header_is_told_by_its_number_and_never_by_its_value() {
        for wrong in ["a=1,canary", "a=1,bad name=canary", "a=1,b=canary%2", "a=1,b=canary%zz", "a=1,b=canary%00"] {
            let headers = Some(Secret::new(wrong.to_owned()));
            let otlp = OtlpConfig { headers, ..settings(&["--otlp-endpoint", "http://c"]) };
            let error = format!("{:#}", otlp.spans().err().expect("it is wrong"));
            assert!(error.contains("header 2 of `OTEL_EXPORTER_OTLP_HEADERS`"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}

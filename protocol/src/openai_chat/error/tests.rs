//! Error bodies as hosts send them.

use super::*;

fn read(status: u16, body: Value) -> WireError {
    decode_error(status, body.to_string().as_bytes())
}

fn kind(status: u16, body: Value) -> ErrorKind {
    read(status, body).kind
}

#[test]
fn every_envelope_gives_its_message_and_code() {
    for body in [
        json!({"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}),
        json!({"object": "error", "message": "m", "type": "t", "param": "p", "code": "c"}),
        json!([{"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}]),
    ] {
        let error = read(400, body);
        let got = (error.message.as_str(), error.source_type.as_deref(), error.param.as_deref(), error.code.as_deref());
        assert_eq!(got, ("m", Some("t"), Some("p"), Some("c")));
        assert_eq!((error.kind, error.status), (ErrorKind::InvalidRequest, 400));
    }
    assert_eq!(read(404, json!({"error": "no such thing"})).message, "no such thing");
    let validation = json!({"detail": [{"loc": ["body", "n"], "msg": "Field required"}]});
    assert_eq!(read(422, validation).message, "body.n: Field required");
}

#[test]
fn bodies_that_are_not_json_are_wrapped() {
    assert_eq!(decode_error(502, b"<html>nginx</html>").message, "the upstream failed with status 502");
    assert_eq!(decode_error(500, b"").kind, ErrorKind::ServerError);
    assert_eq!(decode_error(503, b"upstream connect error").message, "upstream connect error");
    assert_eq!(decode_error(500, b"upstream connect error").kind, ErrorKind::ServerError);
}

#[test]
fn a_bad_key_is_known_by_its_words_too_and_never_shown() {
    let xai = json!({"code": "invalid-argument", "error": "Incorrect API key provided: xa***12."});
    let error = read(400, xai);
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Authentication, "the upstream does not accept the key")
    );
    let gemini = json!([{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}]);
    assert_eq!(kind(400, gemini), ErrorKind::Authentication);
    assert_eq!(kind(401, json!({"detail": "Invalid API Key"})), ErrorKind::Authentication);
    assert_eq!(kind(401, json!({"error": {"code": 401, "message": "x"}})), ErrorKind::Authentication);
    assert_eq!(kind(500, json!({"error": {"message": "invalid api key store"}})), ErrorKind::ServerError);
}

#[test]
fn a_conversation_that_does_not_fit_keeps_its_words() {
    let llama = json!({"error": {"code": 400, "type": "exceed_context_size_error",
        "message": "request (2009 tokens) exceeds the available context size (512 tokens), try increasing it"}});
    assert_eq!(kind(400, llama), ErrorKind::ContextTooLong);
    let openai = json!({"error": {"code": "context_length_exceeded", "message": "This model's maximum context length is 8192 tokens."}});
    assert!(read(400, openai).message.contains("8192"));
    let words = json!({"message": "This model's maximum context length is 10 tokens"});
    assert_eq!(kind(400, words), ErrorKind::ContextTooLong);
}

#[test]
fn quota_rate_and_capacity_are_told_apart() {
    assert_eq!(kind(429, json!({"error": {"code": "insufficient_quota", "message": "q"}})), ErrorKind::QuotaExhausted);
    assert_eq!(kind(402, json!({"error": {"message": "Insufficient Balance"}})), ErrorKind::QuotaExhausted);
    assert_eq!(
        kind(429, json!({"error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "r"}})),
        ErrorKind::RateLimited
    );
    assert_eq!(kind(429, json!({})), ErrorKind::RateLimited);
    assert_eq!(kind(503, json!({"error": {"message": "x"}})), ErrorKind::Overloaded);
    assert_eq!(kind(529, json!({})), ErrorKind::Overloaded);
}

#[test]
fn unknown_models_and_filtered_content_are_known() {
    for (status, body) in [
        (404, json!({"error": {"code": "model_not_found", "message": "x"}})),
        (404, json!({"error": {"type": "invalid_request_error", "code": "DeploymentNotFound", "message": "x"}})),
        (400, json!({"object": "error", "type": "invalid_model", "code": "1500", "message": "Invalid model: x"})),
        (400, json!({"error": {"code": 400, "message": "x/y is not a valid model ID"}})),
    ] {
        assert_eq!(kind(status, body), ErrorKind::NotFound);
    }
    let azure = json!({"error": {"code": "content_filter", "status": 400, "message": "filtered",
        "innererror": {"code": "ResponsibleAIPolicyViolation"}}});
    let error = read(200, azure);
    assert_eq!((error.kind, error.status), (ErrorKind::ContentPolicy, 400));
}

#[test]
fn accounts_are_taken_out_of_messages() {
    let body = json!({"error": {"code": "rate_limit_exceeded", "message": "Rate limit reached in organization org-abcdef12 on tokens"}});
    assert_eq!(read(429, body).message, "Rate limit reached in organization [redacted] on tokens");
}

#[test]
fn errors_are_written_in_the_words_that_sdks_match() {
    let body =
        |error: &WireError| serde_json::from_slice::<Value>(&encode_error(error, "req")).unwrap()["error"].clone();
    let long = WireError::new(ErrorKind::ContextTooLong, "prompt is too long: 9 tokens > 5 maximum");
    let expected = json!({"message": "prompt is too long: 9 tokens > 5 maximum", "type": "invalid_request_error",
        "param": null, "code": "context_length_exceeded"});
    assert_eq!((body(&long), error_status(&long)), (expected, 400));
    let busy = WireError { status: 529, ..WireError::new(ErrorKind::Overloaded, "busy") };
    assert_eq!((body(&busy)["code"].as_str(), error_status(&busy)), (Some("overloaded"), 503));
    let spent = WireError { status: 402, ..WireError::new(ErrorKind::QuotaExhausted, "spent") };
    assert_eq!((body(&spent)["type"].as_str(), error_status(&spent)), (Some("insufficient_quota"), 429));
    assert!(encode_error_event(&spent, "").starts_with(b"data: {\"error\":"));
}

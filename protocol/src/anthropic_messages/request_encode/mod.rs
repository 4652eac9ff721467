//! Writes a request for a Messages host: its top-level fields, and what is refused or lost on the way. Turns, blocks,
//! tools, reasoning and the form of the answer are written by their own files.

mod blocks;
mod cache_marks;
mod format;
mod reasoning;
mod schema;
mod tools;
mod turns;

#[cfg(test)]
mod testing;

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

use crate::{
    Loss, Refusal, Strictness, Target, WireShape,
    json::{Json, Object},
    request::{FieldClass, OtherField, Request, Sampling},
    translate::{Back, Encoded},
};

/// The API version whose requests these are: it is the last that takes sampling parameters, and every model takes it.
const VERSION: &str = "2023-06-01";

/// The cap of an answer where neither the caller nor the Model nor the traits know one.
const UNKNOWN_CAP: u64 = 4_096;

/// The longest `metadata.user_id`.
const LONGEST_USER_ID: usize = 256;

/// A request on its way to its target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) request: &'a Request,
    pub(super) target: &'a Target<'a>,
}

impl<'a> Scope<'a> {
    /// Whether the request was of this shape to begin with.
    pub(super) fn native(self) -> bool {
        self.request.source == WireShape::AnthropicMessages
    }

    /// A field's name in the caller's shape.
    pub(super) fn word(self, chat: &'a str, messages: &'a str) -> &'a str {
        match self.request.source {
            WireShape::OpenaiChat => chat,
            WireShape::AnthropicMessages => messages,
        }
    }

    /// The refusal of a field that this target cannot serve.
    pub(super) fn refuse(self, field: impl Into<String>, why: &str) -> Refusal {
        let field = field.into();
        let message = format!(
            "`{field}` is not supported when `{}` is served by {} (model `{}`): {why}",
            self.request.model, self.target.shape, self.target.model
        );
        Refusal::unsupported(field, message)
    }

    /// What happens to a field without a canonical place.
    pub(super) fn other(self, field: &OtherField, losses: &mut Vec<Loss>) -> Result<(), Refusal> {
        match field.class {
            FieldClass::Silent => {}
            FieldClass::Drop => losses.push(Loss::dropped(&field.path, no_counterpart(self.target.shape))),
            FieldClass::Refuse => return Err(self.refuse(&field.path, "it has no counterpart")),
        }
        Ok(())
    }
}

/// Writes a request for a target. Losses are named in the caller's words.
///
/// Errs on what this target cannot serve, and under strict translation on any loss.
pub fn encode_request(request: &Request, target: &Target<'_>) -> Result<Encoded, Refusal> {
    let scope = Scope { request, target };
    refuse_what_would_be_missed(scope)?;
    let (mut losses, mut back, mut body) = (Vec::new(), Back::default(), Object::default());
    body.push("model", target.model);
    let cap = output_cap(scope, &mut losses)?;
    body.push("max_tokens", cap);
    if request.stream {
        body.push("stream", true);
    }
    let thinks = reasoning::reasoning(scope, cap, &mut body, &mut losses);
    sampling(scope, thinks, &mut body, &mut losses);
    stop_sequences(scope, &mut body, &mut losses);
    who_asks(scope, &mut body, &mut losses);
    others(scope, &mut body, &mut losses)?;
    let instruction = format::format(scope, thinks, &mut body, &mut back, &mut losses)?;
    tools::tools(scope, thinks, &mut body, &mut back, &mut losses)?;
    turns::turns(scope, instruction, &mut body, &mut losses)?;
    cache_marks::keep_last(scope, &mut body, &mut losses);
    finish(scope, &body, losses, back)
}

fn finish(scope: Scope, body: &Object<'_>, mut losses: Vec<Loss>, back: Back) -> Result<Encoded, Refusal> {
    losses.sort();
    losses.dedup();
    if let (Strictness::Strict, Some(loss)) = (scope.target.strictness, losses.first()) {
        let why = format!("it would be {}: {}", loss.kind, loss.reason);
        return Err(scope.refuse(&loss.field, &why));
    }
    Ok(Encoded { body: body.to_bytes(), headers: vec![("anthropic-version", VERSION.to_owned())], losses, back })
}

/// Fields whose effect the caller will look for in the answer.
fn refuse_what_would_be_missed(scope: Scope) -> Result<(), Refusal> {
    let request = scope.request;
    if request.n.is_some_and(|n| n != 1) {
        return Err(scope.refuse("n", "every answer has one choice; send one request for each"));
    }
    if request.logprobs == Some(true) {
        return Err(scope.refuse("logprobs", "log probabilities are not given"));
    }
    if request.top_logprobs.is_some_and(|count| count > 0) {
        return Err(scope.refuse("top_logprobs", "log probabilities are not given"));
    }
    Ok(())
}

fn output_cap(scope: Scope, losses: &mut Vec<Loss>) -> Result<u64, Refusal> {
    let field = scope.word("max_completion_tokens", "max_tokens");
    let traits = scope.target.traits;
    let most = scope.target.max_output_tokens.or(traits.known.then_some(traits.max_output_tokens));
    match (scope.request.output_cap, most) {
        (Some(0), _) if !scope.native() => Err(scope.refuse(field, "it must be at least 1")),
        (Some(cap), Some(most)) if cap > most => {
            losses.push(Loss::clamped(field, format!("the model gives at most {most} tokens")));
            Ok(most)
        }
        (Some(cap), _) => Ok(cap),
        (None, Some(most)) => Ok(most),
        (None, None) => {
            let why = format!("a cap is required and that of the model is not known: {UNKNOWN_CAP} tokens");
            losses.push(Loss::approximated(field, why));
            Ok(UNKNOWN_CAP)
        }
    }
}

fn sampling<'a>(scope: Scope<'a>, thinks: bool, body: &mut Object<'a>, losses: &mut Vec<Loss>) {
    let Sampling { temperature, top_p, top_k, .. } = &scope.request.sampling;
    for (field, number) in [("temperature", temperature), ("top_p", top_p), ("top_k", top_k)] {
        let Some(number) = number else { continue };
        match why_not(scope, thinks, field, body) {
            None => body.insert(field, number),
            // 1 is what the model does anyway.
            Some(_) if field != "top_k" && number.as_f64() == Some(1.0) => {}
            Some(why) => losses.push(Loss::dropped(field, why)),
        }
    }
    clamp_temperature(body, losses);
    unknown_sampling(scope, losses);
}

fn why_not(scope: Scope, thinks: bool, field: &str, body: &Object<'_>) -> Option<&'static str> {
    let traits = scope.target.traits;
    if !traits.sampling {
        Some("the model takes no sampling parameters")
    } else if thinks && !scope.native() {
        Some("the model does not take it while it thinks")
    } else if field == "top_p" && body.contains_key("temperature") && !traits.temperature_with_top_p {
        Some("the model does not take it together with `temperature`")
    } else {
        None
    }
}

fn clamp_temperature(body: &mut Object<'_>, losses: &mut Vec<Loss>) {
    let Some(temperature) = body.get_mut("temperature") else { return };
    if temperature.as_f64().is_some_and(|degrees| degrees > 1.0) {
        *temperature = Json::Count(1);
        losses.push(Loss::clamped("temperature", "the greatest is 1"));
    }
}

/// Hints on drawing tokens that this shape does not have. Those that change nothing are nobody's loss.
fn unknown_sampling(scope: Scope, losses: &mut Vec<Loss>) {
    let sampling = &scope.request.sampling;
    let is_set = |number: &Option<Number>| number.as_ref().is_some_and(|number| number.as_f64() != Some(0.0));
    let is_empty = |bias: &Value| bias.as_object().is_some_and(|bias| bias.is_empty());
    let dropped = [
        ("seed", sampling.seed.is_some()),
        ("frequency_penalty", is_set(&sampling.frequency_penalty)),
        ("presence_penalty", is_set(&sampling.presence_penalty)),
        ("logit_bias", sampling.logit_bias.as_ref().is_some_and(|bias| !is_empty(bias))),
        ("verbosity", scope.request.verbosity.is_some()),
    ];
    for (field, _) in dropped.into_iter().filter(|(_, is_set)| *is_set) {
        losses.push(Loss::dropped(field, no_counterpart(scope.target.shape)));
    }
}

fn stop_sequences<'a>(scope: Scope<'a>, body: &mut Object<'a>, losses: &mut Vec<Loss>) {
    let field = scope.word("stop", "stop_sequences");
    if scope.request.stop.is_empty() {
        return;
    }
    if !scope.target.traits.stop {
        losses.push(Loss::dropped(field, "the model takes no stop sequences"));
        return;
    }
    let (sent, blank): (Vec<_>, Vec<_>) = scope.request.stop.iter().partition(|stop| !stop.trim().is_empty());
    if !blank.is_empty() {
        losses.push(Loss::dropped(field, "a stop sequence must hold more than white space"));
    }
    if !sent.is_empty() {
        body.insert("stop_sequences", sent.into_iter().collect::<Json<'_>>());
    }
}

/// The end user, the tier, and the cache mark of the whole request.
fn who_asks<'a>(scope: Scope<'a>, body: &mut Object<'a>, losses: &mut Vec<Loss>) {
    let request = scope.request;
    let mut metadata = if scope.native() { Object::from(&request.metadata) } else { Object::default() };
    if let Some((field, id)) = end_user(scope) {
        let (sent, is_hashed) = user_id(scope, id);
        if is_hashed {
            losses.push(Loss::approximated(field, "a person's address must not be sent: its hash is"));
        }
        metadata.insert("user_id", sent);
    }
    if !metadata.is_empty() {
        body.insert("metadata", metadata);
    }
    if let Some(tier) = &request.service_tier {
        match (scope.native(), tier.as_str()) {
            (true, tier) => body.insert("service_tier", tier),
            (false, "auto") => body.insert("service_tier", "auto"),
            (false, "default") => body.insert("service_tier", "standard_only"),
            (false, _) => losses.push(Loss::dropped("service_tier", no_counterpart(scope.target.shape))),
        }
    }
    if let Some(mark) = &request.cache.mark {
        body.insert("cache_control", cache_marks::control(scope, mark, losses));
    }
    for (field, is_set) in [
        ("prompt_cache_retention", request.cache.retention.is_some()),
        ("prompt_cache_options", request.cache.options.is_some()),
    ] {
        if is_set {
            losses.push(Loss::dropped(field, no_counterpart(scope.target.shape)));
        }
    }
}

fn end_user<'a>(scope: Scope<'a>) -> Option<(&'static str, &'a str)> {
    let user = &scope.request.end_user;
    let first =
        [("safety_identifier", &user.safety_identifier), ("metadata.user_id", &user.user_id), ("user", &user.user)];
    first.into_iter().find_map(|(field, id)| Some((field, id.as_deref()?)))
}

/// An id as it may be sent, and whether it was hashed: addresses and telephone numbers are refused upstream.
fn user_id(scope: Scope, id: &str) -> (String, bool) {
    if !scope.native() && (is_mail(id) || is_telephone(id) || id.len() > LONGEST_USER_ID) {
        return (hex::encode(Sha256::digest(id)), true);
    }
    (id.to_owned(), false)
}

fn is_mail(id: &str) -> bool {
    id.split_once('@').is_some_and(|(user, domain)| !user.is_empty() && domain.contains('.'))
}

fn is_telephone(id: &str) -> bool {
    let digits = id.strip_prefix('+').unwrap_or(id);
    digits.len() >= 7 && digits.chars().all(|letter| letter.is_ascii_digit() || " ()-".contains(letter))
}

/// Fields without a canonical place: back in theirs where the shape is the same.
fn others<'a>(scope: Scope<'a>, body: &mut Object<'a>, losses: &mut Vec<Loss>) -> Result<(), Refusal> {
    for field in &scope.request.other {
        if !scope.native() {
            scope.other(field, losses)?;
        } else if !field.path.contains('.') {
            body.insert(&field.path, &field.value);
        }
    }
    Ok(())
}

pub(super) fn no_counterpart(shape: WireShape) -> String {
    format!("no counterpart in {shape}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        testing::{chat, encode_for, encoded, named, refused, traits},
        *,
    };
    use crate::{LossKind, Traits, request::EndUser};

    fn number(text: &str) -> Option<Number> {
        Some(serde_json::from_str(text).expect("a number"))
    }

    fn sampled(temperature: Option<&str>, top_p: Option<&str>) -> Request {
        let sampling = Sampling {
            temperature: temperature.and_then(number),
            top_p: top_p.and_then(number),
            ..Sampling::default()
        };
        Request { sampling, ..chat() }
    }

    #[test]
    fn names_the_upstreams_model_and_the_version_that_takes_sampling() {
        let encoded = encode_for(&chat(), &traits(), Strictness::Lenient).expect("good");
        assert_eq!(encoded.headers, [("anthropic-version", "2023-06-01".to_owned())]);
        let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        let messages = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]);
        assert_eq!(body, json!({"model": "claude-test", "max_tokens": 100, "messages": messages}));
    }

    #[test]
    fn a_missing_cap_is_the_models_own() {
        let request = Request { output_cap: None, ..chat() };
        let (body, losses) = encoded(&request, &traits());
        assert_eq!((&body["max_tokens"], losses.len()), (&json!(64_000), 0));
        let (body, losses) = encoded(&request, &Traits::default());
        assert_eq!(body["max_tokens"], json!(4_096));
        assert_eq!(named(&losses), [(LossKind::Approximated, "max_completion_tokens")]);
    }

    #[test]
    fn a_cap_above_the_models_is_clamped() {
        let (body, losses) = encoded(&Request { output_cap: Some(128_000), ..chat() }, &traits());
        assert_eq!(body["max_tokens"], json!(64_000));
        assert_eq!(named(&losses), [(LossKind::Clamped, "max_completion_tokens")]);
    }

    #[test]
    fn a_temperature_above_one_is_clamped() {
        let (body, losses) = encoded(&sampled(Some("1.5"), None), &traits());
        assert_eq!(body["temperature"], json!(1));
        assert_eq!(named(&losses), [(LossKind::Clamped, "temperature")]);
    }

    #[test]
    fn models_without_sampling_lose_it_unless_it_changes_nothing() {
        let traits = Traits { sampling: false, ..traits() };
        let (body, losses) = encoded(&sampled(Some("0.2"), Some("0.9")), &traits);
        assert!(body.get("temperature").is_none() && body.get("top_p").is_none());
        assert_eq!(named(&losses), [(LossKind::Dropped, "temperature"), (LossKind::Dropped, "top_p")]);
        assert!(encoded(&sampled(Some("1"), Some("1.0")), &traits).1.is_empty());
    }

    #[test]
    fn temperature_wins_where_top_p_cannot_stand_beside_it() {
        let traits = Traits { temperature_with_top_p: false, ..traits() };
        let (body, losses) = encoded(&sampled(Some("0.2"), Some("0.9")), &traits);
        assert_eq!((body["temperature"].to_string().as_str(), body.get("top_p")), ("0.2", None));
        assert_eq!(named(&losses), [(LossKind::Dropped, "top_p")]);
        assert!(encoded(&sampled(None, Some("0.9")), &traits).1.is_empty());
    }

    #[test]
    fn hints_without_a_counterpart_are_dropped_aloud_and_neutral_ones_silently() {
        let mut request = chat();
        request.sampling = Sampling {
            seed: number("7"),
            frequency_penalty: number("0"),
            presence_penalty: number("0.5"),
            logit_bias: Some(json!({})),
            ..Sampling::default()
        };
        request.verbosity = Some("low".into());
        let (_, losses) = encoded(&request, &traits());
        let dropped = ["presence_penalty", "seed", "verbosity"].map(|field| (LossKind::Dropped, field));
        assert_eq!(named(&losses), dropped);
    }

    #[test]
    fn what_the_caller_would_look_for_is_refused() {
        let refusal = refused(&Request { n: Some(3), ..chat() }, &traits());
        assert_eq!((refusal.param.as_deref(), refusal.malformed), (Some("n"), false));
        assert!(refusal.message.contains("`asked`") && refusal.message.contains("anthropic-messages"));
        assert_eq!(refused(&Request { logprobs: Some(true), ..chat() }, &traits()).param.as_deref(), Some("logprobs"));
        assert!(encoded(&Request { n: Some(1), logprobs: Some(false), ..chat() }, &traits()).1.is_empty());
    }

    #[test]
    fn strict_translation_refuses_any_loss() {
        let request = sampled(Some("1.5"), None);
        let refusal = encode_for(&request, &traits(), Strictness::Strict).expect_err("clamped");
        assert_eq!(refusal.param.as_deref(), Some("temperature"));
        assert!(refusal.message.contains("clamped"));
    }

    #[test]
    fn blank_stop_sequences_are_dropped() {
        let (body, losses) = encoded(&Request { stop: vec!["\n".into(), "END".into()], ..chat() }, &traits());
        assert_eq!(body["stop_sequences"], json!(["END"]));
        assert_eq!(named(&losses), [(LossKind::Dropped, "stop")]);
    }

    #[test]
    fn a_persons_address_is_hashed() {
        let with = |id: &str| {
            let end_user = EndUser { user: Some("other".into()), safety_identifier: Some(id.into()), user_id: None };
            encoded(&Request { end_user, ..chat() }, &traits())
        };
        let (body, losses) = with("team-7");
        assert_eq!((&body["metadata"]["user_id"], losses.len()), (&json!("team-7"), 0));
        for id in ["ann@example.org", "+49 170 1234567"] {
            let (body, losses) = with(id);
            assert_eq!(body["metadata"]["user_id"], json!(hex::encode(Sha256::digest(id))));
            assert_eq!(named(&losses), [(LossKind::Approximated, "safety_identifier")]);
        }
    }

    #[test]
    fn service_tiers_with_a_counterpart_are_carried() {
        let with = |tier: &str| encoded(&Request { service_tier: Some(tier.into()), ..chat() }, &traits());
        assert_eq!(with("auto").0["service_tier"], "auto");
        assert_eq!(with("default").0["service_tier"], "standard_only");
        assert_eq!(named(&with("flex").1), [(LossKind::Dropped, "service_tier")]);
    }

    #[test]
    fn other_fields_go_as_their_class_says() {
        let field = |class| OtherField { path: "store".into(), value: json!(true), class };
        let with = |class| Request { other: vec![field(class)], ..chat() };
        assert_eq!(named(&encoded(&with(FieldClass::Drop), &traits()).1), [(LossKind::Dropped, "store")]);
        assert!(encoded(&with(FieldClass::Silent), &traits()).1.is_empty());
        assert_eq!(refused(&with(FieldClass::Refuse), &traits()).param.as_deref(), Some("store"));
    }

    #[test]
    fn a_request_of_this_shape_comes_out_as_it_came_in() {
        let body = json!({
            "model": "claude-test", "max_tokens": 0, "stream": true, "temperature": 0.5,
            "thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "high"},
            "stop_sequences": ["x"], "metadata": {"user_id": "a@b.c"}, "service_tier": "auto",
            "cache_control": {"type": "ephemeral", "ttl": "5m"}, "container": "c", "speed": "fast",
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "tools": [
                {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": true, "defer_loading": true},
                {"type": "web_search_20250305", "name": "web_search", "cache_control": {"type": "ephemeral"}},
            ],
            "system": [{"type": "text", "text": "x-anthropic-billing-header: 1"}, {"type": "text", "text": "s"}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
                {"role": "system", "content": [{"type": "text", "text": "now"}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s=="},
                    {"type": "redacted_thinking", "data": "dark"},
                    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"b": 1.0, "a": 2}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}], "is_error": true},
                    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}, "title": "t", "citations": {"enabled": true}},
                    {"type": "search_result", "source": "u", "title": "t", "content": [{"type": "text", "text": "x"}]},
                ]},
            ],
        });
        let request = super::super::decode_request(body.to_string().as_bytes()).expect("good");
        let (again, losses) = encoded(&request, &traits());
        assert_eq!(again, body);
        assert!(losses.is_empty());
    }
}

//! What requests of either shape become on chat hosts of every kind.

use serde_json::{Map, Value, json};

use super::encode_request;
use crate::{
    Dialect, Loss, MaxTokensField, Refusal, StreamUsage, Strictness, SystemRole, Target, ToolCallIds, Traits,
    WireShape,
    openai_chat::decode_request,
    request::{
        CacheMark, CacheOptions, DocumentSource, EndUser, FieldClass, Issuer, Media, Opaque, OtherField, OutputFormat,
        Part, PartKind, Reasoning, Request, Role, Sampling, ThinkingMode, Tool, ToolCall, ToolChoice, ToolInput,
        ToolKind, ToolResult, Turn,
    },
    translate::Encoded,
};

fn request(turns: Vec<Turn>) -> Request {
    Request {
        source: WireShape::AnthropicMessages,
        model: "claude-x".into(),
        turns,
        tools: vec![],
        tool_choice: None,
        parallel_tool_calls: None,
        output_cap: None,
        sampling: Sampling::default(),
        stop: vec![],
        n: None,
        logprobs: None,
        top_logprobs: None,
        format: None,
        verbosity: None,
        reasoning: None,
        end_user: EndUser::default(),
        metadata: Map::new(),
        cache: CacheOptions::default(),
        service_tier: None,
        stream: false,
        include_usage: true,
        legacy_functions: false,
        other: vec![],
    }
}

fn hi() -> Request {
    request(vec![turn(Role::User, vec![Part::text("hi")])])
}

fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, name: None, parts }
}

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let kind = ToolKind::Function;
    Part::new(PartKind::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), kind }))
}

fn result(call_id: &str, content: Vec<Part>, is_error: Option<bool>) -> Part {
    Part::new(PartKind::ToolResult(ToolResult { call_id: call_id.into(), content, is_error }))
}

fn tool(name: &str, schema: Value) -> Tool {
    let input = ToolInput::Schema(Some(schema));
    Tool { name: name.into(), description: None, input, strict: None, cache: None, other: vec![] }
}

fn hosted(kind: &str) -> Tool {
    Tool { input: ToolInput::Hosted(json!({"type": kind, "name": "x"})), ..tool("x", json!({})) }
}

fn image() -> Part {
    let source = Media::Inline { media_type: "image/png".into(), data: "aGk=".into() };
    Part::new(PartKind::Image { source, detail: None })
}

/// A target that each test changes where it matters.
#[derive(Clone, Default)]
struct Host {
    traits: Traits,
    dialect: Dialect,
    strictness: Strictness,
}

impl Host {
    fn reasoning(efforts: &[&str]) -> Self {
        let efforts = efforts.iter().map(|effort| (*effort).to_owned()).collect();
        Self { traits: Traits { efforts, ..Traits::default() }, ..Self::default() }
    }

    fn strict(self) -> Self {
        Self { strictness: Strictness::Strict, ..self }
    }

    fn encode(&self, request: &Request) -> Result<Encoded, Refusal> {
        let (traits, dialect, strictness) = (&self.traits, &self.dialect, self.strictness);
        let shape = WireShape::OpenaiChat;
        encode_request(request, &Target { shape, model: "gpt", max_output_tokens: None, traits, dialect, strictness })
    }

    fn body(&self, request: &Request) -> Value {
        serde_json::from_slice(&self.encode(request).unwrap().body).unwrap()
    }

    fn losses(&self, request: &Request) -> Vec<String> {
        let name = |loss: &Loss| format!("{}={}", loss.kind, loss.field);
        self.encode(request).unwrap().losses.iter().map(name).collect()
    }
}

fn body(request: &Request) -> Value {
    Host::default().body(request)
}

fn losses(request: &Request) -> Vec<String> {
    Host::default().losses(request)
}

fn refused(request: &Request) -> Refusal {
    Host::default().encode(request).unwrap_err()
}

#[test]
fn a_chat_request_comes_back_as_it_was() {
    let sent = json!({"model": "gpt", "messages": [
        {"role": "system", "content": "be"},
        {"role": "user", "content": [{"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1.0}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
        "max_completion_tokens": 9, "temperature": 0.5, "stop": ["x"], "n": 2, "seed": 7, "user": "u",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "store": true, "vendor": {"a": 1}, "stream": true, "stream_options": {"include_usage": true}});
    let request = decode_request(sent.to_string().as_bytes()).unwrap();
    assert_eq!(body(&request), sent);
    assert_eq!(losses(&request), [""; 0]);
}

#[test]
fn instructions_take_the_role_that_model_and_host_know_and_the_billing_header_goes() {
    let system = turn(Role::System, vec![Part::text("x-anthropic-billing-header: v=1"), Part::text("be kind")]);
    let request = request(vec![system, turn(Role::User, vec![Part::text("hi")])]);
    let mut host = Host::default();
    assert_eq!(host.body(&request)["messages"][0], json!({"role": "system", "content": "be kind"}));
    host.traits.developer_role = true;
    assert_eq!(host.body(&request)["messages"][0]["role"], "developer");
    host.dialect.system_role = SystemRole::System;
    assert_eq!(host.body(&request)["messages"][0]["role"], "system");
    assert_eq!(host.losses(&request), [""; 0]);
}

#[test]
fn results_of_tools_say_errors_and_show_images_in_a_user_message_behind_all_results() {
    let calls = turn(Role::Assistant, vec![Part::text("go"), call("a", "f", ""), call("b", "f", "{\"x\":1}")]);
    let shown = result("a", vec![Part::text("see"), image()], None);
    let failed = result("b", vec![Part::text("boom")], Some(true));
    let request = request(vec![calls, turn(Role::Tool, vec![shown, failed]), turn(Role::User, vec![Part::text("?")])]);
    let messages = &body(&request)["messages"];
    assert_eq!(messages[0]["tool_calls"][0]["function"], json!({"name": "f", "arguments": "{}"}));
    assert_eq!(messages[1]["content"][1]["text"], "[image attached below]");
    assert_eq!(messages[2], json!({"role": "tool", "tool_call_id": "b", "content": "Error: boom"}));
    assert_eq!(messages[3]["content"][0]["image_url"]["url"], "data:image/png;base64,aGk=");
    assert_eq!(messages[4], json!({"role": "user", "content": "?"}));
    let expected = ["approximated=messages.content.tool_result", "approximated=messages.content.is_error"];
    assert_eq!(losses(&request), expected);
    assert!(Host::default().strict().encode(&request).is_err());
}

#[test]
fn thinking_is_sent_back_to_hosts_that_want_it_alone_and_never_its_proof() {
    let proof = Some(Opaque { issuer: Issuer::Anthropic, data: "sig".into() });
    let thinking = Part::new(PartKind::Thinking { text: "hm".into(), proof });
    let request = request(vec![
        turn(Role::User, vec![Part::text("hi")]),
        turn(Role::Assistant, vec![thinking, call("a", "f", "{}")]),
        turn(Role::Tool, vec![result("a", vec![], None)]),
    ]);
    let mut host = Host::default().strict();
    assert_eq!(host.body(&request)["messages"][1].get("reasoning_content"), None);
    host.dialect.replays_reasoning = true;
    assert_eq!(host.body(&request)["messages"][1]["reasoning_content"], "hm");
    assert!(!host.body(&request).to_string().contains("sig"));
}

#[test]
fn blocks_of_server_tools_are_dropped_or_refused_as_their_class_says() {
    let raw = |class| {
        let kind = PartKind::Raw { name: "server_tool_use".into(), value: json!({}), class };
        request(vec![
            turn(Role::Assistant, vec![Part::new(kind), Part::text("a")]),
            turn(Role::User, vec![Part::text("b")]),
        ])
    };
    assert_eq!(losses(&raw(FieldClass::Drop)), ["dropped=messages.content.server_tool_use"]);
    assert_eq!(losses(&raw(FieldClass::Silent)), [""; 0]);
    assert_eq!(refused(&raw(FieldClass::Refuse)).param.unwrap(), "messages.content.server_tool_use");
}

#[test]
fn documents_go_as_files_or_text_and_those_elsewhere_are_refused() {
    let with = |source| {
        let kind = PartKind::Document { source, title: Some("T".into()), context: None, citations: false };
        request(vec![turn(Role::User, vec![Part::new(kind)])])
    };
    let inline = |media_type: &str| Media::Inline { media_type: media_type.into(), data: "aGk=".into() };
    let pdf = with(DocumentSource::Media(inline("application/pdf")));
    let file = json!({"filename": "T", "file_data": "data:application/pdf;base64,aGk="});
    assert_eq!(body(&pdf)["messages"][0]["content"][0], json!({"type": "file", "file": file}));
    for text in [DocumentSource::Text("hi".into()), DocumentSource::Media(inline("text/plain"))] {
        assert_eq!(body(&with(text))["messages"][0]["content"], "T\n\nhi");
    }
    let parts = with(DocumentSource::Parts(vec![Part::text("a"), image()]));
    assert_eq!(losses(&parts), ["approximated=messages.content.document"]);
    for elsewhere in [Media::Url("https://a".into()), Media::FileId("f".into())] {
        let refusal = refused(&with(DocumentSource::Media(elsewhere)));
        assert_eq!((refusal.param.as_deref(), refusal.malformed), (Some("messages.content.document"), false));
    }
}

#[test]
fn images_by_url_go_where_the_host_fetches_them() {
    let kind = PartKind::Image { source: Media::Url("https://a/b.png".into()), detail: None };
    let request = request(vec![turn(Role::User, vec![Part::new(kind)])]);
    assert_eq!(body(&request)["messages"][0]["content"][0]["image_url"]["url"], "https://a/b.png");
    let dialect = Dialect { image_urls: false, ..Dialect::default() };
    let refusal = Host { dialect, ..Host::default() }.encode(&request).unwrap_err();
    assert_eq!(refusal.param.unwrap(), "messages.content.image");
}

#[test]
fn long_tool_names_are_cut_everywhere_and_mapped_back() {
    let name = "n".repeat(80);
    let mut request = request(vec![
        turn(Role::User, vec![Part::text("hi")]),
        turn(Role::Assistant, vec![call("a", &name, "{}")]),
        turn(Role::Tool, vec![result("a", vec![Part::text("1")], None)]),
    ]);
    request.tools = vec![tool(&name, json!({"properties": {}}))];
    request.tool_choice = Some(ToolChoice::Named(name.clone()));
    let encoded = Host::default().encode(&request).unwrap();
    let body: Value = serde_json::from_slice(&encoded.body).unwrap();
    let sent = body["tools"][0]["function"]["name"].as_str().unwrap();
    assert_eq!(sent.len(), 64);
    assert_eq!(body["messages"][1]["tool_calls"][0]["function"]["name"], sent);
    assert_eq!(body["tool_choice"]["function"]["name"], sent);
    assert_eq!(encoded.back.tool_name(sent), name);
    assert_eq!(body["tools"][0]["function"]["parameters"]["type"], "object");
}

#[test]
fn call_ids_keep_to_the_rules_of_the_host_on_calls_and_results_alike() {
    let calls = turn(Role::Assistant, vec![call("toolu_01", "f", "{}")]);
    let request = request(vec![calls, turn(Role::Tool, vec![result("toolu_01", vec![], None)])]);
    let dialect = Dialect { tool_call_ids: ToolCallIds::Alnum9, ..Dialect::default() };
    let body = Host { dialect, ..Host::default() }.body(&request);
    let id = body["messages"][0]["tool_calls"][0]["id"].as_str().unwrap();
    assert_eq!((id.len(), &body["messages"][1]["tool_call_id"]), (9, &json!(id)));
}

#[test]
fn hosted_tools_are_never_silently_missing() {
    let mut request = hi();
    request.tools = vec![hosted("web_search_20250305")];
    assert_eq!(refused(&request).param.unwrap(), "tools");
    request.tools.push(tool("f", json!({"type": "object"})));
    assert_eq!(losses(&request), ["dropped=tools.web_search_20250305"]);
    request.tool_choice = Some(ToolChoice::Named("x".into()));
    assert!(!refused(&request).malformed);
    request.tools = vec![hosted("tool_search_tool_regex_20251119"), tool("f", json!({}))];
    request.tool_choice = None;
    assert_eq!(losses(&request), ["approximated=tools.tool_search_tool_regex_20251119"]);
    request.tools = vec![hosted("bash_20250124"), tool("f", json!({}))];
    assert_eq!(refused(&request).param.unwrap(), "tools");
}

#[test]
fn strictness_of_tools_needs_a_host_and_a_schema_that_take_it() {
    let mut request = hi();
    let closed = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
    request.tools = vec![Tool { strict: Some(true), ..tool("f", closed) }];
    assert_eq!(body(&request)["tools"][0]["function"]["strict"], true);
    let dialect = Dialect { tool_strict: false, ..Dialect::default() };
    assert_eq!(Host { dialect, ..Host::default() }.losses(&request), ["dropped=tools.strict"]);
    request.tools = vec![Tool { strict: Some(true), ..tool("f", json!({"type": "object"})) }];
    assert_eq!(losses(&request), ["dropped=tools.strict"]);
}

#[test]
fn tool_choices_are_written_and_force_only_models_that_can_be_forced() {
    let mut request = hi();
    request.tools = vec![tool("f", json!({}))];
    request.parallel_tool_calls = Some(false);
    let mut host = Host::default();
    for (choice, expected) in [
        (ToolChoice::Auto, json!("auto")),
        (ToolChoice::None, json!("none")),
        (ToolChoice::Required, json!("required")),
        (ToolChoice::Named("f".into()), json!({"type": "function", "function": {"name": "f"}})),
        (
            ToolChoice::Allowed { names: vec!["f".into()], required: false },
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto",
                "tools": [{"type": "function", "function": {"name": "f"}}]}}),
        ),
    ] {
        request.tool_choice = Some(choice);
        assert_eq!(host.body(&request)["tool_choice"], expected);
    }
    request.tool_choice = Some(ToolChoice::Required);
    host.traits.forced_tool_choice = false;
    host.dialect.parallel_tool_calls = false;
    assert_eq!(host.body(&request)["tool_choice"], "auto");
    let expected = ["approximated=tool_choice", "dropped=tool_choice.disable_parallel_tool_use"];
    assert_eq!(host.losses(&request), expected);
}

#[test]
fn empty_tools_send_no_tool_fields() {
    let mut request = hi();
    request.tool_choice = Some(ToolChoice::Auto);
    request.parallel_tool_calls = Some(false);
    let expected = json!({"model": "gpt", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(body(&request), expected);
}

#[test]
fn the_output_cap_has_the_name_of_the_host_and_the_size_of_the_model() {
    let mut request = hi();
    request.output_cap = Some(128_000);
    let mut host = Host::default();
    assert_eq!(host.body(&request)["max_completion_tokens"], 128_000);
    host.dialect.max_tokens_field = MaxTokensField::MaxTokens;
    host.traits = Traits { known: true, max_output_tokens: 16_384, ..Traits::default() };
    assert_eq!(host.body(&request)["max_tokens"], 16_384);
    assert_eq!(host.losses(&request), ["clamped=max_tokens"]);
    request.output_cap = Some(0);
    assert_eq!(refused(&request).param.unwrap(), "max_tokens");
}

#[test]
fn models_without_sampling_or_stops_lose_them_aloud() {
    let mut request = hi();
    request.sampling = Sampling {
        temperature: Some(1.into()),
        top_p: serde_json::Number::from_f64(0.5),
        top_k: Some(3.into()),
        ..Sampling::default()
    };
    request.stop = vec!["x".into()];
    let mut host = Host::default();
    assert_eq!(host.losses(&request), ["dropped=top_k"]);
    host.traits = Traits { sampling: false, stop: false, ..Traits::default() };
    assert_eq!(host.losses(&request), ["dropped=top_p", "dropped=top_k", "dropped=stop_sequences"]);
    assert_eq!(host.body(&request).get("temperature"), None);
    host.traits = Traits { temperature_with_top_p: false, ..Traits::default() };
    assert_eq!(host.losses(&request), ["dropped=top_p", "dropped=top_k"]);
    request.stop = vec!["x".into(); 5];
    assert_eq!(host.encode(&request).unwrap_err().param.unwrap(), "stop_sequences");
}

#[test]
fn efforts_move_to_the_nearest_that_the_model_takes() {
    let effort = |host: &Host, word: &str| {
        let reasoning = Reasoning { effort: Some(word.into()), ..Reasoning::default() };
        host.body(&Request { reasoning: Some(reasoning), ..hi() })["reasoning_effort"].clone()
    };
    let host = Host::reasoning(&["low", "medium", "high"]);
    for (asked, got) in [("none", "low"), ("minimal", "low"), ("medium", "medium"), ("max", "high")] {
        assert_eq!(effort(&host, asked), got, "{asked}");
    }
    assert_eq!(effort(&Host::reasoning(&["none", "low"]), "none"), "none");
    assert_eq!(effort(&Host::default(), "high"), Value::Null);
}

#[test]
fn thinking_becomes_an_effort() {
    let with = |mode, effort: Option<&str>| {
        let reasoning = Reasoning { mode: Some(mode), effort: effort.map(Into::into), display: None };
        Request { reasoning: Some(reasoning), ..hi() }
    };
    let host = Host::reasoning(&["none", "low", "medium", "high", "xhigh"]);
    for (tokens, word) in [(1_024, "low"), (8_192, "medium"), (24_576, "high"), (60_000, "xhigh")] {
        assert_eq!(host.body(&with(ThinkingMode::Budget(tokens), None))["reasoning_effort"], word);
    }
    assert_eq!(host.losses(&with(ThinkingMode::Budget(1_024), None)), ["approximated=thinking"]);
    assert_eq!(host.body(&with(ThinkingMode::Adaptive, Some("high")))["reasoning_effort"], "high");
    assert_eq!(host.body(&with(ThinkingMode::Adaptive, None)).get("reasoning_effort"), None);
    assert_eq!(host.body(&with(ThinkingMode::Disabled, None))["reasoning_effort"], "none");
    assert_eq!(losses(&with(ThinkingMode::Adaptive, None)), ["dropped=thinking"]);
    assert_eq!(losses(&with(ThinkingMode::Disabled, None)), [""; 0]);
}

#[test]
fn models_that_take_tools_without_reasoning_alone_are_told_so() {
    let mut request = hi();
    request.tools = vec![tool("f", json!({}))];
    let mut host = Host::reasoning(&["none", "low", "high"]);
    host.traits.chat_tools_with_reasoning = false;
    assert_eq!(host.body(&request)["reasoning_effort"], "none");
    assert_eq!(host.losses(&request), ["approximated=tools"]);
    request.reasoning = Some(Reasoning { effort: Some("high".into()), ..Reasoning::default() });
    assert_eq!(host.body(&request)["reasoning_effort"], "none");
    assert_eq!(host.losses(&request), ["approximated=output_config.effort"]);
    assert_eq!(host.clone().strict().encode(&request).unwrap_err().param.unwrap(), "tools");
    host.traits.efforts = vec!["low".into()];
    assert!(host.encode(&request).is_err());
}

#[test]
fn a_schema_gets_a_name_and_is_strict_where_it_keeps_the_rules() {
    let with = |schema: Value| {
        let format = OutputFormat::JsonSchema { name: None, description: None, schema, strict: None };
        Request { format: Some(format), ..hi() }
    };
    let closed = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
    let format = body(&with(closed))["response_format"]["json_schema"].clone();
    assert_eq!((&format["name"], &format["strict"]), (&json!("response"), &json!(true)));
    let open = with(json!({"type": "object"}));
    assert_eq!(body(&open)["response_format"]["json_schema"]["strict"], false);
    assert_eq!(losses(&open), ["approximated=output_config.format"]);
    let dialect = Dialect { json_schema: false, ..Dialect::default() };
    assert!(Host { dialect, ..Host::default() }.encode(&open).is_err());
}

#[test]
fn callers_are_named_by_hash_and_their_session_keys_the_cache() {
    let mut request = hi();
    request.end_user.user_id = Some(r#"{"device_id":"d","session_id":"s-1"}"#.into());
    let sent = body(&request);
    assert_eq!(sent["safety_identifier"].as_str().unwrap().len(), 64);
    assert_eq!(sent["prompt_cache_key"], "s-1");
    request.end_user.user_id = Some("user_a_account__session_s-2".into());
    let sent = body(&request);
    assert_eq!(
        (&sent["safety_identifier"], &sent["prompt_cache_key"]),
        (&json!("user_a_account__session_s-2"), &json!("s-2"))
    );
    let dialect = Dialect { caller_fields: false, ..Dialect::default() };
    assert_eq!(Host { dialect, ..Host::default() }.body(&request).as_object().unwrap().len(), 2);
}

#[test]
fn cache_marks_go_to_models_that_take_them() {
    let marked = |ttl: Option<&str>| Part { cache: Some(CacheMark { ttl: ttl.map(Into::into) }), ..Part::text("a") };
    let mut request = request(vec![turn(Role::User, vec![marked(None), marked(Some("1h"))])]);
    assert_eq!(body(&request)["messages"][0]["content"][0], json!({"type": "text", "text": "a"}));
    let traits = Traits { prompt_cache_breakpoints: true, ..Traits::default() };
    let host = Host { traits, ..Host::default() };
    let sent = host.body(&request)["messages"][0]["content"].clone();
    assert_eq!(sent[0]["prompt_cache_breakpoint"], json!({"mode": "explicit"}));
    assert_eq!(host.losses(&request), ["approximated=messages.content.cache_control"]);
    request.turns[0].parts = vec![marked(None); 6];
    let sent = host.body(&request)["messages"][0]["content"].clone();
    let is_marked = |part: &Value| part.get("prompt_cache_breakpoint").is_some();
    let marks: Vec<bool> = sent.as_array().unwrap().iter().map(is_marked).collect();
    assert_eq!(marks, [false, false, true, true, true, true]);
}

#[test]
fn streams_ask_for_usage_where_the_host_wants_to_be_asked() {
    let request = Request { stream: true, ..hi() };
    assert_eq!(body(&request)["stream_options"], json!({"include_usage": true}));
    let dialect = Dialect { stream_usage: StreamUsage::Always, ..Dialect::default() };
    assert_eq!(Host { dialect, ..Host::default() }.body(&request).get("stream_options"), None);
}

#[test]
fn fields_of_another_shape_are_treated_as_their_class_says() {
    let with =
        |class| Request { other: vec![OtherField { path: "speed".into(), value: json!("fast"), class }], ..hi() };
    assert_eq!(losses(&with(FieldClass::Drop)), ["dropped=speed"]);
    assert_eq!(body(&with(FieldClass::Silent)).get("speed"), None);
    assert_eq!(refused(&with(FieldClass::Refuse)).param.unwrap(), "speed");
    assert!(Host::default().strict().encode(&with(FieldClass::Drop)).is_err());
}

#[test]
fn a_trailing_assistant_turn_is_refused_by_models_that_do_not_continue_it() {
    let request = request(vec![turn(Role::User, vec![Part::text("a")]), turn(Role::Assistant, vec![Part::text("b")])]);
    let traits = Traits { prefill: false, ..Traits::default() };
    let refusal = Host { traits, ..Host::default() }.encode(&request).unwrap_err();
    assert_eq!(refusal.param.unwrap(), "messages");
    assert_eq!(body(&request)["messages"][1], json!({"role": "assistant", "content": "b"}));
}

#[test]
fn a_longer_conversation_begins_with_the_same_messages() {
    let mut turns = vec![
        turn(Role::System, vec![Part::text("be")]),
        turn(Role::User, vec![Part::text("a"), image()]),
        turn(Role::Assistant, vec![call("a", "f.g", "{}")]),
        turn(Role::Tool, vec![result("a", vec![image()], None)]),
    ];
    let mut before = body(&request(turns.clone()))["messages"].as_array().unwrap().clone();
    for more in [turn(Role::Assistant, vec![Part::text("x")]), turn(Role::User, vec![Part::text("y")])] {
        turns.push(more);
        let after = body(&request(turns.clone()))["messages"].as_array().unwrap().clone();
        assert_eq!(after[..before.len()], before);
        before = after;
    }
}

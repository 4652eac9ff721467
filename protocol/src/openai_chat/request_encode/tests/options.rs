//! What tools, reasoning and the top-level options become.

use serde_json::{Value, json};

use super::*;

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

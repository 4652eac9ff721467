//! What turns become as messages.

use serde_json::{Value, json};

use super::*;

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

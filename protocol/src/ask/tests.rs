use super::*;

fn chat(body: &str) -> Ask {
    read(WireShape::OpenaiChat, body.as_bytes()).unwrap()
}

fn messages(body: &str) -> Ask {
    read(WireShape::AnthropicMessages, body.as_bytes()).unwrap()
}

fn refused(shape: WireShape, body: &str) -> (Option<String>, String) {
    let refusal = read(shape, body.as_bytes()).unwrap_err();
    assert!(refusal.malformed);
    (refusal.param, refusal.message)
}

#[test]
fn reads_what_a_chat_request_asks_for() {
    let ask = chat(
        r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":10,
            "max_completion_tokens":20,"n":2,"user":"u","safety_identifier":"s","prompt_cache_key":"k",
            "tools":[{"type":"function"},{"type":"function"}],"parallel_tool_calls":true,"reasoning_effort":"low",
            "response_format":{"type":"json_schema","json_schema":{}},"modalities":["text","audio"],
            "messages":[{"role":"system","content":"abc"},
                {"role":"user","content":[{"type":"text","text":"de"},{"type":"image_url","image_url":{"url":"data:"}},
                    {"type":"input_audio","input_audio":{}},{"type":"file","file":{}}]}]}"#,
    );
    assert_eq!(ask.model, "gpt-4o");
    assert!(ask.stream && ask.audio && !ask.legacy_functions);
    assert_eq!((ask.include_usage, ask.max_tokens, ask.answers), (Some(true), Some(20), 2));
    assert_eq!((ask.messages, ask.tools, ask.images, ask.documents), (2, 2, 1, 1));
    assert_eq!((ask.end_user.as_deref(), ask.cache_key.as_deref()), (Some("s"), Some("k")));
    let all = Needs {
        tools: true,
        parallel_tools: true,
        vision: true,
        documents: true,
        json_schema: true,
        reasoning: true,
        audio_in: true,
        audio_out: true,
    };
    assert_eq!(ask.needs, all);
}

#[test]
fn reads_what_a_messages_request_asks_for() {
    let ask = messages(
        r#"{"model":"claude-x","max_tokens":5,"stream":false,"system":[{"type":"text","text":"abc"}],
            "thinking":{"type":"adaptive"},"output_config":{"format":{"type":"json_schema","schema":{}},"effort":"low"},
            "metadata":{"user_id":"{\"device_id\":\"d\",\"session_id\":\"s1\"}"},"tools":[{"name":"a"}],
            "messages":[{"role":"user","content":[
                {"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"base64","data":"xx"}}]},
                {"type":"document","source":{"type":"text","data":"0123456789"}},
                {"type":"document","source":{"type":"base64","data":"0123456789"}}]}]}"#,
    );
    assert_eq!((ask.images, ask.documents, ask.tools, ask.max_tokens), (1, 1, 1, Some(5)));
    assert_eq!(ask.cache_key.as_deref(), Some("s1"));
    assert!(ask.needs.reasoning && ask.needs.json_schema && ask.needs.vision && !ask.needs.audio_in);
    assert_eq!(ask.text_bytes, 5 + 12 + r#"[{"name":"a"}]"#.len());
}

#[test]
fn the_last_of_two_keys_counts() {
    let ask = chat(
        r#"{"model":"a","stream":true,"messages":[{"role":"user","content":"long text"}],"stream":false,
            "messages":[{"role":"user","content":"x"}],"model":"b"}"#,
    );
    assert_eq!((ask.model.as_str(), ask.stream, ask.messages, ask.text_bytes), ("b", false, 1, 1));
}

#[test]
fn a_disabled_thinking_or_an_effort_of_none_asks_for_no_reasoning() {
    assert!(!messages(r#"{"model":"m","thinking":{"type":"disabled"},"messages":[{}]}"#).needs.reasoning);
    assert!(!chat(r#"{"model":"m","reasoning_effort":"none","messages":[{}]}"#).needs.reasoning);
    assert!(messages(r#"{"model":"m","output_config":{"effort":"high"},"messages":[{}]}"#).needs.reasoning);
}

#[test]
fn a_conversation_keeps_its_hash_while_it_grows() {
    let begin = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}"#;
    let first = chat(&format!("{begin}]}}"));
    let grown = chat(&format!(r#"{begin},{{"role":"assistant","content":"a"}},{{"role":"user","content":"v"}}]}}"#));
    let other = chat(r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"w"}]}"#);
    assert_eq!(first.conversation, grown.conversation);
    assert_ne!(first.conversation, other.conversation);
    let system = |text: &str| messages(&format!(r#"{{"model":"m","messages":[{{}}],"system":"{text}"}}"#)).conversation;
    assert_ne!(system("a"), system("b"));
}

#[test]
fn names_the_path_of_a_field_of_the_wrong_type() {
    use WireShape::{AnthropicMessages, OpenaiChat};
    let cases = [
        (OpenaiChat, r#"{"model":5,"messages":[]}"#, "model"),
        (OpenaiChat, r#"{"model":"m","stream":"yes","messages":[{}]}"#, "stream"),
        (OpenaiChat, r#"{"model":"m","messages":{}}"#, "messages"),
        (OpenaiChat, r#"{"model":"m","messages":[{},7]}"#, "messages[1]"),
        (OpenaiChat, r#"{"model":"m","messages":[{"role":"user","content":[{},"x"]}]}"#, "messages[0].content[1]"),
        (OpenaiChat, r#"{"model":"m","messages":[{"role":"user","content":5}]}"#, "messages[0].content"),
        (OpenaiChat, r#"{"model":"m","messages":[{"role":7}]}"#, "messages[0].role"),
        (
            OpenaiChat,
            r#"{"model":"m","stream_options":{"include_usage":1},"messages":[{}]}"#,
            "stream_options.include_usage",
        ),
        (AnthropicMessages, r#"{"model":"m","max_tokens":"9","messages":[{}]}"#, "max_tokens"),
        (AnthropicMessages, r#"{"model":"m","system":{},"messages":[{}]}"#, "system"),
        (OpenaiChat, r#"{"messages":[{}]}"#, "model"),
        (OpenaiChat, r#"{"model":"","messages":[{}]}"#, "model"),
        (OpenaiChat, r#"{"model":"m"}"#, "messages"),
    ];
    for (shape, body, path) in cases {
        assert_eq!(refused(shape, body).0.as_deref(), Some(path), "{body}");
    }
}

#[test]
fn broken_json_names_line_and_column() {
    let (param, message) = refused(WireShape::OpenaiChat, "{\"model\":\"m\",\n oops}");
    assert_eq!(param, None);
    assert!(message.contains("line 2"), "{message}");
    for body in ["", "[]", "null", "{\"model\":\"m\",\"messages\":[{}]} x", "{\"model\":\"m\",\"messages\":[{}"] {
        assert_eq!(refused(WireShape::OpenaiChat, body).0, None, "{body}");
    }
    assert!(read(WireShape::OpenaiChat, b"{\"model\":\"\xff\"}").unwrap_err().message.contains("UTF-8"));
}

#[test]
fn takes_what_it_does_not_know() {
    let ask = chat(
        r#"{"model":"m","messages":[{"role":"user","content":null,"x":1e999}],"fut\ud800ure":{"a":[1,{}]},"stream":null,
            "stream_options":null,"tools":[],"max_tokens":null,"n":null,"metadata":{"a":"\udc00"}}"#,
    );
    assert!(!ask.needs.tools && !ask.stream);
    assert_eq!((ask.max_tokens, ask.answers), (None, 1));
}

#[test]
fn reads_embedding_inputs_of_every_form() {
    let read = |input: &str| {
        let ask = read_embeddings(format!(r#"{{"model":"e","input":{input}}}"#).as_bytes()).unwrap();
        (ask.messages, ask.text_bytes)
    };
    assert_eq!(read(r#""abc""#), (1, 3));
    assert_eq!(read(r#"["abc","de"]"#), (2, 5));
    assert_eq!(read("[1,2,3]"), (1, 12));
    assert_eq!(read("[[1,2],[3]]"), (2, 12));
}

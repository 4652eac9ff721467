//! Writes a whole answer for a chat client.

use super::{
    outbound::{self, Form, Told},
    stop, usage,
};
use crate::{
    Loss,
    answer::{Answer, Block, Choice, Citation, StopReason},
    json::{Json, Object, json},
    request::{Issuer, Opaque, ToolCall},
    translate::AnswerContext,
};

/// Writes an answer. What chat cannot say is a loss.
pub fn encode_answer(answer: &Answer, context: &AnswerContext) -> (Vec<u8>, Vec<Loss>) {
    let mut losses = Vec::new();
    let encoded = answer.choices.iter().enumerate().map(|(index, one)| choice(index, one, context, &mut losses));
    let choices: Vec<Json<'_>> = encoded.collect();
    let mut body = Object::of([
        ("id", outbound::id(&answer.id, context).into()),
        ("object", "chat.completion".into()),
        ("created", answer.created.unwrap_or(context.created).into()),
        ("model", json!(&context.model)),
        ("choices", choices.into()),
    ]);
    body.put("usage", answer.usage.as_ref().map(usage::encode));
    body.put("service_tier", outbound::service_tier(answer.service_tier.as_deref()));
    (body.to_bytes(), losses)
}

fn choice<'a>(index: usize, choice: &'a Choice, context: &'a AnswerContext, losses: &mut Vec<Loss>) -> Json<'a> {
    let mut message = Message::default();
    for block in &choice.blocks {
        message.block(block, context, losses);
    }
    let told = Told { calls: message.has_calls(), refusal: message.refusal.is_some() };
    if let Some(stop) = choice.stop.as_ref().filter(|stop| stop.reason == StopReason::Refusal) {
        message.refusal.get_or_insert_with(|| stop::explanation(stop).to_owned());
    }
    let finish_reason = outbound::finish_reason(choice.stop.as_ref(), told, context, losses);
    json!({
        "index": index as u64,
        "message": message.encode(),
        "logprobs": choice.logprobs.as_ref(),
        "finish_reason": finish_reason,
    })
}

/// A message that grows block by block.
#[derive(Default)]
struct Message<'a> {
    text: Option<String>,
    /// Characters of the text so far: citations count them.
    length: u64,
    refusal: Option<String>,
    reasoning: String,
    thinking_blocks: Vec<Json<'a>>,
    /// Whether a block needs `thinking_blocks`: plain reasoning does not.
    has_proofs: bool,
    annotations: Vec<Json<'a>>,
    calls: Vec<Json<'a>>,
    function_call: Option<Json<'a>>,
}

impl<'a> Message<'a> {
    fn block(&mut self, block: &'a Block, context: &'a AnswerContext, losses: &mut Vec<Loss>) {
        match block {
            Block::Text { text, citations } => self.text(text, citations, losses),
            Block::Refusal(text) => self.refusal.get_or_insert_default().push_str(text),
            Block::Thinking { text, proof } => self.thinking(text, proof.as_ref()),
            Block::RedactedThinking(data) => {
                self.has_proofs = true;
                self.thinking_blocks.push(redacted_thinking(data));
            }
            Block::ToolCall(call) => self.call(call, context, losses),
            Block::Raw { name, .. } => outbound::lose_block(losses, name),
        }
    }

    fn text(&mut self, text: &str, citations: &'a [Citation], losses: &mut Vec<Loss>) {
        let from = self.length;
        self.length += text.chars().count() as u64;
        if self.has_calls() {
            outbound::lose(losses, Loss::approximated("content", "text after a tool call is told before it"));
        }
        self.text.get_or_insert_default().push_str(text);
        for citation in citations {
            match outbound::annotation(citation, (from, self.length)) {
                Some(annotation) => self.annotations.push(annotation),
                None => outbound::lose_block(losses, "citations"),
            }
        }
    }

    fn thinking(&mut self, text: &'a str, proof: Option<&Opaque>) {
        self.reasoning.push_str(text);
        self.has_proofs |= proof.is_some();
        self.thinking_blocks.push(thinking(text, proof));
    }

    fn call(&mut self, call: &'a ToolCall, context: &'a AnswerContext, losses: &mut Vec<Loss>) {
        let (name, id) = (context.back.tool_name(&call.name), context.back.tool_id(&call.id));
        let arguments = outbound::arguments(&call.arguments);
        match outbound::form(context, &call.name, call.kind) {
            Form::Function => self.calls.push(json!({"id": id, "type": "function",
                "function": {"name": name, "arguments": arguments}})),
            Form::Custom => self.calls.push(json!({"id": id, "type": "custom",
                "custom": {"name": name, "input": &call.arguments}})),
            Form::WrappedCustom => self.calls.push(json!({"id": id, "type": "custom",
                "custom": {"name": name, "input": outbound::custom_input(&call.arguments)}})),
            Form::Legacy if self.function_call.is_some() => outbound::lose_block(losses, "tool_use"),
            Form::Legacy => self.function_call = Some(json!({"name": name, "arguments": arguments})),
            Form::Text => self.text(arguments, &[], losses),
        }
    }

    fn has_calls(&self) -> bool {
        !self.calls.is_empty() || self.function_call.is_some()
    }

    /// Content is a string or null, and never missing.
    fn encode(self) -> Json<'a> {
        let silent = self.has_calls() || self.refusal.is_some();
        let content = self.text.or_else(|| (!silent).then(String::new));
        let mut message =
            Object::of([("role", "assistant".into()), ("content", content.into()), ("refusal", self.refusal.into())]);
        message.put("reasoning_content", Some(self.reasoning).filter(|text| !text.is_empty()));
        message.put("thinking_blocks", Some(self.thinking_blocks).filter(|_| self.has_proofs));
        message.put("function_call", self.function_call);
        message.put("annotations", Some(self.annotations).filter(|list| !list.is_empty()));
        message.put("tool_calls", Some(self.calls).filter(|list| !list.is_empty()));
        message.into()
    }
}

/// A block of reasoning with what proves it, to be sent back on the next turn.
pub(super) fn thinking<'a>(text: &'a str, proof: Option<&Opaque>) -> Json<'a> {
    let mut block = json!({"type": "thinking", "thinking": text});
    if let Some(proof) = proof {
        block.set("signature", proof.tagged(Issuer::Anthropic));
    }
    block
}

pub(super) fn redacted_thinking(data: &Opaque) -> Json<'static> {
    json!({"type": "redacted_thinking", "data": data.tagged(Issuer::Anthropic)})
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::decode_answer, *};
    use crate::{answer::Stop, request::ToolKind, usage::Usage};

    fn answer(blocks: Vec<Block>, reason: StopReason) -> Answer {
        let choice = Choice { blocks, stop: Some(Stop::new(reason)), logprobs: None };
        Answer { id: "msg_1".into(), choices: vec![choice], ..Answer::default() }
    }

    fn context() -> AnswerContext {
        AnswerContext { model: "mine".into(), created: 5, fallback_id: "chatcmpl-x".into(), ..AnswerContext::default() }
    }

    fn written(answer: &Answer, context: &AnswerContext) -> Value {
        serde_json::from_slice(&encode_answer(answer, context).0).unwrap()
    }

    fn message(answer: &Answer, context: &AnswerContext) -> Value {
        written(answer, context)["choices"][0]["message"].clone()
    }

    fn text(text: &str) -> Block {
        Block::Text { text: text.into(), citations: vec![] }
    }

    fn call(id: &str, name: &str, arguments: &str) -> Block {
        let kind = ToolKind::Function;
        Block::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), kind })
    }

    #[test]
    fn an_answer_has_the_callers_model_and_every_field_that_sdks_need() {
        let usage = Some(Usage { input: 1, cache_read: 2, output: 3, ..Usage::default() });
        let told =
            Answer { usage, service_tier: Some("standard".into()), ..answer(vec![text("a")], StopReason::EndTurn) };
        let expected = json!({"id": "chatcmpl-x", "object": "chat.completion", "created": 5, "model": "mine",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a", "refusal": null},
                "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6,
                "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}},
            "service_tier": "default"});
        assert_eq!(written(&told, &context()), expected);
    }

    #[test]
    fn content_is_null_beside_calls_and_empty_where_nothing_was_said() {
        let calls = message(&answer(vec![call("a", "f", "")], StopReason::ToolUse), &context());
        assert_eq!((&calls["content"], &calls["tool_calls"][0]["function"]["arguments"]), (&Value::Null, &json!("{}")));
        assert_eq!(message(&answer(vec![], StopReason::EndTurn), &context())["content"], "");
    }

    #[test]
    fn reasoning_comes_back_with_its_proof_unchanged() {
        let proof = Opaque { issuer: Issuer::Anthropic, data: "s1g==".into() };
        let google = Opaque { issuer: Issuer::Google, data: "g".into() };
        let blocks =
            vec![Block::Thinking { text: "hm".into(), proof: Some(proof) }, Block::RedactedThinking(google), text("a")];
        let told = answer(blocks.clone(), StopReason::EndTurn);
        let message = message(&told, &context());
        assert_eq!(message["reasoning_content"], "hm");
        assert_eq!(message["thinking_blocks"][0]["signature"], "s1g==");
        let back = decode_answer(&encode_answer(&told, &context()).0).unwrap();
        assert_eq!(back.choices[0].blocks, blocks);
    }

    #[test]
    fn a_refusal_is_told_with_its_explanation() {
        let mut told = answer(vec![], StopReason::Refusal);
        let refused = message(&told, &context());
        assert_eq!(
            (&refused["content"], &refused["refusal"]),
            (&Value::Null, &json!("The model declined to respond."))
        );
        told.choices[0].stop.as_mut().unwrap().details = Some(json!({"explanation": "no"}));
        assert_eq!(message(&told, &context())["refusal"], "no");
        assert_eq!(written(&told, &context())["choices"][0]["finish_reason"], "content_filter");
    }

    #[test]
    fn what_the_request_changed_is_undone() {
        let mut context = context();
        context.back.tool_names.insert("cut".into(), "long".into());
        context.back.custom_tools.insert("free".into());
        let told = answer(vec![call("a", "cut", "{}"), call("b", "free", "{\"input\":\"x\"}")], StopReason::ToolUse);
        let calls = message(&told, &context)["tool_calls"].clone();
        assert_eq!(calls[0]["function"]["name"], "long");
        assert_eq!(calls[1], json!({"id": "b", "type": "custom", "custom": {"name": "free", "input": "x"}}));
        context.back.json_tool = Some("json_response".into());
        let told = answer(vec![call("a", "json_response", "{\"x\":1}")], StopReason::ToolUse);
        let choice = written(&told, &context)["choices"][0].clone();
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("{\"x\":1}"), &json!("stop")));
    }

    #[test]
    fn callers_of_functions_are_answered_in_kind() {
        let context = AnswerContext { legacy_functions: true, ..context() };
        let told = answer(vec![call("a", "f", "{}"), call("b", "g", "{}")], StopReason::ToolUse);
        let (body, losses) = encode_answer(&told, &context);
        let choice = serde_json::from_slice::<Value>(&body).unwrap()["choices"][0].clone();
        assert_eq!(choice["message"]["function_call"], json!({"name": "f", "arguments": "{}"}));
        assert_eq!((&choice["finish_reason"], losses.len()), (&json!("function_call"), 1));
    }

    #[test]
    fn citations_count_characters_of_the_whole_content() {
        let url = Citation::Url { url: "u".into(), title: None, cited_text: None, span: None, raw: json!({}) };
        let cited = Block::Text { text: "\u{e4}b".into(), citations: vec![url, Citation::Other(json!({}))] };
        let told = answer(vec![text("xy"), cited], StopReason::EndTurn);
        let (body, losses) = encode_answer(&told, &context());
        let message = serde_json::from_slice::<Value>(&body).unwrap()["choices"][0]["message"].clone();
        let expected = json!({"url": "u", "title": "u", "start_index": 2, "end_index": 4});
        assert_eq!(message["annotations"][0]["url_citation"], expected);
        assert_eq!((message["content"].as_str(), losses.len()), (Some("xy\u{e4}b"), 1));
    }

    #[test]
    fn reasons_and_blocks_that_chat_does_not_know_are_losses() {
        let raw = Block::Raw { name: "server_tool_use".into(), value: json!({}) };
        let (_, losses) = encode_answer(&answer(vec![raw], StopReason::PauseTurn), &context());
        let fields: Vec<&str> = losses.iter().map(|loss| loss.field.as_str()).collect();
        assert_eq!(fields, ["content.server_tool_use", "stop_reason"]);
    }
}

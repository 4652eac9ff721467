//! Reads the messages of a chat request into turns.
//!
//! Consecutive tool messages become one turn. The functions that preceded tools have no ids: they get `fc_<n>`, counted
//! over the conversation, so that a longer conversation begins with the same ids.

use super::{
    super::reasoning::{Thought, thoughts},
    At, parts,
};
use crate::{
    Refusal,
    json::Json,
    request::{FieldClass, Part, PartKind, Role, ToolCall, ToolKind, ToolResult, Turn},
};

/// All messages. Errs where there is none.
pub(super) fn decode(messages: &At<'_>) -> Result<Vec<Turn>, Refusal> {
    let list = messages.list()?;
    if list.len() == 0 {
        return Err(messages.wrong("an array of at least one message"));
    }
    let mut reader = Reader::default();
    for message in list {
        reader.message(&message)?;
    }
    Ok(reader.turns)
}

#[derive(Default)]
struct Reader {
    turns: Vec<Turn>,
    /// How many calls of legacy functions were seen.
    legacy_calls: usize,
    /// Those without a result yet: name and id.
    unanswered: Vec<(String, String)>,
}

impl Reader {
    fn message(&mut self, message: &At<'_>) -> Result<(), Refusal> {
        let role = message.need("role")?;
        match role.str()? {
            "system" => self.turn(Role::System, message, parts::content(message)?),
            "developer" => self.turn(Role::Developer, message, parts::content(message)?),
            "user" => self.turn(Role::User, message, parts::content(message)?),
            "assistant" => {
                let parts = self.assistant(message)?;
                self.turn(Role::Assistant, message, parts)
            }
            "tool" => {
                let id = message.need("tool_call_id")?.string()?;
                self.result(message, id)
            }
            "function" => {
                let id = self.answered(message.need("name")?.str()?);
                self.result(message, id)
            }
            _ => Err(role.wrong("one of system, developer, user, assistant, tool, function")),
        }
    }

    fn turn(&mut self, role: Role, message: &At<'_>, parts: Vec<Part>) -> Result<(), Refusal> {
        self.turns.push(Turn { role, name: message.opt("name", At::string)?, parts });
        Ok(())
    }

    fn result(&mut self, message: &At<'_>, call_id: String) -> Result<(), Refusal> {
        let result = ToolResult { call_id, content: parts::content(message)?, is_error: None };
        let part = Part { kind: PartKind::ToolResult(result), cache: parts::mark(message)? };
        match self.turns.last_mut() {
            Some(turn) if turn.role == Role::Tool => turn.parts.push(part),
            _ => self.turns.push(Turn { role: Role::Tool, name: None, parts: vec![part] }),
        }
        Ok(())
    }

    /// Reasoning first, then what was said, then calls: the order in which models give them.
    fn assistant(&mut self, message: &At<'_>) -> Result<Vec<Part>, Refusal> {
        let mut all: Vec<Part> = thoughts(message.object()?).into_iter().map(thought).collect();
        all.extend(parts::content(message)?);
        if let Some(refusal) = message.opt("refusal", At::string)?.filter(|text| !text.is_empty()) {
            all.push(Part::new(PartKind::Refusal(refusal)));
        }
        if let Some(audio) = message.get("audio") {
            let (name, value) = ("audio".to_owned(), audio.value().to_value());
            all.push(Part::new(PartKind::Raw { name, value, class: FieldClass::Refuse }));
        }
        if let Some(calls) = message.get("tool_calls") {
            for call in calls.list()? {
                all.push(Part::new(PartKind::ToolCall(tool_call(&call)?)));
            }
        }
        if let Some(call) = message.get("function_call") {
            all.push(Part::new(PartKind::ToolCall(self.function_call(&call)?)));
        }
        Ok(all)
    }

    fn function_call(&mut self, call: &At<'_>) -> Result<ToolCall, Refusal> {
        let id = format!("fc_{}", self.legacy_calls);
        let name = call.need("name")?.string()?;
        self.legacy_calls += 1;
        self.unanswered.push((name.clone(), id.clone()));
        Ok(ToolCall { id, name, arguments: arguments(call)?, kind: ToolKind::Function })
    }

    /// The id of the oldest unanswered call of a function; an orphan result gets an id that no call has.
    fn answered(&mut self, name: &str) -> String {
        match self.unanswered.iter().position(|(called, _)| called == name) {
            Some(index) => self.unanswered.remove(index).1,
            None => format!("fc_{name}"),
        }
    }
}

fn thought(thought: Thought) -> Part {
    Part::new(match thought {
        Thought::Thinking(text, proof) => PartKind::Thinking { text, proof },
        Thought::Redacted(data) => PartKind::RedactedThinking(data),
    })
}

fn tool_call(call: &At<'_>) -> Result<ToolCall, Refusal> {
    let id = call.need("id")?.string()?;
    if let Some(custom) = call.get("custom") {
        let arguments = custom.opt("input", At::string)?.unwrap_or_default();
        return Ok(ToolCall { id, name: custom.need("name")?.string()?, arguments, kind: ToolKind::Custom });
    }
    let function = call.need("function")?;
    let name = function.need("name")?.string()?;
    Ok(ToolCall { id, name, arguments: arguments(&function)?, kind: ToolKind::Function })
}

/// The raw text of the arguments, which must be an object. Nothing means no arguments, and so does the `null` that some
/// models give for a function without parameters.
fn arguments(function: &At<'_>) -> Result<String, Refusal> {
    let Some(at) = function.get("arguments") else { return Ok(String::new()) };
    let text = at.str()?;
    if text.trim() == "null" {
        return Ok(String::new());
    }
    if !text.trim().is_empty() && !Json::parse_str(text).is_ok_and(|arguments| arguments.is_object()) {
        return Err(at.wrong("the JSON text of an object"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn turns(messages: Value) -> Result<Vec<Turn>, Refusal> {
        let body = json!({"messages": messages});
        decode(&At::root(&Json::from(&body)).need("messages").unwrap())
    }

    fn call(id: &str, name: &str, arguments: &str, kind: ToolKind) -> Part {
        Part::new(PartKind::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), kind }))
    }

    fn result(call_id: &str, text: &str) -> Part {
        let content = vec![Part::text(text)];
        Part::new(PartKind::ToolResult(ToolResult { call_id: call_id.into(), content, is_error: None }))
    }

    #[test]
    fn roles_keep_their_order_and_names() {
        let got = turns(json!([{"role": "developer", "content": "be"}, {"role": "user", "name": "ann", "content": ""},
            {"role": "system", "content": [{"type": "text", "text": "b"}]}]))
        .unwrap();
        let turn = |role, name: Option<&str>, parts| Turn { role, name: name.map(Into::into), parts };
        let expected = [
            turn(Role::Developer, None, vec![Part::text("be")]),
            turn(Role::User, Some("ann"), vec![]),
            turn(Role::System, None, vec![Part::text("b")]),
        ];
        assert_eq!(got, expected);
        assert_eq!(turns(json!([{"role": "robot"}])).unwrap_err().param.unwrap(), "messages[0].role");
    }

    #[test]
    fn calls_and_results_are_read_and_consecutive_results_share_a_turn() {
        let got = turns(json!([
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": " {\"x\": 1}"}},
                {"id": "b", "type": "custom", "custom": {"name": "g", "input": "free"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
            {"role": "user", "content": "go"}]))
        .unwrap();
        let thinking = Part::new(PartKind::Thinking { text: "hm".into(), proof: None });
        let calls = [call("a", "f", " {\"x\": 1}", ToolKind::Function), call("b", "g", "free", ToolKind::Custom)];
        assert_eq!(got[0].parts, [&[thinking][..], &calls].concat());
        assert_eq!(got[1], Turn { role: Role::Tool, name: None, parts: vec![result("a", "1"), result("b", "2")] });
        assert_eq!(got.len(), 3);
    }

    #[test]
    fn arguments_must_be_the_text_of_an_object_or_empty() {
        let with = |arguments: Value| {
            turns(json!([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}]}]))
        };
        for bad in [json!("{"), json!("[]"), json!("1"), json!({})] {
            assert_eq!(with(bad).unwrap_err().param.unwrap(), "messages[1].tool_calls[0].function.arguments");
        }
        for none in ["", "null"] {
            assert_eq!(with(json!(none)).unwrap()[1].parts, [call("a", "f", "", ToolKind::Function)]);
        }
    }

    #[test]
    fn legacy_functions_get_ids_that_tie_results_to_calls() {
        let calls = |name: &str| json!({"role": "assistant", "content": null, "function_call": {"name": name, "arguments": "{}"}});
        let got = turns(json!([calls("f"), {"role": "function", "name": "f", "content": "1"}, calls("f"),
            {"role": "function", "name": "f", "content": "2"}]))
        .unwrap();
        assert_eq!(got[0].parts, [call("fc_0", "f", "{}", ToolKind::Function)]);
        assert_eq!(got[1].parts, [result("fc_0", "1")]);
        assert_eq!(got[2].parts, [call("fc_1", "f", "{}", ToolKind::Function)]);
        assert_eq!(got[3].parts, [result("fc_1", "2")]);
    }

    #[test]
    fn refusals_and_spoken_answers_of_earlier_turns_are_kept() {
        let got = turns(json!([{"role": "assistant", "content": null, "refusal": "no", "audio": {"id": "audio_1"}}]))
            .unwrap();
        let audio = PartKind::Raw { name: "audio".into(), value: json!({"id": "audio_1"}), class: FieldClass::Refuse };
        assert_eq!(got[0].parts, [Part::new(PartKind::Refusal("no".into())), Part::new(audio)]);
    }
}

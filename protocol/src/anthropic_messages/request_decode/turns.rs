//! Reads `system` and `messages` into turns: results of tools get turns of their own, system turns may stand anywhere.

use serde_json::Value;

use super::{Others, blocks, tools};
use crate::{
    Refusal,
    anthropic_messages::fields::{Fields, at, wrong},
    json::Json,
    request::{FieldClass, Part, PartKind, Role, Turn},
};

/// How Claude Code begins the system block that changes with its every build.
pub(super) const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// The turns of a request, the system prompt first.
pub(super) fn turns(fields: &mut Fields<'_>, others: &mut Others) -> Result<Vec<Turn>, Refusal> {
    let mut turns = Vec::new();
    if let Some(system) = fields.take("system") {
        turns.push(turn(Role::System, system_parts(system, "system", others)?));
    }
    let path = fields.path("messages");
    match fields.required("messages")? {
        Json::Array(messages) => {
            for (index, message) in messages.into_iter().enumerate() {
                turns.extend(message_turns(message, &at(&path, index), others)?);
            }
        }
        other => return Err(wrong(&path, "an array", &other)),
    }
    Ok(turns)
}

fn message_turns(message: Json<'_>, path: &str, others: &mut Others) -> Result<Vec<Turn>, Refusal> {
    let mut message = Fields::of(message, path)?;
    let role = message.required_text("role")?;
    if role == "system" {
        return system_turns(message, others);
    }
    let content = message.required("content")?;
    let content_path = message.path("content");
    let turns = match role.as_str() {
        "user" => by_speaker(blocks::parts(content, &content_path, others)?),
        "assistant" => vec![turn(Role::Assistant, blocks::parts(content, &content_path, others)?)],
        _ => {
            let path = message.path("role");
            let message = format!("`{path}` must be `user`, `assistant` or `system`, not `{role}`");
            return Err(Refusal::malformed(path, message));
        }
    };
    others.rest(message, FieldClass::Silent);
    Ok(turns)
}

/// A system message within the conversation: it may say nothing and only change how the turns after it are answered.
fn system_turns(mut message: Fields<'_>, others: &mut Others) -> Result<Vec<Turn>, Refusal> {
    let content_path = message.path("content");
    let turns = match message.take("content") {
        Some(content) => vec![turn(Role::System, system_parts(content, &content_path, others)?)],
        None => Vec::new(),
    };
    for (path, value) in message.rest() {
        let class = match path.rsplit('.').next() {
            Some("output_config") => FieldClass::Drop,
            Some("clear_at") if value != "never" => FieldClass::Drop,
            _ => FieldClass::Silent,
        };
        others.add(&path, value, class);
    }
    Ok(turns)
}

/// One turn a run of tool results or of what the user says, in their order.
fn by_speaker(parts: Vec<Part>) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for part in parts {
        let role = if matches!(part.kind, PartKind::ToolResult(_)) { Role::Tool } else { Role::User };
        match turns.last_mut().filter(|turn| turn.role == role) {
            Some(turn) => turn.parts.push(part),
            None => turns.push(turn(role, vec![part])),
        }
    }
    if turns.is_empty() { vec![turn(Role::User, Vec::new())] } else { turns }
}

/// The blocks of a system prompt. Tools that are added here count as declared, and Claude Code's billing block is kept
/// for its own provider alone: elsewhere it would break the prompt cache with every build.
fn system_parts(content: Json<'_>, path: &str, others: &mut Others) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::new();
    for mut part in blocks::parts(content, path, others)? {
        match &part.kind {
            PartKind::Text { text, .. } if text.starts_with(BILLING_HEADER) => {
                let value = serde_json::json!({"type": "text", "text": text});
                part.kind = PartKind::Raw { name: BILLING_HEADER.to_owned(), value, class: FieldClass::Silent };
            }
            PartKind::Raw { name, value, .. } if name == "tool_addition" => added_tool(value, path, others)?,
            _ => {}
        }
        parts.push(part);
    }
    Ok(parts)
}

/// A tool that is defined within the conversation. A reference to one that was declared at the top adds nothing.
fn added_tool(block: &Value, path: &str, others: &mut Others) -> Result<(), Refusal> {
    let Some(definition) = block["tool"].get("definition") else { return Ok(()) };
    let tool = tools::tool(Json::from(definition), &format!("{path}.tool.definition"))?;
    others.late_tools.push(tool);
    Ok(())
}

fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, name: None, parts }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(value: Value) -> (Vec<Turn>, Others) {
        let mut others = Others::default();
        let mut fields = Fields::of(Json::from(&value), "").expect("an object");
        let turns = turns(&mut fields, &mut others).expect("good turns");
        (turns, others)
    }

    fn roles(turns: &[Turn]) -> Vec<Role> {
        turns.iter().map(|turn| turn.role).collect()
    }

    #[test]
    fn a_system_message_that_only_changes_the_effort_says_nothing_and_is_told() {
        let (turns, others) = decode(json!({"messages": [
            {"role": "user", "content": "hi"},
            {"role": "system", "output_config": {"effort": "low"}, "clear_at": "never"},
        ]}));
        assert_eq!(roles(&turns), [Role::User]);
        let classes: Vec<_> = others.fields.values().map(|field| (field.path.as_str(), field.class)).collect();
        let expected = [("messages.clear_at", FieldClass::Silent), ("messages.output_config", FieldClass::Drop)];
        assert_eq!(classes, expected);
    }

    #[test]
    fn splits_tool_results_from_what_the_user_says() {
        let (turns, _) = decode(json!({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "1"},
            {"type": "tool_result", "tool_use_id": "b", "content": "2"},
            {"type": "text", "text": "go on"},
        ]}]}));
        assert_eq!(roles(&turns), [Role::Tool, Role::User]);
        assert_eq!(turns[0].parts.len(), 2);
        assert_eq!(turns[1].parts, [Part::text("go on")]);
    }

    #[test]
    fn keeps_system_turns_where_they_stand() {
        let (turns, _) = decode(json!({"system": [{"type": "text", "text": "a"}], "messages": [
            {"role": "user", "content": "b"}, {"role": "system", "content": [{"type": "text", "text": "c"}]},
            {"role": "assistant", "content": "d"},
        ]}));
        assert_eq!(roles(&turns), [Role::System, Role::User, Role::System, Role::Assistant]);
    }

    #[test]
    fn keeps_the_billing_block_for_its_own_provider() {
        let (turns, _) = decode(json!({"system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=1"}, {"type": "text", "text": "be kind"},
        ], "messages": []}));
        let PartKind::Raw { name, class, .. } = &turns[0].parts[0].kind else { panic!("not raw") };
        assert_eq!((name.as_str(), *class), (BILLING_HEADER, FieldClass::Silent));
        assert_eq!(turns[0].parts[1], Part::text("be kind"));
    }

    #[test]
    fn a_tool_that_is_added_on_the_way_is_declared() {
        let definition = json!({"name": "late", "input_schema": {"type": "object"}});
        let (_, others) = decode(json!({"messages": [{"role": "system", "content": [
            {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}},
            {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "early"}},
        ]}]}));
        assert_eq!(others.late_tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["late"]);
    }

    #[test]
    fn names_the_message_without_content() {
        let value = json!({"messages": [{"role": "user", "content": "a"}, {"role": "user"}]});
        let mut fields = Fields::of(Json::from(&value), "").expect("object");
        let refusal = turns(&mut fields, &mut Others::default()).expect_err("no content");
        assert_eq!(refusal.param.as_deref(), Some("messages[1].content"));
    }

    #[test]
    fn refuses_a_role_that_does_not_exist() {
        let value = json!({"messages": [{"role": "tool", "content": "a"}]});
        let mut fields = Fields::of(Json::from(&value), "").expect("object");
        let refusal = turns(&mut fields, &mut Others::default()).expect_err("no such role");
        assert_eq!(refusal.param.as_deref(), Some("messages[0].role"));
    }
}

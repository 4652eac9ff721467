//! Writes the tools that may be called and which of them must be.

use std::borrow::Cow;

use serde_json::Value;

use super::{Scope, cache_marks::marked};
use crate::{
    Loss, Refusal,
    anthropic_messages::names,
    json::{Json, Object, json},
    request::{OtherField, Tool, ToolChoice, ToolInput},
    translate::Back,
};

/// Writes `tools` and `tool_choice`.
pub(super) fn tools<'a>(
    scope: Scope<'a>,
    thinks: bool,
    body: &mut Object<'a>,
    back: &mut Back,
    losses: &mut Vec<Loss>,
) -> Result<(), Refusal> {
    let mut sent = Vec::new();
    for tool in &scope.request.tools {
        if is_allowed(scope, tool) {
            sent.extend(encode(scope, tool, back, losses)?);
        }
    }
    if sent.is_empty() {
        if matches!(scope.request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
            losses.push(Loss::dropped(choice_word(scope), "there are no tools to choose from"));
        }
        return Ok(());
    }
    if let Some(choice) = choice(scope, thinks, losses) {
        body.insert("tool_choice", choice);
    }
    body.insert("tools", sent);
    Ok(())
}

/// Whether an `allowed_tools` choice lets a tool through. One that names an unknown tool lets all through.
fn is_allowed(scope: Scope, tool: &Tool) -> bool {
    let Some(ToolChoice::Allowed { names, .. }) = &scope.request.tool_choice else { return true };
    let is_known = |name: &String| scope.request.tools.iter().any(|tool| tool.name == *name);
    !names.iter().all(is_known) || names.contains(&tool.name)
}

fn encode<'a>(
    scope: Scope<'a>,
    tool: &'a Tool,
    back: &mut Back,
    losses: &mut Vec<Loss>,
) -> Result<Option<Json<'a>>, Refusal> {
    let name = names::wire_name(&tool.name);
    if let Cow::Owned(sent) = &name {
        back.tool_names.insert(sent.clone(), tool.name.clone());
    }
    let schema = match &tool.input {
        ToolInput::Hosted(value) if scope.native() => {
            return Ok(Some(marked(value.into(), tool.cache.as_ref(), scope, losses)));
        }
        ToolInput::Hosted(_) => {
            return Err(scope.refuse("tools", &format!("`{}` is run by its own provider alone", tool.name)));
        }
        ToolInput::Schema(schema) => input_schema(schema.as_ref()),
        ToolInput::Custom(format) => {
            back.custom_tools.insert(name.clone().into_owned());
            if format.as_ref().is_some_and(|format| format["type"] != "text") {
                losses.push(Loss::dropped("tools.custom.format", "free input is not bound to a grammar"));
            }
            free_input()
        }
    };
    let mut sent = Object::of([("name", name.into())]);
    sent.put("description", tool.description.as_ref().filter(|description| !description.is_empty()));
    sent.push("input_schema", schema);
    sent.put("strict", tool.strict);
    other_fields(scope, tool, &mut sent, losses)?;
    Ok(Some(marked(sent.into(), tool.cache.as_ref(), scope, losses)))
}

fn other_fields<'a>(
    scope: Scope,
    tool: &'a Tool,
    sent: &mut Object<'a>,
    losses: &mut Vec<Loss>,
) -> Result<(), Refusal> {
    for field in &tool.other {
        if scope.native() {
            sent.insert(&field.path, &field.value);
        } else {
            scope.other(&OtherField { path: format!("tools.{}", field.path), ..field.clone() }, losses)?;
        }
    }
    Ok(())
}

/// A schema with the `type` that is required here.
pub(super) fn input_schema(schema: Option<&Value>) -> Json<'_> {
    match schema {
        Some(Value::Object(schema)) if schema.contains_key("type") => Object::from(schema).into(),
        Some(Value::Object(schema)) => {
            let mut typed = Object::of([("type", "object".into())]);
            Object::from(schema).into_iter().for_each(|(name, value)| typed.push(name, value));
            typed.into()
        }
        _ => json!({"type": "object", "properties": {}}),
    }
}

/// The schema of a tool that takes free text: its answers are unwrapped again.
fn free_input() -> Json<'static> {
    json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]})
}

fn choice<'a>(scope: Scope<'a>, thinks: bool, losses: &mut Vec<Loss>) -> Option<Json<'a>> {
    let alone = scope.request.parallel_tool_calls == Some(false);
    let mut choice = match &scope.request.tool_choice {
        None if !alone => return None,
        None | Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => json!({"type": "auto"}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => {
            forced(scope, thinks, json!({"type": "any"}), losses)
        }
        Some(ToolChoice::Named(name)) => {
            forced(scope, thinks, json!({"type": "tool", "name": names::wire_name(name)}), losses)
        }
    };
    if alone {
        choice.set("disable_parallel_tool_use", true);
    }
    Some(choice)
}

/// A choice that forces a call, where the model can be forced.
fn forced<'a>(scope: Scope, thinks: bool, choice: Json<'a>, losses: &mut Vec<Loss>) -> Json<'a> {
    let why = match (scope.native(), scope.target.traits.forced_tool_choice, thinks) {
        (true, _, _) | (false, true, false) => return choice,
        (false, false, _) => "the model cannot be made to call a tool: it decides",
        (false, true, true) => "the model cannot be made to call a tool while it thinks: it decides",
    };
    losses.push(Loss::approximated(choice_word(scope), why));
    json!({"type": "auto"})
}

/// What the caller calls the choice of a tool.
fn choice_word(scope: Scope<'_>) -> &'static str {
    if scope.request.legacy_functions { "function_call" } else { "tool_choice" }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::testing::{chat, encode_for, encoded, named, refused, traits},
        *,
    };
    use crate::{
        LossKind, ReasoningStyle, Strictness, Traits,
        request::{Reasoning, Request},
    };

    fn tool(name: &str, input: ToolInput) -> Tool {
        Tool { name: name.into(), description: None, input, strict: None, cache: None, other: Vec::new() }
    }

    fn with(tools: Vec<Tool>, choice: Option<ToolChoice>) -> Request {
        Request { tools, tool_choice: choice, ..chat() }
    }

    fn plain(name: &str) -> Tool {
        tool(name, ToolInput::Schema(None))
    }

    fn choice_of(choice: ToolChoice, traits: &Traits) -> (Value, Vec<Loss>) {
        let (body, losses) = encoded(&with(vec![plain("f"), plain("g")], Some(choice)), traits);
        (body["tool_choice"].clone(), losses)
    }

    #[test]
    fn a_schema_gets_the_type_that_is_required() {
        let untyped = json!({"properties": {"a": {"type": "string"}}});
        let (body, _) = encoded(&with(vec![plain("f"), tool("g", ToolInput::Schema(Some(untyped)))], None), &traits());
        assert_eq!(body["tools"][0], json!({"name": "f", "input_schema": {"type": "object", "properties": {}}}));
        assert_eq!(
            body["tools"][1]["input_schema"],
            json!({"type": "object", "properties": {"a": {"type": "string"}}})
        );
    }

    #[test]
    fn every_choice_has_its_word() {
        assert_eq!(choice_of(ToolChoice::Auto, &traits()).0, json!({"type": "auto"}));
        assert_eq!(choice_of(ToolChoice::None, &traits()).0, json!({"type": "none"}));
        assert_eq!(choice_of(ToolChoice::Required, &traits()).0, json!({"type": "any"}));
        assert_eq!(choice_of(ToolChoice::Named("f".into()), &traits()).0, json!({"type": "tool", "name": "f"}));
    }

    #[test]
    fn a_model_that_cannot_be_forced_decides() {
        let (choice, losses) = choice_of(ToolChoice::Required, &Traits { forced_tool_choice: false, ..traits() });
        assert_eq!(choice, json!({"type": "auto"}));
        assert_eq!(named(&losses), [(LossKind::Approximated, "tool_choice")]);
    }

    #[test]
    fn a_model_that_thinks_cannot_be_forced() {
        let traits = Traits {
            reasoning: ReasoningStyle::AdaptiveThinking,
            efforts: vec!["low".into(), "high".into()],
            ..traits()
        };
        let mut request = with(vec![plain("f")], Some(ToolChoice::Named("f".into())));
        request.reasoning = Some(Reasoning { effort: Some("high".into()), ..Reasoning::default() });
        let (body, losses) = encoded(&request, &traits);
        assert_eq!(body["tool_choice"], json!({"type": "auto"}));
        assert_eq!(named(&losses), [(LossKind::Approximated, "tool_choice")]);
    }

    #[test]
    fn allowed_tools_are_the_only_ones_that_are_sent() {
        let allowed = |names: &[&str]| ToolChoice::Allowed {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            required: true,
        };
        let names = |choice| {
            let (body, _) = encoded(&with(vec![plain("f"), plain("g")], Some(choice)), &traits());
            body["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(allowed(&["g"])), ["g"]);
        assert_eq!(names(allowed(&["g", "unknown"])), ["f", "g"]);
        assert_eq!(choice_of(allowed(&["g"]), &traits()).0, json!({"type": "any"}));
    }

    #[test]
    fn one_call_at_a_time_is_said_with_a_choice() {
        let request = Request { parallel_tool_calls: Some(false), ..with(vec![plain("f")], None) };
        let (body, _) = encoded(&request, &traits());
        assert_eq!(body["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}));
        let request = Request { parallel_tool_calls: Some(true), ..with(vec![plain("f")], None) };
        assert!(encoded(&request, &traits()).0.get("tool_choice").is_none());
    }

    #[test]
    fn free_input_becomes_a_function_and_is_remembered() {
        let grammar = json!({"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: \"a\""}});
        let request =
            with(vec![tool("sh", ToolInput::Custom(None)), tool("g", ToolInput::Custom(Some(grammar)))], None);
        let encoded = encode_for(&request, &traits(), Strictness::Lenient).expect("good");
        assert_eq!(encoded.back.custom_tools.iter().collect::<Vec<_>>(), ["g", "sh"]);
        assert_eq!(named(&encoded.losses), [(LossKind::Dropped, "tools.custom.format")]);
        let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        assert_eq!(body["tools"][0]["input_schema"]["required"], json!(["input"]));
    }

    #[test]
    fn a_name_that_does_not_fit_is_mapped_and_remembered() {
        let request = with(vec![plain("ns.f")], Some(ToolChoice::Named("ns.f".into())));
        let encoded = encode_for(&request, &traits(), Strictness::Lenient).expect("good");
        let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        let sent = body["tools"][0]["name"].as_str().expect("a name");
        assert_eq!(body["tool_choice"]["name"], sent);
        assert_eq!(encoded.back.tool_name(sent), "ns.f");
    }

    #[test]
    fn tools_of_another_provider_are_refused() {
        let hosted = tool("web", ToolInput::Hosted(json!({"type": "web_search"})));
        assert_eq!(refused(&with(vec![hosted], None), &traits()).param.as_deref(), Some("tools"));
    }

    #[test]
    fn no_tools_is_no_list_of_tools() {
        let (body, losses) = encoded(&with(Vec::new(), Some(ToolChoice::Auto)), &traits());
        assert!(body.get("tools").is_none() && body.get("tool_choice").is_none() && losses.is_empty());
    }
}

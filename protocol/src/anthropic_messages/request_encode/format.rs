//! Writes the form that the answer shall have: a schema natively, or by a tool that the model must call, or, where no
//! schema is given, an instruction.

use serde_json::Value;

use super::{Scope, schema, tools};
use crate::{
    Loss, Refusal,
    json::{Json, Object, json},
    request::OutputFormat,
    translate::Back,
};

/// The tool whose input is the answer, for models without a native schema.
const TOOL: &str = "json_response";

const INSTRUCTION: &str = "Respond only with one JSON object, without any text before or after it.";

/// Writes the form; gives an instruction for the end of the system prompt where that is all that can be done.
pub(super) fn format<'a>(
    scope: Scope<'a>,
    thinks: bool,
    body: &mut Object<'a>,
    back: &mut Back,
    losses: &mut Vec<Loss>,
) -> Result<Option<&'static str>, Refusal> {
    match &scope.request.format {
        None | Some(OutputFormat::Text) => Ok(None),
        Some(OutputFormat::JsonObject) => {
            let why = "JSON without a schema is asked for in words, not enforced";
            losses.push(Loss::approximated(field(scope), why));
            Ok(Some(INSTRUCTION))
        }
        Some(OutputFormat::JsonSchema { schema, description, .. }) => {
            if scope.target.traits.json_schema {
                native(scope, schema, body, losses);
            } else {
                by_tool(scope, thinks, schema, description.as_deref(), body, back)?;
            }
            Ok(None)
        }
    }
}

fn native<'a>(scope: Scope, schema: &'a Value, body: &mut Object<'a>, losses: &mut Vec<Loss>) {
    let (schema, moved) = match scope.native() {
        true => (Json::from(schema), Vec::new()),
        false => {
            let (supported, moved) = schema::supported(schema);
            (Json::from(&supported).into_owned(), moved)
        }
    };
    if !moved.is_empty() {
        let why = format!("what is not enforced is described instead: {}", moved.join(", "));
        losses.push(Loss::approximated(scope.word("response_format.json_schema.schema", field(scope)), why));
    }
    let format = json!({"type": "json_schema", "schema": schema});
    body.object_at("output_config").insert("format", format);
}

fn by_tool<'a>(
    scope: Scope<'a>,
    thinks: bool,
    schema: &'a Value,
    description: Option<&'a str>,
    body: &mut Object<'a>,
    back: &mut Back,
) -> Result<(), Refusal> {
    let why = match (scope.request.tools.is_empty(), thinks, scope.target.traits.forced_tool_choice) {
        (false, _, _) => "the model knows no schema of its own, and the tool that would stand for it excludes others",
        (_, true, _) => "the model knows no schema of its own, and must not be made to call a tool while it thinks",
        (_, _, false) => "the model knows no schema of its own, and cannot be made to call a tool",
        (true, false, true) => {
            let description = description.unwrap_or("Gives the answer. Call it once, with the whole answer.");
            let input_schema = tools::input_schema(Some(schema));
            let tool = json!({"name": TOOL, "description": description, "input_schema": input_schema});
            body.insert("tool_choice", json!({"type": "tool", "name": TOOL}));
            body.insert("tools", json!([tool]));
            back.json_tool = Some(TOOL.to_owned());
            return Ok(());
        }
    };
    Err(scope.refuse(field(scope), why))
}

fn field<'a>(scope: Scope<'a>) -> &'a str {
    scope.word("response_format", "output_config.format")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::testing::{chat, encode_for, encoded, named, refused, system, traits},
        *,
    };
    use crate::{
        LossKind, Strictness, Traits,
        request::{Request, Tool, ToolInput},
    };

    fn wants(schema: Value) -> Request {
        let format = OutputFormat::JsonSchema { name: Some("n".into()), description: None, schema, strict: Some(true) };
        Request { format: Some(format), ..chat() }
    }

    fn schemaless() -> Traits {
        Traits { json_schema: false, ..traits() }
    }

    fn schema() -> Value {
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    }

    #[test]
    fn a_schema_goes_natively_and_closed() {
        let (body, losses) = encoded(&wants(schema()), &traits());
        let mut closed = schema();
        closed["additionalProperties"] = json!(false);
        assert_eq!(body["output_config"], json!({"format": {"type": "json_schema", "schema": closed}}));
        assert!(losses.is_empty());
    }

    #[test]
    fn what_is_not_enforced_is_named() {
        let (_, losses) = encoded(&wants(json!({"type": "string", "pattern": "a+"})), &traits());
        assert_eq!(named(&losses), [(LossKind::Approximated, "response_format.json_schema.schema")]);
        assert!(losses[0].reason.contains("pattern"));
    }

    #[test]
    fn some_object_is_asked_for_at_the_end_of_the_system_prompt() {
        let mut request = Request { format: Some(OutputFormat::JsonObject), ..chat() };
        request.turns.insert(0, system("be brief"));
        let (body, losses) = encoded(&request, &traits());
        assert_eq!(body["system"][1], json!({"type": "text", "text": INSTRUCTION}));
        assert_eq!(named(&losses), [(LossKind::Approximated, "response_format")]);
    }

    #[test]
    fn a_model_without_schemas_must_call_a_tool_that_stands_for_one() {
        let encoded = encode_for(&wants(schema()), &schemaless(), Strictness::Strict).expect("nothing is lost");
        assert_eq!(encoded.back.json_tool.as_deref(), Some(TOOL));
        let body: Value = serde_json::from_slice(&encoded.body).expect("JSON");
        assert_eq!(body["tool_choice"], json!({"type": "tool", "name": TOOL}));
        assert_eq!(body["tools"][0]["input_schema"], schema());
    }

    #[test]
    fn that_tool_cannot_stand_beside_others_nor_where_none_can_be_forced() {
        let input = ToolInput::Schema(None);
        let tool = Tool { name: "f".into(), description: None, input, strict: None, cache: None, other: Vec::new() };
        let request = Request { tools: vec![tool], ..wants(schema()) };
        assert_eq!(refused(&request, &schemaless()).param.as_deref(), Some("response_format"));
        let traits = Traits { forced_tool_choice: false, ..schemaless() };
        assert_eq!(refused(&wants(schema()), &traits).param.as_deref(), Some("response_format"));
    }
}

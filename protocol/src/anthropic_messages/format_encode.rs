//! Writes the form that the answer shall have: a schema natively, or by a tool that the model must call, or, where no
//! schema is given, an instruction.

use serde_json::{Map, Value, json};

use super::{request_encode::Scope, schema, tools_encode};
use crate::{Loss, Refusal, request::OutputFormat, translate::Back};

/// The tool whose input is the answer, for models without a native schema.
const TOOL: &str = "json_response";

const INSTRUCTION: &str = "Respond only with one JSON object, without any text before or after it.";

/// Writes the form; gives an instruction for the end of the system prompt where that is all that can be done.
pub(super) fn format(
    scope: Scope,
    thinks: bool,
    body: &mut Map<String, Value>,
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

fn native(scope: Scope, schema: &Value, body: &mut Map<String, Value>, losses: &mut Vec<Loss>) {
    let (schema, moved) = if scope.native() { (schema.clone(), Vec::new()) } else { schema::supported(schema) };
    if !moved.is_empty() {
        let why = format!("what is not enforced is described instead: {}", moved.join(", "));
        losses.push(Loss::approximated(scope.word("response_format.json_schema.schema", field(scope)), why));
    }
    let config = body.entry("output_config").or_insert_with(|| json!({}));
    config["format"] = json!({"type": "json_schema", "schema": schema});
}

fn by_tool(
    scope: Scope,
    thinks: bool,
    schema: &Value,
    description: Option<&str>,
    body: &mut Map<String, Value>,
    back: &mut Back,
) -> Result<(), Refusal> {
    let why = match (scope.request.tools.is_empty(), thinks, scope.target.traits.forced_tool_choice) {
        (false, _, _) => "the model knows no schema of its own, and the tool that would stand for it excludes others",
        (_, true, _) => "the model knows no schema of its own, and must not be made to call a tool while it thinks",
        (_, _, false) => "the model knows no schema of its own, and cannot be made to call a tool",
        (true, false, true) => {
            let description = description.unwrap_or("Gives the answer. Call it once, with the whole answer.");
            let input_schema = tools_encode::input_schema(Some(schema));
            let tool = json!({"name": TOOL, "description": description, "input_schema": input_schema});
            body.insert("tool_choice".to_owned(), json!({"type": "tool", "name": TOOL}));
            body.insert("tools".to_owned(), json!([tool]));
            back.json_tool = Some(TOOL.to_owned());
            return Ok(());
        }
    };
    Err(scope.refuse(field(scope), why))
}

fn field<'a>(scope: Scope<'a>) -> &'a str {
    scope.word("response_format", "output_config.format")
}

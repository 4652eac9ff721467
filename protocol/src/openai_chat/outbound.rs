//! What whole answers and streams share when they are written for a chat client: ids, the form of tool calls, citations
//! and finish reasons.

use super::stop;
use crate::{
    Loss,
    answer::{Citation, Stop, StopReason},
    json::{Json, json},
    request::ToolKind,
    translate::AnswerContext,
};

/// How a tool call is told to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A function of `tools`.
    Function,
    /// A custom tool, told with its raw input.
    Custom,
    /// A custom tool that went out as a function: its input stands in the one argument.
    WrappedCustom,
    /// The one function of `functions`.
    Legacy,
    /// No tool at all: the arguments are the text of the answer.
    Text,
}

/// How a call of the tool `sent` is told.
pub(super) fn form(context: &AnswerContext, sent: &str, kind: ToolKind) -> Form {
    match kind {
        _ if context.back.json_tool.as_deref() == Some(sent) => Form::Text,
        ToolKind::Custom => Form::Custom,
        ToolKind::Function if context.back.custom_tools.contains(sent) => Form::WrappedCustom,
        ToolKind::Function if context.legacy_functions => Form::Legacy,
        ToolKind::Function => Form::Function,
    }
}

/// The input of a custom tool that went out as a function. Arguments that are not what was asked for stay as they are.
pub(super) fn custom_input(arguments: &str) -> String {
    let fields = Json::parse_str(arguments).ok();
    let input = fields.as_ref().and_then(|fields| fields["input"].as_str());
    input.unwrap_or(arguments).to_owned()
}

/// Arguments as JSON text: nothing means none.
pub(super) fn arguments(text: &str) -> &str {
    if text.trim().is_empty() { "{}" } else { text }
}

/// The upstream's id where it is of this family.
pub(super) fn id<'a>(upstream: &'a str, context: &'a AnswerContext) -> &'a str {
    if upstream.starts_with("chatcmpl") { upstream } else { &context.fallback_id }
}

/// The tier in OpenAI's words.
pub(super) fn service_tier(tier: Option<&str>) -> Option<&str> {
    match tier? {
        "standard" => Some("default"),
        "batch" => None,
        other => Some(other),
    }
}

/// An annotation for a citation of the text that stands at these characters of the content; none where chat has no word
/// for it.
pub(super) fn annotation(citation: &Citation, (from, to): (u64, u64)) -> Option<Json<'_>> {
    let Citation::Url { url, title, span, .. } = citation else { return None };
    let (start, end) = span.map_or((from, to), |(start, end)| (from.saturating_add(start), from.saturating_add(end)));
    let title = title.as_deref().unwrap_or(url);
    let cited = json!({"url": url, "title": title, "start_index": start, "end_index": end});
    Some(json!({"type": "url_citation", "url_citation": cited}))
}

/// What the caller has been told before the finish reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Any call.
    pub(super) calls: bool,
    /// A refusal in the model's own words.
    pub(super) refusal: bool,
}

/// The finish reason in the caller's words. Models of this family that decline in words end with `stop`; where there are
/// no words, `content_filter` says it.
pub(super) fn finish_reason(
    stop: Option<&Stop>,
    told: Told,
    context: &AnswerContext,
    losses: &mut Vec<Loss>,
) -> &'static str {
    let Some(stop) = stop else { return "stop" };
    let unwrapped = !told.calls && context.back.json_tool.is_some();
    match stop.reason {
        StopReason::Refusal if told.refusal => return "stop",
        StopReason::ToolUse if unwrapped => return "stop",
        StopReason::ToolUse if context.legacy_functions => return "function_call",
        _ => {}
    }
    let (word, is_close) = stop::encode(&stop.reason);
    if is_close {
        let loss = Loss::approximated("stop_reason", format!("`{:?}` is told as `{word}`", stop.reason));
        lose(losses, loss);
    }
    word
}

/// Notes a loss once.
pub(super) fn lose(losses: &mut Vec<Loss>, loss: Loss) {
    if !losses.iter().any(|noted| noted.kind == loss.kind && noted.field == loss.field) {
        losses.push(loss);
    }
}

/// What every raw block of another shape loses here.
pub(super) fn lose_block(losses: &mut Vec<Loss>, name: &str) {
    lose(losses, Loss::dropped(format!("content.{name}"), "has no counterpart in chat completions"));
}

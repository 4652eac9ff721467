//! What a request loses on its way to one target, in the caller's words, and what its answer must undo.

use crate::{
    Loss, Refusal, Strictness, Target, WireShape,
    request::{FieldClass, OtherField, Request},
    translate::Back,
};

/// A request, its target, and what was noted while it was written.
pub(super) struct Ledger<'a> {
    pub(super) request: &'a Request,
    pub(super) target: &'a Target<'a>,
    pub(super) back: Back,
    losses: Vec<Loss>,
}

/// A field that may be lost, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Messages,
    OutputCap,
    Temperature,
    TopP,
    TopK,
    Stop,
    Format,
    Effort,
    Thinking,
    Parallel,
    ToolChoice,
    Tools,
    ToolStrict,
    ToolCache,
    ContentCache,
    ToolResult,
    ToolError,
    Image,
    Audio,
    Document,
    SearchResult,
    Citations,
    ServiceTier,
}

impl Field {
    /// The name of the field in a shape.
    pub(super) fn word(self, shape: WireShape) -> &'static str {
        let (chat, messages) = self.words();
        match shape {
            WireShape::OpenaiChat => chat,
            WireShape::AnthropicMessages => messages,
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Field::Messages => ("messages", "messages"),
            Field::OutputCap => ("max_completion_tokens", "max_tokens"),
            Field::Temperature => ("temperature", "temperature"),
            Field::TopP => ("top_p", "top_p"),
            Field::TopK => ("top_k", "top_k"),
            Field::Stop => ("stop", "stop_sequences"),
            Field::Format => ("response_format", "output_config.format"),
            Field::Effort => ("reasoning_effort", "output_config.effort"),
            Field::Thinking => ("reasoning_effort", "thinking"),
            Field::Parallel => ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
            Field::ToolChoice => ("tool_choice", "tool_choice"),
            Field::Tools => ("tools", "tools"),
            Field::ToolStrict => ("tools.function.strict", "tools.strict"),
            Field::ToolCache => ("tools.cache_control", "tools.cache_control"),
            Field::ContentCache => ("messages.content.prompt_cache_breakpoint", "messages.content.cache_control"),
            Field::ToolResult => ("messages.content", "messages.content.tool_result"),
            Field::ToolError => ("messages.content", "messages.content.is_error"),
            Field::Image => ("messages.content.image_url", "messages.content.image"),
            Field::Audio => ("messages.content.input_audio", "messages.content.audio"),
            Field::Document => ("messages.content.file", "messages.content.document"),
            Field::SearchResult => ("messages.content.search_result", "messages.content.search_result"),
            Field::Citations => ("messages.annotations", "messages.content.citations"),
            Field::ServiceTier => ("service_tier", "service_tier"),
        }
    }
}

impl<'a> Ledger<'a> {
    pub(super) fn new(request: &'a Request, target: &'a Target<'a>) -> Self {
        Self { request, target, back: Back::default(), losses: Vec::new() }
    }

    /// Whether the request was written in this very shape, so that what we do not know can go as it stands.
    pub(super) fn is_native(&self) -> bool {
        self.request.source == WireShape::OpenaiChat
    }

    pub(super) fn dropped(&mut self, field: Field, reason: &str) -> Result<(), Refusal> {
        self.lose(Loss::dropped(self.word(field), reason))
    }

    pub(super) fn approximated(&mut self, field: Field, reason: &str) -> Result<(), Refusal> {
        self.lose(Loss::approximated(self.word(field), reason))
    }

    pub(super) fn clamped(&mut self, field: Field, reason: &str) -> Result<(), Refusal> {
        self.lose(Loss::clamped(self.word(field), reason))
    }

    /// Notes a loss once; errs where losses are not allowed.
    pub(super) fn lose(&mut self, loss: Loss) -> Result<(), Refusal> {
        if self.target.strictness == Strictness::Strict {
            return Err(self.refusal(&loss.field, &loss.reason));
        }
        if !self.losses.iter().any(|noted| noted.kind == loss.kind && noted.field == loss.field) {
            self.losses.push(loss);
        }
        Ok(())
    }

    /// Does with a field what its class says of another shape.
    pub(super) fn leave_out(&mut self, class: FieldClass, field: &str, reason: &str) -> Result<(), Refusal> {
        match class {
            FieldClass::Silent => Ok(()),
            FieldClass::Drop => self.lose(Loss::dropped(field, reason)),
            FieldClass::Refuse => Err(self.refusal(field, reason)),
        }
    }

    pub(super) fn leave_out_other(&mut self, other: &OtherField, prefix: &str) -> Result<(), Refusal> {
        self.leave_out(other.class, &format!("{prefix}{}", other.path), "has no counterpart in chat completions")
    }

    /// This target cannot serve the request because of a field.
    pub(super) fn refuse(&self, field: Field, reason: &str) -> Refusal {
        self.refusal(self.word(field), reason)
    }

    pub(super) fn finish(self) -> (Vec<Loss>, Back) {
        (self.losses, self.back)
    }

    fn refusal(&self, field: &str, reason: &str) -> Refusal {
        let (asked, served) = (&self.request.model, self.target.model);
        let message =
            format!("`{field}` is not supported when `{asked}` is served by `{served}` (chat completions): {reason}");
        Refusal::unsupported(field, message)
    }

    fn word(&self, field: Field) -> &'static str {
        field.word(self.request.source)
    }
}

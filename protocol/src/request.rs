//! A request in canonical form: ordered turns of parts, and everything that any shape can ask for.
//!
//! Has room for the shapes whose mapping is known (Responses, Gemini, Bedrock Converse, Cohere), not only for those
//! that have a codec. Numbers keep their spelling ([`serde_json::Number`]), tool arguments stay raw JSON text.

use serde_json::{Map, Number, Value};

use crate::WireShape;

/// A request as decoded from one shape, to be encoded for another.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The shape that it was decoded from; losses are named in its words.
    pub source: WireShape,
    /// The model as the caller wrote it.
    pub model: String,
    /// Instructions and conversation in their order.
    pub turns: Vec<Turn>,
    /// Tools that may be called.
    pub tools: Vec<Tool>,
    /// Which of them must or may be called.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls may come in one answer; absent: the provider's default.
    pub parallel_tool_calls: Option<bool>,
    /// Most tokens of the answer.
    pub output_cap: Option<u64>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// How many answers; absent: one.
    pub n: Option<u64>,
    /// Whether log probabilities are wanted.
    pub logprobs: Option<bool>,
    /// How many alternatives at each place.
    pub top_logprobs: Option<u64>,
    /// The form of the answer; absent: free text.
    pub format: Option<OutputFormat>,
    /// How long-winded: `low`, `medium`, `high`.
    pub verbosity: Option<String>,
    /// How much to reason.
    pub reasoning: Option<Reasoning>,
    /// Who asks, as the caller's application knows them.
    pub end_user: EndUser,
    /// The caller's own labels.
    pub metadata: Map<String, Value>,
    /// Prompt cache routing and defaults.
    pub cache: CacheOptions,
    /// The provider's service tier, in the word of the source shape.
    pub service_tier: Option<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether a streamed answer shows its usage; shapes that always do set it.
    pub include_usage: bool,
    /// Whether the caller used the functions that preceded tools, and so is answered in kind.
    pub legacy_functions: bool,
    /// Fields without a canonical place, each with what must happen where the target has another shape.
    pub other: Vec<OtherField>,
}

/// A field of the source shape that has no canonical place.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherField {
    /// Its path in the source shape.
    pub path: String,
    /// Its value.
    pub value: Value,
    /// What another shape must do with it.
    pub class: FieldClass,
}

/// What must happen to a field that a target cannot carry (wire mapping classes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldClass {
    /// `D`: leave it out and warn.
    Drop,
    /// `d`: leave it out silently; every such field stands in the checked-in silent list.
    Silent,
    /// `R`: refuse the target.
    Refuse,
}

/// A run of parts by one speaker.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// The speaker's name, where the shape has one.
    pub name: Option<String>,
    /// What is said.
    pub parts: Vec<Part>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Operator instructions (`system`).
    System,
    /// Operator instructions in OpenAI's newer word.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// Results of tools; holds [`PartKind::ToolResult`] alone.
    Tool,
}

/// A part of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// A prompt cache mark behind it.
    pub cache: Option<CacheMark>,
}

impl Part {
    /// A part without a cache mark.
    pub fn new(kind: PartKind) -> Self {
        Self { kind, cache: None }
    }

    /// A text without a cache mark.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(PartKind::Text { text: text.into(), citations: Vec::new() })
    }
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum PartKind {
    /// Text, with the citations of an earlier answer where there were any.
    Text {
        /// The text.
        text: String,
        /// Canonical citations.
        citations: Vec<crate::answer::Citation>,
    },
    /// A picture.
    Image {
        /// Where it is.
        source: Media,
        /// How closely to look, in OpenAI's words.
        detail: Option<String>,
    },
    /// Sound.
    Audio {
        /// Where it is.
        source: Media,
    },
    /// A document.
    Document {
        /// What it holds.
        source: DocumentSource,
        /// Its title or file name.
        title: Option<String>,
        /// What the caller says of it.
        context: Option<String>,
        /// Whether answers shall cite it.
        citations: bool,
    },
    /// A search hit that the caller brings.
    SearchResult {
        /// Where it is from.
        source: String,
        /// Its title.
        title: String,
        /// Its texts.
        texts: Vec<String>,
        /// Whether answers shall cite it.
        citations: bool,
    },
    /// The model declined, in its own words.
    Refusal(String),
    /// Reasoning in clear.
    Thinking {
        /// The text; may be empty.
        text: String,
        /// What proves it to its issuer; must go back byte for byte.
        proof: Option<Opaque>,
    },
    /// Reasoning that only its issuer can read.
    RedactedThinking(Opaque),
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// What a tool answered.
    ToolResult(ToolResult),
    /// A block of the source shape that no other shape knows (server tools and the like), as it stood.
    Raw {
        /// Its type in the source shape.
        name: String,
        /// The block.
        value: Value,
        /// What another shape must do with it.
        class: FieldClass,
    },
}

/// Where media are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// Within the request.
    Inline {
        /// Media type, as `image/png`.
        media_type: String,
        /// Base64, as it came.
        data: String,
    },
    /// At an address.
    Url(String),
    /// In the provider's store.
    FileId(String),
}

/// What a document holds.
#[derive(Clone, Debug, PartialEq)]
pub enum DocumentSource {
    /// A file.
    Media(Media),
    /// Plain text.
    Text(String),
    /// Parts: texts and images.
    Parts(Vec<Part>),
}

/// Bytes that only their issuer understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Who made them.
    pub issuer: Issuer,
    /// They themselves, unmodified.
    pub data: String,
}

/// Who made an opaque block. It goes back to that family alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Issuer {
    Anthropic,
    OpenAi,
    Google,
    Unknown,
}

/// What begins a blob that a client of another family than its issuer's holds for us.
const TAG: &str = "relay1.";

impl Opaque {
    /// As a client holds it whose shape is `native`'s: that family's own as it is, others behind `relay1.<issuer>.`.
    pub fn tagged(&self, native: Issuer) -> String {
        if self.issuer == native { self.data.clone() } else { format!("{TAG}{}.{}", self.issuer.word(), self.data) }
    }

    /// The inverse of [`Opaque::tagged`]. Text without a tag is `native`'s own.
    pub fn untagged(text: &str, native: Issuer) -> Self {
        let tagged = text.strip_prefix(TAG).and_then(|rest| rest.split_once('.'));
        match tagged.and_then(|(word, data)| Some((Issuer::from_word(word)?, data))) {
            Some((issuer, data)) => Self { issuer, data: data.to_owned() },
            None => Self { issuer: native, data: text.to_owned() },
        }
    }
}

impl Issuer {
    const ALL: [Issuer; 4] = [Issuer::Anthropic, Issuer::OpenAi, Issuer::Google, Issuer::Unknown];

    fn word(self) -> &'static str {
        match self {
            Issuer::Anthropic => "anthropic",
            Issuer::OpenAi => "openai",
            Issuer::Google => "google",
            Issuer::Unknown => "unknown",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|issuer| issuer.word() == word)
    }
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Ties the result to it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Raw JSON text of an object, or the raw input of a custom tool; empty means `{}` for functions.
    pub arguments: String,
    /// Which kind of tool.
    pub kind: ToolKind,
}

/// Which kind of tool is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// A function with JSON arguments.
    Function,
    /// A tool with free-form input.
    Custom,
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The call.
    pub call_id: String,
    /// Texts, images, documents.
    pub content: Vec<Part>,
    /// Whether it failed; absent: the shape cannot say.
    pub is_error: Option<bool>,
}

/// A tool that may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it takes.
    pub input: ToolInput,
    /// Whether arguments must keep to the schema.
    pub strict: Option<bool>,
    /// A prompt cache mark behind it.
    pub cache: Option<CacheMark>,
    /// Fields without a canonical place, by name in the source shape.
    pub other: Vec<OtherField>,
}

/// What a tool takes.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolInput {
    /// An object by JSON Schema; absent: any object.
    Schema(Option<Value>),
    /// Free text, or text by a grammar (the format object of the source).
    Custom(Option<Value>),
    /// A tool that the provider runs or whose schema it trained in, as it stood.
    Hosted(Value),
}

/// Which tools must or may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
    /// Of these alone; `required` says whether one must be.
    Allowed {
        /// Their names.
        names: Vec<String>,
        /// Whether at least one must be called.
        required: bool,
    },
}

/// How tokens are drawn.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields' names are the field's standard terms")]
pub struct Sampling {
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    pub top_k: Option<Number>,
    pub seed: Option<Number>,
    pub frequency_penalty: Option<Number>,
    pub presence_penalty: Option<Number>,
    pub logit_bias: Option<Value>,
}

/// The form of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputFormat {
    /// Free text, said explicitly.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON by a schema.
    JsonSchema {
        /// Its name, where the shape has one.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Value,
        /// Whether the answer must keep to it.
        strict: Option<bool>,
    },
}

/// How much to reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// Whether and how thinking is switched; absent: not said.
    pub mode: Option<ThinkingMode>,
    /// A word: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    pub effort: Option<String>,
    /// How reasoning is shown: `summarized`, `omitted`, or a word of the source shape.
    pub display: Option<String>,
}

/// How thinking is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingMode {
    /// Off.
    Disabled,
    /// On, with this many tokens at most.
    Budget(u64),
    /// The model decides.
    Adaptive,
    /// Between tool calls alone.
    BetweenTools,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndUser {
    /// OpenAI's `user`.
    pub user: Option<String>,
    /// OpenAI's `safety_identifier`.
    pub safety_identifier: Option<String>,
    /// Anthropic's `metadata.user_id`.
    pub user_id: Option<String>,
}

/// Prompt cache routing and defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheOptions {
    /// Routes requests of one prefix to one cache.
    pub key: Option<String>,
    /// OpenAI's `prompt_cache_retention`.
    pub retention: Option<String>,
    /// OpenAI's `prompt_cache_options`.
    pub options: Option<Value>,
    /// Anthropic's mark on the whole request.
    pub mark: Option<CacheMark>,
}

/// A prompt cache mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheMark {
    /// How long, in the source's word (`5m`, `1h`, `30m`, `12h`); absent: the provider's default.
    pub ttl: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opaque_block_comes_back_from_a_client_of_any_family() {
        for issuer in Issuer::ALL {
            let opaque = Opaque { issuer, data: "a.b==".to_owned() };
            assert_eq!(Opaque::untagged(&opaque.tagged(Issuer::Anthropic), Issuer::Anthropic), opaque);
        }
    }

    #[test]
    fn the_native_family_sees_its_own_bytes_and_others_a_tag() {
        let opaque = Opaque { issuer: Issuer::OpenAi, data: "xyz".to_owned() };
        assert_eq!(opaque.tagged(Issuer::OpenAi), "xyz");
        assert_eq!(opaque.tagged(Issuer::Anthropic), "relay1.openai.xyz");
        assert_eq!(Opaque::untagged("relay1.nobody.x", Issuer::Anthropic).data, "relay1.nobody.x");
    }
}

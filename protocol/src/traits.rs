//! What a model takes, by glob of its upstream name. The data is in `data/traits.json`; a Model's own `traits` win.

use std::sync::LazyLock;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

/// What a model takes. Absent knowledge is a trait too: [`Traits::for_model`] says what is assumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Traits {
    /// Whether the model is in the data at all.
    pub known: bool,
    /// `temperature`, `top_p`, `top_k`.
    pub sampling: bool,
    /// `temperature` and `top_p` in one request.
    pub temperature_with_top_p: bool,
    /// Stop sequences.
    pub stop: bool,
    /// How reasoning is asked for.
    pub reasoning: ReasoningStyle,
    /// The efforts that it takes, lowest first; empty: it takes none.
    pub efforts: Vec<String>,
    /// Function tools together with an effort other than `none` on Chat Completions.
    pub chat_tools_with_reasoning: bool,
    /// The role `developer`.
    pub developer_role: bool,
    /// A tool choice that forces a call.
    pub forced_tool_choice: bool,
    /// A trailing assistant message that the answer continues.
    pub prefill: bool,
    /// Operator messages after the first turn.
    pub mid_conversation_system: bool,
    /// A schema for the answer, natively.
    pub json_schema: bool,
    /// Explicit prompt-cache breakpoints (OpenAI).
    pub prompt_cache_breakpoints: bool,
    /// Most tokens of one answer.
    pub max_output_tokens: u64,
}

/// How a model is asked to reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReasoningStyle {
    /// Not at all.
    None,
    /// By a word of effort (OpenAI).
    Effort,
    /// Adaptive thinking and an effort (Claude 4.6 and later).
    AdaptiveThinking,
    /// Thinking with a budget of tokens (Claude up to 4.5).
    BudgetThinking,
}

impl Traits {
    /// What a model takes by its upstream name, with or without a provider's prefix or a date, in any case. The first
    /// entry of the data that matches counts; a name that none matches has the default traits.
    pub fn for_model(name: &str) -> Traits {
        let first = CATALOG.globs.matches(name.to_lowercase()).into_iter().min();
        first.map_or_else(Traits::default, |glob| CATALOG.traits[CATALOG.entry_of_glob[glob]].clone())
    }
}

impl Default for Traits {
    /// A model that nothing is known of: no reasoning fields, answers of 4,096 tokens, all else allowed.
    fn default() -> Self {
        Self {
            known: false,
            sampling: true,
            temperature_with_top_p: true,
            stop: true,
            reasoning: ReasoningStyle::None,
            efforts: Vec::new(),
            chat_tools_with_reasoning: true,
            developer_role: false,
            forced_tool_choice: true,
            prefill: true,
            mid_conversation_system: false,
            json_schema: true,
            prompt_cache_breakpoints: false,
            max_output_tokens: 4_096,
        }
    }
}

/// The data, read once.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let entries = serde_json::from_str(include_str!("../data/traits.json")).expect("a test reads the shipped data");
    Catalog::new(entries).expect("a test builds the shipped globs")
});

struct Catalog {
    globs: GlobSet,
    /// The entry of each glob, by its place in the set.
    entry_of_glob: Vec<usize>,
    traits: Vec<Traits>,
}

/// An entry of the data. Earlier entries win.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// What these models have in common, for people.
    #[serde(rename = "note")]
    _note: String,
    /// Whether it catches models of a family that no other entry names; they stay unknown.
    #[serde(default)]
    family: bool,
    #[serde(rename = "match")]
    matches: Vec<String>,
    traits: Traits,
}

impl Catalog {
    fn new(entries: Vec<Entry>) -> Result<Self, globset::Error> {
        let mut globs = GlobSetBuilder::new();
        let (mut entry_of_glob, mut traits) = (Vec::new(), Vec::new());
        for (index, entry) in entries.into_iter().enumerate() {
            for glob in &entry.matches {
                globs.add(GlobBuilder::new(glob).literal_separator(false).build()?);
                entry_of_glob.push(index);
            }
            traits.push(Traits { known: !entry.family, ..entry.traits });
        }
        Ok(Self { globs: globs.build()?, entry_of_glob, traits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasoning_of(name: &str) -> (ReasoningStyle, u64) {
        let traits = Traits::for_model(name);
        (traits.reasoning, traits.max_output_tokens)
    }

    #[test]
    fn the_more_specific_name_wins() {
        use ReasoningStyle::{AdaptiveThinking, BudgetThinking, Effort, None};
        let cases = [
            ("claude-opus-4-20250514", BudgetThinking, 32_000),
            ("claude-opus-4-1-20250805", BudgetThinking, 32_000),
            ("claude-opus-4-5-20251101", BudgetThinking, 64_000),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", BudgetThinking, 64_000),
            ("anthropic/claude-sonnet-4.6", AdaptiveThinking, 128_000),
            ("Claude-Sonnet-5-5", AdaptiveThinking, 128_000),
            ("claude-3-haiku-20240307", None, 4_096),
            ("claude-3-5-sonnet-latest", None, 8_192),
            ("claude-3-7-sonnet-20250219", BudgetThinking, 64_000),
            ("gpt-5-chat-latest", None, 16_384),
            ("gpt-5", Effort, 128_000),
            ("openai/o3-mini", Effort, 100_000),
            ("gpt-4o-mini", None, 16_384),
            ("gpt-4", None, 8_192),
            ("foo1", None, 4_096),
        ];
        for (name, style, tokens) in cases {
            assert_eq!(reasoning_of(name), (style, tokens), "{name}");
        }
    }

    #[test]
    fn the_newest_models_are_told_apart_by_what_they_refuse() {
        let [fable, opus, older] = ["claude-fable-5-1", "claude-opus-5", "claude-opus-4-7"].map(Traits::for_model);
        assert_eq!([fable.sampling, opus.sampling, older.sampling], [false; 3]);
        let forced = [&fable, &opus, &older].map(|traits| traits.forced_tool_choice);
        assert_eq!(forced, [false, true, true]);
        let operator = [&fable, &opus, &older].map(|traits| traits.mid_conversation_system);
        assert_eq!(operator, [true, true, false]);
        assert!(!Traits::for_model("gpt-5.4").chat_tools_with_reasoning);
        assert!(Traits::for_model("gpt-5.6-terra").prompt_cache_breakpoints);
    }

    #[test]
    fn an_unnamed_model_of_a_family_takes_what_the_newest_take_and_stays_unknown() {
        let future = Traits::for_model("claude-saga-9");
        assert!(!future.known && !future.sampling && !future.forced_tool_choice);
        assert_eq!(Traits::for_model("llama-3"), Traits::default());
    }
}

//! Spoils JSON texts: what is put into them, at any place, looks like what codecs look for.

use proptest::prelude::*;

const SCRAPS: &[&str] = &[
    "",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-0",
    "01",
    "1.0",
    "1e3",
    "-1",
    "99999999999999999999",
    " ",
    "\n",
    "\u{1}",
    "\u{e4}",
    "\\u00e4",
    "\\ud83d",
    "\\ud83d\\ude00",
    "\\n",
    "\"a\"",
    "\"\"",
    "{}",
    "[]",
    "[null]",
    "\"error\":",
    "\"error\":null,",
    "\"error\":\"no\",",
    "\"error\":{\"message\":\"no\"},",
    "\"object\":\"error\",",
    "\"usage\":",
    "\"usage\":null,",
    "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"input_tokens\":3},",
    "\"x_groq\":{\"usage\":{\"prompt_tokens\":1}},",
    "\"x_groq\":null,",
    "\"choices\":[],",
    "\"choices\":",
    "\"index\":0,",
    "\"index\":1,",
    "\"index\":\"0\",",
    "\"index\":null,",
    "\"finish_reason\":\"stop\",",
    "\"finish_reason\":null,",
    "\"finish_reason\":1,",
    "\"stop_reason\":\"end_turn\",",
    "\"delta\":{},",
    "\"delta\":null,",
    "\"message\":{\"content\":\"b\"},",
    "\"logprobs\":{\"content\":[{}]},",
    "\"content\":\"more\",",
    "\"content\":null,",
    "\"content\":[{\"type\":\"text\",\"text\":\"c\"}],",
    "\"content\":[],",
    "\"refusal\":\"no\",",
    "\"refusal\":\"\",",
    "\"reasoning\":\"hm\",",
    "\"reasoning_content\":\"hmm\",",
    "\"reasoning\":\"\",",
    "\"reasoning_details\":[{\"text\":\"t\"}],",
    "\"thinking_blocks\":[],",
    "\"annotations\":[{}],",
    "\"annotations\":{},",
    "\"tool_calls\":[],",
    "\"tool_calls\":null,",
    "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"x\"}}],",
    "\"tool_calls\":[{\"index\":1,\"id\":\"z\",\"function\":{\"name\":\"n\",\"arguments\":\"\"}}],",
    "\"function\":{\"name\":\"f\"},",
    "\"function\":null,",
    "\"custom\":{\"input\":\"i\"},",
    "\"custom\":null,",
    "\"function_call\":{\"arguments\":\"a\"},",
    "\"arguments\":{\"a\":1},",
    "\"arguments\":\"more\",",
    "\"name\":\"g\",",
    "\"id\":\"i\",",
    "\"type\":\"content_block_delta\",",
    "\"type\":\"message\",",
    "\"type\":\"error\",",
    "\"type\":\"text_delta\",",
    "\"type\":1,",
    "\"type\":\"thinking_delta\",",
    "\"type\":\"input_json_delta\",",
    "\"text\":\"t\",",
    "\"text\":null,",
    "\"thinking\":\"k\",",
    "\"partial_json\":\"{\",",
    "\"citation\":{},",
    "\"signature\":\"s\",",
    "\"content_block\":{\"type\":\"text\"},",
    "\"$serde_json::private::Number\":\"1\",",
    "\"$serde_json::private::RawValue\":\"1\",",
    "\"\\u0069ndex\":1,",
];

/// One change to a text.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    /// A scrap put in where a field may begin, or anywhere.
    Insert(prop::sample::Index, bool, &'static str),
    /// Some characters taken out.
    Cut(prop::sample::Index, usize),
    /// Some characters doubled.
    Double(prop::sample::Index, usize),
}

/// The text with each scrap at each place where a field may begin.
pub(crate) fn with_each_scrap(text: &str) -> impl Iterator<Item = String> {
    let places = (1..text.len()).filter(|at| matches!(text.as_bytes()[at - 1], b'{' | b','));
    places.flat_map(move |at| SCRAPS.iter().map(move |scrap| [&text[..at], scrap, &text[at..]].concat()))
}

/// Few changes, so that most texts stay JSON.
pub(crate) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let index = any::<prop::sample::Index>;
    let damage = prop_oneof![
        6 => (index(), prop::bool::weighted(0.8), prop::sample::select(SCRAPS)).prop_map(|(at, fits, scrap)| Damage::Insert(at, fits, scrap)),
        1 => (index(), 1..30_usize).prop_map(|(at, many)| Damage::Cut(at, many)),
        1 => (index(), 1..30_usize).prop_map(|(at, many)| Damage::Double(at, many)),
    ];
    prop::collection::vec(damage, 0..4)
}

/// The text with all of the changes.
pub(crate) fn spoilt(text: &str, damages: &[Damage]) -> String {
    damages.iter().fold(text.to_owned(), |text, damage| spoil(&text, damage))
}

fn spoil(text: &str, damage: &Damage) -> String {
    let chars: Vec<char> = text.chars().collect();
    let string = |chars: &[char]| chars.iter().collect::<String>();
    match damage {
        Damage::Insert(at, fits, scrap) => {
            let places: Vec<usize> = (0..=chars.len()).filter(|at| !fits || follows_opening(&chars, *at)).collect();
            let at = if places.is_empty() { 0 } else { places[at.index(places.len())] };
            string(&chars[..at]) + scrap + &string(&chars[at..])
        }
        Damage::Cut(at, many) => {
            let from = at.index(chars.len() + 1);
            string(&chars[..from]) + &string(&chars[(from + many).min(chars.len())..])
        }
        Damage::Double(at, many) => {
            let from = at.index(chars.len() + 1);
            let to = (from + many).min(chars.len());
            string(&chars[..to]) + &string(&chars[from..])
        }
    }
}

fn follows_opening(chars: &[char], at: usize) -> bool {
    at > 0 && matches!(chars[at - 1], '{' | ',')
}

//! Tool names and call ids as a target takes them. Each is a function of the original alone, so that calls, results and
//! later turns agree without anything being remembered.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::ledger::Ledger;
use crate::ToolCallIds;

/// Longest name of a tool.
const NAME: usize = 64;
/// Longest id of a tool call that OpenAI takes.
const ID: usize = 40;

/// The name that goes out; noted for the answer where it is another.
pub(super) fn tool_name<'a>(ledger: &mut Ledger<'_>, name: &'a str) -> Cow<'a, str> {
    let sent = legal_name(name);
    if sent != name {
        ledger.back.tool_names.insert(sent.clone().into_owned(), name.to_owned());
    }
    sent
}

fn legal_name(name: &str) -> Cow<'_, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= NAME && name.chars().all(legal) {
        return Cow::Borrowed(name);
    }
    let start: String = name.chars().take(NAME - 9).map(|c| if legal(c) { c } else { '_' }).collect();
    Cow::Owned(format!("{start}_{}", &digest(name)[..8]))
}

/// The id that goes out.
pub(super) fn call_id(ids: ToolCallIds, id: &str) -> Cow<'_, str> {
    match ids {
        ToolCallIds::Any if id.len() <= ID => Cow::Borrowed(id),
        ToolCallIds::Any => Cow::Owned(format!("call_{}", &digest(id)[..32])),
        ToolCallIds::Alnum9 if id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()) => Cow::Borrowed(id),
        ToolCallIds::Alnum9 => Cow::Owned(digest(id)[..9].to_owned()),
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_stay_and_others_are_cut_and_told_apart() {
        assert_eq!(legal_name("get_weather-2"), "get_weather-2");
        let (a, b) = ("a".repeat(70), "a".repeat(71));
        let (a, b) = (legal_name(&a), legal_name(&b));
        assert_eq!((a.len(), b.len()), (64, 64));
        assert_ne!(a, b);
        assert!(legal_name("ns.tool").starts_with("ns_tool_"));
    }

    #[test]
    fn ids_are_mapped_only_where_the_target_would_refuse_them() {
        assert_eq!(call_id(ToolCallIds::Any, "toolu_1"), "toolu_1");
        assert_eq!(call_id(ToolCallIds::Any, &"x".repeat(41)).len(), 37);
        assert_eq!(call_id(ToolCallIds::Alnum9, "Ab3456789"), "Ab3456789");
        let mapped = call_id(ToolCallIds::Alnum9, "toolu_1");
        assert!(mapped.len() == 9 && mapped == call_id(ToolCallIds::Alnum9, "toolu_1"));
    }
}

//! Prompt cache marks: their time to live in this shape's words, and how many of them a request may hold.

use super::Scope;
use crate::{
    Loss,
    json::{Json, Object, json},
    request::CacheMark,
};

/// The most marks of one request.
const MOST: usize = 4;

const KEY: &str = "cache_control";

/// A `cache_control` for a mark.
pub(super) fn control<'p>(scope: Scope, mark: &'p CacheMark, losses: &mut Vec<Loss>) -> Json<'p> {
    let mut control = json!({"type": "ephemeral"});
    match mark.ttl.as_deref() {
        None => {}
        Some(ttl @ ("5m" | "1h")) => control.set("ttl", ttl),
        Some(ttl) => {
            let field = scope.word("prompt_cache_breakpoint.ttl", "cache_control.ttl");
            losses.push(Loss::approximated(field, format!("`{ttl}` is not known: `1h`")));
            control.set("ttl", "1h");
        }
    }
    control
}

/// A block with its mark.
pub(super) fn marked<'p>(
    mut block: Json<'p>,
    mark: Option<&'p CacheMark>,
    scope: Scope,
    losses: &mut Vec<Loss>,
) -> Json<'p> {
    if let Some(mark) = mark {
        block.set(KEY, control(scope, mark, losses));
    }
    block
}

/// Takes off all marks but the last ones, in the order in which a prompt is read: tools, system, messages.
pub(super) fn keep_last(scope: Scope, body: &mut Object<'_>, losses: &mut Vec<Loss>) {
    let whole = usize::from(body.contains_key(KEY));
    let mut count = 0;
    each(body, &mut |_| count += 1);
    let surplus = (whole + count).saturating_sub(MOST).min(count);
    if surplus == 0 {
        return;
    }
    let mut left = surplus;
    each(body, &mut |block| {
        if left > 0 {
            block.remove(KEY);
            left -= 1;
        }
    });
    let field = scope.word("prompt_cache_breakpoint", KEY);
    losses.push(Loss::dropped(field, format!("at most {MOST} marks are taken: the last are kept")));
}

/// Every object with a mark, in the order of the prompt.
fn each<'p>(body: &mut Object<'p>, visit: &mut impl FnMut(&mut Object<'p>)) {
    for key in ["tools", "system"] {
        if let Some(Json::Array(blocks)) = body.get_mut(key) {
            each_block(blocks, visit);
        }
    }
    let Some(Json::Array(messages)) = body.get_mut("messages") else { return };
    for message in messages {
        let Json::Object(message) = message else { continue };
        if let Some(Json::Array(blocks)) = message.get_mut("content") {
            each_block(blocks, visit);
        }
    }
}

fn each_block<'p>(blocks: &mut [Json<'p>], visit: &mut impl FnMut(&mut Object<'p>)) {
    for block in blocks {
        let Json::Object(block) = block else { continue };
        if let Some(Json::Array(inner)) = block.get_mut("content") {
            each_block(inner, visit);
        }
        if block.contains_key(KEY) {
            visit(block);
        }
    }
}

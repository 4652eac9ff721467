//! Writes turns as `system` and `messages`. The order never depends on what comes later, so that the prompt cache of
//! one request serves the next.
//!
//! Operator turns that lead go into `system`, one block a part. Later ones keep their place where the model takes them
//! there, and are said as a user's words with a note otherwise; they are never moved to the top.

use super::{Scope, blocks::blocks};
use crate::{
    Loss, Refusal,
    json::{Json, Object, json},
    request::{Part, PartKind, Role, Turn},
};

/// What precedes an operator's words that are said in a user's turn.
const NOTE: &str = "The operator of this application says (not the user):\n\n";

/// A message in the making. Results of tools come before anything else in it.
struct Message<'a> {
    role: &'static str,
    results: Vec<Json<'a>>,
    content: Vec<Json<'a>>,
}

/// Writes `system` and `messages`; `instruction` ends the system prompt.
pub(super) fn turns<'a>(
    scope: Scope<'a>,
    instruction: Option<&'a str>,
    body: &mut Object<'a>,
    losses: &mut Vec<Loss>,
) -> Result<(), Refusal> {
    let turns = &scope.request.turns;
    refuse_prefill(scope)?;
    let leading = turns.iter().take_while(|turn| is_operator(turn)).count();
    let mut system = Vec::new();
    for (index, turn) in turns[..leading].iter().enumerate() {
        system.extend(blocks(&turn.parts, index, scope, losses)?);
    }
    let mut messages = Vec::new();
    if leading == turns.len() && !system.is_empty() {
        losses.push(Loss::approximated(
            "messages",
            "a conversation needs a user's turn: the instructions are sent as it",
        ));
        messages.push(Message { role: "user", results: Vec::new(), content: std::mem::take(&mut system) });
    }
    conversation(scope, leading, &mut messages, losses)?;
    system.extend(instruction.map(|text| json!({"type": "text", "text": text})));
    if !system.is_empty() {
        body.insert("system", system);
    }
    let messages = finish(messages);
    if messages.is_empty() {
        return Err(scope.refuse("messages", "there must be at least one message that says something"));
    }
    body.insert("messages", messages);
    Ok(())
}

/// An assistant's turn at the end is to be continued; newer models refuse it.
fn refuse_prefill(scope: Scope) -> Result<(), Refusal> {
    let turns = &scope.request.turns;
    let is_prefill = turns.last().is_some_and(|turn| turn.role == Role::Assistant);
    if is_prefill && !scope.native() && !scope.target.traits.prefill {
        let field = format!("messages[{}]", turns.len() - 1);
        return Err(scope.refuse(field, "the model does not continue an assistant's message"));
    }
    Ok(())
}

fn conversation<'a>(
    scope: Scope<'a>,
    leading: usize,
    messages: &mut Vec<Message<'a>>,
    losses: &mut Vec<Loss>,
) -> Result<(), Refusal> {
    let turns = &scope.request.turns;
    for (index, turn) in turns.iter().enumerate().skip(leading) {
        match turn.role {
            Role::Assistant => {
                let content = blocks(&turn.parts, index, scope, losses)?;
                messages.push(Message { role: "assistant", results: Vec::new(), content });
            }
            Role::User => say(messages, blocks(&turn.parts, index, scope, losses)?),
            Role::Tool => answer_calls(messages, blocks(&turn.parts, index, scope, losses)?),
            Role::System | Role::Developer if keeps_its_place(scope, index) => {
                instruct(messages, blocks(&turn.parts, index, scope, losses)?);
            }
            Role::System | Role::Developer => {
                let why = "the model takes instructions at the top alone: this one is said as a user's message";
                losses.push(Loss::approximated("messages.role", why));
                say(messages, noted(&turn.parts, index, scope, losses)?);
            }
        }
    }
    Ok(())
}

/// What a user says: behind results of tools in their message, else in a message of its own.
fn say<'a>(messages: &mut Vec<Message<'a>>, content: Vec<Json<'a>>) {
    match messages.last_mut().filter(|message| message.role == "user" && !message.results.is_empty()) {
        Some(message) => message.content.extend(content),
        None => messages.push(Message { role: "user", results: Vec::new(), content }),
    }
}

/// Results of tools: all of one round in one message.
fn answer_calls<'a>(messages: &mut Vec<Message<'a>>, results: Vec<Json<'a>>) {
    match messages.last_mut().filter(|message| message.role == "user") {
        Some(message) => message.results.extend(results),
        None => messages.push(Message { role: "user", results, content: Vec::new() }),
    }
}

/// Instructions in their place: those that follow each other are one message.
fn instruct<'a>(messages: &mut Vec<Message<'a>>, content: Vec<Json<'a>>) {
    match messages.last_mut().filter(|message| message.role == "system") {
        Some(message) => message.content.extend(content),
        None => messages.push(Message { role: "system", results: Vec::new(), content }),
    }
}

/// Whether the run of operator turns around `index` may stand where it does: directly behind a user's turn, and at the
/// end or before an assistant's.
fn keeps_its_place(scope: Scope, index: usize) -> bool {
    if scope.native() {
        return true;
    }
    let turns = &scope.request.turns;
    let before = turns[..index].iter().rev().find(|turn| !is_operator(turn));
    let after = turns[index..].iter().find(|turn| !is_operator(turn));
    scope.target.traits.mid_conversation_system
        && before.is_some_and(|turn| matches!(turn.role, Role::User | Role::Tool))
        && after.is_none_or(|turn| turn.role == Role::Assistant)
}

fn is_operator(turn: &Turn) -> bool {
    matches!(turn.role, Role::System | Role::Developer)
}

/// The blocks of an operator's words with a note before them.
fn noted<'a>(parts: &[Part], index: usize, scope: Scope<'a>, losses: &mut Vec<Loss>) -> Result<Vec<Json<'a>>, Refusal> {
    let mut parts = parts.to_vec();
    if let Some(PartKind::Text { text, .. }) = parts.first_mut().map(|part| &mut part.kind) {
        text.insert_str(0, NOTE);
    }
    Ok(blocks(&parts, index, scope, losses)?.into_iter().map(Json::into_owned).collect())
}

fn finish<'a>(messages: Vec<Message<'a>>) -> Vec<Json<'a>> {
    let last = messages.len().wrapping_sub(1);
    let mut finished = Vec::with_capacity(messages.len());
    for (index, mut message) in messages.into_iter().enumerate() {
        message.results.append(&mut message.content);
        let mut content = message.results;
        if index == last && message.role == "assistant" {
            trim_end(&mut content);
        }
        if !content.is_empty() {
            finished.push(json!({"role": message.role, "content": content}));
        }
    }
    finished
}

/// A message that is to be continued must not end in white space.
fn trim_end(content: &mut [Json<'_>]) {
    let Some(last) = content.last_mut().filter(|block| block["type"] == *"text") else { return };
    if let Some(text) = last["text"].as_str() {
        let trimmed = text.trim_end().to_owned();
        last.set("text", trimmed);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::testing::{assistant, call, chat, encoded, named, refused, result, system, traits, turn, user},
        *,
    };
    use crate::{LossKind, Traits, request::Request};

    fn with(turns: Vec<Turn>) -> Request {
        Request { turns, ..chat() }
    }

    fn anywhere() -> Traits {
        Traits { mid_conversation_system: true, ..traits() }
    }

    fn roles(body: &Value) -> Vec<&str> {
        let messages = body["messages"].as_array().expect("messages");
        messages.iter().map(|message| message["role"].as_str().expect("a role")).collect()
    }

    fn text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    #[test]
    fn leading_operator_turns_are_one_block_a_part() {
        let two = turn(Role::Developer, vec![Part::text("b"), Part::text(""), Part::text("c")]);
        let (body, losses) = encoded(&with(vec![system("a"), two, user("hi")]), &traits());
        assert_eq!(body["system"], json!([text("a"), text("b"), text("c")]));
        assert_eq!(roles(&body), ["user"]);
        assert!(losses.is_empty());
    }

    #[test]
    fn later_operator_turns_keep_their_place_where_the_model_takes_them() {
        let turns = vec![user("a"), system("b"), system("c"), assistant("d"), user("e"), system("f")];
        let (body, losses) = encoded(&with(turns), &anywhere());
        assert_eq!(roles(&body), ["user", "system", "assistant", "user", "system"]);
        assert_eq!(body["messages"][1]["content"], json!([text("b"), text("c")]));
        assert!(body.get("system").is_none() && losses.is_empty());
    }

    #[test]
    fn later_operator_turns_become_a_noted_user_turn_where_it_does_not() {
        let (body, losses) =
            encoded(&with(vec![system("top"), user("a"), system("b"), assistant("c"), user("d")]), &traits());
        assert_eq!(body["system"], json!([text("top")]));
        assert_eq!(roles(&body), ["user", "user", "assistant", "user"]);
        assert_eq!(body["messages"][1]["content"], json!([text(&format!("{NOTE}b"))]));
        assert_eq!(named(&losses), [(LossKind::Approximated, "messages.role")]);
    }

    #[test]
    fn an_operator_turn_before_a_users_is_not_placed_where_the_model_refuses_it() {
        let (body, _) = encoded(&with(vec![user("a"), assistant("b"), system("c"), user("d")]), &anywhere());
        assert_eq!(roles(&body), ["user", "assistant", "user", "user"]);
    }

    #[test]
    fn results_of_one_round_are_one_message_and_come_first_in_it() {
        let calls = turn(Role::Assistant, vec![call("a", "{}"), call("b", "{}")]);
        let turns = vec![user("go"), calls, result("a", "1"), result("b", "2"), user("and?")];
        let (body, _) = encoded(&with(turns), &traits());
        assert_eq!(roles(&body), ["user", "assistant", "user"]);
        assert_eq!(
            body["messages"][2]["content"],
            json!([
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "tool_result", "tool_use_id": "b", "content": "2"},
                {"type": "text", "text": "and?"},
            ])
        );
    }

    #[test]
    fn an_operator_turn_between_a_call_and_its_result_comes_behind_the_result() {
        let turns = vec![user("go"), turn(Role::Assistant, vec![call("a", "{}")]), system("mind"), result("a", "1")];
        let (body, _) = encoded(&with(turns), &traits());
        assert_eq!(roles(&body), ["user", "assistant", "user"]);
        assert_eq!(body["messages"][2]["content"][0]["type"], "tool_result");
        assert_eq!(body["messages"][2]["content"][1], text(&format!("{NOTE}mind")));
    }

    #[test]
    fn a_longer_conversation_begins_with_the_bytes_of_the_shorter() {
        let calls = turn(Role::Assistant, vec![call("a", "{}")]);
        let turns = vec![
            system("s"),
            user("1"),
            calls,
            result("a", "x"),
            assistant("2"),
            user("3"),
            system("4"),
            assistant("5"),
            user("6"),
        ];
        for traits in [traits(), anywhere()] {
            let messages = |length: usize| {
                let (body, _) = encoded(&with(turns[..length].to_vec()), &traits);
                body["messages"].as_array().expect("messages").clone()
            };
            for (short, long) in [(2, 4), (4, 6), (7, 9), (2, 9)] {
                let (short, long) = (messages(short), messages(long));
                assert_eq!(long[..short.len()], short[..]);
            }
        }
    }

    #[test]
    fn a_turn_that_says_nothing_is_left_out() {
        let (body, losses) = encoded(&with(vec![user("a"), assistant(" "), user("b")]), &traits());
        assert_eq!(roles(&body), ["user", "user"]);
        assert!(losses.is_empty());
        assert_eq!(refused(&with(vec![user("")]), &traits()).param.as_deref(), Some("messages"));
    }

    #[test]
    fn instructions_alone_are_sent_as_the_users_turn() {
        let (body, losses) = encoded(&with(vec![system("do it")]), &traits());
        assert_eq!((roles(&body), body.get("system")), (vec!["user"], None));
        assert_eq!(named(&losses), [(LossKind::Approximated, "messages")]);
    }

    #[test]
    fn a_prefill_goes_where_the_model_continues_it() {
        let request = with(vec![user("a"), assistant("Once upon \n")]);
        assert_eq!(encoded(&request, &traits()).0["messages"][1]["content"], json!([text("Once upon")]));
        let refusal = refused(&request, &Traits { prefill: false, ..traits() });
        assert_eq!(refusal.param.as_deref(), Some("messages[1]"));
    }
}

//! What a model takes at a host: what is known of the upstream model by its name, and the manifest's own words over it.

use std::fmt::Display;

use table::Traits;

use crate::{findings::Findings, resolve::World};

pub(crate) fn traits(
    world: &World<'_>,
    field: impl Display,
    upstream_model: &str,
    spec: &crds::ModelSpec,
    found: &mut Findings,
) -> Traits {
    let mut traits = world.traits(upstream_model);
    if let Some(written) = &spec.traits {
        overlay(&mut traits, written);
    } else if !traits.known && spec.max_output_tokens.is_none() {
        found.note(format!(
            "{field}: nothing is known of `{upstream_model}`, so translated requests ask for {} tokens of output at most: \
             set `spec.maxOutputTokens`, and `spec.traits` where it reasons",
            traits.max_output_tokens
        ));
    }
    if let Some(most) = spec.max_output_tokens {
        traits.max_output_tokens = most;
    }
    traits
}

fn overlay(traits: &mut Traits, written: &crds::Traits) {
    fn set<T: Clone>(place: &mut T, written: &Option<T>) {
        if let Some(written) = written {
            place.clone_from(written);
        }
    }
    traits.known = true;
    set(&mut traits.sampling, &written.sampling);
    set(&mut traits.temperature_with_top_p, &written.temperature_with_top_p);
    set(&mut traits.stop, &written.stop);
    set(&mut traits.reasoning, &written.reasoning.map(reasoning));
    set(&mut traits.efforts, &written.efforts);
    set(&mut traits.chat_tools_with_reasoning, &written.chat_tools_with_reasoning);
    set(&mut traits.developer_role, &written.developer_role);
    set(&mut traits.forced_tool_choice, &written.forced_tool_choice);
    set(&mut traits.prefill, &written.prefill);
    set(&mut traits.mid_conversation_system, &written.mid_conversation_system);
    set(&mut traits.json_schema, &written.json_schema);
    set(&mut traits.prompt_cache_breakpoints, &written.prompt_cache_breakpoints);
}

fn reasoning(written: crds::ReasoningTrait) -> table::ReasoningStyle {
    match written {
        crds::ReasoningTrait::None => table::ReasoningStyle::None,
        crds::ReasoningTrait::Effort => table::ReasoningStyle::Effort,
        crds::ReasoningTrait::AdaptiveThinking => table::ReasoningStyle::AdaptiveThinking,
        crds::ReasoningTrait::BudgetThinking => table::ReasoningStyle::BudgetThinking,
    }
}

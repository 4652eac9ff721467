//! "Did you mean": the known name that is nearest to a written one.

/// A half-sentence that names the nearest of `known`, or nothing where none is near.
pub(crate) fn did_you_mean<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known.map(|name| (strsim::damerau_levenshtein(written, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 2.max(written.len() / 4) => format!("; did you mean `{name}`?"),
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_and_nothing_far() {
        assert_eq!(did_you_mean("opnai", ["anthropic", "openai"].into_iter()), "; did you mean `openai`?");
        assert_eq!(did_you_mean("gemini", ["anthropic", "openai"].into_iter()), "");
    }
}

//! Guesses what somebody meant who wrote something else.

/// The known word that is nearest to what was written; `None` when none is near. The case of letters weighs nothing.
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = written.to_lowercase();
    let most = (folded.chars().count() / 3).max(1);
    known
        .map(|word| (strsim::osa_distance(&folded, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= most && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_only_what_is_near() {
        let fields = ["baseURL", "apiPrefix", "auth"];
        assert_eq!(nearest("baseUrl", fields.into_iter()), Some("baseURL"));
        assert_eq!(nearest("apiPrefx", fields.into_iter()), Some("apiPrefix"));
        assert_eq!(nearest("auht", fields.into_iter()), Some("auth"));
        assert_eq!(nearest("catalogRef", fields.into_iter()), None);
        assert_eq!(nearest("", fields.into_iter()), None);
    }
}

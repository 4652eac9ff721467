//! The grammars of names, ids and patterns, each with the words that tell a user what was expected.

/// A name of an object of ours, or of a ConfigMap or Secret.
pub(crate) const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// A name of a namespace.
pub(crate) const NAMESPACE: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A key in the data of a ConfigMap or Secret.
pub(crate) const DATA_KEY: &str = r"^[-._a-zA-Z0-9]+$";
/// A name of a header or query parameter.
pub(crate) const HEADER_NAME: &str = r"^[A-Za-z0-9_-]+$";
/// A value of a header.
pub(crate) const HEADER_VALUE: &str = r"^[ -~]*$";
/// A model id.
pub(crate) const MODEL_ID: &str = r"^[A-Za-z0-9][A-Za-z0-9._:/@+\[\]-]*$";
/// A pattern of model ids.
pub(crate) const MODEL_GLOB: &str = r"^[A-Za-z0-9*?][A-Za-z0-9._:/@+\[\]*?-]*$";
/// A pattern of names of Hosts, with or without a namespace.
pub(crate) const HOST_GRANT: &str = r"^([a-z0-9*?-]+/)?[a-z0-9.*?-]+$";
/// The path of an API.
pub(crate) const API_PATH: &str = r"^/[A-Za-z0-9._~/-]*$";
/// A path with or without a query.
pub(crate) const PROBE_PATH: &str = r"^/[A-Za-z0-9._~/?&=-]*$";
/// A file that is mounted into the data plane.
pub(crate) const KEY_FILE: &str = r"^/var/run/relay(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$";
/// An environment variable of the data plane.
pub(crate) const KEY_VARIABLE: &str = r"^RELAY_KEY_[A-Z0-9_]+$";
/// The name of a key that credentials are sealed with.
pub(crate) const SEALING_KEY_ID: &str = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
/// 60 bytes in base64.
pub(crate) const WRAPPED_KEY: &str = r"^[A-Za-z0-9+/]{80}$";
/// 12 bytes in base64.
pub(crate) const SEALING_NONCE: &str = r"^[A-Za-z0-9+/]{16}$";
/// Base64 with padding whose last bits are zero, so that equal bytes are equal text.
pub(crate) const CIPHERTEXT: &str =
    r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)$";
/// The hash of a token.
pub(crate) const TOKEN_HASH: &str = r"^sha256:[0-9a-f]{64}$";
/// A time zone.
pub(crate) const TIME_ZONE: &str = r"^[A-Za-z][A-Za-z0-9_+/-]*$";
/// A plain lower-case word.
pub(crate) const WORD: &str = r"^[a-z]+$";
/// The name of a dialect.
pub(crate) const DIALECT: &str = r"^[a-z0-9][a-z0-9-]*$";
/// A span of time.
pub(crate) const DURATION: &str = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// An instant.
// The API server itself would take an offset of 24 hours.
pub(crate) const INSTANT: &str = concat!(
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?",
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
);
/// A sum of money.
pub(crate) const AMOUNT: &str = r"^([0-8]?[0-9]{1,6}(\.[0-9]{1,6})?|9000000(\.0{1,6})?)$";
/// A price for a million tokens.
pub(crate) const PRICE: &str = r"^[0-9]{1,6}(\.[0-9]{1,6})?$";
/// The reason of a condition.
pub(crate) const REASON: &str = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";

/// What a value of this grammar looks like, to end the sentence "it must be ...".
pub fn in_words(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        OBJECT_NAME => "a Kubernetes name: lower-case letters, digits, `-` and `.`",
        NAMESPACE => "a namespace: lower-case letters, digits and `-`",
        DATA_KEY => "a key of letters, digits, `-`, `_` and `.`",
        HEADER_NAME => "a name of letters, digits, `-` and `_`",
        HEADER_VALUE => "printable ASCII on one line",
        MODEL_ID => "a model id: letters, digits and `._:/@+-[]`, beginning with a letter or digit",
        MODEL_GLOB => "a model id in which `*` and `?` stand for other characters",
        HOST_GRANT => "the name of a Host, or `namespace/name`, in which `*` and `?` stand for other characters",
        API_PATH => "a path that begins with `/`",
        PROBE_PATH => "a path that begins with `/`, with or without a query",
        KEY_FILE => "a path below `/var/run/relay/`",
        KEY_VARIABLE => "the name of a variable that begins with `RELAY_KEY_`, in upper case",
        SEALING_KEY_ID => "letters, digits, `.`, `_` and `-`, with a letter or digit at both ends",
        WRAPPED_KEY => "80 characters of base64, as `relay seal` writes them",
        SEALING_NONCE => "16 characters of base64, as `relay seal` writes them",
        CIPHERTEXT => "base64 with padding, as `relay seal` writes it",
        TOKEN_HASH => "`sha256:` and 64 lower-case hex digits, as `relay keys hash` prints it",
        TIME_ZONE => "the IANA name of a time zone, such as `Europe/Berlin`",
        WORD => "a lower-case word",
        DIALECT => "the name of a dialect: lower-case letters, digits and `-`",
        DURATION => "a span of time such as `250ms`, `30s` or `1h30m`",
        INSTANT => "an instant such as `2030-01-31T00:00:00Z`",
        AMOUNT => "US dollars such as `\"250\"` or `\"12.50\"`: 9000000 at most, with six decimals at most",
        PRICE => "US dollars for a million tokens such as `\"3\"` or `\"0.075\"`, with six decimals at most",
        REASON => "a word in CamelCase",
        _ => return None,
    })
}

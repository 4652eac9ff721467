//! Relay keys as text: how a token is made, how a mistyped one is told from an unknown one, and what is stored of it.
//! Knows no table and draws no randomness.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest as _, Sha256};

use crate::Secret;

/// What every minted token starts with, so that scanners of leaked secrets find it.
pub const PREFIX: &str = "sk-relay-";

/// Fewest characters of a token that a user brings: shorter ones can be guessed.
pub const BROUGHT_MIN_CHARS: usize = 32;

/// The key within the data of a Secret under which a token stands, unless its RelayKey says otherwise.
pub const SECRET_KEY: &str = "token";

/// Random bytes that [`mint`] takes: seven for the key's id, thirty-two for its secret.
pub const RANDOM_BYTES: usize = 39;

const KEY_ID_CHARS: usize = 10;
const SECRET_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;
const BODY_CHARS: usize = PREFIX.len() + KEY_ID_CHARS + SECRET_CHARS;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The part of the token that may be shown: it names the key and opens nothing.
    pub key_id: String,
    /// The token itself.
    pub token: Secret<String>,
}

/// What the form of a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// It was minted, and its checksum is right; this is its key id.
    Minted(&'a str),
    /// It does not start with [`PREFIX`]: a user brought it, so its form says nothing.
    Brought,
    /// It starts with [`PREFIX`], but is cut, lengthened or mistyped.
    Mistyped,
}

/// The SHA-256 of a token: all that the table holds of it. Compared in a time that does not depend on the values.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

/// The key within the data of a Secret under which the token that was replaced stands.
pub fn previous_key(key: &str) -> String {
    format!("{key}-previous")
}

/// The key within the data of a Secret that says until when the token that was replaced is good, as RFC 3339 has it.
pub fn previous_until_key(key: &str) -> String {
    format!("{key}-previous-until")
}

/// Makes a token of `random`, which must come from a cryptographic source and be used once.
pub fn mint(random: &[u8; RANDOM_BYTES]) -> Minted {
    let (id, secret) = random.split_at(RANDOM_BYTES - 32);
    let mut key_id = BASE32_NOPAD.encode(id).to_ascii_lowercase();
    key_id.truncate(KEY_ID_CHARS);
    let body = format!("{PREFIX}{key_id}{}", BASE64URL_NOPAD.encode(secret));
    let token = format!("{body}{}", checksum(&body));
    Minted { key_id, token: Secret::new(token) }
}

/// Tells by its form alone whether a token can be one of ours.
pub fn form(token: &str) -> Form<'_> {
    let Some(inner) = token.strip_prefix(PREFIX) else { return Form::Brought };
    if !token.is_ascii() || token.len() != BODY_CHARS + CHECKSUM_CHARS {
        return Form::Mistyped;
    }
    let (body, sum) = token.split_at(BODY_CHARS);
    if checksum(body) == sum { Form::Minted(&inner[..KEY_ID_CHARS]) } else { Form::Mistyped }
}

/// CRC-32/ISO-HDLC of `body` as six digits of base 62, the highest first.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [0; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % BASE62.len()];
        rest /= BASE62.len();
    }
    digits.into_iter().map(char::from).collect()
}

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether a text is one that [`TokenHash::parse`] reads.
    pub fn is_written(hex: &str) -> bool {
        // Every digit is looked at: without an early end all are compared at once.
        let is_hex = |all, digit: u8| all & (digit.is_ascii_digit() | (b'a'..=b'f').contains(&digit));
        hex.len() == 64 && hex.bytes().fold(true, is_hex)
    }

    /// Reads 64 lower-case hex digits; nothing else is a hash.
    pub fn parse(hex: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(hex.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for TokenHash {
    /// 64 lower-case hex digits, as `sha256sum` prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(other.0).fold(0, |differing, (mine, theirs)| differing | (mine ^ theirs));
        std::hint::black_box(differing) == 0
    }
}

impl Eq for TokenHash {}

impl std::hash::Hash for TokenHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minted() -> String {
        mint(&std::array::from_fn(|i| i as u8)).token.expose().clone()
    }

    #[test]
    fn what_is_written_as_a_hash_is_what_can_be_read_as_one() {
        let hash = TokenHash::of("token").to_string();
        assert!(TokenHash::is_written(&hash));
        for other in ["", &hash[1..], &format!("{hash}0"), &hash.to_uppercase(), &format!("{}é", &hash[2..])] {
            assert_eq!((TokenHash::is_written(other), TokenHash::parse(other)), (false, None), "{other}");
        }
        for character in (0..=127_u8).map(char::from) {
            let one = format!("{character}{}", &hash[1..]);
            assert_eq!(TokenHash::is_written(&one), TokenHash::parse(&one).is_some(), "{one}");
        }
    }

    #[test]
    fn a_minted_token_has_the_documented_form() {
        let token = minted();
        assert_eq!(token.len(), 9 + 10 + 43 + 6);
        assert_eq!(token, "sk-relay-aaaqeayeauBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY0wiwR9");
        let Form::Minted(key_id) = form(&token) else { panic!("{token} is minted") };
        assert_eq!(key_id, "aaaqeayeau");
    }

    #[test]
    fn the_checksum_is_crc32_iso_hdlc_in_base_62() {
        // The check value of CRC-32/ISO-HDLC is 0xCBF43926 = 3421780262.
        assert_eq!(checksum("123456789"), "3jZRME");
    }

    #[test]
    fn every_single_mistyped_character_is_noticed() {
        let token = minted();
        for at in PREFIX.len()..token.len() {
            let mut wrong = token.clone().into_bytes();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(form(&wrong), Form::Mistyped, "{wrong}");
        }
    }

    #[test]
    fn a_cut_or_lengthened_token_is_mistyped_and_a_foreign_one_is_brought() {
        let token = minted();
        assert_eq!(form(&token[..token.len() - 1]), Form::Mistyped);
        assert_eq!(form(&format!("{token}x")), Form::Mistyped);
        assert_eq!(form(&format!("{}é", &token[..token.len() - 2])), Form::Mistyped);
        assert_eq!(form("a-token-of-the-user"), Form::Brought);
        assert_eq!(form(""), Form::Brought);
    }

    #[test]
    fn the_hash_prints_as_sha256sum_prints_it_and_reads_back() {
        let hash = TokenHash::of("abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), hex);
        assert_eq!(TokenHash::parse(hex), Some(hash));
        assert_eq!(TokenHash::parse("abc"), None);
        assert_ne!(hash, TokenHash::of("abd"));
    }
}

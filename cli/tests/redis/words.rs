//! What a script is told: values of MessagePack, one after the other. Their texts need not be UTF-8.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    Number(f64),
    Text(Vec<u8>),
    List(Vec<Word>),
}

/// All values of an argument; where they stand in one list, those of the list.
pub(crate) fn words(mut argument: &[u8]) -> Vec<Word> {
    let mut words = Vec::new();
    while !argument.is_empty() {
        words.push(rmp_serde::from_read(&mut argument).expect("an argument is MessagePack"));
    }
    match &mut words[..] {
        [Word::List(all)] => std::mem::take(all),
        _ => words,
    }
}

impl Word {
    /// A number that is whole and not negative.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Number(number) if *number >= 0.0 && number.fract() == 0.0 => *number as u64,
            other => panic!("{other:?} is no number"),
        }
    }

    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.number()).expect("few")
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => String::from_utf8(text.clone()).expect("UTF-8"),
            other => panic!("{other:?} is no text"),
        }
    }

    pub(crate) fn list(&self) -> &[Word] {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?} is no list"),
        }
    }

    /// The rule whose counters begin so.
    pub(crate) fn rule(&self) -> String {
        match self {
            Self::Text(start) => String::from_utf8(start[1..start.len() - 2].to_vec()).expect("rules are text"),
            other => panic!("{other:?} begins no counters"),
        }
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words)
    }
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Word;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, a text or a list")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Word, E> {
        Ok(Word::Number(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Word, E> {
        Ok(Word::Number(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Word, E> {
        Ok(Word::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
        Ok(Word::Text(text.as_bytes().to_vec()))
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<Word, E> {
        Ok(Word::Text(text.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Word, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = list.next_element()? {
            words.push(word);
        }
        Ok(Word::List(words))
    }
}

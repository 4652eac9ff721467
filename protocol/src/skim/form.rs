//! Remembers the form of what a stream went on with last: the events of a stream differ in a text alone for long, and
//! what only differs in that needs no walk.

use std::fmt;

use super::{Reader, Text};

/// The form of the last event that was walked over, and its sense: what it does with its text.
pub(crate) struct Form<S> {
    known: Option<Known<S>>,
}

struct Known<S> {
    sense: S,
    /// All before the text.
    before: String,
    /// All behind it, up to the closing bracket or the padding.
    after: String,
    /// Whether a string ends the event that is there for its length alone.
    is_padded: bool,
}

impl<S: Copy> Form<S> {
    /// The sense of an event of the known form, and its text; none: it has another form.
    pub(crate) fn fill<'a>(&self, data: &'a str) -> Option<(S, Text<'a>)> {
        let known = self.known.as_ref().filter(|known| data.starts_with(&known.before))?;
        let mut reader = Reader { text: data, at: known.before.len(), space: 0 };
        let text = reader.text().filter(|text| text.bytes > 0)?;
        let padding = unclosed(&data[reader.at..])?.strip_prefix(known.after.as_str())?;
        let fits = if known.is_padded { is_string(padding) } else { padding.is_empty() };
        fits.then_some((known.sense, text))
    }

    /// Takes the form of an event that was walked over. An empty text may have another sense than one that says
    /// something. `padding` is a string of the outermost object that says nothing.
    pub(crate) fn learn(&mut self, data: &str, sense: S, text: Text<'_>, padding: Option<Text<'_>>) {
        if text.bytes == 0 {
            return;
        }
        let end = text.at + text.quoted.len();
        let Some(after) = data.get(end..).and_then(unclosed) else { return };
        let padding = padding.filter(|padding| padding.at + padding.quoted.len() == end + after.len());
        let after = padding.map_or(after, |padding| &data[end..padding.at]);
        let (before, after) = (data[..text.at].to_owned(), after.to_owned());
        self.known = Some(Known { sense, before, after, is_padded: padding.is_some() });
    }
}

/// A tail of an object without its last bracket and the space before it, of which Anthropic puts in more or less.
fn unclosed(tail: &str) -> Option<&str> {
    Some(tail.strip_suffix('}')?.trim_end_matches([' ', '\t', '\r', '\n']))
}

fn is_string(text: &str) -> bool {
    let mut reader = Reader::new(text);
    reader.text().is_some() && reader.end().is_some()
}

impl<S> Default for Form<S> {
    fn default() -> Self {
        Self { known: None }
    }
}

/// How events looked is no part of what was learnt of them.
impl<S> fmt::Debug for Form<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Form")
    }
}

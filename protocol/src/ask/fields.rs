//! The words in which a request is read field by field, without a tree: what takes values, and what gives them.
//!
//! Two give them: [`super::cursor`] fast, and [`super::worded`] where an error needs its words.

use serde::de;

/// A value that is about to be read.
pub(super) trait Value<'b>: Sized {
    /// Why it cannot be read.
    type Error: de::Error;

    /// Gives its text, without the space around it.
    fn raw(self) -> Result<&'b str, Self::Error>;

    /// Passes over it.
    fn skip(self) -> Result<(), Self::Error>;

    /// Reads an object into `fields`. Errs at anything else.
    fn object<F: Fields<'b>>(self, fields: &mut F) -> Result<(), Self::Error>;

    /// Reads `null`, a string or a list into `elements`. Errs at anything else.
    fn list<E: Elements<'b>>(self, elements: &mut E) -> Result<(), Self::Error>;

    /// Gives its text and, of a list, how many elements it has; zero of anything else.
    fn counted(self) -> Result<(&'b str, usize), Self::Error>;
}

/// Takes the fields of an object one by one.
pub(super) trait Fields<'b> {
    /// Takes one field's value. In `name`, surrogates without a partner are replaced: no name that is looked for has one.
    fn field<V: Value<'b>>(&mut self, name: &str, value: V) -> Result<(), V::Error>;
}

/// Takes the elements of a list, or a string in its place.
pub(super) trait Elements<'b> {
    /// Takes the next element.
    fn element<V: Value<'b>>(&mut self, index: usize, value: V) -> Result<(), V::Error>;

    /// Takes the size of a string that stands where a list may, in bytes and unescaped. Surrogates without a partner are
    /// kept, three bytes each.
    fn text(&mut self, bytes: usize);

    /// Whether the string itself is wanted too.
    fn listens(&self) -> bool {
        false
    }

    /// Takes a piece of it, unescaped.
    fn piece(&mut self, _: &[u8]) {}
}

//! Counts what is said: messages and their parts, without keeping any of it.

use std::hash::{DefaultHasher, Hasher};

use super::{
    conversation::{Beginning, Speaker},
    fields::{Elements, Fields, Value},
    path::Path,
    values::word,
};

/// What was counted of instructions or messages.
#[derive(Default)]
pub(super) struct Talk {
    pub(super) text_bytes: usize,
    pub(super) images: usize,
    pub(super) documents: usize,
    pub(super) sounds: usize,
}

impl Talk {
    fn add(&mut self, other: &Talk) {
        self.text_bytes += other.text_bytes;
        self.images += other.images;
        self.documents += other.documents;
        self.sounds += other.sounds;
    }
}

/// The list of messages.
pub(super) struct Messages<'r> {
    pub(super) path: &'r mut Path,
    pub(super) talk: Talk,
    pub(super) count: usize,
    pub(super) beginning: &'r mut Beginning,
}

impl<'v> Elements<'v> for Messages<'_> {
    fn element<V: Value<'v>>(&mut self, index: usize, value: V) -> Result<(), V::Error> {
        self.path.index(index);
        let wanted = self.beginning.is_open();
        let mut message = Message { role: Speaker::Other, content: Content::new(self.path, wanted) };
        value.object(&mut message)?;
        let role = message.role;
        let (talk, hash) = message.content.close();
        self.talk.add(&talk);
        self.beginning.message(role, hash);
        self.count += 1;
        self.path.pop();
        Ok(())
    }

    /// A string in place of the messages counts as none.
    fn text(&mut self, _: usize) {}
}

struct Message<'r> {
    role: Speaker,
    content: Content<'r>,
}

impl<'v> Fields<'v> for Message<'_> {
    fn field<V: Value<'v>>(&mut self, name: &str, value: V) -> Result<(), V::Error> {
        match name {
            "role" => {
                self.content.path.field("role");
                self.role = word(value.raw()?)?.map_or(Speaker::Other, |role| Speaker::of(&role));
            }
            "content" => {
                self.content.path.field("content");
                value.list(&mut self.content)?;
            }
            "tool_calls" | "function_call" | "reasoning_content" => {
                self.content.talk.text_bytes += value.raw()?.len();
                return Ok(());
            }
            _ => return value.skip(),
        }
        self.content.path.pop();
        Ok(())
    }
}

/// A string or a list of parts; of a part, its own content again.
pub(super) struct Content<'r> {
    path: &'r mut Path,
    talk: Talk,
    hasher: Option<DefaultHasher>,
}

impl<'r> Content<'r> {
    /// Nothing read yet; `hashed` says whether the hash of the content is wanted.
    pub(super) fn new(path: &'r mut Path, hashed: bool) -> Self {
        Self { path, talk: Talk::default(), hasher: hashed.then(DefaultHasher::new) }
    }

    /// What was counted, and the hash, which is zero where it was not wanted.
    pub(super) fn close(self) -> (Talk, u64) {
        (self.talk, self.hasher.map_or(0, |hasher| hasher.finish()))
    }

    fn count(&mut self, raw: &str) {
        self.text(raw.len());
        self.piece(raw.as_bytes());
    }
}

impl<'v> Elements<'v> for Content<'_> {
    fn element<V: Value<'v>>(&mut self, index: usize, value: V) -> Result<(), V::Error> {
        self.path.index(index);
        value.object(&mut *self)?;
        self.path.pop();
        Ok(())
    }

    fn text(&mut self, bytes: usize) {
        self.talk.text_bytes += bytes;
    }

    fn listens(&self) -> bool {
        self.hasher.is_some()
    }

    fn piece(&mut self, piece: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.write(piece);
        }
    }
}

/// The fields of a part.
impl<'v> Fields<'v> for Content<'_> {
    fn field<V: Value<'v>>(&mut self, name: &str, value: V) -> Result<(), V::Error> {
        match name {
            "type" => match value.raw()? {
                "\"image\"" | "\"image_url\"" => self.talk.images += 1,
                "\"input_audio\"" => self.talk.sounds += 1,
                "\"document\"" | "\"file\"" => self.talk.documents += 1,
                _ => {}
            },
            "text" | "thinking" | "refusal" | "input" => self.count(value.raw()?),
            "content" => {
                self.path.field("content");
                value.list(&mut *self)?;
                self.path.pop();
            }
            "source" => value.object(&mut Source { content: self, is_text: false, data: None })?,
            _ => value.skip()?,
        }
        Ok(())
    }
}

/// Where a document or picture of a part is; plain text counts as such.
struct Source<'s, 'r> {
    content: &'s mut Content<'r>,
    is_text: bool,
    data: Option<usize>,
}

impl<'v> Fields<'v> for Source<'_, '_> {
    fn field<V: Value<'v>>(&mut self, name: &str, value: V) -> Result<(), V::Error> {
        match name {
            "type" => self.is_text = value.raw()? == "\"text\"",
            "data" => self.data = Some(value.raw()?.len()),
            "content" => return value.list(self.content),
            _ => return value.skip(),
        }
        if let (true, Some(bytes)) = (self.is_text, self.data.filter(|_| self.is_text)) {
            self.content.talk.text_bytes += bytes;
            self.content.talk.documents = self.content.talk.documents.saturating_sub(1);
            self.data = None;
        }
        Ok(())
    }
}

//! Counts what is said: messages and their parts, without keeping any of it.

use std::hash::{DefaultHasher, Hasher};

use serde::de::{MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::{
    conversation::Beginning,
    fields::{Elements, Fields, ListOf, ObjectOf, skip},
    path::Path,
    values::string,
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

impl<'de> Elements<'de> for Messages<'_> {
    fn element<A: SeqAccess<'de>>(&mut self, index: usize, list: &mut A) -> Result<bool, A::Error> {
        self.path.index(index);
        let wanted = self.beginning.is_open();
        let mut message = Message { role: None, content: Content::new(self.path, wanted) };
        if list.next_element_seed(ObjectOf(&mut message))?.is_none() {
            self.path.pop();
            return Ok(false);
        }
        let role = message.role.unwrap_or_default();
        let (talk, hash) = message.content.close();
        self.talk.add(&talk);
        self.beginning.message(&role, hash);
        self.count += 1;
        self.path.pop();
        Ok(true)
    }

    /// A string in place of the messages counts as none.
    fn text(&mut self, _: &[u8]) {}
}

struct Message<'r> {
    role: Option<String>,
    content: Content<'r>,
}

impl<'de> Fields<'de> for Message<'_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "role" => {
                self.content.path.field("role");
                self.role = string(map.next_value()?)?;
            }
            "content" => {
                self.content.path.field("content");
                map.next_value_seed(ListOf(&mut self.content))?;
            }
            "tool_calls" | "function_call" | "reasoning_content" => {
                self.content.talk.text_bytes += map.next_value::<&RawValue>()?.get().len();
                return Ok(());
            }
            _ => return skip(map),
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

    fn count(&mut self, text: &[u8]) {
        self.talk.text_bytes += text.len();
        if let Some(hasher) = &mut self.hasher {
            hasher.write(text);
        }
    }
}

impl<'de> Elements<'de> for Content<'_> {
    fn element<A: SeqAccess<'de>>(&mut self, index: usize, list: &mut A) -> Result<bool, A::Error> {
        self.path.index(index);
        let read = list.next_element_seed(ObjectOf(&mut *self))?;
        self.path.pop();
        Ok(read.is_some())
    }

    fn text(&mut self, text: &[u8]) {
        self.count(text);
    }
}

/// The fields of a part.
impl<'de> Fields<'de> for Content<'_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => match map.next_value::<&RawValue>()?.get() {
                "\"image\"" | "\"image_url\"" => self.talk.images += 1,
                "\"input_audio\"" => self.talk.sounds += 1,
                "\"document\"" | "\"file\"" => self.talk.documents += 1,
                _ => {}
            },
            "text" | "thinking" | "refusal" | "input" => {
                let raw: &RawValue = map.next_value()?;
                self.count(raw.get().as_bytes());
            }
            "content" => {
                self.path.field("content");
                map.next_value_seed(ListOf(&mut *self))?;
                self.path.pop();
            }
            "source" => map.next_value_seed(ObjectOf(&mut Source { content: self, is_text: false, data: None }))?,
            _ => skip(map)?,
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

impl<'de> Fields<'de> for Source<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => self.is_text = map.next_value::<&RawValue>()?.get() == "\"text\"",
            "data" => self.data = Some(map.next_value::<&RawValue>()?.get().len()),
            "content" => return map.next_value_seed(ListOf(self.content)),
            _ => return skip(map),
        }
        if let (true, Some(bytes)) = (self.is_text, self.data.filter(|_| self.is_text)) {
            self.content.talk.text_bytes += bytes;
            self.content.talk.documents = self.content.talk.documents.saturating_sub(1);
            self.data = None;
        }
        Ok(())
    }
}

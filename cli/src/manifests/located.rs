//! A YAML document as JSON, with the line of every field, so that a report can say where.
//!
//! Documents are parsed one by one: a broken one costs only itself.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A document of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// Its content; `null` for an empty one.
    pub(crate) value: Value,
    /// The lines of its fields, from 1, by path as in `spec.hosts[0].name`; the document itself by the empty path.
    lines: BTreeMap<String, u64>,
}

impl Document {
    /// The line of the field at `path`, or of the nearest field around it.
    pub(crate) fn line(&self, path: &str) -> u64 {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return self.lines.get("").copied().unwrap_or(1),
            }
        }
    }
}

/// What a document is not YAML for. Never quotes the document, which may be a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Where, from 1.
    pub(crate) line: u64,
    /// What, in the parser's words.
    pub(crate) message: String,
}

/// All documents of a file that are not empty.
pub(crate) fn documents(text: &str) -> Vec<Result<Document, SyntaxError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    pieces(text).into_iter().flat_map(|(offset, piece)| parsed(offset, piece)).collect()
}

/// The documents of such a piece, empty ones included, as kubectl reads them: numbers that begin with a zero are octal.
pub(crate) fn values(offset: u64, piece: &str) -> Result<Vec<Value>, SyntaxError> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_multiple_with_options(piece, options).map_err(|error| syntax(offset, &error))
}

/// A file cut before each line that begins a document, and the lines before each piece. No text can hold such a line: it
/// ends even a block of literal text.
pub(crate) fn pieces(text: &str) -> Vec<(u64, &str)> {
    let has_directives = text.lines().any(|line| line.starts_with("%YAML") || line.starts_with("%TAG"));
    if has_directives {
        return vec![(0, text)];
    }
    let (mut pieces, mut start, mut offset, mut at) = (Vec::new(), 0, 0, 0);
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        let begins =
            line.strip_prefix("---").is_some_and(|rest| rest.trim_start().len() < rest.len() || rest.is_empty());
        if begins && at > start {
            pieces.push((offset, &text[start..at]));
            (start, offset) = (at, number);
        }
        at += line.len();
    }
    pieces.push((offset, &text[start..]));
    pieces
}

fn parsed(offset: u64, piece: &str) -> Vec<Result<Document, SyntaxError>> {
    match serde_saphyr::from_multiple::<Node>(piece) {
        Ok(nodes) => {
            let documents = nodes.into_iter().map(|node| node.document(offset));
            documents.filter(|document| !document.value.is_null()).map(Ok).collect()
        }
        Err(error) => vec![Err(syntax(offset, &error))],
    }
}

fn syntax(offset: u64, error: &serde_saphyr::Error) -> SyntaxError {
    let line = error.location().map_or(1, |location| location.line()) + offset;
    // Snippets would show the lines around the fault.
    SyntaxError { line, message: in_words(&error.without_snippet().to_string()) }
}

/// The parser's words without its place and without advice to programmers.
fn in_words(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or_default();
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
    match message.strip_prefix("duplicate mapping key: ") {
        Some(field) => format!("field `{field}` is written twice in one map"),
        None => message.to_owned(),
    }
}

/// A value with the place where it stands.
struct Node(Spanned<Tree>);

enum Tree {
    Scalar(Value),
    List(Vec<Node>),
    Object(Vec<(Spanned<String>, Node)>),
}

impl Node {
    fn document(self, offset: u64) -> Document {
        let mut lines = BTreeMap::new();
        lines.insert(String::new(), self.0.referenced.line());
        let value = self.flatten("", &mut lines);
        lines.values_mut().for_each(|line| *line += offset);
        Document { value, lines }
    }

    /// The value below `path`, whose own line is known; a field's line is that of its name.
    fn flatten(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        match self.0.value {
            Tree::Scalar(value) => value,
            Tree::List(nodes) => {
                let mut items = Vec::with_capacity(nodes.len());
                for (at, node) in nodes.into_iter().enumerate() {
                    let inner = format!("{path}[{at}]");
                    lines.insert(inner.clone(), node.0.referenced.line());
                    items.push(node.flatten(&inner, lines));
                }
                Value::Array(items)
            }
            Tree::Object(fields) => {
                let mut object = Map::new();
                for (name, node) in fields {
                    let inner = if path.is_empty() { name.value.clone() } else { format!("{path}.{}", name.value) };
                    lines.insert(inner.clone(), name.referenced.line());
                    object.insert(name.value, node.flatten(&inner, lines));
                }
                Value::Object(object)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Node)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom(format!("`{value}` is not a JSON number")))?;
        Ok(Tree::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Tree::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Tree::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "kind: Host\nspec:\n  timeouts:\n    connect: 3s\n  names: [a, b]\n---\nkind: Model\n";

    fn read(text: &str) -> Vec<Document> {
        documents(text).into_iter().map(|document| document.expect("YAML")).collect()
    }

    #[test]
    fn every_field_knows_its_line() {
        let documents = read(TEXT);
        let lines = ["kind", "spec.timeouts.connect", "spec.names[1]"].map(|path| documents[0].line(path));
        assert_eq!(lines, [1, 4, 5]);
        assert_eq!(documents[1].line("kind"), 7);
        assert_eq!(documents[1].line(""), 7);
    }

    #[test]
    fn a_field_that_is_missing_is_shown_where_it_would_be() {
        assert_eq!(read(TEXT)[0].line("spec.timeouts.request"), 3);
        assert_eq!(read(TEXT)[0].line("metadata.name"), 1);
    }

    #[test]
    fn values_are_those_of_json() {
        let text = "{a: 1, b: -2, c: 1.5, d: true, e: null, f: \"5\", g: 0x10, h: [x]}";
        let wanted = json!({"a": 1, "b": -2, "c": 1.5, "d": true, "e": null, "f": "5", "g": 16, "h": ["x"]});
        assert_eq!(read(text)[0].value, wanted);
    }

    #[test]
    fn a_broken_document_names_its_line_and_costs_only_itself() {
        let documents = documents("a: 1\n---\nb: [1\n---\nc: 3\n");
        assert_eq!(documents[0].as_ref().unwrap().value, json!({"a": 1}));
        let error = documents[1].as_ref().unwrap_err();
        assert!((3..=4).contains(&error.line), "{error:?}");
        assert_eq!(documents[2].as_ref().unwrap().value, json!({"c": 3}));
    }

    #[test]
    fn a_syntax_error_quotes_nothing_of_the_document() {
        for text in ["token: sk-canary\n  x: [\n", "token: \"sk-canary\n", "token: sk-canary\ntoken: sk-canary\n"] {
            let error = documents(text).remove(0).unwrap_err();
            assert!(!error.message.contains("canary") && !error.message.is_empty(), "{error:?}");
        }
    }

    #[test]
    fn literal_text_that_looks_like_a_separator_is_none() {
        let text = "a: |\n  ---\n  x\n--- # next\nb: 1\n...\n---\n# nothing\n---\n";
        let values: Vec<_> = read(text).into_iter().map(|document| document.value).collect();
        assert_eq!(values, [json!({"a": "---\nx\n"}), json!({"b": 1})]);
    }

    #[test]
    fn values_are_those_that_kubectl_reads() {
        let text = "{mode: 0440, plain: 440, text: \"0440\", on: yes, port: 0x10, cpu: 0.5}";
        let wanted = json!({"mode": 288, "plain": 440, "text": "0440", "on": true, "port": 16, "cpu": 0.5});
        assert_eq!(values(0, text).unwrap(), [wanted]);
        assert_eq!(values(3, "a: [\n").unwrap_err().line, 4);
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_told_within_its_lines_and_never_quoted() {
        let whole = concat!(include_str!("../../../examples/quickstart/relay.yaml"), "  x: [a, {b: \"c\"}]\n");
        for (end, _) in whole.char_indices() {
            let text = &whole[..end];
            let lines = text.lines().count() as u64 + 1;
            for document in documents(text) {
                match document {
                    Ok(document) => assert!(document.lines.values().all(|line| *line <= lines), "{end}"),
                    Err(error) => {
                        assert!((1..=lines).contains(&error.line), "{end}: {error:?}");
                        assert!(!error.message.contains("not-for-production"), "{end}: {error:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_empty_file_has_no_documents() {
        for text in ["", "\n", "# nothing\n", "---\n", "\u{feff}"] {
            assert_eq!(read(text), [], "{text:?}");
        }
    }
}

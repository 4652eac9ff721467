//! A YAML document as JSON, with the line of every field, so that a report can say where.

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

/// All documents of a file. Errs with what the parser says, line and column included.
pub(crate) fn documents(text: &str) -> Result<Vec<Document>, String> {
    let nodes: Vec<Node> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    Ok(nodes.into_iter().map(Node::document).collect())
}

/// A value with the place where it stands.
struct Node(Spanned<Tree>);

enum Tree {
    Scalar(Value),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn document(self) -> Document {
        let mut lines = BTreeMap::new();
        let value = self.flatten(String::new(), &mut lines);
        Document { value, lines }
    }

    fn flatten(self, path: String, lines: &mut BTreeMap<String, u64>) -> Value {
        lines.insert(path.clone(), self.0.referenced.line());
        match self.0.value {
            Tree::Scalar(value) => value,
            Tree::List(nodes) => {
                let items = nodes.into_iter().enumerate();
                Value::Array(items.map(|(at, node)| node.flatten(format!("{path}[{at}]"), lines)).collect())
            }
            Tree::Object(fields) => {
                let mut object = Map::new();
                for (name, node) in fields {
                    let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    object.insert(name, node.flatten(inner, lines));
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

    #[test]
    fn every_field_knows_its_line() {
        let documents = documents(TEXT).unwrap();
        let lines = ["kind", "spec.timeouts.connect", "spec.names[1]"].map(|path| documents[0].line(path));
        assert_eq!(lines, [1, 4, 5]);
        assert_eq!(documents[1].line("kind"), 7);
    }

    #[test]
    fn a_field_that_is_missing_is_shown_where_it_would_be() {
        assert_eq!(documents(TEXT).unwrap()[0].line("spec.timeouts.request"), 4);
    }

    #[test]
    fn values_are_those_of_json() {
        let text = "{a: 1, b: -2, c: 1.5, d: true, e: null, f: \"5\", g: 0x10, h: [x]}";
        let wanted = json!({"a": 1, "b": -2, "c": 1.5, "d": true, "e": null, "f": "5", "g": 16, "h": ["x"]});
        assert_eq!(documents(text).unwrap()[0].value, wanted);
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = documents("a: 1\nb: ]\n").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
    }
}

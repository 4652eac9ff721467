//! How commands that ask a cluster print: as tables for people, or as documents for programs.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::outcome;

/// How a result is printed, in kubectl's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum View {
    /// Lines for people
    #[default]
    #[value(alias = "human")]
    Table,
    /// More columns
    Wide,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

impl View {
    /// The document, where one is asked for.
    pub(crate) fn document(self, value: &impl Serialize) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Table | Self::Wide => None,
            Self::Json => Some(outcome::json(value)),
            Self::Yaml => Some(yaml(&serde_json::to_value(value)?)),
        })
    }

    /// Whether there shall be more columns.
    pub(crate) fn is_wide(self) -> bool {
        self == Self::Wide
    }
}

/// A value as a YAML document.
pub(crate) fn yaml(value: &Value) -> String {
    let is_empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    if is_empty { format!("{value}\n") } else { crds::to_yaml(value) }
}

/// A table as kubectl prints it: columns as wide as they need to be, three spaces between them.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    let lines: Vec<&Vec<String>> = [&head].into_iter().chain(rows).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("   ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_document_is_read_as_what_it_was() {
        let values = [json!([]), json!({}), json!({"number": 1, "list": [{"a": [1.5, "x: y"]}, []], "none": null})];
        for value in values {
            let read: Value = serde_saphyr::from_str(&yaml(&value)).unwrap();
            assert_eq!(read.to_string(), value.to_string());
        }
    }

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [vec!["a".to_owned(), "long".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "B"], &rows), "ID    B\na     long\nbcd\n");
    }
}

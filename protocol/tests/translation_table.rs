//! The tables of `docs/translation.md` say what `fates/` says: what becomes of every request field for every model, told
//! once where a field shares the fate of what holds it. `UPDATE_GOLDEN=1` writes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::Value;

const SHAPES: [&str; 2] = ["openai-chat", "anthropic-messages"];

/// A line of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    field: String,
    fates: Vec<String>,
    /// Why it may be lost without a warning; empty: it is not.
    reason: String,
}

#[test]
fn the_documents_tables_are_current() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/translation.md");
    let known = fs::read_to_string(&file).unwrap();
    let current = SHAPES.iter().fold(known.clone(), |text, shape| replaced(&text, shape, &table(shape)));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &current).unwrap();
        return;
    }
    assert!(known == current, "docs/translation.md is out of date: run this test with UPDATE_GOLDEN=1");
}

#[test]
fn every_field_is_in_its_table_or_shares_the_fate_of_what_holds_it() {
    for shape in SHAPES {
        let (_, all) = fates(shape);
        let kept = without_heirs(&all);
        let known: BTreeMap<&str, BTreeSet<&[String]>> = by_path(&kept);
        for row in &all {
            let told = known.get(bare(&row.field)).is_some_and(|fates| fates.contains(&row.fates[..]));
            let inherited = holders(bare(&row.field)).find_map(|holder| known.get(holder));
            assert!(told || inherited.is_some_and(|fates| fates.contains(&row.fates[..])), "{shape}: {row:?}");
        }
    }
}

/// `text` with what stands between the marks of `shape` replaced.
fn replaced(text: &str, shape: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- begin {shape} -->\n"), format!("<!-- end {shape} -->"));
    let (before, rest) = text.split_once(&begin).expect("the document marks where the table begins");
    let (_, after) = rest.split_once(&end).expect("the document marks where the table ends");
    format!("{before}{begin}{table}{end}{after}")
}

fn table(shape: &str) -> String {
    let (models, all) = fates(shape);
    let rows = merged(generalised(unlabelled(without_heirs(&all))));
    let mut text = format!("| field | {} | why it may be silent |\n", models.join(" | "));
    text.push_str(&format!("|---{}|\n", "|---".repeat(models.len() + 1)));
    for Row { field, fates, reason } in rows {
        text.push_str(&format!("| `{field}` | {} | {reason} |\n", fates.join(" | ")));
    }
    text
}

/// The models of a file of fates, and its lines.
fn fates(shape: &str) -> (Vec<String>, Vec<Row>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    let text = fs::read_to_string(folder.join(format!("fates/{shape}.txt"))).unwrap();
    let silent: Value = serde_json::from_str(&fs::read_to_string(folder.join("silent.json")).unwrap()).unwrap();
    let reasons = silent[shape].as_object().unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut lines = text.lines();
    let models = words(lines.next().unwrap()).split_off(1);
    let row = |line: &str| {
        let mut parts = words(line);
        let fates = parts.split_off(parts.len() - models.len());
        let field = parts.join(" ");
        let reason =
            if fates.iter().any(|fate| fate == "silent") { reason(reasons, bare(&field)) } else { String::new() };
        Row { field, fates, reason }
    };
    let rows = lines.map(row).collect();
    (models, rows)
}

fn reason(reasons: &serde_json::Map<String, Value>, path: &str) -> String {
    let found = reasons.iter().find(|(pattern, _)| matches(pattern, path));
    found.and_then(|(_, silent)| silent["reason"].as_str()).expect("what is silent has a reason").to_owned()
}

/// A `*` in a pattern stands for anything.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((head, rest)) => path
            .strip_prefix(head)
            .is_some_and(|path| (0..=path.len()).any(|at| path.is_char_boundary(at) && matches(rest, &path[at..]))),
    }
}

/// The path without the kind of its sample.
fn bare(field: &str) -> &str {
    field.trim_end_matches(" {}").trim_end_matches(" []")
}

/// The paths that hold a path, from the nearest on.
fn holders(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(holder(path), |path| holder(path))
}

fn holder(path: &str) -> Option<&str> {
    path.rfind(['.', '[', '=']).filter(|at| *at > 0).map(|at| &path[..at])
}

fn by_path(rows: &[Row]) -> BTreeMap<&str, BTreeSet<&[String]>> {
    let mut known = BTreeMap::<&str, BTreeSet<&[String]>>::new();
    for row in rows {
        known.entry(bare(&row.field)).or_default().insert(&row.fates);
    }
    known
}

/// Only fields whose fate differs from that of the nearest listed field that holds them.
fn without_heirs(all: &[Row]) -> Vec<Row> {
    let known = by_path(all);
    let is_heir = |row: &Row| {
        let holder = holders(bare(&row.field)).find_map(|holder| known.get(holder));
        holder.is_some_and(|fates| fates.len() == 1 && fates.contains(&row.fates[..]))
    };
    all.iter().filter(|row| !is_heir(row)).cloned().collect()
}

/// Without the kind of a sample where it makes no difference.
fn unlabelled(rows: Vec<Row>) -> Vec<Row> {
    let known: BTreeMap<String, usize> =
        by_path(&rows).into_iter().map(|(path, fates)| (path.to_owned(), fates.len())).collect();
    let named = |row: Row| {
        let path = bare(&row.field).to_owned();
        let field =
            if known[&path] == 1 { path } else { row.field.replace(" {}", " (object)").replace(" []", " (list)") };
        Row { field, ..row }
    };
    distinct(rows.into_iter().map(named))
}

/// What holds for a kind of block wherever it stands is told once.
fn generalised(rows: Vec<Row>) -> Vec<Row> {
    let block = |field: &str| field.rfind("content[").filter(|at| *at > 0).map(|at| field[at..].to_owned());
    let mut kinds = BTreeMap::<String, Vec<&Row>>::new();
    for row in &rows {
        if let Some(kind) = block(&row.field) {
            kinds.entry(kind).or_default().push(row);
        }
    }
    let is_general = |same: &Vec<&Row>| {
        same.len() > 1 && same.iter().all(|row| (&row.fates, &row.reason) == (&same[0].fates, &same[0].reason))
    };
    let general: BTreeSet<String> =
        kinds.into_iter().filter(|(_, same)| is_general(same)).map(|(kind, _)| kind).collect();
    let told = |row: &Row| match block(&row.field).filter(|kind| general.contains(kind)) {
        Some(kind) => Row { field: format!("*.{kind}"), ..row.clone() },
        None => row.clone(),
    };
    distinct(rows.iter().map(told))
}

/// Rows that differ in their last value or type alone become one.
fn merged(rows: Vec<Row>) -> Vec<Row> {
    let parted = |field: &str| {
        let at = field.rfind(['[', '=']).map_or(0, |at| at + 1);
        let end = field[at..].find([']', ' ']).map_or(field.len(), |end| at + end);
        (field[..at].to_owned(), field[at..end].to_owned(), field[end..].to_owned())
    };
    let mut merged: Vec<(Row, Vec<String>)> = Vec::new();
    for row in rows {
        let (head, inner, tail) = parted(&row.field);
        let is_same = |other: &Row| {
            let (other_head, _, other_tail) = parted(&other.field);
            !head.is_empty()
                && (&head, &tail, &row.fates, &row.reason) == (&other_head, &other_tail, &other.fates, &other.reason)
        };
        match merged.iter_mut().find(|(other, _)| is_same(other)) {
            Some((_, values)) => values.push(inner),
            None => merged.push((row, vec![inner])),
        }
    }
    let joined = |(row, values): (Row, Vec<String>)| {
        let (head, _, tail) = parted(&row.field);
        Row { field: format!("{head}{}{tail}", values.join(", ")), ..row }
    };
    merged.into_iter().map(joined).collect()
}

fn distinct(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut seen = BTreeSet::new();
    rows.filter(|row| seen.insert(row.clone())).collect()
}

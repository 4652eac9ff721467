//! Counts what keeps a law, and holds the listed exceptions against what really failed.

use std::{collections::BTreeMap, process::ExitCode};

use crate::support::corpus::Pair;

/// Whether a pair keeps a law; none: the law says nothing of it.
pub(crate) type Verdict = Option<Result<(), String>>;

const EXCEPTIONS: &str = include_str!("../exceptions.json");

/// Failures shown of one law.
const SHOWN: usize = 8;

/// The verdicts so far, by law in the order of their first verdict.
pub(crate) struct Ledger {
    laws: Vec<(&'static str, Page)>,
    exceptions: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Default)]
struct Page {
    kept: usize,
    failures: Vec<(String, String)>,
    used: BTreeMap<String, String>,
}

impl Default for Ledger {
    fn default() -> Self {
        let exceptions = serde_json::from_str(EXCEPTIONS).expect("exceptions.json holds reasons by law and pair");
        Self { laws: Vec::new(), exceptions }
    }
}

impl Ledger {
    /// Holds a pair against a law.
    pub(crate) fn check(&mut self, law: &'static str, pair: &Pair, judge: impl Fn(&Pair) -> Verdict) {
        let Some(verdict) = judge(pair) else { return };
        let reason = self.exceptions.get(law).and_then(|pairs| pairs.get(&pair.id)).cloned();
        let page = self.page(law);
        match (verdict, reason) {
            (Ok(()), _) => page.kept += 1,
            (Err(_), Some(reason)) => drop(page.used.insert(pair.id.clone(), reason)),
            (Err(fault), None) => page.failures.push((pair.id.clone(), fault)),
        }
    }

    /// Prints every law, and fails where one was broken or an exception was not needed.
    pub(crate) fn close(self) -> ExitCode {
        let mut broken = false;
        for (law, page) in &self.laws {
            println!("law: {law}: {} kept, {} excepted, {} broken", page.kept, page.used.len(), page.failures.len());
            page.used.iter().for_each(|(id, reason)| println!("  excepted: {id}: {reason}"));
            page.failures.iter().take(SHOWN).for_each(|(id, fault)| println!("  broken: {id}: {fault}"));
            broken |= !page.failures.is_empty();
        }
        for (law, id) in self.stale() {
            println!("stale exception: {law}: {id}");
            broken = true;
        }
        if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn page(&mut self, law: &'static str) -> &mut Page {
        let place = self.laws.iter().position(|(name, _)| *name == law).unwrap_or_else(|| {
            self.laws.push((law, Page::default()));
            self.laws.len() - 1
        });
        &mut self.laws[place].1
    }

    fn stale(&self) -> Vec<(&str, &str)> {
        let used =
            |law: &str, id: &str| self.laws.iter().any(|(name, page)| *name == law && page.used.contains_key(id));
        let listed =
            self.exceptions.iter().flat_map(|(law, pairs)| pairs.keys().map(move |id| (law.as_str(), id.as_str())));
        listed.filter(|(law, id)| !used(law, id)).collect()
    }
}

/// Whether two values are the same, with both named where they are not.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(left: &T, right: &T, what: &str) -> Result<(), String> {
    if left == right {
        return Ok(());
    }
    let (left, right) = (format!("{left:?}"), format!("{right:?}"));
    let at = left.bytes().zip(right.bytes()).take_while(|(l, r)| l == r).count().saturating_sub(60);
    Err(format!("{what}: …{} is not …{}", window(&left, at), window(&right, at)))
}

fn window(text: &str, at: usize) -> String {
    text.chars().skip(at).take(240).collect()
}

//! The next table in the making: reads changed rows, and where an entry cannot be used goes back to its last good copy.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Refused;
use crate::{
    rows::{Decoded, Kind},
    tables::{Change, Key, Number, Tables},
    wire::{Rejection, SealedQuarantine},
};

/// An entry that cannot be used.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Quarantined {
    /// What is in effect instead; none: there was never a good copy.
    pub(super) good: Option<Bytes>,
    pub(super) code: String,
    pub(super) message: String,
}

impl std::fmt::Debug for Quarantined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Quarantined({}: {})", self.code, self.message)
    }
}

/// Entries that cannot be used, by table and key.
pub(super) type Quarantine = BTreeMap<(Number, Key), Quarantined>;

/// The next table in the making.
pub(super) struct Draft<'a> {
    decoded: Decoded,
    quarantine: Quarantine,
    /// Entries that could not be used before.
    before: &'a Quarantine,
    held: &'a Tables,
    next: &'a Tables,
}

impl<'a> Draft<'a> {
    pub(super) fn new(decoded: &Decoded, before: &'a Quarantine, held: &'a Tables, next: &'a Tables) -> Self {
        Self { decoded: decoded.clone(), quarantine: before.clone(), before, held, next }
    }

    /// Takes over a changed row. A table that this version does not know is kept and not read.
    pub(super) fn take(&mut self, change: &Change) {
        let Change { table, key, row } = change;
        self.quarantine.remove(&(*table, key.clone()));
        let Some(kind) = Kind::of(*table) else { return };
        let Some(row) = row else { return self.decoded.remove(kind, key) };
        if let Err(error) = self.decoded.put(kind, key, row) {
            self.refuse(kind, key, "unreadable".to_owned(), error.to_string());
        }
    }

    /// Goes back to the last good copy of an entry; where there is none, or it is refused as well, the entry becomes
    /// one that is explained to whoever meets it.
    fn refuse(&mut self, kind: Kind, key: &Key, code: String, message: String) {
        let id = (kind.number(), key.clone());
        let good = if self.quarantine.contains_key(&id) { None } else { self.last_good(&id) };
        let put = good.as_ref().is_some_and(|row| self.decoded.put(kind, key, row).is_ok());
        if !put {
            self.decoded.invalidate(kind, key, &message);
        }
        self.quarantine.insert(id, Quarantined { good: good.filter(|_| put), code, message });
    }

    fn last_good(&self, id: &(Number, Key)) -> Option<Bytes> {
        if let Some(before) = self.before.get(id) {
            return before.good.clone();
        }
        let held = self.held.row(id.0, &id.1)?;
        (self.next.row(id.0, &id.1) != Some(held)).then(|| held.clone())
    }

    /// Asks `apply` until it refuses nothing more, at most `passes` times. Errs with what it refused last.
    pub(super) fn settle(
        mut self,
        passes: usize,
        apply: &mut dyn FnMut(Decoded) -> Result<(), Vec<Refused>>,
    ) -> Result<(Decoded, Quarantine), String> {
        let mut last = String::new();
        for _ in 0..passes {
            let Err(refused) = apply(self.decoded.clone()) else { return Ok((self.decoded, self.quarantine)) };
            let named: Vec<_> = refused.iter().map(|one| format!("{} `{}`", one.kind.as_str(), one.key)).collect();
            last = format!("cannot be put into effect: {}", named.join(", "));
            for Refused { kind, key, code, message } in refused {
                self.refuse(kind, &key.into(), code, message);
            }
        }
        Err(last)
    }
}

/// Entries that could not be used, from a sealed copy.
pub(super) fn quarantined(sealed: Vec<SealedQuarantine>) -> Quarantine {
    let entry = |SealedQuarantine { rejection, good }| {
        let Rejection { table, key, code, message } = rejection?;
        Some(((table, key.into()), Quarantined { good, code, message }))
    };
    sealed.into_iter().filter_map(entry).collect()
}

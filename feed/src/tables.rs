//! A routing table as bytes under digests: rows in 256 buckets, buckets in tables, tables under one root.
//!
//! Equal rows give equal digests wherever they were made. Buckets that did not change are shared between one state and
//! the next, so that keeping an old state costs what differs. Knows nothing of what rows mean.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use table::Digest;

/// How many buckets a table has.
pub const BUCKETS: usize = 256;

/// The number of a table, as it travels. A receiver keeps tables that it does not know, so that roots agree.
pub type Number = u32;

/// The key of a row: usually `namespace/name`.
pub type Key = Arc<str>;

/// A row as it travels, with its digest. Shows no bytes in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    bytes: Bytes,
    digest: Digest,
}

impl Entry {
    fn new(key: &str, bytes: Bytes) -> Self {
        let digest = Digest::of_parts([key.as_bytes(), &bytes]);
        Self { bytes, digest }
    }

    /// The row.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes)", self.bytes.len())
    }
}

/// Rows whose keys hash to the same number.
#[derive(Clone, Debug, Default)]
struct Bucket {
    rows: BTreeMap<Key, Entry>,
    digest: Option<Digest>,
}

impl Bucket {
    /// Takes the bytes of the rows that `earlier` has alike from there.
    fn share(&mut self, earlier: &Bucket) {
        for (key, entry) in &mut self.rows {
            if let Some(before) = earlier.rows.get(key).filter(|before| before.digest == entry.digest) {
                entry.clone_from(before);
            }
        }
    }

    fn seal(&mut self) {
        self.digest = (!self.rows.is_empty())
            .then(|| Digest::of_parts(self.rows.values().map(|entry| entry.digest.as_bytes().as_slice())));
    }
}

/// The rows of one kind.
#[derive(Clone, Debug)]
pub struct Table {
    buckets: Vec<Arc<Bucket>>,
    rows: usize,
    digest: Digest,
}

impl Default for Table {
    fn default() -> Self {
        let empty = Arc::new(Bucket::default());
        let mut table = Self { buckets: vec![empty; BUCKETS], rows: 0, digest: Digest::from_bytes([0; 16]) };
        table.seal();
        table
    }
}

impl Table {
    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The digest of all rows.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The digest of one bucket; zero where it is empty.
    pub fn bucket_digest(&self, bucket: u8) -> Digest {
        self.buckets[usize::from(bucket)].digest.unwrap_or(Digest::from_bytes([0; 16]))
    }

    /// The row of a key.
    pub fn row(&self, key: &str) -> Option<&Bytes> {
        Some(&self.buckets[usize::from(bucket_of(key))].rows.get(key)?.bytes)
    }

    /// All rows, by bucket and key: in the same order on every machine.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Bytes)> {
        self.buckets.iter().flat_map(|bucket| bucket.rows.iter().map(|(key, entry)| (key, &entry.bytes)))
    }

    /// The rows of one bucket, by key.
    pub fn bucket(&self, bucket: u8) -> impl Iterator<Item = (&Key, &Bytes)> {
        self.buckets[usize::from(bucket)].rows.iter().map(|(key, entry)| (key, &entry.bytes))
    }

    fn seal(&mut self) {
        self.rows = self.buckets.iter().map(|bucket| bucket.rows.len()).sum();
        let full = self.buckets.iter().enumerate().filter_map(|(index, bucket)| Some((index, bucket.digest?)));
        let mut text = Vec::with_capacity(BUCKETS * 17);
        for (index, digest) in full {
            text.push(u8::try_from(index).expect("there are 256 buckets"));
            text.extend_from_slice(digest.as_bytes());
        }
        self.digest = Digest::of_parts([text.as_slice()]);
    }

    /// Shares the buckets that `earlier` has alike, and of others the rows.
    fn share(&mut self, earlier: &Table) {
        for (bucket, before) in self.buckets.iter_mut().zip(&earlier.buckets) {
            if bucket.digest == before.digest {
                *bucket = before.clone();
            } else if let Some(bucket) = Arc::get_mut(bucket) {
                // One that is held elsewhere too is of `earlier` or was made from it, and has its rows.
                bucket.share(before);
            }
        }
    }
}

/// Which bucket a key is in.
pub fn bucket_of(key: &str) -> u8 {
    Digest::of_parts([key.as_bytes()]).as_bytes()[0]
}

/// What happens to one row.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// The table that the row is in.
    pub table: Number,
    /// Its key.
    pub key: Key,
    /// The row as it is now; none: it is gone.
    pub row: Option<Bytes>,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.row.as_ref().map(Bytes::len);
        write!(f, "Change({}, {}, {bytes:?} bytes)", self.table, self.key)
    }
}

/// All tables under one root: immutable, cheap to clone.
#[derive(Clone, Debug)]
pub struct Tables {
    tables: BTreeMap<Number, Arc<Table>>,
    root: Digest,
}

impl Default for Tables {
    fn default() -> Self {
        Self::seal(BTreeMap::new())
    }
}

impl PartialEq for Tables {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Tables {
    /// Tables of these rows. Of two rows of the same key the later counts.
    pub fn of(rows: impl IntoIterator<Item = (Number, Key, Bytes)>) -> Self {
        Self::default().with(rows.into_iter().map(|(table, key, row)| Change { table, key, row: Some(row) }))
    }

    fn seal(mut tables: BTreeMap<Number, Arc<Table>>) -> Self {
        // A table without rows is as none: a receiver that does not know it has the same root.
        tables.retain(|_, table| !table.is_empty());
        let mut text = Vec::new();
        for (number, table) in &tables {
            text.extend_from_slice(&number.to_le_bytes());
            text.extend_from_slice(table.digest.as_bytes());
        }
        Self { tables, root: Digest::of_parts([text.as_slice()]) }
    }

    /// The digest of everything: equal for equal rows.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Every table that is not empty.
    pub fn tables(&self) -> impl Iterator<Item = (Number, &Arc<Table>)> {
        self.tables.iter().map(|(number, table)| (*number, table))
    }

    /// A table; none where it is empty.
    pub fn table(&self, number: Number) -> Option<&Arc<Table>> {
        self.tables.get(&number)
    }

    /// The row of a key.
    pub fn row(&self, table: Number, key: &str) -> Option<&Bytes> {
        self.tables.get(&table)?.row(key)
    }

    /// How many rows there are in all.
    pub fn rows(&self) -> usize {
        self.tables.values().map(|table| table.rows).sum()
    }

    /// These tables after changes. Costs what changed.
    pub fn with(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut tables = self.tables.clone();
        let mut touched: BTreeMap<Number, Vec<u8>> = BTreeMap::new();
        for Change { table, key, row } in changes {
            let bucket = bucket_of(&key);
            touched.entry(table).or_default().push(bucket);
            let rows = &mut bucket_mut(&mut tables, table, bucket).rows;
            match row {
                Some(row) => drop(rows.insert(key.clone(), Entry::new(&key, row))),
                None => drop(rows.remove(&key)),
            }
        }
        self.sealed(tables, touched)
    }

    /// These tables with the buckets of one emptied and filled anew; no bucket named: all of them.
    pub fn replacing(&self, number: Number, buckets: &[u8], rows: Vec<(Key, Bytes)>) -> Self {
        let mut tables = self.tables.clone();
        if buckets.is_empty() {
            tables.remove(&number);
        }
        for bucket in buckets {
            bucket_mut(&mut tables, number, *bucket).rows.clear();
        }
        let mut touched = buckets.to_vec();
        for (key, row) in rows {
            let bucket = bucket_of(&key);
            touched.push(bucket);
            bucket_mut(&mut tables, number, bucket).rows.insert(key.clone(), Entry::new(&key, row));
        }
        self.sealed(tables, [(number, touched)].into())
    }

    fn sealed(&self, mut tables: BTreeMap<Number, Arc<Table>>, touched: BTreeMap<Number, Vec<u8>>) -> Self {
        for (number, mut buckets) in touched {
            let Some(table) = tables.get_mut(&number).map(Arc::make_mut) else { continue };
            buckets.sort_unstable();
            buckets.dedup();
            for bucket in buckets {
                Arc::make_mut(&mut table.buckets[usize::from(bucket)]).seal();
            }
            if let Some(earlier) = self.tables.get(&number) {
                table.share(earlier);
            }
            table.seal();
        }
        Self::seal(tables)
    }

    /// Shares with `earlier` what both have alike, so that holding both costs what differs.
    pub fn sharing(mut self, earlier: &Tables) -> Self {
        for (number, table) in &mut self.tables {
            match earlier.tables.get(number) {
                Some(before) if before.digest == table.digest => *table = before.clone(),
                Some(before) => Arc::make_mut(table).share(before),
                None => {}
            }
        }
        self
    }

    /// What makes `base` into these tables, by table, bucket and key.
    pub fn changes_since(&self, base: &Tables) -> Vec<Change> {
        let (none, mut changes) = (Arc::new(Table::default()), Vec::new());
        let mut numbers: Vec<_> = self.tables.keys().chain(base.tables.keys()).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let (before, after) = (base.table(number).unwrap_or(&none), self.table(number).unwrap_or(&none));
            if before.digest == after.digest {
                continue;
            }
            for (before, after) in before.buckets.iter().zip(&after.buckets) {
                if before.digest != after.digest {
                    compare(number, before, after, &mut changes);
                }
            }
        }
        changes
    }
}

fn bucket_mut(tables: &mut BTreeMap<Number, Arc<Table>>, table: Number, bucket: u8) -> &mut Bucket {
    let table = Arc::make_mut(tables.entry(table).or_default());
    Arc::make_mut(&mut table.buckets[usize::from(bucket)])
}

fn compare(table: Number, before: &Bucket, after: &Bucket, into: &mut Vec<Change>) {
    for key in before.rows.keys().filter(|key| !after.rows.contains_key(*key)) {
        into.push(Change { table, key: key.clone(), row: None });
    }
    for (key, entry) in &after.rows {
        if before.rows.get(key).is_none_or(|before| before.digest != entry.digest) {
            into.push(Change { table, key: key.clone(), row: Some(entry.bytes.clone()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(table: Number, key: &str, row: &str) -> Change {
        Change { table, key: key.into(), row: Some(row.to_owned().into()) }
    }

    fn gone(table: Number, key: &str) -> Change {
        Change { table, key: key.into(), row: None }
    }

    #[test]
    fn the_order_in_which_rows_came_does_not_matter() {
        let one = Tables::default().with([put(1, "a", "1"), put(1, "b", "2"), put(2, "a", "3")]);
        let other =
            Tables::default().with([put(2, "a", "3"), put(1, "b", "0")]).with([put(1, "b", "2"), put(1, "a", "1")]);
        assert_eq!(one.root(), other.root());
    }

    #[test]
    fn the_same_row_in_another_table_or_under_another_key_is_another_state() {
        let one = Tables::default().with([put(1, "a", "1")]);
        assert_ne!(one.root(), Tables::default().with([put(2, "a", "1")]).root());
        assert_ne!(one.root(), Tables::default().with([put(1, "b", "1")]).root());
        assert_ne!(one.root(), Tables::default().root());
    }

    #[test]
    fn a_table_that_lost_its_last_row_is_as_if_it_never_was() {
        let emptied = Tables::default().with([put(1, "a", "1")]).with([gone(1, "a"), gone(1, "never")]);
        assert_eq!(emptied, Tables::default());
        assert_eq!(emptied.tables().count(), 0);
    }

    #[test]
    fn unchanged_buckets_are_shared_with_the_state_before() {
        let base = Tables::of((0..1000).map(|n| (1, format!("ns/{n}").into(), Bytes::copy_from_slice(b"row"))));
        let next = base.with([put(1, "ns/7", "other")]);
        let shared = |a: &Tables, b: &Tables| {
            let (a, b) = (a.table(1).unwrap(), b.table(1).unwrap());
            a.buckets.iter().zip(&b.buckets).filter(|(a, b)| Arc::ptr_eq(a, b)).count()
        };
        assert_eq!(shared(&base, &next), BUCKETS - 1);
        let anew =
            Tables::of(next.table(1).unwrap().rows().map(|(key, row)| (1, key.clone(), Bytes::copy_from_slice(row))));
        assert_eq!(shared(&base, &anew), 0);
        let anew = anew.sharing(&base);
        assert_eq!(shared(&base, &anew), BUCKETS - 1);
        let is_shared =
            |(key, row): &(&Key, &Bytes)| base.row(1, key).is_some_and(|held| held.as_ptr() == row.as_ptr());
        assert_eq!(
            anew.table(1).unwrap().rows().filter(is_shared).count(),
            999,
            "only the row that changed is held twice"
        );
    }

    #[test]
    fn changes_name_what_differs_and_nothing_else() {
        let base = Tables::default().with([put(1, "a", "1"), put(1, "b", "2"), put(2, "c", "3")]);
        let next = base.with([put(1, "a", "1"), put(1, "b", "9"), gone(2, "c"), put(3, "d", "4")]);
        let mut changes = next.changes_since(&base);
        changes.sort_by_key(|change| change.table);
        assert_eq!(changes, [put(1, "b", "9"), gone(2, "c"), put(3, "d", "4")]);
    }

    #[test]
    fn debug_shows_nothing_of_a_row() {
        let tables = Tables::default().with([put(7, "a", "sk-canary")]);
        assert!(!format!("{tables:?}").contains("canary"));
        assert!(!format!("{:?}", put(7, "a", "sk-canary")).contains("canary"));
    }
}

//! Which line leads to a key, as far as we know. A value: changes make another one.

use std::sync::Arc;

use super::{
    error::StoreError,
    line::Line,
    slots::{self, Chart, SLOTS},
    target::Address,
};

/// No line leads to the slot.
const NOBODY: u16 = u16::MAX;

/// The lines that are open, and what they serve.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    lines: Vec<Arc<Line>>,
    /// By slot, the line that serves it. Absent: the first serves all.
    owners: Option<Box<[u16]>>,
}

impl Layout {
    /// One line for everything.
    pub(super) fn single(line: Arc<Line>) -> Self {
        Self { lines: vec![line], owners: None }
    }

    /// Lines for the slots of their masters. Slots of masters without a line are nobody's.
    pub(super) fn of_cluster(chart: &Chart, lines: Vec<Arc<Line>>) -> Self {
        let mut owners = vec![NOBODY; SLOTS].into_boxed_slice();
        for range in &chart.ranges {
            let index = lines.iter().position(|line| *line.address() == range.master);
            owners[usize::from(range.first)..=usize::from(range.last)].fill(number(index));
        }
        Self { lines, owners: Some(owners) }
    }

    /// The line for a key. Errs where there is none that is open.
    pub(super) fn line(&self, key: &str) -> Result<&Arc<Line>, StoreError> {
        let Some(owners) = &self.owners else {
            return self.lines.first().ok_or_else(|| StoreError::Lost("there was none yet".to_owned()));
        };
        let slot = slots::slot(key);
        let owner = self.lines.get(usize::from(owners[usize::from(slot)]));
        owner.ok_or_else(|| StoreError::Lost(format!("there is none to a master of slot {slot}")))
    }

    /// The open line to a node.
    pub(super) fn line_to(&self, address: &Address) -> Option<&Arc<Line>> {
        self.lines.iter().find(|line| line.address() == address && line.is_alive())
    }

    /// The line to a node, open or not.
    pub(super) fn any_line_to(&self, address: &Address) -> Option<&Arc<Line>> {
        self.lines.iter().find(|line| line.address() == address)
    }

    pub(super) fn lines(&self) -> &[Arc<Line>] {
        &self.lines
    }

    /// The same with a line that is new, or that takes the place of the one to the same node.
    pub(super) fn with(&self, line: &Arc<Line>) -> Self {
        let mut changed = self.clone();
        match changed.lines.iter_mut().find(|other| other.address() == line.address()) {
            Some(other) => *other = line.clone(),
            None => changed.lines.push(line.clone()),
        }
        changed
    }

    /// The same with a slot served by a line.
    pub(super) fn moved(&self, slot: u16, line: &Arc<Line>) -> Self {
        let mut changed = self.with(line);
        let index = changed.lines.iter().position(|other| Arc::ptr_eq(other, line));
        if let Some(owners) = &mut changed.owners {
            owners[usize::from(slot)] = number(index);
        }
        changed
    }
}

fn number(index: Option<usize>) -> u16 {
    index.and_then(|index| u16::try_from(index).ok()).unwrap_or(NOBODY)
}

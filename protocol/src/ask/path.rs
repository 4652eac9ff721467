//! Where reading is, to be named if it fails.

use smallvec::SmallVec;

/// No path of a request that makes sense has more steps.
const STEPS: usize = 8;

/// The path of the value that is being read.
#[derive(Debug, Default)]
pub(super) struct Path(SmallVec<[Step; STEPS]>);

#[derive(Debug)]
enum Step {
    Field(&'static str),
    Index(usize),
}

impl Path {
    /// Goes into a field.
    pub(super) fn field(&mut self, name: &'static str) {
        self.0.push(Step::Field(name));
    }

    /// Goes into an element of a list.
    pub(super) fn index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    /// Goes out again.
    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// The path in words; none: at the top.
    pub(super) fn words(&self) -> Option<String> {
        let mut path = String::new();
        for step in &self.0 {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        (!path.is_empty()).then_some(path)
    }
}

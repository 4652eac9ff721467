//! What waits to be written: at most one thing for each object, in the order in which objects came, and never more than
//! fit. What does not fit is counted, and found again by a later round.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
};

/// A queue of which each key is in at most once, and of which no key is taken twice at the same time.
#[derive(Debug)]
pub struct Queue<K, T> {
    order: VecDeque<K>,
    waiting: HashMap<K, T>,
    busy: HashSet<K>,
    capacity: usize,
}

/// What became of something that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It waits.
    Queued,
    /// It waits in place of something older about the same object.
    Replaced,
    /// There is no room.
    Dropped,
}

impl<K: Clone + Eq + Hash, T> Queue<K, T> {
    /// An empty queue for at most so many.
    pub fn new(capacity: usize) -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new(), busy: HashSet::new(), capacity }
    }

    /// Puts something in; the latest word on a key counts.
    pub fn offer(&mut self, key: K, what: T) -> Offer {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting = what;
            return Offer::Replaced;
        }
        if self.waiting.len() >= self.capacity {
            return Offer::Dropped;
        }
        self.order.push_back(key.clone());
        self.waiting.insert(key, what);
        Offer::Queued
    }

    /// Takes out the first whose key is not being worked on. It is until it is [done](Self::done).
    pub fn take(&mut self) -> Option<(K, T)> {
        let at = self.order.iter().position(|key| !self.busy.contains(key))?;
        let key = self.order.remove(at)?;
        let what = self.waiting.remove(&key)?;
        self.busy.insert(key.clone());
        Some((key, what))
    }

    /// The work on a key is over.
    pub fn done(&mut self, key: &K) {
        self.busy.remove(key);
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.order.clear();
        self.waiting.clear();
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_on_an_object_takes_the_place_of_the_first() {
        let mut queue = Queue::new(8);
        assert_eq!(
            [queue.offer("a", 1), queue.offer("b", 2), queue.offer("a", 3)],
            [Offer::Queued, Offer::Queued, Offer::Replaced]
        );
        assert_eq!((queue.take(), queue.take(), queue.take()), (Some(("a", 3)), Some(("b", 2)), None));
    }

    #[test]
    fn an_object_is_not_worked_on_twice_at_the_same_time() {
        let mut queue = Queue::new(8);
        queue.offer("a", 1);
        queue.take();
        queue.offer("a", 2);
        queue.offer("b", 3);
        assert_eq!((queue.take(), queue.take()), (Some(("b", 3)), None));
        queue.done(&"a");
        assert_eq!(queue.take(), Some(("a", 2)));
    }

    #[test]
    fn what_does_not_fit_is_dropped() {
        let mut queue = Queue::new(1);
        assert_eq!((queue.offer("a", 1), queue.offer("b", 2), queue.len()), (Offer::Queued, Offer::Dropped, 1));
        assert_eq!(queue.offer("a", 3), Offer::Replaced);
        queue.clear();
        assert!(queue.is_empty() && queue.take().is_none());
    }
}

//! The limiter contract, unchanged, on one server and on the three masters of a cluster.

mod standalone {
    use super::super::{bench::Counting, places::Standalone};

    crate::limiter_contract!(Counting<Standalone>);
}

mod cluster {
    use super::super::{bench::Counting, places::Masters};

    crate::limiter_contract!(Counting<Masters>);
}

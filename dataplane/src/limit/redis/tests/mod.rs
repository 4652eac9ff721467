//! The contract on real Redis servers.

mod contract;

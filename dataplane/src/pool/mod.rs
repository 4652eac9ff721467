//! What is known of host keys and hosts, and which key is tried first. Knows health and load; knows nothing of HTTP
//! connections, prices or policies.

pub mod budget;
pub mod news;
pub mod order;
pub mod quota;
pub mod signals;

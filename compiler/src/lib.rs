//! What Relay resources mean: a pure function from resources to the routing table.

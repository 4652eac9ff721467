//! Relay as a whole, on a real API server.

mod quickstart;

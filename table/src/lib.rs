//! The compiled routing table: what is pushed to data planes.

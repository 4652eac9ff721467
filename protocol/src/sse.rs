//! Server-sent events: an incremental parser over any chunking, and a writer.

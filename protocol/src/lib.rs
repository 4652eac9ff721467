//! What LLM requests and answers say: the canonical messages and one codec per wire shape.

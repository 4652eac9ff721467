//! The shallow reading of a request: what routing and reserving need, with the place of the model name for splicing.

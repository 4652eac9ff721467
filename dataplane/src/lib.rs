//! The hot path: HTTP in, pipeline, pool, limiter, meter, HTTP out.

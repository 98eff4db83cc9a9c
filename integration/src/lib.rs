//! Tests with real engines, and benchmarks.

//! The house itself under test: which room may know which, where `unsafe` is,
//! how long things get, and that the documents speak of files that exist.

mod documents;
mod edges;
mod rules;
mod source;

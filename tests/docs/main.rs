//! What the documents show is so: their commands are run, their configurations are read, their links
//! lead somewhere. Their Rust is compiled by `tests/book`, their TypeScript by the tests of its client.

mod blocks;
mod contents;
mod links;
mod pages;
mod run;
mod script;
mod wire;

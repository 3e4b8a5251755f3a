//! What is measured, and what must come out.

mod contents;
pub(crate) mod static_files;

//! What is in a directory, as a page for people.

use sluicegate::file::Root;
use sluicegate_http::Response;

use super::lookup::Refusal;

/// Lists the directory at `path`, a normal form beneath `root`.
pub(super) fn answer(
    _root: &Root,
    _path: &[u8],
    _query: Option<&str>,
    _dotfiles: bool,
) -> Result<Response, Refusal> {
    Ok(Response::status_page(501))
}

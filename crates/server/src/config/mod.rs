//! The configuration file: from its text to what it says, or to every mistake
//! in it.
#![allow(dead_code, unused_imports)] // Until the program uses all of it.

mod model;

use std::path::Path;

use anyhow::{Result, bail};

pub(crate) use self::model::{
    Access, AccessLog, Action, Config, HeaderRules, Host, LogFormat, LogTo, Match, Redirect, Route,
    Site,
};

/// Reads the file at `path`.
///
/// # Errors
/// All mistakes together, each with its file, line and column.
pub(crate) fn load(path: &Path) -> Result<Config> {
    bail!("cannot read {}", path.display())
}

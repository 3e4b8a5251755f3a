//! Flags of the doctor.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// Look at this network interface only [default: all that are up].
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Option<String>,
    /// Also tell what the file system of this directory allows. Makes a file
    /// there that has no name and is gone at once.
    #[arg(long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Also connect to this web server, send it one HEAD request by reference,
    /// and tell whether the kernel had to copy it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) peer: Option<SocketAddr>,
    /// Also tell why what is good already matters.
    #[arg(long)]
    pub(super) explain: bool,
    /// Report as JSON, for programs.
    #[arg(long)]
    pub(super) json: bool,
}

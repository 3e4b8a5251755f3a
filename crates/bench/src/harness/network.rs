//! Where server and client stand: on one host, or on two that a veth joins.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result};
use sluicegate_testkit::lab::{Host, Lab};

/// A way from client to server.
#[derive(Debug)]
pub(crate) enum Network {
    /// The loopback device of this host.
    Loopback,
    /// Two network namespaces.
    Veth(Box<Lab>),
}

/// One end of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side<'a> {
    /// This host.
    Here,
    /// A host of the lab.
    At(&'a Host),
}

impl Network {
    pub(crate) fn veth() -> Result<Self> {
        Ok(Self::Veth(Box::new(Lab::veth().context("cannot build a veth")?)))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Loopback => "lo",
            Self::Veth(_) => "veth",
        }
    }

    pub(crate) fn server(&self) -> Side<'_> {
        match self {
            Self::Loopback => Side::Here,
            Self::Veth(lab) => Side::At(lab.server()),
        }
    }

    pub(crate) fn client(&self) -> Side<'_> {
        match self {
            Self::Loopback => Side::Here,
            Self::Veth(lab) => Side::At(lab.client()),
        }
    }
}

impl Side<'_> {
    /// The address that the other side reaches.
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::Here => Ipv4Addr::LOCALHOST.into(),
            Self::At(host) => host.address().into(),
        }
    }

    /// A command that runs here.
    pub(crate) fn command(self, program: &str) -> Command {
        match self {
            Self::Here => Command::new(program),
            Self::At(host) => host.command(program),
        }
    }

    /// Runs a closure whose sockets are this side's.
    pub(crate) fn enter<T: Send>(self, work: impl FnOnce() -> T + Send) -> Result<T> {
        match self {
            Self::Here => Ok(work()),
            Self::At(host) => Ok(host.enter(work)?),
        }
    }
}

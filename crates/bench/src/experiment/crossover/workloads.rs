//! What is asked of each form: one file that stays in the processor's cache, and sets that do not.

use std::time::Duration;

use super::sizes;
use crate::client::Check;
use crate::experiment::contents::Contents;
use crate::experiment::session::Effort;
use crate::experiment::workload::{Unit, Workload};
use crate::harness::round::Rounds;
use crate::peer::{Form, Peer};

pub(super) const QUICK: Effort = Effort {
    rounds: Rounds { wanted: 5, at_most: 8 },
    warm_up: Duration::from_millis(60),
    window: Duration::from_millis(300),
};

pub(super) const FULL: Effort = Effort {
    rounds: Rounds { wanted: 7, at_most: 12 },
    warm_up: Duration::from_millis(60),
    window: Duration::from_millis(400),
};

/// Fewer than our server keeps open (an eighth of its limit of descriptors).
pub(super) const SET_FILES: u32 = 512;

/// A set must stay in our server's memory: it keeps 128 MiB.
const SET_BYTES: u64 = 96 << 20;

pub(super) const FORMS: [Peer; 4] = [
    Peer::Made(Form::Memory),
    Peer::Made(Form::Copy),
    Peer::Made(Form::Sendfile),
    Peer::Made(Form::Splice),
];

/// All of them, in the order in which they are measured: of the `named` sizes, or of those that
/// a run has by itself.
pub(super) fn workloads(quick: bool, named: &[String], set_files: u32) -> Vec<Workload> {
    let is_wanted = |contents: &Contents| match named {
        [] => !quick || sizes::QUICK.iter().any(|&of| of == contents.label()),
        named => named.iter().any(|of| of == contents.label()),
    };
    let connections: &[usize] = if quick { &[64] } else { &[64, 1] };
    let mut workloads = Vec::new();
    for contents in sizes::ALL.into_iter().filter(is_wanted) {
        for &connections in connections {
            workloads.push(workload(contents, connections, None));
        }
        let files = u64::from(set_files).min(SET_BYTES / contents.length);
        workloads.push(workload(contents, 64, Some(files as u32)));
    }
    workloads
}

fn workload(contents: Contents, connections: usize, files: Option<u32>) -> Workload {
    let suffix = if files.is_some() { "-set" } else { "" };
    let name = format!("{}-{connections}{suffix}", contents.label());
    let (check, unit) = (Check::Edges, Unit::Request);
    let peers = FORMS.to_vec();
    Workload { name, contents, files, connections, check, unit, peers, logs: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_fits_what_the_server_keeps() {
        let of = |files| workloads(false, &[], files).into_iter().filter(|of| of.files.is_some());
        assert_eq!(of(SET_FILES).count(), sizes::ALL.len());
        for workload in of(SET_FILES).chain(of(1 << 20)) {
            let files = u64::from(workload.files.unwrap());
            assert!(files > 0 && files * workload.contents.length <= SET_BYTES);
        }
        assert!(of(SET_FILES).all(|of| of.files.unwrap() <= SET_FILES));
    }
}

//! What the line of a proxied request has more.

use std::any::Any;

use sluicegate::SpoolBytes;

use super::json::{number, text};
use crate::proxy::{Note, Told};

/// Appends what is known of the upstream, each key after a comma; nothing if the
/// note is not a proxy's. Bytes of paths that the content did not take are left out.
pub(super) fn push(out: &mut Vec<u8>, note: &(dyn Any + Send + Sync)) {
    let Some(note) = note.downcast_ref::<Note>() else { return };
    let Told {
        upstream,
        status,
        tries,
        queue_ms,
        connect_ms,
        head_ms,
        held_ms,
        spool,
        // Counted for all requests together alone.
        proofs: _,
        lost_disk: _,
        trouble,
        request_bytes,
    } = note.get();
    text(out, b",\"upstream\":\"", upstream.as_deref().map(str::as_bytes));
    if let Some(status) = status {
        number(out, b",\"upstream_status\":", status.into());
    }
    number(out, b",\"upstream_tries\":", tries.into());
    if let Some(millis) = queue_ms {
        number(out, b",\"upstream_queue_ms\":", millis);
    }
    if let Some(millis) = connect_ms {
        number(out, b",\"upstream_connect_ms\":", millis);
    }
    if let Some(millis) = head_ms {
        number(out, b",\"upstream_head_ms\":", millis);
    }
    if let Some(millis) = held_ms {
        number(out, b",\"upstream_held_ms\":", millis);
    }
    // Not the ways by which the client got it, which have names of their own.
    let SpoolBytes { spliced, ring, disk, copied } = spool;
    if spliced > 0 {
        number(out, b",\"spool_spliced\":", spliced);
    }
    if ring > 0 {
        number(out, b",\"spool_ring\":", ring);
    }
    if disk > 0 {
        number(out, b",\"spool_disk\":", disk);
    }
    if copied > 0 {
        number(out, b",\"spool_copied\":", copied);
    }
    if request_bytes > 0 {
        number(out, b",\"request_bytes\":", request_bytes);
    }
    text(out, b",\"trouble\":\"", trouble.map(str::as_bytes));
}

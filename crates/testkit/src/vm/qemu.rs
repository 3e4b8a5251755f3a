//! The command that runs a virtual machine.

use std::path::Path;
use std::process::Command;

use super::Options;
use super::parts::Parts;
use crate::lab::Host;

/// A machine whose test was killed is swept by the next lab. Should there be no next one, it ends
/// by itself after so many seconds.
const LIFETIME: &str = "600";

/// The command that runs the machine, in the namespace of its host: whoever sweeps that kills it.
pub(super) fn command(
    host: &Host,
    parts: &Parts,
    options: &Options,
    archive: &Path,
    socket: &Path,
) -> Command {
    let mut command = host.command("timeout");
    command.args(["--kill-after=1", LIFETIME, "env"]);
    if !parts.libraries.is_empty() {
        let paths: Vec<_> = parts.libraries.iter().map(|path| path.to_string_lossy()).collect();
        command.arg(format!("LD_LIBRARY_PATH={}", paths.join(":")));
    }
    command.arg(&parts.qemu);
    // Nothing but what is named here: no disk, no screen, no configuration of the system's.
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-accel", "tcg", "-machine", "q35", "-cpu", "max"]);
    // Room for one processor more than there are: where there can be only one, qemu makes of the
    // guest's locked instructions common ones, and so of Linux's `smp_mb` no barrier
    // (`CF_PARALLEL`). But its threads that serve the devices run beside the guest's all the same,
    // and now and then a packet is put into the network card's queue, and nobody is told.
    let most = options.processors.saturating_add(1);
    command.arg("-smp").arg(format!("{},maxcpus={most}", options.processors));
    command.args(["-m", &options.mebibytes.to_string()]);
    // ttyS0 is the console, ttyS1 the line.
    command.args(["-serial", "stdio", "-serial", "chardev:line", "-chardev"]);
    command.arg(format!("socket,id=line,path={}", socket.display()));
    let device = Host::TAP;
    command.args(["-netdev", &format!("tap,id=wire,ifname={device},script=no,downscript=no")]);
    command.args(["-device", "virtio-net-pci,netdev=wire,romfile="]);
    command.arg("-kernel").arg(&parts.kernel.image).arg("-initrd").arg(archive);
    // When the kernel panics it restarts at once, which ends qemu.
    command.args(["-append", "console=ttyS0 quiet panic=-1"]);
    command
}

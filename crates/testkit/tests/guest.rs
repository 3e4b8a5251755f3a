//! The virtual machine itself: it runs what it is told to, tells the truth about it, has a wire to
//! its host, and is the remote peer and the older kernel that it is there for.
//!
//! The tests at the end are halves that run in the guest: see [`vm`].
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::fs::{self, DirEntry, File, Metadata};
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use std::{env, thread};

use sluicegate_sys::errqueue::{self, Entry, Numbering};
use sluicegate_sys::zerocopy;
use sluicegate_testkit::corpus;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use sluicegate_testkit::vm::{self, Options, Vm, VmError, connect, with_peer};

const SOON: Duration = Duration::from_secs(20);

/// Enough for many packets in both directions.
const LENGTH: usize = 300_000;

/// A machine for tests that need nothing special.
fn guest() -> Vm {
    let vm = Vm::boot(&Options::new()).unwrap();
    eprintln!("{} runs commands after {:?}", vm.kernel(), vm.boot_time());
    vm
}

#[test]
fn a_guest_runs_commands_and_tells_how_they_ended() {
    require!(Need::VirtualMachine);
    let vm = guest();
    assert!(vm.kernel().starts_with(|c: char| c.is_ascii_digit()), "{}", vm.kernel());

    let finished = vm.run(&["sh", "-c", "echo out; echo err >&2; exit 3"], &[], SOON).unwrap();
    assert_eq!((finished.status, finished.output.as_str()), (3, "out\nerr\n"));
    let words = ["printf", "%s", "it's $HOME \\ \" é"];
    let finished = vm.run(&words, &[], SOON).unwrap();
    assert_eq!((finished.status, finished.output.as_str()), (0, words[2]));
    let finished = vm.run(&["sh", "-c", "echo $A; kill -9 $$"], &[("A", "b  c")], SOON).unwrap();
    assert_eq!((finished.status, finished.output.as_str()), (137, "b c\n"));
    let finished = vm.run(&["seq", "20000"], &[], SOON).unwrap();
    assert!(finished.output.lines().map(str::parse).eq((1..=20_000).map(Ok::<u32, _>)));
    let finished = vm.run(&["no-such-program"], &[], SOON).unwrap();
    assert_eq!(finished.status, 127, "{}", finished.output);
    let error = vm.run(&["echo", "a\nb"], &[], SOON).unwrap_err();
    assert!(matches!(error, VmError::Command { .. }), "{error}");

    let began = Instant::now();
    let limit = Duration::from_secs(3);
    let hung = vm.run(&["sh", "-c", "echo before; sleep 60"], &[], limit).unwrap_err();
    assert!(began.elapsed() < SOON);
    assert!(hung.to_string().contains("before"), "{hung}");
    assert!(matches!(hung, VmError::TimedOut { .. }), "{hung}");
    // The answer that is still to come is nobody's.
    assert!(matches!(vm.run(&["true"], &[], SOON), Err(VmError::Ended { .. })));
}

#[test]
fn a_guest_has_the_modules_and_programs_that_are_asked_for() {
    require!(Need::VirtualMachine);
    let options = Options::new().module("tls").program("/usr/bin/env").processors(2).memory(300);
    let vm = Vm::boot(&options).unwrap();
    let finished = vm.run(&["cat", "/proc/modules"], &[], SOON).unwrap();
    assert!(finished.output.lines().any(|line| line.starts_with("tls ")), "{}", finished.output);
    let finished = vm.run(&["/programs/env"], &[("A", "b")], SOON).unwrap();
    assert!(finished.output.lines().any(|line| line == "A=b"), "{}", finished.output);
    assert_eq!(vm.run(&["nproc"], &[], SOON).unwrap().output, "2\n");

    let error = Vm::boot(&Options::new().module("no_such_module")).unwrap_err();
    assert!(error.to_string().contains("no module no_such_module"), "{error}");
}

#[test]
fn a_guest_that_ends_says_so_with_its_console() {
    require!(Need::VirtualMachine);
    let vm = guest();
    let began = Instant::now();
    // Ask the kernel for a panic, sysrq's `c`.
    let command = ["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 60"];
    let error = vm.run(&command, &[], SOON * 3).unwrap_err();
    assert!(began.elapsed() < SOON, "{error}");
    assert!(matches!(error, VmError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("sysrq triggered crash"), "{error}");
}

#[test]
fn a_test_that_fails_in_the_guest_fails_here_with_its_output() {
    require!(Need::VirtualMachine);
    let vm = guest();
    let message = |name: &str| {
        let panic = catch_unwind(AssertUnwindSafe(|| vm.run_test(name, &[]))).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    };
    let failed = message("half_that_fails");
    assert!(failed.contains("half_that_fails failed in the guest (status 101)"), "{failed}");
    assert!(failed.contains("as asked, in line one\nand line two"), "{failed}");
    // Neither a test that is not there nor one that would be skipped there has passed.
    let absent = message("no_such_half");
    assert!(absent.contains("running 0 tests"), "{absent}");
    let skipped = message("half_that_lacks_something");
    assert!(skipped.contains("needs the program `sg-absent-program`"), "{skipped}");
    // The machine goes on.
    assert!(vm.run_test("half_that_talks", &[]).contains("this is the guest"));
}

/// How many processes are in the namespace behind a file.
fn processes_in(namespace: &File) -> usize {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let wanted = identity(namespace.metadata().unwrap());
    let of = |entry: DirEntry| fs::metadata(entry.path().join("ns/net")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(of);
    all.filter(|metadata| identity(metadata.clone()) == wanted).count()
}

#[test]
fn nothing_of_a_machine_stays_when_it_is_dropped() {
    require!(Need::VirtualMachine);
    let vm = guest();
    let path = vm.host().path();
    let namespace = File::open(&path).unwrap();
    assert!(processes_in(&namespace) > 0);
    drop(vm);
    assert_eq!(processes_in(&namespace), 0);
    assert!(!path.exists());
}

#[test]
fn guest_and_host_reach_each_other_over_the_wire() {
    require!(Need::VirtualMachine);
    with_peer("half_that_echoes", |mut socket| {
        let mut sent = vec![0; LENGTH];
        corpus::fill(1, 0, &mut sent);
        let mut received = vec![0; LENGTH];
        let mut writer = socket.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&sent).unwrap());
            socket.read_exact(&mut received).unwrap();
        });
        assert!(received == sent);
    });
}

#[test]
fn the_wire_is_remote_and_the_loopback_local_to_the_guests_kernel() {
    require!(Need::VirtualMachine);
    let received = with_peer("half_that_sends_without_a_copy", |mut socket| {
        let mut received = Vec::new();
        socket.read_to_end(&mut received).unwrap();
        received
    });
    assert_eq!(received, [7; 300]);
}

#[test]
fn the_kernel_of_the_guest_is_one_of_before_what_sluicegate_knows_of_newer_ones() {
    require!(Need::VirtualMachine);
    let vm = guest();
    let older = vm.kernel().starts_with("6.1.");
    require!(Need::Fact { what: "Linux 6.1 for the virtual machine", holds: older });
    vm.run_test("half_on_an_older_kernel", &[]);
}

/// Two sockets within the guest.
fn loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (socket, listener.accept().unwrap().0)
}

#[test]
fn half_that_fails() {
    assert!(!vm::is_guest(), "as asked, in line one\nand line two");
}

#[test]
fn half_that_lacks_something() {
    if !vm::is_guest() {
        return;
    }
    require!(Need::Program("sg-absent-program"));
}

#[test]
fn half_that_talks() {
    if !vm::is_guest() {
        return;
    }
    assert_eq!(env::var("HOME").as_deref(), Ok("/tmp"));
    println!("this is the guest");
}

#[test]
fn half_that_echoes() {
    if !vm::is_guest() {
        return;
    }
    let mut socket = connect();
    let mut received = vec![0; LENGTH];
    socket.read_exact(&mut received).unwrap();
    socket.write_all(&received).unwrap();
}

/// Sends a little by reference, and returns whether the kernel says that it copied it.
fn is_copied(socket: &TcpStream) -> bool {
    zerocopy::allow(socket.as_fd()).unwrap();
    let content = [7; 300];
    assert_eq!(zerocopy::send(socket.as_fd(), &[IoSlice::new(&content)], false).unwrap(), 300);
    let deadline = Instant::now() + SOON;
    loop {
        match errqueue::next(socket.as_fd()).unwrap() {
            Some(Entry::Released { first: 0, last: 0, copied }) => return copied,
            Some(other) => panic!("{other:?}"),
            None => assert!(Instant::now() < deadline, "never released"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn half_that_sends_without_a_copy() {
    if !vm::is_guest() {
        return;
    }
    assert!(!is_copied(&connect()));

    let (socket, mut peer) = loopback();
    thread::scope(|scope| {
        scope.spawn(|| peer.read_exact(&mut [0; 300]).unwrap());
        assert!(is_copied(&socket));
    });
}

#[test]
fn half_on_an_older_kernel() {
    if !vm::is_guest() {
        return;
    }
    // OPT_ID_TCP came with 6.2, `cachestat` with 6.5.
    let (socket, _peer) = loopback();
    let numbering = errqueue::number_acks(socket.as_fd()).unwrap();
    assert_eq!(numbering, Numbering::FromUnacknowledged);
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    assert!(symbols.contains(" __x64_sys_openat2\n"));
    assert!(!symbols.contains(" __x64_sys_cachestat\n"));
}

//! The thread that copies packets from one device to the other.

use std::io::{self, ErrorKind};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use sluicegate_sys::affinity;
use sluicegate_sys::tun::Tun;

use super::lane::Lane;
use super::{Direction, End, Wire, WireControl};
use crate::lab::LabError;
use crate::scripted::Random;

/// How many packets of one direction are taken before the other one's are looked at.
const BATCH: usize = 64;

/// The longest packet that IP allows.
const LONGEST: usize = u16::MAX as usize;

/// What tells the two directions' luck apart.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// For what does not fit into a timeout.
const FAR: Timespec = Timespec { tv_sec: 3600, tv_nsec: 0 };

/// The relay of a wire. It ends with its guard, and the devices with it.
#[derive(Debug)]
pub(in crate::lab) struct Relay {
    control: WireControl,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Relay {
    /// Starts copying between the server's and the client's device.
    pub(in crate::lab) fn start(wire: Wire, devices: [Tun; 2]) -> Result<Self, LabError> {
        Self::try_start(wire, devices).map_err(|source| LabError::Relay { source })
    }

    fn try_start(wire: Wire, devices: [Tun; 2]) -> io::Result<Self> {
        let conditions = [wire.to_client, wire.to_server];
        let control = WireControl::new(conditions)?;
        if let Some(cpu) = wire.cpu
            && !affinity::allowed()?.contains(&cpu)
        {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("no processor {cpu}")));
        }
        let mut copier = Copier {
            control: control.clone(),
            devices,
            lanes: Direction::ALL.map(|direction| {
                let seed = wire.seed.wrapping_add(SEED_STEP.wrapping_mul(direction.index() as u64));
                Lane::new(conditions[direction.index()], Random::new(seed).number())
            }),
            began: Instant::now(),
            buffer: vec![0; LONGEST],
        };
        let thread = thread::Builder::new().name("wire".to_owned()).spawn(move || {
            if let Some(cpu) = wire.cpu {
                affinity::pin_to(cpu)?;
            }
            copier.run()
        })?;
        Ok(Self { control, thread: Some(thread) })
    }

    pub(in crate::lab) fn control(&self) -> &WireControl {
        &self.control
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.control.stop();
        // Its packets cannot be waited for: the devices go now.
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => eprintln!("the wire had broken: {error}"),
            Some(Err(_)) => eprintln!("the relay of a wire has panicked"),
            None | Some(Ok(Ok(()))) => {}
        }
    }
}

struct Copier {
    control: WireControl,
    /// The server's and the client's: each is the near end of the direction with its index.
    devices: [Tun; 2],
    lanes: [Lane; 2],
    began: Instant,
    buffer: Vec<u8>,
}

impl Copier {
    /// Copies until it is told to stop.
    fn run(&mut self) -> io::Result<()> {
        while !self.control.is_stopped() {
            self.change();
            let mut more = false;
            for direction in Direction::ALL {
                more |= self.take(direction)?;
            }
            for direction in Direction::ALL {
                self.deliver(direction)?;
            }
            if !more {
                self.sleep()?;
            }
        }
        Ok(())
    }

    /// Takes new conditions over.
    fn change(&mut self) {
        if let Some(conditions) = self.control.take_change() {
            let now = self.began.elapsed();
            for (lane, conditions) in self.lanes.iter_mut().zip(conditions) {
                lane.handle_change(now, conditions);
            }
        }
    }

    /// Takes what the near end has sent. Tells whether there may be more.
    fn take(&mut self, direction: Direction) -> io::Result<bool> {
        for _ in 0..BATCH {
            let length = match self.devices[direction.index()].receive(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
                Err(error) => return Err(error),
            };
            // Whoever set them before this packet was sent counts on them.
            self.change();
            // The kernel's own IPv6 packets, which come when they like, would take other
            // packets' luck.
            let packet = &self.buffer[..length];
            if packet.first().is_none_or(|byte| byte >> 4 != 4) {
                continue;
            }
            self.control.see(direction, End::Near, packet);
            let lane = &mut self.lanes[direction.index()];
            lane.handle_packet(self.began.elapsed(), packet);
            self.control.count(direction, lane.counts());
            self.deliver(direction)?;
        }
        Ok(true)
    }

    /// Hands over to the far end what comes out by now.
    fn deliver(&mut self, direction: Direction) -> io::Result<()> {
        let device = &self.devices[1 - direction.index()];
        let lane = &mut self.lanes[direction.index()];
        while let Some(packet) = lane.poll_packet(self.began.elapsed()) {
            self.control.count(direction, lane.counts());
            self.control.see(direction, End::Far, &packet);
            match device.send(&packet) {
                Ok(()) => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::BADFD) => {
                    return Err(error);
                }
                // A device that is down, or out of memory: the packet is lost, as on any wire.
                Err(_) => {
                    lane.handle_refusal(packet.len());
                    self.control.count(direction, lane.counts());
                }
            }
            lane.recycle(packet);
        }
        Ok(())
    }

    /// Sleeps until a packet comes, one is due, or a test wants something.
    fn sleep(&self) -> io::Result<()> {
        let due = self.lanes.iter().filter_map(Lane::poll_timeout).min();
        let timeout = due.map(|due| due.saturating_sub(self.began.elapsed()));
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).unwrap_or(FAR));
        let [server, client] = &self.devices;
        let wake = self.control.wake();
        let mut watched = [server.as_fd(), client.as_fd(), wake.as_fd()]
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if watched[2].revents().contains(PollFlags::IN) {
            wake.quiet();
        }
        Ok(())
    }
}

//! Blocking calls, and the memory that they take the image from.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::io::ioctl_fionbio;
use sluicegate_sys::memfd::MappedMemfd;
use sluicegate_sys::{outq, sendfile, socket};

use super::{Make, REQUEST, Request, Studio, Took};
use crate::floor::blocking::await_acked;

/// Serves one connection after another.
pub(super) fn serve(listener: &OwnedFd, mut studio: Studio, way: Make) -> Result<()> {
    ioctl_fionbio(listener, false)?;
    let mut image = Image::of(way, studio.length)?;
    loop {
        let (fd, _) = socket::accept(listener.as_fd()).context("cannot accept")?;
        socket::set_nodelay(fd.as_fd())?;
        ioctl_fionbio(&fd, false)?;
        if let Err(error) = connection(&fd.into(), &mut studio, &mut image, way) {
            eprintln!("{error:#}");
        }
    }
}

/// Where images are made.
enum Image {
    Heap(Vec<u8>),
    Mapping(MappedMemfd),
}

impl Image {
    fn of(way: Make, length: usize) -> Result<Self> {
        Ok(match way {
            Make::Heap | Make::HeapNew => Self::Heap(vec![0; length]),
            _ => Self::Mapping(MappedMemfd::new(length).context("no file in memory")?),
        })
    }

    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapping(memory) => memory.as_mut(),
        }
    }
}

fn connection(
    mut stream: &TcpStream,
    studio: &mut Studio,
    image: &mut Image,
    way: Make,
) -> Result<()> {
    let mut request = [0; REQUEST];
    loop {
        let received = stream.read(&mut request)?;
        if received == 0 {
            return Ok(());
        }
        // The client has everything that was sent: whatever way, the buffer is free.
        ensure!(outq::unacknowledged(stream.as_fd())? == 0, "asked before all was acknowledged");
        match Request::read(&request[..received])? {
            Request::Report => stream.write_all(&studio.report()?)?,
            Request::Image { number, timed } => {
                if matches!(way, Make::HeapNew | Make::SendfileNew) {
                    *image = Image::of(way, studio.length)?;
                }
                studio.make(number, image.bytes());
                let took = send(stream, studio, image, way, timed)?;
                studio.enter(took)?;
            }
        }
    }
}

fn send(
    mut stream: &TcpStream,
    studio: &Studio,
    image: &mut Image,
    way: Make,
    timed: bool,
) -> Result<Took> {
    let head = studio.head();
    let start = Instant::now();
    ensure!(socket::send(stream.as_fd(), &head, true)? == head.len(), "no room for a head");
    match (way, &*image) {
        (Make::Sendfile | Make::SendfileNew, Image::Mapping(memory)) => {
            hand_over(stream, memory, studio.length)?;
        }
        _ => stream.write_all(image.bytes())?,
    }
    let held = start.elapsed();
    let mut acked = None;
    if timed {
        await_acked(stream.as_fd())?;
        acked = Some(start.elapsed());
    }
    // Nothing tells when the pages that went by reference are free; a file that is not written to
    // again need not be.
    let reusable = (way != Make::Sendfile).then_some(held);
    Ok(Took { held, reusable, acked })
}

fn hand_over(stream: &TcpStream, memory: &MappedMemfd, length: usize) -> Result<()> {
    let mut sent = 0;
    while sent < length {
        match sendfile::sendfile(stream.as_fd(), memory.as_fd(), sent as u64, length - sent) {
            Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(accepted) => sent += accepted,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot hand over"),
        }
    }
    Ok(())
}

//! One traced thread: what was done to the call that it is in.

use nix::Result;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::call::{Call, Length};
use super::chance::Chance;

/// Offsets in a `struct msghdr` of x86-64 (`recvmsg(2)`), and the size of a `struct iovec`.
const MSG_IOV: u64 = 16;
const MSG_IOVLEN: u64 = 24;
const IOV_LEN: u64 = 8;

/// A thread that is traced.
#[derive(Debug)]
pub(super) struct Tracee {
    thread: Pid,
    pub(super) chance: Chance,
    /// What must be put right when the call returns.
    open: Option<Open>,
}

/// A call that was meddled with.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// It was replaced by no call at all, and returns this error.
    Failed(Errno),
    /// This argument had this value. The program counts on it: all registers but the result's
    /// survive a system call.
    Argument(usize, u64),
    /// This word of the program's memory had this value.
    Word(u64, i64),
}

/// The registers of a call that begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) call: Call,
    arguments: [u64; 6],
}

impl Tracee {
    pub(super) fn new(thread: Pid, chance: Chance) -> Self {
        Self { thread, chance, open: None }
    }

    /// Whether the thread is in a call that was meddled with.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The call that the thread is about to make, if faults are for its kind.
    pub(super) fn entry(&self) -> Result<Option<Entry>> {
        let registers = ptrace::getregs(self.thread)?;
        let arguments = [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ];
        Ok(Call::of(registers.orig_rax, &arguments).map(|call| Entry { call, arguments }))
    }

    /// Makes the call that begins fail before it happens.
    pub(super) fn fail(&mut self, errno: Errno) -> Result<()> {
        let mut registers = ptrace::getregs(self.thread)?;
        // No call has this number: the kernel does nothing, and nothing is restarted either.
        registers.orig_rax = u64::MAX;
        ptrace::setregs(self.thread, registers)?;
        self.open = Some(Open::Failed(errno));
        Ok(())
    }

    /// Gives the call that begins less to do; returns whether that was possible.
    pub(super) fn shorten(&mut self, entry: &Entry) -> Result<bool> {
        match entry.call.length() {
            None => Ok(false),
            Some(Length::Argument(index)) => {
                let length = entry.arguments[index];
                if length < 2 {
                    return Ok(false);
                }
                let less = self.chance.less_than(length);
                self.set_argument(index, less)?;
                self.open = Some(Open::Argument(index, length));
                Ok(true)
            }
            Some(Length::Message(index)) => {
                let message = entry.arguments[index];
                let slices = self.word(message + MSG_IOVLEN)?;
                let place = match slices {
                    2.. => message + MSG_IOVLEN,
                    // The first and only slice.
                    1 => self.word(message + MSG_IOV)?.cast_unsigned() + IOV_LEN,
                    _ => return Ok(false),
                };
                let length = self.word(place)?;
                if length < 2 {
                    return Ok(false);
                }
                let less = self.chance.less_than(length.cast_unsigned());
                self.set_word(place, less.cast_signed())?;
                self.open = Some(Open::Word(place, length));
                Ok(true)
            }
        }
    }

    /// The call is over: the program finds its result, and all else as it left it.
    pub(super) fn settle(&mut self) -> Result<()> {
        match self.open.take() {
            None => Ok(()),
            Some(Open::Failed(errno)) => {
                let mut registers = ptrace::getregs(self.thread)?;
                registers.rax = (-i64::from(errno as i32)).cast_unsigned();
                ptrace::setregs(self.thread, registers)
            }
            Some(Open::Argument(index, value)) => self.set_argument(index, value),
            Some(Open::Word(place, value)) => self.set_word(place, value),
        }
    }

    fn set_argument(&self, index: usize, value: u64) -> Result<()> {
        let mut registers = ptrace::getregs(self.thread)?;
        let places = [
            &mut registers.rdi,
            &mut registers.rsi,
            &mut registers.rdx,
            &mut registers.r10,
            &mut registers.r8,
            &mut registers.r9,
        ];
        if let Some(place) = places.into_iter().nth(index) {
            *place = value;
        }
        ptrace::setregs(self.thread, registers)
    }

    fn word(&self, place: u64) -> Result<i64> {
        ptrace::read(self.thread, place as ptrace::AddressType)
    }

    fn set_word(&self, place: u64, value: i64) -> Result<()> {
        ptrace::write(self.thread, place as ptrace::AddressType, value)
    }
}

//! Who a process is: users and groups by name, and becoming another for good
//! (`credentials(7)`).

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

/// A user, as the system's data base has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: CString,
    /// Its number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
}

/// The longest entry of the data bases that is read; a group's members are in it.
const ENTRY: usize = 1 << 20;

/// Calls `lookup` with more and more room until the entry fits in it.
fn with_room<T>(mut lookup: impl FnMut(&mut [u8]) -> Result<T, i32>) -> io::Result<T> {
    let mut room = vec![0; 4096];
    loop {
        match lookup(&mut room) {
            Ok(found) => return Ok(found),
            Err(libc::ERANGE) if room.len() < ENTRY => room.resize(room.len() * 4, 0),
            // getpwnam(3): what "no such user" is called differs from one data
            // base to the next.
            Err(error) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The user of this name; `None` where there is none.
///
/// # Errors
/// What `getpwnam_r(3)` reports.
pub fn user(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    with_room(|room| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: the name ends with a zero; the entry, the room and the
        // pointer to what was found are valid for writes for the length of the
        // call, and the room's length is the slice's own.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                room.as_mut_ptr().cast(),
                room.len(),
                &raw mut found,
            )
        };
        read_user(error, found)
    })
}

/// The user of this number; `None` where there is none.
///
/// # Errors
/// What `getpwuid_r(3)` reports.
pub fn user_of(uid: u32) -> io::Result<Option<User>> {
    with_room(|room| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `user`; a number is passed in place of the name.
        let error = unsafe {
            libc::getpwuid_r(
                uid,
                entry.as_mut_ptr(),
                room.as_mut_ptr().cast(),
                room.len(),
                &raw mut found,
            )
        };
        read_user(error, found)
    })
}

/// What a look for a user has found. `found` is null, or points to an entry
/// that the call which returned `error` has written.
fn read_user(error: i32, found: *const libc::passwd) -> Result<Option<User>, i32> {
    if found.is_null() {
        return absent(error);
    }
    // SAFETY: not null, so the call has written the entry, and its name points
    // to a string that ends with a zero in the caller's room; both live until
    // the caller's closure returns, and the name is copied here.
    let (entry, name) = unsafe { (&*found, CStr::from_ptr((*found).pw_name)) };
    Ok(Some(User { name: name.to_owned(), uid: entry.pw_uid, gid: entry.pw_gid }))
}

/// The number of the group of this name; `None` where there is none.
///
/// # Errors
/// What `getgrnam_r(3)` reports.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    with_room(|room| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `user`, with the entry of a group.
        let error = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                room.as_mut_ptr().cast(),
                room.len(),
                &raw mut found,
            )
        };
        if found.is_null() {
            return absent(error);
        }
        // SAFETY: not null, so it points to the entry, which the call has written.
        Ok(Some(unsafe { (*found).gr_gid }))
    })
}

/// getpwnam(3): "0 or ENOENT or ESRCH or EBADF or EPERM or …: the given name
/// or uid was not found".
fn absent<T>(error: i32) -> Result<Option<T>, i32> {
    match error {
        0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Ok(None),
        error => Err(error),
    }
}

/// The effective user and group.
#[must_use]
pub fn current() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Becomes the user `uid` with the group `gid`, and with the further groups
/// that `name` is a member of (none without a name): all threads, all three
/// ids of each kind, for good.
///
/// By way of libc: the kernel's calls change one thread, libc's all of them.
///
/// # Errors
/// `EPERM` without `CAP_SETUID` and `CAP_SETGID`; `EAGAIN`, `EINVAL`. What was
/// done before stays done: end the process. An error, too, where the way back
/// to root was not closed.
pub fn assume(uid: u32, gid: u32, name: Option<&CStr>) -> io::Result<()> {
    let done = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    match name {
        // SAFETY: the name ends with a zero and lives for the length of the call.
        Some(name) => done(unsafe { libc::initgroups(name.as_ptr(), gid) })?,
        // SAFETY: the kernel reads no group through the pointer, as the length says.
        None => done(unsafe { libc::setgroups(0, std::ptr::null()) })?,
    }
    // SAFETY: numbers alone.
    done(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: numbers alone.
    done(unsafe { libc::setresuid(uid, uid, uid) })?;
    // SAFETY: numbers alone; where it succeeds, which it must not, the process
    // is root again, and the caller is told to end it.
    if uid != 0 && unsafe { libc::setuid(0) } == 0 {
        return Err(io::Error::other("the process could become root again"));
    }
    Ok(())
}

/// From now on no program that this process or its threads' children execute
/// gets privileges that this one has not (`PR_SET_NO_NEW_PRIVS`): set-user-ID
/// bits and file capabilities count for nothing.
///
/// For the calling thread and those that it starts: call it before any other.
///
/// # Errors
/// `EINVAL` before Linux 3.5.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name() {
        let root = user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(user_of(0).unwrap(), Some(root));
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(user("no such user").unwrap(), None);
        assert_eq!(group("no such group").unwrap(), None);
        assert_eq!(user("ro\0ot").unwrap(), None);
        assert_eq!(user_of(4_000_000_123).unwrap(), None);
    }
}

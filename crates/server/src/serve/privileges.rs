//! Who the process is once it has bound its addresses.

use std::ffi::CString;
use std::fmt;

use anyhow::{Context, Result, bail};
use sluicegate::os::identity;

/// A user and a group that were looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    /// For the further groups; a number without a name has none.
    name: Option<CString>,
    uid: u32,
    gid: u32,
}

/// Becomes `user`, for good: a name or a number, and `:` and a group after it if
/// it is not to be the user's own. Call it before any thread is started.
///
/// # Errors
/// No such user or group; not root, and not that user, with that group if one
/// is named, already.
pub(super) fn become_user(user: &str) -> Result<()> {
    let account = find(user)?;
    let (uid, gid) = identity::current();
    // Who starts it as a user may have given that another group than its own.
    let is_group = gid == account.gid || (uid != 0 && !user.contains(':'));
    if uid == account.uid && is_group {
        return Ok(());
    }
    if uid == account.uid && uid != 0 {
        bail!("cannot take the group of `{user}`: only root can, and this process has group {gid}");
    }
    if uid != 0 {
        let now = Number(uid);
        bail!("cannot become user `{user}`: only root can, and this process is {now}");
    }
    identity::assume(account.uid, account.gid, account.name.as_deref())
        .with_context(|| format!("cannot become user `{user}`"))?;
    // An upgrade starts our own program, which needs nothing that we have not.
    identity::no_new_privileges().context("cannot rule out new privileges")
}

/// The user and the group that files of this process are to belong to; `None`
/// where it cannot give them away.
///
/// # Errors
/// No such user or group.
pub(crate) fn owner(user: &str) -> Result<Option<(u32, u32)>> {
    let account = find(user)?;
    let (uid, _) = identity::current();
    Ok((uid == 0).then_some((account.uid, account.gid)))
}

fn find(text: &str) -> Result<Account> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let mut account = match identity::user(user).context("cannot look for users")? {
        Some(found) => Account { name: Some(found.name), uid: found.uid, gid: found.gid },
        None => {
            let uid: u32 = user.parse().ok().with_context(|| format!("no user `{user}`"))?;
            let found = identity::user_of(uid).context("cannot look for users")?;
            match (found, group) {
                (Some(found), _) => {
                    Account { name: Some(found.name), uid: found.uid, gid: found.gid }
                }
                (None, Some(_)) => Account { name: None, uid, gid: uid },
                (None, None) => {
                    bail!("user {uid} has no entry, and so no group: give one, as `{uid}:GROUP`")
                }
            }
        }
    };
    if let Some(group) = group {
        let found = identity::group(group).context("cannot look for groups")?;
        let gid = found.or_else(|| group.parse().ok());
        account.gid = gid.with_context(|| format!("no group `{group}`"))?;
    }
    Ok(account)
}

/// A user, for people.
struct Number(u32);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match identity::user_of(self.0) {
            Ok(Some(user)) => write!(f, "`{}`", user.name.to_string_lossy()),
            _ => write!(f, "user {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_or_numbered_with_or_without_a_group() {
        let root = Account { name: Some(c"root".to_owned()), uid: 0, gid: 0 };
        assert_eq!(find("root").unwrap(), root);
        assert_eq!(find("0").unwrap(), root);
        assert_eq!(find("root:7").unwrap(), Account { gid: 7, ..root });
        let bare = Account { name: None, uid: 4_000_000_123, gid: 5 };
        assert_eq!(find("4000000123:5").unwrap(), bare);
        for (text, says) in [
            ("nobody-of-that-name", "no user `nobody-of-that-name`"),
            ("root:no-such-group", "no group `no-such-group`"),
            ("4000000123", "give one"),
            ("", "no user ``"),
        ] {
            let error = find(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

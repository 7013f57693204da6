//! The names of users and groups, looked up once each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Gid, Group, Uid, User};

/// How many names are remembered of each sort: an id takes some dozen bytes.
const REMEMBERED: usize = 65_536;

/// Asks the system's name services.
#[derive(Default)]
pub(crate) struct Owners {
    users: Mutex<Names>,
    groups: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    by_id: HashMap<u32, String>,
    /// The one that was asked for last: mostly the next one, too.
    last: Option<(u32, String)>,
}

impl Owners {
    /// The name of a user; empty when there is none. Ids are what is restored, so a name service
    /// that fails costs the name and nothing else.
    pub(crate) fn user(&self, uid: u32) -> String {
        cached(&self.users, uid, || {
            User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
        })
    }

    /// The name of a group; empty when there is none.
    pub(crate) fn group(&self, gid: u32) -> String {
        cached(&self.groups, gid, || {
            Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
        })
    }
}

fn cached(names: &Mutex<Names>, id: u32, ask: impl FnOnce() -> Option<String>) -> String {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    let Names { by_id, last } = &mut *names;
    if let Some((_, name)) = last.as_ref().filter(|(last, _)| *last == id) {
        return name.clone();
    }
    if by_id.len() >= REMEMBERED && !by_id.contains_key(&id) {
        by_id.clear();
    }
    let name = by_id.entry(id).or_insert_with(|| ask().unwrap_or_default());
    last.insert((id, name.clone())).1.clone()
}

#[cfg(test)]
mod tests {
    use super::Owners;

    #[test]
    fn an_id_without_a_name_has_an_empty_one() {
        let owners = Owners::default();
        for _ in 0..2 {
            assert_eq!(owners.user(0), "root");
            assert_eq!(owners.group(0), "root");
            assert_eq!(owners.user(3_999_999_999), "");
            assert_eq!(owners.group(3_999_999_999), "");
        }
    }
}

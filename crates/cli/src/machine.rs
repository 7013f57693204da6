//! Who runs this program, and on which machine.

use std::fs;

use alidade_model::{Host, encode_object};
use alidade_protect::Identity;

use crate::exit::Code;
use crate::failure::{Failure, Result};

/// Field of `/proc/PID/stat` that says when the process began, counted behind the closing
/// parenthesis of its name (proc(5): the 22nd in all).
const START: usize = 19;

/// Who runs: this host, this user, this process.
///
/// # Errors
/// When the machine has no name or `/proc` does not tell when this process began.
pub(crate) fn identity() -> Result<Identity> {
    let uid = rustix::process::getuid().as_raw();
    let pid = std::process::id();
    let started = started(pid)
        .ok_or_else(|| Failure::new(Code::Failed, "read when this process began from /proc"))?;
    Ok(Identity {
        host: host()?,
        username: username(uid),
        uid,
        gid: rustix::process::getgid().as_raw(),
        program_version: format!("alidade {}", env!("CARGO_PKG_VERSION")),
        pid,
        started_ticks: started,
    })
}

/// The name of this machine; a byte that hosts do not have is `_XX`.
fn host() -> Result<Host> {
    let name = rustix::system::uname();
    let name = name.nodename().to_bytes();
    let plain = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
    match plain {
        Some(host) => Ok(host),
        None => encode_object(name).parse().map_err(|error| Failure::of(Code::Failed, &error)),
    }
}

/// True when that process of this boot is alive: same number and same start.
#[must_use]
pub(crate) fn is_alive(pid: u32, start: u64) -> bool {
    started(pid) == Some(start)
}

/// The id of this boot of the machine; empty where the system does not tell.
#[must_use]
pub(crate) fn boot() -> String {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) => id.trim().to_owned(),
        Err(_) => String::new(),
    }
}

fn started(pid: u32) -> Option<u64> {
    start_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may hold any character, parentheses and blanks too.
fn start_in(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(START)?.parse().ok()
}

/// The user's name in the list of this machine; the number where the list does not name it.
fn username(uid: u32) -> String {
    match fs::read_to_string("/etc/passwd") {
        Ok(users) => name_in(&users, uid),
        Err(_) => None,
    }
    .unwrap_or_else(|| uid.to_string())
}

fn name_in(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_the_same_number() {
        let pid = std::process::id();
        let start = started(pid).unwrap();
        assert!(is_alive(pid, start));
        assert!(!is_alive(pid, start + 1));
        assert!(!is_alive(u32::MAX, start));
    }

    #[test]
    fn a_process_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let mut stat = "7 (a) b (c) R".to_owned();
        (1..=18).for_each(|field| stat.push_str(&format!(" {field}")));
        stat.push_str(" 4711 0");
        assert_eq!(start_in(&stat), Some(4711));
        assert_eq!(start_in("7 (x"), None);
    }

    #[test]
    fn a_user_is_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n";
        assert_eq!(name_in(users, 1000).as_deref(), Some("u"));
        assert_eq!(name_in(users, 7), None);
    }
}

//! Asks the DNS of a cluster, as a pod does.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

/// The address of a name, if the server at `server` knows one.
pub(super) fn ask(server: Ipv4Addr, name: &str) -> Result<Option<Ipv4Addr>> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("open a socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(500))).context("limit the wait")?;
    let sent = socket.send_to(&question(name), (server, 53));
    let mut answer = [0; 512];
    let Ok(len) = sent.and_then(|_| socket.recv(&mut answer)) else { return Ok(None) };
    Ok(address(&answer[..len]))
}

/// A question for one address, with an id that nobody else asks with on this socket.
fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x41, 0x4c, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// The address in an answer that has just one: its last four bytes, if it says that it has any and
/// no error. What comes after the answers is not asked for.
fn address(answer: &[u8]) -> Option<Ipv4Addr> {
    let is_fine = answer.get(..2)? == [0x41, 0x4c] && answer.get(3)? & 15 == 0;
    let has_one = answer.get(6..12)? == [0, 1, 0, 0, 0, 0];
    let last: [u8; 4] = answer.last_chunk().copied()?;
    (is_fine && has_one).then(|| last.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_read_and_an_error_is_none() {
        let mut answer = question("a.b");
        assert_eq!(&answer[12..], [1, b'a', 1, b'b', 0, 0, 1, 0, 1]);
        assert_eq!(address(&answer), None, "a question has no answer");
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 1, 2, 3]);
        assert_eq!(address(&answer), Some(Ipv4Addr::new(10, 1, 2, 3)));
        answer[3] |= 3;
        assert_eq!(address(&answer), None, "there is no such name");
        assert_eq!(address(&[]), None);
    }
}

//! The wire format of SFTP, version 3, as far as a store needs it (draft-ietf-secsh-filexfer-02), with the
//! extensions of OpenSSH.
//!
//! What a server sends is not trusted: lengths are checked, and nothing is allocated by what they say.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a packet may be long; servers send a quarter of it.
pub(super) const LONGEST: usize = 1 << 20;
/// The version that every server knows.
pub(super) const VERSION: u32 = 3;

/// How a file is opened.
pub(super) const READ: u32 = 1;
pub(super) const WRITE: u32 = 2;
pub(super) const CREATE: u32 = 8;
pub(super) const EXCLUSIVE: u32 = 0x20;

/// The answers of a server that are told apart.
pub(super) const OK: u32 = 0;
pub(super) const END: u32 = 1;
pub(super) const NO_SUCH_FILE: u32 = 2;
pub(super) const PERMISSION_DENIED: u32 = 3;

/// What else OpenSSH's server knows.
pub(super) const SYNC: &str = "fsync@openssh.com";
pub(super) const HARD_LINK: &str = "hardlink@openssh.com";

const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_MORE: u32 = 0x8000_0000;

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    Open { path: &'a str, flags: u32, mode: u32 },
    Close(&'a [u8]),
    Read { handle: &'a [u8], at: u64, len: u32 },
    Write { handle: &'a [u8], at: u64, data: &'a [u8] },
    Stat(&'a str),
    Size(&'a [u8]),
    OpenDirectory(&'a str),
    ReadDirectory(&'a [u8]),
    Remove(&'a str),
    MakeDirectory { path: &'a str, mode: u32 },
    Rename { from: &'a str, to: &'a str },
    HardLink { from: &'a str, to: &'a str },
    Sync(&'a [u8]),
}

impl Ask<'_> {
    /// The packet, with its length.
    pub(super) fn packet(&self, id: u32) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u32(0);
        out.put_u8(self.code());
        out.put_u32(id);
        match *self {
            Self::Open { path, flags, mode } => {
                string(&mut out, path.as_bytes());
                out.put_u32(flags);
                only_mode(&mut out, mode);
            }
            Self::MakeDirectory { path, mode } => {
                string(&mut out, path.as_bytes());
                only_mode(&mut out, mode);
            }
            Self::Close(handle) | Self::Size(handle) | Self::ReadDirectory(handle) => {
                string(&mut out, handle);
            }
            Self::Read { handle, at, len } => {
                string(&mut out, handle);
                out.put_u64(at);
                out.put_u32(len);
            }
            Self::Write { handle, at, data } => {
                string(&mut out, handle);
                out.put_u64(at);
                string(&mut out, data);
            }
            Self::Stat(path) | Self::OpenDirectory(path) | Self::Remove(path) => {
                string(&mut out, path.as_bytes());
            }
            Self::Rename { from, to } => {
                string(&mut out, from.as_bytes());
                string(&mut out, to.as_bytes());
            }
            Self::HardLink { from, to } => {
                string(&mut out, HARD_LINK.as_bytes());
                string(&mut out, from.as_bytes());
                string(&mut out, to.as_bytes());
            }
            Self::Sync(handle) => {
                string(&mut out, SYNC.as_bytes());
                string(&mut out, handle);
            }
        }
        whole(out)
    }

    fn code(&self) -> u8 {
        match self {
            Self::Open { .. } => 3,
            Self::Close(_) => 4,
            Self::Read { .. } => 5,
            Self::Write { .. } => 6,
            Self::Size(_) => 8,
            Self::OpenDirectory(_) => 11,
            Self::ReadDirectory(_) => 12,
            Self::Remove(_) => 13,
            Self::MakeDirectory { .. } => 14,
            Self::Stat(_) => 17,
            Self::Rename { .. } => 18,
            Self::HardLink { .. } | Self::Sync(_) => 200,
        }
    }
}

/// The first packet of all.
pub(super) fn greeting() -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u32(0);
    out.put_u8(1);
    out.put_u32(VERSION);
    whole(out)
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Name>),
    Attributes(Attributes),
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    pub(super) mode: Option<u32>,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: Bytes,
    pub(super) attributes: Attributes,
}

/// A packet that is not of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads an answer, without its length: the number of its request, and what it says.
pub(super) fn reply(mut packet: Bytes) -> Result<(u32, Reply), Malformed> {
    let packet = &mut packet;
    let (code, id) = (take_u8(packet)?, take_u32(packet)?);
    let reply = match code {
        101 => {
            let code = take_u32(packet)?;
            // Old servers send no message.
            let message = if packet.has_remaining() { take_string(packet)? } else { Bytes::new() };
            Reply::Status { code, message: String::from_utf8_lossy(&message).into_owned() }
        }
        102 => Reply::Handle(take_string(packet)?),
        103 => Reply::Data(take_string(packet)?),
        104 => {
            let mut names = Vec::new();
            for _ in 0..take_u32(packet)? {
                let name = take_string(packet)?;
                // The line that `ls -l` would print.
                take_string(packet)?;
                names.push(Name { name, attributes: take_attributes(packet)? });
            }
            Reply::Names(names)
        }
        105 => Reply::Attributes(take_attributes(packet)?),
        _ => return Err(Malformed),
    };
    Ok((id, reply))
}

/// Reads the server's greeting: its version, and what else it knows.
pub(super) fn version(mut packet: Bytes) -> Result<(u32, Vec<String>), Malformed> {
    let packet = &mut packet;
    if take_u8(packet)? != 2 {
        return Err(Malformed);
    }
    let version = take_u32(packet)?;
    let mut known = Vec::new();
    while packet.has_remaining() {
        let name = take_string(packet)?;
        take_string(packet)?;
        known.push(String::from_utf8_lossy(&name).into_owned());
    }
    Ok((version, known))
}

fn whole(mut out: BytesMut) -> Bytes {
    let len = short(out.len() - 4);
    out[..4].copy_from_slice(&len.to_be_bytes());
    out.freeze()
}

fn string(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(short(bytes.len()));
    out.put_slice(bytes);
}

fn only_mode(out: &mut BytesMut, mode: u32) {
    out.put_u32(HAS_MODE);
    out.put_u32(mode);
}

fn short(len: usize) -> u32 {
    u32::try_from(len).expect("names, handles and pieces of files are shorter than 4 GiB")
}

fn take_u8(packet: &mut Bytes) -> Result<u8, Malformed> {
    packet.try_get_u8().map_err(|_short| Malformed)
}

fn take_u32(packet: &mut Bytes) -> Result<u32, Malformed> {
    packet.try_get_u32().map_err(|_short| Malformed)
}

fn take_u64(packet: &mut Bytes) -> Result<u64, Malformed> {
    packet.try_get_u64().map_err(|_short| Malformed)
}

fn take_string(packet: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = usize::try_from(take_u32(packet)?).map_err(|_long| Malformed)?;
    if packet.remaining() < len { Err(Malformed) } else { Ok(packet.split_to(len)) }
}

fn take_attributes(packet: &mut Bytes) -> Result<Attributes, Malformed> {
    let flags = take_u32(packet)?;
    let has = |flag| flags & flag != 0;
    let mut attributes = Attributes::default();
    if has(HAS_SIZE) {
        attributes.size = Some(take_u64(packet)?);
    }
    if has(HAS_OWNER) {
        take_u64(packet)?;
    }
    if has(HAS_MODE) {
        attributes.mode = Some(take_u32(packet)?);
    }
    if has(HAS_TIMES) {
        take_u64(packet)?;
    }
    if has(HAS_MORE) {
        for _ in 0..take_u32(packet)? {
            take_string(packet)?;
            take_string(packet)?;
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes written as hexadecimal digits, with blanks between.
    fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    #[test]
    fn requests_are_written_as_the_format_says() {
        for (ask, bytes) in [
            (
                Ask::Open { path: "a", flags: READ, mode: 0o600 },
                "00000016 03 00000007 00000001 61 00000001 00000004 00000180",
            ),
            (Ask::Close(b"h"), "0000000a 04 00000007 00000001 68"),
            (
                Ask::Read { handle: b"h", at: 2, len: 3 },
                "00000016 05 00000007 00000001 68 0000000000000002 00000003",
            ),
            (
                Ask::Write { handle: b"h", at: 2, data: b"xy" },
                "00000018 06 00000007 00000001 68 0000000000000002 00000002 7879",
            ),
            (Ask::Stat("a"), "0000000a 11 00000007 00000001 61"),
            (Ask::Rename { from: "a", to: "b" }, "0000000f 12 00000007 00000001 61 00000001 62"),
            (
                Ask::HardLink { from: "a", to: "b" },
                "00000027 c8 00000007 00000014 686172646c696e6b406f70656e7373682e636f6d \
                 00000001 61 00000001 62",
            ),
        ] {
            assert_eq!(ask.packet(7), hex(bytes), "{ask:?}");
        }
        assert_eq!(greeting(), hex("00000005 01 00000003"));
    }

    #[test]
    fn answers_are_read_and_no_beginning_of_one_is() {
        let (size, mode) = (Some(5), Some(0o100_644));
        for (bytes, wanted) in [
            (
                "65 00000007 00000002 00000002 6e6f 00000000",
                Reply::Status { code: 2, message: "no".to_owned() },
            ),
            ("66 00000007 00000001 68", Reply::Handle(Bytes::from_static(b"h"))),
            ("67 00000007 00000002 7879", Reply::Data(Bytes::from_static(b"xy"))),
            (
                "68 00000007 00000001 00000001 61 00000002 2d2d 0000000d 0000000000000005 000081a4 \
                 0000000000000000",
                Reply::Names(vec![Name {
                    name: Bytes::from_static(b"a"),
                    attributes: Attributes { size, mode },
                }]),
            ),
            (
                "69 00000007 80000003 0000000000000005 0000000000000000 00000001 00000001 78 00000000",
                Reply::Attributes(Attributes { size, mode: None }),
            ),
        ] {
            let bytes = hex(bytes);
            assert_eq!(reply(bytes.clone()), Ok((7, wanted.clone())), "{wanted:?}");
            for len in 0..bytes.len() {
                let begun = reply(bytes.slice(..len));
                // A status may come without its message, and its language is not looked at.
                let is_status = matches!(wanted, Reply::Status { .. }) && len >= 9;
                assert!(begun.is_err() || is_status, "{len} bytes of {wanted:?}: {begun:?}");
            }
        }
        assert_eq!(reply(hex("7f 00000007")), Err(Malformed));
    }

    #[test]
    fn a_greeting_says_what_else_the_server_knows() {
        let bytes = hex("02 00000003 00000001 61 00000001 31 00000002 6262 00000000");
        assert_eq!(version(bytes), Ok((3, vec!["a".to_owned(), "bb".to_owned()])));
        assert_eq!(version(hex("02 00000003 00000001")), Err(Malformed));
        assert_eq!(version(hex("65 00000003")), Err(Malformed));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(bytes);
            drop(version(bytes.clone()));
            drop(reply(bytes));
        }

        #[test]
        fn names_without_end_are_refused(count in any::<u32>(), bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut packet = vec![104, 0, 0, 0, 1];
            packet.extend(count.to_be_bytes());
            packet.extend(bytes);
            drop(reply(packet.into()));
        }
    }
}

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::content::{Content, Fill};
use super::plan::{Acl, Dress, Make, Plan, Thing};

/// What the trees must keep to, because one of those they go through cannot do more.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At most so many names.
    pub things: usize,
    /// No file larger than this.
    pub file_size: u64,
    /// The last second that a modification may have.
    pub last_second: i64,
    /// Whether targets of symlinks may hold bytes that are not UTF-8.
    pub raw_targets: bool,
    /// Whether symlinks may have extended attributes.
    pub link_attributes: bool,
}

impl Default for Limits {
    fn default() -> Self {
        // ext4 ends in the year 2446.
        Self {
            things: 24,
            file_size: 10 << 20,
            last_second: 15_032_385_535,
            raw_targets: true,
            link_attributes: true,
        }
    }
}

/// Trees of everything that the one who runs the tests may make.
pub fn plans(limits: Limits) -> impl Strategy<Value = Plan> {
    let is_root = rustix::process::geteuid().is_root();
    let things = vec(thing(limits, is_root), 0..limits.things);
    (dress(limits, is_root, true), things).prop_map(|(root, things)| Plan { root, things })
}

fn thing(limits: Limits, is_root: bool) -> impl Strategy<Value = Thing> {
    (any::<usize>(), name(), make(limits, is_root)).prop_flat_map(move |(parent, name, make)| {
        let is_directory = make == Make::Directory;
        let is_bare = matches!(make, Make::Symlink(_)) && !limits.link_attributes;
        dress(limits, is_root, is_directory).prop_map(move |mut dress| {
            if is_bare {
                dress.attributes.clear();
            }
            Thing { parent, name: name.clone(), make: make.clone(), dress }
        })
    })
}

/// Names that a careless program spoils.
pub const ODD_NAMES: &[&[u8]] = &[
    b"we\"ird\\name",
    b"'single' and `back`",
    b"new\nline",
    b"\r\n\t\x08\x0c\x07\x0b",
    b"<a href='&amp;'>",
    "\u{2028}\u{2029}".as_bytes(),
    b".leading",
    b"...",
    b"-rf",
    b"--",
    b" ",
    b" blank ",
    b"*?[a-z]{x,y}!",
    b"$HOME %s {} #",
    b"a:b@latest",
    b"\\",
    b"\\x80",
    b"\\u2028\\n",
    b"_5F_",
    b"\x01\x1f\x7f",
    b"\x80",
    b"\xff\xfe",
    b"caf\xc3",
    b"\xc3\xa9 and \xe9",
    // Surrogates and overlong forms are not UTF-8.
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    "\u{fffd}".as_bytes(),
    "\u{e9} e\u{301}".as_bytes(),
    "\u{200b}\u{feff}\u{ad}".as_bytes(),
    "\u{85}\u{a0}\u{3000}".as_bytes(),
    "\u{e000}\u{10ffff}\u{fdd0}".as_bytes(),
    "\u{1f600}\u{10348}".as_bytes(),
    "\u{202e}drow".as_bytes(),
    b".alidade",
    b".git",
    b"CACHEDIR.TAG",
];

fn name() -> impl Strategy<Value = Vec<u8>> {
    let raw = vec(any::<u8>(), 1..40).prop_map(clean);
    let long = prop_oneof![
        Just(vec![b'x'; 255]),
        Just(vec![0xff; 255]),
        Just("\u{20ac}".repeat(85).into_bytes()),
        Just(b"\"".repeat(255)),
        vec(any::<u8>(), 255).prop_map(clean),
    ];
    prop_oneof![
        4 => "[a-z]{1,8}(\\.[a-z]{1,3})?".prop_map(String::into_bytes),
        4 => prop::sample::select(ODD_NAMES).prop_map(<[u8]>::to_vec),
        2 => raw,
        1 => long,
        1 => "\\PC{1,20}".prop_map(|text| clean(text.into_bytes())),
    ]
}

/// The nearest name that a file system takes.
fn clean(mut name: Vec<u8>) -> Vec<u8> {
    for byte in &mut name {
        if matches!(*byte, 0 | b'/') {
            *byte = b'~';
        }
    }
    name.truncate(255);
    if name == b"." || name == b".." { b"dot".to_vec() } else { name }
}

fn make(limits: Limits, is_root: bool) -> impl Strategy<Value = Make> {
    let device = (
        prop::sample::select(&[1u32, 7, 240, 4095][..]),
        prop::sample::select(&[0u32, 3, 255, 256, 1_048_575][..]),
    );
    let char_device = device.clone().prop_map(|(major, minor)| Make::CharDevice(major, minor));
    let block_device = device.prop_map(|(major, minor)| Make::BlockDevice(major, minor));
    let device_weight = u32::from(is_root);
    // Weights of 0 are refused where they stand alone, not beside others.
    prop_oneof![
        10 => content(limits).prop_map(Make::File),
        6 => Just(Make::Directory),
        3 => target(limits).prop_map(Make::Symlink),
        3 => any::<usize>().prop_map(Make::HardLink),
        1 => Just(Make::Fifo),
        1 => Just(Make::Socket),
        device_weight => char_device,
        device_weight => block_device,
    ]
}

fn content(limits: Limits) -> impl Strategy<Value = Content> {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    // Around pages, and around the sizes at which files are cut into blobs.
    let around = |middle: u64| middle - 1..=middle + 1;
    let size = prop_oneof![
        6 => Just(0u64),
        6 => Just(1u64),
        6 => around(4 * KIB),
        12 => 2..100 * KIB,
        4 => around(512 * KIB),
        2 => around(MIB),
        2 => MIB..4 * MIB,
        1 => around(8 * MIB),
        1 => 8 * MIB..12 * MIB,
    ];
    // Few seeds: equal content in several files is common.
    let fill = prop_oneof![
        1 => Just(Fill::Zeros),
        3 => (0..8u64).prop_map(Fill::Random),
        3 => (0..8u64).prop_map(Fill::Text),
    ];
    let hole = (0..600u64, prop_oneof![1..4u64, 100..600u64])
        .prop_map(|(at, len)| (at * 4096, len * 4096));
    let holes = prop_oneof![3 => Just(Vec::new()), 1 => vec(hole, 1..4)];
    (size, fill, holes).prop_map(move |(size, fill, holes)| Content {
        size: size.min(limits.file_size),
        fill,
        holes,
    })
}

fn target(limits: Limits) -> impl Strategy<Value = Vec<u8>> {
    let raw = vec(any::<u8>(), 1..60).prop_map(|bytes| {
        bytes.into_iter().map(|byte| if byte == 0 { b'/' } else { byte }).collect::<Vec<u8>>()
    });
    let raw_weight = u32::from(limits.raw_targets);
    prop_oneof![
        3 => name().prop_filter_map("targets may have to be UTF-8", move |name| {
            (limits.raw_targets || std::str::from_utf8(&name).is_ok()).then_some(name)
        }),
        1 => Just(b"..".to_vec()),
        1 => Just(b"/absolute//and/./odd/../path".to_vec()),
        1 => Just(vec![b't'; 4095]),
        raw_weight => raw,
    ]
}

fn dress(limits: Limits, is_root: bool, is_directory: bool) -> impl Strategy<Value = Dress> {
    let mode = prop_oneof![
        4 => Just(if is_directory { 0o755 } else { 0o644 }),
        2 => prop::sample::select(&[0o000u32, 0o400, 0o4755, 0o2755, 0o6711, 0o1777, 0o7777, 0o070][..]),
        1 => 0..=0o7777u32,
    ];
    // Without the right to ignore it, a tree that its owner cannot read is not copied.
    let needed = if is_root {
        0
    } else if is_directory {
        0o700
    } else {
        0o400
    };
    let id = prop::sample::select(&[0u32, 1, 1000, 65_534, 65_536, 4_294_967_294][..]);
    let owner = option::weighted(if is_root { 0.4 } else { 0.0 }, (id.clone(), id.clone()));
    let acl = (id.clone(), any::<u16>(), id, any::<u16>(), any::<bool>()).prop_map(
        |(user, user_may, group, group_may, default)| Acl {
            user: (user, user_may),
            group: (group, group_may),
            default,
        },
    );
    (mode, owner, mtime(limits), vec(attribute(), 0..3), option::weighted(0.15, acl)).prop_map(
        move |(mode, owner, mtime, attributes, acl)| Dress {
            mode: mode | needed,
            owner,
            mtime,
            attributes,
            acl,
        },
    )
}

fn mtime(limits: Limits) -> impl Strategy<Value = (i64, u32)> {
    const Y2038: i64 = 1 << 31;
    let second = prop_oneof![
        6 => 1_500_000_000..1_800_000_000i64,
        1 => -Y2038..0i64,
        1 => -1..=1i64,
        1 => Y2038 - 1..=Y2038 + 1,
        1 => Y2038..limits.last_second,
        1 => Just(limits.last_second),
    ];
    let nano = prop_oneof![
        1 => Just(0u32),
        1 => prop::sample::select(&[1u32, 10, 100_000_000, 120_000_000, 999_999_999][..]),
        2 => 0..1_000_000_000u32,
    ];
    (second, nano)
}

fn attribute() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        4 => "user\\.[a-z]{1,6}",
        1 => Just("user.\u{e9}\"<&>\\ \n".to_owned()),
        1 => Just(format!("user.{}", "n".repeat(250))),
        2 => "trusted\\.[a-z]{1,6}",
    ];
    let value = prop_oneof![
        1 => Just(Vec::new()),
        3 => vec(any::<u8>(), 1..40),
        1 => Just(b"text".to_vec()),
        1 => vec(any::<u8>(), 1000..2000),
    ];
    (name.prop_map(String::into_bytes), value)
}

//! One of everything, the same every time.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use alidade_testkit::tree::{Acl, Content, Dress, Fill, Make, ODD_NAMES, Plan, Thing};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn thing(parent: usize, name: &[u8], make: Make) -> Thing {
    let mode = if make == Make::Directory { 0o750 } else { 0o640 };
    let dress = Dress { mode, ..Dress::default() };
    Thing { parent, name: name.to_vec(), make, dress }
}

fn file(name: &str, size: u64, fill: Fill) -> Thing {
    thing(0, name.as_bytes(), Make::File(Content::new(size, fill)))
}

fn dressed(mut thing: Thing, change: impl FnOnce(&mut Dress)) -> Thing {
    change(&mut thing.dress);
    thing
}

/// A tree with one of each thing that every program here can keep.
pub(crate) fn sample() -> Plan {
    let mut things = vec![thing(0, b"sub", Make::Directory), thing(1, b"empty", Make::Directory)];
    for (number, name) in (0..).zip(ODD_NAMES) {
        let content = Content::new(100 + number, Fill::Text(number));
        // In a directory of their own, which is the third.
        things.push(thing(3, name, Make::File(content)));
    }
    things.insert(2, thing(0, &[b'\xfe'; 255], Make::Directory));
    let bounds = [0, 1, 4095, 4096, 4097, 512 * KIB - 1, 512 * KIB, 512 * KIB + 1];
    things.extend(bounds.map(|size| file(&format!("size-{size}"), size, Fill::Random(size))));
    things.push(file("mebibyte", MIB, Fill::Text(1)));
    things.push(file("large", 9 * MIB + 1, Fill::Random(2)));
    things.push(file("large-text", 3 * MIB, Fill::Text(2)));
    things.push(file("again", 3 * MIB, Fill::Text(2)));
    things.push(file("zeros", 3 * MIB, Fill::Zeros));
    let mut sparse = Content::new(20 * MIB, Fill::Random(3));
    sparse.holes = vec![(MIB, 16 * MIB), (18 * MIB, 512 * KIB)];
    things.push(thing(0, b"sparse", Make::File(sparse)));
    let mut hole = Content::new(4 * MIB, Fill::Zeros);
    hole.holes = vec![(0, 4 * MIB)];
    things.push(thing(0, b"only-a-hole", Make::File(hole)));
    things.extend(links());
    things.extend(specials());
    things.extend(dresses());
    let root = Dress { mode: 0o2751, mtime: (1_600_000_000, 1), ..Dress::default() };
    Plan { root, things }
}

fn links() -> Vec<Thing> {
    vec![
        // Hard links of the first two odd names; hard links are counted without directories.
        thing(0, b"hard-link", Make::HardLink(0)),
        thing(1, b"hard-link", Make::HardLink(0)),
        thing(0, b"other-hard-link", Make::HardLink(1)),
        thing(0, b"symlink", Make::Symlink(b"sub/empty".to_vec())),
        thing(0, b"dangling", Make::Symlink("/nowhere/\u{e9}\"\\\n<&>\u{2028}".into())),
        thing(0, b"long-target", Make::Symlink(vec![b't'; 4095])),
    ]
}

fn specials() -> Vec<Thing> {
    let mut all = vec![thing(1, b"fifo", Make::Fifo), thing(1, b"socket", Make::Socket)];
    if rustix::process::geteuid().is_root() {
        all.push(thing(1, b"tty", Make::CharDevice(4095, 1_048_575)));
        all.push(thing(1, b"disk", Make::BlockDevice(7, 200)));
    }
    all
}

fn dresses() -> Vec<Thing> {
    let small = |name: &str| file(name, 10, Fill::Text(9));
    let mut all = vec![
        dressed(small("before-1970"), |dress| dress.mtime = (-86_400, 999_999_999)),
        dressed(small("epoch"), |dress| dress.mtime = (0, 0)),
        dressed(small("after-2038"), |dress| dress.mtime = (1 << 32, 5)),
        dressed(small("setuid"), |dress| dress.mode = 0o6755),
        dressed(thing(1, b"sticky", Make::Directory), |dress| dress.mode = 0o1777),
        dressed(small("attributes"), |dress| {
            dress.attributes = vec![
                (b"user.empty".to_vec(), Vec::new()),
                (b"user.binary".to_vec(), (0..=255).collect()),
                (b"trusted.own".to_vec(), b"text".to_vec()),
            ];
        }),
        dressed(small("acl"), |dress| {
            dress.acl = Some(Acl { user: (1000, 6), group: (100, 4), default: false });
        }),
        dressed(thing(1, b"default-acl", Make::Directory), |dress| {
            dress.acl = Some(Acl { user: (1000, 7), group: (100, 5), default: true });
        }),
    ];
    if rustix::process::geteuid().is_root() {
        all.push(dressed(small("nothing-allowed"), |dress| dress.mode = 0));
        all.push(dressed(small("foreign"), |dress| dress.owner = Some((65_534, 4_294_967_294))));
        all.push(dressed(thing(0, b"their-link", Make::Symlink(b"x".to_vec())), |dress| {
            dress.owner = Some((1000, 1001));
            dress.attributes = vec![(b"trusted.on-a-link".to_vec(), b"1".to_vec())];
        }));
    }
    all
}

/// Names of files that are dumped one by one.
pub(crate) const DUMPED: &[&str] = &["size-0", "size-1", "large", "sparse", "sub/hard-link"];

/// Changes the source a little; another `number` changes it in another way.
pub(crate) fn change(source: &Path, number: u64) {
    let write = |name: &str, content: Content| {
        let plan =
            Plan { root: Dress::default(), things: vec![thing(0, b"file", Make::File(content))] };
        let scratch = source.with_file_name(format!("change-{number}"));
        plan.build(&scratch);
        std::fs::rename(scratch.join("file"), source.join(name)).unwrap();
        std::fs::remove_dir(scratch).unwrap();
    };
    write("changing", Content::new(2 * MIB + number, Fill::Random(1000 + number)));
    write(&format!("sub/new-{number}"), Content::new(number, Fill::Text(number)));
    let odd = std::ffi::OsStr::from_bytes(ODD_NAMES[usize::try_from(number).unwrap()]);
    let folder = source.join(std::ffi::OsStr::from_bytes(&[b'\xfe'; 255]));
    std::fs::remove_file(folder.join(odd)).unwrap();
    // Only metadata.
    let times = std::fs::File::open(source.join("mebibyte")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_650_000_000 + number, 7);
    times.set_modified(time).unwrap();
}

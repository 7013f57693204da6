//! What reading a file gives while others are at it.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use alidade_entity::{Class, OpenFile, Piece, ReadFile, Verdict};
use alidade_model::Hole;

use crate::support::{cx, need_root, run, scratch, walk};

/// A file, and reading it up to its first piece.
fn begun(path: &Path, size: usize) -> (Box<dyn ReadFile>, Vec<u8>) {
    fs::write(path, vec![1; size]).expect("write");
    let walked = walk(path);
    let name = path.file_name().expect("a name").to_str().expect("text");
    let mut reading = walked.file(name).open_whole(&cx()).expect("open");
    let mut buf = Vec::new();
    let piece = reading.next_piece(&cx(), &mut buf).expect("read");
    assert_eq!(piece, Some(Piece::Data { at: 0 }));
    (reading, buf)
}

/// Reads the rest, and says how much there was in all and what became of the file.
fn ended((mut reading, mut buf): (Box<dyn ReadFile>, Vec<u8>)) -> (usize, Verdict) {
    let mut total = buf.len();
    while reading.next_piece(&cx(), &mut buf).expect("read").is_some() {
        total += buf.len();
    }
    (total, reading.finish().expect("finish"))
}

fn append(path: &Path, bytes: usize) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(path).expect("open");
    file.write_all(&vec![2; bytes]).expect("append");
}

/// What is done to a file, and what reading it gives then.
type Case<'a> = (&'a str, &'a dyn Fn(), (usize, Verdict));

#[test]
fn a_file_is_read_to_the_size_it_had_and_its_end_is_told() {
    let (_temp, top) = scratch();
    let path = top.join("f");
    let size = 3 << 20;
    let cases: [Case<'_>; 5] = [
        ("nothing", &|| {}, (size, Verdict::Steady)),
        ("growth", &|| append(&path, 100), (size, Verdict::Grew)),
        (
            "truncation",
            &|| fs::File::options().write(true).open(&path).unwrap().set_len(2 << 20).unwrap(),
            (2 << 20, Verdict::Changed),
        ),
        (
            "a write",
            &|| fs::File::options().write(true).open(&path).unwrap().write_all_at(b"x", 5).unwrap(),
            (size, Verdict::Changed),
        ),
        ("removal", &|| fs::remove_file(&path).unwrap(), (size, Verdict::Changed)),
    ];
    for (what, change, expected) in cases {
        let reading = begun(&path, size);
        assert_eq!(reading.1.len(), 1 << 20);
        // The clock of file times advances in steps of some milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        change();
        assert_eq!(ended(reading), expected, "{what}");
    }
}

#[test]
fn a_file_that_vanished_or_became_something_else_does_not_open() {
    let (_temp, top) = scratch();
    let path = top.join("f");
    fs::write(&path, b"x").expect("write");
    let walked = walk(&top.join("f"));
    let refused = |class: Class| {
        let error = walked.file("f").open_whole(&cx()).err().expect("it is gone");
        assert_eq!(error.class(), class, "{}", error.chain());
        assert_eq!(walked.file("f").holes(&cx()).expect_err("it is gone").class(), class);
        error.to_string()
    };
    fs::remove_file(&path).expect("remove");
    assert_eq!(refused(Class::NotFound), format!("open {}", path.display()));
    symlink("/etc/passwd", &path).expect("symlink");
    let changed = format!("read {}, which is no regular file any more", path.display());
    assert_eq!(refused(Class::Failed), changed);
    fs::remove_file(&path).expect("remove");
    run("mkfifo", &[&path.to_string_lossy()]);
    assert_eq!(refused(Class::Failed), changed);
    fs::remove_file(&path).expect("remove");
    fs::create_dir(&path).expect("mkdir");
    assert_eq!(refused(Class::Failed), changed);
    fs::remove_dir(&path).expect("remove");
    fs::write(&path, b"another").expect("write");
    assert_eq!(walked.file("f").open_whole(&cx()).expect("there again").metadata().size, 7);
}

fn pieces(file: &dyn OpenFile) -> Vec<(u64, u64, bool)> {
    let mut reading = file.open_whole(&cx()).expect("open");
    let (mut buf, mut pieces) = (Vec::new(), Vec::new());
    while let Some(piece) = reading.next_piece(&cx(), &mut buf).expect("read") {
        pieces.push(match piece {
            Piece::Data { at } => (at, buf.len() as u64, false),
            Piece::Hole(Hole { at, len }) => (at, len, true),
            Piece::Kept(kept) => panic!("{kept:?} is kept by nobody"),
        });
    }
    pieces
}

#[test]
fn holes_are_found_and_not_read() {
    let (_temp, top) = scratch();
    let path = top.join("f");
    let file = fs::File::create(&path).expect("create");
    file.set_len(4 << 40).expect("this test needs a file system with files of 4 TiB");
    file.write_all_at(&[1; 4096], 1 << 40).expect("write");
    file.write_all_at(&vec![1; 2 << 20], 2 << 40).expect("write");
    let walked = walk(&path);
    let found = pieces(walked.file("f"));
    let (t, m) = (1_u64 << 40, 1_u64 << 20);
    let expected = [
        (0, t, true),
        (t, 4096, false),
        (t + 4096, t - 4096, true),
        (2 * t, m, false),
        (2 * t + m, m, false),
        (2 * t + 2 * m, 2 * t - 2 * m, true),
    ];
    assert_eq!(found, expected);
    let holes: Vec<Hole> =
        expected.iter().filter(|p| p.2).map(|&(at, len, _)| Hole { at, len }).collect();
    assert_eq!(walked.file("f").holes(&cx()).expect("holes"), holes);
}

#[test]
fn a_hole_is_found_in_a_file_whose_attributes_take_as_many_blocks() {
    let (_temp, top) = scratch();
    let path = top.join("f");
    let file = fs::File::create(&path).expect("create");
    file.write_all_at(&[1; 8192], 0).expect("write");
    file.write_all_at(&[1; 8192], 12288).expect("write");
    // More than fits into an inode: the attribute takes a block of its own.
    rustix::fs::fsetxattr(&file, c"user.long", &[7; 2000], rustix::fs::XattrFlags::empty())
        .expect("this test needs a file system with user attributes");
    file.sync_all().expect("sync");
    let walked = walk(&path);
    let expected = [(0, 8192, false), (8192, 4096, true), (12288, 8192, false)];
    assert_eq!(pieces(walked.file("f")), expected);
    assert_eq!(walked.file("f").holes(&cx()).expect("holes"), [Hole { at: 8192, len: 4096 }]);
}

#[test]
fn what_was_allocated_ahead_keeps_its_storage() {
    let (_temp, top) = scratch();
    let path = top.join("f");
    let file = fs::File::create(&path).expect("create");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 2 << 20)
        .expect("this test needs a file system that allocates ahead");
    file.write_all_at(&[1; 4096], 1 << 20).expect("write");
    file.sync_all().expect("sync");
    let walked = walk(&path);
    let m = 1 << 20;
    assert_eq!(pieces(walked.file("f")), [(0, m, false), (m, m, false)]);
    assert_eq!(walked.file("f").holes(&cx()).expect("holes"), []);
}

#[test]
fn zeros_that_are_stored_are_data() {
    let (_temp, top) = scratch();
    fs::write(top.join("f"), vec![0; 10_000]).expect("write");
    fs::File::create(top.join("e")).expect("create");
    let walked = walk(&top.join("f"));
    assert_eq!(pieces(walked.file("f")), [(0, 10_000, false)]);
    assert_eq!(walked.file("f").holes(&cx()).expect("holes"), []);
    let empty = walk(&top.join("e"));
    assert_eq!(pieces(empty.file("e")), []);
    assert_eq!(empty.file("e").holes(&cx()).expect("holes"), []);
}

#[test]
fn reading_leaves_the_access_time_alone() {
    need_root();
    let (_temp, top) = scratch();
    use std::os::unix::fs::MetadataExt;
    let path = top.join("f");
    fs::write(&path, b"x").expect("write");
    run("touch", &["-a", "-d", "2001-01-01", &path.to_string_lossy()]);
    let before = fs::metadata(&path).expect("stat").atime();
    let walked = walk(&top);
    let name = format!("{}/f", top.file_name().expect("a name").to_string_lossy());
    assert_eq!(crate::copy::read(walked.file(&name)).1, b"x");
    assert_eq!(fs::metadata(&path).expect("stat").atime(), before);
}

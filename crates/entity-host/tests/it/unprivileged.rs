//! What the system refuses to a user who is not root. Each test runs itself again as nobody: root
//! is never refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use alidade_entity::Class;
use alidade_model::{Kind, OmissionKind};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use crate::copy::{assert_same, copy, options};
use crate::support::{Seen, need_root, walk};

const NOBODY: u32 = 65_534;

/// Where a test that runs as nobody finds what was prepared for it.
const DIRECTORY: &str = "ALIDADE_TEST_DIRECTORY";

/// Runs `test` as nobody, in a directory of nobody's that `prepare` may fill as root. Returns the
/// directory in the process that is nobody's, and `None` in the one that started it.
fn as_nobody(test: &str, prepare: impl FnOnce(&Path)) -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        assert_eq!(rustix::process::geteuid().as_raw(), NOBODY);
        return Some(directory.into());
    }
    need_root();
    let temp = tempfile::tempdir().expect("a directory for the test");
    let top = temp.path().canonicalize().expect("its real path");
    fs::set_permissions(&top, PermissionsExt::from_mode(0o755)).expect("chmod");
    let (program, work) = (top.join("test"), top.join("work"));
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("copy it");
    fs::create_dir(&work).expect("mkdir");
    chown(&work, Some(NOBODY), Some(NOBODY)).expect("chown");
    prepare(&work);
    let id = NOBODY.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"])
        .arg(&program)
        .args(["--exact", &format!("unprivileged::{test}"), "--nocapture"])
        .env(DIRECTORY, &work)
        .current_dir("/")
        .output()
        .unwrap_or_else(|error| panic!("these tests need the program `setpriv`: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
    None
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
}

#[test]
fn what_may_not_be_read_is_omitted_and_its_metadata_kept() {
    let name = "what_may_not_be_read_is_omitted_and_its_metadata_kept";
    let Some(work) = as_nobody(name, |_| {}) else { return };
    let root = work.join("r");
    for directory in ["closed", "listed", "open"] {
        fs::create_dir_all(root.join(directory)).expect("mkdir");
        fs::write(root.join(directory).join("f"), b"x").expect("write");
    }
    fs::write(root.join("secret"), b"x").expect("write");
    setxattr(root.join("secret"), "user.a", b"1", XattrFlags::empty()).expect("user.a");
    set_mode(&root.join("secret"), 0o040);
    set_mode(&root.join("closed"), 0o300);
    set_mode(&root.join("listed"), 0o600);
    let walked = walk(&root);
    for directory in ["closed", "listed"] {
        set_mode(&root.join(directory), 0o700);
    }
    assert_eq!(walked.paths(), ["r", "r/closed", "r/listed", "r/open", "r/open/f", "r/secret"]);
    assert_eq!(walked.entry("r/closed").metadata.mode, 0o300);
    let omitted: Vec<_> =
        walked.omitted().iter().map(|o| (o.path.clone(), o.kind, o.reason.clone())).collect();
    let path = |name: &str| root.join(name).into_os_string().into_encoded_bytes();
    let denied = OmissionKind::PermissionDenied;
    let words = "Permission denied (os error 13)";
    assert_eq!(
        omitted,
        [
            (path("closed"), denied, format!("open the directory: {words}")),
            (path("listed/f"), denied, format!("look at it: {words}")),
        ]
    );
    let at = walked.seen.iter().position(|(_, seen)| matches!(seen, Seen::Omit(_))).expect("one");
    assert!(matches!(walked.seen[at - 1].1, Seen::Enter(_)), "the directory is entered,");
    assert!(matches!(walked.seen[at + 1].1, Seen::Leave), "and left");
    let error = walked.file("r/secret").open_whole(&crate::support::cx()).err().expect("refused");
    assert_eq!(error.class(), Class::Denied);
    let attributes = walked.ending.omissions.named();
    assert_eq!(attributes.len(), 1);
    assert_eq!(attributes[0].path, path("secret"));
    assert_eq!(attributes[0].kind, denied);
    assert_eq!(attributes[0].reason, format!("read extended attribute user.a: {words}"));
}

#[test]
fn a_root_that_may_not_be_listed_fails_the_walk() {
    let Some(work) = as_nobody("a_root_that_may_not_be_listed_fails_the_walk", |_| {}) else {
        return;
    };
    fs::create_dir(work.join("r")).expect("mkdir");
    set_mode(&work.join("r"), 0o300);
    let mut walking =
        crate::support::begin(&work.join("r"), crate::support::How::default()).expect("begin");
    let error = walking.source.next(&crate::support::cx(), &mut Vec::new()).expect_err("refused");
    assert_eq!(error.class(), Class::Denied);
    assert_eq!(error.to_string(), format!("read {}", work.join("r").display()));
}

#[test]
fn what_the_target_refuses_is_omitted_by_name_and_the_rest_restored() {
    let name = "what_the_target_refuses_is_omitted_by_name_and_the_rest_restored";
    let prepare = |work: &Path| {
        let root = work.join("r");
        fs::create_dir(&root).expect("mkdir");
        fs::write(root.join("suid"), b"x").expect("write");
        chown(root.join("suid"), Some(0), Some(0)).expect("chown");
        set_mode(&root.join("suid"), 0o6755);
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        setxattr(root.join("suid"), "security.capability", &capability, XattrFlags::empty())
            .expect("security.capability");
        let device = rustix::fs::makedev(1, 3);
        mknodat(
            CWD,
            root.join("null"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            device,
        )
        .expect("mknod");
        chown(&root, Some(NOBODY), Some(NOBODY)).expect("chown");
    };
    let Some(work) = as_nobody(name, prepare) else { return };
    let root = work.join("r");
    let ending = copy(&root, &options(&work.join("t"))).expect("copy");
    let path = |name: &str| root.join(name).into_os_string().into_encoded_bytes();
    let reasons = |name: &str| -> Vec<&str> {
        let about = ending.omissions.named().iter().filter(|o| o.path == path(name));
        about.map(|o| o.reason.as_str()).collect()
    };
    let refused = "Operation not permitted (os error 1)";
    assert_eq!(
        reasons("suid"),
        [
            format!(
                "set owner 0 and group 0: {refused}; its set-id bits are left out, \
                 as they were meant for that owner"
            ),
            format!("set extended attribute security.capability: {refused}"),
        ]
    );
    assert_eq!(reasons("null"), [format!("create character device: {refused}")]);
    assert!(ending.omissions.counts().all(|(kind, _)| kind == OmissionKind::Unwritable));
    let restored = work.join("t").join(root.strip_prefix("/").expect("absolute"));
    let stat = fs::metadata(restored.join("suid")).expect("the file is kept");
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (NOBODY, 0o755));
    assert!(!restored.join("null").exists());
    assert_eq!(walk(&restored).entry("r").metadata.kind, Kind::Directory);
}

#[test]
fn nobody_restores_what_is_nobodys_as_it_was() {
    let Some(work) = as_nobody("nobody_restores_what_is_nobodys_as_it_was", |_| {}) else { return };
    let root = work.join("r");
    fs::create_dir_all(root.join("closed")).expect("mkdir");
    fs::write(root.join("closed/f"), b"x").expect("write");
    setxattr(root.join("closed/f"), "user.a", b"1", XattrFlags::empty()).expect("user.a");
    fs::hard_link(root.join("closed/f"), root.join("g")).expect("link");
    set_mode(&root.join("closed/f"), 0o444);
    set_mode(&root.join("closed"), 0o555);
    let mut options = options(&work.join("t"));
    options.read_back = true;
    let ending = copy(&root, &options).expect("copy");
    let below =
        |o: &&alidade_model::Omission| o.path.starts_with(root.as_os_str().as_encoded_bytes());
    assert_eq!(ending.omissions.named().iter().filter(below).count(), 0);
    let restored = work.join("t").join(root.strip_prefix("/").expect("absolute"));
    assert_same(&root, &restored);
    for top in [&root, &restored] {
        set_mode(&top.join("closed"), 0o755);
    }
}

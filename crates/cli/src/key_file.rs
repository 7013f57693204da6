//! The key of the default repository: a generated password in a file that only its owner reads.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use alidade_entity::Cx;
use zeroize::Zeroizing;

use crate::exit::Code;
use crate::failure::{Failure, Result};

/// Random bytes in a key; written as twice as many hex digits.
const BYTES: usize = 32;

/// A key as it stands in its file: 64 hex digits, forgotten from memory when dropped.
pub(crate) type Key = Zeroizing<String>;

/// The key file at one path.
///
/// # Guarantees
/// - A file that is there is never overwritten and never deleted.
/// - When [`KeyFile::create`] returns, the key survives a power cut.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The key file at `path`, there or not.
    #[must_use]
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The key; `None` when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or does not hold 64 hex digits.
    pub(crate) fn read(&self) -> Result<Option<Key>> {
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io(self.attempt("read"), &error)),
        };
        match valid(&text) {
            Some(key) => Ok(Some(key)),
            None => Err(self.invalid()),
        }
    }

    /// Makes a new key and its file (mode 0600, directory 0700), all of it on disk before it returns.
    ///
    /// # Errors
    /// When there is a file already, or the directory cannot be written.
    pub(crate) fn create(&self, cx: &Cx) -> Result<Key> {
        let mut random = Zeroizing::new([0; BYTES]);
        cx.fill(&mut *random).map_err(|error| Failure::of(Code::Failed, &error))?;
        let mut key = Zeroizing::new(String::with_capacity(2 * BYTES));
        for byte in random.iter() {
            for digit in [byte >> 4, byte & 15] {
                key.push(
                    char::from_digit(u32::from(digit), 16).expect("four bits are a hex digit"),
                );
            }
        }
        self.write(&key).map_err(|error| Failure::io(self.attempt("create"), &error))?;
        Ok(key)
    }

    fn write(&self, key: &Key) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = PathBuf::from(name);
        let written = write_durably(&temporary, key)
            // A link, unlike a rename, never takes the place of a file that is there.
            .and_then(|()| std::fs::hard_link(&temporary, &self.path));
        let removed = std::fs::remove_file(&temporary);
        written?;
        removed?;
        File::open(directory)?.sync_all()
    }

    fn invalid(&self) -> Failure {
        let path = self.path.display();
        Failure::new(
            Code::WrongPassword,
            format!("the key file {path} does not hold 64 hex digits"),
        )
        .hint(format!("put the copy you kept of the key back into {path}"))
    }

    fn attempt(&self, what: &str) -> String {
        format!("{what} key file {}", self.path.display())
    }
}

fn write_durably(path: &Path, key: &Key) -> io::Result<()> {
    // A leftover of a run that was killed is of no use: its key opens nothing yet.
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(key.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// The key in these bytes: 64 hex digits and at most white space around them.
fn valid(bytes: &[u8]) -> Option<Key> {
    let bytes = bytes.trim_ascii();
    let hex = bytes.len() == 2 * BYTES && bytes.iter().all(u8::is_ascii_hexdigit);
    std::str::from_utf8(bytes).ok().filter(|_| hex).map(|text| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(directory: &tempfile::TempDir) -> KeyFile {
        KeyFile::at(directory.path().join("config/alidade/key"))
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_key_is_readable_by_its_owner_alone_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory);
        assert_eq!(file.read().unwrap(), None);
        let key = file.create(&Cx::system(Default::default())).unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(file.read().unwrap(), Some(key));
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(file.path().parent().unwrap()), 0o700);
        let names = std::fs::read_dir(file.path().parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "no temporary file stays");
    }

    #[test]
    fn a_key_file_that_is_there_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory);
        let cx = Cx::system(Default::default());
        let key = file.create(&cx).unwrap();
        assert!(file.create(&cx).is_err());
        assert_eq!(file.read().unwrap(), Some(key));
    }

    #[test]
    fn a_key_file_that_holds_no_key_is_refused_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory);
        std::fs::create_dir_all(file.path().parent().unwrap()).unwrap();
        let digits = "0123456789abcdef".repeat(4);
        for bad in ["", "\n", &digits[1..], &format!("{digits}0"), &digits.replace('a', "x")] {
            std::fs::write(file.path(), bad).unwrap();
            let failure = file.read().unwrap_err();
            assert_eq!(failure.code, Code::WrongPassword, "{bad:?}");
            assert!(failure.hint.is_some());
        }
        std::fs::write(file.path(), format!("{digits}\r\n")).unwrap();
        assert_eq!(file.read().unwrap().unwrap().as_str(), digits);
    }
}

use alidade_entity::Cx;

use super::Repository;
use crate::crypto::MasterKey;
use crate::decode::Decoded;
use crate::files;
use crate::key::{self, Kdf, KeyFile, Made, Opening};
use crate::{Body, Error, FileId, FileKind, Password, Result, Store};

/// Who makes a key, where, and how much work it is to use it.
#[derive(Clone, Debug)]
pub struct KeyOptions {
    /// [`Kdf::calibrated`] for typed passwords, [`Kdf::LIGHT`] for generated ones.
    pub kdf: Kdf,
    /// The name of this machine.
    pub host: String,
    /// The name of the user.
    pub username: String,
}

/// A key file of the repository.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    /// Its name.
    pub id: FileId,
    /// What it says, or why it cannot be read.
    pub key: Result<KeyFile>,
    /// True for the one that opened the repository.
    pub current: bool,
}

impl Repository {
    /// All key files, ascending by id.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn keys(&self, cx: &Cx) -> Result<Vec<KeyEntry>> {
        let mut all = Vec::new();
        for (id, _) in self.files.list(FileKind::Key)? {
            cx.check()?;
            match read(&**self.store(), &id) {
                Err(Error::NotFound { .. }) => {}
                Err(error @ Error::Store { .. }) => return Err(error),
                key => all.push(KeyEntry { id, key, current: id == self.key_id }),
            }
        }
        Ok(all)
    }

    /// The key that opened the repository.
    #[must_use]
    pub fn current_key(&self) -> FileId {
        self.key_id
    }

    /// Adds a password. It opens what every other opens.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty password, [`Error::Store`].
    pub fn add_key(&self, cx: &Cx, password: &Password, options: &KeyOptions) -> Result<FileId> {
        write(cx, &**self.store(), self.files.key(), password, options)
    }

    /// Removes a password. What it opened stays sealed under the same master key.
    ///
    /// # Errors
    /// [`Error::Usage`] for the key in use and for the last one, [`Error::NotFound`].
    pub fn remove_key(&self, id: &FileId) -> Result<()> {
        if *id == self.key_id {
            return Err(Error::Usage(format!(
                "key {id} is in use: open the repository with another"
            )));
        }
        let all = self.files.list(FileKind::Key)?;
        if !all.iter().any(|(other, _)| other == id) {
            return Err(Error::NotFound { what: format!("key {id}") });
        }
        // The one in use may be gone by another's hand.
        if all.len() < 2 {
            return Err(Error::Usage(format!(
                "key {id} is the last one: nothing else opens the repository"
            )));
        }
        self.store().remove(FileKind::Key, &id.to_string())?;
        self.store().flush(FileKind::Key)
    }
}

fn read(store: &dyn Store, id: &FileId) -> Result<KeyFile> {
    let bytes = files::read_named(store, FileKind::Key, &id.to_string(), key::MAX_LEN)?;
    KeyFile::decode(&bytes).map_err(|error| error.of(format!("key {id}")))
}

/// Stock restic opens nothing with an empty password.
pub(super) fn refuse_empty(password: &Password) -> Result<()> {
    if password.is_empty() {
        return Err(Error::Usage("a password must not be empty".to_owned()));
    }
    Ok(())
}

/// Stores a new key file for `master`, and reads it back: a repository whose only key does not open
/// is lost.
pub(super) fn write(
    cx: &Cx,
    store: &dyn Store,
    master: &MasterKey,
    password: &Password,
    options: &KeyOptions,
) -> Result<FileId> {
    refuse_empty(password)?;
    let KeyOptions { kdf, host, username } = options;
    let made = Made { username, hostname: host, kdf: *kdf };
    let bytes = KeyFile::create(cx, master, password.bytes(), made)?.encode();
    let id = FileId::of(&bytes);
    store.put(FileKind::Key, &id.to_string(), Body::Bytes(&bytes))?;
    store.flush(FileKind::Key)?;
    read(store, &id)?;
    Ok(id)
}

/// What came of trying all keys.
#[derive(Default)]
struct Tried {
    good: usize,
    damaged: Vec<Error>,
    config: Option<Error>,
}

/// Tries `password` on every key file until one of them opens `config`. A key that opens and whose
/// master key does not fit the config is a leftover of an attempt to make the repository.
pub(super) fn search(
    cx: &Cx,
    store: &dyn Store,
    password: &Password,
    config: &[u8],
) -> Result<(FileId, MasterKey, Vec<u8>)> {
    let mut tried = Tried::default();
    for (id, _) in files::list(store, FileKind::Key)? {
        cx.check()?;
        let file = match read(store, &id) {
            Ok(file) => file,
            Err(Error::NotFound { .. }) => continue,
            Err(error @ Error::Damaged { .. }) => {
                tried.damaged.push(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        match file.open(password.bytes()) {
            Ok(Opening::WrongPassword) => tried.good += 1,
            Ok(Opening::Key(master)) => match open_config(&master, config) {
                Ok(json) => return Ok((id, master, json)),
                Err(error) => {
                    tried.config = Some(error.of(format!("config of {}", store.location())));
                }
            },
            Err(error) => tried.damaged.push(error.of(format!("key {id}"))),
        }
    }
    Err(tried.verdict(store))
}

fn open_config(master: &MasterKey, sealed: &[u8]) -> Decoded<Vec<u8>> {
    master.open(sealed)
}

impl Tried {
    fn verdict(self, store: &dyn Store) -> Error {
        let location = store.location();
        if let Some(error) = self.config {
            return error;
        }
        match (self.good, self.damaged.into_iter().next()) {
            (0, None) => Error::damaged(format!("repository at {location}"), "it has no key files"),
            (keys, None) => Error::WrongPassword { location, keys },
            (0, Some(damaged)) => damaged,
            (_, Some(Error::Damaged { what, why })) => {
                Error::damaged(what, format!("{why}; the password opens none of the other keys"))
            }
            (_, Some(error)) => error,
        }
    }
}

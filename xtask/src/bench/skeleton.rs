//! An empty repository in restic's format whose key is cheap and whose secrets are known: every
//! tool that shares the format begins with the same one, so that cut points are the same, too.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use alidade_entity::{Cancel, Chance, Cx, SystemClock};
use alidade_repository::{Kdf, KeyOptions, LocalStore, Password, Repository};
use anyhow::{Context, Result};

use super::chance;
use super::place;
use super::tool::PASSWORD;

/// The least that scrypt is asked for here: opening takes 3 ms.
const KDF: Kdf = Kdf { n: 1_024, r: 8, p: 1 };

/// Chance that is none.
struct Known(Mutex<chance::Chance>);

impl Chance for Known {
    fn fill(&self, bytes: &mut [u8]) -> alidade_entity::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
        Ok(())
    }
}

/// Makes it in `folder`, instead of what is there.
pub(super) fn make(folder: &Path) -> Result<()> {
    place::remove(folder)?;
    place::make(folder)?;
    let known = Known(Mutex::new(chance::Chance::of("repository", 0)));
    let cx = Cx::new(Arc::new(SystemClock::new()), Arc::new(known), Cancel::default());
    let options = KeyOptions { kdf: KDF, host: "bench".into(), username: "bench".into() };
    let store = Arc::new(LocalStore::new(folder));
    Repository::init(&cx, store, &Password::new(PASSWORD), &options)
        .with_context(|| format!("create a repository in {}", folder.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skeleton_opens_with_a_cheap_key_and_has_the_same_secrets_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            make(folder.path()).unwrap();
            let cx = Cx::system(Cancel::default());
            let store = Arc::new(LocalStore::new(folder.path()));
            Repository::open(&cx, store, &Password::new(PASSWORD)).unwrap()
        };
        let first = open();
        let keys = first.keys(&Cx::system(Cancel::default())).unwrap();
        assert_eq!(keys[0].key.as_ref().unwrap().kdf, KDF);
        assert_eq!(first.id(), open().id());
    }
}

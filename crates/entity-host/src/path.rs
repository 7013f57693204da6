//! Paths as entities are named by them.

use alidade_entity::{Class, Error, Result};

/// The shortest form of an absolute path, by its text alone; `None` when it is not absolute.
pub(crate) fn shortest(path: &[u8]) -> Option<Vec<u8>> {
    if !path.starts_with(b"/") {
        return None;
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Some([b"/".as_slice(), &names.join(&b'/')].concat())
}

/// An entity has one name: its path in the shortest form.
///
/// # Errors
/// [`Class::NotFound`] for another.
pub(crate) fn must_be_shortest(path: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(path);
    let attempt = match shortest(path) {
        Some(short) if short == path => return Ok(()),
        Some(short) => {
            format!("open {text}: its entity has the path {}", String::from_utf8_lossy(&short))
        }
        None => format!("open {text}: the path of an entity begins with `/`"),
    };
    Err(Error::new(Class::NotFound, attempt))
}

//! What people type where an entity or a snapshot is asked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use alidade_model::{EntityId, EntityName, IdError, ObjectId, Time, TypeName};
use alidade_protect::Which;

use crate::failure::{Failure, Result};
use crate::paths::absolute;
use crate::when::Calendar;

/// The type whose entities are named by a path alone.
const PATH_TYPE: &str = "fs";
/// The types whose objects are paths.
const PATH_TYPES: [&str; 2] = [PATH_TYPE, "disk"];

/// Fewer hex digits than this are a file name, not the beginning of a snapshot's id.
const PREFIX: usize = 4;

/// What was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct What {
    /// The entity, where one was named.
    pub(crate) entity: Option<EntityName>,
    /// Which of its snapshots.
    pub(crate) which: Which,
    /// Only this path in it: absolute, raw bytes.
    pub(crate) below: Option<Vec<u8>>,
}

/// Reads what people type: knows the types, the current directory, the time.
pub(crate) struct Reader<'a> {
    /// The names of the types this program was built with.
    pub(crate) types: &'a [TypeName],
    /// What relative paths start from; absolute.
    pub(crate) directory: &'a Path,
    /// For times.
    pub(crate) calendar: &'a Calendar,
    /// What "two hours ago" counts from.
    pub(crate) now: Time,
}

impl Reader<'_> {
    /// A live entity: `TYPE:OBJECT`, or a path. A path may hold any byte, `@` and `:` included.
    ///
    /// # Errors
    /// When the text begins with a type's name and is no id.
    pub(crate) fn entity(&self, text: &OsStr) -> Result<EntityName> {
        if let Some(id) = self.typed(text) {
            let id = id?;
            let name: EntityName = id.parse().map_err(|error| no_entity(id, &error))?;
            return Ok(self.clean(name));
        }
        if text.is_empty() {
            return Err(Failure::usage("an empty text names nothing"));
        }
        Ok(self.entity_of(Path::new(text)))
    }

    /// A stored snapshot, or something in it:
    ///
    /// - `ENTITY`: the newest snapshot of the entity (an id, or a path)
    /// - `ENTITY@TIME`: the newest that is not after that time
    /// - `TYPE:OBJECT:SNAPSHOT`: that one
    /// - `ID`: the one whose id begins so; at least four hex digits
    /// - `latest`, `@TIME`: the newest of all entities
    /// - any of these but a path, followed by `:/PATH`: that path in it
    ///
    /// # Errors
    /// When it is none of these.
    pub(crate) fn stored(&self, text: &OsStr) -> Result<What> {
        if text.is_empty() {
            return Err(Failure::usage("an empty text names nothing"));
        }
        if let Some(id) = self.typed(text) {
            return self.stored_id(id?);
        }
        let bytes = text.as_bytes();
        let (head, below) = match find(bytes, b":/") {
            Some(at) if !bytes[..at].contains(&b'/') => (&bytes[..at], Some(&bytes[at + 1..])),
            _ => (bytes, None),
        };
        if let Some(which) = std::str::from_utf8(head).ok().and_then(|head| self.which(head)) {
            return Ok(What { entity: None, which, below: below.map(clean_below) });
        }
        Ok(self.stored_path(text))
    }

    /// An id or a time that stands alone.
    fn which(&self, head: &str) -> Option<Which> {
        if head == "latest" {
            return Some(Which::Latest);
        }
        if let Some(time) = head.strip_prefix('@') {
            return self.calendar.parse(time, self.now).map(Which::At);
        }
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_prefix = (PREFIX..=64).contains(&head.len()) && head.bytes().all(hex);
        is_prefix.then(|| Which::Id(head.to_owned()))
    }

    fn stored_path(&self, text: &OsStr) -> What {
        let bytes = text.as_bytes();
        let cut = bytes.iter().rposition(|&byte| byte == b'@').filter(|&at| at > 0);
        let time = cut.and_then(|at| {
            let time = std::str::from_utf8(&bytes[at + 1..]).ok()?;
            Some((at, self.calendar.parse(time, self.now)?))
        });
        let (path, which) = match time {
            Some((at, time)) => (&bytes[..at], Which::At(time)),
            None => (bytes, Which::Latest),
        };
        let entity = self.entity_of(Path::new(OsStr::from_bytes(path)));
        What { entity: Some(entity), which, below: None }
    }

    /// `TYPE:OBJECT[:SNAPSHOT][@TIME][:/BELOW]`.
    fn stored_id(&self, id: &str) -> Result<What> {
        let unusable = |why: &str| Failure::usage(format!("`{id}` {why}"));
        let (type_name, rest) = id.split_once(':').unwrap_or((id, ""));
        // The object itself may begin with a slash; what follows the next `:/` is a path inside.
        let (rest, below) = match find(rest.as_bytes(), b":/") {
            Some(at) => (&rest[..at], Some(clean_below(&rest.as_bytes()[at + 1..]))),
            None => (rest, None),
        };
        // A time holds colons too: it is cut off before the parts are told apart.
        let (rest, time) = match rest.split_once('@') {
            None => (rest, None),
            Some((rest, text)) => {
                let time = self.calendar.parse(text, self.now);
                (rest, Some(time.ok_or_else(|| unusable("does not end with a time"))?))
            }
        };
        let named: EntityId =
            format!("{type_name}:{rest}").parse().map_err(|error| no_entity(id, &error))?;
        let which = match (named.snapshot, time) {
            (Some(_), Some(_)) => return Err(unusable("names both a snapshot and a time")),
            (Some(snapshot), None) if snapshot.as_str() == "latest" => Which::Latest,
            (Some(snapshot), None) => Which::Id(snapshot.to_string()),
            (None, Some(time)) => Which::At(time),
            (None, None) => Which::Latest,
        };
        Ok(What { entity: Some(self.clean(named.name)), which, below })
    }

    /// The text as an id, when it begins with the name of a type and `:`.
    fn typed<'t>(&self, text: &'t OsStr) -> Option<Result<&'t str>> {
        let at = text.as_bytes().iter().position(|&byte| byte == b':')?;
        let head = &text.as_bytes()[..at];
        self.types.iter().find(|name| name.as_str().as_bytes() == head)?;
        let refused = || Failure::usage("an entity's id is plain ASCII");
        Some(text.to_str().ok_or_else(refused))
    }

    fn entity_of(&self, path: &Path) -> EntityName {
        entity_at(&absolute(self.directory, path))
    }

    /// A path inside an id is cleaned like any path: `fs:/a/` is `fs:/a`.
    fn clean(&self, name: EntityName) -> EntityName {
        let path = name.object.decode();
        if !PATH_TYPES.contains(&name.type_name.as_str()) || !path.starts_with(b"/") {
            return name;
        }
        let EntityName { object, .. } = self.entity_of(Path::new(OsStr::from_bytes(&path)));
        EntityName { object, ..name }
    }
}

fn no_entity(id: &str, error: &IdError) -> Failure {
    Failure::usage(format!("`{id}` names no entity: {error}"))
}

/// The entity that an absolute path names.
#[must_use]
pub(crate) fn entity_at(path: &Path) -> EntityName {
    EntityName {
        type_name: PATH_TYPE.parse().expect("`fs` is a type name"),
        object: ObjectId::encode(path.as_os_str().as_bytes())
            .expect("an absolute path is never empty"),
    }
}

/// The path that an entity names, where it is named by one.
#[must_use]
pub(crate) fn path_of(entity: &EntityName) -> Option<PathBuf> {
    let path = entity.object.decode();
    let is_path = entity.type_name.as_str() == PATH_TYPE && path.starts_with(b"/");
    is_path.then(|| PathBuf::from(OsStr::from_bytes(&path)))
}

fn clean_below(path: &[u8]) -> Vec<u8> {
    absolute(Path::new("/"), Path::new(OsStr::from_bytes(path)))
        .into_os_string()
        .as_bytes()
        .to_vec()
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    fn with_reader<T>(read: impl FnOnce(&Reader<'_>) -> T) -> T {
        let types = ["fs".parse().unwrap(), "disk".parse().unwrap()];
        let calendar = Calendar::of(TimeZone::UTC);
        read(&Reader {
            types: &types,
            directory: Path::new("/home/u"),
            calendar: &calendar,
            now: Time::new(1_795_262_400, 0),
        })
    }

    fn entity(text: &[u8]) -> String {
        match with_reader(|reader| reader.entity(OsStr::from_bytes(text))) {
            Ok(name) => name.to_string(),
            Err(failure) => failure.message,
        }
    }

    fn stored(text: &str) -> String {
        match with_reader(|reader| reader.stored(OsStr::new(text))) {
            Err(failure) => format!("refused: {}", failure.message),
            Ok(what) => {
                let entity = what.entity.map_or("any".to_owned(), |entity| entity.to_string());
                let which = match what.which {
                    Which::Latest => "latest".to_owned(),
                    Which::At(time) => crate::when::rfc3339(time),
                    Which::Id(id) => format!("#{id}"),
                };
                let below = what.below.map(|path| String::from_utf8(path).unwrap());
                [Some(entity), Some(which), below]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" ")
            }
        }
    }

    #[test]
    fn an_entity_is_named_by_its_id_or_by_any_path() {
        for (text, name) in [
            (&b"fs:/usr/share"[..], "fs:/usr/share"),
            (b"fs:/usr/share/", "fs:/usr/share"),
            (b"disk:/dev/vda", "disk:/dev/vda"),
            (b"disk:/dev//./vda", "disk:/dev/vda"),
            (b"docs", "fs:/home/u/docs"),
            (b".", "fs:/home/u"),
            (b"/", "fs:/"),
            (b"/a b", "fs:/a_20b"),
            (b"/a@2026-11-21", "fs:/a_402026-11-21"),
            (b"nfs:/export", "fs:/home/u/nfs_3A/export"),
            (b"./fs:/x", "fs:/home/u/fs_3A/x"),
            (b"x\xff", "fs:/home/u/x_FF"),
            (b"", "an empty text names nothing"),
            (b"fs:", "`fs:` names no entity: `` is not an id: its object is empty"),
        ] {
            assert_eq!(entity(text), name);
        }
    }

    #[test]
    fn a_snapshot_is_named_by_entity_time_or_id() {
        for (text, meaning) in [
            ("/a", "fs:/a latest"),
            ("/a@2026-11-20 12:00", "fs:/a 2026-11-20T12:00:00Z"),
            ("/a@2h", "fs:/a 2026-11-21T10:00:00Z"),
            ("/mail/me@host", "fs:/mail/me_40host latest"),
            ("docs", "fs:/home/u/docs latest"),
            ("fs:/a", "fs:/a latest"),
            ("fs:/a@2026-11-20T12:00:00Z", "fs:/a 2026-11-20T12:00:00Z"),
            ("fs:/a:20261121-xyz", "fs:/a #20261121-xyz"),
            ("fs:/a:latest", "fs:/a latest"),
            ("fs:/a:20261121-xyz:/a/b/", "fs:/a #20261121-xyz /a/b"),
            ("fs:/a:/a/b", "fs:/a latest /a/b"),
            ("latest", "any latest"),
            ("latest:/etc", "any latest /etc"),
            ("@2026-11-20", "any 2026-11-20T23:59:59.999999999Z"),
            ("deadbeef", "any #deadbeef"),
            ("deadbeef:/a/../b", "any #deadbeef /b"),
            ("./deadbeef", "fs:/home/u/deadbeef latest"),
            ("bad", "fs:/home/u/bad latest"),
            ("", "refused: an empty text names nothing"),
            ("fs:/a@never", "refused: `fs:/a@never` does not end with a time"),
            ("fs:/a:x@2h", "refused: `fs:/a:x@2h` names both a snapshot and a time"),
        ] {
            assert_eq!(stored(text), meaning, "{text}");
        }
    }
}

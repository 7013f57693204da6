use std::io::Read as _;

use alidade_repository::{Body, Error, FileId, FileKind, PackPart, Store};

/// The kinds whose names are content hashes.
const HASHED: [FileKind; 5] =
    [FileKind::Key, FileKind::Pack, FileKind::Index, FileKind::Snapshot, FileKind::Lock];

/// The name the file of this content has.
#[must_use]
pub fn name(content: &[u8]) -> String {
    FileId::of(content).to_string()
}

/// Checks that a store keeps the promises of [`Store`]. `store` must not have been created yet.
///
/// # Panics
/// When it breaks one, saying which.
pub fn conforms(store: &dyn Store) {
    nothing_is_there_before(store);
    store.create().expect("a place for a new repository is made");
    for kind in HASHED {
        keeps_files(store, kind);
        refuses_odd_names(store, kind);
    }
    keeps_one_config(store);
    reads_bodies_of_known_length(store);
    reads_parts_of_packs_together(store);
}

fn listed(store: &dyn Store, kind: FileKind) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    store
        .list(kind, &mut |name, len| {
            all.push((name.to_owned(), len));
            Ok(())
        })
        .expect("a listing succeeds");
    all.sort();
    all
}

fn is_not_found<T: std::fmt::Debug>(what: &str, result: &Result<T, Error>) {
    assert!(matches!(result, Err(Error::NotFound { .. })), "{what}: {result:?}");
}

fn nothing_is_there_before(store: &dyn Store) {
    let mut one = [0];
    is_not_found("config before creation", &store.read_at(FileKind::Config, "config", 0, &mut one));
    is_not_found("config before creation", &store.len(FileKind::Config, "config"));
    for kind in HASHED {
        assert_eq!(listed(store, kind), [], "{kind} files before creation");
    }
}

fn keeps_files(store: &dyn Store, kind: FileKind) {
    let (short, long) = (kind.word().as_bytes().to_vec(), kind.word().repeat(40_000).into_bytes());
    for content in [&short, &long] {
        let name = name(content);
        is_not_found("the length of an absent file", &store.len(kind, &name));
        is_not_found("reading an absent file", &store.read_at(kind, &name, 0, &mut [0]));
        store.remove(kind, &name).expect("removing what is absent succeeds");
        store.put(kind, &name, Body::Bytes(content)).expect("a file is stored");
        store.flush(kind).expect("names are made durable");
        assert_eq!(store.len(kind, &name).expect("its length is known"), content.len() as u64);
    }
    let mut want = vec![(name(&short), short.len() as u64), (name(&long), long.len() as u64)];
    want.sort();
    assert_eq!(listed(store, kind), want, "a listing names each file with its length");

    let mut part = vec![0; 1000];
    store.read_at(kind, &name(&long), 77_777, &mut part).expect("a part is read");
    assert_eq!(part, long[77_777..78_777], "a part is read from its offset");
    store.read_at(kind, &name(&long), long.len() as u64, &mut []).expect("nothing is at the end");
    for at in [long.len() as u64 - 1, long.len() as u64, u64::MAX - 1, u64::MAX] {
        let past = store.read_at(kind, &name(&long), at, &mut [0; 2]);
        assert!(matches!(past, Err(Error::Damaged { .. })), "reading past the end: {past:?}");
    }

    let other = vec![b'x'; short.len()];
    store.put(kind, &name(&short), Body::Bytes(&other)).expect("a name that exists is put again");
    store.flush(kind).expect("it is there");
    let mut whole = vec![0; short.len()];
    store.read_at(kind, &name(&short), 0, &mut whole).expect("it is read");
    assert_eq!(whole, short, "what was there is left untouched");

    let stop = store.list(kind, &mut |_, _| Err(Error::Usage("enough".into())));
    assert!(
        matches!(stop, Err(Error::Usage(_))),
        "a listing ends when the caller says so: {stop:?}"
    );

    store.remove(kind, &name(&long)).expect("a file is removed");
    is_not_found("reading a removed file", &store.read_at(kind, &name(&long), 0, &mut [0]));
    assert_eq!(listed(store, kind), [(name(&short), short.len() as u64)]);
}

fn refuses_odd_names(store: &dyn Store, kind: FileKind) {
    let good = name(b"odd");
    let odd = ["", "..", "../../x", "config", &good[..63], &good.to_uppercase(), "é"];
    for odd in odd.iter().copied().filter(|odd| **odd != *good) {
        is_not_found("the length of an odd name", &store.len(kind, odd));
        is_not_found("reading an odd name", &store.read_at(kind, odd, 0, &mut [0]));
        let put = store.put(kind, odd, Body::Bytes(b"x"));
        assert!(put.is_err(), "a file of an odd name `{odd}` was stored");
    }
}

fn keeps_one_config(store: &dyn Store) {
    assert_eq!(listed(store, FileKind::Config), []);
    store.put(FileKind::Config, "config", Body::Bytes(b"one")).expect("the config is stored");
    store.flush(FileKind::Config).expect("its name is made durable");
    let again = store.put(FileKind::Config, "config", Body::Bytes(b"two"));
    assert!(matches!(again, Err(Error::Exists { .. })), "a second config: {again:?}");
    let mut config = [0; 3];
    store.read_at(FileKind::Config, "config", 0, &mut config).expect("the config is read");
    assert_eq!(&config, b"one");
    assert_eq!(listed(store, FileKind::Config), [("config".to_owned(), 3)]);
    let again = store.create();
    assert!(matches!(again, Err(Error::Exists { .. })), "creating what exists: {again:?}");
}

fn reads_bodies_of_known_length(store: &dyn Store) {
    let content: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    let (name, len) = (name(&content), content.len() as u64);
    let mut short = content[..content.len() - 1].chain(std::io::empty());
    let put = store.put(FileKind::Pack, &name, Body::Reader { reader: &mut short, len });
    assert!(matches!(put, Err(Error::Store { .. })), "a body that ends early: {put:?}");
    is_not_found("a file that was not stored", &store.len(FileKind::Pack, &name));

    let mut reader = content.as_slice();
    store.put(FileKind::Pack, &name, Body::Reader { reader: &mut reader, len }).expect("stored");
    let mut back = vec![0; content.len()];
    store.read_at(FileKind::Pack, &name, 0, &mut back).expect("it is read");
    assert!(back == content, "what is read is what was stored");
}

fn reads_parts_of_packs_together(store: &dyn Store) {
    let packs: Vec<Vec<u8>> = (0..3_u8).map(|pack| vec![pack; 100_000]).collect();
    let names: Vec<String> = packs.iter().map(|pack| name(pack)).collect();
    for (pack, name) in packs.iter().zip(&names) {
        store.put(FileKind::Pack, name, Body::Bytes(pack)).expect("a pack is stored");
    }
    // More than are under way at a time, and not waited for before.
    let wanted: Vec<(usize, u64)> = (0..30).map(|part| (part % 3, part as u64 * 1000)).collect();
    let mut bufs = vec![[9; 500]; wanted.len()];
    let mut parts: Vec<PackPart<'_>> = wanted
        .iter()
        .zip(&mut bufs)
        .map(|((pack, at), buf)| PackPart { name: &names[*pack], at: *at, buf })
        .collect();
    let read = store.read_parts(&mut parts);
    assert_eq!(read.len(), wanted.len(), "each part is answered");
    for (((pack, _), buf), read) in wanted.iter().zip(&bufs).zip(read) {
        read.expect("a part is read");
        assert!(buf.iter().all(|byte| usize::from(*byte) == *pack), "to where it belongs");
    }
    let (absent, mut bufs) = (name(b"absent"), [[0; 2]; 3]);
    let [first, second, third] = &mut bufs;
    let read = store.read_parts(&mut [
        PackPart { name: &names[0], at: 99_999, buf: first },
        PackPart { name: &absent, at: 0, buf: second },
        PackPart { name: &names[1], at: 99_998, buf: third },
    ]);
    assert!(matches!(read[0], Err(Error::Damaged { .. })), "a part past the end: {read:?}");
    is_not_found("a part of an absent pack", &read[1]);
    assert!(read[2].is_ok() && bufs[2] == [1; 2], "what fails does not stand in the way: {read:?}");
    assert_eq!(store.read_parts(&mut []).len(), 0);
}

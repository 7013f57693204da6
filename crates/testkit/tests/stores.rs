//! The stores that fail keep the promises of a store until they do, and fail as they say.

use std::io::ErrorKind;
use std::sync::Arc;

use alidade_repository::{Body, Error, FileKind, Result, Store};
use alidade_testkit::store::{
    Fault, FaultStore, FullStore, PowerCutStore, ReadOnlyStore, Verb, conforms, name,
};

fn memory() -> Arc<dyn Store> {
    Arc::new(PowerCutStore::new())
}

fn put(store: &dyn Store, kind: FileKind, content: &[u8]) -> Result<()> {
    store.put(kind, &name(content), Body::Bytes(content))
}

fn has(store: &dyn Store, kind: FileKind, content: &[u8]) -> bool {
    store.len(kind, &name(content)).is_ok()
}

fn kind_of(result: Result<()>) -> ErrorKind {
    match result {
        Err(Error::Store { source, .. }) => source.kind(),
        other => panic!("not a failure of the store: {other:?}"),
    }
}

#[test]
fn stores_that_do_not_fail_yet_keep_the_promises() {
    conforms(&PowerCutStore::new());
    conforms(&FaultStore::new(memory()));
    conforms(&FullStore::new(memory(), u64::MAX / 2));
    conforms(&ReadOnlyStore::after(memory(), usize::MAX));
}

#[test]
fn a_fault_store_stops_where_it_was_told_and_for_good() {
    for (fault, there) in [(Fault::Before, false), (Fault::After, true)] {
        let inner = memory();
        let store = FaultStore::stopping_at(inner.clone(), 2, fault);
        put(&store, FileKind::Pack, b"1").unwrap();
        store.flush(FileKind::Pack).unwrap();
        assert!(has(&store, FileKind::Pack, b"1") && !store.has_stopped());
        assert_eq!(kind_of(put(&store, FileKind::Index, b"2")), ErrorKind::BrokenPipe);
        assert_eq!(has(&*inner, FileKind::Index, b"2"), there, "{fault:?}");
        assert!(store.has_stopped());
        assert_eq!(kind_of(store.remove(FileKind::Pack, &name(b"1"))), ErrorKind::BrokenPipe);
        assert!(!has(&store, FileKind::Pack, b"1") && has(&*inner, FileKind::Pack, b"1"));
        let log = store.log();
        assert_eq!(
            log.iter().map(|one| one.verb).collect::<Vec<_>>(),
            [Verb::Put, Verb::Flush, Verb::Put]
        );
        assert_eq!((log[2].kind, log[2].name.clone()), (FileKind::Index, name(b"2")));
        store.heal();
        store.remove(FileKind::Pack, &name(b"1")).unwrap();
    }
}

#[test]
fn a_power_cut_takes_names_that_were_not_flushed_and_no_others() {
    let (mut lost, mut kept, mut back) = (0, 0, 0);
    for seed in 0..200 {
        let store = PowerCutStore::new();
        put(&store, FileKind::Pack, b"flushed").unwrap();
        put(&store, FileKind::Snapshot, b"removed").unwrap();
        for kind in [FileKind::Pack, FileKind::Snapshot] {
            store.flush(kind).unwrap();
        }
        assert_eq!(store.at_risk(), 0);
        put(&store, FileKind::Pack, b"young").unwrap();
        put(&store, FileKind::Index, b"other kind").unwrap();
        store.flush(FileKind::Index).unwrap();
        store.remove(FileKind::Snapshot, &name(b"removed")).unwrap();
        assert_eq!(store.at_risk(), 2);
        let fork = store.fork();
        store.cut(seed);
        assert!(
            has(&store, FileKind::Pack, b"flushed") && has(&store, FileKind::Index, b"other kind")
        );
        if has(&store, FileKind::Pack, b"young") {
            kept += 1;
        } else {
            lost += 1;
        }
        back += usize::from(has(&store, FileKind::Snapshot, b"removed"));
        assert!(has(&fork, FileKind::Pack, b"young"), "a fork goes its own way");
        assert_eq!(store.at_risk(), 0);
    }
    assert!(lost > 50 && kept > 50 && back > 50, "{lost} {kept} {back}");
}

#[test]
fn a_full_store_refuses_what_does_not_fit_and_takes_it_when_it_does() {
    let store = FullStore::new(memory(), 10);
    put(&store, FileKind::Pack, b"1234567").unwrap();
    assert_eq!(kind_of(put(&store, FileKind::Pack, b"abcd")), ErrorKind::StorageFull);
    assert!(!has(&store, FileKind::Pack, b"abcd"));
    put(&store, FileKind::Pack, b"1234567").unwrap();
    assert_eq!(store.room(), 3);
    store.grow(1);
    put(&store, FileKind::Pack, b"abcd").unwrap();
    store.remove(FileKind::Pack, &name(b"1234567")).unwrap();
    assert_eq!(store.room(), 7);
}

#[test]
fn a_store_that_turned_read_only_is_still_read() {
    let store = ReadOnlyStore::after(memory(), 1);
    put(&store, FileKind::Pack, b"1").unwrap();
    assert!(store.has_turned());
    let refused = [
        put(&store, FileKind::Pack, b"2"),
        store.flush(FileKind::Pack),
        store.remove(FileKind::Pack, &name(b"1")),
        store.create(),
    ];
    for refused in refused {
        assert_eq!(kind_of(refused), ErrorKind::ReadOnlyFilesystem);
    }
    assert!(has(&store, FileKind::Pack, b"1"));
}

#[test]
fn damage_changes_what_is_read() {
    let store = PowerCutStore::new();
    put(&store, FileKind::Pack, b"123").unwrap();
    assert!(store.damage(FileKind::Pack, &name(b"123"), |bytes| bytes.truncate(1)));
    assert_eq!(store.len(FileKind::Pack, &name(b"123")).unwrap(), 1);
    assert!(!store.damage(FileKind::Pack, &name(b"absent"), Vec::clear));
}

//! Contents that come in many at a time come out again, each once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use alidade_repository::{
    Batch, BlobId, BlobKind, Chunk, FileKind, Indexed, MAX_CHUNK, Repository, Writer, WriterOptions,
};
use support::*;

/// Files of which some are many chunks, some a byte, and some are there twice.
fn files() -> Vec<Vec<u8>> {
    let mut files = vec![noise(7 << 20, 1), Vec::new(), vec![0; 3 << 20], text(5 << 20, 2)];
    files.extend((0..3000).map(|n| text(1 + n % 700, n as u64 / 2)));
    files.push(noise(40 << 20, 3));
    // In another batch than the zeros above: these, and what is nearly these.
    files.push(vec![0; 3 << 20]);
    for at in [0, 1 << 20, (3 << 20) - 1] {
        let mut nearly = vec![0; 3 << 20];
        nearly[at] = 1;
        files.push(nearly);
    }
    files.push(noise(7 << 20, 1));
    files
}

/// Pushes files through a batch and returns the chunks of each.
fn push(batch: &mut Batch<'_>, files: &[Vec<u8>], piece: usize) -> Vec<Vec<Chunk>> {
    let mut counts = Vec::new();
    let mut chunks = Vec::new();
    for file in files {
        let mut count = 0;
        for piece in file.chunks(piece) {
            count += batch.push(&cx(), piece).unwrap();
        }
        counts.push(count + batch.end(&cx()).unwrap());
        chunks.extend(std::iter::from_fn(|| batch.next_done()));
    }
    batch.flush(&cx()).unwrap();
    chunks.extend(std::iter::from_fn(|| batch.next_done()));
    let mut chunks = chunks.into_iter();
    counts.into_iter().map(|count| chunks.by_ref().take(count).collect()).collect()
}

fn read(indexed: &Indexed, chunks: &[Chunk]) -> Vec<u8> {
    let (mut content, mut blob) = (Vec::new(), Vec::new());
    for chunk in chunks {
        indexed.read_blob(&cx(), BlobKind::Data, &chunk.id, &mut blob).unwrap();
        assert_eq!(blob.len(), chunk.len as usize);
        content.extend_from_slice(&blob);
    }
    content
}

fn packs(repository: &Repository) -> Vec<u64> {
    let mut lens = Vec::new();
    repository
        .store()
        .list(FileKind::Pack, &mut |_, len| {
            lens.push(len);
            Ok(())
        })
        .unwrap();
    lens
}

#[test]
fn files_come_back_whatever_the_pieces_and_are_stored_once() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = Writer::new(Arc::clone(&indexed), &lock, WriterOptions::new(root.path())).unwrap();
    let files = files();
    let first = push(&mut writer.batch().unwrap(), &files, 1 << 20);
    let second = push(&mut writer.batch().unwrap(), &files, 777_777);
    assert!(second.iter().flatten().all(|chunk| !chunk.new));
    let ids = |all: &[Vec<Chunk>]| -> Vec<BlobId> {
        all.iter().flatten().map(|chunk| chunk.id).collect()
    };
    assert_eq!(ids(&first), ids(&second));
    assert!(first.last().unwrap().iter().all(|chunk| !chunk.new), "it is there twice");
    assert!(first.iter().flatten().all(|chunk| chunk.len as usize <= MAX_CHUNK));
    writer.abandon(&cx()).unwrap();
    let stats = writer.stats();
    assert_eq!(stats.self_checked, stats.data_new);
    let reopened = load(&repository);
    for (file, chunks) in files.iter().zip(&first) {
        assert!(read(&reopened, chunks) == *file);
    }
    // 47 MiB that cannot be compressed, and little else: full packs, and what is left is joined.
    let lens = packs(&repository);
    assert!((3..=4).contains(&lens.len()), "{lens:?}");
    assert!(
        repository
            .check(
                &cx(),
                None,
                alidade_repository::CheckOptions::new(true),
                &mut |_: alidade_repository::Finding| {}
            )
            .is_ok_and(|summary| summary.damage == 0 && summary.blobs_read == stats.data_new)
    );
}

#[test]
fn two_threads_with_the_same_files_store_them_once() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = Writer::new(Arc::clone(&indexed), &lock, WriterOptions::new(root.path())).unwrap();
    let files = files();
    let both = std::thread::scope(|scope| {
        let work = || push(&mut writer.batch().unwrap(), &files, 1 << 20);
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.map(|thread| thread.join().unwrap())
    });
    writer.abandon(&cx()).unwrap();
    let new: usize = both.iter().flatten().flatten().filter(|chunk| chunk.new).count();
    assert_eq!(new as u64, writer.stats().data_new);
    let reopened = load(&repository);
    for (file, chunks) in files.iter().zip(&both[1]) {
        assert!(read(&reopened, chunks) == *file);
    }
}

#[test]
fn what_is_forgotten_or_not_flushed_is_not_stored() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = Writer::new(Arc::clone(&indexed), &lock, WriterOptions::new(root.path())).unwrap();
    {
        let mut batch = writer.batch().unwrap();
        assert_eq!(batch.push(&cx(), &text(100_000, 1)).unwrap(), 0);
        batch.forget();
        assert_eq!(batch.end(&cx()).unwrap(), 0);
        assert_eq!(batch.push(&cx(), &text(1000, 2)).unwrap(), 0);
        assert_eq!(batch.end(&cx()).unwrap(), 1);
        batch.flush(&cx()).unwrap();
        assert_eq!(batch.next_done().unwrap().id, BlobId::of(&text(1000, 2)));
        batch.push(&cx(), &text(1000, 3)).unwrap();
        batch.end(&cx()).unwrap();
        assert_eq!(batch.next_done(), None);
    }
    writer.abandon(&cx()).unwrap();
    assert_eq!(writer.stats().data_new, 1);
    assert_eq!(packs(&repository).len(), 1);
    // Nothing was promised for what was not flushed: it can still be stored.
    assert!(writer.save_data(&cx(), &text(1000, 3)).unwrap().new);
}

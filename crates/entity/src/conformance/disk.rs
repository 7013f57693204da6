//! Disks as they are read.

use std::ops::Range;

use super::entity::{Content, finish, misshapen};
use super::{Promise as P, Report, cancelled};
use crate::{Base, Basis, Class, Cx, DiskSource, Extent, Lease, Source};

/// Disks up to this size are read whole.
const WHOLE: u64 = 64 << 20;
/// What is read of an extent of a larger disk.
const SAMPLE: u64 = 1 << 20;

pub(super) fn check(content: &Content<'_>, report: &mut Report) {
    let cx = &content.suite.cx;
    let Some((disk, basis, lease)) = open(content, report, None) else { return };
    report.expect(P::ContentsAreReadable, matches!(basis, Basis::Full { .. }), || {
        format!("without a base the reading is {basis:?}")
    });
    let Some(extents) = extents(cx, report, &*disk) else { return };
    order(report, &extents, disk.size());
    let end = extents.iter().try_fold(0, |end, extent| {
        (extent.at == end).then_some(extent.at.saturating_add(extent.len))
    });
    report.expect(P::ExtentsEndAtSize, end == Some(disk.size()), || {
        format!("size {}, extents {:?}", disk.size(), ends(&extents))
    });
    bytes(cx, report, &*disk, &extents);
    beyond(cx, report, &*disk);
    cancels(cx, report, &*disk);
    let before = read_range(cx, report, &*disk, 0..disk.size().min(WHOLE));
    drop(disk);
    let Some(ending) = finish(report, lease) else { return };
    if content.suite.subject.kind.capability().changed_blocks {
        report.expect(P::BaseIsGiven, ending.next.is_some(), || "no base".to_owned());
        if let (Some(base), Some(before)) = (ending.next, before) {
            changes(content, report, &base, before);
        }
    }
}

type Open = (Box<dyn DiskSource>, Basis, Box<dyn Lease>);

fn open(content: &Content<'_>, report: &mut Report, base: Option<&Base>) -> Option<Open> {
    let read = content.read(base.cloned());
    let reading = report.take(P::ContentsAreReadable, "open a disk", read)?;
    match reading.source {
        Source::Disk(disk) => Some((disk, reading.basis, reading.lease)),
        other => {
            misshapen(report, &other);
            None
        }
    }
}

/// All extents, asked for from the beginning and then again from each of the first few.
fn extents(cx: &Cx, report: &mut Report, disk: &dyn DiskSource) -> Option<Vec<Extent>> {
    let all = extents_from(cx, report, disk, 0)?;
    for (number, extent) in all.iter().enumerate().take(8) {
        let rest = extents_from(cx, report, disk, extent.at)?;
        report.expect(P::ExtentsContinue, rest == all[number..], || {
            format!("from {} there are {}, not {}", extent.at, rest.len(), all.len() - number)
        });
        if extent.len > 1 {
            let (at, end) = (extent.at + extent.len / 2, extent.at + extent.len);
            let cut = extents_from(cx, report, disk, at)?;
            let first = Some(Extent { at, len: end - at, ..*extent });
            let agrees = cut.first().copied() == first && cut[1..] == all[number + 1..];
            report.expect(P::ExtentsContinue, agrees, || {
                format!("from {at}, in {extent:?}, the first is {:?}", cut.first())
            });
        }
    }
    Some(all)
}

fn extents_from(
    cx: &Cx,
    report: &mut Report,
    disk: &dyn DiskSource,
    mut from: u64,
) -> Option<Vec<Extent>> {
    let sentinel = Extent { at: u64::MAX, len: 0, allocated: false };
    let mut all = Vec::new();
    loop {
        let mut batch = vec![sentinel];
        report.take(P::ExtentsAscend, "list extents", disk.extents(cx, from, &mut batch))?;
        let appended = batch.first() == Some(&sentinel);
        report.expect(P::ExtentsContinue, appended, || "the buffer was cleared".to_owned());
        batch.retain(|extent| *extent != sentinel);
        let Some(last) = batch.last().copied() else { return Some(all) };
        let goes_on = batch.iter().all(|extent| extent.at >= from);
        report.expect(P::ExtentsContinue, goes_on, || {
            format!("asked from {from}, got {:?}", ends(&batch))
        });
        all.extend(batch);
        if !goes_on || last.len == 0 {
            order(report, &all, disk.size());
            return None;
        }
        from = last.at.saturating_add(last.len);
    }
}

fn order(report: &mut Report, extents: &[Extent], size: u64) {
    let apart = extents
        .windows(2)
        .find(|pair| pair[0].at.checked_add(pair[0].len).is_none_or(|end| end > pair[1].at));
    let empty = extents.iter().find(|extent| extent.len == 0);
    report.expect(P::ExtentsAscend, apart.is_none() && empty.is_none(), || {
        format!("{apart:?} {empty:?}")
    });
    let inside = extents
        .iter()
        .find(|extent| extent.at.checked_add(extent.len).is_none_or(|end| end > size));
    report.expect(P::ExtentsEndAtSize, inside.is_none(), || {
        format!("{inside:?} on a disk of {size}")
    });
}

fn ends(extents: &[Extent]) -> (Option<&Extent>, Option<&Extent>) {
    (extents.first(), extents.last())
}

/// Reads the beginning and the end of every extent, and the whole of it in two ways.
fn bytes(cx: &Cx, report: &mut Report, disk: &dyn DiskSource, extents: &[Extent]) {
    for extent in extents {
        let end = extent.at.saturating_add(extent.len).min(disk.size());
        let head = extent.at..end.min(extent.at.saturating_add(SAMPLE));
        let tail = end.saturating_sub(SAMPLE).max(extent.at)..end;
        for range in [head, tail] {
            let Some(once) = read_range(cx, report, disk, range.clone()) else { return };
            if !extent.allocated {
                report.expect(P::UnallocatedIsZero, once.iter().all(|byte| *byte == 0), || {
                    format!("{extent:?}")
                });
            }
            let middle = range.start + (range.end - range.start) / 3;
            let second = read_range(cx, report, disk, middle..range.end);
            let first = read_range(cx, report, disk, range.start..middle);
            let (Some(mut parts), Some(second)) = (first, second) else { return };
            parts.extend(second);
            report.expect(P::DiskReadsAgree, parts == once, || format!("{extent:?}"));
        }
    }
}

fn read_range(
    cx: &Cx,
    report: &mut Report,
    disk: &dyn DiskSource,
    range: Range<u64>,
) -> Option<Vec<u8>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    let mut buf = vec![0xA5; len];
    report.take(P::DiskReadsAgree, "read a disk", disk.read_at(cx, range.start, &mut buf))?;
    Some(buf)
}

fn beyond(cx: &Cx, report: &mut Report, disk: &dyn DiskSource) {
    let size = disk.size();
    for (at, len) in [(size, 1), (size.saturating_sub(1), 2), (u64::MAX, 1), (u64::MAX - 1, 8)] {
        let failed = disk.read_at(cx, at, &mut vec![0; len]).is_err();
        report.expect(P::ReadBeyondEndFails, failed, || {
            format!("{len} bytes at {at} of a disk of {size}")
        });
    }
}

fn cancels(cx: &Cx, report: &mut Report, disk: &dyn DiskSource) {
    let stopped = cancelled(cx);
    let listed = disk.extents(&stopped, 0, &mut Vec::new());
    report.fails(P::DiskCancels, "listing extents", listed, Class::Cancelled);
    let len = disk.size().min(4 * SAMPLE);
    if len > SAMPLE {
        let mut buf = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = disk.read_at(&stopped, 0, &mut buf);
        report.fails(P::DiskCancels, "reading", read, Class::Cancelled);
    }
}

/// Reads since a base: nothing while nothing changed, then exactly what the subject changes.
fn changes(content: &Content<'_>, report: &mut Report, base: &Base, before: Vec<u8>) {
    let Some((listed, _, lease)) = since(content, report, base) else { return };
    report.expect(P::ChangesAreOnlyChanges, listed.is_empty(), || {
        format!("nothing changed, but {:?}", ends(&listed))
    });
    finish(report, lease);
    let Some(change) = content.suite.subject.change else { return };
    let written = change(content.name);
    let Some((listed, disk, lease)) = since(content, report, base) else { return };
    order(report, &listed, disk.size());
    for extent in &listed {
        let end = extent.at.saturating_add(extent.len);
        let touched = written.iter().any(|range| range.start < end && extent.at < range.end);
        report.expect(P::ChangesAreOnlyChanges, touched, || {
            format!("{extent:?}; written was {written:?}")
        });
    }
    patch(&content.suite.cx, report, &*disk, &listed, before);
    finish(report, lease);
}

/// Applies the listed ranges to the old bytes and compares with the new ones.
fn patch(
    cx: &Cx,
    report: &mut Report,
    disk: &dyn DiskSource,
    listed: &[Extent],
    mut bytes: Vec<u8>,
) {
    let whole = 0..disk.size().min(WHOLE);
    bytes.resize(usize::try_from(whole.end).unwrap_or(0), 0);
    for extent in listed {
        let range = extent.at..extent.at.saturating_add(extent.len).min(whole.end);
        let Some(now) = read_range(cx, report, disk, range.clone()) else { return };
        if !extent.allocated {
            report.expect(P::UnallocatedIsZero, now.iter().all(|byte| *byte == 0), || {
                format!("{extent:?} since a base")
            });
        }
        let start = usize::try_from(range.start).unwrap_or(usize::MAX);
        if let Some(old) = bytes.get_mut(start..start.saturating_add(now.len())) {
            old.copy_from_slice(&now);
        }
    }
    let Some(now) = read_range(cx, report, disk, whole) else { return };
    let differs = now.iter().zip(&bytes).position(|(a, b)| a != b);
    report.expect(P::ChangesAreComplete, differs.is_none(), || {
        format!("byte {differs:?} changed and is not listed")
    });
}

type Since = (Vec<Extent>, Box<dyn DiskSource>, Box<dyn Lease>);

fn since(content: &Content<'_>, report: &mut Report, base: &Base) -> Option<Since> {
    let (disk, basis, lease) = open(content, report, Some(base))?;
    let taken = basis == Basis::Since(base.clone());
    report.expect(P::BaseIsGiven, taken, || format!("the base was answered by {basis:?}"));
    if !taken {
        return None;
    }
    let listed = extents(&content.suite.cx, report, &*disk)?;
    Some((listed, disk, lease))
}

//! Writing a disk: into a new file, over a file, or over a block device.

use std::os::fd::OwnedFd;

use alidade_entity::{Class, Cx, DiskSink, Error, Result, SinkEnding};
use rustix::fs::{
    CWD, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom, fallocate, fstat, fsync, ftruncate,
    open, rename, renameat_with, seek, stat,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::image::shown;
use super::target::{Found, Target};

/// What is written between two looks at whether the run was told to stop.
const STEP: usize = 1 << 20;
/// Blocks of zeros of this size are not written into a new file.
const BLOCK: usize = 4096;

/// A disk that is written.
pub(crate) struct HostDisk {
    fd: OwnedFd,
    /// What is open, and what it is called in the end where that is something else.
    path: Vec<u8>,
    becomes: Option<Vec<u8>>,
    size: u64,
    /// True when there may be something in it.
    holds: bool,
    is_device: bool,
}

impl HostDisk {
    /// Opens a target that was looked at.
    ///
    /// # Errors
    /// When it cannot be created or opened, or is in use.
    pub(crate) fn open(target: &Target) -> Result<Self> {
        let (path, becomes) = match target.found {
            Found::Nothing { .. } => (target.partial(), Some(target.path.clone())),
            Found::File(_) | Found::Device(_) => (target.path.clone(), None),
        };
        let failed = |errno| match errno {
            Errno::BUSY => {
                let attempt = format!("restore into {}, which is in use", shown(&path));
                Error::new(Class::Conflict, attempt)
            }
            errno => Error::io(format!("open the target {}", shown(&path)), errno),
        };
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let is_device = matches!(target.found, Found::Device(_));
        let flags = match target.found {
            Found::Nothing { .. } => flags | OFlags::CREATE | OFlags::NOFOLLOW,
            Found::File(_) => flags,
            // The system refuses it while the device is mounted or part of another.
            Found::Device(_) => flags | OFlags::EXCL,
        };
        let fd = open(path.as_slice(), flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let len = u64::try_from(fstat(&fd).map_err(failed)?.st_size).unwrap_or(0);
        if !is_device && len != target.becomes(len) {
            ftruncate(&fd, target.becomes(len)).map_err(failed)?;
        }
        let holds = is_device || len > 0;
        Ok(Self { fd, path, becomes, size: target.size, holds, is_device })
    }

    fn failed(&self, what: &str, at: u64, errno: Errno) -> Error {
        Error::io(format!("{what} at {at} of {}", shown(&self.path)), errno)
    }

    fn is_inside(&self, at: u64, len: u64) -> Result<()> {
        if at.checked_add(len).is_some_and(|end| end <= self.size) {
            return Ok(());
        }
        let attempt = format!("write {len} bytes at {at} of {}: it ends before", shown(&self.path));
        Err(Error::new(Class::Failed, attempt))
    }

    fn put(&self, cx: &Cx, at: u64, data: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < data.len() {
            cx.check()?;
            let end = data.len().min(done + STEP);
            let from = at + done as u64;
            done += retry_on_intr(|| pwrite(&self.fd, &data[done..end], from))
                .map_err(|errno| self.failed("write", from, errno))?;
        }
        Ok(())
    }

    /// Makes a range of data read as zeros.
    fn clear(&self, cx: &Cx, at: u64, len: u64) -> Result<()> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fallocate(&self.fd, how, at, len)) {
            Ok(()) => Ok(()),
            // Neither the file system nor the device knows how.
            Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::INVAL) => {
                self.clear_by_writing(cx, at, len)
            }
            Err(errno) => Err(self.failed("make zeros", at, errno)),
        }
    }

    fn clear_by_writing(&self, cx: &Cx, at: u64, len: u64) -> Result<()> {
        let zeros = vec![0; STEP];
        let mut found = vec![0; STEP];
        let (mut at, end) = (at, at + len);
        while at < end {
            let step = usize::try_from(end - at).map_or(STEP, |left| left.min(STEP));
            self.read_at(cx, at, &mut found[..step])?;
            if found[..step].iter().any(|&byte| byte != 0) {
                self.put(cx, at, &zeros[..step])?;
            }
            at += step as u64;
        }
        Ok(())
    }

    /// Where data begins at or after `at`, and where it ends; `None` when there is no more before `end`.
    fn data_from(&self, at: u64, end: u64) -> Result<Option<(u64, u64)>> {
        if self.is_device {
            return Ok((at < end).then_some((at, end)));
        }
        let data = match seek(&self.fd, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL) => at,
            found => found.map_err(|errno| self.failed("find data", at, errno))?,
        };
        if data >= end {
            return Ok(None);
        }
        let hole = match seek(&self.fd, SeekFrom::Hole(data)) {
            Err(Errno::INVAL) => end,
            found => found.map_err(|errno| self.failed("find a hole", data, errno))?,
        };
        Ok(Some((data, hole.min(end))))
    }

    /// Gives the file its name.
    fn name(&self, path: &[u8]) -> Result<()> {
        let failed = |errno| match errno {
            Errno::EXIST => {
                let attempt = format!("restore into {}, which is there already", shown(path));
                Error::new(Class::Conflict, attempt)
            }
            errno => Error::io(format!("name the restored disk {}", shown(path)), errno),
        };
        let from = self.path.as_slice();
        match renameat_with(CWD, from, CWD, path, RenameFlags::NOREPLACE) {
            // Not every file system knows how to leave alone what is there.
            Err(Errno::INVAL | Errno::NOSYS) => match stat(path) {
                Err(Errno::NOENT) => rename(from, path).map_err(failed)?,
                Err(errno) => return Err(failed(errno)),
                Ok(_) => return Err(failed(Errno::EXIST)),
            },
            renamed => renamed.map_err(failed)?,
        }
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let above = if slash == 0 { &b"/"[..] } else { &path[..slash] };
        let directory = open(above, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        directory.and_then(fsync).map_err(failed)
    }
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

impl DiskSink for HostDisk {
    fn holds(&self) -> bool {
        self.holds
    }

    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        self.is_inside(at, buf.len() as u64)?;
        let mut done = 0;
        while done < buf.len() {
            cx.check()?;
            let end = buf.len().min(done + STEP);
            let from = at + done as u64;
            let read = retry_on_intr(|| pread(&self.fd, &mut buf[done..end], from))
                .map_err(|errno| self.failed("read", from, errno))?;
            if read == 0 {
                return Err(self.failed("read", from, Errno::NXIO));
            }
            done += read;
        }
        Ok(())
    }

    fn write_at(&self, cx: &Cx, begin: u64, data: &[u8]) -> Result<()> {
        self.is_inside(begin, data.len() as u64)?;
        if self.holds {
            return self.put(cx, begin, data);
        }
        // A new file is a hole: what is zero stays one.
        let is_same = |a: &[u8], b: &[u8]| is_zero(a) == is_zero(b);
        let blocks: Vec<&[u8]> = data.chunks(BLOCK).collect();
        let mut at = begin;
        for run in blocks.chunk_by(|a, b| is_same(a, b)) {
            let len: usize = run.iter().map(|block| block.len()).sum();
            let from = usize::try_from(at - begin).unwrap_or(0);
            if is_zero(run[0]) {
                self.zero(cx, at, len as u64)?;
            } else {
                self.put(cx, at, &data[from..from + len])?;
            }
            at += len as u64;
        }
        Ok(())
    }

    fn zero(&self, cx: &Cx, at: u64, len: u64) -> Result<()> {
        self.is_inside(at, len)?;
        let (mut from, end) = (at, at + len);
        while from < end {
            cx.check()?;
            let Some((data, hole)) = self.data_from(from, end)? else { break };
            if self.is_device {
                self.clear_by_writing(cx, data, hole - data)?;
            } else {
                self.clear(cx, data, hole - data)?;
            }
            from = hole;
        }
        Ok(())
    }

    fn finish(&self, cx: &Cx) -> Result<SinkEnding> {
        cx.check()?;
        fsync(&self.fd).map_err(|errno| {
            Error::io(format!("write the target {} to its disk", shown(&self.path)), errno)
        })?;
        if let Some(path) = &self.becomes {
            self.name(path)?;
        }
        Ok(SinkEnding::default())
    }
}

//! Sinks: contents as they are written.

use alidade_model::{Checks, Counts, Digest, Entry, Metadata, Omission, Omissions};

use crate::{Cx, Piece, Result, Verdict};

/// A content, open for writing, by shape.
pub enum Sink {
    /// Entries, then bytes per file.
    Tree(Box<dyn TreeSink>),
    /// Random writes.
    Disk(Box<dyn DiskSink>),
    /// Ordered bytes.
    Stream(Box<dyn StreamSink>),
}

/// The number of an entry in a walk, chosen by the engine, ascending in visit order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryNo(pub u64);

/// Whether a sink needs an entry's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// It must be read and written.
    Content,
    /// The sink has it already, or there is none.
    Nothing,
    /// The sink has it already, but wants its holes: the engine writes each as a [`Piece::Hole`], then
    /// completes the entry with the metadata it began with.
    Holes,
    /// The sink has the content of the base: what did not change since need not be read.
    Changes,
    /// The sink has what lies before this offset: only the spans from it on are to come. Only a sink that
    /// [takes spans](TreeSink::takes_spans) wants this, of a file whose spans up to there it was given before.
    From(u64),
}

/// How an entry's content ended.
#[derive(Clone, Debug)]
pub enum EntryEnd {
    /// It is whole: metadata as of when it was opened, and what became of it meanwhile.
    Whole(Box<Metadata>, Verdict),
    /// It will not come; the entry must not be left behind in part.
    Abandoned,
}

/// Where an entry stands in a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The entry's number.
    pub no: EntryNo,
    /// The number of the directory it is in; `None` at the top.
    pub parent: Option<EntryNo>,
}

/// Takes a tree.
///
/// `begin` runs ahead of `settle` and `leave`: entries after a directory may begin while files in it are
/// still being written, so an entry's directory is known by [`Place::parent`] and by nothing else.
///
/// Calls come in this order, and each names its entry:
/// 1. `begin` in visit order, by one thread, for every entry; a directory stays open until its `leave`.
/// 2. For an entry whose content is wanted, through a [`Carrier`] of any thread: its content, then
///    `complete`, once.
/// 3. `settle` in visit order, by one thread, when the entry and all before it are complete and the
///    carriers that completed them were flushed.
/// 4. `leave` in visit order, by the same thread, when everything in the directory is settled; nothing
///    begins in it afterwards.
/// 5. `finish`, once, when everything is settled and left and no carrier is left; without it nothing
///    counts.
///
/// An abandoned entry is settled like any other. An `Err` ends the copy; what fails for one entry alone
/// and leaves the rest useful is an omission in [`SinkEnding`].
pub trait TreeSink: Send + Sync {
    /// Announces an entry.
    ///
    /// # Errors
    /// When the sink cannot take it and cannot go on without.
    fn begin(&self, cx: &Cx, place: Place, entry: &Entry) -> Result<Want>;

    /// The way in for one thread's contents.
    ///
    /// # Errors
    /// When there is no room for another one.
    fn carrier(&self) -> Result<Box<dyn Carrier + '_>>;

    /// True when the spans of one file may come through several carriers at once.
    fn takes_spans(&self) -> bool {
        false
    }

    /// True when the sink would [rest](TreeSink::rest). Asked often.
    fn is_rest_due(&self, cx: &Cx) -> bool {
        let _: &Cx = cx;
        false
    }

    /// Nothing is under way: no carrier is open, and all that was begun is settled but for one file, perhaps, of
    /// which some spans were ended and flushed. A sink may make durable what it has.
    ///
    /// # Errors
    /// When it cannot.
    fn rest(&self, cx: &Cx) -> Result<()> {
        let _: &Cx = cx;
        Ok(())
    }

    /// The entry and everything before it is complete.
    ///
    /// # Errors
    /// When its place in the tree cannot be written.
    fn settle(&self, cx: &Cx, no: EntryNo) -> Result<()>;

    /// Closes a directory, which is settled.
    ///
    /// # Errors
    /// When it cannot be written.
    fn leave(&self, cx: &Cx, no: EntryNo) -> Result<()>;

    /// Something the source could not give; the sink may keep a record of it.
    ///
    /// # Errors
    /// When the record cannot be written.
    fn omit(&self, cx: &Cx, omission: &Omission) -> Result<()>;

    /// Makes everything durable and says what came of it.
    ///
    /// # Errors
    /// When it cannot be made durable.
    fn finish(&self, cx: &Cx) -> Result<SinkEnding>;
}

/// One thread's way into a tree sink: the contents of files, one file after the other.
///
/// A file's pieces ascend and are adjacent from 0; perhaps `restart` and all of them again; then
/// `complete`. A sink that [takes spans](TreeSink::takes_spans) may be given a file in spans instead: the
/// pieces of each are adjacent from where it begins and end with `end_span`; the spans of a file cover it,
/// come through any carriers, and when all of them were ended and flushed, one carrier completes the file,
/// or restarts it and writes it whole.
///
/// A carrier may hold back what it was given to work on several files at once: only after `flush` is
/// everything in the sink that was completed or ended before.
pub trait Carrier {
    /// Takes a piece of content; `data` is empty for a hole.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, cx: &Cx, no: EntryNo, piece: Piece, data: &[u8]) -> Result<()>;

    /// Takes bytes from `at` on, in parts that follow one another.
    ///
    /// # Errors
    /// As [`Carrier::write`].
    fn write_parts(&mut self, cx: &Cx, no: EntryNo, at: u64, parts: &[&[u8]]) -> Result<()> {
        let mut at = at;
        for part in parts {
            self.write(cx, no, Piece::Data { at }, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Forgets the content written so far, by whichever carrier: it will be written again from the
    /// beginning.
    ///
    /// # Errors
    /// When it cannot.
    fn restart(&mut self, cx: &Cx, no: EntryNo) -> Result<()>;

    /// The span of the file that begins at `from` is written, or will not come.
    ///
    /// # Errors
    /// [`crate::Class::Unsupported`] from a sink that takes no spans; when it cannot be written.
    fn end_span(&mut self, cx: &Cx, no: EntryNo, from: u64) -> Result<()> {
        let _ = (cx, from);
        let attempt = format!("write entry {} in spans", no.0);
        Err(crate::Error::new(crate::Class::Unsupported, attempt))
    }

    /// The content is whole, or will not come.
    ///
    /// # Errors
    /// When it cannot be completed.
    fn complete(&mut self, cx: &Cx, no: EntryNo, end: EntryEnd) -> Result<()>;

    /// Brings everything into the sink that was given so far, save a file that is not complete.
    ///
    /// # Errors
    /// When it cannot be written.
    fn flush(&mut self, cx: &Cx) -> Result<()>;
}

/// What a sink can say when it is done.
#[derive(Clone, Debug, Default)]
pub struct SinkEnding {
    /// What could not be written.
    pub omissions: Omissions,
    /// The digest of what was written, where the sink computes it.
    pub digest: Option<Digest>,
    /// What was checked.
    pub checks: Checks,
    /// Entries the sink counts better than the engine can: unchanged, sparse.
    pub counts: Counts,
    /// What a reader should know and what takes nothing away from the copy.
    pub notes: Vec<String>,
}

/// Takes a disk. Writes may come in any order and from many threads.
pub trait DiskSink: Send + Sync {
    /// True when it may hold something already: then what is equal need not be written.
    fn holds(&self) -> bool {
        false
    }

    /// Fills `buf` with what it holds from `at` on, what was written to it included.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()>;

    /// Writes `data` at `at`.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write_at(&self, cx: &Cx, at: u64, data: &[u8]) -> Result<()>;

    /// Makes a range read as zeros, without storage where the target can. What reads so is left alone.
    ///
    /// # Errors
    /// When it cannot.
    fn zero(&self, cx: &Cx, at: u64, len: u64) -> Result<()>;

    /// Makes everything durable.
    ///
    /// # Errors
    /// When it cannot.
    fn finish(&self, cx: &Cx) -> Result<SinkEnding>;
}

/// Takes a stream, in order.
pub trait StreamSink: Send {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the consumer cannot take them.
    fn write(&mut self, cx: &Cx, data: &[u8]) -> Result<()>;

    /// The stream is whole. Dropping the sink without this leaves nothing that looks whole.
    ///
    /// # Errors
    /// When the consumer failed.
    fn finish(self: Box<Self>, cx: &Cx) -> Result<SinkEnding>;
}

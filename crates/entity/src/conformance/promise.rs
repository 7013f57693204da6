//! The promises of the sockets, one by one.

use std::fmt;

macro_rules! promises {
    ($($(#[$group:meta])* $name:ident => $text:literal,)*) => {
        /// One promise of the sockets, as their documentation gives it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Promise {
            $(#[doc = $text] $name,)*
        }

        impl Promise {
            /// Every promise, in the order in which the suite asks for them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The promise in words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

promises! {
    ListHonoursLimit => "a page of a listing holds at most `limit` ids",
    ListAscends => "a listing ascends by id and names nothing twice",
    ListContinues => "pages joined by their cursors are the whole listing, and end",
    ListedOpens => "what is listed can be opened and has the id it was listed by",
    PresentOpens => "an entity that exists opens under its id",
    AbsentIsNotFound => "opening what does not exist is not found",
    ReleaseUnknownIsOk => "releasing an unknown run is fine, as often as one likes",
    FreezeIsIdempotent => "freezing again for the same run gives the same snapshots, one per entity",
    FrozenOpens => "a native snapshot is listed by its entity and opens",
    FreezeAbsentFails => "freezing what does not exist fails as not found",
    ReleaseAfterFreeze => "the run of a freeze can be released, twice",
    UnsupportedIsSaid => "what the capability denies fails as unsupported",
    DeleteAbsentIsOk => "deleting what is absent is fine",
    DeleteDeletes => "what was deleted is gone",
    InfoSpeaksOfItself => "the info carries the entity's id and names each content once",
    ContentsAreReadable => "every content of the info can be read, in the shape the info gives",
    UnknownContentIsNotFound => "reading a content the info does not name is not found",
    UnknownBaseReadsFull => "a base the source does not know gives a full reading and says why",
    ComponentsAreOthers => "components are other entities, each named once",
    LeaseFinishes => "the lease of an undisturbed reading ends without an error",
    WalkBatchesAreBounded => "a step of a walk appends some hundreds of visits and walks end",
    WalkAppends => "a step of a walk leaves alone what is in the batch already",
    WalkEndsForEver => "after its end a walk says so for ever and adds nothing",
    WalkNamesAreComponents => "every name is one path component",
    WalkNamesAscend => "names ascend by byte within their directory",
    WalkNamesAreUnique => "every name appears once in its directory",
    WalkIsBalanced => "every directory entered is left, and none but those",
    WalkKindsFit => "a visit and its entry's kind agree, and metadata is well formed",
    WalkTrailIsDirectories => "the trail names directories",
    WalksAgree => "two walks of an unchanged tree are equal",
    VersionsAgree => "the version of an unchanged entry stays",
    WalkCancels => "a walk stops as cancelled when it is told to",
    FileOpens => "a file that was met and did not vanish opens, again and again",
    PiecesAreAdjacent => "pieces are adjacent and ascend from 0",
    PiecesAreBounded => "a piece of data is in a cleared buffer and holds 1 byte to 8 MiB; a hole leaves it empty",
    PiecesEndAtSize => "pieces end at the size in the metadata",
    HolesAgree => "the holes of a file are those its pieces show",
    ReadsAgree => "an unchanged file reads the same again",
    LentAgrees => "a piece that is lent is what would be put into the buffer",
    QuietFileIsSteady => "a file nobody touched is steady",
    SpansAgree => "a file read in spans is the file read whole",
    FileReadCancels => "reading a file stops as cancelled within a MiB of being told to",
    ExtentsAscend => "extents ascend, are not empty and do not overlap",
    ExtentsEndAtSize => "the extents of a full reading cover the disk and none goes beyond its end",
    ExtentsContinue => "extents are appended, and go on from where they are asked to",
    UnallocatedIsZero => "an unallocated extent reads as zeros",
    ReadBeyondEndFails => "reading beyond the end of a disk fails",
    DiskReadsAgree => "a disk reads the same in any order and size of reads",
    DiskCancels => "reading a disk stops as cancelled when it is told to",
    BaseIsGiven => "a source that tells changes gives a base for the next reading, and takes it",
    ChangesAreComplete => "a reading since a base holds every changed byte",
    ChangesAreOnlyChanges => "a reading since a base lists nothing that did not change",
    StreamEndsForEver => "after its end a stream returns 0 for ever",
    StreamFits => "a stream never claims more bytes than the buffer holds",
    StreamVerdict => "a producer that succeeded ends its stream without an error",
    StreamFailureIsAnError => "a producer that failed makes its stream fail",
    StreamUnreadIsNotVouchedFor => "nobody vouches for a stream that was not read to its end",
    StreamCancels => "reading a stream stops as cancelled when it is told to",
    SinkTakesEverything => "a sink takes what the call order allows without an error",
    SinkKeepsEntries => "every entry that was written reads back with its metadata",
    SinkKeepsContent => "every byte that was written reads back",
    SinkKeepsHoles => "every hole that was written reads back",
    SinkDropsAbandoned => "an abandoned entry is not left behind",
    SinkForgetsOnRestart => "content written before a restart is forgotten",
    SinkTakesLastMetadata => "the metadata of a complete file is that of when it was opened",
    SinkTakesSpans => "a file that comes in spans, out of order and by two carriers, reads back",
    SinkUnfinishedIsNotWhole => "a stream that was not finished does not look whole",
    SinkRefusesExisting => "creating what exists is a conflict",
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

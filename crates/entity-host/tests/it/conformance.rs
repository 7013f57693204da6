//! The sockets' own suite, run by `fs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use alidade_entity::conformance::{Fidelity, Subject, Target, assert_conforms, check_tree_sink};
use alidade_entity::{
    Cx, ProtectedEntityType, ReadOptions, Reading, Result, Sink, Source, TreeSource, Visit,
};
use alidade_entity_host::FsType;
use alidade_model::{ContentName, Entry, Metadata};

use crate::copy::options;
use crate::support::{cx, need_root, run, scratch, scratch_in_memory, wait};

#[test]
fn paths_of_this_host_are_listed_opened_and_read_as_the_sockets_promise() {
    let (_temp, top) = scratch();
    let root = top.join("r");
    for n in 0..700 {
        let path = root.join(format!("d{}/f{n}", n % 7));
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, vec![1; n * 10]).expect("write");
    }
    fs::write(root.join("large"), vec![1; 20 << 20]).expect("write");
    fs::File::create(root.join("sparse")).expect("create").set_len(1 << 22).expect("truncate");
    symlink("nowhere", root.join("link")).expect("symlink");
    run("mkfifo", &[&root.join("fifo").to_string_lossy()]);
    let kind = FsType::new(vec![root.clone(), "/etc".into(), "/".into(), "/usr/share".into()]);
    let id = |path: PathBuf| kind.id(&path).expect("an absolute path");
    assert_conforms(&cx(), &Subject::new(&kind, id(root), id(top.join("absent"))));
}

#[test]
fn a_directory_takes_trees_as_the_sockets_promise() {
    need_root();
    let (_temp, top) = scratch_in_memory();
    let kind = FsType::new(Vec::new());
    let from = kind.id(&top).expect("an absolute path");
    // Names of owners belong to a host; their numbers are what is kept.
    let erase = |metadata: &mut Metadata| {
        metadata.user.clear();
        metadata.group.clear();
    };
    for (round, fsync, read_back) in [("plain", false, false), ("careful", true, true)] {
        let mut count = 0;
        let mut open = |from: &dyn alidade_entity::ProtectedEntity| {
            count += 1;
            let path = top.join(format!("{round}-{count}"));
            let options = alidade_entity::CopyOptions { fsync, read_back, ..options(&path) };
            let plan = wait(kind.plan(&cx(), from, &options))?;
            let sink: Sink = wait(kind.sink(&cx(), &plan))?;
            let kind = &kind;
            let read_back = move |cx: &Cx| restored(kind, cx, &path);
            Ok(Target { sink, read_back: Box::new(read_back) })
        };
        // Holes come in blocks here, and those of the suite do not.
        let fidelity = Fidelity { erase, holes: false, ..Fidelity::full() };
        let report = check_tree_sink(&cx(), &from, fidelity, &mut open);
        assert_eq!(report.failures(), []);
        assert!(report.asked().len() > 5);
    }
}

/// Opens what is in a target, as if it were the top of a tree.
fn restored(kind: &FsType, cx: &Cx, path: &std::path::Path) -> Result<Option<Reading>> {
    let entity = wait(kind.open(cx, &kind.id(path).expect("an absolute path")))?;
    let reading = wait(entity.read(cx, &ContentName::data(), &ReadOptions::default()))?;
    let Source::Tree(source) = reading.source else { panic!("a file system is a tree") };
    let source = Source::Tree(Box::new(Inside { source, depth: 0, trail: Vec::new() }));
    Ok(Some(Reading { source, ..reading }))
}

/// A walk without its outermost directory.
struct Inside {
    source: Box<dyn TreeSource>,
    depth: usize,
    trail: Vec<Entry>,
}

impl TreeSource for Inside {
    fn trail(&self) -> &[Entry] {
        &self.trail
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        let mut visits = Vec::new();
        let more = self.source.next(cx, &mut visits)?;
        for visit in visits {
            let is_outermost = match &visit {
                Visit::Enter(_) => {
                    self.depth += 1;
                    self.depth == 1
                }
                Visit::Leave => {
                    self.depth -= 1;
                    self.depth == 0
                }
                Visit::File(..) | Visit::Leaf(_) | Visit::Omit(_) => false,
            };
            if !is_outermost {
                out.push(visit);
            }
        }
        Ok(more)
    }
}

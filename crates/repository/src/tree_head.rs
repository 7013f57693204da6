//! What a node of a tree says before its content: everything that a source tells about an entry.

use alidade_model::Time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::gojson::{self, Object};
use crate::{Node, quote, time};

/// A node without content, subtree and error, borrowed from where its parts are.
#[derive(Clone, Copy, Debug)]
pub struct NodeHead<'a> {
    /// As [`Node::name`].
    pub name: &'a [u8],
    /// The word for its kind.
    pub kind: &'a str,
    /// As [`Node::mode`].
    pub mode: u32,
    /// As [`Node::mtime`].
    pub mtime: Time,
    /// As [`Node::atime`].
    pub atime: Time,
    /// As [`Node::ctime`].
    pub ctime: Time,
    /// As [`Node::uid`].
    pub uid: u32,
    /// As [`Node::gid`].
    pub gid: u32,
    /// As [`Node::user`].
    pub user: &'a str,
    /// As [`Node::group`].
    pub group: &'a str,
    /// As [`Node::inode`].
    pub inode: u64,
    /// As [`Node::device_id`].
    pub device_id: u64,
    /// As [`Node::size`].
    pub size: u64,
    /// As [`Node::links`].
    pub links: u64,
    /// As [`Node::link_target`].
    pub link_target: &'a [u8],
    /// As [`Node::xattrs`].
    pub xattrs: &'a [(String, Vec<u8>)],
    /// As [`Node::generic`].
    pub generic: &'a [(String, String)],
    /// As [`Node::device`].
    pub device: u64,
}

impl<'a> From<&'a Node> for NodeHead<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            name: &node.name,
            kind: node.kind.word(),
            mode: node.mode,
            mtime: node.mtime,
            atime: node.atime,
            ctime: node.ctime,
            uid: node.uid,
            gid: node.gid,
            user: &node.user,
            group: &node.group,
            inode: node.inode,
            device_id: node.device_id,
            size: node.size,
            links: node.links,
            link_target: &node.link_target,
            xattrs: &node.xattrs,
            generic: &node.generic,
            device: node.device,
        }
    }
}

impl NodeHead<'_> {
    /// Appends the text of a node as restic writes it, up to its content: without the comma before
    /// that and without the brace that ends the node.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"name":"#);
        name(self.name, out);
        text(out, br#","type":"#, self.kind.as_bytes());
        number_if_any(out, br#","mode":"#, self.mode.into());
        let mtime = time::text(self.mtime);
        moment(out, br#","mtime":""#, &mtime);
        let same = self.atime == self.mtime;
        moment(out, br#","atime":""#, &if same { mtime } else { time::text(self.atime) });
        moment(out, br#","ctime":""#, &time::text(self.ctime));
        number(out, br#","uid":"#, self.uid.into());
        number(out, br#","gid":"#, self.gid.into());
        text_if_any(out, br#","user":"#, self.user.as_bytes());
        text_if_any(out, br#","group":"#, self.group.as_bytes());
        number_if_any(out, br#","inode":"#, self.inode);
        number_if_any(out, br#","device_id":"#, self.device_id);
        number_if_any(out, br#","size":"#, self.size);
        number_if_any(out, br#","links":"#, self.links);
        text_if_any(out, br#","linktarget":"#, self.link_target);
        if std::str::from_utf8(self.link_target).is_err() {
            text(out, br#","linktarget_raw":"#, STANDARD.encode(self.link_target).as_bytes());
        }
        if !self.xattrs.is_empty() {
            xattrs(self.xattrs, out);
        }
        if !self.generic.is_empty() {
            out.extend_from_slice(br#","generic_attributes":"#);
            let mut generic = Object::begin(out);
            for (key, value) in self.generic {
                gojson::compact(value, generic.field(key));
            }
            generic.end();
        }
        number_if_any(out, br#","device":"#, self.device);
    }
}

/// A name as text; most need no quoting.
fn name(name: &[u8], out: &mut Vec<u8>) {
    if name.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        gojson::string(name, out);
        return;
    }
    let mut quoted = Vec::with_capacity(2 * name.len());
    quote::quote(name, &mut quoted);
    gojson::string(&quoted, out);
}

// Each takes the comma, the name of the field and the colon as they stand in the text.

fn text(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    gojson::string(value, out);
}

fn text_if_any(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    if !value.is_empty() {
        text(out, field, value);
    }
}

fn number(out: &mut Vec<u8>, field: &[u8], value: u64) {
    out.extend_from_slice(field);
    gojson::decimal(value, out);
}

fn number_if_any(out: &mut Vec<u8>, field: &[u8], value: u64) {
    if value != 0 {
        number(out, field, value);
    }
}

fn moment(out: &mut Vec<u8>, field: &[u8], value: &time::Text) {
    out.extend_from_slice(field);
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn xattrs(xattrs: &[(String, Vec<u8>)], out: &mut Vec<u8>) {
    out.extend_from_slice(br#","extended_attributes":["#);
    for (at, (name, value)) in xattrs.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut object = Object::begin(out);
        object.text("name", name);
        object.text("value", STANDARD.encode(value));
        object.end();
    }
    out.push(b']');
}

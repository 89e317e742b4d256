//! Deleting files, and the directories that hold nothing any more.

use rustix::{
    fs::{AtFlags, FlockOperation, fsync, unlinkat},
    io::Errno,
};

use super::{
    Failed, Place, Tree,
    tree::{Lock, errno},
};
use crate::store::Key;

type Outcome = (Key, Result<(), Failed>);

/// Deletes in the order given. Consecutive objects of one directory share its fsync: when this returns, all are gone for good.
pub(super) fn delete(tree: &Tree, keys: Vec<Key>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(keys.len());
    let mut rest = keys.into_iter().peekable();
    while let Some(first) = rest.next() {
        let mut group = vec![first];
        while let Some(next) = rest.next_if(|next| parent(next) == parent(&group[0])) {
            group.push(next);
        }
        let done = delete_group(tree, group);
        outcomes.extend(done);
    }
    outcomes
}

fn parent(key: &Key) -> &str {
    key.as_str()
        .rsplit_once('/')
        .map_or("", |(parent, _)| parent)
}

fn delete_group(tree: &Tree, keys: Vec<Key>) -> Vec<Outcome> {
    let directory = parent(&keys[0]).to_owned();
    let mut outcomes = Vec::with_capacity(keys.len());
    for key in keys {
        let outcome = delete_one(tree, &key);
        outcomes.push((key, outcome));
    }
    // What is not durable is not deleted.
    if let Err((meaning, source)) = settle(tree, &directory) {
        let why = source.to_string();
        for (_, outcome) in &mut outcomes {
            if outcome.is_ok() {
                *outcome = Err((meaning, std::io::Error::other(why.clone())));
            }
        }
    }
    outcomes
}

fn delete_one(tree: &Tree, key: &Key) -> Result<(), Failed> {
    let Some(place) = tree.find(key)? else {
        return Ok(());
    };
    let _lock: Lock = tree.lock(FlockOperation::LockShared)?;
    match unlinkat(&place.parent, place.name.as_str(), AtFlags::empty()) {
        // A directory of that name is no object.
        Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
        Err(error) => Err(errno(error)),
    }
}

/// Makes the deletions of a directory durable, and removes it and those above it as far as they are empty.
fn settle(tree: &Tree, directory: &str) -> Result<(), Failed> {
    let mut path = directory;
    let Some(Place { parent, .. }) = tree.find(&beside(path))? else {
        return Ok(());
    };
    let mut changed = parent;
    loop {
        fsync(&changed).map_err(errno)?;
        if path.is_empty() {
            return Ok(());
        }
        let Some(place) = tree.find(&Key::verbatim(path))? else {
            return Ok(());
        };
        match unlinkat(&place.parent, place.name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) => {}
            // Not empty, not ours to remove, or gone: all the same for objects.
            Err(_) => return Ok(()),
        }
        changed = place.parent;
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
}

/// Some key in this directory.
fn beside(directory: &str) -> Key {
    match directory {
        "" => Key::verbatim("x"),
        directory => Key::verbatim(format!("{directory}/x")),
    }
}

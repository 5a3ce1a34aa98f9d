//! `register`: a file is read, then the server is told what it consists of.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Chore, Order, Ours, Report, Sharing, Trouble};
use crate::client::state::download::Manifest;
use crate::wire::chunks::{CHUNKS_MAX, ChunkSet, HASHES_PER_LINE_MAX};
use crate::wire::control::Say;
use crate::wire::name::FileName;
use crate::wire::{Notice, Refusal};

/// A file on its way to be registered.
#[derive(Debug)]
pub(super) struct Registering {
    /// The typed line; `None` if the server is only told again.
    pub(super) line: Option<u64>,
    /// What was read; not shared before the server has accepted it.
    pub(super) manifest: Option<Arc<Manifest>>,
}

impl Sharing {
    /// `register` was typed, as line number `line`.
    pub fn register(&mut self, now: i64, line: u64, file: &str, chunks: u32) -> VecDeque<Order> {
        self.now = now;
        if let Some(file) = self.admit(line, file) {
            if chunks > CHUNKS_MAX {
                self.orders.push_back(Order::Tell(Notice::Refused(Refusal::TooManyChunks { max: CHUNKS_MAX })));
                self.done(line);
            } else {
                self.registering.insert(file.clone(), Registering { line: Some(line), manifest: None });
                self.chore(Chore::Read(file, chunks));
            }
        }
        self.take()
    }

    pub(super) fn has_read(&mut self, file: &FileName, read: Result<Arc<Manifest>, Trouble>) {
        match read {
            Ok(manifest) => {
                if let Some(registering) = self.registering.get_mut(file) {
                    registering.manifest = Some(manifest);
                    self.say_manifest(file);
                }
            }
            Err(trouble) => {
                self.show(Report::Failed(file.clone(), trouble));
                self.over(file);
            }
        }
    }

    /// Tells the server all about a file, when it has answered the one before.
    pub(super) fn say_manifest(&mut self, file: &FileName) {
        self.said.push_back(file.clone());
        if self.said.len() == 1 {
            self.say_next();
        }
    }

    /// Tells the server all about the file whose turn it is; without a connection it waits.
    pub(super) fn say_next(&mut self) {
        let Some(file) = self.said.front().filter(|_| self.online) else { return };
        let Some(manifest) = self.registering.get(file).and_then(|it| it.manifest.as_ref()) else { return };
        let Manifest { bytes, digest, hashes, .. } = &**manifest;
        let head = Say::Register { file: file.as_str(), chunks: manifest.chunks(), bytes: *bytes, digest: *digest };
        self.orders.push_back(Order::Say(head.spell()));
        for (some, first) in hashes.chunks(HASHES_PER_LINE_MAX).zip((0u32..).step_by(HASHES_PER_LINE_MAX)) {
            let words: Vec<String> = some.iter().map(ToString::to_string).collect();
            self.orders.push_back(Order::Say(Say::ChunkHash { first, hashes: &words.join(" ") }.spell()));
        }
    }

    pub(super) fn registered(&mut self, file: &FileName, notice: &Notice) -> Option<()> {
        let registering = self.registering.get(file)?;
        if let Some(manifest) = &registering.manifest {
            let (manifest, have) = (Arc::clone(manifest), ChunkSet::first(manifest.chunks()));
            self.ours.insert(file.clone(), Ours { manifest, have });
        }
        if registering.line.is_some() {
            self.orders.push_back(Order::Tell(notice.clone()));
            self.chore(Chore::Share(file.clone()));
        }
        self.orders.push_back(Order::Known(file.clone()));
        self.over(file);
        Some(())
    }

    /// Somebody was faster; with the same content, the file is shared all the same.
    pub(super) fn already_registered(&mut self, file: &FileName, same: bool, notice: &Notice) -> Option<()> {
        if same {
            return self.registered(file, notice);
        }
        self.not_registered(file, notice)
    }

    pub(super) fn not_registered(&mut self, file: &FileName, notice: &Notice) -> Option<()> {
        let registering = self.registering.get(file)?;
        if registering.line.is_some() {
            self.orders.push_back(Order::Tell(notice.clone()));
            self.chore(Chore::Discard(file.clone()));
        } else {
            // What the server does not accept again, nobody will ask for.
            self.ours.remove(file);
            self.chore(Chore::Forget(file.clone()));
        }
        self.over(file);
        Some(())
    }

    fn over(&mut self, file: &FileName) {
        let was_first = self.said.front() == Some(file);
        self.said.retain(|said| said != file);
        if was_first {
            self.say_next();
        }
        if let Some(Registering { line: Some(line), .. }) = self.registering.remove(file) {
            self.done(line);
        }
    }
}

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
    /// The typed line; `None` if it is only offered again.
    pub(super) line: Option<u64>,
    /// In how many chunks.
    pub(super) chunks: u32,
    /// What was read; not shared before the server has accepted it.
    pub(super) manifest: Option<Arc<Manifest>>,
    /// Not all of it is here: what is, follows the answer.
    pub(super) part: bool,
}

impl Registering {
    /// Something that is shared already.
    pub(super) fn again(manifest: Arc<Manifest>, part: bool) -> Self {
        Self { line: None, chunks: manifest.chunks(), manifest: Some(manifest), part }
    }

    /// Whether a line that is typed now can take the place of nobody's.
    fn can_be_taken_over(&self, chunks: u32) -> bool {
        self.line.is_none() && !self.part && (self.chunks == chunks || self.manifest.is_none())
    }
}

impl Sharing {
    /// `register` was typed, as line number `line`.
    pub fn register(&mut self, now: i64, line: u64, file: &str, chunks: u32) -> VecDeque<Order> {
        self.now = now;
        let again = FileName::parse(file).and_then(|file| self.registering.get_mut(&file));
        if chunks > CHUNKS_MAX {
            self.orders.push_back(Order::Tell(Notice::Refused(Refusal::TooManyChunks { max: CHUNKS_MAX })));
            self.done(line);
        } else if let Some(again) = again.filter(|again| again.can_be_taken_over(chunks)) {
            (again.line, again.chunks) = (Some(line), chunks);
        } else if let Some(file) = self.admit(line, file) {
            self.read(file, Some(line), chunks);
        }
        self.take()
    }

    /// Has a file read, to be registered.
    pub(super) fn read(&mut self, file: FileName, line: Option<u64>, chunks: u32) {
        self.registering.insert(file.clone(), Registering { line, chunks, manifest: None, part: false });
        self.chore(Chore::Read(file, chunks));
    }

    pub(super) fn has_read(&mut self, file: &FileName, read: Result<Arc<Manifest>, Trouble>) {
        let remembered = self.again.get(file);
        let Some(registering) = self.registering.get_mut(file) else { return };
        let differs = |it: &Manifest| remembered.is_none_or(|known| !known.is(it.chunks(), it.bytes, it.digest));
        match read {
            // It was typed with another number meanwhile.
            Ok(manifest) if manifest.chunks() != registering.chunks => {
                let chunks = registering.chunks;
                self.chore(Chore::Discard(file.clone()));
                self.chore(Chore::Read(file.clone(), chunks));
            }
            Ok(manifest) if registering.line.is_none() && differs(&manifest) => {
                self.chore(Chore::Discard(file.clone()));
                self.lose(file, Trouble::Differs);
                self.over(file);
            }
            Ok(manifest) => {
                registering.manifest = Some(manifest);
                self.say_manifest(file);
            }
            Err(trouble) => {
                match registering.line {
                    Some(_) => self.show(Report::Failed(file.clone(), trouble)),
                    None => self.lose(file, trouble),
                }
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
        let Some(registering) = self.registering.get(file) else { return };
        let (Some(manifest), part) = (&registering.manifest, registering.part) else { return };
        let Manifest { bytes, digest, hashes, .. } = &**manifest;
        let (name, chunks, bytes, digest) = (file.as_str(), manifest.chunks(), *bytes, *digest);
        let head = Say::Register { file: name, chunks, bytes, digest, part };
        self.orders.push_back(Order::Say(head.spell()));
        for (some, first) in hashes.chunks(HASHES_PER_LINE_MAX).zip((0u32..).step_by(HASHES_PER_LINE_MAX)) {
            let words: Vec<String> = some.iter().map(ToString::to_string).collect();
            self.orders.push_back(Order::Say(Say::ChunkHash { first, hashes: &words.join(" ") }.spell()));
        }
    }

    pub(super) fn registered(&mut self, file: &FileName, notice: &Notice) -> Option<()> {
        let registering = self.registering.get(file)?;
        let (manifest, part, is_typed) = (registering.manifest.clone(), registering.part, registering.line.is_some());
        if part {
            let have = self.ours.get(file).map(|ours| ours.have.clone());
            self.unsaid.extend(have.map(|have| (file.clone(), have)));
        } else if let Some(manifest) = manifest {
            self.chore(Chore::Share(file.clone()));
            self.withdrawn.remove(file);
            self.remember(&manifest, true);
            let have = ChunkSet::first(manifest.chunks());
            self.ours.insert(file.clone(), Ours { manifest, have });
        }
        if is_typed {
            self.orders.push_back(Order::Tell(notice.clone()));
        } else {
            self.found(file);
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
        let is_again = self.registering.get(file)?.line.is_none();
        self.not_registered(file, notice)?;
        if is_again {
            self.forget(file);
        }
        Some(())
    }

    pub(super) fn not_registered(&mut self, file: &FileName, notice: &Notice) -> Option<()> {
        let is_again = self.registering.get(file)?.line.is_none();
        self.orders.push_back(Order::Tell(notice.clone()));
        self.chore(Chore::Discard(file.clone()));
        if is_again {
            // What the server does not accept again, nobody will ask for.
            self.ours.remove(file);
            self.chore(Chore::Forget(file.clone()));
            self.give_up(file);
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
        self.checked(file);
    }
}

//! `download`: from the question for the manifest to the file that is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{BAR_EVERY, Chore, Fetched, NO_LINE, Order, Ours, Report, Sharing, Trouble};
use crate::client::state::download::{self, Manifest, Summary};
use crate::wire::chunks::{ChunkSet, Digest, chunk};
use crate::wire::control::Say;
use crate::wire::name::{FileName, Text, UserName};
use crate::wire::{Notice, Refusal};

/// A download of which the manifest or the place on the disk is awaited.
#[derive(Debug)]
pub(super) struct Wanting {
    /// The typed line; [`NO_LINE`] if what an earlier run has fetched is only looked for.
    pub(super) line: u64,
    file: FileName,
    /// The chunks as they were typed.
    words: String,
    /// What the server has told of it.
    head: Option<(u32, u64, Digest)>,
    hashes: Vec<Digest>,
    holders: BTreeMap<UserName, ChunkSet>,
    /// The place on the disk is being opened.
    is_complete: bool,
}

/// A download that the plan is told of, and then the check of the whole.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) line: u64,
    began: i64,
    fetched: Fetched,
}

impl Wanting {
    /// What to say again after an outage.
    pub(super) fn ask_again(&mut self) -> Option<String> {
        if self.is_complete {
            return None;
        }
        self.head = None;
        self.hashes.clear();
        self.holders.clear();
        Some(Say::Want(self.file.as_str()).spell())
    }
}

impl Sharing {
    /// `download` was typed, as line number `line`, with numbers of chunks or with none for all.
    pub fn download(&mut self, now: i64, line: u64, file: &str, words: &str) -> VecDeque<Order> {
        self.now = now;
        let looked_for = FileName::parse(file).and_then(|file| self.wanting.get_mut(&file));
        if let Some(wanting) = looked_for.filter(|wanting| wanting.line == NO_LINE) {
            (wanting.line, wanting.words) = (line, words.to_owned());
        } else if let Some(file) = self.admit(line, file) {
            self.want(line, file, words);
        }
        self.take()
    }

    fn want(&mut self, line: u64, file: FileName, words: &str) {
        let asked = words.split_whitespace().map(chunk).collect::<Option<ChunkSet>>();
        if let Some(ours) = self.ours.get(&file)
            && ours.is_whole()
        {
            let chunks = asked.map(|asked| asked.shared(&ours.have)).filter(|asked| !asked.is_empty());
            self.show(match chunks {
                Some(chunks) => Report::HaveChunks(file, chunks),
                None => Report::Failed(file, Trouble::HaveAll),
            });
            return self.done(line);
        }
        self.ask_manifest(line, file, words);
    }

    /// Asks the server what a file consists of.
    pub(super) fn ask_manifest(&mut self, line: u64, file: FileName, words: &str) {
        if self.online {
            self.orders.push_back(Order::Say(Say::Want(file.as_str()).spell()));
        }
        let wanting = Wanting {
            line,
            file: file.clone(),
            words: words.to_owned(),
            head: None,
            hashes: Vec::new(),
            holders: BTreeMap::new(),
            is_complete: false,
        };
        self.wanting.insert(file, wanting);
    }

    pub(super) fn hear_manifest(&mut self, file: &FileName, chunks: u32, bytes: u64, digest: Digest) {
        if let Some(wanting) = self.wanting.get_mut(file) {
            wanting.head = Some((chunks, bytes, digest));
            wanting.hashes.clear();
        }
        self.orders.push_back(Order::Known(file.clone()));
    }

    pub(super) fn hear_hashes(&mut self, file: &FileName, first: u32, hashes: &[Digest]) {
        if let Some(wanting) = self.wanting.get_mut(file)
            && let Some((chunks, ..)) = wanting.head
            && wanting.hashes.len() == first as usize
            && wanting.hashes.len() + hashes.len() <= chunks as usize
        {
            wanting.hashes.extend_from_slice(hashes);
        }
    }

    pub(super) fn hear_holder(&mut self, file: &FileName, user: &UserName, chunks: &ChunkSet) {
        let holders = match self.wanting.get_mut(file) {
            Some(wanting) => Some(&mut wanting.holders),
            None => self.lists.get_mut(file),
        };
        if let Some(holders) = holders {
            holders.entry(user.clone()).or_default().add(chunks);
        }
    }

    /// The server has said all: the file can be opened.
    pub(super) fn hear_end(&mut self, file: &FileName) {
        let Some(wanting) = self.wanting.get_mut(file).filter(|wanting| !wanting.is_complete) else { return };
        match wanting.head {
            // Of what another file has left under this name, nothing is to be had.
            Some((chunks, bytes, digest))
                if wanting.line == NO_LINE
                    && self.again.get(file).is_none_or(|known| !known.is(chunks, bytes, digest)) =>
            {
                self.end_wanting(file);
            }
            Some((chunks, bytes, digest)) if chunks > 0 && wanting.hashes.len() == chunks as usize => {
                wanting.is_complete = true;
                let is_typed = wanting.line != NO_LINE;
                let hashes = std::mem::take(&mut wanting.hashes);
                let manifest = Manifest { file: file.clone(), bytes, digest, hashes };
                let manifest = Arc::new(manifest);
                let place = Arc::clone(&manifest);
                self.chore(if is_typed { Chore::Open(place) } else { Chore::Find(place) });
                // Nothing is there yet, but from here on the manifest is known.
                self.ours.insert(file.clone(), Ours { manifest, have: ChunkSet::default() });
            }
            _ => {
                let refusal = Notice::Refused(Refusal::BadManifest(file.clone()));
                self.orders.push_back(Order::Tell(refusal));
                self.end_wanting(file);
            }
        }
    }

    /// The server does not know the file.
    pub(super) fn unknown(&mut self, file: &FileName, notice: &Notice) -> Option<()> {
        if let Some(wanting) = self.wanting.get(file).filter(|wanting| !wanting.is_complete) {
            if wanting.line != NO_LINE {
                self.orders.push_back(Order::Tell(notice.clone()));
            }
            self.end_wanting(file);
            return Some(());
        }
        self.lists.remove(file)?;
        self.plan_on(download::Event::Holders(file.clone(), Vec::new()));
        Some(())
    }

    fn end_wanting(&mut self, file: &FileName) {
        if let Some(wanting) = self.wanting.remove(file) {
            self.done(wanting.line);
        }
        self.checked(file);
    }

    pub(super) fn opened(&mut self, file: &FileName, opened: Result<ChunkSet, Trouble>) {
        let have = match opened {
            Ok(have) => have,
            Err(trouble) => return self.not_opened(file, trouble),
        };
        let Some(wanting) = self.wanting.remove(file) else { return };
        let Some(ours) = self.ours.get_mut(file) else { return };
        ours.have = have.clone();
        let manifest = Arc::clone(&ours.manifest);
        self.withdrawn.remove(file);
        self.remember(&manifest, false);
        if !have.is_empty() {
            self.unsaid.insert(file.clone(), have.clone());
        }
        let wanted = self.wanted(&wanting, &manifest, &have);
        let fetched = Fetched { file: file.clone(), bytes: 0, millis: 0, from: BTreeMap::new() };
        let is_whole = have.len() == manifest.chunks();
        self.running.insert(file.clone(), Running { line: wanting.line, began: self.now, fetched });
        if is_whole {
            // All that is missing is its name.
        } else if wanted.is_empty() || wanting.line == NO_LINE {
            self.chore(Chore::Leave(file.clone()));
            if let Some(running) = self.running.remove(file) {
                self.done(running.line);
            }
        } else {
            let holders = wanting.holders.into_iter().collect();
            self.plan_on(download::Event::Begin { manifest, wanted, holders });
        }
        if !have.is_empty() {
            self.found(file);
        }
        self.checked(file);
    }

    fn not_opened(&mut self, file: &FileName, trouble: Trouble) {
        let is_typed = self.wanting.get(file).is_some_and(|wanting| wanting.line != NO_LINE);
        match trouble {
            // It was looked for, and typed meanwhile.
            Trouble::NoSuchFile if is_typed => {
                let manifest = self.ours.get(file).map(|ours| Arc::clone(&ours.manifest));
                return manifest.into_iter().for_each(|manifest| self.chore(Chore::Open(manifest)));
            }
            Trouble::HaveAll if !is_typed => self.check_whole(file),
            trouble if is_typed => self.show(Report::Failed(file.clone(), trouble)),
            trouble => self.lose(file, trouble),
        }
        self.ours.remove(file);
        self.chore(Chore::Forget(file.clone()));
        self.end_wanting(file);
    }

    /// What was asked for and is missing. What is there or cannot be is told.
    fn wanted(&mut self, wanting: &Wanting, manifest: &Manifest, have: &ChunkSet) -> ChunkSet {
        let mut asked = ChunkSet::default();
        for word in wanting.words.split_whitespace() {
            match chunk(word).filter(|&chunk| chunk < manifest.chunks()) {
                Some(chunk) => drop(asked.insert(chunk)),
                None => {
                    let refusal = Refusal::NoChunk { file: manifest.file.clone(), word: Text::harmless(word) };
                    self.orders.push_back(Order::Tell(Notice::Refused(refusal)));
                }
            }
        }
        if wanting.words.trim().is_empty() {
            asked = ChunkSet::first(manifest.chunks());
        } else if !asked.shared(have).is_empty() {
            self.show(Report::HaveChunks(manifest.file.clone(), asked.shared(have)));
        }
        asked.iter().filter(|&chunk| !have.contains(chunk)).collect()
    }

    pub(super) fn keep(&mut self, file: FileName, chunk: u32) {
        if let Some(ours) = self.ours.get_mut(&file) {
            ours.have.insert(chunk);
        }
        self.unsaid.entry(file.clone()).or_default().insert(chunk);
        self.chore(Chore::Keep(file, chunk));
    }

    /// The plan is at its end with a download.
    pub(super) fn ended(&mut self, summary: Summary) {
        let Summary { file, bytes, millis, from, gaps } = summary;
        // Whoever is told that something is here can count on others knowing it.
        self.announce_now();
        let Some(running) = self.running.get_mut(&file) else { return };
        running.fetched = Fetched { file: file.clone(), bytes, millis, from };
        let Some(ours) = self.ours.get(&file) else { return };
        if ours.is_whole() {
            return;
        }
        let (have, of) = (ours.have.len(), ours.manifest.chunks());
        self.chore(Chore::Leave(file.clone()));
        let Some(running) = self.running.remove(&file) else { return };
        if !gaps.is_empty() {
            self.show(Report::Gaps(file, gaps.into_iter().collect()));
        }
        self.show(Report::Part { fetched: running.fetched, have, of });
        self.done(running.line);
    }

    pub(super) fn finished(&mut self, file: &FileName, finished: Result<Digest, Trouble>) {
        let Some(mut running) = self.running.remove(file) else { return };
        running.fetched.millis = self.now - running.began;
        match finished {
            Ok(digest) => {
                if let Some(manifest) = self.ours.get(file).map(|ours| Arc::clone(&ours.manifest)) {
                    self.remember(&manifest, true);
                }
                self.show(Report::Here(running.fetched, digest));
            }
            Err(trouble) => {
                self.plan_on(download::Event::Abandon(file.clone()));
                if trouble == Trouble::WrongDigest {
                    self.ours.remove(file);
                    self.chore(Chore::Forget(file.clone()));
                    self.forget(file);
                }
                self.show(Report::Failed(file.clone(), trouble));
            }
        }
        self.done(running.line);
    }

    pub(super) fn not_written(&mut self, file: &FileName, trouble: Trouble) {
        let Some(running) = self.running.remove(file) else { return };
        self.failing.insert(file.clone(), (running.line, trouble));
        self.plan_on(download::Event::Abandon(file.clone()));
        self.chore(Chore::Leave(file.clone()));
    }

    /// Tells of downloads that could not be written, once nothing of them is being written any
    /// more: whoever reads it can begin anew at once.
    pub(super) fn tell_of_failures(&mut self) {
        let plan = &self.plan;
        let over: Vec<_> = self.failing.extract_if(.., |file, _| !plan.contains(file)).collect();
        for (file, (line, trouble)) in over {
            self.show(Report::Failed(file, trouble));
            self.done(line);
        }
    }

    /// Tells a bar how far the downloads are, but not too often.
    pub(super) fn move_bar(&mut self) {
        if !self.bar || self.now < self.told + BAR_EVERY {
            return;
        }
        self.told = self.now;
        let Some((file, _)) = self.running.first_key_value() else { return };
        if let Some((bytes, of)) = self.plan.bytes(file) {
            self.show(Report::Moved { bytes, of });
        }
    }
}

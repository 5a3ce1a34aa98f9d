//! What an earlier run has offered is offered again, once it has been found to be what it was.
//!
//! Whole files are read again, one after the other, before the server hears of them; of a part the
//! server is asked for the manifest, and what fits stays. What is gone or has changed is told, and
//! forgotten. Nothing else waits for any of this.

use std::collections::BTreeMap;

use super::{Chore, Order, Report, Sharing, Trouble};
use crate::client::state::download::{self, Manifest};
use crate::wire::chunks::Digest;
use crate::wire::control::Say;
use crate::wire::name::FileName;

/// Files that are remembered; a further one is offered in this run alone.
pub const OFFERED_MAX: usize = 256;

/// The line of what nobody has typed.
pub(super) const NO_LINE: u64 = 0;

/// A file that is offered, as later runs shall know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// What it is called.
    pub file: FileName,
    /// In how many chunks.
    pub chunks: u32,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of the whole.
    pub digest: Digest,
    /// All of it is there, under its name; else a part.
    pub whole: bool,
}

impl Offered {
    fn new(manifest: &Manifest, whole: bool) -> Self {
        let Manifest { file, bytes, digest, .. } = manifest;
        Self { file: file.clone(), chunks: manifest.chunks(), bytes: *bytes, digest: *digest, whole }
    }

    /// Whether this is the same file.
    pub(super) fn is(&self, chunks: u32, bytes: u64, digest: Digest) -> bool {
        (self.chunks, self.bytes, self.digest) == (chunks, bytes, digest)
    }
}

/// What is remembered, and how far the look at it is.
#[derive(Debug, Default)]
pub(super) struct Again {
    offered: BTreeMap<FileName, Offered>,
    to_check: Vec<FileName>,
    checking: Option<FileName>,
    found: Vec<FileName>,
}

impl Again {
    pub(super) fn get(&self, file: &FileName) -> Option<&Offered> {
        self.offered.get(file)
    }

    pub(super) fn is_checking(&self, file: &FileName) -> bool {
        self.checking.as_ref() == Some(file)
    }
}

impl Sharing {
    /// What an earlier run has offered; who fetches one file and ends does not offer it.
    pub(super) fn recall(&mut self, offered: Vec<Offered>) {
        for offered in offered.into_iter().take(OFFERED_MAX) {
            if !self.bar {
                self.again.to_check.push(offered.file.clone());
            }
            self.again.offered.entry(offered.file.clone()).or_insert(offered);
        }
        self.again.to_check.reverse();
        self.check_next();
    }

    fn check_next(&mut self) {
        while self.again.checking.is_none() {
            let Some(file) = self.again.to_check.pop() else {
                let found = std::mem::take(&mut self.again.found);
                if !found.is_empty() {
                    // Whoever is told can count on the server knowing it.
                    self.announce_now();
                    self.show(Report::Again(found));
                }
                return;
            };
            let Some(offered) = self.again.offered.get(&file) else { continue };
            // What was typed meanwhile comes first.
            if self.ours.contains_key(&file) || self.is_under_way(&file) {
                continue;
            }
            let (chunks, whole) = (offered.chunks, offered.whole);
            self.again.checking = Some(file.clone());
            if whole {
                self.read(file, None, chunks);
            } else {
                self.ask_manifest(NO_LINE, file, "");
            }
        }
    }

    /// The look at this file is over, if there was one.
    pub(super) fn checked(&mut self, file: &FileName) {
        if self.again.is_checking(file) {
            self.again.checking = None;
            self.check_next();
        }
    }

    /// The file is offered as it was.
    pub(super) fn found(&mut self, file: &FileName) {
        if self.again.is_checking(file) {
            self.again.found.push(file.clone());
        }
    }

    /// Under its name there is a whole file where a part was remembered.
    pub(super) fn check_whole(&mut self, file: &FileName) {
        if let Some(offered) = self.again.offered.get_mut(file) {
            offered.whole = true;
            self.again.to_check.push(file.clone());
        }
    }

    /// Later runs shall offer this file.
    pub(super) fn remember(&mut self, manifest: &Manifest, whole: bool) {
        let offered = Offered::new(manifest, whole);
        let has_room = self.again.offered.len() < OFFERED_MAX || self.again.offered.contains_key(&manifest.file);
        if has_room && self.again.offered.insert(manifest.file.clone(), offered.clone()) != Some(offered) {
            self.keep_offered();
        }
    }

    /// They shall not.
    pub(super) fn forget(&mut self, file: &FileName) {
        if self.again.offered.remove(file).is_some() {
            self.keep_offered();
        }
    }

    fn keep_offered(&mut self) {
        self.orders.push_back(Order::Remember(self.again.offered.values().cloned().collect()));
    }

    /// A remembered file cannot be offered. What another run may find in order stays remembered.
    pub(super) fn lose(&mut self, file: &FileName, trouble: Trouble) {
        if matches!(trouble, Trouble::NoSuchFile | Trouble::NotPlain | Trouble::Taken | Trouble::Differs) {
            self.forget(file);
        }
        self.show(Report::Withdrawn(file.clone(), trouble));
    }

    /// A file is not what it was when it was read: nobody gets it any more.
    pub(super) fn spoiled(&mut self, file: &FileName) {
        if self.ours.remove(file).is_some() {
            self.chore(Chore::Forget(file.clone()));
            self.withdraw(file);
            self.lose(file, Trouble::Differs);
        }
    }

    /// Tells the server that nothing of this file is served any more, now and after an outage.
    fn withdraw(&mut self, file: &FileName) {
        self.unsaid.remove(file);
        self.withdrawn.insert(file.clone());
        if self.online {
            self.orders.push_back(Order::Say(Say::Withdraw(Some(file.as_str())).spell()));
        }
    }

    /// What the server knows of a program that has just begun are files of an earlier one.
    pub(super) fn begin(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            self.orders.push_back(Order::Say(Say::Withdraw(None).spell()));
        }
        for file in &self.withdrawn {
            self.orders.push_back(Order::Say(Say::Withdraw(Some(file.as_str())).spell()));
        }
    }

    /// The server knows another file of this name: what is fetched is not to be had any more.
    pub(super) fn give_up(&mut self, file: &FileName) {
        self.unsaid.remove(file);
        if let Some(running) = self.running.remove(file) {
            self.plan_on(download::Event::Abandon(file.clone()));
            self.done(running.line);
        }
    }
}

//! The hands on files: does the chores that `state::sharing` gives out, and the work of
//! connections for files.
//!
//! * `file`, one per file that is read or fetched: hashes it, or finds what is there of it, then
//!   follows what comes, and gives the file its name when it is whole. It ends with that, or when
//!   the download is given up.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::files::{Folder, Stored};
use super::peers::{FileLink, FileWork};
use super::state::PeerId;
use super::state::download::Manifest;
use super::state::sharing::{Chore, Event, Trouble};
use super::transfer::{Shares, Source, serve};
use crate::clock::Clock;
use crate::wire::name::FileName;

/// Others who fetch from this client at once; one more is turned away, and asks somebody else.
const SERVED_MAX: usize = 64;

/// What the threads of all files and connections share.
#[derive(Debug)]
struct Common {
    clock: Clock,
    folder: Folder,
    shares: Shares,
    /// Files that were read, and that the server does not know yet.
    read: Shares,
    /// Where chunks can be asked for.
    sources: Mutex<HashMap<PeerId, Source>>,
    served: AtomicUsize,
    events: Sender<Event>,
}

/// All files of this client.
#[derive(Debug, Clone)]
pub(super) struct Depot(Arc<Common>);

impl Depot {
    /// Nothing is shared yet; and where the news of files will come from.
    pub(super) fn new(clock: Clock, folder: Folder) -> (Self, Receiver<Event>) {
        let (events, from_files) = unbounded();
        let (shares, read) = (Shares::default(), Shares::default());
        let (sources, served) = (Mutex::default(), AtomicUsize::new(0));
        let common = Common { clock, folder, shares, read, sources, served, events };
        (Self(Arc::new(common)), from_files)
    }

    /// What is to be done on a connection for files.
    pub(super) fn work(&self) -> FileWork {
        let common = Arc::clone(&self.0);
        Arc::new(move |link| common.work(link))
    }

    /// Where the files are.
    pub(super) fn place(&self) -> &Path {
        self.0.folder.place()
    }

    /// Names of files that can be registered.
    pub(super) fn names(&self) -> Vec<FileName> {
        // A folder that cannot be read has nothing to offer.
        self.0.folder.names().unwrap_or_default()
    }

    /// Does what the mind wants done.
    pub(super) fn do_chore(&self, chore: Chore) {
        let common = &self.0;
        match chore {
            Chore::Read(file, chunks) => {
                let failed = file.clone();
                let run = move |common: &Common| common.read(file, chunks);
                self.start(run, |error| Event::Read(failed, Err(error.into())));
            }
            Chore::Share(file) => {
                if let Some(stored) = common.read.remove(&file) {
                    common.shares.insert(stored);
                }
            }
            Chore::Discard(file) => drop(common.read.remove(&file)),
            Chore::Open(manifest) => {
                let failed = manifest.file.clone();
                let run = move |common: &Common| common.follow(&manifest, true);
                self.start(run, |error| Event::Opened(failed, Err(error.into())));
            }
            Chore::Find(manifest) => {
                let failed = manifest.file.clone();
                let run = move |common: &Common| common.follow(&manifest, false);
                self.start(run, |error| Event::Opened(failed, Err(error.into())));
            }
            Chore::Keep(file, chunk) => {
                if let Some(stored) = common.shares.get(&file) {
                    stored.keep(chunk);
                }
            }
            Chore::Leave(file) => {
                if let Some(stored) = common.shares.get(&file) {
                    stored.give_up();
                }
            }
            Chore::Forget(file) => {
                if let Some(stored) = common.shares.remove(&file) {
                    stored.give_up();
                }
            }
            Chore::Fetch(peer, file, chunk) => {
                if let (Some(source), Some(stored)) = (common.sources().get(&peer), common.shares.get(&file)) {
                    source.ask(chunk, stored);
                }
            }
        }
    }

    fn start(&self, run: impl FnOnce(&Common) + Send + 'static, failed: impl FnOnce(io::Error) -> Event) {
        let common = Arc::clone(&self.0);
        if let Err(error) = thread::Builder::new().name("file".into()).spawn(move || run(&common)) {
            self.0.report(failed(error));
        }
    }
}

impl Common {
    fn report(&self, event: Event) {
        // Without a mind the program is at its end.
        let _ = self.events.send(event);
    }

    fn read(&self, file: FileName, chunks: u32) {
        let read = self.folder.read(&file, chunks).map(|stored| {
            let manifest = Arc::clone(&stored.manifest);
            self.read.insert(Arc::new(stored));
            manifest
        });
        self.report(Event::Read(file, read));
    }

    /// From the opening of the place for a file to the name that it gets when it is whole.
    fn follow(&self, manifest: &Arc<Manifest>, create: bool) {
        let file = manifest.file.clone();
        let (stored, run) = match self.open(manifest, create) {
            Ok(opened) => opened,
            Err(trouble) => return self.report(Event::Opened(file, Err(trouble))),
        };
        self.report(Event::Opened(file.clone(), Ok(stored.chunks())));
        let finished = match stored.digest(run) {
            Ok(None) => return,
            Ok(Some(digest)) => self.folder.finish(&stored, digest).map(|()| digest),
            Err(trouble) => Err(trouble),
        };
        self.report(Event::Finished(file, finished));
    }

    /// What an earlier download in this run has left open is used again.
    fn open(&self, manifest: &Arc<Manifest>, create: bool) -> Result<(Arc<Stored>, u64), Trouble> {
        let known = self.shares.get(&manifest.file).filter(|stored| stored.manifest == *manifest);
        let stored = match known {
            Some(stored) => stored,
            None => Arc::new(self.folder.open_part(manifest, create)?),
        };
        let run = stored.begin();
        self.shares.insert(Arc::clone(&stored));
        Ok((stored, run))
    }

    fn work(&self, link: FileLink) {
        match link.peer {
            PeerId::Accepted(_) => {
                if self.served.fetch_add(1, Ordering::SeqCst) < SERVED_MAX {
                    // However it ends: who fetches notices, and asks somebody else.
                    let spoiled = |file| self.report(Event::Spoiled(file));
                    let _ = serve(&link.stream, link.reader, &self.shares, spoiled);
                }
                self.served.fetch_sub(1, Ordering::SeqCst);
            }
            PeerId::Dialled(_) => {
                let source = Source::new(Arc::clone(&link.stream));
                let fetcher = source.reader(link.peer, link.reader, self.clock);
                self.sources().insert(link.peer, source);
                self.report(Event::Linked(link.peer));
                fetcher.run(|event| {
                    if matches!(event, Event::Closed(..)) {
                        self.sources().remove(&link.peer);
                    }
                    self.report(event);
                });
            }
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<PeerId, Source>> {
        // Nothing that holds the lock can panic half-way.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

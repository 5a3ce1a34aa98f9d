//! Who holds which chunk of which file. The server knows names, sizes and hashes, never a byte of
//! what is in them.
//!
//! A file stays known until the server stops, also when nobody has it any more; who goes offline
//! is not listed, and is again when he returns. Nothing of this is on the disk. Our client says
//! what it has at every log-in, and withdraws what it has not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use super::dialogue::shown;
use super::roster::UserId;
use super::{ConnId, Effect, State};
use crate::wire::chunks::{CHUNKS_MAX, ChunkSet, Digest, HASHES_PER_LINE_MAX, chunk};
use crate::wire::command::words;
use crate::wire::control::{digests, numbers};
use crate::wire::name::{FileName, UserName};
use crate::wire::{Notice, Refusal};

/// Files the server knows; then nobody can register one more.
pub const FILES_MAX: usize = 1000;

/// Files one user may register; then he is told so.
pub const FILES_OF_ONE_USER_MAX: usize = 100;

/// Chunks of all files, 32 MiB of hashes; what does not fit is refused.
pub const CHUNKS_TOTAL_MAX: u32 = 1_048_576;

/// Chunks of the files of one user, a quarter of all; what does not fit is refused.
pub const CHUNKS_OF_ONE_USER_MAX: u32 = CHUNKS_TOTAL_MAX / 4;

/// What the lists of holders may take in memory; who would need more is not listed for what he
/// has beyond that.
pub const HOLDINGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What one holder of one file takes besides the chunks, in bytes, roughly.
const HOLDING_BYTES: usize = 128;

/// Lines of hashes sent at a time; the next follow when the socket has taken these.
const HASH_LINES_PER_PAGE: usize = 16;

/// What is looked at and sent of a list of holders at a time: a holder costs 1, a line
/// [`LINE_COST`] and its ranges.
const PAGE_COST_MAX: usize = 2048;

/// What a line about a holder costs.
const LINE_COST: usize = 16;

/// All files and who holds them.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    files: BTreeMap<FileName, File>,
    /// What users have registered or begun to.
    shares: HashMap<UserId, Share>,
    /// The same of all users.
    total: Share,
    /// Who has a chunk of any file.
    holders: HashSet<UserId>,
    /// What the holders of all files take, in bytes.
    cost: usize,
}

#[derive(Debug)]
struct File {
    head: Head,
    hashes: Vec<Digest>,
    holders: BTreeMap<UserName, Holding>,
}

/// What two files of one name must agree in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) chunks: u32,
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

#[derive(Debug)]
struct Holding {
    user: UserId,
    /// `None`: all.
    chunks: Option<ChunkSet>,
}

/// How much of the server's room is taken.
#[derive(Debug, Default)]
struct Share {
    files: usize,
    chunks: u32,
}

/// A file whose hashes are still coming; it belongs to its session.
#[derive(Debug)]
pub(super) struct Manifest {
    file: FileName,
    head: Head,
    hashes: Vec<Digest>,
    /// Who registers it has not all of it.
    part: bool,
}

/// A list of holders that is being sent.
#[derive(Debug)]
pub(super) struct Listing {
    file: FileName,
    form: Form,
    /// The next hash to be sent.
    hash: u32,
    /// The next holder, and from which chunk on.
    next: Option<(UserName, u32)>,
}

/// What is listed.
#[derive(Debug)]
enum Form {
    /// For people: everybody online with any of these chunks.
    Search(ChunkSet),
    /// For our client: the hashes, then who can be dialled.
    Want,
    /// Only who can be dialled.
    Holders,
}

impl Tracker {
    /// Whether the user has a chunk of any file.
    pub(super) fn has_any(&self, user: UserId) -> bool {
        self.holders.contains(&user)
    }

    /// Takes room for one more file.
    fn reserve(&mut self, user: UserId, chunks: u32) -> Result<(), Refusal> {
        let share = self.shares.entry(user).or_default();
        if share.files >= FILES_OF_ONE_USER_MAX {
            return Err(Refusal::OwnsTooManyFiles { max: FILES_OF_ONE_USER_MAX });
        }
        if share.chunks + chunks > CHUNKS_OF_ONE_USER_MAX {
            return Err(Refusal::OwnsTooManyChunks { max: CHUNKS_OF_ONE_USER_MAX });
        }
        if self.total.files >= FILES_MAX {
            return Err(Refusal::FilesFull { max: FILES_MAX });
        }
        if self.total.chunks + chunks > CHUNKS_TOTAL_MAX {
            return Err(Refusal::ChunksFull { max: CHUNKS_TOTAL_MAX });
        }
        for share in [share, &mut self.total] {
            share.files += 1;
            share.chunks += chunks;
        }
        Ok(())
    }

    /// Gives room back.
    pub(super) fn release(&mut self, user: UserId, manifest: &Manifest) {
        for share in self.shares.get_mut(&user).into_iter().chain([&mut self.total]) {
            share.files = share.files.saturating_sub(1);
            share.chunks = share.chunks.saturating_sub(manifest.head.chunks);
        }
    }

    /// If the file is known: whether it is this one; then the user holds all of it, or will say
    /// which part.
    fn join(&mut self, name: &FileName, head: Head, user: UserId, user_name: UserName, part: bool) -> Option<bool> {
        let is_same = self.files.get(name.as_str())?.head == head;
        if is_same && !part {
            self.hold(name.as_str(), user, user_name, None);
        }
        Some(is_same)
    }

    /// The user has these chunks from now on, or all.
    fn hold(&mut self, name: &str, user: UserId, user_name: UserName, chunks: Option<&ChunkSet>) {
        let Some(file) = self.files.get_mut(name) else { return };
        let all = ChunkSet::first(file.head.chunks);
        let had = file.holders.get(&user_name);
        let before = had.map_or(0, Holding::cost);
        let after = match (had.map(|had| &had.chunks), chunks) {
            (Some(None), _) | (_, None) => None,
            (Some(Some(had)), Some(more)) => Some(had.with(&more.shared(&all))),
            (None, Some(more)) => Some(more.shared(&all)),
        };
        let after = Holding { user, chunks: after.filter(|after| *after != all) };
        let is_nothing = after.chunks.as_ref().is_some_and(ChunkSet::is_empty);
        let cost = self.cost - before + after.cost();
        if is_nothing || (cost > HOLDINGS_BYTES_MAX && cost > self.cost) {
            return;
        }
        self.cost = cost;
        file.holders.insert(user_name, after);
        self.holders.insert(user);
    }

    /// The user has nothing of this file any more, or of any.
    fn let_go(&mut self, name: Option<&str>, user: UserId, user_name: &UserName) {
        let mut is_left = false;
        for (file, known) in &mut self.files {
            if name.is_none_or(|name| name == file.as_str()) {
                self.cost -= known.holders.remove(user_name).as_ref().map_or(0, Holding::cost);
            }
            is_left |= known.holders.contains_key(user_name);
        }
        if !is_left {
            self.holders.remove(&user);
        }
    }
}

impl Holding {
    fn cost(&self) -> usize {
        HOLDING_BYTES + self.chunks.as_ref().map_or(0, ChunkSet::cost)
    }
}

impl Listing {
    fn new(file: FileName, form: Form) -> Self {
        Self { file, form, hash: 0, next: None }
    }

    /// Whether our client asks for it again by itself after its link has died.
    pub(super) fn is_asked_again(&self) -> bool {
        !matches!(self.form, Form::Search(_))
    }

    fn line(&self, user: UserName, chunks: ChunkSet) -> Notice {
        let file = self.file.clone();
        match self.form {
            Form::Search(_) => Notice::Has { file, user, chunks },
            Form::Want | Form::Holders => Notice::Holder { file, user, chunks },
        }
    }
}

impl State {
    /// `REGISTER`: the head of a manifest. What the session had begun before is dropped.
    pub(super) fn register(&mut self, conn: ConnId, user: UserId, word: &str, head: Head, part: bool) {
        self.drop_manifest(conn, user);
        let Some(file) = self.file_name(conn, word) else { return };
        let chunks = head.chunks;
        if chunks == 0 {
            return self.refuse(conn, Refusal::BadManifest(file));
        }
        if chunks > CHUNKS_MAX {
            return self.refuse(conn, Refusal::TooManyChunks { max: CHUNKS_MAX });
        }
        if let Some(same) = self.tracker.join(&file, head, user, self.roster[user].name.clone(), part) {
            return self.refuse(conn, Refusal::AlreadyRegistered { file, same });
        }
        match self.tracker.reserve(user, chunks) {
            Err(refusal) => self.refuse(conn, refusal),
            Ok(()) => {
                let manifest = Manifest { file, head, hashes: Vec::new(), part };
                if let Some(visit) = self.visit(conn) {
                    visit.manifest = Some(Box::new(manifest));
                }
            }
        }
    }

    /// `CHUNK-HASH`: the next hashes of what was begun; with the last one the file is known.
    pub(super) fn take_hashes(&mut self, conn: ConnId, user: UserId, first: u32, words: &str) {
        // A refused head has been answered already.
        let Some(mut manifest) = self.visit(conn).and_then(|visit| visit.manifest.take()) else { return };
        let is_next = usize::try_from(first) == Ok(manifest.hashes.len());
        manifest.hashes.extend(digests(words));
        let missing = u64::from(manifest.head.chunks).checked_sub(manifest.hashes.len() as u64).filter(|_| is_next);
        match missing {
            None => {
                self.tracker.release(user, &manifest);
                self.refuse(conn, Refusal::BadManifest(manifest.file));
            }
            Some(0) => self.registered(conn, user, *manifest),
            Some(_) => {
                if let Some(visit) = self.visit(conn) {
                    visit.manifest = Some(manifest);
                }
            }
        }
    }

    fn registered(&mut self, conn: ConnId, user: UserId, manifest: Manifest) {
        let user_name = self.roster[user].name.clone();
        // Somebody else may have been faster.
        let Manifest { part, head, .. } = manifest;
        if let Some(same) = self.tracker.join(&manifest.file, head, user, user_name.clone(), part) {
            self.tracker.release(user, &manifest);
            return self.refuse(conn, Refusal::AlreadyRegistered { file: manifest.file, same });
        }
        let Manifest { file, mut hashes, .. } = manifest;
        hashes.shrink_to_fit();
        self.tracker.files.insert(file.clone(), File { head, hashes, holders: BTreeMap::new() });
        if !part {
            self.tracker.hold(file.as_str(), user, user_name, None);
        }
        self.send(conn, Notice::Registered { file, chunks: head.chunks });
    }

    /// What a session has begun to register ends with it.
    pub(super) fn drop_manifest(&mut self, conn: ConnId, user: UserId) {
        if let Some(manifest) = self.visit(conn).and_then(|visit| visit.manifest.take()) {
            self.tracker.release(user, &manifest);
        }
    }

    /// `HAVE`: chunks that were checked and are served. What is not known is not listed; this has
    /// no answer.
    pub(super) fn have(&mut self, user: UserId, file: &str, words: &str) {
        let chunks: ChunkSet = numbers(words).collect();
        let name = self.roster[user].name.clone();
        self.tracker.hold(file, user, name, Some(&chunks));
    }

    /// `WITHDRAW`: of what a program says that it does not serve it, nobody shall ask it in vain.
    pub(super) fn withdraw(&mut self, conn: ConnId, user: UserId, file: Option<&str>) {
        // Most who log in have nothing to withdraw: that must not cost a look at every file.
        if !self.tracker.has_any(user) {
            return;
        }
        self.charge_receivers(conn, self.tracker.files.len());
        let name = self.roster[user].name.clone();
        self.tracker.let_go(file, user, &name);
    }

    /// `searchFile <file>`
    pub(super) fn search_file(&mut self, conn: ConnId, asker: UserId, word: &str) {
        let Some(file) = self.known_file(conn, word) else { return };
        let all = ChunkSet::first(self.tracker.files.get(file.as_str()).map_or(0, |file| file.head.chunks));
        self.search(conn, asker, file, all, false);
    }

    /// `searchChunk <file> <chunk...>`
    pub(super) fn search_chunk(&mut self, conn: ConnId, asker: UserId, word: &str, chunks: &str) {
        let Some(file) = self.known_file(conn, word) else { return };
        let count = self.tracker.files.get(file.as_str()).map_or(0, |file| file.head.chunks);
        let mut sought = ChunkSet::default();
        for word in words(chunks) {
            let Some(chunk) = chunk(word).filter(|&chunk| chunk < count) else {
                return self.refuse(conn, Refusal::NoChunk { file, word: shown(word) });
            };
            sought.insert(chunk);
        }
        self.search(conn, asker, file, sought, true);
    }

    fn search(&mut self, conn: ConnId, asker: UserId, name: FileName, sought: ChunkSet, of_chunks: bool) {
        let Some(file) = self.tracker.files.get(name.as_str()) else { return };
        let form = Form::Search(sought);
        let is_found = file.holders.values().any(|holding| !self.offered(file, holding, asker, &form).is_empty());
        let (head, seen) = (file.head, file.holders.len());
        self.charge_receivers(conn, seen);
        if !is_found {
            return self.send(conn, Notice::NotAvailable { file: name, of_chunks });
        }
        self.send(conn, Notice::Available { file: name.clone(), bytes: head.bytes, chunks: head.chunks });
        self.list(conn, asker, Listing::new(name, form));
    }

    /// `WANT`: all that a download needs to know.
    pub(super) fn want(&mut self, conn: ConnId, asker: UserId, word: &str) {
        let Some(name) = self.known_file(conn, word) else { return };
        let Some(file) = self.tracker.files.get(name.as_str()) else { return };
        let (Head { chunks, bytes, digest }, seen) = (file.head, file.holders.len() + file.hashes.len() / 64);
        self.charge_receivers(conn, seen);
        self.send(conn, Notice::Manifest { file: name.clone(), chunks, bytes, digest });
        self.list(conn, asker, Listing::new(name, Form::Want));
    }

    /// `HOLDERS`: how things stand now.
    pub(super) fn holders(&mut self, conn: ConnId, asker: UserId, word: &str) {
        let Some(name) = self.known_file(conn, word) else { return };
        let seen = self.tracker.files.get(name.as_str()).map_or(0, |file| file.holders.len());
        self.charge_receivers(conn, seen);
        self.list(conn, asker, Listing::new(name, Form::Holders));
    }

    fn file_name(&mut self, conn: ConnId, word: &str) -> Option<FileName> {
        let name = FileName::parse(word);
        if name.is_none() {
            self.refuse(conn, Refusal::BadFileName);
        }
        name
    }

    fn known_file(&mut self, conn: ConnId, word: &str) -> Option<FileName> {
        let name = self.file_name(conn, word)?;
        if self.tracker.files.contains_key(name.as_str()) {
            return Some(name);
        }
        self.refuse(conn, Refusal::NotRegistered(name));
        None
    }

    /// Sends the first page of a list; no command is heard before the last one.
    fn list(&mut self, conn: ConnId, asker: UserId, listing: Listing) {
        if self.send_listed(conn, asker, listing) {
            self.effects.push(Effect::Pause(conn));
            self.queue(conn);
        }
    }

    /// Sends the next page of a list, if one is being sent.
    pub(super) fn list_on(&mut self, conn: ConnId) -> bool {
        let Some(visit) = self.visit(conn) else { return false };
        let (user, Some(listing)) = (visit.user, visit.listing.take()) else { return false };
        self.send_listed(conn, user, *listing);
        true
    }

    /// Sends a page; whether there are more.
    fn send_listed(&mut self, conn: ConnId, asker: UserId, mut listing: Listing) -> bool {
        let (page, is_last) = self.page(asker, &mut listing);
        page.into_iter().for_each(|notice| self.send(conn, notice));
        if !is_last && let Some(visit) = self.visit(conn) {
            visit.listing = Some(Box::new(listing));
        }
        !is_last
    }

    /// The next lines of a list, and whether it ends with them.
    fn page(&self, asker: UserId, listing: &mut Listing) -> (Vec<Notice>, bool) {
        let Some(file) = self.tracker.files.get(listing.file.as_str()) else { return (Vec::new(), true) };
        let mut page = Vec::new();
        if matches!(listing.form, Form::Want) {
            let from = usize::try_from(listing.hash).unwrap_or(usize::MAX);
            let rest = file.hashes.get(from..).unwrap_or_default();
            for hashes in rest.chunks(HASHES_PER_LINE_MAX).take(HASH_LINES_PER_PAGE) {
                let (file, first) = (listing.file.clone(), listing.hash);
                page.push(Notice::ChunkHashes { file, first, hashes: hashes.to_vec() });
                listing.hash += u32::try_from(hashes.len()).unwrap_or(CHUNKS_MAX);
            }
            if !page.is_empty() {
                return (page, false);
            }
        }
        let is_last = self.list_holders(asker, file, listing, &mut page);
        match listing.form {
            Form::Want if is_last => page.push(Notice::ManifestEnd(listing.file.clone())),
            Form::Holders if is_last => page.push(Notice::HoldersEnd(listing.file.clone())),
            _ => {}
        }
        (page, is_last)
    }

    /// Adds holders from the next one on, until the page is full; whether these were the last.
    fn list_holders(&self, asker: UserId, file: &File, listing: &mut Listing, page: &mut Vec<Notice>) -> bool {
        let (begin, mut within) = match listing.next.take() {
            Some((name, chunk)) => (Bound::Included(name), chunk),
            None => (Bound::Unbounded, 0),
        };
        let mut cost = 0;
        for (name, holding) in file.holders.range((begin, Bound::Unbounded)) {
            cost += 1;
            let offered = self.offered(file, holding, asker, &listing.form);
            let mut from = Some(std::mem::take(&mut within)).filter(|_| !offered.is_empty());
            while let Some(at) = from {
                if cost > PAGE_COST_MAX {
                    listing.next = Some((name.clone(), at));
                    return false;
                }
                let (part, next) = offered.part(at);
                cost += LINE_COST + part.ranges(0).count();
                page.push(listing.line(name.clone(), part));
                from = next;
            }
        }
        true
    }

    /// The chunks for which a holder stands in a list.
    fn offered(&self, file: &File, holding: &Holding, asker: UserId, form: &Form) -> ChunkSet {
        let user = holding.user;
        let is_listed = self.roster[user].session.is_some()
            && match form {
                // UNSW: only who fetches is kept from those who block him.
                Form::Search(_) => !self.is_hidden(user, asker),
                Form::Want | Form::Holders => {
                    user != asker && !self.roster[user].blocks.contains(&asker) && self.line_address(user).is_some()
                }
            };
        match (is_listed, &holding.chunks, form) {
            (false, ..) => ChunkSet::default(),
            (true, Some(chunks), Form::Search(sought)) => chunks.shared(sought),
            (true, None, Form::Search(sought)) => sought.clone(),
            (true, Some(chunks), Form::Want | Form::Holders) => chunks.clone(),
            (true, None, Form::Want | Form::Holders) => ChunkSet::first(file.head.chunks),
        }
    }
}

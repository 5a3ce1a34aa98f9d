//! Files on the disk: one folder, plain names in it, chunks at their places.
//!
//! A name is one that [`FileName`] allows, and it is opened within the folder: never through a
//! symbolic link, and only if it is a plain file, for which nobody has to wait. What is fetched
//! is written to `<name>.part`, and gets its name when all of it is there, has its hash and is on
//! the disk. A name that is taken is left alone.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, fstatvfs, linkat, open, openat, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::state::download::Manifest;
use super::state::sharing::Trouble;
use crate::wire::chunks::{ChunkSet, Digest, span};
use crate::wire::name::FileName;

/// Read from the disk at once, in bytes: what is hashed stays in the cache of the processor.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// Written to the disk at once while a file comes, in bytes.
const SYNC_BYTES: u64 = 64 << 20;

/// Behind the name of a file that is not whole yet.
const PART: &str = ".part";

/// Where all files of this client are.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
    /// The same for two runs in the same folder.
    place: PathBuf,
}

/// A file of which chunks are there: a whole one, or one that is being fetched.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) file: File,
    pub(super) manifest: Arc<Manifest>,
    /// What a whole file looked like when it was read.
    stamp: Option<Stamp>,
    have: Mutex<Have>,
    more: Condvar,
}

#[derive(Debug)]
struct Have {
    chunks: ChunkSet,
    /// Counts the downloads of it, begun and given up.
    run: u64,
}

/// What changes when a file is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
}

impl Folder {
    /// The folder at this path; fails if there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(Self { handle: open(path, flags, Mode::empty())?, place })
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Reads a file once, for the hashes of its chunks and of the whole.
    pub(super) fn read(&self, name: &FileName, chunks: u32) -> Result<Stored, Trouble> {
        let file = self.open_plain(name.as_str(), OFlags::RDONLY)?;
        let stamp = Stamp::of(&file)?;
        let mut whole = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut hashes = Vec::new();
        for chunk in 0..chunks {
            let mut one = Sha256::new();
            read_span(&file, span(stamp.bytes, chunks, chunk), &mut buffer, |bytes| {
                one.update(bytes);
                whole.update(bytes);
            })?;
            hashes.push(Digest(one.finalize().into()));
        }
        if Stamp::of(&file)? != stamp {
            return Err(Trouble::Changed);
        }
        let digest = Digest(whole.finalize().into());
        let manifest = Arc::new(Manifest { file: name.clone(), bytes: stamp.bytes, digest, hashes });
        Ok(Stored::new(file, manifest, Some(stamp), ChunkSet::first(chunks)))
    }

    /// Opens the place for a file that is to be fetched; with `create` also if there is none. What
    /// an earlier run has left there is read, and what has the right hash stays.
    pub(super) fn open_part(&self, manifest: &Arc<Manifest>, create: bool) -> Result<Stored, Trouble> {
        self.check_free(manifest)?;
        let create = if create { OFlags::CREATE } else { OFlags::empty() };
        let file = self.open_plain(&part(&manifest.file), OFlags::RDWR | create)?;
        file.try_lock().map_err(|_| Trouble::InUse)?;
        let old = file.metadata()?.len();
        let have = if old == 0 { ChunkSet::default() } else { right_chunks(&file, old, manifest)? };
        let there: u64 = have.iter().map(|chunk| manifest.size(chunk)).sum();
        let room = fstatvfs(&file).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)).unwrap_or(u64::MAX);
        if room < manifest.bytes - there && old == 0 {
            self.remove_part(&manifest.file);
            return Err(Trouble::NoRoom { bytes: manifest.bytes, room });
        }
        file.set_len(manifest.bytes)?;
        Ok(Stored::new(file, Arc::clone(manifest), None, have))
    }

    /// Gives a file its name that is whole: its bytes are on the disk before, its name after.
    pub(super) fn finish(&self, stored: &Stored, digest: Digest) -> Result<(), Trouble> {
        let name = &stored.manifest.file;
        if digest != stored.manifest.digest {
            self.remove_part(name);
            return Err(Trouble::WrongDigest);
        }
        stored.file.sync_all()?;
        self.rename(&part(name), name.as_str())?;
        rustix::fs::fsync(&self.handle).map_err(io::Error::from)?;
        Ok(())
    }

    /// Names that can be registered.
    pub(super) fn names(&self) -> io::Result<Vec<FileName>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle)? {
            let entry = entry?;
            let is_plain =
                matches!(entry.file_type(), rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown);
            let name = entry.file_name().to_str().ok().and_then(FileName::parse);
            names.extend(name.filter(|_| is_plain));
        }
        Ok(names)
    }

    /// An error if the name is taken, by the same file or by something else.
    fn check_free(&self, manifest: &Manifest) -> Result<(), Trouble> {
        match statat(&self.handle, manifest.file.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
            Ok(_) => {}
        }
        let Ok(file) = self.open_plain(manifest.file.as_str(), OFlags::RDONLY) else { return Err(Trouble::Taken) };
        let bytes = file.metadata()?.len();
        if bytes != manifest.bytes {
            return Err(Trouble::Taken);
        }
        let mut whole = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        read_span(&file, 0..bytes, &mut buffer, |bytes| whole.update(bytes))?;
        let is_same = Digest(whole.finalize().into()) == manifest.digest;
        Err(if is_same { Trouble::HaveAll } else { Trouble::Taken })
    }

    fn open_plain(&self, name: &str, flags: OFlags) -> Result<File, Trouble> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(&self.handle, name, flags, Mode::from_raw_mode(0o666)) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Err(Trouble::NoSuchFile),
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(Trouble::NotPlain),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(Trouble::NotPlain) }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Trouble> {
        let folder = &self.handle;
        let renamed = match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // Not every file system can do that, but a link never replaces anything either.
            Err(Errno::INVAL | Errno::NOSYS) => linkat(folder, from, folder, to, AtFlags::empty())
                .and_then(|()| unlinkat(folder, from, AtFlags::empty())),
            other => other,
        };
        match renamed {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Trouble::Taken),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    fn remove_part(&self, name: &FileName) {
        // What cannot be removed is found again by the next download, and replaced.
        let _ = unlinkat(&self.handle, part(name), AtFlags::empty());
    }
}

impl Stored {
    fn new(file: File, manifest: Arc<Manifest>, stamp: Option<Stamp>, chunks: ChunkSet) -> Self {
        Self { file, manifest, stamp, have: Mutex::new(Have { chunks, run: 0 }), more: Condvar::new() }
    }

    /// The chunks that are there and right.
    pub(super) fn chunks(&self) -> ChunkSet {
        self.have().chunks.clone()
    }

    /// Whether a chunk is there.
    pub(super) fn has(&self, chunk: u32) -> bool {
        self.have().chunks.contains(chunk)
    }

    /// Whether a whole file is what it was when it was read; else nothing of it can be given to others.
    pub(super) fn is_unchanged(&self) -> bool {
        self.stamp.is_none_or(|stamp| Stamp::of(&self.file).is_ok_and(|now| now == stamp))
    }

    /// A chunk has proved to be right.
    pub(super) fn keep(&self, chunk: u32) {
        self.have().chunks.insert(chunk);
        self.more.notify_all();
    }

    /// Writes a part of a chunk that was asked for.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// More is going to come. Returns the number of this download, for [`Self::digest`].
    pub(super) fn begin(&self) -> u64 {
        let mut have = self.have();
        have.run += 1;
        have.run
    }

    /// Nothing more will come: [`Self::digest`] gives up.
    pub(super) fn give_up(&self) {
        self.begin();
        self.more.notify_all();
    }

    /// The hash of the whole, read as it comes; nothing if download number `run` is given up.
    pub(super) fn digest(&self, run: u64) -> Result<Option<Digest>, Trouble> {
        if let [only] = &self.manifest.hashes[..] {
            return Ok(self.wait_for(0, run).then_some(*only));
        }
        let mut whole = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        let mut synced = 0;
        for chunk in 0..self.manifest.chunks() {
            if !self.wait_for(chunk, run) {
                return Ok(None);
            }
            let place = self.manifest.place(chunk);
            let end = place.end;
            read_span(&self.file, place, &mut buffer, |bytes| whole.update(bytes))?;
            // The disk works while more comes, instead of at the end.
            if end >= synced + SYNC_BYTES {
                self.file.sync_data()?;
                synced = end;
            }
        }
        Ok(Some(Digest(whole.finalize().into())))
    }

    fn wait_for(&self, chunk: u32, run: u64) -> bool {
        let mut have = self.have();
        while !have.chunks.contains(chunk) && have.run == run {
            have = self.more.wait(have).unwrap_or_else(PoisonError::into_inner);
        }
        have.chunks.contains(chunk) && have.run == run
    }

    fn have(&self) -> MutexGuard<'_, Have> {
        // Nothing that holds the lock can panic half-way.
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { bytes: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) })
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull,
            ErrorKind::UnexpectedEof => Self::Changed,
            _ => Self::Disk(error.to_string()),
        }
    }
}

fn part(name: &FileName) -> String {
    format!("{name}{PART}")
}

/// Which chunks of an earlier run are right. Places where nothing was ever written are not read.
fn right_chunks(file: &File, bytes: u64, manifest: &Manifest) -> Result<ChunkSet, Trouble> {
    let mut right = ChunkSet::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut data = 0;
    for (chunk, hash) in (0..).zip(&manifest.hashes) {
        let place = manifest.place(chunk);
        if place.end > bytes {
            break;
        }
        if place.end > data && !place.is_empty() {
            data = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(place.start)) {
                Ok(at) if at >= place.end => continue,
                Err(Errno::NXIO) => break,
                // This file system cannot tell.
                _ => place.end,
            };
        }
        let mut one = Sha256::new();
        read_span(file, place, &mut buffer, |bytes| one.update(bytes))?;
        if *hash == Digest(one.finalize().into()) {
            right.insert(chunk);
        }
    }
    Ok(right)
}

/// Reads a part of a file, piece by piece.
fn read_span(
    file: &File,
    span: std::ops::Range<u64>,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut at = span.start;
    while at < span.end {
        let wanted = usize::try_from(span.end - at).unwrap_or(usize::MAX).min(buffer.len());
        match file.read_at(&mut buffer[..wanted], at) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                take(&buffer[..count]);
                at += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    fn name(name: &str) -> FileName {
        FileName::parse(name).expect("a name")
    }

    fn bytes(count: u32) -> Vec<u8> {
        (0..count).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    /// A folder with `a.bin` in it, and the manifest of that.
    fn with_file(count: u32, chunks: u32) -> (tempfile::TempDir, Arc<Manifest>) {
        let place = tempfile::tempdir().expect("a folder");
        fs::write(place.path().join("a.bin"), bytes(count)).expect("written");
        let stored = Folder::open(place.path()).expect("there").read(&name("a.bin"), chunks).expect("read");
        (place, Arc::clone(&stored.manifest))
    }

    /// Another folder, empty.
    fn empty() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(place.path()).expect("there");
        (place, folder)
    }

    fn copy(stored: &Stored, chunk: u32, from: &[u8]) {
        let place = stored.manifest.place(chunk);
        stored.write(place.start, &from[place.start as usize..place.end as usize]).expect("written");
    }

    fn names_in(place: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(place.path()).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    }

    #[test]
    fn a_manifest_has_the_hashes_of_all_chunks_and_of_the_whole() {
        for (count, chunks) in [(1_000_000, 10), (10, 10), (3, 10), (0, 4), (1, 1)] {
            let (_place, manifest) = with_file(count, chunks);
            let all = bytes(count);
            assert_eq!(manifest.digest, Digest(Sha256::digest(&all).into()));
            assert_eq!((manifest.bytes, manifest.chunks()), (u64::from(count), chunks));
            for (chunk, hash) in (0..).zip(&manifest.hashes) {
                let place = manifest.place(chunk);
                assert_eq!(*hash, Digest(Sha256::digest(&all[place.start as usize..place.end as usize]).into()));
            }
        }
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole() {
        let (_from, manifest) = with_file(100_000, 7);
        let (place, folder) = empty();
        let stored = folder.open_part(&manifest, true).expect("opened");
        let all = bytes(100_000);
        for chunk in [3, 1, 0, 6, 5, 4] {
            copy(&stored, chunk, &all);
            stored.keep(chunk);
        }
        assert_eq!(names_in(&place), ["a.bin.part"]);
        let run = stored.begin();
        std::thread::scope(|scope| {
            let digest = scope.spawn(|| stored.digest(run));
            copy(&stored, 2, &all);
            stored.keep(2);
            let digest = digest.join().expect("no panic").expect("read").expect("all came");
            folder.finish(&stored, digest).expect("finished");
        });
        assert_eq!(names_in(&place), ["a.bin"]);
        assert_eq!(fs::read(place.path().join("a.bin")).expect("there"), all);
        assert_eq!(folder.open_part(&manifest, true).err(), Some(Trouble::HaveAll));
        assert!((0..7).all(|chunk| stored.has(chunk)), "it goes on giving");
    }

    #[test]
    fn what_an_earlier_run_has_left_is_checked() {
        let (_from, manifest) = with_file(100_000, 10);
        let (place, folder) = empty();
        let all = bytes(100_000);
        let first = folder.open_part(&manifest, true).expect("opened");
        [2, 3, 9].iter().for_each(|&chunk| copy(&first, chunk, &all));
        first.write(manifest.place(3).start + 7, b"oops").expect("written");
        assert_eq!(folder.open_part(&manifest, true).err(), Some(Trouble::InUse));
        drop(first);
        let second = folder.open_part(&manifest, true).expect("opened again");
        assert_eq!(second.chunks(), [2, 9].into_iter().collect());
        drop(second);
        // Longer than it should be, and with other bytes in front.
        let longer = [vec![1; 5], all.clone(), vec![7; 5000]].concat();
        fs::write(place.path().join("a.bin.part"), longer).expect("written");
        let third = folder.open_part(&manifest, true).expect("opened again");
        assert!(third.chunks().is_empty());
        assert_eq!(third.file.metadata().expect("open").len(), 100_000);
        drop(third);
        fs::write(place.path().join("a.bin.part"), &all[..25_000]).expect("written");
        assert_eq!(folder.open_part(&manifest, true).expect("opened").chunks(), ChunkSet::first(2));
    }

    #[test]
    fn nothing_is_ever_overwritten() {
        let (_from, manifest) = with_file(1000, 1);
        let (place, folder) = empty();
        let path = place.path().join("a.bin");
        let stored = folder.open_part(&manifest, true).expect("opened");
        copy(&stored, 0, &bytes(1000));
        fs::write(&path, "mine").expect("written");
        assert_eq!(folder.finish(&stored, manifest.digest), Err(Trouble::Taken));
        assert_eq!(folder.open_part(&manifest, true).err(), Some(Trouble::Taken));
        assert_eq!(fs::read(&path).expect("there"), b"mine");
        fs::remove_file(&path).expect("removed");
        symlink("/nowhere/at/all", &path).expect("linked");
        assert_eq!(folder.finish(&stored, manifest.digest), Err(Trouble::Taken));
        assert_eq!(folder.open_part(&manifest, true).err(), Some(Trouble::Taken));
        assert_eq!(folder.finish(&stored, Digest([0; 32])), Err(Trouble::WrongDigest));
        assert_eq!(names_in(&place), ["a.bin"], "what is wrong does not stay");
    }

    #[test]
    fn only_plain_files_in_the_folder_itself_are_opened() {
        let (_from, manifest) = with_file(1000, 1);
        let (place, folder) = empty();
        let outside = tempfile::NamedTempFile::new().expect("a file");
        fs::write(outside.path(), "secret").expect("written");
        let path = |name: &str| place.path().join(name);
        symlink(outside.path(), path("link")).expect("linked");
        symlink(outside.path(), path("a.bin.part")).expect("linked");
        symlink(place.path(), path("up")).expect("linked");
        fs::create_dir(path("folder")).expect("made");
        // Nobody writes into it: who opened it and waited would wait for ever.
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("made");
        for odd in ["link", "up", "folder", "pipe"] {
            assert_eq!(folder.read(&name(odd), 1).err(), Some(Trouble::NotPlain), "{odd}");
        }
        assert_eq!(folder.read(&name("gone"), 1).err(), Some(Trouble::NoSuchFile));
        assert_eq!(folder.open_part(&manifest, true).err(), Some(Trouble::NotPlain));
        assert_eq!(fs::read(outside.path()).expect("there"), b"secret");
        assert_eq!(folder.names().expect("listed"), []);
    }

    #[test]
    fn a_file_that_has_changed_is_not_given_any_more() {
        let (place, _) = with_file(1000, 2);
        let folder = Folder::open(place.path()).expect("there");
        let stored = folder.read(&name("a.bin"), 2).expect("read");
        assert!(stored.has(1) && !stored.has(2) && stored.is_unchanged());
        fs::write(place.path().join("a.bin"), "short").expect("written");
        assert!(!stored.is_unchanged());
    }

    #[test]
    fn a_file_larger_than_the_disk_is_refused_at_once() {
        let (place, folder) = empty();
        let manifest =
            Manifest { file: name("a"), bytes: 1 << 60, digest: Digest([0; 32]), hashes: vec![Digest([0; 32])] };
        let refused = folder.open_part(&Arc::new(manifest), true).err();
        assert!(matches!(refused, Some(Trouble::NoRoom { bytes, .. }) if bytes == 1 << 60), "{refused:?}");
        assert!(names_in(&place).is_empty());
    }
}

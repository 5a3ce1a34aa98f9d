//! Which chunk, and from whom.

use std::collections::VecDeque;

use super::{Download, HOLDERS_MAX, Link, Order, Peer, Plan, Task, WINDOW_BYTES_MAX, WINDOW_CHUNKS_MAX};
use crate::wire::chunks::ChunkSet;
use crate::wire::name::{FileName, UserName};

impl Plan {
    /// Gives out chunks until every holder has as many on their way as he may have. The downloads
    /// take turns.
    pub(super) fn give_out(&mut self) {
        loop {
            let files: Vec<FileName> = self.downloads.keys().cloned().collect();
            let turn = files.partition_point(|file| Some(file) <= self.last.as_ref());
            let in_turn = files[turn..].iter().chain(&files[..turn]);
            let Some(file) = in_turn.into_iter().find(|file| self.give_one(file)) else { return };
            self.last = Some(file.clone());
        }
    }

    /// Gives out the rarest chunk of a file that somebody has room for.
    fn give_one(&mut self, file: &FileName) -> bool {
        let roll = self.roll();
        let Some(download) = self.downloads.get(file) else { return false };
        let has_slot = self.peers.len() < HOLDERS_MAX;
        let mut able: Vec<&UserName> = Vec::new();
        for (user, offer) in &download.offers {
            let has_room = self.peers.get(user).map_or(has_slot, Peer::has_room);
            if offer.left > 0 && has_room {
                able.push(user);
            }
        }
        let free = if able.is_empty() { &[] } else { &download.queue[download.cursor..] };
        let chunk = free.iter().copied().find(|&chunk| {
            download.is_free(chunk) && able.iter().any(|user| download.offers[*user].chunks.contains(chunk))
        });
        let Some(chunk) = chunk else {
            self.make_room(file);
            return false;
        };
        able.retain(|user| download.offers[*user].chunks.contains(chunk));
        let load = |user: &UserName| self.peers.get(user).map_or(0, |peer| peer.tasks.len());
        let least = able.iter().map(|user| load(user)).min().unwrap_or(0);
        able.retain(|user| load(user) == least);
        let at = usize::try_from(roll % able.len().max(1) as u64).unwrap_or(0);
        let Some(user) = able.get(at).map(|user| (*user).clone()) else { return false };
        self.give(user, file, chunk);
        true
    }

    fn give(&mut self, user: UserName, file: &FileName, chunk: u32) {
        let Some(download) = self.downloads.get_mut(file) else { return };
        download.take(chunk);
        let task = Task { file: file.clone(), chunk, bytes: download.manifest.size(chunk) };
        let peer = self.peers.entry(user.clone()).or_insert_with(|| {
            self.orders.push(Order::Dial(user.clone()));
            Peer { link: Link::Dialling, tasks: VecDeque::new(), since: self.now, moved: 0, partial: 0 }
        });
        if peer.link == Link::Open {
            if peer.tasks.is_empty() {
                (peer.since, peer.moved) = (self.now, 0);
            }
            self.orders.push(Order::Fetch(user, file.clone(), chunk));
        }
        peer.tasks.push_back(task);
    }

    /// If a holder waits only because too many others are connected: closes an idle one.
    fn make_room(&mut self, file: &FileName) {
        let Some(download) = self.downloads.get(file) else { return };
        let waits = download.offers.iter().any(|(user, offer)| offer.left > 0 && !self.peers.contains_key(user));
        if !waits || self.peers.len() < HOLDERS_MAX || self.peers.values().any(|peer| peer.link == Link::Closing) {
            return;
        }
        let idle = self.peers.iter().find(|(_, peer)| peer.link == Link::Open && peer.tasks.is_empty());
        if let Some(user) = idle.map(|(user, _)| user.clone()) {
            self.hang_up(&user);
        }
    }
}

impl Peer {
    fn has_room(&self) -> bool {
        let bytes: u64 = self.tasks.iter().map(|task| task.bytes).sum();
        let is_there = matches!(self.link, Link::Dialling | Link::Open);
        is_there && (self.tasks.len() < 2 || (self.tasks.len() < WINDOW_CHUNKS_MAX && bytes < WINDOW_BYTES_MAX))
    }
}

impl Download {
    /// Wanted, and nobody was asked for it.
    fn is_free(&self, chunk: u32) -> bool {
        self.wanted.contains(chunk) && !self.taken.contains(chunk)
    }

    fn take(&mut self, chunk: u32) {
        self.taken.insert(chunk);
        let with_it = self.offers.values_mut().filter(|offer| offer.chunks.contains(chunk));
        with_it.for_each(|offer| offer.left -= 1);
        while self.queue.get(self.cursor).is_some_and(|&chunk| !self.is_free(chunk)) {
            self.cursor += 1;
        }
    }

    pub(super) fn give_back(&mut self, chunk: u32) {
        if !self.taken.remove(chunk) || !self.wanted.contains(chunk) {
            return;
        }
        let with_it = self.offers.values_mut().filter(|offer| offer.chunks.contains(chunk));
        with_it.for_each(|offer| offer.left += 1);
        self.cursor = 0;
    }

    /// Puts the rarest chunks first. Chunks that are equally rare are mixed if others download too,
    /// so that they get different ones and can give them to each other; else they stay in order,
    /// and the disks of both sides read and write along the file.
    pub(super) fn line_up(&mut self, dice: &mut u64) {
        let of = self.manifest.chunks();
        let mut rarity = vec![0u32; of as usize];
        let free: ChunkSet = self.wanted.iter().filter(|&chunk| !self.taken.contains(chunk)).collect();
        for offer in self.offers.values_mut() {
            offer.left = offer.chunks.shared(&free).len();
            offer.chunks.iter().for_each(|chunk| rarity[chunk as usize] += 1);
        }
        self.queue = self.wanted.iter().collect();
        if self.offers.values().any(|offer| offer.chunks.len() < of) {
            mix(&mut self.queue, dice);
        }
        self.queue.sort_by_key(|&chunk| rarity[chunk as usize]);
        self.cursor = 0;
    }
}

/// Fisher and Yates, by a linear congruence.
fn mix(chunks: &mut [u32], dice: &mut u64) {
    for at in (1..chunks.len()).rev() {
        *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from((*dice >> 33) % (at as u64 + 1)).unwrap_or(at);
        chunks.swap(at, other);
    }
}

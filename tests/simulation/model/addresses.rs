//! Who may learn where a framed user listens: asked, allowed, declined; and who is told when he
//! listens somewhere else. Kept in memory alone.

use chinwag::server::ids::ConnId;
use chinwag::wire::framed::Answer;
use chinwag::wire::{Notice, Refusal};

use super::reach::Rule;
use super::{Expected, Model, UserId, repeated};

/// What was asked and not answered, and who may know.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Who was asked, who asks, and whether that one has left since.
    requests: Vec<(UserId, UserId, bool)>,
    /// Who has allowed whom.
    allowed: Vec<(UserId, UserId)>,
}

impl Model {
    /// Who waits for an answer of this user.
    pub(crate) fn asker_of(&self, name: &str) -> Option<&str> {
        let user = self.find(name)?;
        let (_, asker, _) = self.addresses.requests.iter().find(|(asked, ..)| *asked == user)?;
        Some(self.users[*asker].name.as_str())
    }

    /// Where somebody can be reached by others: framed users by framed users.
    fn address(&self, user: UserId) -> Option<std::net::SocketAddr> {
        let post = self.session(self.users[user].conn?)?.post?;
        Some(post.at.into())
    }

    pub(super) fn get_address(&mut self, asker: UserId, word: &str) -> Answer {
        let may_ask = |user: &UserId| *user != asker && !self.users[*user].blocks.contains(&asker);
        let Some(user) = self.find(word).filter(may_ask).filter(|user| self.address(*user).is_some()) else {
            return Answer::Fail;
        };
        if self.addresses.allowed.contains(&(user, asker)) {
            self.give_address(asker, user);
            return Answer::Okay;
        }
        let requests = &mut self.addresses.requests;
        if !requests.contains(&(user, asker, false)) {
            requests.retain(|(asked, by, _)| (*asked, *by) != (user, asker));
            requests.push((user, asker, false));
            self.tell(user, Notice::AsksAddress(self.name(asker)));
        }
        Answer::Okay
    }

    fn tell(&mut self, user: UserId, notice: Notice) {
        if let Some(id) = self.users[user].conn {
            self.say(id, notice);
        }
    }

    /// Tells somebody where another listens, if both are framed and here.
    fn give_address(&mut self, reader: UserId, user: UserId) {
        if let (Some(_), Some(at), Some(id)) = (self.address(reader), self.address(user), self.users[reader].conn) {
            self.expect(id, Expected::Address(user, at));
            self.reach(Rule::AddressGiven);
        }
    }

    /// Who is meant by an answer to a request, which is over with that.
    fn asker(&mut self, id: ConnId, user: UserId, word: &str) -> Option<UserId> {
        let asker = self.find(word);
        let requests = &mut self.addresses.requests;
        let at = requests.iter().position(|(asked, by, _)| *asked == user && Some(*by) == asker);
        let Some((_, asker, has_left)) = at.map(|at| requests.remove(at)) else {
            self.refuse(id, Refusal::NoRequest(repeated(word)));
            return None;
        };
        if has_left {
            self.refuse(id, Refusal::RequesterGone(self.name(asker)));
            return None;
        }
        Some(asker)
    }

    pub(super) fn allow(&mut self, id: ConnId, user: UserId, word: &str) {
        let Some(asker) = self.asker(id, user, word) else { return };
        self.addresses.allowed.push((user, asker));
        self.give_address(asker, user);
        self.say(id, Notice::Allowed(self.name(asker)));
    }

    pub(super) fn deny(&mut self, id: ConnId, user: UserId, word: &str) {
        let Some(asker) = self.asker(id, user, word) else { return };
        self.tell(asker, Notice::Declined(self.name(user)));
        self.say(id, Notice::Denied(self.name(asker)));
    }

    /// Somebody listens at a new place: who may know hears of it, and he hears where those are
    /// who have allowed him.
    pub(super) fn renew_addresses(&mut self, user: UserId) {
        for other in 0..self.users.len() {
            if self.addresses.allowed.contains(&(user, other)) {
                self.give_address(other, user);
            }
        }
        for other in 0..self.users.len() {
            if self.addresses.allowed.contains(&(other, user)) {
                self.give_address(user, other);
            }
        }
    }

    /// Who has left can answer nobody, and what he asked is void.
    pub(super) fn forget_requests(&mut self, user: UserId) {
        let requests = &mut self.addresses.requests;
        requests.retain(|(asked, ..)| *asked != user);
        requests.iter_mut().filter(|(_, by, _)| *by == user).for_each(|(.., has_left)| *has_left = true);
    }

    /// What one has allowed the other ends with a block, and so does what that one has asked.
    pub(super) fn distrust(&mut self, by: UserId, whom: UserId) {
        self.addresses.allowed.retain(|pair| *pair != (by, whom));
        self.addresses.requests.retain(|(asked, asker, _)| (*asked, *asker) != (by, whom));
    }
}
